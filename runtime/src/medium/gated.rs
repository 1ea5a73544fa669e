//! A medium that can be shut: nothing is stored to it any more from then on.

use super::{Durable, Granularity, Medium, Point, Window};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use paxfs_format::device::DeviceError;
use std::sync::Arc;

/// Another medium, until it is shut.
pub struct Gated {
    below: Arc<dyn Medium>,
    shut: AtomicBool,
}

impl Gated {
    /// A medium that is open.
    pub fn new(below: Arc<dyn Medium>) -> Self {
        Gated { below, shut: AtomicBool::new(false) }
    }

    /// Lets no store through any more: those that begin from now on are dropped. Who made one may believe a fence only
    /// when the medium is not shut after it.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Whether it is shut.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }
}

impl core::fmt::Debug for Gated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Gated").field("shut", &self.is_shut()).finish_non_exhaustive()
    }
}

impl Medium for Gated {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn granularity(&self) -> Granularity {
        self.below.granularity()
    }

    fn load(&self, offset: u64, to: &mut [u8]) {
        self.below.load(offset, to);
    }

    fn changed_lines(&self, offset: u64, lines: u64, new: &[u8; 4096]) -> u64 {
        self.below.changed_lines(offset, lines, new)
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        if !self.is_shut() {
            self.below.store(offset, bytes);
        }
    }

    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        if !self.is_shut() {
            self.below.store_nt(offset, bytes);
        }
    }

    fn copy_nt(&self, from: u64, to: u64, length: u64) {
        if !self.is_shut() {
            self.below.copy_nt(from, to, length);
        }
    }

    fn zero_nt(&self, range: Range<u64>) {
        if !self.is_shut() {
            self.below.zero_nt(range);
        }
    }

    fn flush(&self, range: Range<u64>, point: Point) {
        self.below.flush(range, point);
    }

    fn drain(&self, point: Point) {
        self.below.drain(point);
    }

    fn fence(&self, point: Point) -> Result<Durable, DeviceError> {
        self.below.fence(point)
    }

    fn commit(&self, offset: u64, word: u64, after: &Durable) {
        if !self.is_shut() {
            self.below.commit(offset, word, after);
        }
    }

    fn window(&self) -> Option<Window<'_>> {
        self.below.window()
    }

    fn failures(&self) -> u64 {
        self.below.failures()
    }

    fn failed(&self) -> Vec<u64> {
        self.below.failed()
    }

    fn has_failed(&self, range: Range<u64>) -> bool {
        self.below.has_failed(range)
    }

    fn narrow(&self) -> Vec<u64> {
        self.below.narrow()
    }

    fn heal(&self, block: u64) -> bool {
        !self.is_shut() && self.below.heal(block)
    }
}
