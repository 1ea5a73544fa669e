//! Which blocks are metadata.
//!
//! 1. Those of fixed place: superblocks, group headers and their copies, tables of checksums, journal.
//! 2. Those in use in the metadata clusters, by the cluster trees; all of a cluster that the reverse map knows and no
//!    cluster tree does.
//! 3. Those that a verified structure points to as its own, whatever is there now: tree nodes, inode chunks, blocks of
//!    entries and values. This adds nothing to a sound volume. Where a group's header and its copy are both damaged, what
//!    their trees lead to outside of all clusters, where contents of files may be, must begin with the magic.
//!
//! **Invariant.** Whether a block is selected depends on selected blocks alone, or on the block itself if it reads as
//! something other than zeros: so on a device restored from the dump the same are selected.

use crate::faults::{Faults, MAX_KEPT};
use crate::files;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES, Chunk};
use paxfs_format::cluster::Cluster;
use paxfs_format::device::Device;
use paxfs_format::entry::{AttributeEntry, AttributeKind, entries};
use paxfs_format::extent::Extent;
use paxfs_format::free::Free;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry, INODES_PER_BLOCK};
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::{Header, MAGIC};
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, INODE_SIZE, Inode, Which};
use paxfs_format::node::Node;
use paxfs_format::path::group_header;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::tree::{NodePlace, Place, RecordPlace, Tree, TreeFault, Visitor};
use paxfs_format::units::BlockNo;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use zerocopy::FromBytes;

/// Blocks that are metadata, and what was learnt on the way.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// Single blocks, as bits of 64 blocks.
    bits: BTreeMap<u64, u64>,
    /// Runs, of which only what is not zeros is there: start to end.
    runs: BTreeMap<u64, u64>,
    /// Directories.
    pub directories: BTreeSet<u64>,
    /// Blocks with values of attributes whose contents are no secret: access control lists.
    pub plain_values: BTreeSet<u64>,
    /// Where a sparse device has no bytes: ranges of blocks in `runs` to be passed over.
    data: Vec<Range<u64>>,
}

impl Selected {
    fn add(&mut self, block: u64) {
        *self.bits.entry(block / 64).or_default() |= 1 << (block % 64);
    }

    fn add_run(&mut self, run: Range<u64>) {
        if !run.is_empty() {
            let end = self.runs.entry(run.start).or_default();
            *end = run.end.max(*end);
        }
    }

    fn contains(&self, block: u64) -> bool {
        self.bits.get(&(block / 64)).is_some_and(|bits| bits >> (block % 64) & 1 != 0)
            || self.runs.range(..=block).next_back().is_some_and(|(_, end)| block < *end)
    }

    /// All, ascending. Blocks of sparse runs that are not on the device are left out.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        let mut bits = self
            .bits
            .iter()
            .flat_map(|(word, bits)| {
                (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word * 64 + bit)
            })
            .peekable();
        let mut data = self.data.iter().cloned().flatten().peekable();
        std::iter::from_fn(move || {
            let next = match (bits.peek(), data.peek()) {
                (Some(bit), Some(block)) => *bit.min(block),
                (Some(block), None) | (None, Some(block)) => *block,
                (None, None) => return None,
            };
            bits.next_if_eq(&next);
            data.next_if_eq(&next);
            Some(next)
        })
    }

    /// Finds where the runs have bytes.
    fn find_data(&mut self, device: &Device) {
        let end_of_device = Blocks::blocks(device);
        // Runs may overlap.
        let mut done = 0;
        for (&start, &end) in &self.runs {
            let mut at = start.max(done);
            let end = end.min(end_of_device);
            done = done.max(end);
            while at < end {
                let next = at.checked_mul(BLOCK_BYTES).and_then(|offset| device.next_data(offset));
                let Some(found) = next.map(|offset| offset / BLOCK_BYTES).filter(|found| *found < end) else {
                    break;
                };
                let from = found.max(at);
                // How far the bytes go nobody says: a look every 2 MiB is cheap.
                at = from.saturating_add(512).min(end);
                self.data.push(from..at);
            }
        }
    }
}

/// Selects the metadata of a volume on a device. `journal` says whether the journal's blocks count.
pub fn select<B: Blocks>(
    volume: &Volume<B>,
    device: &Device,
    journal: bool,
    faults: &mut Faults,
) -> Selected {
    let mut selector = Selector {
        volume,
        selected: Selected::default(),
        clusters: BTreeSet::new(),
        broken: false,
        trusted: true,
    };
    selector.fixed(journal);
    let mut inodes = Vec::new();
    for group in files::groups(volume) {
        match group_header(volume, group) {
            Ok((header, _)) => {
                selector.trusted = volume.group(group).is_ok() || volume.group_copy(group).is_ok();
                selector.group(group, header, &mut inodes, faults);
                selector.trusted = true;
            }
            Err(fault) => {
                selector.broken = true;
                faults.note(format!("group[{group}]: {fault}"));
            }
        }
    }
    for number in inodes {
        selector.inode(number);
    }
    if selector.broken {
        selector.reachable();
    }
    selector.selected.find_data(device);
    selector.selected
}

struct Selector<'v, B> {
    volume: &'v Volume<B>,
    selected: Selected,
    /// Clusters known, by their first volume block.
    clusters: BTreeSet<u64>,
    /// Whether inodes or clusters may be missing from the trees.
    broken: bool,
    /// Whether what points is verified.
    trusted: bool,
}

impl<B: Blocks> Selector<'_, B> {
    fn fixed(&mut self, journal: bool) {
        let geometry = &self.volume.geometry;
        for group in files::groups(self.volume) {
            let start = geometry.group_start(group);
            let end = if journal {
                start.saturating_add(geometry.fixed_blocks(group))
            } else {
                geometry.table(group).end
            };
            self.selected.add_run(start..end.min(geometry.blocks));
        }
    }

    fn group(&mut self, group: u32, header: &GroupHeader, inodes: &mut Vec<u64>, faults: &mut Faults) {
        let geometry = self.volume.geometry;
        let first = geometry.group_start(group);
        let mut known = Vec::new();
        self.tree(group, header, GroupTree::Clusters, faults, |cluster: &Cluster| known.push(*cluster));
        for cluster in known {
            let start = first.saturating_add(cluster.start.get().into());
            self.clusters.insert(start);
            let blocks = u32::try_from(geometry.cluster_blocks).unwrap_or(0);
            for index in (0..blocks).filter(|index| cluster.is_used(*index)) {
                self.selected.add(start.saturating_add(index.into()));
            }
        }
        let mut unknown = Vec::new();
        let clusters = &self.clusters;
        let mut rmap = |record: &Rmap| {
            if record.owner == Owner::CLUSTER {
                let start = first.saturating_add(record.start.get().into());
                let end = first.saturating_add(record.end().min(geometry.group_len(group)));
                // Cluster by cluster, and from one that is known to the next.
                let mut from = start;
                for known in clusters.range(start..end.max(start)) {
                    unknown.push(from..*known);
                    from = known.saturating_add(geometry.cluster_blocks);
                }
                unknown.push(from..end.max(from));
            }
        };
        let mut nodes = Nodes { blocks: Vec::new(), record: &mut rmap, faults: Vec::new() };
        let tree = self.volume.group_tree::<Rmap>(group, header, GroupTree::Rmap);
        tree.walk(&self.volume.blocks, &mut nodes);
        let Nodes { blocks, faults: found, .. } = nodes;
        for run in unknown {
            self.selected.add_run(run);
        }
        for block in blocks {
            self.point(block);
        }
        found.iter().for_each(|fault| faults.note(format!("rmap[{group}].{fault}")));

        let mut chunks = Vec::new();
        self.tree(group, header, GroupTree::Inodes, faults, |chunk: &Chunk| chunks.push(*chunk));
        for chunk in chunks {
            let start = first.saturating_add(chunk.start.get().into());
            for block in 0..CHUNK_BLOCKS {
                self.point(start.saturating_add(block.into()));
            }
            let used = chunk.used.get();
            let numbers = (0..CHUNK_INODES).filter(|slot| used >> slot & 1 != 0);
            inodes.extend(numbers.map(|slot| Geometry::inode_number(start, 0).saturating_add(slot.into())));
        }
        self.tree(group, header, GroupTree::Free, faults, |_: &Free| {});
        self.tree(group, header, GroupTree::Refcount, faults, |_: &Refcount| {});
        self.tree(group, header, GroupTree::Bad, faults, |_: &paxfs_format::bad::Bad| {});
    }

    /// Takes the nodes of a group's tree, and tells its records.
    fn tree<R: Record>(
        &mut self,
        group: u32,
        header: &GroupHeader,
        which: GroupTree,
        faults: &mut Faults,
        mut record: impl FnMut(&R),
    ) {
        let mut nodes = Nodes { blocks: Vec::new(), record: &mut record, faults: Vec::new() };
        self.volume.group_tree::<R>(group, header, which).walk(&self.volume.blocks, &mut nodes);
        self.broken |= !nodes.faults.is_empty() && matches!(which, GroupTree::Clusters | GroupTree::Inodes);
        let Nodes { blocks, faults: found, .. } = nodes;
        for fault in found {
            faults.note(format!("{}[{group}].{fault}", which.name()));
        }
        for block in blocks {
            self.point(block);
        }
    }

    /// Takes a block that a structure points to.
    fn point(&mut self, block: u64) {
        let geometry = &self.volume.geometry;
        if block >= geometry.blocks || self.selected.contains(block) {
            return;
        }
        let start = geometry
            .locate(block)
            .map(|place| geometry.volume_block(place.group, geometry.cluster_start(place.block)));
        let in_cluster = start.is_some_and(|start| self.clusters.contains(&start));
        // A block of inodes has a header in each slot that was ever used.
        let has_magic = || {
            let bytes = self.volume.blocks.block(block).map_or([].as_slice(), |bytes| bytes.as_slice());
            bytes
                .chunks_exact(INODE_SIZE)
                .any(|slot| Header::of(slot).is_some_and(|header| header.magic == MAGIC))
        };
        if self.trusted || in_cluster || has_magic() {
            self.selected.add(block);
        }
    }

    /// Takes all that belongs to an inode, as far as it can be read.
    fn inode(&mut self, number: u64) {
        let volume = self.volume;
        if !self.selected.contains(number / INODES_PER_BLOCK) {
            return;
        }
        let Ok(inode) = volume.inode(number) else { return };
        match inode.file_type() {
            Some(FileType::Directory) => {
                self.selected.directories.insert(number);
                self.bodies(inode, Which::Data);
            }
            Some(FileType::Regular) => {
                if let Some(tree) = volume.fork_tree::<Extent>(inode, Which::Data) {
                    self.nodes(&tree, |_| {});
                }
            }
            Some(FileType::Symlink) if inode.data.format == ForkFormat::VALUES => {
                self.values(inode.inline(Which::Data).unwrap_or_default(), false);
            }
            _ => {}
        }
        self.bodies(inode, Which::Attributes);
    }

    /// Takes the nodes of a fork's tree, and tells its records.
    fn nodes<R: Record>(&mut self, tree: &Tree<R>, mut record: impl FnMut(&R)) {
        let mut nodes = Nodes { blocks: Vec::new(), record: &mut record, faults: Vec::new() };
        tree.walk(&self.volume.blocks, &mut nodes);
        for block in nodes.blocks {
            self.point(block);
        }
    }

    /// Takes the blocks of entries of a fork, its index, and the values that its entries point to.
    fn bodies(&mut self, inode: &Inode, which: Which) {
        let volume = self.volume;
        let fork = inode.fork(which);
        let mut blocks = Vec::new();
        match fork.format {
            ForkFormat::BLOCK => blocks.push(fork.tree.block.get()),
            ForkFormat::TREE => {
                if let Some(tree) = volume.fork_tree::<Index>(inode, which) {
                    self.nodes(&tree, |record| blocks.push(record.block.get()));
                }
            }
            _ => {}
        }
        for block in blocks {
            self.point(block);
        }
        if which == Which::Attributes {
            for body in volume.bodies(inode, which, 0).flatten() {
                self.value_pointers(body.bytes);
            }
        }
    }

    fn value_pointers(&mut self, bytes: &[u8]) {
        for entry in entries::<AttributeEntry>(bytes).flatten() {
            if entry.head.kind == AttributeKind::BLOCKS {
                self.values(entry.value, entry.name.starts_with(b"system."));
            }
        }
    }

    fn values(&mut self, pointers: &[u8], plain: bool) {
        for pointer in <[BlockNo]>::ref_from_bytes(pointers).unwrap_or_default() {
            self.point(pointer.get());
            if plain {
                self.selected.plain_values.insert(pointer.get());
            }
        }
    }

    /// Takes what directories lead to, from the root: for what the trees of inodes and clusters do not know.
    fn reachable(&mut self) {
        let volume = self.volume;
        let mut seen = BTreeSet::new();
        let mut stack = vec![volume.superblock.root.get()];
        while let Some(number) = stack.pop() {
            if !seen.insert(number) {
                continue;
            }
            self.point(number / INODES_PER_BLOCK);
            self.inode(number);
            let Ok(inode) = volume.inode(number) else { continue };
            if inode.file_type() == Some(FileType::Directory) {
                stack.extend(volume.directory(inode).flatten().map(|entry| entry.head.inode.get()));
            }
        }
    }
}

/// Takes note of all nodes of a tree, sound or not, and of its records, doubtful or not.
struct Nodes<'r, F> {
    blocks: Vec<u64>,
    record: &'r mut F,
    faults: Vec<String>,
}

impl<R, F: FnMut(&R)> Visitor<R> for Nodes<'_, F> {
    fn node(&mut self, at: &NodePlace, _node: &Node) {
        self.blocks.push(at.block);
    }

    fn record(&mut self, _at: &RecordPlace, record: &R) {
        (self.record)(record);
    }

    fn doubtful(&mut self, _at: &RecordPlace, record: &R) {
        (self.record)(record);
    }

    fn fault(&mut self, fault: TreeFault) {
        if let Place::Node(node) = fault.at {
            self.blocks.push(node.block);
        }
        if self.faults.len() <= MAX_KEPT {
            self.faults.push(fault.to_string());
        }
    }
}
