//! Data checksums: a flat table at the head of each group, one entry for each of its blocks, found by block number.
//!
//! An entry is 8 bytes, so that the medium stores it whole.

use crate::declare::{Style, integer};
use crate::on_disk;
use crate::units::Crc;

integer! {
    /// What a block's checksum is worth.
    SumState(U32, u32) Style::Names(&[(0, "none"), (1, "sealed"), (2, "open")]);
}

impl SumState {
    /// The block has no checksum: free, metadata, unwritten, or a file's without checksums.
    pub const NONE: Self = Self::new(0);
    /// The checksum is that of the block.
    pub const SEALED: Self = Self::new(1);
    /// A writable mapping may be storing to the block: the checksum says nothing until it is sealed again.
    pub const OPEN: Self = Self::new(2);
}

on_disk! {
    /// Checksum of one block of data.
    pub struct Sum = 8 {
        /// CRC-32C of the volume's uuid and then the block's 4096 bytes; 0 unless sealed.
        pub crc: Crc,
        /// What it is worth.
        pub state: SumState,
    }
}

/// Entries in a block of the table.
pub const SUMS_PER_BLOCK: u64 = 512;
