//! The bytes of a device in memory: a shared mapping, or a heap buffer that stands for one. The only file that
//! makes slices out of mapped addresses.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{Ordering, compiler_fence};

use rustix::param::page_size;

use super::error::DeviceError;
use super::kind::Extent;
use super::pages::Pages;
use super::registry::{LIMIT, Watch};
use super::sigbus;
use crate::geometry::BLOCK_SIZE;

// Offsets of a device are u64, those in memory usize; everything here relies on them being the same.
const _: () = assert!(usize::BITS == u64::BITS, "paxfs maps whole devices: it needs a 64-bit machine");

/// The bytes of a device, all of them or none.
pub(super) struct Map {
    /// The first byte; dangling when `length` is 0.
    base: NonNull<u8>,
    length: usize,
    /// The smallest piece that can be mapped or replaced by itself, in bytes: a page, or more.
    unit: usize,
    writable: bool,
    backing: Backing,
}

/// Who owns the bytes.
enum Backing {
    /// There are none.
    Nothing,
    /// A boxed slice of `length` bytes at `base`.
    Heap,
    /// A mapping. The watch comes first because it has to end first.
    Mapped { watch: Watch, pages: Pages },
}

// SAFETY: a `Map` owns its bytes alone, and neither they nor their owner depend on a thread.
unsafe impl Send for Map {}
// SAFETY: shared, a `Map` gives out shared slices and reads atomics; nothing in it changes but through `&mut`.
unsafe impl Sync for Map {}

impl Map {
    /// No bytes.
    pub(super) fn empty(writable: bool) -> Self {
        Self { base: NonNull::dangling(), length: 0, unit: page_size(), writable, backing: Backing::Nothing }
    }

    /// `bytes`, writable.
    pub(super) fn heap(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        let base = NonNull::from(Box::leak(bytes.into_boxed_slice())).cast();
        Self { base, length, unit: page_size(), writable: true, backing: Backing::Heap }
    }

    /// The whole of `file`, shared with everyone who maps it.
    ///
    /// # Errors
    ///
    /// [`DeviceError::TooLarge`] when this process has not that much address space, [`DeviceError::TooMany`] when
    /// it has that many mappings, or any other error of `mmap`.
    pub(super) fn of(path: &Path, file: &File, extent: Extent, writable: bool) -> Result<Self, DeviceError> {
        let failed = |error: io::Error| DeviceError::from_sizing("map it", path, extent.bytes, error);
        // A slice may not be longer than isize::MAX.
        let length =
            isize::try_from(extent.bytes).map_err(|_| failed(rustix::io::Errno::FBIG.into()))?.unsigned_abs();
        if length == 0 {
            return Ok(Self::empty(writable));
        }
        sigbus::install().map_err(failed)?;
        let pages = Pages::map(file, length, writable).map_err(failed)?;
        let base = pages.base();
        // SAFETY: `pages` is a mapping of our own; the kernel maps whole pages, and a device's length is a multiple
        // of its unit if that is larger; `Backing::Mapped` drops the watch first.
        let watch = unsafe { Watch::new(base.as_ptr(), length, extent.unit, writable) }.map_err(failed)?;
        let watch = watch.ok_or_else(|| DeviceError::TooMany { path: path.to_path_buf(), limit: LIMIT })?;
        Ok(Self { base, length, unit: extent.unit, writable, backing: Backing::Mapped { watch, pages } })
    }

    /// All bytes.
    ///
    /// Those of a mapping are shared with the rest of the machine. That nobody changes them while they are borrowed
    /// is what the exclusive lock is for; a program that stores to a device that is not its own gets the garbage it
    /// stored, checksums find it, and no value read here is used unchecked as an index.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `base` and `length` are those of the buffer or mapping that `backing` owns (or 0 and dangling):
        // readable, initialized, at most isize::MAX long, and borrowed mutably only through `&mut self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }

    /// All bytes, to be changed; None when the map is read-only.
    pub(super) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.writable {
            return None;
        }
        // SAFETY: as in `bytes`; the heap buffer and writable mappings can be stored to, and `&mut self` is the
        // only way to them now.
        Some(unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.length) })
    }

    /// Whether stores are allowed.
    pub(super) fn writable(&self) -> bool {
        self.writable
    }

    /// The smallest piece that can be mapped or replaced by itself, in bytes.
    pub(super) fn unit(&self) -> usize {
        self.unit
    }

    /// Whether the kernel keeps what leads to stored bytes durable by itself: see [`Pages`].
    pub(super) fn synchronous(&self) -> bool {
        matches!(&self.backing, Backing::Mapped { pages, .. } if pages.synchronous())
    }

    /// What faulted so far: None for bytes that cannot fault, and when nothing did.
    #[inline]
    pub(super) fn faults(&self) -> Option<&Watch> {
        // The compiler knows of no signal handler: what the caller did to the bytes comes before what is asked
        // here.
        compiler_fence(Ordering::SeqCst);
        match &self.backing {
            Backing::Mapped { watch, .. } if watch.count() != 0 => Some(watch),
            _ => None,
        }
    }

    /// Whether a block in the `length` bytes from `offset` on faulted.
    #[inline]
    pub(super) fn faulted(&self, offset: usize, length: usize) -> bool {
        let Some(watch) = self.faults() else { return false };
        let last = offset.saturating_add(length.max(1) - 1);
        length != 0 && watch.any(offset / BLOCK_SIZE, last / BLOCK_SIZE)
    }

    /// Takes of each unit that is lost as little as can be: those blocks that somebody faulted in, and those that cannot be
    /// read now. The others are the medium's again; what was stored to them meanwhile is lost. `file` is what is mapped.
    pub(super) fn narrow(&self, file: &File) {
        let Some(watch) = self.faults().filter(|watch| watch.unit_blocks() > 1) else { return };
        let unit = watch.unit_blocks();
        let mut firsts: Vec<usize> = watch
            .blocks()
            .map(|block| usize::try_from(block).unwrap_or(usize::MAX))
            .map(|block| block - block % unit)
            .collect();
        firsts.dedup();
        for first in firsts {
            self.probe(file, watch, first..first.saturating_add(unit));
        }
    }

    fn probe(&self, file: &File, watch: &Watch, unit: Range<usize>) {
        let mut bad: Vec<usize> = unit.clone().filter(|block| watch.is_to_blame(*block)).collect();
        let mut renewed = self.renew(file, watch, unit.clone());
        for block in unit.clone() {
            if !renewed {
                unit.for_each(|block| watch.lose(block));
                return;
            }
            if !bad.contains(&block) && !self.touch(block) {
                bad.push(block);
                renewed = self.renew(file, watch, unit.clone());
            }
        }
        bad.into_iter().for_each(|block| watch.blame(block));
    }

    /// Maps a unit anew, of which nothing is lost from then on.
    fn renew(&self, file: &File, watch: &Watch, unit: Range<usize>) -> bool {
        let first = unit.start;
        unit.for_each(|block| watch.forget(block));
        // SAFETY: the map is of that file, from its start on; the caller sees to it that nobody uses the unit.
        unsafe { watch.map_anew(file, first) }.is_ok()
    }

    /// Reads of each cache line of a block; says whether that went well.
    fn touch(&self, block: usize) -> bool {
        let start = block.saturating_mul(BLOCK_SIZE);
        for offset in (start..start.saturating_add(BLOCK_SIZE).min(self.length)).step_by(64) {
            // SAFETY: within the map.
            unsafe { self.base.as_ptr().add(offset).read_volatile() };
        }
        !self.faulted(start, BLOCK_SIZE)
    }

    /// Maps a block anew that is lost, and zeroes it; says whether that went well. Else it is lost. `file` is what is
    /// mapped; nobody else uses the block.
    pub(super) fn heal(&self, file: Option<&File>, block: usize) -> bool {
        let start = block.saturating_mul(BLOCK_SIZE);
        let rest = self.length.saturating_sub(start);
        if rest == 0 || !self.writable {
            return false;
        }
        if let (Backing::Mapped { watch, .. }, Some(file)) = (&self.backing, file) {
            watch.forget(block);
            // SAFETY: the map is of that file, from its start on; of the other blocks of the unit each is the medium's
            // already, or noted as lost, and stays so.
            if unsafe { watch.map_anew(file, block) }.is_err() {
                watch.blame(block);
                return false;
            }
        }
        for offset in start..start + rest.min(BLOCK_SIZE) {
            // SAFETY: within the map, which can be stored to; nobody else uses the block, as the caller promises.
            unsafe { self.base.as_ptr().add(offset).write_volatile(0) };
        }
        self.touch(block)
    }

    /// Waits until all stores to a mapped file or block device are on its medium.
    ///
    /// # Errors
    ///
    /// What `msync` says: mostly that the medium could not be written.
    pub(super) fn sync(&self) -> io::Result<()> {
        match &self.backing {
            Backing::Mapped { pages, .. } => pages.sync(0, self.length),
            Backing::Nothing | Backing::Heap => Ok(()),
        }
    }

    /// As [`Map::sync`], for a range, which is cut to the map's length.
    pub(super) fn sync_range(&self, offset: u64, length: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.length);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.length - start);
        match &self.backing {
            Backing::Mapped { pages, .. } if length > 0 => pages.sync(start, length),
            _ => Ok(()),
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if matches!(self.backing, Backing::Heap) {
            let bytes = ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.length);
            // SAFETY: `heap` leaked a box of just this slice, and nothing else frees it.
            drop(unsafe { Box::from_raw(bytes) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::registry;

    /// A mapping whose pages cannot be replaced one by one, as that of devdax.
    #[test]
    fn a_fault_takes_its_whole_unit() {
        let unit = 16 * BLOCK_SIZE;
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * unit as u64).unwrap();
        let extent = Extent { bytes: 4 * unit as u64, unit };
        let map = Map::of(Path::new("devdax"), &file, extent, false).unwrap();
        assert!(map.faults().is_none());
        file.set_len(unit as u64).unwrap();
        assert_eq!(map.bytes()[2 * unit + 5 * BLOCK_SIZE], 0);
        let faults = map.faults().unwrap();
        assert_eq!(faults.count(), 16);
        assert!(faults.blocks().eq(32..48));
        assert!(map.faulted(2 * unit, 1) && map.faulted(3 * unit - 1, 1) && map.faulted(0, usize::MAX));
        assert!(!map.faulted(2 * unit - 1, 1) && !map.faulted(3 * unit, unit) && !map.faulted(2 * unit, 0));
    }

    /// Only what cannot be read stays lost of a unit, and what somebody faulted in, until it is healed.
    #[test]
    fn a_lost_unit_is_narrowed_to_what_is_bad() {
        let unit = 16 * BLOCK_SIZE;
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * unit as u64).unwrap();
        let extent = Extent { bytes: 4 * unit as u64, unit };
        let map = Map::of(Path::new("devdax"), &file, extent, true).unwrap();
        let lost = |map: &Map| map.faults().map_or(Vec::new(), |watch| watch.blocks().collect::<Vec<u64>>());
        file.set_len(37 * BLOCK_SIZE as u64).unwrap();
        assert_eq!(map.bytes()[41 * BLOCK_SIZE], 0);
        assert_eq!(lost(&map), Vec::from_iter(32..48));
        map.narrow(&file);
        assert_eq!(lost(&map), Vec::from_iter(37..48));

        // The medium is well again. Who faulted is believed; the others were only found.
        file.set_len(4 * unit as u64).unwrap();
        assert!(!map.faulted(32 * BLOCK_SIZE, 5 * BLOCK_SIZE));
        for block in 37..48 {
            assert!(map.heal(Some(&file), block));
        }
        assert!(lost(&map).is_empty());
        // Stores reach the file again.
        // SAFETY: within the map, which nobody borrows.
        unsafe { map.base.as_ptr().add(41 * BLOCK_SIZE).write_volatile(7) };
        let mut there = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut there, 41 * BLOCK_SIZE as u64).unwrap();
        assert_eq!(there, [7]);
    }

    /// As the kernel tells of a failed page in a unit of 2 MiB: it names the unit. If all can be read, nothing is lost.
    #[test]
    fn a_unit_that_is_taken_away_accuses_no_block() {
        let unit = 16 * BLOCK_SIZE;
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * unit as u64).unwrap();
        let extent = Extent { bytes: 4 * unit as u64, unit };
        let map = Map::of(Path::new("devdax"), &file, extent, true).unwrap();
        // SAFETY: the mapping is this thread's, and nobody borrows it.
        assert!(unsafe { registry::absorb(map.base.as_ptr().add(2 * unit).addr(), false) });
        assert_eq!(map.faults().unwrap().count(), 16);
        map.narrow(&file);
        assert!(map.faults().is_none());
        // SAFETY: as above.
        assert!(unsafe { registry::absorb(map.base.as_ptr().add(2 * unit).addr(), true) });
        map.narrow(&file);
        assert!(map.faults().unwrap().blocks().eq([32]));
    }

    #[test]
    fn what_is_still_bad_does_not_heal() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * BLOCK_SIZE as u64).unwrap();
        let extent = Extent { bytes: 4 * BLOCK_SIZE as u64, unit: rustix::param::page_size() };
        let map = Map::of(Path::new("file"), &file, extent, true).unwrap();
        file.set_len(BLOCK_SIZE as u64).unwrap();
        assert_eq!(map.bytes()[2 * BLOCK_SIZE], 0);
        assert!(!map.heal(Some(&file), 2) && !map.heal(Some(&file), 4));
        assert!(map.faults().unwrap().blocks().eq([2]));
        file.set_len(4 * BLOCK_SIZE as u64).unwrap();
        assert!(map.heal(Some(&file), 2));
        assert!(map.faults().is_none());
    }

    #[test]
    fn slots_are_given_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1).unwrap();
        let extent = Extent { bytes: 1, unit: rustix::param::page_size() };
        for _ in 0..2 * LIMIT {
            Map::of(Path::new("one byte"), &file, extent, false).unwrap();
        }
    }
}
