//! What all passes share: the volume, its groups, and what could not be read.

use crate::bitmap::Bitmap;
use crate::doubts::Doubts;
use crate::finding::Finding;
use crate::multiset::{Key, Multiset};
use crate::problem::Problem;
use crate::trees::Late;
use crate::usage::{Clock, Stretch};
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::group::{GroupHeader, GroupTree, TreeRoot};
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::image::Image;
use paxfs_format::inode::Which;
use paxfs_format::superblock::ReadOnlyCompatible;
use paxfs_format::tree::Missing;
use paxfs_format::volume::Volume;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Passes of the check, as progress counts them.
pub const PASSES: usize = 5;

/// What the check knows while it runs.
pub(crate) struct Check<'c> {
    pub volume: &'c Volume<Image<'c>>,
    pub key: Key,
    pub groups: Vec<Group>,
    pub doubts: Doubts,
    /// Directories so large that their blocks are worth more than one thread.
    pub large: Mutex<Vec<u64>>,
    /// The last transaction: nothing on the volume can be of a later one.
    pub newest: u64,
    /// Forks whose number of entries is not what the inode says.
    pub counts: Mutex<Vec<CountDoubt>>,
    /// Findings that are told unless they follow from others.
    pub late: Mutex<Vec<Late>>,
    /// Inodes whose extents do not cover as many blocks as they say: inode, as it says, as counted.
    pub blocks: Mutex<Vec<(u64, u64, u64)>>,
    /// Inodes whose link count is not their number of parent pointers.
    pub links: Mutex<Vec<LinkDoubt>>,
    /// Blocks that are claimed twice, on a volume without reverse map: which, by whom, where that is said.
    pub clashes: Mutex<Vec<(Range<u64>, u64, String)>>,
    /// Trees that are read although their roots lead elsewhere.
    pub detours: Mutex<Vec<Detour>>,
    /// Sums of both sides of the sets that are compared.
    pub proofs: Mutex<Proofs>,
}

/// A tree that is read although its root is wrong, which has been told. What is found in it has no path.
#[derive(Debug, Clone)]
pub(crate) struct Detour {
    /// What paths into the tree begin with.
    pub prefix: String,
    /// The field of the root that is wrong.
    pub root: String,
}

impl Detour {
    /// The path of something that was found at `at`: the root's when it is in the tree.
    pub fn path(&self, at: &str) -> Option<&str> {
        let rest = at.strip_prefix(&self.prefix)?;
        (rest != "root" && !rest.starts_with("root.")).then_some(&self.root)
    }
}

/// A group of the volume.
pub(crate) struct Group {
    pub number: u32,
    /// What its header (or copy) says; none when both are lost.
    pub header: Option<HeaderView>,
    /// Its clusters and inodes, once they are read.
    pub index: OnceLock<Index>,
    pub space: Mutex<SpaceProof>,
    /// Records of its trees of space that are not known.
    pub missing: MissingSpace,
    /// Blocks that belong to somebody, on a volume without reverse map.
    pub claimed: OnceLock<Bitmap>,
    /// Blocks that have a checksum by what their file says, on a volume without reverse map.
    pub summed: OnceLock<Bitmap>,
    /// Blocks where inodes may be that the inode index has elsewhere.
    pub hidden: Mutex<Vec<Range<u32>>>,
    /// First blocks of chunks that were told to be lost.
    pub lost_chunks: Mutex<Vec<u64>>,
    /// Metadata blocks that lie in no cluster, and their paths.
    pub outside: Mutex<Vec<(u64, String)>>,
}

/// The parts of a group's header that the check needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderView {
    pub roots: [TreeRoot; 6],
    pub free_blocks: u64,
    pub cluster_free: u64,
    pub inodes_used: u64,
    pub orphans: u64,
}

/// The clusters and inode chunks of a group.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Ascending by start.
    pub clusters: Vec<ClusterState>,
    /// Some clusters are not known.
    pub clusters_lost: bool,
    /// Ascending by start.
    pub chunks: Vec<ChunkState>,
    /// Blocks of the group whose chunks are not known, if there are any.
    pub chunks_lost: Vec<Range<u32>>,
}

/// A metadata cluster.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub start: u32,
    /// Blocks that something was found to use.
    pub reached: [AtomicU64; 8],
}

/// 64 inodes.
#[derive(Debug)]
pub(crate) struct ChunkState {
    pub start: u32,
    /// In use: as the index says, and as the inodes themselves do.
    pub used: AtomicU64,
    pub orphans: u64,
    /// In use, as the index says.
    pub marked: u64,
    /// In use without a name, as the inodes themselves say.
    pub nameless: AtomicU64,
    /// Something has been told of the chunk's record.
    pub told: bool,
    pub directories: AtomicU64,
    /// Directories that are known to lead to the root.
    pub rooted: AtomicU64,
}

/// What a set of blocks adds up to on both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpaceProof {
    pub free_tree: Multiset,
    pub free_swept: Multiset,
    pub refcount_tree: Multiset,
    pub refcount_swept: Multiset,
    pub roles_found: Multiset,
    pub roles_expected: Multiset,
    /// Blocks in the free-space tree.
    pub free_blocks: u64,
    /// The sweep met what must not be: it has to be named.
    pub alarm: bool,
    /// The free-space tree is not known in whole.
    pub free_doubtful: bool,
    /// The reverse map is not known in whole.
    pub rmap_doubtful: bool,
    /// Something was found in the reverse map: who owns a block may not be found there.
    pub rmap_faulty: bool,
}

/// What is not known of a group's trees of space.
#[derive(Debug, Default)]
pub(crate) struct MissingSpace {
    pub free: Mutex<Vec<Missing>>,
    pub refcount: Mutex<Vec<Missing>>,
    pub rmap: Mutex<Vec<Missing>>,
}

/// What extents and names add up to on both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proofs {
    pub extents: Multiset,
    pub rmap: Multiset,
    pub entries: Multiset,
    pub pointers: Multiset,
}

/// An inode whose link count is not the number of its parent pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkDoubt {
    pub inode: u64,
    pub links: u64,
    pub pointers: u64,
    pub orphan: bool,
}

/// A fork whose number of entries is not what the inode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CountDoubt {
    pub inode: u64,
    pub which: Which,
    pub found: u64,
    pub expected: u64,
}

/// The content of a mutex, whatever happened to other threads.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeaderView {
    pub fn of(header: &GroupHeader) -> Self {
        HeaderView {
            roots: GroupTree::ALL.map(|tree| *header.root(tree)),
            free_blocks: header.free_blocks.get(),
            cluster_free: header.cluster_free.get(),
            inodes_used: header.inodes_used.get(),
            orphans: header.orphans.get(),
        }
    }

    pub fn root(&self, tree: GroupTree) -> &TreeRoot {
        let [free, refcount, rmap, inodes, clusters, bad] = &self.roots;
        match tree {
            GroupTree::Free => free,
            GroupTree::Refcount => refcount,
            GroupTree::Rmap => rmap,
            GroupTree::Inodes => inodes,
            GroupTree::Clusters => clusters,
            GroupTree::Bad => bad,
        }
    }

    pub fn set_root(&mut self, tree: GroupTree, root: TreeRoot) {
        for (each, slot) in GroupTree::ALL.iter().zip(&mut self.roots) {
            if *each == tree {
                *slot = root;
            }
        }
    }
}

/// What marking a metadata block as used met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    Fresh,
    Twice,
    Outside,
    /// Its cluster is not known.
    Unknown,
}

impl Index {
    pub fn cluster_of(&self, block: u32, cluster_blocks: u64) -> Option<&ClusterState> {
        let after = self.clusters.partition_point(|cluster| cluster.start <= block);
        let cluster = self.clusters.get(after.checked_sub(1)?)?;
        (u64::from(block - cluster.start) < cluster_blocks).then_some(cluster)
    }

    pub fn mark(&self, block: u32, cluster_blocks: u64) -> Marked {
        match self.cluster_of(block, cluster_blocks) {
            Some(cluster) if cluster.mark(block - cluster.start) => Marked::Twice,
            Some(_) => Marked::Fresh,
            None if self.clusters_lost => Marked::Unknown,
            None => Marked::Outside,
        }
    }

    pub fn chunk_of(&self, block: u32) -> Option<&ChunkState> {
        let after = self.chunks.partition_point(|chunk| chunk.start <= block);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        (block - chunk.start < CHUNK_BLOCKS).then_some(chunk)
    }
}

impl ClusterState {
    /// Marks a block of the cluster; tells whether it was marked before.
    fn mark(&self, index: u32) -> bool {
        let bit = 1u64 << (index % 64);
        let word = usize::try_from(index / 64).ok().and_then(|word| self.reached.get(word));
        word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit != 0)
    }
}

impl<'c> Check<'c> {
    pub fn has(&self, feature: u64) -> bool {
        self.volume.superblock.has(feature)
    }

    pub fn rmap(&self) -> bool {
        self.has(ReadOnlyCompatible::RMAP)
    }

    pub fn reflink(&self) -> bool {
        self.has(ReadOnlyCompatible::REFLINK)
    }

    pub fn csum(&self) -> bool {
        self.has(ReadOnlyCompatible::CSUM)
    }

    pub fn group(&self, number: u32) -> Option<&Group> {
        self.groups.get(usize::try_from(number).ok()?)
    }

    /// The index of the group that a volume block is in, and the block in it.
    pub fn index_of(&self, block: u64) -> Option<(&Index, u32)> {
        let place = self.volume.geometry.locate(block)?;
        Some((self.group(place.group)?.index.get()?, place.block))
    }

    /// Marks a metadata block as used.
    pub fn mark(&self, block: u64) -> Marked {
        match self.index_of(block) {
            Some((index, block)) => index.mark(block, self.volume.geometry.cluster_blocks),
            None => Marked::Unknown,
        }
    }

    /// Marks a metadata block that cannot be read, if its header says that it is the one: else the pointer to it may be
    /// what is wrong.
    pub fn mark_damaged(&self, block: u64, kind: BlockKind) {
        let header = self.volume.blocks.block(block).ok().and_then(|bytes| Header::of(bytes));
        if header.is_some_and(|header| header.kind == kind && header.place.get() == block) {
            self.mark(block);
        }
    }

    /// Notes a metadata block in no cluster. Whether the block or the cluster is wrong is decided later.
    pub fn note_outside(&self, block: u64, at: String) {
        let place = self.volume.geometry.locate(block);
        if let Some(group) = place.and_then(|place| self.group(place.group)) {
            self.doubts.note(&group.outside, (block, at));
        }
    }

    /// The chunk that an inode is in, and its slot there.
    pub fn chunk_of(&self, inode: u64) -> Option<(&ChunkState, u32)> {
        let (index, block) = self.index_of(inode / INODES_PER_BLOCK)?;
        let chunk = index.chunk_of(block)?;
        let slot = u64::from(block - chunk.start) * INODES_PER_BLOCK + inode % INODES_PER_BLOCK;
        Some((chunk, u32::try_from(slot).ok()?))
    }

    /// Whether an inode is in use.
    pub fn is_used(&self, inode: u64) -> bool {
        self.chunk_of(inode).is_some_and(|(chunk, slot)| chunk.used.load(Ordering::Relaxed) >> slot & 1 != 0)
    }

    /// Whether an inode is a directory in use that could be read.
    pub fn is_directory(&self, inode: u64) -> bool {
        self.chunk_of(inode)
            .is_some_and(|(chunk, slot)| chunk.directories.load(Ordering::Relaxed) >> slot & 1 != 0)
    }
}

impl ChunkState {
    pub fn new(start: u32, used: u64, orphans: u64, told: bool) -> Self {
        ChunkState {
            start,
            used: used.into(),
            orphans,
            marked: used,
            nameless: AtomicU64::new(0),
            told,
            directories: AtomicU64::new(0),
            rooted: AtomicU64::new(0),
        }
    }

    /// Number of the inode in a slot.
    pub fn inode(&self, group_start: u64, slot: u32) -> u64 {
        debug_assert!(slot < CHUNK_INODES);
        let block = group_start.saturating_add(self.start.into());
        block.saturating_mul(INODES_PER_BLOCK).saturating_add(slot.into())
    }
}

/// What one thread carries through its jobs.
pub(crate) struct Env<'c> {
    pub check: &'c Check<'c>,
    pub findings: Vec<Finding>,
    pub clocks: [Clock; PASSES],
    /// Bytes of the volume looked at in this job.
    pub read: u64,
    /// Whether blocks that are reached are marked: only the first time.
    pub marking: bool,
    /// Blocks reached before the clusters are known.
    pub reached: Vec<u64>,
}

impl<'c> Env<'c> {
    pub fn new(check: &'c Check<'c>, marking: bool) -> Self {
        let clocks = [Clock::default(); PASSES];
        Env { check, findings: Vec::new(), clocks, read: 0, marking, reached: Vec::new() }
    }

    /// Charges work that ends now to a pass, counted from 0.
    pub fn charge(&mut self, pass: usize, stretch: Stretch) {
        let read = core::mem::take(&mut self.read);
        if let Some(clock) = self.clocks.get_mut(pass) {
            clock.add(stretch);
            clock.read_bytes = clock.read_bytes.saturating_add(read);
        }
    }

    /// Notes something for later, the first time only.
    pub fn note<T>(&self, list: &Mutex<Vec<T>>, one: T) {
        if self.marking {
            self.check.doubts.note(list, one);
        }
    }

    pub fn find(&mut self, at: impl Into<String>, problem: Problem) {
        self.findings.push(Finding::new(at, problem));
    }

    /// Checks the transaction that a structure says it was last written by.
    pub fn generation(&mut self, found: u64, at: impl FnOnce() -> String, inode: Option<u64>) {
        let newest = self.check.newest;
        if (1..=newest).contains(&found) {
            return;
        }
        let finding =
            Finding::new(format!("{}.header.generation", at()), Problem::Generation { found, newest });
        self.findings.push(match inode {
            Some(inode) => finding.of_file(inode),
            None => finding,
        });
    }

    /// Checks that of a block with a header.
    pub fn block_generation(&mut self, block: u64, at: impl FnOnce() -> String, inode: Option<u64>) {
        let volume = self.check.volume;
        if let Some(header) = volume.blocks.block(block).ok().and_then(|bytes| Header::of(bytes)) {
            self.generation(header.generation.get(), at, inode);
        }
    }

    /// Marks a metadata block that `at` describes, and reports what is wrong with its place.
    pub fn mark(&mut self, block: u64, at: impl FnOnce() -> String, inode: Option<u64>) {
        self.read = self.read.saturating_add(4096);
        if !self.marking {
            return;
        }
        match self.check.mark(block) {
            Marked::Fresh => return,
            Marked::Unknown => return self.reached.push(block),
            Marked::Outside => return self.check.note_outside(block, at()),
            Marked::Twice => {}
        }
        let finding = Finding::new(at(), Problem::BlockTwice { block });
        self.findings.push(match inode {
            Some(inode) => finding.of_file(inode),
            None => finding,
        });
    }
}
