//! The B-tree: one implementation for every kind of record.
//!
//! ```text
//!   level 2                      ┌───────────┐                 branch entry: key of the first record below,
//!                                │ 0     500 │                 highest end of all records below, child
//!                                └─┬───────┬─┘
//!   level 1             ┌──────────┴┐     ┌┴──────────┐
//!                       │ 0     200 │     │ 500   700 │
//!                       └─┬───────┬─┘     └─┬───────┬─┘
//!   level 0, leaves     0…199  200…499   500…699  700…        records, ascending
//! ```
//!
//! Invariants, besides those of [`node`](crate::node) and of the records:
//!
//! 1. A node that is there is not empty; the empty tree has no node: its root is block 0 at height 0.
//! 2. A child is one level below its parent, and has no other parent.
//! 3. A child's first key is the key of its branch entry; all its keys are below the next entry's key.
//! 4. Keys ascend strictly, within a node and from each to the next.
//! 5. A branch entry's `high` is the highest end of the records below it.
//! 6. Records overlap only where [`Record::OVERLAPS`] allows it; no record could be merged with the one before it.
//!
//! [`Tree::node`] and the cursors check each node by itself; [`Tree::walk`] checks all of it. [`BulkLoader`] makes a tree
//! from records in order. Insertion and deletion belong to the engine, and not here: this crate changes nothing.
//!
//! Must not know what a record means.

mod bulk;
mod cursor;
mod fault;
mod order;
mod place;
mod walk;

pub use bulk::{BulkLoader, NodeSink, nodes_needed};
pub use cursor::{Around, At, Cursor, Overlapping};
pub use fault::{Defect, Missing, NodeFault, TreeError, TreeFault};
pub use place::{NodePlace, Place, RecordPlace};
pub use walk::{Visitor, Walked};

use crate::blocks::Blocks;
use crate::group::TreeRoot;
use crate::header::{BlockKind, Expected, Header, HeaderFault, Seed};
use crate::node::{Branch, MAX_BRANCHES, MAX_HEIGHT, NODE_BODY, Node, max_records};
use crate::record::{Record, Space};
use core::marker::PhantomData;

/// A tree to read: where it begins, and what its nodes must say of themselves.
#[derive(Debug, Clone, Copy)]
pub struct Tree<R: Record> {
    /// Kind of its nodes.
    pub kind: BlockKind,
    /// Owner of its nodes: the group or the inode.
    pub owner: u64,
    /// Block of the root node; 0 for the empty tree.
    pub root: u64,
    /// Levels; 0 for the empty tree.
    pub height: u32,
    /// The space its records live in.
    pub space: Space,
    /// Where the volume's checksums start.
    pub seed: Seed,
    record: PhantomData<R>,
}

impl<R: Record> Tree<R> {
    /// Most records in a leaf.
    pub const PER_LEAF: usize = max_records::<R>();

    /// The tree at `root`. Nothing is read yet, and nothing of the root is believed yet.
    pub fn new(kind: BlockKind, owner: u64, root: &TreeRoot, space: Space, seed: Seed) -> Self {
        let (root, height) = (root.block.get(), root.height.get());
        Tree { kind, owner, root, height, space, seed, record: PhantomData }
    }

    /// What is wrong with the root by itself.
    fn root_defect(&self) -> Option<Defect> {
        let wrong = self.height > MAX_HEIGHT || (self.root == 0) != (self.height == 0);
        wrong.then_some(Defect::Root { block: self.root, height: self.height })
    }

    /// Level of the root; `None` for the empty tree, and for a root that cannot be.
    fn top(&self) -> Option<u32> {
        if self.root_defect().is_some() { None } else { self.height.checked_sub(1) }
    }

    /// The node in `block`, all checked that can be checked of it alone. What it says is then what was written there,
    /// for this tree and this place; whether it agrees with its neighbours, only [`Tree::walk`] knows.
    pub fn node<'b, B: Blocks>(&self, blocks: &'b B, block: u64, level: u32) -> Result<&'b Node, NodeFault> {
        let bytes = blocks.block(block)?;
        let expected = Expected { kind: self.kind, place: block, owner: self.owner };
        // A checksum that fits proves that the medium served every byte, so only a failed check has to ask.
        let verified = blocks.verified(block);
        let header = match verified {
            true => Header::of(bytes).ok_or(HeaderFault::Magic([0; 4])),
            false => self.seed.verify(bytes),
        };
        let header = match header.and_then(|header| expected.check(header).map(|()| header)) {
            Ok(header) => header,
            Err(_) if blocks.failed(block) => return Err(NodeFault::MediumFailed),
            Err(fault) => return Err(fault.into()),
        };
        let found = u32::from(header.level.get());
        if found != level {
            return Err(NodeFault::Level { found, expected: level });
        }
        let (size, max) = match level {
            0 => (size_of::<R>(), Self::PER_LEAF),
            _ => (size_of::<Branch>(), MAX_BRANCHES),
        };
        let count = usize::try_from(header.count.get()).unwrap_or(usize::MAX);
        if count == 0 {
            return Err(NodeFault::Empty);
        }
        let too_many = NodeFault::Count { found: header.count.get(), max };
        let Some(used) = count.checked_mul(size).filter(|used| *used <= NODE_BODY) else {
            return Err(too_many);
        };
        let node = Node::of(bytes).ok_or(too_many)?;
        if verified {
            return Ok(node);
        }
        let tail = node.body.0.get(used..).unwrap_or_default();
        // Not `any`: without an early exit this is vector code, and a sound tail has to be read to its end anyway.
        if tail.iter().fold(0, |all, byte| all | byte) != 0 {
            return Err(NodeFault::Tail);
        }
        Ok(node)
    }
}
