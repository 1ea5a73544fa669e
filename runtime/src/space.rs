//! The space of one group: which blocks are free, which clusters hold metadata, which inodes are in use.
//!
//! What operations ask and change lies in memory; the group's trees on the medium follow at the commit, in one pass and
//! in order ([`Group::settle`]). Only the refcount tree is changed at once, because it is asked for each write.
//!
//! Invariants:
//!
//! 1. `free` is what the free-space tree of the running transaction says. `usable` is what may be given out: all of
//!    that but what this transaction or the one being committed freed, because the medium still leads to it.
//! 2. A block is in `free`, or in a cluster, or owned by a file, or fixed.
//! 3. The logs hold the key of each record that the trees have yet to follow.
//!
//! Lock order: a group's lock is the last to be taken; of two groups the lower first.

mod clusters;
mod refcounts;
mod runs;
mod settle;

pub use clusters::{Cluster, Clusters};
pub use runs::Runs;
pub(crate) use settle::verified_node;

use crate::pages::Pages;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::geometry::{Geometry, HUGE_BLOCKS, INODES_PER_BLOCK};
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::Seed;
use paxfs_format::record::{Key, Record};
use paxfs_format::rmap::{ExtentFlags, Owner, Rmap};
use paxfs_format::tree::Tree;
use std::collections::BTreeMap;

/// Why space cannot be had or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// None is left.
    #[error("no space left")]
    Full,
    /// A structure on the medium contradicts itself; it has to be checked.
    #[error("group {group}: the {tree} tree is damaged at block {block}; run fsck.paxfs")]
    Broken {
        /// The group.
        group: u32,
        /// The tree.
        tree: &'static str,
        /// The node.
        block: u64,
    },
}

/// A chunk of inodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunk {
    /// Inodes in use.
    pub used: u64,
    /// Those without a name.
    pub orphans: u64,
    /// Inodes freed since the last durable commit, not to be used again before.
    pub freed: u64,
    /// Whether the inode index has yet to follow.
    pub changed: bool,
    /// Whether it is among those that may have an inode to give out.
    pub roomy: bool,
}

impl Chunk {
    /// Says that the inode index has yet to follow.
    fn note(&mut self, start: u32, changed: &mut Vec<u32>) {
        if !core::mem::replace(&mut self.changed, true) {
            changed.push(start);
        }
    }
}

/// What is needed to make nodes and records of one volume.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Where things are.
    pub geometry: Geometry,
    /// The start of checksums.
    pub seed: Seed,
    /// The running transaction.
    pub generation: u64,
    /// Whether the volume has reverse maps.
    pub rmap: bool,
}

/// How a run of data is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Anywhere, packed with other small runs.
    Packed,
    /// At a block that is congruent to this file block modulo 2 MiB.
    Congruent(u64),
}

/// One group.
#[derive(Debug)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// Its header as the running transaction has it.
    pub header: GroupHeader,
    /// Blocks of the group.
    pub blocks: u32,
    free: Runs,
    usable: Runs,
    /// Freed by the running transaction, and by the one being committed.
    pending: Vec<(u32, u32)>,
    committing: Vec<(u32, u32)>,
    clusters: Clusters,
    chunks: BTreeMap<u32, Chunk>,
    /// Chunks that may have an inode to give out.
    roomy: Vec<u32>,
    /// Chunks that the inode index has yet to follow.
    changed_chunks: Vec<u32>,
    /// Chunk and bits of inodes freed by the running transaction, and by the one being committed.
    pending_inodes: Vec<(u32, u64)>,
    committing_inodes: Vec<(u32, u64)>,
    /// Records of the reverse map that are to be there (or not) after the transaction, by their keys.
    rmap_log: BTreeMap<Key, Option<Rmap>>,
    /// Starts of records of the free-space tree that may have changed.
    free_log: std::collections::BTreeSet<u32>,
    /// Where the last small run was given out.
    packed: u32,
    /// Whether the header differs from the medium's.
    pub changed: bool,
}

fn block_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Group {
    /// Reads a group's space from its trees.
    pub fn load(
        number: u32,
        header: GroupHeader,
        pages: &Pages,
        context: &Context,
    ) -> Result<Self, SpaceError> {
        let mut group = Group {
            number,
            header,
            blocks: block_u32(context.geometry.group_len(number)),
            free: Runs::default(),
            usable: Runs::default(),
            pending: Vec::new(),
            committing: Vec::new(),
            clusters: Clusters::new(block_u32(context.geometry.cluster_blocks)),
            chunks: BTreeMap::new(),
            roomy: Vec::new(),
            changed_chunks: Vec::new(),
            pending_inodes: Vec::new(),
            committing_inodes: Vec::new(),
            rmap_log: BTreeMap::new(),
            free_log: std::collections::BTreeSet::new(),
            packed: 0,
            changed: false,
        };
        let mut free = Runs::default();
        group.each::<paxfs_format::free::Free>(GroupTree::Free, pages, context, |record| {
            free.insert(record.start.get(), record.length.get());
        })?;
        group.usable = free.clone();
        group.free = free;
        let mut clusters = Clusters::new(block_u32(context.geometry.cluster_blocks));
        group.each::<paxfs_format::cluster::Cluster>(GroupTree::Clusters, pages, context, |record| {
            clusters.load(record);
        })?;
        group.clusters = clusters;
        let mut chunks = BTreeMap::new();
        group.each::<paxfs_format::chunk::Chunk>(GroupTree::Inodes, pages, context, |record| {
            let (used, orphans) = (record.used.get(), record.orphans.get());
            let chunk = Chunk { used, orphans, roomy: used != u64::MAX, ..Chunk::default() };
            chunks.insert(record.start.get(), chunk);
        })?;
        group.roomy = chunks.iter().filter(|(_, chunk)| chunk.roomy).map(|(start, _)| *start).collect();
        group.chunks = chunks;
        Ok(group)
    }

    fn tree<R: Record>(&self, tree: GroupTree, context: &Context) -> Tree<R> {
        let space = context.geometry.group_space(self.number);
        Tree::new(tree.kind(), self.number.into(), self.header.root(tree), space, context.seed)
    }

    fn each<R: Record>(
        &self,
        tree: GroupTree,
        pages: &Pages,
        context: &Context,
        mut see: impl FnMut(&R),
    ) -> Result<(), SpaceError> {
        let space = context.geometry.group_space(self.number);
        for at in self.tree::<R>(tree, context).range(pages, Key::MIN) {
            let broken = |block| SpaceError::Broken { group: self.number, tree: tree.name(), block };
            let at = at.map_err(|error| broken(error.block))?;
            at.record.check(&space).map_err(|_| broken(at.leaf))?;
            see(&at.record);
        }
        Ok(())
    }

    /// Blocks that a file could get now.
    pub fn usable_blocks(&self) -> u64 {
        self.usable.blocks()
    }

    /// Blocks free for the running transaction, those in clusters included.
    pub fn free_blocks(&self) -> u64 {
        self.free.blocks() + u64::from(self.clusters.free_blocks())
    }

    /// Free blocks in whole, aligned 2 MiB runs.
    pub fn huge_blocks(&self) -> u64 {
        self.free.huge_blocks()
    }

    /// Blocks kept back for metadata, so that a full volume can still unlink, truncate and copy on write.
    pub fn reserve(&self) -> u64 {
        let cluster = u64::from(self.clusters.cluster_blocks());
        let wanted = (u64::from(self.blocks) / 100).clamp(cluster, 4 * HUGE_BLOCKS);
        wanted.saturating_sub(self.clusters.free_blocks().into())
    }

    /// Gives out a run of at most `want` blocks, as long as there is one. The run at `goal`, if it is free, goes before
    /// all others. `spare` blocks stay.
    pub fn allocate(&mut self, want: u32, goal: Option<u32>, fit: Fit, spare: u64) -> Option<(u32, u32)> {
        let left = self.usable.blocks().saturating_sub(spare);
        let want = want.min(block_u32(left));
        if want == 0 {
            return None;
        }
        let (start, length) = self.find(want, goal, fit)?;
        self.take(start, length);
        Some((start, length))
    }

    fn find(&mut self, want: u32, goal: Option<u32>, fit: Fit) -> Option<(u32, u32)> {
        if let Some(goal) = goal
            && let Some(length) = self.usable.free_at(goal)
        {
            return Some((goal, length.min(want)));
        }
        if let Fit::Congruent(offset) = fit {
            let residue = block_u32(offset % HUGE_BLOCKS);
            if let Some(start) = self.usable.find_aligned(want, residue) {
                return Some((start, want));
            }
        }
        // Behind the last small run, so that small files fill one 2 MiB run after the other.
        if let Some(length) = self.usable.free_at(self.packed)
            && length >= want
        {
            let start = self.packed;
            self.packed += want;
            return Some((start, want));
        }
        let (start, length) = self.usable.best_fit(want)?;
        let length = length.min(want);
        self.packed = start + length;
        Some((start, length))
    }

    /// Takes a run that is usable.
    fn take(&mut self, start: u32, length: u32) {
        self.usable.remove(start, length);
        let before = self.free.run_with(start);
        self.free.remove(start, length);
        self.free_log.extend(before.map(|(start, _)| start));
        self.free_log.extend([start, start + length]);
        self.changed = true;
    }

    /// Gives back a run of data. It can be given out again when this transaction is durable.
    pub fn release(&mut self, start: u32, length: u32) {
        self.free.insert(start, length);
        self.free_log.extend(self.free.run_with(start).map(|(start, _)| start));
        self.free_log.extend([start, start + length]);
        self.pending.push((start, length));
        self.changed = true;
    }

    /// The transaction being committed is the running one from now on, and a new one runs.
    pub fn seal(&mut self) {
        self.committing.append(&mut self.pending);
        self.committing_inodes.append(&mut self.pending_inodes);
        self.clusters.seal();
    }

    /// The committed transaction is durable: what it freed can be given out.
    pub fn durable(&mut self) {
        for (start, length) in self.committing.drain(..) {
            self.usable.insert(start, length);
        }
        self.clusters.durable();
        for (start, bits) in self.committing_inodes.drain(..) {
            if let Some(chunk) = self.chunks.get_mut(&start) {
                chunk.freed &= !bits;
                if !core::mem::replace(&mut chunk.roomy, true) {
                    self.roomy.push(start);
                }
            }
        }
    }

    /// Says that a file owns a run from now on, or no longer.
    pub fn log_rmap(&mut self, record: Rmap, present: bool) {
        self.rmap_log.insert(record.key(), present.then_some(record));
        self.changed = true;
    }

    /// A number for a new inode, and the block of its slot if that has never been used before.
    pub fn allocate_inode(&mut self, pages: &Pages, context: &Context) -> Result<u64, SpaceError> {
        loop {
            let Some(&start) = self.roomy.last() else {
                let start = self.allocate_metadata(CHUNK_BLOCKS, context)?;
                for block in start..start + CHUNK_BLOCKS {
                    self.new_page(pages, context, block);
                }
                let mut chunk = Chunk { roomy: true, ..Chunk::default() };
                chunk.note(start, &mut self.changed_chunks);
                self.chunks.insert(start, chunk);
                self.roomy.push(start);
                continue;
            };
            if let Some(chunk) = self.chunks.get_mut(&start) {
                let slot = (!(chunk.used | chunk.freed)).trailing_zeros();
                if slot < CHUNK_INODES {
                    chunk.used |= 1 << slot;
                    chunk.note(start, &mut self.changed_chunks);
                    self.header.inodes_used = (self.header.inodes_used.get() + 1).into();
                    self.changed = true;
                    let block = context.geometry.volume_block(self.number, start)
                        + u64::from(slot) / INODES_PER_BLOCK;
                    return Ok(Geometry::inode_number(block, u64::from(slot) % INODES_PER_BLOCK));
                }
                chunk.roomy = false;
            }
            self.roomy.pop();
        }
    }

    /// Chunk and bit of an inode of this group.
    fn chunk_of(&mut self, inode: u64, context: &Context) -> Option<(u32, u32)> {
        let place = context.geometry.locate(inode / INODES_PER_BLOCK)?;
        let start = place.block - place.block % CHUNK_BLOCKS;
        let slot = (place.block % CHUNK_BLOCKS) * 8 + u32::try_from(inode % INODES_PER_BLOCK).ok()?;
        self.chunks.contains_key(&start).then_some((start, slot))
    }

    /// Whether an inode of this group is in use.
    pub fn inode_in_use(&mut self, inode: u64, context: &Context) -> bool {
        self.chunk_of(inode, context)
            .and_then(|(start, slot)| Some(self.chunks.get(&start)?.used >> slot & 1 != 0))
            .unwrap_or(false)
    }

    /// Frees an inode of this group.
    pub fn free_inode(&mut self, inode: u64, context: &Context) {
        self.set_orphan(inode, false, context);
        let Some((start, slot)) = self.chunk_of(inode, context) else { return };
        if let Some(chunk) = self.chunks.get_mut(&start)
            && chunk.used >> slot & 1 != 0
        {
            chunk.used &= !(1 << slot);
            chunk.freed |= 1 << slot;
            chunk.note(start, &mut self.changed_chunks);
            match self.pending_inodes.last_mut() {
                Some((last, bits)) if *last == start => *bits |= 1 << slot,
                _ => self.pending_inodes.push((start, 1 << slot)),
            }
            self.header.inodes_used = self.header.inodes_used.get().saturating_sub(1).into();
            self.changed = true;
        }
    }

    /// Says whether an inode of this group is an orphan.
    pub fn set_orphan(&mut self, inode: u64, orphan: bool, context: &Context) {
        let Some((start, slot)) = self.chunk_of(inode, context) else { return };
        if let Some(chunk) = self.chunks.get_mut(&start)
            && (chunk.orphans >> slot & 1 != 0) != orphan
        {
            chunk.orphans ^= 1 << slot;
            chunk.note(start, &mut self.changed_chunks);
            let count = self.header.orphans.get();
            self.header.orphans = if orphan { count + 1 } else { count.saturating_sub(1) }.into();
            self.changed = true;
        }
    }

    /// Numbers of all orphans of this group.
    pub fn orphans(&self, context: &Context) -> Vec<u64> {
        let bits = |mask: u64| (0..u64::from(CHUNK_INODES)).filter(move |slot| mask >> slot & 1 != 0);
        let number = |start: u32, slot: u64| {
            let block = context.geometry.volume_block(self.number, start) + slot / INODES_PER_BLOCK;
            Geometry::inode_number(block, slot % INODES_PER_BLOCK)
        };
        let chunks = self.chunks.iter();
        chunks.flat_map(|(start, chunk)| bits(chunk.orphans).map(move |slot| number(*start, slot))).collect()
    }

    /// Blocks of a cluster for metadata, aligned to their number, which is a power of two. Makes a new cluster when the
    /// old ones are full.
    pub fn allocate_metadata(&mut self, blocks: u32, context: &Context) -> Result<u32, SpaceError> {
        loop {
            if let Some(start) = self.clusters.allocate(blocks) {
                self.changed = true;
                return Ok(start);
            }
            self.add_cluster(context)?;
        }
    }

    /// Gives back a block of a cluster.
    pub fn free_metadata(&mut self, block: u32) {
        self.clusters.free(block);
        self.changed = true;
    }

    fn add_cluster(&mut self, context: &Context) -> Result<(), SpaceError> {
        let size = self.clusters.cluster_blocks();
        let start = self.usable.find_aligned_unit(size).ok_or(SpaceError::Full)?;
        self.take(start, size);
        let before = self.clusters.run_around(start);
        self.clusters.add(start);
        if context.rmap {
            for (start, length) in before {
                self.log_rmap(cluster_rmap(start, length), false);
            }
            if let Some((start, length)) = self.clusters.run_with(start) {
                self.log_rmap(cluster_rmap(start, length), true);
            }
        }
        Ok(())
    }

    /// Makes the page of a metadata block that was just given out.
    #[allow(unsafe_code)]
    pub(crate) fn new_page(&self, pages: &Pages, context: &Context, block: u32) {
        // SAFETY: the block was just given out under this group's lock, so nobody else knows of it yet.
        unsafe { pages.fresh(context.geometry.volume_block(self.number, block)) };
    }
}

fn cluster_rmap(start: u32, length: u32) -> Rmap {
    Rmap {
        start: start.into(),
        length: length.into(),
        owner: Owner::CLUSTER,
        offset: 0.into(),
        flags: ExtentFlags::new(0),
    }
}
