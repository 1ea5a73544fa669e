//! Where something is in a tree, and how it is printed: paths from the tree's root on.
//!
//! A node is named by its level and its ordinal: its position among the nodes of its level, from left to right, as a walk
//! meets them. A child that cannot be walked (it is unreadable, or belongs elsewhere) counts as one at its own level;
//! what is below it is not counted. [`Tree::locate`](super::Tree::locate) is the way back from a path to a block.

use core::fmt;

/// A node. Displays as `leaf[ORDINAL]` or `node[LEVEL][ORDINAL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePlace {
    /// Its volume block.
    pub block: u64,
    /// Its level, 0 for a leaf.
    pub level: u32,
    /// Its position among the nodes of its level.
    pub ordinal: u64,
}

/// A record of a leaf, or an entry of a branch node. Displays as the node and `.rec[INDEX]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Its node.
    pub node: NodePlace,
    /// Its position in the node.
    pub index: usize,
}

/// Anything in a tree that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The [`TreeRoot`](crate::group::TreeRoot). Displays as `root`.
    Root,
    /// A node.
    Node(NodePlace),
    /// A record or branch entry.
    Record(RecordPlace),
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            0 => write!(f, "leaf[{}]", self.ordinal),
            level => write!(f, "node[{level}][{}]", self.ordinal),
        }
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.rec[{}]", self.node, self.index)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => f.write_str("root"),
            Place::Node(node) => node.fmt(f),
            Place::Record(record) => record.fmt(f),
        }
    }
}

impl From<NodePlace> for Place {
    fn from(node: NodePlace) -> Self {
        Place::Node(node)
    }
}

impl From<RecordPlace> for Place {
    fn from(record: RecordPlace) -> Self {
        Place::Record(record)
    }
}
