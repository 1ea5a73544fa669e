//! What files are read from: whole trees, right or not, and blocks that say themselves whose they are.

use super::clusters;
use core::cell::OnceCell;
use paxfs_format::blocks::Blocks;
use paxfs_format::entry::AttributeKind;
use paxfs_format::extent::Extent;
use paxfs_format::header::{BlockKind, Expected, Header};
use paxfs_format::image::Image;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, Inode, Which};
use paxfs_format::node::Node;
use paxfs_format::record::Record;
use paxfs_format::tree::{Missing, NodePlace, RecordPlace, Tree, TreeFault, Visitor};
use paxfs_format::units::BlockNo;
use paxfs_format::volume::Volume;
use std::collections::{BTreeSet, HashMap};
use zerocopy::FromBytes;

/// Everything that is found in a tree, right or not, and whether nothing was wrong with it.
#[derive(Debug)]
pub(super) struct Gathered<R> {
    pub sound: Vec<R>,
    pub doubtful: Vec<R>,
    pub nodes: Vec<u64>,
    pub missing: Vec<Missing>,
    pub faults: u64,
}

impl<R> Default for Gathered<R> {
    fn default() -> Self {
        Gathered {
            sound: Vec::new(),
            doubtful: Vec::new(),
            nodes: Vec::new(),
            missing: Vec::new(),
            faults: 0,
        }
    }
}

impl<R: Record> Visitor<R> for Gathered<R> {
    fn node(&mut self, at: &NodePlace, _node: &Node) {
        self.nodes.push(at.block);
    }

    fn record(&mut self, _at: &RecordPlace, record: &R) {
        self.sound.push(*record);
    }

    fn doubtful(&mut self, _at: &RecordPlace, record: &R) {
        self.doubtful.push(*record);
    }

    fn missing(&mut self, missing: &Missing) {
        self.missing.push(*missing);
    }

    fn fault(&mut self, _fault: TreeFault) {
        self.faults = self.faults.saturating_add(1);
    }
}

/// All that a tree holds.
pub(super) fn gather<R: Record>(volume: &Volume<Image<'_>>, tree: &Tree<R>) -> Gathered<R> {
    let mut gathered = Gathered::default();
    tree.walk(&volume.blocks, &mut gathered);
    gathered
}

/// The metadata blocks that an inode's forks reach, sound or not, that say they belong to it.
pub(super) fn fork_blocks(volume: &Volume<Image<'_>>, inode: &Inode, mut take: impl FnMut(u64)) {
    let number = inode.header.place.get();
    let owned = |block: u64, kind: BlockKind| {
        volume.structure(Expected { kind, place: block, owner: number }).is_ok()
    };
    for which in [Which::Data, Which::Attributes] {
        let fork = inode.fork(which);
        match fork.format {
            ForkFormat::TREE if which == Which::Data && inode.file_type() == Some(FileType::Regular) => {
                if let Some(tree) = volume.fork_tree::<Extent>(inode, which) {
                    gather(volume, &tree).nodes.into_iter().for_each(&mut take);
                }
            }
            ForkFormat::TREE => {
                if let Some(tree) = volume.fork_tree::<Index>(inode, which) {
                    let gathered = gather(volume, &tree);
                    gathered.nodes.into_iter().for_each(&mut take);
                    for record in gathered.sound.iter().chain(&gathered.doubtful) {
                        if owned(record.block.get(), which.entry_kind()) {
                            take(record.block.get());
                        }
                    }
                }
            }
            ForkFormat::BLOCK if owned(fork.tree.block.get(), which.entry_kind()) => {
                take(fork.tree.block.get());
            }
            ForkFormat::VALUES => {
                let pointers = inode.inline(which).unwrap_or_default();
                for pointer in <[BlockNo]>::ref_from_bytes(pointers).unwrap_or_default() {
                    if owned(pointer.get(), BlockKind::VALUE) {
                        take(pointer.get());
                    }
                }
            }
            _ => {}
        }
    }
    for entry in volume.attributes(inode).flatten() {
        if entry.head.kind == AttributeKind::BLOCKS {
            for pointer in <[BlockNo]>::ref_from_bytes(entry.value).unwrap_or_default() {
                if owned(pointer.get(), BlockKind::VALUE) {
                    take(pointer.get());
                }
            }
        }
    }
}

/// Blocks by whose they say they are, and what.
type Strays = HashMap<(u64, u16), Vec<u64>>;

/// Where files are read from: the volume, and all sound blocks of forks, for what no pointer leads to any more.
pub(super) struct Source<'v, 'd> {
    pub volume: &'v Volume<Image<'d>>,
    doubted: &'v BTreeSet<u32>,
    strays: OnceCell<Strays>,
}

impl<'v, 'd> Source<'v, 'd> {
    pub fn new(volume: &'v Volume<Image<'d>>, doubted: &'v BTreeSet<u32>) -> Self {
        Source { volume, doubted, strays: OnceCell::new() }
    }

    /// Sound blocks of a kind and owner that are marked in use, wherever they are.
    pub fn strays(&self, owner: u64, kind: BlockKind) -> &[u64] {
        self.strays.get_or_init(|| self.sweep()).get(&(owner, kind.get())).map_or(&[], Vec::as_slice)
    }

    /// Whether a pointer to a value of that inode leads to a block.
    pub fn is_value_of(&self, inode: &Inode, block: u64) -> bool {
        let points = |bytes: &[u8]| {
            <[BlockNo]>::ref_from_bytes(bytes)
                .is_ok_and(|pointers| pointers.iter().any(|one| one.get() == block))
        };
        let target = inode.data.format == ForkFormat::VALUES && inode.inline(Which::Data).is_some_and(points);
        target
            || self
                .volume
                .attributes(inode)
                .flatten()
                .any(|entry| entry.head.kind == AttributeKind::BLOCKS && points(entry.value))
    }

    fn sweep(&self) -> Strays {
        let volume = self.volume;
        let kinds = [BlockKind::EXTENTS, BlockKind::DIRECTORY, BlockKind::ATTRIBUTES, BlockKind::VALUE];
        let mut found = Strays::new();
        for group in volume.geometry.group_numbers() {
            for (start, bitmap) in clusters::known(volume, group, self.doubted.contains(&group)) {
                for bit in clusters::bits(&bitmap) {
                    let place = volume.geometry.volume_block(group, start).saturating_add(bit.into());
                    let Some(header) = volume.blocks.block(place).ok().and_then(|bytes| Header::of(bytes))
                    else {
                        continue;
                    };
                    let (owner, kind) = (header.owner.get(), header.kind);
                    if kinds.contains(&kind) && volume.structure(Expected { kind, place, owner }).is_ok() {
                        found.entry((owner, kind.get())).or_default().push(place);
                    }
                }
            }
        }
        found
    }
}
