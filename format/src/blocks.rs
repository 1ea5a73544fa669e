//! What a reader of structures needs of a medium: its blocks.

use crate::device::{Device, MediumError};
use crate::geometry::BLOCK_BYTES;
use core::ops::Range;
use std::borrow::Cow;

/// A space of blocks that can be read: a device, or a device seen through the journal's writes ([`crate::image`]).
pub trait Blocks: Sync {
    /// Whole blocks there are.
    fn blocks(&self) -> u64;

    /// One block. Its bytes are zeros when the medium failed there: see [`Blocks::failed`]. An engine refuses one that
    /// contradicts itself.
    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError>;

    /// The bytes of consecutive blocks, in one piece: copied where they are not one, once it is known that all are there.
    fn run(&self, blocks: Range<u64>) -> Result<Cow<'_, [u8]>, MediumError> {
        gather(self, blocks)
    }

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
        self.len() / BLOCK_BYTES
    }

    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError> {
        Device::block(self, block)
    }

    fn run(&self, blocks: Range<u64>) -> Result<Cow<'_, [u8]>, MediumError> {
        device_run(self, blocks).map(Cow::Borrowed)
    }

    fn failed(&self, block: u64) -> bool {
        block.checked_mul(BLOCK_BYTES).is_some_and(|offset| self.faulted(offset, 4096))
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        let offset = block.checked_mul(BLOCK_BYTES)?;
        Device::next_data(self, offset).map(|offset| offset / BLOCK_BYTES)
    }
}

/// The bytes of consecutive blocks of a device.
pub(crate) fn device_run(device: &Device, blocks: Range<u64>) -> Result<&[u8], MediumError> {
    let length = blocks.end.saturating_sub(blocks.start).saturating_mul(BLOCK_BYTES);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    device.bytes(blocks.start.saturating_mul(BLOCK_BYTES), length)
}

/// A copy of consecutive blocks.
pub(crate) fn gather<'b, B: Blocks + ?Sized>(
    from: &B,
    blocks: Range<u64>,
) -> Result<Cow<'b, [u8]>, MediumError> {
    // Nothing is allocated for blocks that are not there.
    if let Some(last) = blocks.end.checked_sub(1) {
        from.block(last)?;
    }
    let mut bytes = Vec::new();
    for block in blocks {
        bytes.extend_from_slice(from.block(block)?);
    }
    Ok(Cow::Owned(bytes))
}
