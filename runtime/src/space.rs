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
//! 4. A block in `bad` is neither in `usable` nor given out of a cluster.
//!
//! Lock order: a group's lock is the last to be taken; of two groups the lower first.

mod anew;
mod bad;
mod chunks;
mod clusters;
mod data;
mod log;
mod metadata;
mod owners;
mod refcounts;
mod runs;
mod settle;

pub use chunks::Chunk;
pub use clusters::Clusters;
pub use data::{Fit, Request};
pub use refcounts::Counted;
pub(crate) use refcounts::overlaid;
pub use runs::{Places, Runs};
pub(crate) use settle::verified_node;

use crate::pages::Pages;
use log::Log;
use paxfs_format::chunk::CHUNK_BLOCKS;
use paxfs_format::geometry::Geometry;
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::Seed;
use paxfs_format::record::{Key, Record};
use paxfs_format::rmap::Rmap;
use paxfs_format::tree::{Defect, NodeFault, Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};

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
    /// A block is given back that is not in use as what it is given back. Some structure on the medium is wrong.
    #[error("group {group}: block {block} is given back and not in use; run fsck.paxfs")]
    NotInUse {
        /// The group.
        group: u32,
        /// The block in the group.
        block: u32,
    },
    /// A node is lost: the medium failed there.
    #[error("group {group}: the {tree} tree is lost: the medium failed at block {block}")]
    Lost {
        /// The group.
        group: u32,
        /// The tree.
        tree: &'static str,
        /// The node.
        block: u64,
    },
}

impl SpaceError {
    /// A node of a group's tree cannot be used.
    fn node(group: u32, tree: GroupTree, error: &TreeError) -> Self {
        let (tree, block) = (tree.name(), error.block);
        match error.fault {
            Defect::Node(NodeFault::MediumFailed) => SpaceError::Lost { group, tree, block },
            _ => SpaceError::Broken { group, tree, block },
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
    /// Blocks that one file owns alone, because another ceased to own them in the running transaction, and in the one being
    /// committed.
    loosened: Places,
    loosened_committing: Places,
    /// Blocks that one file owns alone on the medium, and others as well in the running transaction.
    tightened: Places,
    /// How many entries of what the reverse map has yet to follow were looked through for owners of blocks.
    looked_through: u64,
    /// Blocks with media errors, and those of them that did not heal.
    bad: Places,
    hopeless: Places,
    /// Whether their tree could not be read.
    pub has_lost_bad: bool,
    clusters: Clusters,
    chunks: BTreeMap<u32, Chunk>,
    /// Chunks that may have an inode to give out.
    roomy: Vec<u32>,
    /// Chunks that the inode index has yet to follow.
    chunk_log: BTreeSet<u32>,
    /// Chunk and bit of each inode freed by the running transaction, and by the one being committed.
    inodes_pending: Vec<(u32, u32)>,
    inodes_committing: Vec<(u32, u32)>,
    /// Blocks of other groups' clusters that nodes of this group's trees gave back; the commit hands them on.
    foreign: Vec<u64>,
    /// Pages in other groups' clusters for nodes of this group's trees, when its own are full.
    stock: Vec<u64>,
    /// Records of the reverse map that are to be there (or not) after the transaction, by their keys.
    rmap_log: Log<Key, Option<Rmap>>,
    /// Starts of records of the free-space tree, and of the tree of bad ranges, that may have changed.
    free_log: Log<u32, ()>,
    bad_log: Log<u32, ()>,
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
            loosened: Places::default(),
            loosened_committing: Places::default(),
            tightened: Places::default(),
            looked_through: 0,
            bad: Places::default(),
            hopeless: Places::default(),
            has_lost_bad: false,
            clusters: Clusters::new(block_u32(context.geometry.cluster_blocks)),
            chunks: BTreeMap::new(),
            roomy: Vec::new(),
            chunk_log: BTreeSet::new(),
            inodes_pending: Vec::new(),
            inodes_committing: Vec::new(),
            foreign: Vec::new(),
            stock: Vec::new(),
            rmap_log: Log::default(),
            free_log: Log::default(),
            bad_log: Log::default(),
            packed: 0,
            changed: false,
        };
        let mut free = Runs::default();
        group.each::<paxfs_format::free::Free>(GroupTree::Free, pages, context, |record| {
            free.insert(record.start.get(), record.length.get());
            true
        })?;
        let mut clusters = Clusters::new(block_u32(context.geometry.cluster_blocks));
        group.each::<paxfs_format::cluster::Cluster>(GroupTree::Clusters, pages, context, |record| {
            clusters.load(record);
            !free.overlaps(record.start.get(), clusters.cluster_blocks())
        })?;
        let mut chunks = BTreeMap::new();
        group.each::<paxfs_format::chunk::Chunk>(GroupTree::Inodes, pages, context, |record| {
            let start = record.start.get();
            let chunk = Chunk { used: record.used.get(), orphans: record.orphans.get(), ..Chunk::default() };
            chunks.insert(start, chunk);
            clusters.are_used(start..start + CHUNK_BLOCKS)
        })?;
        group.roomy =
            chunks.iter().filter(|(_, chunk)| chunk.used != u64::MAX).map(|(start, _)| *start).collect();
        // Counted here, so that nobody counts on what the header says.
        let count = |bits: fn(&Chunk) -> u64| -> u64 {
            chunks.values().map(|chunk| u64::from(bits(chunk).count_ones())).sum()
        };
        group.header.inodes_used = count(|chunk| chunk.used).into();
        group.header.orphans = count(|chunk| chunk.orphans).into();
        group.usable = free.clone();
        (group.free, group.clusters, group.chunks) = (free, clusters, chunks);
        let mut bad = Places::default();
        let read = group.each::<paxfs_format::bad::Bad>(GroupTree::Bad, pages, context, |record| {
            bad.cover(record.start.get(), record.length.get());
            true
        });
        match read {
            // What it said is found out again.
            Err(SpaceError::Lost { .. }) => group.has_lost_bad = true,
            read => read?,
        }
        bad.iter().for_each(|(start, length)| group.keep_back(start, length));
        group.bad = bad;
        Ok(group)
    }

    fn tree<R: Record>(&self, tree: GroupTree, context: &Context) -> Tree<R> {
        let space = context.geometry.group_space(self.number);
        Tree::new(tree.kind(), self.number.into(), self.header.root(tree), space, context.seed)
    }

    /// Shows each record of a tree whose records do not overlap; `see` says whether it can be.
    fn each<R: Record>(
        &self,
        tree: GroupTree,
        pages: &Pages,
        context: &Context,
        mut see: impl FnMut(&R) -> bool,
    ) -> Result<(), SpaceError> {
        let mut end = 0;
        for at in self.tree::<R>(tree, context).range(pages, Key::MIN) {
            let at = at.map_err(|error| SpaceError::node(self.number, tree, &error))?;
            if !R::OVERLAPS && at.record.key().start < end || !see(&at.record) {
                return Err(SpaceError::Broken { group: self.number, tree: tree.name(), block: at.leaf });
            }
            end = at.record.end();
        }
        Ok(())
    }

    /// Blocks free for the running transaction, those in clusters included.
    pub fn free_blocks(&self) -> u64 {
        self.free.blocks() + u64::from(self.clusters.free_blocks())
    }

    /// Free blocks in whole, aligned 2 MiB runs.
    pub fn huge_blocks(&self) -> u64 {
        self.free.huge_blocks()
    }

    /// The transaction being committed is the running one from now on, and a new one runs.
    pub fn seal(&mut self) {
        self.committing.append(&mut self.pending);
        self.loosened_committing = core::mem::take(&mut self.loosened);
        self.tightened = Places::default();
        self.looked_through = 0;
        self.inodes_committing.append(&mut self.inodes_pending);
        self.clusters.seal();
    }

    /// The committed transaction is durable: what it freed can be given out.
    pub fn durable(&mut self) {
        for (start, length) in core::mem::take(&mut self.committing) {
            self.make_usable(start, length);
        }
        self.loosened_committing = Places::default();
        self.clusters.durable(&self.bad);
        for (start, slot) in core::mem::take(&mut self.inodes_committing) {
            // A chunk whose last inode went is gone.
            if let Some(chunk) = self.chunks.get_mut(&start) {
                chunk.held &= !(1 << slot);
                if !core::mem::replace(&mut chunk.roomy, true) {
                    self.roomy.push(start);
                }
            }
        }
    }

    /// Says that a file owns a run from now on, or no longer.
    pub fn log_rmap(&mut self, record: Rmap, present: bool) {
        self.rmap_log.say(record.key(), present.then_some(record));
        self.changed = true;
    }
}
