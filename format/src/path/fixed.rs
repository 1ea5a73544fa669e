//! Paths of what is found without an inode: structures at fixed places, a group's trees, the journal, any block.

use super::{Rest, Seal, Structure, Target, TargetError, inode, node, read};
use crate::bad::Bad;
use crate::blocks::Blocks;
use crate::chunk::Chunk;
use crate::cluster::Cluster;
use crate::declare::{Field, Kind, Layout, OnDisk};
use crate::entry::{AttributeEntry, BodyBlock, DirectoryEntry};
use crate::extent::Extent;
use crate::field::path::Segment;
use crate::free::Free;
use crate::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry, INODES_PER_BLOCK};
use crate::group::{GroupHeader, GroupTree, TreeRoot};
use crate::header::{BlockKind, Header, MAGIC};
use crate::index::Index;
use crate::inode::{INODE_SIZE, Inode};
use crate::journal::{JournalRecord, JournalSlot, LINE_SIZE, SEALED_HEAD, SLOTS};
use crate::node::Branch;
use crate::record::Record;
use crate::refcount::Refcount;
use crate::rmap::Rmap;
use crate::sums::Sum;
use crate::superblock::Superblock;
use crate::volume::Volume;
use zerocopy::FromBytes;

/// A block that is no structure.
pub const RAW: Layout = Layout {
    name: "Block",
    doc: "A block as bytes.",
    size: BLOCK_SIZE,
    fields: &[Field { name: "raw", doc: "All of its bytes.", offset: 0, kind: Kind::Bytes(BLOCK_SIZE) }],
};

pub(super) fn superblock<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    let plain = rest.peek().is_some_and(|segment| segment.indices.is_empty());
    let group = if plain {
        rest.take_plain()?;
        0
    } else {
        rest.take_below(volume.geometry.groups(), "a group's number, as in sb[1],")?
    };
    let block = volume.geometry.superblock(u32::try_from(group).unwrap_or(u32::MAX));
    rest.field(volume, superblock_in(block)?, &[])
}

fn superblock_in(block: u64) -> Result<Structure, TargetError> {
    let structure = Structure::block(block, &Superblock::LAYOUT)?;
    Ok(Structure { seal: Seal::Superblock { offset: structure.offset }, ..structure })
}

pub(super) fn group<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    let copy = rest.name() == "group_copy";
    let group = rest.take_below(volume.geometry.groups(), "a group's number, as in group[0],")?;
    let group = u32::try_from(group).unwrap_or(u32::MAX);
    let block = if copy { volume.geometry.group_copy(group) } else { volume.geometry.group_header(group) };
    rest.field(volume, Structure::block(block, &GroupHeader::LAYOUT)?, &[])
}

/// The header of a group to read its trees by, and the block it is in: the header if it is intact, else its copy if
/// that is, else the header as it is.
pub fn group_header<B: Blocks>(volume: &Volume<B>, group: u32) -> Result<(&GroupHeader, u64), TargetError> {
    let block = volume.geometry.group_header(group);
    match (volume.group(group), volume.group_copy(group)) {
        (Ok(header), _) => Ok((header, block)),
        (_, Ok(copy)) => Ok((copy, volume.geometry.group_copy(group))),
        _ => {
            let bytes = volume.blocks.block(block)?;
            let header = GroupHeader::ref_from_bytes(bytes).map_err(|_| TargetError::NoBlock { block })?;
            Ok((header, block))
        }
    }
}

pub(super) fn group_tree<B: Blocks>(
    volume: &Volume<B>,
    tree: GroupTree,
    segment: &Segment,
    rest: Rest<'_>,
) -> Result<Target, TargetError> {
    // The caller took the segment; its number is looked at here.
    let mut number = Rest { text: String::new(), segments: core::slice::from_ref(segment) };
    let group = number.take_below(volume.geometry.groups(), "a group's number, as in rmap[0],")?;
    let group = u32::try_from(group).unwrap_or(u32::MAX);
    match tree {
        GroupTree::Free => in_tree::<Free, B>(volume, tree, group, rest),
        GroupTree::Refcount => in_tree::<Refcount, B>(volume, tree, group, rest),
        GroupTree::Rmap => in_tree::<Rmap, B>(volume, tree, group, rest),
        GroupTree::Inodes => in_tree::<Chunk, B>(volume, tree, group, rest),
        GroupTree::Clusters => in_tree::<Cluster, B>(volume, tree, group, rest),
        GroupTree::Bad => in_tree::<Bad, B>(volume, tree, group, rest),
    }
}

fn in_tree<R: Record, B: Blocks>(
    volume: &Volume<B>,
    tree: GroupTree,
    group: u32,
    rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let (header, block) = group_header(volume, group)?;
    let field = GroupHeader::LAYOUT.field(tree.name()).map_or(0, |field| field.offset);
    let root = Structure::block(block, &GroupHeader::LAYOUT)?.part(field, &TreeRoot::LAYOUT);
    node::tree(volume, &volume.group_tree::<R>(group, header, tree), root, rest)
}

pub(super) fn sum<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    let block = rest.take_below(volume.geometry.blocks, "a block's number, as in sum[8000],")?;
    let Some(offset) = volume.geometry.sum_offset(block) else {
        return Err(TargetError::Missing { text: rest.text, why: "the volume has no data checksums" });
    };
    rest.field(volume, Structure { offset, layout: &Sum::LAYOUT, seal: Seal::None }, &[])
}

pub(super) fn journal<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    rest.take_plain()?;
    if rest.name() != "slot" {
        return Err(rest.unknown(&["slot"]));
    }
    let slot = rest.take_below(SLOTS, "a slot's number, as in slot[0],")?;
    let length = volume.geometry.journal_blocks / SLOTS;
    let block = volume.geometry.journal().start.saturating_add(slot.saturating_mul(length));
    slot_in(volume, block, length, rest)
}

/// The journal slot that begins at a block, and has so many.
fn slot_in<B: Blocks>(
    volume: &Volume<B>,
    block: u64,
    blocks: u64,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let offset = block.checked_mul(BLOCK_BYTES).ok_or(TargetError::NoBlock { block })?;
    let length = blocks.saturating_mul(BLOCK_BYTES);
    if rest.name() == "rec" {
        let index = rest.take_number("a record's number, as in rec[0],")?;
        return journal_record(volume, offset, length, index, rest);
    }
    let seal = Seal::Header { offset, length: SEALED_HEAD };
    let target = rest.field(volume, Structure { offset, layout: &JournalSlot::LAYOUT, seal }, &["rec"])?;
    let covered = offset.saturating_add(u64::try_from(SEALED_HEAD).unwrap_or(0));
    let seal = if target.offset < covered { target.seal } else { Seal::None };
    Ok(Target { seal, ..target })
}

fn journal_record<B: Blocks>(
    volume: &Volume<B>,
    slot: u64,
    length: u64,
    index: u64,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    const RECORD: u64 = size_of::<JournalRecord>() as u64;
    let head = read(&volume.blocks, slot, size_of::<JournalSlot>())?;
    let (mut offset, end) = JournalSlot::ref_from_bytes(&head).map_or((slot, slot), |head| {
        head.body_room(slot, length, volume.blocks.blocks().saturating_mul(BLOCK_BYTES))
    });
    for left in (0..=index).rev() {
        if offset.saturating_add(RECORD) > end {
            break;
        }
        let bytes = read(&volume.blocks, offset, size_of::<JournalRecord>())?;
        let Ok((record, _)) = JournalRecord::ref_from_prefix(&bytes) else { break };
        let data = u64::from(record.lines.get().count_ones()).saturating_mul(LINE_SIZE as u64);
        let after = offset.saturating_add(RECORD).saturating_add(data);
        if left > 0 {
            offset = after;
            continue;
        }
        let seal = Seal::JournalBody { slot, length };
        let structure = Structure { offset, layout: &JournalRecord::LAYOUT, seal };
        if rest.name() == "data" && after <= end {
            rest.take_plain()?;
            let kind = Kind::Bytes(usize::try_from(data).unwrap_or(0));
            let doc = "New contents of the lines, 64 bytes each.";
            return structure.bytes(size_of::<JournalRecord>(), kind, doc, rest)?.on(volume);
        }
        return rest.field(volume, structure, &["data"]);
    }
    Err(TargetError::Missing { text: rest.text, why: "the body ends before it" })
}

/// What a block is: by its place if that is fixed, else by the header in it.
pub(super) fn block<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    let block = rest.take_number("a block's number, as in block[8000],")?;
    let bytes = volume.blocks.block(block)?;
    let raw = Structure { layout: &RAW, seal: Seal::None, ..Structure::block(block, &RAW)? };
    if rest.name() == "raw" {
        return rest.field(volume, raw, &[]);
    }
    let Some(header) = header_in(volume, block, bytes) else {
        return rest.field(volume, raw, &[]);
    };
    match header.kind {
        BlockKind::SUPERBLOCK => rest.field(volume, superblock_in(block)?, &["raw"]),
        BlockKind::GROUP => rest.field(volume, Structure::block(block, &GroupHeader::LAYOUT)?, &["raw"]),
        BlockKind::JOURNAL => slot_in(volume, block, slot_blocks(&volume.geometry, block), rest),
        BlockKind::DIRECTORY => inode::body_block::<DirectoryEntry, B>(volume, block, rest),
        BlockKind::ATTRIBUTES => inode::body_block::<AttributeEntry, B>(volume, block, rest),
        BlockKind::VALUE => rest.field(volume, Structure::block(block, &BodyBlock::LAYOUT)?, &["raw"]),
        BlockKind::INODE => {
            if rest.name() != "inode" {
                return Err(rest.unknown(&["inode", "raw"]));
            }
            let slot = rest.take_below(INODES_PER_BLOCK, "a slot's number, as in inode[0],")?;
            inode::of_number(volume, Geometry::inode_number(block, slot), rest)
        }
        kind => match record_layout(kind) {
            Some(records) => {
                let layout = if header.level.get() == 0 { records } else { &Branch::LAYOUT };
                node::node(volume, block, layout, rest)
            }
            None => rest.field(volume, raw, &[]),
        },
    }
}

/// The header that says what is in a block; `None` when nothing does.
pub(crate) fn header_in<B: Blocks>(
    volume: &Volume<B>,
    block: u64,
    bytes: &[u8; BLOCK_SIZE],
) -> Option<Header> {
    let mut header = *Header::of(bytes)?;
    if let Some(kind) = fixed_kind(&volume.geometry, block) {
        header.kind = kind;
        return Some(header);
    }
    if header.magic == MAGIC && header.kind != BlockKind::INODE {
        return Some(header);
    }
    // A slot that was never used has no header, but another of the block may.
    let slots = bytes.chunks_exact(INODE_SIZE).filter_map(Header::of);
    slots.copied().find(|header| header.magic == MAGIC && header.kind == BlockKind::INODE)
}

fn fixed_kind(geometry: &Geometry, block: u64) -> Option<BlockKind> {
    let place = geometry.locate(block)?;
    match place.block {
        0 => Some(BlockKind::SUPERBLOCK),
        1 | 2 => Some(BlockKind::GROUP),
        _ => {
            let journal = geometry.journal();
            let second = journal.start.saturating_add(geometry.journal_blocks / SLOTS);
            let slot = geometry.journal_blocks > 0 && (block == journal.start || block == second);
            slot.then_some(BlockKind::JOURNAL)
        }
    }
}

/// Blocks that a journal slot has that begins at `block`.
fn slot_blocks(geometry: &Geometry, block: u64) -> u64 {
    if geometry.journal().contains(&block) { geometry.journal_blocks / SLOTS } else { 1 }
}

/// The records in the leaves of trees whose nodes are of that kind.
pub(super) fn record_layout(kind: BlockKind) -> Option<&'static Layout> {
    Some(match kind {
        BlockKind::FREE => &Free::LAYOUT,
        BlockKind::REFCOUNT => &Refcount::LAYOUT,
        BlockKind::RMAP => &Rmap::LAYOUT,
        BlockKind::INODES => &Chunk::LAYOUT,
        BlockKind::CLUSTERS => &Cluster::LAYOUT,
        BlockKind::BAD => &Bad::LAYOUT,
        BlockKind::EXTENTS => &Extent::LAYOUT,
        BlockKind::DIRECTORY_INDEX | BlockKind::ATTRIBUTE_INDEX => &Index::LAYOUT,
        _ => return None,
    })
}

/// The layout of an inode, for the modules beside this one.
pub(super) const INODE: &Layout = &Inode::LAYOUT;
