//! A medium that is never changed: what is stored to it stays in memory, and ends with it.

use super::{Durable, Granularity, Medium, Point};
use crate::locks::{Ordered, Rank, take};
use core::ops::Range;
use paxfs_format::device::{Device, DeviceError};
use paxfs_format::geometry::BLOCK_BYTES;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

type Block = [u8; 4096];

/// A device that is open for reading, under the blocks that were stored to since.
///
/// So an engine can be opened on what nobody may write to: the journal is replayed, and orphans are freed, in memory. What
/// that takes is what a crash left to do.
#[derive(Debug)]
pub struct Overlay {
    device: Device,
    stored: RwLock<HashMap<u64, Box<Block>>>,
}

impl Overlay {
    /// The medium of a device that nobody changes.
    pub fn new(device: Device) -> Self {
        Overlay { device, stored: RwLock::default() }
    }

    fn stored(&self) -> Ordered<RwLockReadGuard<'_, HashMap<u64, Box<Block>>>> {
        take(Rank::Medium, || self.stored.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A block as the device has it; what is past its end is zeros.
    fn below(&self, block: u64) -> Block {
        let mut bytes = [0; 4096];
        let offset = block.saturating_mul(BLOCK_BYTES);
        let length = usize::try_from(self.device.len().saturating_sub(offset)).unwrap_or(4096).min(4096);
        if let Ok(there) = self.device.bytes(offset, length) {
            bytes.iter_mut().zip(there).for_each(|(to, byte)| *to = *byte);
        }
        bytes
    }
}

/// The parts of `length` bytes from `offset` on that lie in one block each: the block, where in it, where in the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = offset.checked_add(done as u64).filter(|_| done < length)?;
        let start = usize::try_from(at % BLOCK_BYTES).ok()?;
        let step = (4096 - start).min(length - done);
        let part = (at / BLOCK_BYTES, start..start + step, done..done + step);
        done += step;
        Some(part)
    })
}

impl Medium for Overlay {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn granularity(&self) -> Granularity {
        Granularity::CacheLine
    }

    fn load(&self, offset: u64, to: &mut [u8]) {
        let stored = self.stored();
        for (block, there, here) in parts(offset, to.len()) {
            let Some(to) = to.get_mut(here) else { return };
            let at = block.saturating_mul(BLOCK_BYTES).saturating_add(there.start as u64);
            let from = match stored.get(&block) {
                Some(bytes) => bytes.get(there),
                None => self.device.bytes(at, to.len()).ok(),
            };
            match from {
                Some(from) => to.copy_from_slice(from),
                None => {
                    let below = self.below(block);
                    let start = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
                    to.iter_mut().zip(below.iter().skip(start)).for_each(|(to, byte)| *to = *byte);
                }
            }
        }
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        let mut stored = take(Rank::Medium, || self.stored.write().unwrap_or_else(PoisonError::into_inner));
        for (block, there, here) in parts(offset, bytes.len()) {
            if block.saturating_mul(BLOCK_BYTES) >= self.device.len() {
                return;
            }
            let copy = stored.entry(block).or_insert_with(|| Box::new(self.below(block)));
            if let (Some(to), Some(from)) = (copy.get_mut(there), bytes.get(here)) {
                to.copy_from_slice(from);
            }
        }
    }

    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        self.store(offset, bytes);
    }

    fn zero_nt(&self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let step = (BLOCK_BYTES - at % BLOCK_BYTES).min(range.end - at);
            let zeros = usize::try_from(step).ok().and_then(|step| [0; 4096].get(..step).map(<[u8]>::to_vec));
            self.store(at, &zeros.unwrap_or_default());
            at = at.saturating_add(step);
        }
    }

    fn flush(&self, _range: Range<u64>, _point: Point) {}

    fn drain(&self, _point: Point) {}

    fn fence(&self, _point: Point) -> Result<Durable, DeviceError> {
        Ok(Durable(()))
    }
}
