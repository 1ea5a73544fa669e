//! Extents: where the blocks of one file are.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::rmap::ExtentFlags;
use crate::units::{BlockNo, FileBlock, Run};

on_disk! {
    /// A run of a file's blocks that is a run on the volume. What no extent covers is a hole.
    pub struct Extent = 24 {
        /// First block in the file.
        pub offset: FileBlock,
        /// First block on the volume. The run stays within one group.
        pub start: BlockNo,
        /// Blocks, at least 1.
        pub length: Run,
        /// Unwritten or not.
        pub flags: ExtentFlags,
    }
}

impl Record for Extent {
    fn key(&self) -> Key {
        Key::at(self.offset.get())
    }

    fn end(&self) -> u64 {
        self.offset.get().saturating_add(self.length.get().into())
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        let length = u64::from(self.length.get());
        check_run(self.start.get(), length, space.blocks)?;
        check_run(self.offset.get(), length, crate::geometry::MAX_FILE_BLOCKS)?;
        let last = self.start.get() + (length - 1);
        if self.start.get().checked_div(space.group_blocks) != last.checked_div(space.group_blocks) {
            return Err(RecordFault::CrossesGroups);
        }
        match self.flags.get() & !ExtentFlags::UNWRITTEN {
            0 => Ok(()),
            _ => Err(RecordFault::Flags(self.flags.get())),
        }
    }

    /// Both as one; the caller keeps pairs apart that meet at a group's border.
    fn merged(&self, next: &Self) -> Option<Self> {
        let length = self.length.get().checked_add(next.length.get())?;
        (self.end() == next.offset.get()
            && self.start.get().checked_add(self.length.get().into()) == Some(next.start.get())
            && self.flags == next.flags)
            .then_some(Extent { length: length.into(), ..*self })
    }
}
