//! Paths of inodes, and of what their forks hold.

use super::{Rest, Seal, Structure, Target, TargetError, node};
use crate::blocks::Blocks;
use crate::declare::{FieldType, Kind, OnDisk};
use crate::entry::{AttributeEntry, AttributeKind, BODY_SIZE, BodyBlock, DirectoryEntry, Head, entry_size};
use crate::extent::Extent;
use crate::field::path::Index as PathIndex;
use crate::geometry::BLOCK_BYTES;
use crate::group::TreeRoot;
use crate::header::BlockKind;
use crate::index::Index;
use crate::inode::{Fork, ForkFormat, INODE_SIZE, Inode, PAYLOAD_SIZE, Which};
use crate::record::{Key, Record};
use crate::tree::Tree;
use crate::units::{BlockNo, InodeNo};
use crate::volume::Volume;
use core::mem::offset_of;
use zerocopy::FromBytes;

/// What an inode has besides its fields.
const PARTS: &[&str] = &["extents", "directory", "target", "value"];
/// What a fork of entries has besides its fields.
const ENTRY_PARTS: &[&str] = &["entry", "block", "index"];

/// `inode[N]…` or `inode[/a/b]…`.
pub(super) fn inode<B: Blocks>(volume: &Volume<B>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    let indices = rest.peek().map_or(&[][..], |segment| &segment.indices);
    let number = match indices {
        [PathIndex::Number(number)] => *number,
        [PathIndex::Path(path)] => volume.resolve(path)?,
        _ => {
            let expected = "an inode's number or a file's path, as in inode[/a/b],";
            return Err(TargetError::Index { text: rest.name().to_owned(), expected });
        }
    };
    rest.take_as(&format!("inode[{number}]"));
    of_number(volume, number, rest)
}

/// An inode, and where it is.
#[derive(Clone, Copy)]
struct Here<'v> {
    inode: &'v Inode,
    number: u64,
    structure: Structure,
}

/// What the rest names in an inode.
pub(super) fn of_number<B: Blocks>(
    volume: &Volume<B>,
    number: u64,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let inode = volume.inode_unverified(number)?;
    let offset = number.saturating_mul(INODE_SIZE as u64);
    let seal = Seal::Header { offset, length: INODE_SIZE };
    let here = Here { inode, number, structure: Structure { offset, layout: &Inode::LAYOUT, seal } };
    let second = rest.segments.get(1).map_or("", |segment| &segment.name);
    match rest.name() {
        "extents" => {
            rest.take_plain()?;
            extents(volume, here, rest)
        }
        "directory" => {
            rest.take_plain()?;
            fork_entries::<DirectoryEntry, B>(volume, here, Which::Data, rest)
        }
        // The fork's own fields have the same name before them.
        "attributes" if ENTRY_PARTS.contains(&second) => {
            rest.take_plain()?;
            fork_entries::<AttributeEntry, B>(volume, here, Which::Attributes, rest)
        }
        "target" => {
            rest.take_plain()?;
            if inode.data.format != ForkFormat::INLINE {
                let why = "the target is not in the inode; its blocks are value[K]";
                return Err(TargetError::Missing { text: rest.text, why });
            }
            let length = usize::from(inode.data.inline_bytes.get()).min(PAYLOAD_SIZE);
            let doc = "Where the symlink leads.";
            here.structure.bytes(offset_of!(Inode, payload), Kind::Text(length), doc, rest)
        }
        "value" => {
            let pointers = inode.inline(Which::Data).filter(|_| inode.data.format == ForkFormat::VALUES);
            value_block(volume, pointers.unwrap_or_default(), rest)
        }
        _ => rest.field(volume, here.structure, PARTS),
    }
}

/// The block of a value that the rest begins with, from the numbers of its blocks.
fn value_block<B: Blocks>(
    volume: &Volume<B>,
    pointers: &[u8],
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let (pointers, _) =
        <[BlockNo]>::ref_from_prefix_with_elems(pointers, pointers.len() / size_of::<BlockNo>())
            .unwrap_or((&[], &[]));
    let limit = u64::try_from(pointers.len()).unwrap_or(u64::MAX);
    let index = rest.take_below(limit, "a block's number within the value, as in [0],")?;
    let pointer = usize::try_from(index).ok().and_then(|index| pointers.get(index));
    let block = pointer.map_or(u64::MAX, |pointer| pointer.get());
    rest.field(volume, Structure::block(block, &BodyBlock::LAYOUT)?, &[])
}

/// Where an inode keeps the root of a fork's tree.
fn fork_root(here: Here<'_>, which: Which) -> Structure {
    let fork = match which {
        Which::Data => offset_of!(Inode, data),
        Which::Attributes => offset_of!(Inode, attributes),
    };
    here.structure.part(fork + offset_of!(Fork, tree), &TreeRoot::LAYOUT)
}

/// The tree of a fork, whatever its format says.
fn fork_tree<R: Record, B: Blocks>(
    volume: &Volume<B>,
    here: Here<'_>,
    which: Which,
    kind: BlockKind,
) -> Tree<R> {
    let root = &here.inode.fork(which).tree;
    Tree::new(kind, here.number, root, volume.geometry.volume_space(), volume.seed)
}

fn extents<B: Blocks>(volume: &Volume<B>, here: Here<'_>, mut rest: Rest<'_>) -> Result<Target, TargetError> {
    if rest.name() != "rec" {
        let tree = fork_tree::<Extent, B>(volume, here, Which::Data, BlockKind::EXTENTS);
        return node::tree(volume, &tree, fork_root(here, Which::Data), rest);
    }
    if here.inode.data.format == ForkFormat::TREE {
        rest.take();
        let why = "the extents are in a tree, as in extents.leaf[0].rec[0]";
        return Err(TargetError::Missing { text: rest.text, why });
    }
    let size = size_of::<Extent>();
    let limit = u64::try_from(PAYLOAD_SIZE / size).unwrap_or(0);
    let index = rest.take_below(limit, "a record's number, as in rec[0],")?;
    let offset = offset_of!(Inode, payload) + usize::try_from(index).unwrap_or(0) * size;
    rest.field(volume, here.structure.part(offset, &Extent::LAYOUT), &[])
}

/// What the rest names in a fork that holds entries.
fn fork_entries<H: NamedEntry, B: Blocks>(
    volume: &Volume<B>,
    here: Here<'_>,
    which: Which,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let index_kind = match which {
        Which::Data => BlockKind::DIRECTORY_INDEX,
        Which::Attributes => BlockKind::ATTRIBUTE_INDEX,
    };
    match rest.name() {
        "entry" => {
            let before = match which {
                Which::Data => 0,
                Which::Attributes => usize::from(here.inode.data.inline_bytes.get()),
            };
            let bytes = here.inode.inline(which).unwrap_or_default();
            let place = here.structure.part(offset_of!(Inode, payload) + before, super::fixed::INODE);
            entry::<H, B>(volume, place, bytes, rest)
        }
        "index" => {
            rest.take_plain()?;
            let tree = fork_tree::<Index, B>(volume, here, which, index_kind);
            node::tree(volume, &tree, fork_root(here, which), rest)
        }
        "block" => {
            let ordinal = rest.take_number("a block's number in the order of the index, as in block[0],")?;
            let fork = here.inode.fork(which);
            let block = match fork.format {
                ForkFormat::BLOCK => (ordinal == 0).then_some(fork.tree.block.get()),
                ForkFormat::TREE => {
                    let tree = fork_tree::<Index, B>(volume, here, which, index_kind);
                    let mut records = tree.range(&volume.blocks, Key::MIN).filter_map(Result::ok);
                    let at = usize::try_from(ordinal).ok().and_then(|ordinal| records.nth(ordinal));
                    at.map(|at| at.record.block.get())
                }
                _ => None,
            };
            let why = "the fork has fewer blocks, or its index is broken before it";
            let block = block.ok_or_else(|| TargetError::Missing { text: rest.text.clone(), why })?;
            body_block::<H, B>(volume, block, rest)
        }
        _ => Err(rest.unknown(ENTRY_PARTS)),
    }
}

/// A field of a block of entries, or of an entry in it.
pub(super) fn body_block<H: NamedEntry, B: Blocks>(
    volume: &Volume<B>,
    block: u64,
    rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let structure = Structure::block(block, &BodyBlock::LAYOUT)?;
    if rest.name() != "entry" {
        return rest.field(volume, structure, &["entry"]);
    }
    let body =
        BodyBlock::ref_from_bytes(volume.blocks.block(block)?).map_err(|_| TargetError::NoBlock { block })?;
    let used = usize::try_from(body.header.count.get()).unwrap_or(usize::MAX).min(BODY_SIZE);
    let bytes = body.body.0.get(..used).unwrap_or_default();
    entry::<H, B>(volume, structure.part(offset_of!(BodyBlock, body), &BodyBlock::LAYOUT), bytes, rest)
}

/// An entry of either fork, with what its value is.
pub(super) trait NamedEntry: Head {
    /// Kind of a value of so many bytes; `None` when such entries have none.
    fn value_kind(&self, bytes: usize) -> Option<Kind>;
}

impl NamedEntry for DirectoryEntry {
    fn value_kind(&self, _bytes: usize) -> Option<Kind> {
        None
    }
}

impl NamedEntry for AttributeEntry {
    fn value_kind(&self, bytes: usize) -> Option<Kind> {
        Some(match self.kind {
            AttributeKind::PARENT if bytes == size_of::<InodeNo>() => InodeNo::KIND,
            AttributeKind::BLOCKS => Kind::Array(&BlockNo::KIND, bytes / size_of::<BlockNo>()),
            _ => Kind::Bytes(bytes),
        })
    }
}

/// What the rest names of the entry it begins with, among those packed in `bytes`, which begin at `place`.
fn entry<H: NamedEntry, B: Blocks>(
    volume: &Volume<B>,
    place: Structure,
    bytes: &[u8],
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let index = rest.take_number("an entry's number, as in entry[0],")?;
    let missing = |rest: &Rest<'_>, why| TargetError::Missing { text: rest.text.clone(), why };
    let mut offset = 0;
    let head = |offset: usize| bytes.get(offset..).and_then(|bytes| H::ref_from_prefix(bytes).ok());
    for _ in 0..index {
        let before = head(offset)
            .and_then(|(head, _)| Some(entry_size(size_of::<H>(), head.name_length(), head.stored_value()?)));
        offset += before.ok_or_else(|| missing(&rest, "the entries end, or are broken, before it"))?;
    }
    let (head, after) = head(offset).ok_or_else(|| missing(&rest, "the entries end before it"))?;
    let structure = place.part(offset, const { &<H as OnDisk>::LAYOUT });
    let (name, value) = (head.name_length(), head.stored_value().unwrap_or(0));
    let short = "the entry reaches past the end of its place";
    let kind = head.value_kind(value);
    match (rest.name(), kind) {
        ("name", _) => {
            rest.take_plain()?;
            after.get(..name).ok_or_else(|| missing(&rest, short))?;
            structure.bytes(size_of::<H>(), Kind::Text(name), "The entry's name.", rest)
        }
        ("value", Some(Kind::Array(..)))
            if rest.peek().is_some_and(|segment| !segment.indices.is_empty()) =>
        {
            let limit = u64::try_from(value / size_of::<BlockNo>()).unwrap_or(u64::MAX);
            let index = rest.take_below(limit, "a block's number within the value, as in [0],")?;
            after.get(..name + value).ok_or_else(|| missing(&rest, short))?;
            let at = size_of::<H>() + name + usize::try_from(index).unwrap_or(0) * size_of::<BlockNo>();
            structure.bytes(at, BlockNo::KIND, "The number of one of the value's blocks.", rest)
        }
        ("value", Some(kind)) => {
            rest.take_plain()?;
            after.get(..name + value).ok_or_else(|| missing(&rest, short))?;
            structure.bytes(size_of::<H>() + name, kind, "What follows the entry's name.", rest)
        }
        ("block", Some(Kind::Array(..))) => {
            let pointers = after.get(name..).and_then(|after| after.get(..value));
            value_block(volume, pointers.ok_or_else(|| missing(&rest, short))?, rest)
        }
        (_, Some(Kind::Array(..))) => rest.field(volume, structure, &["name", "value", "block"]),
        (_, Some(_)) => rest.field(volume, structure, &["name", "value"]),
        (_, None) => rest.field(volume, structure, &["name"]),
    }
}

/// Bytes of an inode's number are its offset on the volume: eight of 512 bytes fill a block.
const _: () = assert!(INODE_SIZE as u64 * crate::geometry::INODES_PER_BLOCK == BLOCK_BYTES);
