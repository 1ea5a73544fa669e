//! What a tree must know of its records, and nothing else does.
//!
//! The trees ([`crate::tree`]) hold fixed-size records in the order of their [`Key`]. A record covers the positions
//! from its key's `start` up to its `end`; in all trees but the reverse map no two records of a tree overlap.

use crate::declare::OnDisk;

/// The order of records. Trees whose records have no owner or offset leave those 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// First position the record covers.
    pub start: u64,
    /// Owner, to order records that start together.
    pub owner: u64,
    /// Offset in the owner, to order further.
    pub offset: u64,
}

impl Key {
    /// The first of all keys at `start`.
    pub const fn at(start: u64) -> Self {
        Key { start, owner: 0, offset: 0 }
    }

    /// Below every key.
    pub const MIN: Self = Self::at(0);
    /// Above or equal to every key.
    pub const MAX: Self = Key { start: u64::MAX, owner: u64::MAX, offset: u64::MAX };
}

/// What is wrong with a record by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// Covers nothing.
    #[error("covers no block")]
    Empty,
    /// Reaches past the end of its space.
    #[error("ends at {end}, past {limit}")]
    PastEnd {
        /// One past its last position.
        end: u64,
        /// One past the last there is.
        limit: u64,
    },
    /// Starts where such a record cannot.
    #[error("starts at {start}, not a multiple of {unit}")]
    Misaligned {
        /// Its start.
        start: u64,
        /// What it must be a multiple of.
        unit: u64,
    },
    /// Crosses from one group into the next.
    #[error("crosses a group's border")]
    CrossesGroups,
    /// Has flags nobody defined.
    #[error("has unknown flags {0:#x}")]
    Flags(u32),
    /// A count that cannot be.
    #[error("has an impossible count")]
    Count,
    /// An owner that cannot be.
    #[error("has an impossible owner {0}")]
    Owner(u64),
    /// Reserved bytes are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
}

/// The space that the records of one tree live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Positions there are: blocks of the group, or of the volume for extents.
    pub blocks: u64,
    /// Blocks of a group (a group's own trees do not use it).
    pub group_blocks: u64,
    /// Blocks of a metadata cluster.
    pub cluster_blocks: u64,
}

/// A record of a tree: fixed size, ordered, checkable alone.
pub trait Record: OnDisk {
    /// Whether records of one tree may overlap.
    const OVERLAPS: bool = false;

    /// Its place in the order.
    fn key(&self) -> Key;

    /// One past the last position it covers; saturates.
    fn end(&self) -> u64;

    /// Whether it can stand by itself.
    fn check(&self, space: &Space) -> Result<(), RecordFault>;

    /// Both as one record, when `next` goes on exactly where this one ends. A tree in maximal form holds no such pair.
    fn merged(&self, next: &Self) -> Option<Self>;
}

/// A run of blocks `start..end` within `0..limit`, not empty.
pub(crate) fn check_run(start: u64, length: u64, limit: u64) -> Result<(), RecordFault> {
    let end = start.saturating_add(length);
    if length == 0 {
        Err(RecordFault::Empty)
    } else if end > limit {
        Err(RecordFault::PastEnd { end, limit })
    } else {
        Ok(())
    }
}
