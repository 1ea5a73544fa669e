//! The index of a directory or attribute fork: which block holds the entries of which cookies.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{BlockNo, Cookie};

on_disk! {
    /// A block of entries. It holds the cookies from this one up to the next record's.
    pub struct Index = 16 {
        /// Lowest cookie that belongs in the block; 0 in the first record.
        pub cookie: Cookie,
        /// The block of entries.
        pub block: BlockNo,
    }
}

impl Record for Index {
    fn key(&self) -> Key {
        Key::at(self.cookie.get())
    }

    fn end(&self) -> u64 {
        self.cookie.get().saturating_add(1)
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        check_run(self.block.get(), 1, space.blocks)
    }

    fn merged(&self, _next: &Self) -> Option<Self> {
        None
    }
}
