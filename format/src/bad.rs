//! Bad ranges: a group's tree of runs whose medium has failed, whoever owns them.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{GroupBlock, Run};

on_disk! {
    /// A run of blocks with media errors. Reads of file data there fail with EIO until it is overwritten or freed.
    pub struct Bad = 8 {
        /// First block.
        pub start: GroupBlock,
        /// Blocks, at least 1.
        pub length: Run,
    }
}

impl Record for Bad {
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
        (self.end() == next.key().start).then_some(Bad { start: self.start, length: length.into() })
    }
}
