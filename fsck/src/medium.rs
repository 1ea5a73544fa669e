//! What is stored to: the device; a rehearsal of what would be; in tests a record of it.

use crate::error::Error;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::journal::{LINE_SIZE, Write};

/// A medium that can be stored to.
pub(crate) trait Medium: Blocks + Sized {
    /// Stores bytes.
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Waits until all that was stored lasts.
    fn sync(&mut self) -> Result<(), Error>;

    /// Stores the lines in which a block is not yet as it is to be.
    fn put(&mut self, block: u64, bytes: &[u8; BLOCK_SIZE]) -> Result<(), Error> {
        let lines = differing(self.block(block)?, bytes);
        self.put_lines(block, lines, bytes)
    }

    /// Stores lines of a block, as many at once as follow each other: bit i of `lines` for line i.
    fn put_lines(&mut self, block: u64, lines: u64, bytes: &[u8; BLOCK_SIZE]) -> Result<(), Error> {
        let mut next = 0_u32;
        while let Some(rest) = lines.checked_shr(next).filter(|rest| *rest != 0) {
            let first = next + rest.trailing_zeros();
            let count = lines.checked_shr(first).map_or(0, u64::trailing_ones);
            next = first + count;
            let (first, end) = (first as usize * LINE_SIZE, next as usize * LINE_SIZE);
            let offset = block.saturating_mul(BLOCK_BYTES).saturating_add(first as u64);
            self.store(offset, bytes.get(first..end).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Stores what a transaction writes to a block.
    fn put_write(&mut self, write: &Write<'_>) -> Result<(), Error> {
        let mut bytes = *self.block(write.block)?;
        write.apply(&mut bytes);
        self.put_lines(write.block, write.lines, &bytes)
    }
}

/// Lines in which two blocks differ: bit i for line i.
pub(crate) fn differing(old: &[u8; BLOCK_SIZE], new: &[u8; BLOCK_SIZE]) -> u64 {
    let lines = old.as_chunks::<LINE_SIZE>().0.iter().zip(new.as_chunks::<LINE_SIZE>().0);
    let differing = (0_u32..).zip(lines).filter(|(_, (old, new))| old != new);
    differing.fold(0, |bits, (line, _)| bits | 1_u64 << line)
}

impl Medium for Device {
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.bytes_mut(offset, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(Device::sync(self)?)
    }
}
