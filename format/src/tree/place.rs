//! Where something is in a tree: paths that are printed, and the way back from a path to a block.
//!
//! A node is named by its level and its ordinal: its position among the nodes of its level, from left to right, as a walk
//! meets them. A child that cannot be read counts as one at its own level; what is below it is not counted.

use super::Tree;
use crate::blocks::Blocks;
use crate::node::Branch;
use crate::record::Record;
use core::fmt;
use std::collections::HashSet;

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

impl<R: Record> Tree<R> {
    /// Block of the node at that level and ordinal, counted as [`Tree::walk`] counts; `None` when there is none. The node
    /// itself is not read, so that a path to a broken one can be followed. Reads the branch nodes above and to its left.
    pub fn locate<B: Blocks>(&self, blocks: &B, level: u32, ordinal: u64) -> Option<u64> {
        let top = self.top()?;
        if level == top {
            return (ordinal == 0).then_some(self.root);
        }
        let mut seen = HashSet::new();
        let mut open = |block, level| -> Option<&[Branch]> {
            let node = self.node(blocks, block, level).ok()?;
            seen.insert(block).then(|| node.branches()).flatten()
        };
        let mut to_skip = ordinal;
        let mut stack = vec![(top, open(self.root, top)?.iter())];
        while let Some((parent, children)) = stack.last_mut() {
            let child_level = parent.saturating_sub(1);
            if child_level == level {
                let count = children.len();
                match usize::try_from(to_skip).ok().and_then(|index| children.nth(index)) {
                    Some(entry) => return Some(entry.child.get()),
                    None => to_skip = to_skip.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)),
                }
                stack.pop();
            } else if let Some(entry) = children.next() {
                if let Some(branches) = open(entry.child.get(), child_level) {
                    stack.push((child_level, branches.iter()));
                }
            } else {
                stack.pop();
            }
        }
        None
    }
}
