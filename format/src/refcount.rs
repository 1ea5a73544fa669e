//! Reference counts: a group's tree of the runs that two or more files share.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{Count32, GroupBlock, Run};

on_disk! {
    /// A run of blocks with the same number of owners, 2 or more.
    pub struct Refcount = 12 {
        /// First block.
        pub start: GroupBlock,
        /// Blocks, at least 1.
        pub length: Run,
        /// Data records of the reverse map over each of its blocks, at least 2.
        pub count: Count32,
    }
}

impl Record for Refcount {
    fn key(&self) -> Key {
        Key::at(self.start.get().into())
    }

    fn end(&self) -> u64 {
        u64::from(self.start.get()) + u64::from(self.length.get())
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        check_run(self.start.get().into(), self.length.get().into(), space.blocks)?;
        if self.count.get() < 2 { Err(RecordFault::Count) } else { Ok(()) }
    }

    fn merged(&self, next: &Self) -> Option<Self> {
        let length = self.length.get().checked_add(next.length.get())?;
        (self.end() == next.key().start && self.count == next.count)
            .then_some(Refcount { length: length.into(), ..*self })
    }
}
