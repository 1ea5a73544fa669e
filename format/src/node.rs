//! A node of a tree: one block, a header and fixed-size records (a leaf) or branch entries (above).

use crate::header::Header;
use crate::on_disk;
use crate::record::{Key, Record};
use crate::units::{BlockNo, KeyPart, Opaque};
use zerocopy::FromBytes;

/// Bytes of records in a node.
pub const NODE_BODY: usize = 4056;
/// Most levels a tree can have. With the smallest fan-out that is more than any volume has blocks.
pub const MAX_HEIGHT: u32 = 12;

on_disk! {
    /// A child of a branch node. The key is that of the first record below it; parts that the tree's records do not
    /// have are 0.
    pub struct Branch = 40 {
        /// Start of the first record below.
        pub start: KeyPart,
        /// Owner of the first record below.
        pub owner: KeyPart,
        /// Offset of the first record below.
        pub offset: KeyPart,
        /// Highest end of all records below: one past the last position any of them covers.
        pub high: KeyPart,
        /// The child, a volume block.
        pub child: BlockNo,
    }
}

on_disk! {
    /// A node of a tree: `count` records of the tree's kind when `level` is 0, else branch entries; then zeros.
    pub struct Node = 4096 {
        /// Kind the tree's, owner the group or inode.
        pub header: Header,
        /// The records.
        pub body: Opaque<4056>,
    }
}

/// Most branch entries in a node.
pub const MAX_BRANCHES: usize = NODE_BODY / size_of::<Branch>();

/// Most records of type `R` in a leaf.
pub const fn max_records<R>() -> usize {
    NODE_BODY / size_of::<R>()
}

impl Branch {
    /// The entry for a child.
    pub fn new(key: Key, high: u64, child: u64) -> Self {
        Branch {
            start: key.start.into(),
            owner: key.owner.into(),
            offset: key.offset.into(),
            high: high.into(),
            child: child.into(),
        }
    }

    /// Key of the first record below.
    pub fn key(&self) -> Key {
        Key { start: self.start.get(), owner: self.owner.get(), offset: self.offset.get() }
    }
}

impl Node {
    /// The node that fills a block.
    pub fn of(block: &[u8; 4096]) -> Option<&Node> {
        Node::ref_from_bytes(block).ok()
    }

    /// Its level, 0 for a leaf.
    pub fn level(&self) -> u32 {
        self.header.level.get().into()
    }

    /// Its records; `None` when it is no leaf or claims more than fit.
    pub fn records<R: Record>(&self) -> Option<&[R]> {
        if self.level() == 0 { self.array::<R>() } else { None }
    }

    /// Its branch entries; `None` when it is a leaf or claims more than fit.
    pub fn branches(&self) -> Option<&[Branch]> {
        if self.level() > 0 { self.array::<Branch>() } else { None }
    }

    /// Its branch entries, to change.
    pub fn branches_mut(&mut self) -> Option<&mut [Branch]> {
        let count = self.branches()?.len();
        <[Branch]>::mut_from_prefix_with_elems(&mut self.body.0, count).ok().map(|(branches, _)| branches)
    }

    fn array<T: FromBytes + zerocopy::Immutable + zerocopy::Unaligned>(&self) -> Option<&[T]> {
        let count = usize::try_from(self.header.count.get()).ok()?;
        if count.checked_mul(size_of::<T>())? > NODE_BODY {
            return None;
        }
        <[T]>::ref_from_prefix_with_elems(&self.body.0, count).ok().map(|(records, _)| records)
    }
}
