//! Groups: the head of each, and the trees it roots.

use crate::header::{BlockKind, Header};
use crate::on_disk;
use crate::units::{BlockCount, BlockNo, Count32, Count64, GroupNo, Reserved};

on_disk! {
    /// Root of a tree.
    pub struct TreeRoot = 24 {
        /// Its root node; 0 for an empty tree.
        pub block: BlockNo,
        /// Levels, 1 for a root that is a leaf; 0 for an empty tree.
        pub height: Count32,
        /// Nodes.
        pub nodes: Count32,
        /// Records in its leaves.
        pub records: Count64,
    }
}

on_disk! {
    /// Header of a group: block 1 of the group. Its copy is block 2 of the next group (of group 0 for the last).
    pub struct GroupHeader = 4096 {
        /// Kind group, place its block, owner the group's number.
        pub header: Header,
        /// The group's number.
        pub group: GroupNo,
        /// Zero.
        pub reserved: Reserved<4>,
        /// Its first block.
        pub start: BlockNo,
        /// Its blocks.
        pub blocks: BlockCount,
        /// Blocks in the free-space tree.
        pub free_blocks: BlockCount,
        /// Blocks not in use within its metadata clusters.
        pub cluster_free: BlockCount,
        /// Inodes in use.
        pub inodes_used: Count64,
        /// Inodes in use without a name.
        pub orphans: Count64,
        /// Free space.
        pub free: TreeRoot,
        /// Reference counts.
        pub refcount: TreeRoot,
        /// Reverse map.
        pub rmap: TreeRoot,
        /// Inode index.
        pub inodes: TreeRoot,
        /// Metadata clusters.
        pub clusters: TreeRoot,
        /// Bad ranges.
        pub bad: TreeRoot,
        /// Zero.
        pub reserved_2: Reserved<3856>,
    }
}

/// A group's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupTree {
    /// [`crate::free::Free`]
    Free,
    /// [`crate::refcount::Refcount`]
    Refcount,
    /// [`crate::rmap::Rmap`]
    Rmap,
    /// [`crate::chunk::Chunk`]
    Inodes,
    /// [`crate::cluster::Cluster`]
    Clusters,
    /// [`crate::bad::Bad`]
    Bad,
}

impl GroupTree {
    /// All of them, in the order of the header.
    pub const ALL: [Self; 6] =
        [Self::Free, Self::Refcount, Self::Rmap, Self::Inodes, Self::Clusters, Self::Bad];

    /// Kind of its nodes.
    pub const fn kind(self) -> BlockKind {
        match self {
            Self::Free => BlockKind::FREE,
            Self::Refcount => BlockKind::REFCOUNT,
            Self::Rmap => BlockKind::RMAP,
            Self::Inodes => BlockKind::INODES,
            Self::Clusters => BlockKind::CLUSTERS,
            Self::Bad => BlockKind::BAD,
        }
    }

    /// Its name in paths and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Refcount => "refcount",
            Self::Rmap => "rmap",
            Self::Inodes => "inodes",
            Self::Clusters => "clusters",
            Self::Bad => "bad",
        }
    }

    /// The tree of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| tree.name() == name)
    }
}

impl GroupHeader {
    /// Root of one of its trees.
    pub fn root(&self, tree: GroupTree) -> &TreeRoot {
        match tree {
            GroupTree::Free => &self.free,
            GroupTree::Refcount => &self.refcount,
            GroupTree::Rmap => &self.rmap,
            GroupTree::Inodes => &self.inodes,
            GroupTree::Clusters => &self.clusters,
            GroupTree::Bad => &self.bad,
        }
    }

    /// Root of one of its trees, to change.
    pub fn root_mut(&mut self, tree: GroupTree) -> &mut TreeRoot {
        match tree {
            GroupTree::Free => &mut self.free,
            GroupTree::Refcount => &mut self.refcount,
            GroupTree::Rmap => &mut self.rmap,
            GroupTree::Inodes => &mut self.inodes,
            GroupTree::Clusters => &mut self.clusters,
            GroupTree::Bad => &mut self.bad,
        }
    }
}
