//! Which tree a node is of.

use paxfs_format::group::GroupTree;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::inode::Which;

/// A tree of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TreeName {
    /// One of a group's.
    Group(u32, GroupTree),
    /// A fork of an inode.
    Fork(u64, Which),
}

impl TreeName {
    /// The tree that a block says it is a node of; `None` when it is no node.
    pub fn of(header: &Header) -> Option<Self> {
        let owner = header.owner.get();
        match header.kind {
            BlockKind::EXTENTS | BlockKind::DIRECTORY_INDEX => Some(TreeName::Fork(owner, Which::Data)),
            BlockKind::ATTRIBUTE_INDEX => Some(TreeName::Fork(owner, Which::Attributes)),
            kind => {
                let tree = GroupTree::ALL.into_iter().find(|tree| tree.kind() == kind)?;
                u32::try_from(owner).ok().map(|group| TreeName::Group(group, tree))
            }
        }
    }
}
