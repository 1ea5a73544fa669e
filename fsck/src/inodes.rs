//! Pass 3: inodes, each by itself; what they share with others goes to the observer.

use crate::context::{Check, ChunkState, Env, Group, LinkDoubt, locked};
use crate::entries::{self, Seen, Totals};
use crate::extents;
use crate::finding::Finding;
use crate::observe::Observer;
use crate::problem::Problem;
use crate::structures::structure_field;
use crate::trees::record_path;
use crate::values::value;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES, Chunk};
use paxfs_format::declare::OnDisk;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::header::{BlockKind, Expected, HeaderFault};
use paxfs_format::inode::{FileType, Fork, ForkFormat, Inode, InodeFlags, MAX_SYMLINK, PAYLOAD_SIZE, Which};
use paxfs_format::volume::StructureFault;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

/// Chunks that are one job: 4096 inodes in 2 MiB.
pub(crate) const JOB_CHUNKS: usize = 64;

/// What one thread carries through a scan of inodes.
pub(crate) struct Scan<'c, O> {
    pub env: Env<'c>,
    pub observer: O,
    pub inodes: u64,
    pub directories: u64,
    pub entries: u64,
    pub extents: u64,
    /// Inodes of the present chunk that are marked as orphans and have names.
    named_orphans: u64,
    /// Inodes of the present chunk that are marked in use and are free.
    marked_free: u64,
    /// Room for the cookies of one body.
    pub seen: Vec<Seen<'c>>,
}

/// The inode that is being checked.
pub(crate) struct Subject<'i> {
    pub number: u64,
    pub inode: &'i Inode,
}

impl Subject<'_> {
    /// A finding about the inode; `field` with its dot.
    pub fn find(&self, env: &mut Env<'_>, field: &str, problem: Problem) {
        let number = self.number;
        env.findings.push(Finding::new(format!("inode[{number}]{field}"), problem).of_file(number));
    }
}

/// What a slot was found to be.
enum Slot<'i> {
    Sound(&'i Inode),
    /// Neither in use nor damaged.
    Free,
    Fault(StructureFault),
}

impl<'c, O: Observer> Scan<'c, O> {
    pub fn new(env: Env<'c>, observer: O) -> Self {
        Scan {
            env,
            observer,
            inodes: 0,
            directories: 0,
            entries: 0,
            extents: 0,
            named_orphans: 0,
            marked_free: 0,
            seen: Vec::new(),
        }
    }

    /// Scans some chunks of a group.
    pub fn chunks(&mut self, group: &Group, from: usize, to: usize) {
        let Some(index) = group.index.get() else { return };
        let chunks = index.chunks.get(from..to).unwrap_or_default();
        let check = self.env.check;
        let start = check.volume.geometry.group_start(group.number);
        for (offset, chunk) in chunks.iter().enumerate() {
            self.chunk(group, start, chunk, from.saturating_add(offset));
        }
    }

    fn chunk(&mut self, group: &Group, group_start: u64, chunk: &ChunkState, ordinal: usize) {
        let used = chunk.used.load(Ordering::Relaxed);
        if used.count_ones() > 1 && self.is_lost(group_start, chunk, used) {
            return self.lost_chunk(group, group_start, chunk, used, ordinal);
        }
        let block = group_start.saturating_add(chunk.start.into());
        for at in 0..CHUNK_BLOCKS {
            self.env.read = self.env.read.saturating_add(4096);
            let volume = self.env.check.volume;
            let Ok(bytes) = volume.blocks.block(block.saturating_add(at.into())) else {
                // Past the end of the device: reported as a whole. Nobody knows these inodes.
                for slot in (at * 8..at * 8 + 8).filter(|slot| used >> slot & 1 != 0) {
                    let number = chunk.inode(group_start, slot);
                    self.env.check.doubts.note(&self.env.check.doubts.inodes, number);
                }
                continue;
            };
            let Ok(slots) = <[Inode]>::ref_from_bytes(bytes) else { continue };
            for (slot, inode) in (at * 8..).zip(slots) {
                let number = chunk.inode(group_start, slot);
                let marked = used >> slot & 1 != 0;
                self.slot(group, chunk, slot, number, inode, marked);
            }
        }
        self.marks(group, group_start, chunk);
    }

    /// What the record of a chunk says of its inodes, and they themselves do not: one finding for each field.
    fn marks(&mut self, group: &Group, group_start: u64, chunk: &ChunkState) {
        let unmarked = chunk.used.load(Ordering::Relaxed) & !chunk.marked;
        let orphans = core::mem::take(&mut self.named_orphans) & chunk.orphans;
        let free = core::mem::take(&mut self.marked_free);
        if (unmarked == 0 && orphans == 0 && free == 0) || chunk.told {
            return;
        }
        if free != 0 {
            let (inode, inodes) =
                (chunk.inode(group_start, free.trailing_zeros()), u64::from(free.count_ones()));
            let never = self.env.check.volume.inode_unverified(inode).is_ok_and(is_zero);
            let fault = if never { "their slots were never used" } else { "their slots are free" };
            // One alone may just as well have been wiped; several at once are the work of the chunk's record.
            let at = match (inodes, never) {
                (1, true) => format!("inode[{inode}]"),
                (1, false) => format!("inode[{inode}].mode"),
                _ => format!("{}.used", chunk_path(self.env.check, group, chunk.start)),
            };
            self.env.find(at, Problem::InodeMarked { inode, inodes, fault: fault.to_owned() });
        }
        if unmarked == 0 && orphans == 0 {
            return;
        }
        let at = chunk_path(self.env.check, group, chunk.start);
        for (bits, field) in [(unmarked, "used"), (orphans, "orphans")] {
            if bits == 0 {
                continue;
            }
            let (inode, inodes) = (chunk.inode(group_start, bits.trailing_zeros()), bits.count_ones().into());
            let problem = match field {
                "used" => Problem::InodeUnmarked { inode, inodes },
                _ => Problem::OrphanMark { inode, inodes },
            };
            self.env.findings.push(Finding::new(format!("{at}.{field}"), problem).of_file(inode));
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a slot is all of these")]
    fn slot(
        &mut self,
        group: &Group,
        chunk: &ChunkState,
        slot: u32,
        number: u64,
        inode: &'c Inode,
        marked: bool,
    ) {
        if !marked && is_zero(inode) {
            return;
        }
        match (self.verify(group, number, inode), marked) {
            (Slot::Sound(inode), true) => {
                self.used(&Subject { number, inode }, chunk, slot);
            }
            (Slot::Sound(inode), false) => {
                chunk.used.fetch_or(1 << slot, Ordering::Relaxed);
                self.used(&Subject { number, inode }, chunk, slot);
            }
            (Slot::Free, false) => {}
            (Slot::Free, true) => {
                self.marked_free |= 1 << slot;
                chunk.used.fetch_and(!(1 << slot), Ordering::Relaxed);
                self.unknown(number);
            }
            (Slot::Fault(fault), true) => {
                let at = format!("inode[{number}]{}", structure_field(&fault));
                let problem = Problem::InodeDamaged { inode: number, fault: fault.to_string() };
                self.env.findings.push(Finding::new(at, problem).of_file(number));
                self.unknown(number);
            }
            (Slot::Fault(fault), false) => {
                let at = format!("inode[{number}]{}", structure_field(&fault));
                self.env.find(at, Problem::InodeSlot { inode: number, fault: fault.to_string() });
            }
        }
    }

    fn verify<'i>(&self, group: &Group, number: u64, inode: &'i Inode) -> Slot<'i> {
        let volume = self.env.check.volume;
        let expected = Expected { kind: BlockKind::INODE, place: number, owner: group.number.into() };
        let header = volume.seed.verify(inode.as_bytes()).and_then(|header| expected.check(header));
        match header {
            Ok(()) if inode.is_free() => Slot::Free,
            Ok(()) => Slot::Sound(inode),
            Err(_) if volume.blocks.failed(number / INODES_PER_BLOCK) => {
                Slot::Fault(StructureFault::Failed { block: number / INODES_PER_BLOCK })
            }
            Err(HeaderFault::Magic(_)) if is_zero(inode) => Slot::Free,
            Err(fault) => Slot::Fault(fault.into()),
        }
    }

    /// Nothing that needs this inode can be compared.
    fn unknown(&self, number: u64) {
        let doubts = &self.env.check.doubts;
        doubts.note(&doubts.inodes, number);
        doubts.blocks.store(true, Ordering::Relaxed);
    }

    /// Whether a chunk holds no inode at all where it should hold several.
    fn is_lost(&self, group_start: u64, chunk: &ChunkState, used: u64) -> bool {
        let volume = self.env.check.volume;
        let is_there = |slot: u32| {
            let number = chunk.inode(group_start, slot);
            let inode = volume.inode_unverified(number);
            inode.is_ok_and(|inode| {
                inode.header.magic == paxfs_format::header::MAGIC
                    && inode.header.kind == BlockKind::INODE
                    && inode.header.place.get() == number
            })
        };
        !(0..CHUNK_INODES).filter(|slot| used >> slot & 1 != 0).any(is_there)
            && !volume.blocks.failed(group_start.saturating_add(chunk.start.into()))
    }

    fn lost_chunk(&mut self, group: &Group, group_start: u64, chunk: &ChunkState, used: u64, ordinal: usize) {
        let block = group_start.saturating_add(chunk.start.into());
        let check = self.env.check;
        let at = format!("{}.start", chunk_path(check, group, chunk.start));
        self.env.find(at, Problem::ChunkLost { block, inodes: used.count_ones().into() });
        for slot in 0..CHUNK_INODES {
            self.unknown(chunk.inode(group_start, slot));
        }
        locked(&group.lost_chunks).push(block);
        // The inodes may be next to it: wherever no other chunk is.
        let Some(index) = group.index.get() else { return };
        let before = ordinal.checked_sub(1).and_then(|before| index.chunks.get(before));
        let low = before.map_or(0, |before| before.start.saturating_add(CHUNK_BLOCKS));
        let after = index.chunks.get(ordinal.saturating_add(1));
        let high = after.map_or(u32::MAX, |after| after.start);
        let mut hidden = locked(&group.hidden);
        hidden.push(low..chunk.start);
        hidden.push(chunk.start.saturating_add(CHUNK_BLOCKS)..high);
    }

    fn used(&mut self, subject: &Subject<'c>, chunk: &ChunkState, slot: u32) {
        let Subject { number, inode } = *subject;
        self.inodes = self.inodes.saturating_add(1);
        let orphan = chunk.orphans >> slot & 1 != 0;
        let Some(kind) = inode.file_type() else {
            let problem = Problem::InodeMode { inode: number, mode: inode.mode.get().into() };
            subject.find(&mut self.env, ".mode", problem);
            return self.unknown(number);
        };
        fields(&mut self.env, subject, kind);
        if inode.links.get() == 0 {
            chunk.nameless.fetch_or(1 << slot, Ordering::Relaxed);
        }
        if kind == FileType::Directory {
            self.directories = self.directories.saturating_add(1);
            chunk.directories.fetch_or(1 << slot, Ordering::Relaxed);
        }
        if !payload(&mut self.env, subject, kind) {
            return self.unknown_forks(number);
        }
        self.data(subject, kind);
        if self.attributes(subject, kind, orphan, chunk.told) {
            self.named_orphans |= 1 << slot;
        }
    }

    /// Its type may be what is wrong: nothing that any inode holds is known of it.
    fn unknown_forks(&self, number: u64) {
        let doubts = &self.env.check.doubts;
        doubts.blocks.store(true, Ordering::Relaxed);
        doubts.note(&doubts.pointers, number);
        doubts.note(&doubts.entries, (number, 0, u64::MAX));
        doubts.note(&doubts.extents, (number, 0..u64::MAX));
    }

    fn data(&mut self, subject: &Subject<'c>, kind: FileType) {
        let Subject { number, inode } = *subject;
        match kind {
            FileType::Regular => return extents::check(self, subject),
            FileType::Directory => entries::directory(self, subject),
            FileType::Symlink => symlink(&mut self.env, subject),
            FileType::Fifo | FileType::Socket | FileType::Character | FileType::Block => {
                if inode.size.get() != 0 {
                    let problem = Problem::InodeSize { inode: number, size: inode.size.get(), expected: 0 };
                    subject.find(&mut self.env, ".size", problem);
                }
            }
        }
        if inode.blocks.get() != 0 {
            let problem = Problem::InodeBlocks { inode: number, found: inode.blocks.get(), expected: 0 };
            subject.find(&mut self.env, ".blocks", problem);
        }
        if kind != FileType::Directory && inode.data.count.get() != 0 {
            let problem = Problem::ForkCount { inode: number, found: inode.data.count.get(), expected: 0 };
            subject.find(&mut self.env, ".data.count", problem);
        }
    }

    /// Attributes and names; tells whether the inode is marked as an orphan although it has a name.
    fn attributes(&mut self, subject: &Subject<'c>, kind: FileType, orphan: bool, told: bool) -> bool {
        let Subject { number, inode } = *subject;
        let Totals { pointers, whole, .. } = entries::attributes(self, subject, kind);
        let check = self.env.check;
        if !whole {
            check.doubts.note(&check.doubts.pointers, number);
            return false;
        }
        let root = check.volume.superblock.root.get();
        let links = u64::from(inode.links.get());
        if number == root {
            // The root has a link and no name.
            if links != 1 {
                subject.find(
                    &mut self.env,
                    ".links",
                    Problem::Links { inode: number, found: links, expected: 1 },
                );
            }
            if pointers != 0 {
                let problem = Problem::DirectoryNames { inode: number, names: pointers, expected: 0 };
                subject.find(&mut self.env, ".attributes", problem);
            }
            return orphan;
        }
        if kind == FileType::Directory && pointers > 1 {
            let problem = Problem::DirectoryNames { inode: number, names: pointers, expected: 1 };
            subject.find(&mut self.env, ".attributes", problem);
        }
        let nameless = pointers == 0 && !orphan;
        // Whether it is an orphan is not known when the record of its chunk is wrong.
        let nameless = nameless && !(told && links == 0);
        if (links != pointers || nameless) && self.env.marking {
            check.doubts.note(&check.links, LinkDoubt { inode: number, links, pointers, orphan });
        }
        orphan && links > 0 && pointers > 0
    }
}

/// The path of a chunk's record. Only findings need it, so it is looked for then.
fn chunk_path(check: &Check<'_>, group: &Group, start: u32) -> String {
    record_path::<Chunk>(check, group, GroupTree::Inodes, |chunk| chunk.start.get() == start)
}

fn is_zero(inode: &Inode) -> bool {
    // No early exit: this is vector code.
    inode.as_bytes().iter().fold(0, |all, byte| all | byte) == 0
}

/// Fields that can be judged alone.
fn fields(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType) {
    let Subject { number, inode } = *subject;
    if inode.generation.get() == 0 {
        subject.find(env, ".generation", Problem::InodeGeneration { inode: number });
    }
    env.generation(inode.header.generation.get(), || format!("inode[{number}]"), Some(number));
    let flags = inode.flags.get();
    let dax = flags & InodeFlags::DAX != 0 && !matches!(kind, FileType::Regular | FileType::Directory);
    if flags & !InodeFlags::KNOWN != 0 || dax {
        let problem =
            Problem::InodeFlags { inode: number, flags: flags.into(), type_name: type_name(kind).to_owned() };
        subject.find(env, ".flags", problem);
    }
    let times = [
        ("accessed", inode.accessed),
        ("modified", inode.modified),
        ("changed", inode.changed),
        ("born", inode.born),
    ];
    for (name, time) in times {
        if !time.is_valid() {
            let problem = Problem::InodeTime { inode: number, nanoseconds: time.nanoseconds.get().into() };
            subject.find(env, &format!(".{name}.nanoseconds"), problem);
        }
    }
    let (major, minor) = (u64::from(inode.major.get()), u64::from(inode.minor.get()));
    let device = matches!(kind, FileType::Character | FileType::Block);
    if !device && (major, minor) != (0, 0) {
        let field = if major != 0 { ".major" } else { ".minor" };
        subject.find(env, field, Problem::InodeDevice { inode: number, major, minor });
    }
    if kind == FileType::Regular && inode.size.get() > i64::MAX.unsigned_abs() {
        let expected = i64::MAX.unsigned_abs();
        subject.find(env, ".size", Problem::InodeSize { inode: number, size: inode.size.get(), expected });
    }
    if inode.header.level.get() != 0 || inode.header.count.get() != 0 {
        let field = if inode.header.level.get() != 0 { "header.level" } else { "header.count" };
        reserved(env, subject, field);
    }
    // The three fields, and not the layout: this is asked of every inode.
    let zero = Inode::zeroed();
    if inode.reserved != zero.reserved
        || inode.data.reserved != zero.data.reserved
        || inode.attributes.reserved != zero.data.reserved
    {
        if let Some(field) = Inode::LAYOUT.reserved_not_zero(inode.as_bytes()) {
            reserved(env, subject, &field);
        }
    }
}

fn reserved(env: &mut Env<'_>, subject: &Subject<'_>, field: &str) {
    let problem = Problem::InodeReserved { inode: subject.number, field: field.to_owned() };
    subject.find(env, &format!(".{field}"), problem);
}

fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Character => "character device",
        FileType::Directory => "directory",
        FileType::Block => "block device",
        FileType::Regular => "regular file",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
    }
}

/// How both forks are stored, and the payload. Tells whether the forks can be read.
fn payload(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType) -> bool {
    let Subject { number, inode } = *subject;
    let data = fork(env, subject, Which::Data, kind);
    let attributes = fork(env, subject, Which::Attributes, kind);
    if !data || !attributes {
        return false;
    }
    let used = usize::from(inode.data.inline_bytes.get()) + usize::from(inode.attributes.inline_bytes.get());
    if used > PAYLOAD_SIZE {
        let fault = format!("{used} bytes are in use, it has {PAYLOAD_SIZE}");
        let field = match usize::from(inode.data.inline_bytes.get()) > PAYLOAD_SIZE {
            true => ".data.inline_bytes",
            false => ".attributes.inline_bytes",
        };
        subject.find(env, field, Problem::InodePayload { inode: number, fault });
        return false;
    }
    if !borders(env, subject, kind) {
        return false;
    }
    let tail = inode.payload.0.get(used..).unwrap_or_default();
    if tail.iter().fold(0, |all, byte| all | byte) != 0 {
        let fault = format!("bytes behind the {used} in use are not zero");
        let end = PAYLOAD_SIZE;
        subject.find(
            env,
            &format!(".payload[{used}..{end}]"),
            Problem::InodePayload { inode: number, fault },
        );
    }
    true
}

/// Whether the border between the forks in the payload, and the end of the second, can be where they are said to be.
fn borders(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType) -> bool {
    let Subject { number, inode } = *subject;
    let data = u64::from(inode.data.inline_bytes.get());
    let length = usize::from(inode.attributes.inline_bytes.get());
    let hash = env.check.volume.hash;
    let sound = |from: u64| {
        let bytes =
            usize::try_from(from).ok().and_then(|from| inode.payload.0.get(from..from.checked_add(length)?));
        bytes.is_some_and(|bytes| crate::body::is_sound::<crate::body::Attributes>(number, &hash, bytes))
    };
    let mut find = |field: &str, fault: &str| {
        let problem = Problem::InodePayload { inode: number, fault: fault.to_owned() };
        subject.find(env, field, problem);
    };
    if inode.data.format == ForkFormat::INLINE {
        let unit = match kind {
            FileType::Regular => size_of::<paxfs_format::extent::Extent>() as u64,
            FileType::Directory => 8,
            _ => 1,
        };
        let expected = match kind {
            FileType::Regular => inode.data.count.get().saturating_mul(unit),
            _ => inode.size.get(),
        };
        let fits = !data.is_multiple_of(unit) || (data != expected && !sound(data) && sound(expected));
        if fits {
            find(".data.inline_bytes", "the bytes of the data fork do not end where its contents do");
            return false;
        }
    }
    if inode.attributes.format == ForkFormat::INLINE {
        let tail =
            usize::try_from(data).ok().and_then(|data| inode.payload.0.get(data.checked_add(length)?..));
        let tail = tail.is_some_and(|tail| tail.iter().any(|&byte| byte != 0));
        if !length.is_multiple_of(8) || (tail && !sound(data)) {
            find(
                ".attributes.inline_bytes",
                "the bytes of the attribute fork do not end where its entries do",
            );
            return false;
        }
    }
    true
}

/// Whether a fork is stored in a way that it can be, and has nothing that belongs to another way.
fn fork(env: &mut Env<'_>, subject: &Subject<'_>, which: Which, kind: FileType) -> bool {
    let Subject { number, inode } = *subject;
    let fork: &Fork = inode.fork(which);
    let format = fork.format;
    let name = which.name();
    let rooted = format == ForkFormat::TREE || format == ForkFormat::BLOCK;
    let fine = format == ForkFormat::EMPTY
        || match (which, kind) {
            (Which::Attributes, _) | (Which::Data, FileType::Directory) => {
                rooted || format == ForkFormat::INLINE
            }
            (Which::Data, FileType::Regular) => format == ForkFormat::TREE || format == ForkFormat::INLINE,
            (Which::Data, FileType::Symlink) => format == ForkFormat::VALUES || format == ForkFormat::INLINE,
            (Which::Data, _) => false,
        };
    let mut find = |field: &str, fault: &str| {
        let problem =
            Problem::ForkFormat { inode: number, format: format.get().into(), fault: fault.to_owned() };
        subject.find(env, &format!(".{name}.{field}"), problem);
    };
    if !fine {
        find("format", "it cannot be stored so");
        return false;
    }
    let holds_bytes = format == ForkFormat::INLINE || format == ForkFormat::VALUES;
    if holds_bytes == (fork.inline_bytes.get() == 0) {
        find(
            "inline_bytes",
            if holds_bytes { "it has no bytes in the payload" } else { "it has bytes in the payload" },
        );
        return false;
    }
    if !rooted && fork.tree != TreeRoot::zeroed() {
        find("tree", "it has the root of a tree");
        return false;
    } else if format == ForkFormat::BLOCK {
        let expected = TreeRoot { block: fork.tree.block, records: 1.into(), ..TreeRoot::zeroed() };
        if fork.tree != expected {
            find("tree", "the root of its one block has height and nodes 0 and one record");
            return false;
        }
    }
    true
}

/// The target of a symlink.
fn symlink(env: &mut Env<'_>, subject: &Subject<'_>) {
    let Subject { number, inode } = *subject;
    let size = inode.size.get();
    let inline = inode.inline(Which::Data).unwrap_or_default();
    let bad = |fault: String| Problem::Symlink { inode: number, fault };
    let target = match inode.data.format {
        ForkFormat::INLINE => {
            if size != inline.len() as u64 {
                let expected = inline.len() as u64;
                subject.find(env, ".size", Problem::InodeSize { inode: number, size, expected });
            }
            inline.to_vec()
        }
        ForkFormat::VALUES if size <= MAX_SYMLINK => {
            match value(env, subject, inline, size, |ordinal| format!("inode[{number}].value[{ordinal}]")) {
                Ok(target) => target,
                Err(None) => return,
                Err(Some(fault)) => {
                    env.check.doubts.blocks.store(true, Ordering::Relaxed);
                    return subject.find(env, ".payload", bad(fault));
                }
            }
        }
        ForkFormat::VALUES => {
            env.check.doubts.blocks.store(true, Ordering::Relaxed);
            let problem = Problem::InodeSize { inode: number, size, expected: MAX_SYMLINK };
            return subject.find(env, ".size", problem);
        }
        _ => return subject.find(env, ".data.format", bad("is empty".to_owned())),
    };
    if target.contains(&0) {
        subject.find(env, ".payload", bad("holds a zero byte".to_owned()));
    }
}
