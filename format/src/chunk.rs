//! The inode index: a group's tree of inode chunks.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{Bits64, GroupBlock, Reserved};

/// Blocks of an inode chunk.
pub const CHUNK_BLOCKS: u32 = 8;
/// Inodes of an inode chunk.
pub const CHUNK_INODES: u32 = 64;

on_disk! {
    /// 64 inodes in 8 blocks of a metadata cluster.
    pub struct Chunk = 24 {
        /// First block, a multiple of 8.
        pub start: GroupBlock,
        /// Zero.
        pub reserved: Reserved<4>,
        /// Bit i: the chunk's inode i is in use.
        pub used: Bits64,
        /// Bit i: the inode is in use with no name left: it goes when the last program closes it, or at recovery.
        pub orphans: Bits64,
    }
}

impl Record for Chunk {
    fn key(&self) -> Key {
        Key::at(self.start.get().into())
    }

    fn end(&self) -> u64 {
        u64::from(self.start.get()) + u64::from(CHUNK_BLOCKS)
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        let start = self.start.get();
        check_run(start.into(), CHUNK_BLOCKS.into(), space.blocks)?;
        if !start.is_multiple_of(CHUNK_BLOCKS) {
            Err(RecordFault::Misaligned { start: start.into(), unit: CHUNK_BLOCKS.into() })
        } else if self.orphans.get() & !self.used.get() != 0 {
            Err(RecordFault::Count)
        } else if self.reserved != Reserved::ZERO {
            Err(RecordFault::Reserved)
        } else {
            Ok(())
        }
    }

    fn merged(&self, _next: &Self) -> Option<Self> {
        None
    }
}
