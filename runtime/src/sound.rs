//! What the engine asks of a structure before it believes it, besides a checksum that fits: that it does not contradict
//! itself. Asked once, when the structure comes from the medium, so that nobody who uses it has to ask again:
//!
//! * the records of a node are as each must be by itself, and ascend; runs lie within their group and behind its head;
//! * entries are whole, and their names are names;
//! * what is counted and measured leaves room to count on.
//!
//! Whether structures agree with *each other* is not known here. Who reads several asks: [`crate::map`] that extents
//! follow each other, [`crate::space`] that nothing is given out or given back twice.

use crate::namespace::check_name;
use paxfs_format::bad::Bad;
use paxfs_format::chunk::Chunk;
use paxfs_format::cluster::Cluster;
use paxfs_format::entry::{AttributeEntry, AttributeKind, BodyBlock, DirectoryEntry, Entry, Head, entries};
use paxfs_format::extent::Extent;
use paxfs_format::free::Free;
use paxfs_format::geometry::{Geometry, MAX_FILE_BLOCKS};
use paxfs_format::group::{GroupHeader, GroupTree, TreeRoot};
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, Inode, Which};
use paxfs_format::node::{Branch, MAX_HEIGHT, Node};
use paxfs_format::record::{Record, Space};
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Rmap;
use zerocopy::{FromBytes, IntoBytes};

/// Most that anything is counted to: far from where a sum could not be held.
const COUNT_MAX: u64 = MAX_FILE_BLOCKS;

/// Whether a block whose checksum fits is sound. Blocks of no kind known here are for others to judge.
pub(crate) fn is_sound(bytes: &[u8; 4096], geometry: &Geometry) -> bool {
    let Some(header) = Header::of(bytes) else { return false };
    // That of an owner that is no group has no room for any record.
    let group = u32::try_from(header.owner.get()).unwrap_or(u32::MAX);
    let (group_space, volume_space) = (geometry.group_space(group), geometry.volume_space());
    let head = geometry.fixed_blocks(group);
    match header.kind {
        BlockKind::GROUP => is_group(bytes, group, geometry),
        BlockKind::FREE => is_node(bytes, &group_space, |free: &Free| u64::from(free.start.get()) >= head),
        BlockKind::CLUSTERS => {
            is_node(bytes, &group_space, |cluster: &Cluster| u64::from(cluster.start.get()) >= head)
        }
        BlockKind::REFCOUNT => is_node(bytes, &group_space, |_: &Refcount| true),
        BlockKind::RMAP => is_node(bytes, &group_space, |_: &Rmap| true),
        BlockKind::INODES => is_node(bytes, &group_space, |_: &Chunk| true),
        BlockKind::BAD => is_node(bytes, &group_space, |_: &Bad| true),
        BlockKind::EXTENTS => is_node(bytes, &volume_space, |extent| is_data(extent, geometry)),
        BlockKind::DIRECTORY_INDEX | BlockKind::ATTRIBUTE_INDEX => {
            is_node(bytes, &volume_space, |_: &Index| true)
        }
        BlockKind::DIRECTORY => body(bytes).is_some_and(are_names),
        BlockKind::ATTRIBUTES => body(bytes).is_some_and(are_attributes),
        BlockKind::VALUE => body(bytes).is_some(),
        _ => true,
    }
}

/// Whether the bytes of a node are one, and all its records `is`.
fn is_node<R: Record>(bytes: &[u8; 4096], space: &Space, is: impl Fn(&R) -> bool) -> bool {
    let Some(node) = Node::of(bytes) else { return false };
    let used = match node.level() {
        0 => node.records::<R>().filter(|records| are_records(records, space, is)).map(size_of_val),
        _ => node.branches().filter(|branches| do_ascend(branches)).map(size_of_val),
    };
    used.is_some_and(|used| used > 0 && is_zero(node.body.0.get(used..)))
}

fn are_records<R: Record>(records: &[R], space: &Space, is: impl Fn(&R) -> bool) -> bool {
    let fits = |record: &R| record.check(space).is_ok() && is(record);
    let follows =
        |(one, next): (&R, &R)| one.key() < next.key() && (R::OVERLAPS || one.end() <= next.key().start);
    records.iter().all(fits) && records.iter().zip(records.iter().skip(1)).all(follows)
}

fn do_ascend(branches: &[Branch]) -> bool {
    branches.iter().zip(branches.iter().skip(1)).all(|(one, next)| one.key() < next.key())
}

/// Whether an extent lies where data may.
fn is_data(extent: &Extent, geometry: &Geometry) -> bool {
    let place = geometry.locate(extent.start.get());
    place.is_some_and(|place| u64::from(place.block) >= geometry.fixed_blocks(place.group))
}

/// The bytes in use of a block of entries or of a value.
fn body(bytes: &[u8; 4096]) -> Option<&[u8]> {
    let block = BodyBlock::ref_from_bytes(bytes).ok()?;
    let used = usize::try_from(block.header.count.get()).ok()?;
    let (used, rest) = block.body.0.split_at_checked(used)?;
    is_zero(Some(rest)).then_some(used)
}

fn is_zero(bytes: Option<&[u8]>) -> bool {
    // Not `all`: without an early exit this is vector code.
    bytes.is_some_and(|bytes| bytes.iter().fold(0, |all, byte| all | byte) == 0)
}

fn are_entries<H: Head>(bytes: &[u8], is: impl Fn(&Entry<'_, H>) -> bool) -> bool {
    entries::<H>(bytes).all(|entry| entry.is_ok_and(|entry| !entry.head.is_live() || is(&entry)))
}

fn are_names(bytes: &[u8]) -> bool {
    are_entries(bytes, |entry: &Entry<'_, DirectoryEntry>| check_name(entry.name).is_ok())
}

fn are_attributes(bytes: &[u8]) -> bool {
    are_entries(bytes, |entry: &Entry<'_, AttributeEntry>| match entry.head.kind {
        AttributeKind::PARENT => entry.value.len() == size_of::<u64>(),
        kind => kind.0 <= AttributeKind::PARENT.0 && !entry.name.is_empty(),
    })
}

fn is_group(bytes: &[u8; 4096], number: u32, geometry: &Geometry) -> bool {
    GroupHeader::ref_from_bytes(bytes).is_ok_and(|header| {
        header.group.get() == number
            && header.start.get() == geometry.group_start(number)
            && header.blocks.get() == geometry.group_len(number)
            && GroupTree::ALL.into_iter().all(|tree| is_root(header.root(tree), geometry))
    })
}

/// Whether a root is that of the empty tree, or may be that of another.
fn is_root(root: &TreeRoot, geometry: &Geometry) -> bool {
    let nodes = u64::from(root.nodes.get());
    let is_there = (1..=MAX_HEIGHT).contains(&root.height.get())
        && (1..geometry.blocks).contains(&root.block.get())
        && (1..=geometry.blocks.min(u64::from(u32::MAX / 2))).contains(&nodes)
        && (1..=COUNT_MAX).contains(&root.records.get());
    is_there || is_empty(root)
}

fn is_empty(root: &TreeRoot) -> bool {
    is_zero(Some(root.as_bytes()))
}

/// What an inode in use says that cannot be; the name of the field.
pub(crate) fn fault(inode: &Inode, geometry: &Geometry) -> Option<&'static str> {
    let Some(kind) = inode.file_type() else { return Some("its mode") };
    let wrong = [
        ("its size", i64::try_from(inode.size.get()).is_err()),
        ("its blocks", inode.blocks.get() > COUNT_MAX),
        ("its data fork", !is_fork(inode, Which::Data, kind, geometry)),
        ("its attribute fork", !is_fork(inode, Which::Attributes, kind, geometry)),
    ];
    wrong.into_iter().find(|(_, wrong)| *wrong).map(|(field, _)| field)
}

fn is_fork(inode: &Inode, which: Which, kind: FileType, geometry: &Geometry) -> bool {
    let fork = inode.fork(which);
    let Some(inline) = inode.inline(which) else { return false };
    let extents = |bytes| {
        <[Extent]>::ref_from_bytes(bytes).is_ok_and(|extents| {
            are_records(extents, &geometry.volume_space(), |extent| is_data(extent, geometry))
        })
    };
    // Its bytes in the payload are what they must be, and which formats it may have besides.
    let (is_inline, others) = match (which, kind) {
        (Which::Attributes, _) => (are_attributes(inline), &[ForkFormat::BLOCK, ForkFormat::TREE][..]),
        (_, FileType::Directory) => (are_names(inline), &[ForkFormat::BLOCK, ForkFormat::TREE][..]),
        (_, FileType::Regular) => (extents(inline), &[ForkFormat::TREE][..]),
        (_, FileType::Symlink) => (true, &[ForkFormat::VALUES][..]),
        _ => (inline.is_empty(), &[][..]),
    };
    let root = &fork.tree;
    let fits = match fork.format {
        ForkFormat::EMPTY => inline.is_empty() && is_empty(root),
        ForkFormat::INLINE => is_inline && is_empty(root),
        format if !others.contains(&format) => false,
        ForkFormat::VALUES => is_empty(root),
        ForkFormat::BLOCK => inline.is_empty() && root.height.get() == 0,
        _ => inline.is_empty() && !is_empty(root) && is_root(root, geometry),
    };
    fits && fork.count.get() <= COUNT_MAX
}
