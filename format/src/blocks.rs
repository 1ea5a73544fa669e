//! What a reader of structures needs of a medium: its blocks.

use crate::device::{Device, MediumError};

/// A space of blocks that can be read: a device, or a device seen through the journal's writes ([`crate::image`]).
pub trait Blocks: Sync {
    /// Whole blocks there are.
    fn blocks(&self) -> u64;

    /// One block. Its bytes are zeros when the medium failed there: see [`Blocks::failed`]. An engine refuses one that
    /// contradicts itself.
    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError>;

    /// Whether the medium failed while somebody read the block.
    fn failed(&self, block: u64) -> bool;

    /// Whether the block's checksum was found to fit since it came from the medium, and may not fit now because it was
    /// changed: an engine's blocks. What the block says it is, is checked all the same.
    fn verified(&self, block: u64) -> bool {
        let _ = block;
        false
    }

    /// The first block at or after `block` that may hold something but zeros; `None` when none does. For sweeps over
    /// sparse media.
    fn next_data(&self, block: u64) -> Option<u64>;
}

impl Blocks for Device {
    fn blocks(&self) -> u64 {
        self.len() / crate::geometry::BLOCK_BYTES
    }

    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError> {
        Device::block(self, block)
    }

    fn failed(&self, block: u64) -> bool {
        block.checked_mul(crate::geometry::BLOCK_BYTES).is_some_and(|offset| self.faulted(offset, 4096))
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        let offset = block.checked_mul(crate::geometry::BLOCK_BYTES)?;
        Device::next_data(self, offset).map(|offset| offset / crate::geometry::BLOCK_BYTES)
    }
}
