//! The reverse map: a group's tree of who owns each block that is not free. Data records overlap where blocks are
//! shared; records of metadata overlap nothing.

use crate::declare::{Style, integer};
use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{FileBlock, GroupBlock, Run};

integer! {
    /// Who owns a run: an inode by number, or one of the roles of metadata.
    Owner(U64, u64) Style::Names(&[
        (u64::MAX, "head"), (u64::MAX - 1, "journal"), (u64::MAX - 2, "checksums"), (u64::MAX - 3, "cluster"),
    ]);
    /// Flags of an extent or of a reverse-map record.
    ExtentFlags(U32, u32) Style::Flags(&[(1, "unwritten")]);
}

impl Owner {
    /// Superblock (or its copy), group header, and the copy of the previous group's header.
    pub const HEAD: Self = Self::new(u64::MAX);
    /// The journal.
    pub const JOURNAL: Self = Self::new(u64::MAX - 1);
    /// The table of data checksums.
    pub const CHECKSUMS: Self = Self::new(u64::MAX - 2);
    /// Metadata clusters.
    pub const CLUSTER: Self = Self::new(u64::MAX - 3);

    /// Whether the owner is an inode; else a role.
    pub fn is_inode(self) -> bool {
        self.get() < Self::CLUSTER.get()
    }
}

impl ExtentFlags {
    /// Allocated, reads as zeros.
    pub const UNWRITTEN: u32 = 1;

    /// Whether the run reads as zeros.
    pub fn is_unwritten(self) -> bool {
        self.get() & Self::UNWRITTEN != 0
    }
}

on_disk! {
    /// A run of blocks and who owns it.
    pub struct Rmap = 28 {
        /// First block.
        pub start: GroupBlock,
        /// Blocks, at least 1.
        pub length: Run,
        /// The inode, or the role of metadata.
        pub owner: Owner,
        /// Where the run is in the file; 0 for metadata.
        pub offset: FileBlock,
        /// As in the extent record.
        pub flags: ExtentFlags,
    }
}

impl Record for Rmap {
    const OVERLAPS: bool = true;

    fn key(&self) -> Key {
        Key { start: self.start.get().into(), owner: self.owner.get(), offset: self.offset.get() }
    }

    fn end(&self) -> u64 {
        u64::from(self.start.get()) + u64::from(self.length.get())
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        check_run(self.start.get().into(), self.length.get().into(), space.blocks)?;
        if self.flags.get() & !ExtentFlags::UNWRITTEN != 0 {
            return Err(RecordFault::Flags(self.flags.get()));
        }
        let metadata = !self.owner.is_inode();
        if self.owner.get() == 0 || (metadata && (self.offset.get() != 0 || self.flags.get() != 0)) {
            return Err(RecordFault::Owner(self.owner.get()));
        }
        check_run(self.offset.get(), self.length.get().into(), crate::geometry::MAX_FILE_BLOCKS)
    }

    fn merged(&self, next: &Self) -> Option<Self> {
        let length = self.length.get().checked_add(next.length.get())?;
        let follows = !self.owner.is_inode()
            || self.offset.get().checked_add(self.length.get().into()) == Some(next.offset.get());
        (self.end() == next.key().start && self.owner == next.owner && self.flags == next.flags && follows)
            .then_some(Rmap { length: length.into(), ..*self })
    }
}
