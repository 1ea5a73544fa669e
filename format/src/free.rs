//! Free space: a group's tree of runs that nobody owns.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{GroupBlock, Run};

on_disk! {
    /// A run of free blocks.
    pub struct Free = 8 {
        /// First block.
        pub start: GroupBlock,
        /// Blocks, at least 1.
        pub length: Run,
    }
}

impl Record for Free {
    fn key(&self) -> Key {
        Key::at(self.start.get().into())
    }

    fn end(&self) -> u64 {
        u64::from(self.start.get()) + u64::from(self.length.get())
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        check_run(self.start.get().into(), self.length.get().into(), space.blocks)
    }

    fn merged(&self, next: &Self) -> Option<Self> {
        let length = self.length.get().checked_add(next.length.get())?;
        (self.end() == next.key().start).then_some(Free { start: self.start, length: length.into() })
    }
}
