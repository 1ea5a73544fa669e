//! A device seen through blocks that are not on it yet: the journal's committed writes, or a repair's.

use crate::blocks::{Blocks, device_run, gather};
use crate::device::{Device, MediumError};
use crate::journal::Transaction;
use core::ops::Range;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A device, with some of its blocks replaced in memory. The device is not changed.
#[derive(Debug, Clone)]
pub struct Image<'d> {
    device: &'d Device,
    overlay: BTreeMap<u64, Box<[u8; 4096]>>,
}

impl<'d> Image<'d> {
    /// The device as it is.
    pub fn new(device: &'d Device) -> Self {
        Image { device, overlay: BTreeMap::new() }
    }

    /// The device below.
    pub fn device(&self) -> &'d Device {
        self.device
    }

    /// Replaces a block.
    pub fn put(&mut self, block: u64, bytes: Box<[u8; 4096]>) {
        self.overlay.insert(block, bytes);
    }

    /// The bytes of consecutive blocks: the device's own when none of them is replaced, else a copy.
    pub fn run_below(&self, blocks: Range<u64>) -> Result<Cow<'d, [u8]>, MediumError> {
        match blocks.is_empty() || self.overlay.range(blocks.clone()).next().is_none() {
            true => device_run(self.device, blocks).map(Cow::Borrowed),
            false => gather(self, blocks),
        }
    }

    /// A block to change, taken from the device when it is changed first.
    pub fn block_mut(&mut self, block: u64) -> Result<&mut [u8; 4096], MediumError> {
        match self.overlay.entry(block) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                Ok(entry.insert(Box::new(*self.device.block(block)?)))
            }
        }
    }

    /// Applies transactions, in their order.
    pub fn apply(&mut self, transactions: &[Transaction<'_>]) -> Result<(), MediumError> {
        for write in transactions.iter().flat_map(|transaction| &transaction.writes) {
            write.apply(self.block_mut(write.block)?);
        }
        Ok(())
    }

    /// The replaced blocks, ascending.
    pub fn changed(&self) -> impl Iterator<Item = (u64, &[u8; 4096])> {
        self.overlay.iter().map(|(&block, bytes)| (block, bytes.as_ref()))
    }

    /// The replaced blocks alone, ascending: all that has to be stored to make the device like the image.
    pub fn into_changed(self) -> BTreeMap<u64, Box<[u8; 4096]>> {
        self.overlay
    }
}

impl Blocks for Image<'_> {
    fn blocks(&self) -> u64 {
        self.device.blocks()
    }

    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError> {
        // Nearly always empty, and this is the hot path of every check.
        if !self.overlay.is_empty()
            && let Some(bytes) = self.overlay.get(&block)
        {
            return Ok(bytes);
        }
        self.device.block(block)
    }

    fn run(&self, blocks: Range<u64>) -> Result<Cow<'_, [u8]>, MediumError> {
        self.run_below(blocks)
    }

    fn failed(&self, block: u64) -> bool {
        !self.overlay.contains_key(&block) && self.device.failed(block)
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        let replaced = self.overlay.range(block..).next().map(|(&block, _)| block);
        let below = Blocks::next_data(self.device, block);
        replaced.into_iter().chain(below).min()
    }
}
