//! The specification of the check: everything that can be wrong with a volume.
//!
//! Each problem is declared once: what it means (its documentation, which `--explain` prints), its stable code, its
//! severity, its named fields, and its message. Severities go by consequence ([`crate::severity::Severity`]).
//!
//! Which invariant of the format belongs to which problems:
//!
//! 1. every block has one role: `PX-RMAP-ROLE`, `PX-RMAP-CROSSED`, `PX-CLUSTER-…`, `PX-BLOCK-…`
//! 2. the reverse map covers all that is not free: `PX-FREE-…`
//! 3. extents and reverse map are one set: `PX-RMAP-…`, `PX-EXTENT-…`; without reverse map `PX-DATA-…`
//! 4. refcounts are numbers of owners: `PX-REFCOUNT-…`
//! 5. shared is never unwritten: `PX-SHARED-UNWRITTEN`
//! 6. entries and parent pointers are one set: `PX-NAME-…`, `PX-LINKS`, `PX-UNREACHABLE`, `PX-CYCLE`
//! 7. nothing past the end: `PX-DEVICE-SHORT`, `PX-RECORD`, `PX-EXTENT-PAST-SIZE`
//! 8. reflink needs rmap: `PX-SB-REFLINK`

use crate::finding::problems;
use paxfs_format::words::{counted, transactions};

/// Transactions that follow each other; there are one or two.
fn span(first: u64, last: u64) -> String {
    let both = [first, last];
    transactions(if first == last { core::slice::from_ref(&first) } else { &both })
}

problems! {
    // ── superblock and journal ────────────────────────────────────────────────────────────────────────────────────

    /// The superblock in block 0 cannot be used, or contradicts the volume; a copy at the head of another group is used
    /// in its place. Repair writes it anew from the copy.
    SuperblockDamaged "PX-SB-DAMAGED" Damage { fault: String, copy: u64 }
        "the superblock cannot be used: {fault}; the copy in group {copy} is used";
    /// A copy of the superblock cannot be used. The volume works without it, but has one fall-back less. Repair writes
    /// it anew.
    SuperblockCopyDamaged "PX-SB-COPY-DAMAGED" Damage { group: u32, fault: String }
        "the copy of the superblock in group {group} cannot be used: {fault}";
    /// The superblock and a copy, each intact by itself, disagree in a field although the volume was closed clean. The
    /// one in the minority is taken for wrong, or the one that does not fit the rest of the volume. Repair copies the
    /// right one.
    SuperblockDiffers "PX-SB-DIFFERS" Damage { field: String, found: String, expected: String }
        "{field} is {found}, the others have {expected}";
    /// A field of the superblock has a value that cannot be, but that nothing else depends on. Repair gives it the
    /// value that it has on a volume of this release; a label keeps what is UTF-8 of it.
    SuperblockField "PX-SB-FIELD" Damage { field: String, found: String, reason: String }
        "{field} is {found}: {reason}";
    /// The volume has features that this release does not know, so that it cannot tell right from wrong. Use a newer
    /// release. No repair touches such a volume.
    UnknownFeatures "PX-SB-FEATURES" Fatal { class: String, bits: u64 }
        "the volume has {class} features {bits:#x} that this release does not know";
    /// The volume has reflink without rmap: nobody could tell who shares a block, so no such volume is made, opened or
    /// checked. mkfs.paxfs -O rmap,reflink makes a volume with both. No repair touches such a volume.
    ReflinkWithoutRmap "PX-SB-REFLINK" Fatal { features: u64 }
        "the volume has reflink without rmap (features {features:#x}); reflink needs the reverse map: \
         mkfs.paxfs -O rmap,reflink makes both";
    /// The device is smaller than the volume that its superblock describes. What lies past its end cannot be read:
    /// perhaps the image was copied in part, or the device shrunk. Repair puts right what is still there; the end of
    /// the volume it cannot make.
    DeviceShort "PX-DEVICE-SHORT" Loss { blocks: u64, device_blocks: u64 }
        "the volume has {blocks}, the device only {device_blocks}",
            blocks = counted(*blocks, "block");
    /// The volume was not closed by its last user, but no transaction is pending: there is nothing to replay. A check
    /// that finds nothing else marks it clean.
    NotClosed "PX-STATE-OPEN" Notice { state: u32 }
        "the volume was not closed (state {state}); nothing is pending";
    /// The last user of the volume met damage and noted it, so that it is checked in full. The note goes when a check
    /// finds nothing.
    ErrorsNoted "PX-STATE-ERRORS" Notice { state: u32 }
        "somebody who used the volume noted damage (state {state})";
    /// The state has flags that nobody defined. Repair clears them.
    StateUnknown "PX-STATE-UNKNOWN" Notice { state: u32 }
        "the state is {state:#x}, which has unknown flags";
    /// The volume is marked clean, but its journal holds a transaction newer than the superblock: whoever closed it did
    /// not finish, or the superblock is an older one. It is replayed as after a crash.
    JournalNotEmpty "PX-JOURNAL-NOT-EMPTY" Damage { transaction: u64, generation: u64 }
        "the volume is marked clean at transaction {generation}, but the journal holds transaction {transaction}";
    /// Transactions are committed in the journal and not all in their homes: the normal state after a crash. Everything
    /// is checked as it will be after the replay. -p replays them.
    JournalPending "PX-JOURNAL-PENDING" Notice { first: u64, last: u64, blocks: u64, lines: u64 }
        "{transactions} to be replayed: {lines} of {blocks}",
            transactions = span(*first, *last),
            lines = counted(*lines, "cache line"),
            blocks = counted(*blocks, "block");
    /// A committed transaction in the journal is damaged, and cannot be replayed. What it changed may be there in part;
    /// the check sees the volume without it. Repair replays what is whole before it, cuts it, and puts right what is
    /// left of its changes.
    JournalDamaged "PX-JOURNAL-DAMAGED" Loss { fault: String }
        "the journal cannot be replayed: {fault}";
    /// A journal slot of a volume that was closed clean is neither empty nor a whole transaction. Nothing depends on it
    /// any more. Repair clears it.
    JournalLeftover "PX-JOURNAL-LEFTOVER" Notice { slot: u64, fault: String }
        "slot {slot} holds no whole transaction although the volume is clean: {fault}";

    // ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A group's header cannot be used; its copy at the head of the next group is used. Repair writes it anew.
    GroupDamaged "PX-GROUP-DAMAGED" Damage { group: u32, fault: String }
        "the header of group {group} cannot be used: {fault}; its copy is used";
    /// The copy of a group's header cannot be used. Repair writes it anew.
    GroupCopyDamaged "PX-GROUP-COPY-DAMAGED" Damage { group: u32, fault: String }
        "the copy of the header of group {group} cannot be used: {fault}";
    /// Neither a group's header nor its copy can be used: the roots of its trees are not known. Nothing of the group
    /// can be checked; repair looks for the nodes themselves. Everything but the bad ranges is derived from them.
    GroupLost "PX-GROUP-LOST" Loss { group: u32, fault: String, copy_fault: String }
        "neither the header of group {group} ({fault}) nor its copy ({copy_fault}) can be used";
    /// A group's header and its copy, each intact by itself, disagree although the volume was closed clean, and the
    /// header fits the volume. Repair copies the header.
    GroupDiffers "PX-GROUP-DIFFERS" Damage { field: String, found: String, expected: String }
        "{field} is {found}, the header has {expected}";
    /// The copy of a group's header is newer than the header. Repair writes the copy anew from the header.
    GroupCopyNewer "PX-GROUP-COPY-NEWER" Damage { group: u32, found: u64, expected: u64 }
        "the copy is of transaction {found}, the header of group {group} of {expected}";
    /// A field of a group's header that follows from the geometry is wrong. Repair takes the value from the geometry.
    GroupField "PX-GROUP-FIELD" Damage { field: String, found: String, expected: String }
        "{field} is {found}, it must be {expected}";
    /// A counter of a group's header is not what it counts. Space and inode statistics are wrong by that much. Repair
    /// counts.
    GroupCount "PX-GROUP-COUNT" Notice { field: String, found: u64, expected: u64 }
        "{field} is {found}, counted are {expected}";

    // ── trees of any kind ─────────────────────────────────────────────────────────────────────────────────────────

    /// The root of a tree cannot be: a block without a height, a height without a block, or too high. What the tree
    /// held is not known. Repair writes the tree anew from what it describes.
    TreeRoot "PX-TREE-ROOT" Damage { fault: String } "{fault}";
    /// A root points to a wrong block, while the copy of the group's header points to a node that fits. The copy's root
    /// is used. Repair writes that root into the header.
    TreeRootWrong "PX-TREE-ROOT-WRONG" Damage { found: u64, expected: u64 }
        "the tree's root is block {found}, which holds no root of it; the header's copy has block {expected}";
    /// The height of a tree is not that of its root node. The node's own level is used. Repair writes it into the root.
    TreeHeight "PX-TREE-HEIGHT" Damage { found: u64, expected: u64 }
        "the tree has height {found}, its root node has height {expected}";
    /// A root's number of nodes or records is not what is in the tree. Repair counts.
    TreeCount "PX-TREE-COUNT" Notice { field: String, found: u64, expected: u64 }
        "{field} is {found}, the tree has {expected}";
    /// A tree exists although the feature that needs it is off. Repair empties it.
    TreeUnexpected "PX-TREE-UNEXPECTED" Damage { tree: String, feature: String }
        "there is a {tree} tree, but the volume has no {feature}";
    /// A node of a tree cannot be used: damaged, overwritten, misplaced, or the medium failed. What is below it is not
    /// known from here, and nothing that would be compared with it is reported as missing. Repair derives the records
    /// from what is redundant.
    NodeDamaged "PX-NODE-DAMAGED" Damage { block: u64, level: u64, fault: String }
        "block {block}, a node of level {level}, cannot be used: {fault}";
    /// A branch node is reached by two ways; the second is not followed. Repair writes the tree anew: from what it
    /// describes, or for a file's extents from the file's other nodes and the reverse map.
    NodeTwice "PX-NODE-TWICE" Damage { block: u64, level: u64 }
        "block {block}, a node of level {level}, is reached a second time";
    /// A node does not begin with the key that its parent has for it: lookups of its first records fail. Repair writes
    /// the tree anew from its records.
    KeyFirst "PX-KEY-FIRST" Damage { fault: String } "{fault}";
    /// A key is out of order: lookups miss it or others. Repair keeps the records that fit each other, and derives the
    /// others.
    KeyOrder "PX-KEY-ORDER" Damage { fault: String } "{fault}";
    /// A branch entry's highest end is not that of the records below it: queries for a range miss records. Repair
    /// writes the tree anew from its records.
    KeyHigh "PX-KEY-HIGH" Damage { found: u64, expected: u64 }
        "says that records below end at {found}, they end at {expected}";
    /// A record cannot be what it says by itself: empty, past the end of the volume or group, misaligned, with unknown
    /// flags, or with an impossible count or owner. Repair derives it from what it describes; an extent comes from the
    /// reverse map, and if that has none, there is a hole.
    Record "PX-RECORD" Damage { fault: String } "the record {fault}";
    /// A structure says that it was last written by transaction 0, which there is not, or by one that is not yet
    /// committed. It may come from an older or a lost state of the volume. Repair writes the structure anew, as of the
    /// present transaction.
    Generation "PX-GENERATION" Damage { found: u64, newest: u64 }
        "last written by transaction {found}, the volume is at {newest}";
    /// Two records of a tree overlap where they must not. Repair derives the records; of two extents that overlap, the
    /// one that the reverse map has is right.
    RecordOverlap "PX-RECORD-OVERLAP" Damage { end: u64, start: u64 }
        "overlaps its neighbour: that ends at {end}, this starts at {start}";
    /// Two records that go on exactly one where the other ends should be one. Nothing depends on it but the comparison
    /// of extents with the reverse map. Repair makes them one.
    RecordMergeable "PX-RECORD-MERGEABLE" Notice { fault: String } "{fault}";

    // ── metadata clusters ─────────────────────────────────────────────────────────────────────────────────────────

    /// A metadata block lies outside of all metadata clusters, so it may be given to a file at any time. Repair moves
    /// the block, or for inodes adds the cluster.
    BlockOutside "PX-BLOCK-OUTSIDE" Damage { block: u64 }
        "block {block} is in use as metadata, but in no metadata cluster";
    /// A metadata block is in use twice, for two different things. Each block says whose it is: repair gives it to that
    /// one, and derives what the other lost.
    BlockTwice "PX-BLOCK-TWICE" Loss { block: u64 }
        "block {block} is in use as metadata twice";
    /// A block of a metadata cluster is in use but marked free: it may be overwritten at any time. Repair marks it.
    ClusterUsed "PX-CLUSTER-USED" Damage { block: u64, blocks: u64 }
        "in use in the cluster, but marked free: {blocks}, the first of them {block}",
            blocks = counted(*blocks, "block");
    /// A block of a metadata cluster is marked in use, and nothing uses it. The space is lost until a repair frees it.
    ClusterUnused "PX-CLUSTER-UNUSED" Notice { block: u64, blocks: u64 }
        "marked in use in the cluster, but used by nothing: {blocks}, the first of them {block}",
            blocks = counted(*blocks, "block");
    /// A record of the cluster tree is not where the reverse map has a cluster, and metadata is in use there. Repair
    /// follows them.
    ClusterWrong "PX-CLUSTER-WRONG" Damage { found: String, expected: String }
        "the cluster tree has {found}; the reverse map and what is in use say {expected}";
    /// An inode chunk does not lie in a metadata cluster. Inodes cannot move: repair adds the cluster.
    ChunkOutside "PX-CHUNK-OUTSIDE" Damage { block: u64 }
        "the inode chunk at block {block} lies in no metadata cluster";
    /// No inode is where the inode index has a chunk of them. Repair looks for the inodes in all clusters; if they are
    /// nowhere, it makes them anew from entries, parent pointers and the reverse map, as far as these know them.
    ChunkLost "PX-CHUNK-LOST" Loss { block: u64, inodes: u64 }
        "the chunk at block {block} has {inodes} in use, but none is there",
            inodes = counted(*inodes, "inode");

    // ── space ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// The reverse map disagrees with the geometry or with the cluster tree about which blocks are metadata. The
    /// geometry and the clusters are right. Repair follows them.
    RmapRole "PX-RMAP-ROLE" Damage { found: String, expected: String }
        "the reverse map has {found}, the volume has {expected}";
    /// A file's blocks overlap metadata: both claim them, and one overwrites the other. Repair gives the file a copy of
    /// these blocks, as they are.
    RmapCrossed "PX-RMAP-CROSSED" Loss { block: u64, blocks: u64, inode: u64 }
        "inode {inode} has {blocks} from block {block} on, and so has metadata",
            blocks = counted(*blocks, "block");
    /// Two files own the same blocks on a volume without reflink. Repair gives one of them a copy.
    DataTwice "PX-DATA-TWICE" Loss { block: u64, blocks: u64, inode: u64, other: u64 }
        "inode {inode} has {blocks} from block {block} on, and so has inode {other}; the volume has no reflink",
            blocks = counted(*blocks, "block");
    /// A file's blocks are metadata, or reach into it (on a volume without reverse map). Repair gives the file a copy
    /// of these blocks, as they are.
    DataCrossed "PX-DATA-CROSSED" Loss { block: u64, blocks: u64, inode: u64 }
        "inode {inode} has {blocks} from block {block} on, and so has metadata",
            blocks = counted(*blocks, "block");
    /// A shared block is unwritten for one of its owners: it reads as zeros there, and a first write to it would change
    /// the others. Repair makes them a hole in that file, which reads as zeros too.
    SharedUnwritten "PX-SHARED-UNWRITTEN" Damage { block: u64, blocks: u64, inode: u64, count: u64 }
        "unwritten for inode {inode}, but with {count} owners: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// Nobody owns these blocks, and the free-space tree does not have them: they are lost to use until a repair.
    FreeMissing "PX-FREE-MISSING" Notice { block: u64, blocks: u64 }
        "not in the free-space tree, but nobody's: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// The free-space tree has blocks that somebody owns: the next write may go into them. Repair believes the owners.
    FreeOwned "PX-FREE-OWNED" Damage { block: u64, blocks: u64 }
        "in the free-space tree, but somebody's: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// A record of the free-space tree is not the run that nobody owns there. Repair believes the owners.
    FreeWrong "PX-FREE-WRONG" Damage { block: u64, blocks: u64, expected_block: u64, expected_blocks: u64 }
        "the record has {blocks} from block {block} on; free there: {expected_blocks} from block {expected_block} on",
            blocks = counted(*blocks, "block"),
            expected_blocks = counted(*expected_blocks, "block");
    /// Blocks are shared, and the refcount tree does not say so: a write to one owner would change the others. Repair
    /// counts the owners.
    RefcountMissing "PX-REFCOUNT-MISSING" Damage { block: u64, blocks: u64, count: u64 }
        "without a refcount record, but with {count} owners: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// The refcount tree has a record of blocks that are not shared. Repair counts the owners.
    RefcountExtra "PX-REFCOUNT-EXTRA" Damage { block: u64, blocks: u64, count: u64 }
        "the record counts {count} owners, but nobody shares them: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// A refcount record is not what the reverse map counts. Repair counts the owners.
    RefcountWrong "PX-REFCOUNT-WRONG" Damage {
        block: u64, blocks: u64, count: u64, expected_block: u64, expected_blocks: u64, expected_count: u64
    }
        "the record counts {count} owners of {blocks} from block {block} on; the reverse map has {expected_count} of \
         {expected_blocks} from block {expected_block} on",
            blocks = counted(*blocks, "block"),
            expected_blocks = counted(*expected_blocks, "block");
    /// A file has blocks that the reverse map does not know, and that are not free either. The file is right. Repair
    /// adds the record.
    RmapMissing "PX-RMAP-MISSING" Damage { block: u64, blocks: u64, inode: u64, offset: u64 }
        "inode {inode} has {blocks} from block {block} on at file block {offset}; the reverse map has not",
            blocks = counted(*blocks, "block");
    /// The reverse map has a record for which there is no extent, and its blocks are free by all other accounts. The
    /// record is wrong. Repair removes it.
    RmapExtra "PX-RMAP-EXTRA" Damage { block: u64, blocks: u64, inode: u64, offset: u64 }
        "the reverse map gives {blocks} from block {block} on to inode {inode} at file block {offset}, which has no such \
         extent",
            blocks = counted(*blocks, "block");
    /// A reverse-map record disagrees with a file's extent, and the rest of the volume agrees with the file, or does
    /// not decide it. The extent is taken for right. Repair writes the record anew.
    RmapWrong "PX-RMAP-WRONG" Damage { found: String, expected: String, extent: String }
        "the reverse map has {found}; the file has {expected} ({extent})";
    /// An extent disagrees with the reverse map, and free space and refcounts agree with the reverse map. The reverse
    /// map is right. Repair gives the file the extent that it has.
    ExtentWrong "PX-EXTENT-WRONG" Damage { found: String, expected: String, rmap: String }
        "the file has {found}; the reverse map has {expected} ({rmap})";
    /// The reverse map gives blocks to a file that has no such extent, and the blocks are in use by all other accounts:
    /// a part of the file is missing. Repair gives it back.
    ExtentMissing "PX-EXTENT-MISSING" Damage { block: u64, blocks: u64, inode: u64, offset: u64 }
        "inode {inode} has no extent at file block {offset}, where the reverse map gives it {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// A file has an extent of blocks that are free, or another's, by all other accounts. The extent is wrong. Repair
    /// removes it, which leaves a hole in the file, and says how large.
    ExtentExtra "PX-EXTENT-EXTRA" Loss { block: u64, blocks: u64, inode: u64, offset: u64 }
        "inode {inode} has {blocks} from block {block} on at file block {offset}, and by no other account",
            blocks = counted(*blocks, "block");
    /// Blocks with media errors belong to files: what was there is lost. Reads there fail with EIO until all of a block is
    /// written anew, punched out or truncated away; then the engine heals it, if the medium can. Restore the files, or
    /// remove them; dbg.paxfs owner -r lists them all. No repair brings back what is lost.
    BadOwned "PX-BAD-OWNED" Loss { block: u64, blocks: u64 }
        "the medium failed under files: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// Blocks with media errors that are free, or that belong to metadata which is fine. The engine heals them when it opens
    /// the volume, if the medium can; until then nobody is given them.
    BadFree "PX-BAD-FREE" Info { block: u64, blocks: u64 }
        "the medium failed, but under no file: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");

    // ── inodes ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// An inode in use cannot be read. Its names, contents and attributes are not compared with anything. If its fields
    /// still fit what names it, repair keeps them; else it makes the inode anew from entries, parent pointers, the
    /// reverse map and blocks that say that they are its. Owner, permissions, times and exact size are lost then.
    InodeDamaged "PX-INODE-DAMAGED" Loss { inode: u64, fault: String }
        "inode {inode} cannot be used: {fault}";
    /// A slot that is not in use holds neither zeros nor a freed inode. Nothing depends on it. Repair clears it.
    InodeSlot "PX-INODE-SLOT" Notice { inode: u64, fault: String }
        "the free inode {inode} holds neither zeros nor a freed inode: {fault}";
    /// Slots hold inodes in use, but their chunk marks them free: they may be overwritten at any time. Repair marks
    /// them.
    InodeUnmarked "PX-INODE-UNMARKED" Damage { inode: u64, inodes: u64 }
        "in use, but marked free in the chunk: {inodes}, the first of them {inode}",
            inodes = counted(*inodes, "inode");
    /// A chunk marks inodes in use, but their slots are free. If they were in use, they are lost. What entries, parent
    /// pointers, the reverse map or blocks still know of them, repair makes anew.
    InodeMarked "PX-INODE-MARKED" Loss { inode: u64, inodes: u64, fault: String }
        "marked in use in the chunk, but {fault}: {inodes}, the first of them {inode}",
            inodes = counted(*inodes, "inode");
    /// Inodes with names are marked as orphans: the next recovery would free them. Repair believes the names.
    OrphanMark "PX-ORPHAN-MARK" Damage { inode: u64, inodes: u64 }
        "marked as orphans in the chunk, but with names: {inodes}, the first of them {inode}",
            inodes = counted(*inodes, "inode");
    /// The mode names no file type, or has undefined bits. Repair takes the type from the entry that names the inode,
    /// else from what it holds.
    InodeMode "PX-INODE-MODE" Loss { inode: u64, mode: u64 }
        "inode {inode} has mode {mode:o}, which names no file type";
    /// The generation is 0, which is never used. Repair takes it from the entry that names the inode.
    InodeGeneration "PX-INODE-GENERATION" Damage { inode: u64 }
        "inode {inode} has generation 0";
    /// The inode has flags that nobody defined, or that its type cannot have. Repair clears them.
    InodeFlags "PX-INODE-FLAGS" Damage { inode: u64, flags: u64, type_name: String }
        "inode {inode}, a {type_name}, has flags {flags:#x}";
    /// A time has nanoseconds of a second or more. Repair sets them to 0, and keeps the second.
    InodeTime "PX-INODE-TIME" Damage { inode: u64, nanoseconds: u64 }
        "inode {inode} has a time with {nanoseconds} nanoseconds";
    /// A file that is no device has device numbers. Repair clears them.
    InodeDevice "PX-INODE-DEVICE" Damage { inode: u64, major: u64, minor: u64 }
        "inode {inode} is no device, but has device number {major}:{minor}";
    /// The size cannot be: more than a file can have, not the bytes of the entries of a directory, not the length of a
    /// symlink's target, or not 0 for a file without contents. Repair takes the size from the contents.
    InodeSize "PX-INODE-SIZE" Damage { inode: u64, size: u64, expected: u64 }
        "inode {inode} has size {size}, it must be {expected}";
    /// The number of blocks is not what the extents cover. Repair counts.
    InodeBlocks "PX-INODE-BLOCKS" Notice { inode: u64, found: u64, expected: u64 }
        "inode {inode} says {found}, its extents cover {expected}",
            found = counted(*found, "block");
    /// Reserved fields of an inode, or header fields that it does not use, are not zero. Repair clears them.
    InodeReserved "PX-INODE-RESERVED" Notice { inode: u64, field: String }
        "{field} of inode {inode} is not zero";
    /// The payload has bytes behind those in use, or the forks claim more than it has. Entries prove themselves by
    /// their cookies: repair finds where they begin, and clears the rest.
    InodePayload "PX-INODE-PAYLOAD" Damage { inode: u64, fault: String }
        "the payload of inode {inode}: {fault}";
    /// A fork is stored in a way that its inode cannot have, or has fields that its way of storage does not use. Repair
    /// looks at what is there: a node, a body, or entries in the payload.
    ForkFormat "PX-FORK-FORMAT" Damage { inode: u64, format: u64, fault: String }
        "inode {inode}, stored in format {format}: {fault}";
    /// A fork's number of extents or entries is not what it holds. Repair counts.
    ForkCount "PX-FORK-COUNT" Notice { inode: u64, found: u64, expected: u64 }
        "inode {inode} says it holds {found}, it holds {expected}";
    /// An extent lies past the end of its file; only unwritten ones (preallocation) may. Repair keeps the data: the
    /// file ends with its last block then.
    ExtentPastSize "PX-EXTENT-PAST-SIZE" Damage { inode: u64, end: u64, size: u64 }
        "written blocks of inode {inode} reach to file block {end}, but its size is {size} bytes";
    /// A symlink's target is empty, holds a zero byte, or cannot be read. Repair gives it the part that can be read,
    /// else `target-lost-N`.
    Symlink "PX-SYMLINK" Loss { inode: u64, fault: String }
        "the target of symlink inode {inode} {fault}";

    // ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// A block of directory entries or attributes cannot be used. The names in it can be derived from parent pointers,
    /// the attributes not. Entries prove themselves by their cookies: what can be read of the block is kept.
    BodyDamaged "PX-BODY-DAMAGED" Loss { inode: u64, block: u64, fault: String }
        "block {block}, entries of inode {inode}, cannot be used: {fault}";
    /// A block of an attribute's value or of a symlink's target cannot be used. Repair takes the block that says that
    /// it is this part, if there is one; else these bytes are lost.
    ValueDamaged "PX-VALUE-DAMAGED" Loss { inode: u64, block: u64, fault: String }
        "block {block}, a value of inode {inode}, cannot be used: {fault}";
    /// Lengths of an entry do not fit the place it lies in. The entries behind it there cannot be read. Entries prove
    /// themselves by their cookies: repair finds the next one.
    EntryLength "PX-ENTRY-LENGTH" Loss { inode: u64, offset: u64 }
        "the entry at byte {offset} of its place in inode {inode} reaches past the end";
    /// A name that no file can have: empty, `.`, `..`, or with a slash or a zero byte. Repair takes the name from the
    /// parent pointer or the entry on the other side; an attribute becomes `user.lost.` and its cookie.
    EntryName "PX-ENTRY-NAME" Damage { inode: u64, name: String }
        "inode {inode} has an entry of the impossible name \"{name}\"";
    /// An entry's cookie is not the hash of its name: a lookup does not find it. If the other side has another name for
    /// it, repair takes that; else the name stays and gets its own cookie.
    EntryCookie "PX-ENTRY-COOKIE" Damage { inode: u64, name: String, found: u64, expected: u64 }
        "the entry \"{name}\" of inode {inode} has cookie {found:#x}, its name's begin at {expected:#x}";
    /// An entry's name length is wrong: with another length, the name's hash is the entry's cookie. Repair takes that
    /// one.
    EntryNameLength "PX-ENTRY-NAME-LENGTH" Damage { inode: u64, name: String, found: u64, expected: u64 }
        "the entry of inode {inode} has name length {found}; its cookie is that of \"{name}\", which has {expected}";
    /// A record of an index does not separate the entries of its block from those of the block before. Repair writes
    /// the index anew.
    IndexCookie "PX-INDEX-COOKIE" Damage { inode: u64, found: u64, lowest: u64 }
        "the index of inode {inode} begins the block at cookie {found:#x}; its first entry has {lowest:#x}";
    /// An entry lies in another block than its cookie belongs to: a lookup does not find it. Repair moves it.
    EntryPlace "PX-ENTRY-PLACE" Damage { inode: u64, name: String, cookie: u64, low: u64, high: u64 }
        "the entry \"{name}\" of inode {inode} with cookie {cookie:#x} lies where {low:#x} to {high:#x} belong";
    /// Two entries have the same cookie: a reader of the directory may miss one. Repair gives it another.
    EntryCookieTwice "PX-ENTRY-COOKIE-TWICE" Damage { inode: u64, name: String, cookie: u64 }
        "the entry \"{name}\" of inode {inode} has cookie {cookie:#x}, and so has another";
    /// Two entries have the same name: only one of them can be found. The one that its inode knows stays; what the
    /// other named goes to lost+found if it has no other name.
    EntryTwice "PX-ENTRY-TWICE" Damage { inode: u64, name: String }
        "the name \"{name}\" is twice in inode {inode}";
    /// An entry has reserved bytes or padding that are not zero, or is dead and still says what it was. Repair clears
    /// them.
    EntryReserved "PX-ENTRY-RESERVED" Notice { inode: u64, fault: String }
        "an entry of inode {inode}: {fault}";
    /// An attribute entry is of no known kind. If a known kind makes the cookie fit, repair takes that; else the
    /// attribute is lost.
    AttributeKind "PX-ATTRIBUTE-KIND" Loss { inode: u64, kind: u64 }
        "inode {inode} has an attribute of unknown kind {kind}";
    /// An attribute's value is not as long as its entry says. Its blocks, each of which is sound, say how long it is.
    /// Repair believes the blocks.
    AttributeValue "PX-ATTRIBUTE-VALUE" Damage { inode: u64, name: String, found: u64, expected: u64 }
        "attribute \"{name}\" of inode {inode} has a value of {found} by its entry, of {expected} by its blocks",
            found = counted(*found, "byte");
    /// A parent pointer's value is not the number of an inode. Repair takes the pointer from the entry.
    ParentValue "PX-PARENT-VALUE" Damage { inode: u64, name: String }
        "the parent pointer \"{name}\" of inode {inode} has no inode number as its value";

    // ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A directory entry names an inode that is not in use. Repair removes it, unless what is known elsewhere is enough
    /// to make the inode anew.
    NameDangling "PX-NAME-DANGLING" Loss { directory: u64, name: String, inode: u64 }
        "\"{name}\" in directory inode {directory} names inode {inode}, which is not in use";
    /// A directory entry names an inode that does not know this name. Repair gives it the parent pointer.
    NameNoPointer "PX-NAME-NO-POINTER" Damage { directory: u64, name: String, inode: u64 }
        "\"{name}\" in directory inode {directory} names inode {inode}, which has no parent pointer for it";
    /// An inode has a parent pointer to a name that the directory does not have. Repair makes the entry.
    NameNoEntry "PX-NAME-NO-ENTRY" Damage { directory: u64, name: String, inode: u64 }
        "inode {inode} is \"{name}\" in directory inode {directory} by its parent pointer, but there is no such entry";
    /// A directory entry names one inode, and another has the parent pointer for that name. Repair believes the
    /// pointer: it is one of two things that agree, the name's cookie is the other.
    NameInode "PX-NAME-INODE" Damage { directory: u64, name: String, found: u64, expected: u64 }
        "\"{name}\" in directory inode {directory} names inode {found}, but inode {expected} has the parent pointer";
    /// An entry and the parent pointer that belongs to it spell the name differently. Repair believes the entry, for
    /// that is what programs see, unless its cookie contradicts it.
    NameDiffers "PX-NAME-DIFFERS" Damage { directory: u64, name: String, pointer_name: String, inode: u64 }
        "inode {inode} is \"{name}\" in directory inode {directory}, but \"{pointer_name}\" by its parent pointer";
    /// An entry and the parent pointer that belongs to it are of different directories. Repair believes the entry.
    NameDirectory "PX-NAME-DIRECTORY" Damage { directory: u64, name: String, pointer: u64, inode: u64 }
        "inode {inode} is \"{name}\" in directory inode {directory}, but in {pointer} by its parent pointer";
    /// A directory entry's type is not that of the inode. Repair believes the inode, unless its contents are those of
    /// the entry's type.
    NameType "PX-NAME-TYPE" Damage { directory: u64, name: String, inode: u64, found: u64, expected: u64 }
        "\"{name}\" in directory inode {directory} has type {found}, inode {inode} is of type {expected}";
    /// A directory entry's generation is not that of the inode: it may be left over from an earlier use of the number.
    /// Repair believes the inode.
    NameGeneration "PX-NAME-GENERATION" Damage { directory: u64, name: String, inode: u64, found: u64, expected: u64 }
        "\"{name}\" in directory inode {directory} has generation {found}, inode {inode} has {expected}";
    /// The link count is not the number of names. Repair counts the names.
    Links "PX-LINKS" Damage { inode: u64, found: u64, expected: u64 }
        "inode {inode} has link count {found}, and {expected}",
            expected = counted(*expected, "name");
    /// A directory has more than one name, or the root directory has one. Repair keeps the first; if the superblock's
    /// root has a name and one other directory has none, that is the root.
    DirectoryNames "PX-DIR-NAMES" Damage { inode: u64, names: u64, expected: u64 }
        "directory inode {inode} has {names}, it can have {expected}",
            names = counted(*names, "name");
    /// An inode is in use, has no name, and is no orphan. Repair puts it into lost+found.
    Unreachable "PX-UNREACHABLE" Loss { inode: u64 }
        "inode {inode} has no name, and is no orphan";
    /// Directories lie in each other in a circle that is not connected with the root. Repair puts one of them into
    /// lost+found.
    Cycle "PX-CYCLE" Loss { inode: u64, length: u64 }
        "directory inode {inode} lies in itself, {length} down",
            length = counted(*length, "level");
    /// The root directory cannot be used. If one directory has no name and is no orphan, repair makes it the root; else
    /// it makes the root anew from all that points to it.
    Root "PX-ROOT" Loss { inode: u64, fault: String }
        "the root directory, inode {inode}: {fault}";

    // ── contents ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// A block's contents do not fit its checksum: the medium changed them, or somebody else wrote there. Nobody knows
    /// which is right: repair keeps the contents, makes the checksum anew, and names the file.
    SumMismatch "PX-SUM-MISMATCH" Loss { block: u64, stored: u64, computed: u64 }
        "block {block} has checksum {stored:#010x}, its bytes give {computed:#010x}";
    /// Blocks of a file with checksums have none. Repair makes it.
    SumMissing "PX-SUM-MISSING" Damage { block: u64, blocks: u64 }
        "without a checksum: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// Blocks have a checksum that can have none: free, metadata, unwritten, or of files without checksums. Repair
    /// clears it.
    SumStray "PX-SUM-STRAY" Notice { block: u64, blocks: u64 }
        "with a checksum, but can have none: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
    /// The state of a checksum is unknown, or it holds a checksum that it does not use. Repair makes it anew for what
    /// is written data, and clears it for all else.
    SumState "PX-SUM-STATE" Damage { block: u64, state: u64, crc: u64 }
        "block {block} has checksum state {state} with checksum {crc:#010x}";
    /// Blocks were mapped for writing when the volume was last used, so nothing vouches for their contents until their
    /// checksums are made anew.
    SumOpen "PX-SUM-OPEN" Info { block: u64, blocks: u64 }
        "with open checksums: {blocks}, the first of them {block}",
            blocks = counted(*blocks, "block");
    /// The medium failed while a block of data was read. Repair records the block as bad; no repair brings back what is
    /// lost.
    Medium "PX-MEDIUM" Loss { block: u64, blocks: u64 }
        "the medium failed: {blocks} from block {block} on",
            blocks = counted(*blocks, "block");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_spelt_alike() {
        let codes: BTreeSet<_> = CODES.iter().map(|code| code.code).collect();
        assert_eq!(codes.len(), CODES.len());
        for code in CODES {
            let rest = code.code.strip_prefix("PX-").unwrap();
            assert!(rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-'), "{rest}");
            assert!(!code.explain.trim().is_empty());
        }
    }

    #[test]
    fn a_problem_names_its_fields() {
        let problem = Problem::FreeMissing { block: 7, blocks: 2 };
        assert_eq!(problem.code(), "PX-FREE-MISSING");
        assert_eq!(problem.fields(), [("block", 7.into()), ("blocks", 2.into())]);
        assert!(problem.to_string().ends_with("2 blocks from block 7 on"));
    }
}
