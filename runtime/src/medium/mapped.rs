//! The medium of a device: its mapping.
#![allow(unsafe_code)]

use super::{Durable, Granularity, Medium, Point, Window, x86};
use crate::locks::{Ordered, Rank, take};
use core::ops::Range;
use core::ptr::NonNull;
use paxfs_format::device::{Device, DeviceError, DeviceKind};
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A device that is stored to through its mapping.
#[derive(Debug)]
pub struct Mapped {
    device: Device,
    base: NonNull<u8>,
    length: usize,
    granularity: Granularity,
    /// On a medium of pages, what the next fence has to write.
    dirty: Mutex<Vec<Range<u64>>>,
}

// SAFETY: `base` points to the mapping that `device` owns, which depends on no thread.
unsafe impl Send for Mapped {}
// SAFETY: as for Send; that no two threads use the same bytes at once is the contract of `Medium`.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The medium of a device that is open for writing; `None` when it is not.
    pub fn new(mut device: Device) -> Option<Self> {
        let base = device.base()?;
        let length = usize::try_from(device.len()).ok()?;
        let by_line = device.is_byte_addressable();
        let granularity = if by_line { Granularity::CacheLine } else { Granularity::Page };
        Some(Mapped { device, base, length, granularity, dirty: Mutex::new(Vec::new()) })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Address and length of the part of a range that exists.
    fn part(&self, offset: u64, length: usize) -> (*mut u8, usize) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.length);
        // SAFETY: `start` is at most the mapping's length.
        let address = unsafe { self.base.as_ptr().add(start) };
        (address, length.min(self.length - start))
    }

    fn dirty(&self) -> Ordered<MutexGuard<'_, Vec<Range<u64>>>> {
        take(Rank::Medium, || self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, range: Range<u64>) {
        if self.granularity == Granularity::Page {
            let page = range.start - range.start % BLOCK_BYTES..range.end.next_multiple_of(BLOCK_BYTES);
            let mut dirty = self.dirty();
            match dirty.last_mut() {
                Some(last) if last.start <= page.start && page.start <= last.end => {
                    last.end = last.end.max(page.end)
                }
                _ => dirty.push(page),
            }
        }
    }
}

impl Medium for Mapped {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn granularity(&self) -> Granularity {
        self.granularity
    }

    fn window(&self) -> Option<Window<'_>> {
        // Devdax in units of 1 GiB cannot be mapped by frames.
        let file = self.device.file().filter(|_| self.device.unit() <= HUGE_BLOCKS * BLOCK_BYTES)?;
        Some(Window {
            file,
            memory: self.device.is_on_tmpfs(),
            huge: self.device.is_huge(),
            coarse: self.device.unit() > BLOCK_BYTES,
            private: self.device.kind() != DeviceKind::Devdax,
            sync: self.device.is_synchronous(),
        })
    }

    fn load(&self, offset: u64, to: &mut [u8]) {
        let (from, length) = self.part(offset, to.len());
        let (there, past) = to.split_at_mut(length);
        // SAFETY: `part` says that `length` bytes exist at `from`; `there` is as long and is the caller's own.
        unsafe { core::ptr::copy_nonoverlapping(from, there.as_mut_ptr(), length) };
        past.fill(0);
    }

    fn changed_lines(&self, offset: u64, lines: u64, new: &[u8; 4096]) -> u64 {
        let (from, length) = self.part(offset, new.len());
        if length < new.len() {
            return lines;
        }
        // SAFETY: 4096 bytes exist at `from`, and nobody stores to them meanwhile: that is the contract of `Medium`.
        super::differing(unsafe { &*from.cast::<[u8; 4096]>() }, lines, new)
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        let (to, length) = self.part(offset, bytes.len());
        if length == 8
            && bytes.len() == 8
            && to.addr().is_multiple_of(8)
            && let Ok(word) = bytes.try_into()
        {
            // SAFETY: eight bytes exist at `to`, aligned; an atomic store is never torn.
            let target = unsafe { core::sync::atomic::AtomicU64::from_ptr(to.cast()) };
            target.store(u64::from_ne_bytes(word), core::sync::atomic::Ordering::Release);
            return;
        }
        // SAFETY: `length` bytes exist at `to`, and `bytes` has at least as many.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, length) };
    }

    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        let (to, length) = self.part(offset, bytes.len());
        match self.granularity {
            // SAFETY: `length` bytes exist at `to`, and `bytes` has at least as many.
            Granularity::CacheLine => unsafe { x86::copy_nt(to, bytes.as_ptr(), length) },
            Granularity::Page => {
                self.store(offset, bytes);
                self.note(offset..offset.saturating_add(bytes.len() as u64));
            }
        }
    }

    fn copy_nt(&self, from: u64, to: u64, length: u64) {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let ((source, there), (target, room)) = (self.part(from, wanted), self.part(to, wanted));
        let length = there.min(room);
        if self.granularity == Granularity::CacheLine && source.addr().abs_diff(target.addr()) >= length {
            // SAFETY: `length` bytes exist at both, and they do not overlap.
            unsafe { x86::copy_nt(target, source, length) };
        } else {
            // SAFETY: `length` bytes exist at both.
            unsafe { core::ptr::copy(source, target, length) };
            self.flush(to..to.saturating_add(length as u64), Point::Data);
        }
    }

    fn zero_nt(&self, range: Range<u64>) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut offset = range.start;
        while offset < range.end {
            let step = (range.end - offset).min(BLOCK_BYTES - offset % BLOCK_BYTES);
            let zeros = usize::try_from(step).ok().and_then(|step| ZEROS.get(..step));
            self.store_nt(offset, zeros.unwrap_or_default());
            offset += step;
        }
    }

    fn commit(&self, offset: u64, word: u64, _after: &Durable) {
        // Past the caches: the line left them with the rest of the slot, and would have to be read again.
        self.store_nt(offset, &word.to_le_bytes());
    }

    fn flush(&self, range: Range<u64>, _point: Point) {
        match self.granularity {
            Granularity::CacheLine => {
                let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
                let (from, length) = self.part(range.start, length);
                // SAFETY: `length` bytes exist at `from`.
                unsafe { x86::write_back(from, length) };
            }
            Granularity::Page => self.note(range),
        }
    }

    fn drain(&self, _point: Point) {
        if self.granularity == Granularity::CacheLine {
            x86::fence();
        }
    }

    fn fence(&self, _point: Point) -> Result<Durable, DeviceError> {
        match self.granularity {
            Granularity::CacheLine => x86::fence(),
            Granularity::Page => {
                let dirty = core::mem::take(&mut *self.dirty());
                for range in dirty {
                    self.device.sync_range(range.start, range.end - range.start)?;
                }
            }
        }
        Ok(Durable(()))
    }

    fn failures(&self) -> u64 {
        self.device.fault_count()
    }

    fn failed(&self) -> Vec<u64> {
        self.device.faults()
    }

    fn has_failed(&self, range: Range<u64>) -> bool {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        self.device.faulted(range.start, length)
    }

    fn narrow(&self) -> Vec<u64> {
        self.device.narrow()
    }

    fn heal(&self, block: u64) -> bool {
        let healed = self.device.heal(block);
        if healed {
            let offset = block.saturating_mul(BLOCK_BYTES);
            self.zero_nt(offset..offset.saturating_add(BLOCK_BYTES));
        }
        healed
    }
}
