//! What can be done about blocks that faulted: found out which are bad, and made good again where the medium can do that.

use super::{Device, DeviceKind, index};
use crate::geometry::BLOCK_SIZE;
use std::fs::File;

impl Device {
    /// Finds out what is bad in the units that faulted, where those are larger than a block: the blocks that somebody
    /// faulted in, and those that cannot be read. The others are the medium's again, and what was stored to them since the
    /// fault is lost. Returns the blocks that faulted, as [`Device::faults`] does, as they are now.
    ///
    /// Nobody may use these units meanwhile.
    pub fn narrow(&self) -> Vec<u64> {
        if let Some(file) = &self.file {
            self.map.narrow(file);
        }
        self.faults()
    }

    /// Makes a block that is bad, or said to be, one that keeps what is stored to it: it is given up, so that who knows
    /// the medium puts another in its place or corrects it, and mapped anew, zeroed and read. Says whether that went well;
    /// then it is zeros, and no fault is known of it any more. To be durable, the zeros have to be flushed.
    ///
    /// Files and block devices are told to drop the block, or to write it; a file system on persistent memory and the
    /// driver below it clear the error then, or say that they cannot. A devdax device cannot be told: its errors go with
    /// `ndctl clear-errors`.
    ///
    /// Nobody may use the block meanwhile.
    pub fn heal(&self, block: u64) -> bool {
        let Some(offset) = block.checked_mul(BLOCK_SIZE as u64).filter(|offset| *offset < self.len()) else {
            return false;
        };
        // Without the driver's word a cache above it would read well.
        let is_told =
            !self.map.writable() || self.punch(offset, BLOCK_SIZE as u64) || self.write_zeros(offset).is_ok();
        is_told && self.map.heal(self.file.as_ref(), index(block))
    }

    /// Has the kernel write zeros to a block, where it can.
    fn write_zeros(&self, offset: u64) -> rustix::io::Result<()> {
        // A file that was made smaller stays so.
        let there = |file: &&File| match self.kind {
            DeviceKind::File => file.metadata().is_ok_and(|metadata| metadata.len() > offset),
            kind => kind == DeviceKind::Block,
        };
        let Some(file) = self.file.as_ref().filter(there) else { return Ok(()) };
        rustix::io::pwrite(file, &[0; BLOCK_SIZE], offset)?;
        rustix::fs::fdatasync(file)
    }
}
