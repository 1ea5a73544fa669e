//! What can be wrong with a tree, and where.
//!
//! *What*: [`NodeFault`] of one node by itself, [`Defect`] of a tree. *Where*: [`TreeError`] for who came down a path,
//! [`TreeFault`] for who walked all of it and can tell the [`Place`].

use super::Place;
use crate::device::MediumError;
use crate::header::HeaderFault;
use crate::record::{Key, RecordFault};
use core::fmt;
use core::ops::Range;

/// What is wrong with a node by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// There is no such block.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The medium failed while the block was read.
    #[error("the medium failed")]
    MediumFailed,
    /// Its header or checksum is wrong.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A node of this tree, but of another level.
    #[error("is of level {found}, expected {expected}")]
    Level {
        /// As stored.
        found: u32,
        /// One below its parent.
        expected: u32,
    },
    /// Claims more records than fit.
    #[error("claims {found} records, {max} fit")]
    Count {
        /// As stored.
        found: u32,
        /// Most there can be.
        max: usize,
    },
    /// Holds no record.
    #[error("holds no record")]
    Empty,
    /// Bytes after its last record are not zero.
    #[error("bytes after the last record are not zero")]
    Tail,
}

/// What a cursor met instead of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {block}, a tree node of level {level}: {fault}")]
pub struct TreeError {
    /// Its volume block.
    pub block: u64,
    /// Its level, as its parent has it.
    pub level: u32,
    /// What is wrong.
    pub fault: Defect,
}

/// What is wrong with a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The root cannot be: too high, or a block without a height, or a height without a block.
    #[error("the tree's root is block {block} at height {height}")]
    Root {
        /// As stored.
        block: u64,
        /// As stored.
        height: u32,
    },
    /// A node is wrong by itself. What is below it is not known.
    #[error(transparent)]
    Node(#[from] NodeFault),
    /// A child, or the root node, past the end of the device: the pointer to it is what can be looked at.
    #[error("leads to block {block}, past the end of the device")]
    Nowhere {
        /// Where it leads.
        block: u64,
        /// The level of what it should lead to.
        level: u32,
    },
    /// A branch node has a second parent.
    #[error("is reached a second time")]
    Twice,
    /// A node does not begin with the key its parent has for it.
    #[error("begins with key {}, its parent says {}", Shown(*.found), Shown(*.expected))]
    FirstKey {
        /// Key of its first record or entry.
        found: Key,
        /// Key of its entry in the parent.
        expected: Key,
    },
    /// A key, or several in a row, are out of line with those around them. This is the first of them.
    #[error("key {} is out of order", Shown(*.0))]
    Order(Key),
    /// A branch entry's highest end is not that of the records below.
    #[error("says that records below end at {found}, they end at {expected}")]
    High {
        /// As stored.
        found: u64,
        /// Highest end of the records below.
        expected: u64,
    },
    /// A record is wrong by itself.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// A record begins before the one before it ends, in a tree where they may not.
    #[error("overlaps its neighbour: the first of both ends at {end}, the second starts at {start}")]
    Overlap {
        /// End of the first of both.
        end: u64,
        /// Start of the second.
        start: u64,
    },
    /// A record goes on exactly where the one before it ends: they should be one.
    #[error("should be one with the record before it")]
    Mergeable,
}

/// Records that a walk could not reach, as far as branch nodes tell: they are not known, not absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// None of their keys is below this.
    pub low: Key,
    /// None of their keys is this or above.
    pub bound: Key,
    /// None of them ends past this.
    pub high: u64,
}

impl Missing {
    /// It may be any record there is.
    pub const ANY: Self = Missing { low: Key::MIN, bound: Key::MAX, high: u64::MAX };

    /// Whether a record of that key may be among them.
    pub fn has(&self, key: Key) -> bool {
        self.low <= key && key < self.bound
    }

    /// The positions that they may cover.
    pub fn positions(&self) -> Range<u64> {
        self.low.start..self.high.max(self.low.start)
    }
}

/// One finding of a walk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct TreeFault {
    /// Where.
    pub at: Place,
    /// What.
    pub what: Defect,
}

/// A key as messages show it: the parts it has.
struct Shown(Key);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { start, owner, offset } = self.0;
        match (owner, offset) {
            (0, 0) => write!(f, "{start}"),
            _ => write!(f, "{start} of owner {owner} at {offset}"),
        }
    }
}
