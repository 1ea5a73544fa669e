//! What the rest of the volume says of some files: who names them, whom they contain, which blocks are theirs.

use super::source::gather;
use crate::extents::ExtentItem;
use paxfs_format::chunk::{CHUNK_INODES, Chunk};
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::rmap::Rmap;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The chunks of each group, by start.
pub(super) type Chunks = Vec<BTreeMap<u32, Chunk>>;

/// A name of another file: its inode or its directory, and the name.
type Named = (u64, Vec<u8>);

/// What the rest of the volume says of some files.
#[derive(Debug, Default)]
pub(super) struct Cross {
    /// By inode: directories and names that name it.
    pub entries: HashMap<u64, Vec<Named>>,
    /// Types and generations by which entries name an inode.
    pub kinds: HashMap<u64, (u8, u32)>,
    /// By directory: inodes and names of their parent pointers to it.
    pub pointers: HashMap<u64, Vec<Named>>,
    /// By inode: what the reverse map has of it.
    pub rmaps: HashMap<u64, Vec<ExtentItem>>,
}

/// Numbers of the inodes in use.
pub(super) fn in_use<'c>(
    volume: &'c Volume<Image<'_>>,
    chunks: &'c Chunks,
) -> impl Iterator<Item = u64> + 'c {
    (0u32..).zip(chunks).flat_map(move |(group, chunks)| {
        chunks.values().flat_map(move |chunk| {
            let used = chunk.used.get();
            let slots = (0..CHUNK_INODES).filter(move |slot| used >> slot & 1 != 0);
            slots.map(move |slot| super::chunks::inode(volume, group, chunk.start.get(), slot))
        })
    })
}

/// Asks the rest of the volume about some files.
pub(super) fn ask(
    volume: &Volume<Image<'_>>,
    chunks: &Chunks,
    files: &BTreeSet<u64>,
    blocks_of: &BTreeSet<u64>,
) -> Cross {
    let mut cross = Cross::default();
    for number in in_use(volume, chunks).filter(|number| !files.contains(number)) {
        let Ok(inode) = volume.inode(number) else { continue };
        for parent in volume.parents(inode).filter(|parent| files.contains(&parent.directory)) {
            let named = (number, parent.name.to_vec());
            cross.pointers.entry(parent.directory).or_default().push(named);
        }
        if inode.file_type() != Some(FileType::Directory) {
            continue;
        }
        for entry in volume.directory(inode).flatten() {
            let child = entry.head.inode.get();
            if files.contains(&child) {
                cross.entries.entry(child).or_default().push((number, entry.name.to_vec()));
                cross.kinds.insert(child, (entry.head.kind.0, entry.head.generation.get()));
            }
        }
    }
    if blocks_of.is_empty() {
        return cross;
    }
    for group in volume.geometry.group_numbers() {
        let Ok(header) = volume.group(group) else { continue };
        let start = volume.geometry.group_start(group);
        let rmap = gather(volume, &volume.group_tree::<Rmap>(group, header, GroupTree::Rmap));
        for record in rmap.sound.iter().filter(|record| record.owner.is_inode()) {
            let owner = record.owner.get();
            if blocks_of.contains(&owner) {
                cross.rmaps.entry(owner).or_default().push(ExtentItem::of_rmap(record, start));
            }
        }
    }
    cross
}
