//! The metadata blocks in memory: read once, verified then, changed here, and carried to the medium by a commit.
//!
//! # Who may touch a page
//!
//! A page belongs to the structure that its block is part of: a group's trees to the lock of the group, the trees and
//! entries of an inode to the lock of the inode, blocks of inodes to the commit. Whoever holds that lock shared may read
//! the page, whoever holds it alone may change it. Pages are dropped by a commit's [`Pages::trim`] only, while no
//! operation runs.
#![allow(unsafe_code)]

use crate::medium::Medium;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use paxfs_format::blocks::Blocks;
use paxfs_format::device::MediumError;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::header::Seed;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Its checksum fitted when it came from the medium, or it was made here.
const VERIFIED: u8 = 1;
/// Changed since the last commit.
const DIRTY: u8 = 2;
/// Not on the medium yet, and reached by nothing there: it may be written before the commit.
const FRESH: u8 = 4;
/// Given back since the last commit.
const FREED: u8 = 8;

struct Page {
    bytes: UnsafeCell<[u8; 4096]>,
    state: AtomicU8,
}

/// Block numbers are spread well enough by one multiplication.
#[derive(Default)]
pub(crate) struct BlockHasher(u64);

impl core::hash::Hasher for BlockHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

type Shard = HashMap<u64, NonNull<Page>, BuildHasherDefault<BlockHasher>>;

const SHARDS: usize = 16;

/// The metadata blocks in memory.
pub struct Pages {
    medium: Arc<dyn Medium>,
    seed: Seed,
    shards: [Mutex<Shard>; SHARDS],
    dirty: Mutex<Vec<u64>>,
    dirty_count: AtomicUsize,
}

// SAFETY: the pages that the pointers lead to are this value's own; who touches them when is arranged as said above.
unsafe impl Send for Pages {}
// SAFETY: as for Send.
unsafe impl Sync for Pages {}

/// A block that a commit has to bring to the medium.
pub struct Changed {
    /// The block.
    pub block: u64,
    /// Whether nothing on the medium leads to it yet.
    pub fresh: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pages {
    /// None yet.
    pub fn new(medium: Arc<dyn Medium>, seed: Seed) -> Self {
        let shards = core::array::from_fn(|_| Mutex::new(Shard::default()));
        Pages { medium, seed, shards, dirty: Mutex::new(Vec::new()), dirty_count: AtomicUsize::new(0) }
    }

    /// The medium below.
    pub fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Pages changed since the last commit.
    pub fn dirty_count(&self) -> usize {
        self.dirty_count.load(Ordering::Relaxed)
    }

    fn shard(&self, block: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from((block >> 3) % (SHARDS as u64)).unwrap_or(0);
        #[allow(clippy::indexing_slicing)] // The remainder is below the number of shards.
        lock(&self.shards[index])
    }

    fn page(&self, block: u64) -> &Page {
        let mut shard = self.shard(block);
        let page = *shard.entry(block).or_insert_with(|| {
            let mut bytes = [0; 4096];
            self.medium.load(block.saturating_mul(BLOCK_BYTES), &mut bytes);
            let verified = self.seed.verify(&bytes).is_ok();
            Self::boxed(bytes, if verified { VERIFIED } else { 0 })
        });
        // SAFETY: pages live until `trim` or the drop of `self`, and no borrow of `self` outlives either.
        unsafe { page.as_ref() }
    }

    fn boxed(bytes: [u8; 4096], state: u8) -> NonNull<Page> {
        let page = Page { bytes: UnsafeCell::new(bytes), state: AtomicU8::new(state) };
        NonNull::from(Box::leak(Box::new(page)))
    }

    fn set_dirty(&self, block: u64, page: &Page) {
        if page.state.fetch_or(DIRTY | VERIFIED, Ordering::Relaxed) & DIRTY == 0 {
            lock(&self.dirty).push(block);
            self.dirty_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A page to change.
    ///
    /// # Safety
    ///
    /// The caller holds alone what the page belongs to, and no other borrow of the page.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn page_mut(&self, block: u64) -> &mut [u8; 4096] {
        let page = self.page(block);
        self.set_dirty(block, page);
        // SAFETY: the caller's promise.
        unsafe { &mut *page.bytes.get() }
    }

    /// A page of zeros for a block that nothing leads to.
    ///
    /// # Safety
    ///
    /// As for [`Pages::page_mut`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn fresh(&self, block: u64) -> &mut [u8; 4096] {
        let page = {
            let mut shard = self.shard(block);
            *shard.entry(block).or_insert_with(|| Self::boxed([0; 4096], 0))
        };
        // SAFETY: as in `page`.
        let page = unsafe { page.as_ref() };
        page.state.fetch_and(!FREED, Ordering::Relaxed);
        self.set_dirty(block, page);
        page.state.fetch_or(FRESH, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        let bytes = unsafe { &mut *page.bytes.get() };
        bytes.fill(0);
        bytes
    }

    /// Whether the page was made since the last commit.
    pub fn is_fresh(&self, block: u64) -> bool {
        self.page(block).state.load(Ordering::Relaxed) & FRESH != 0
    }

    /// Says that the block was given back: it need not reach the medium any more.
    pub fn forget(&self, block: u64) {
        let known = self.shard(block).get(&block).copied();
        if let Some(page) = known {
            // SAFETY: as in `page`.
            unsafe { page.as_ref() }.state.fetch_or(FREED, Ordering::Relaxed);
        }
    }

    /// Shows each changed block that is still in use with its page, ascending.
    ///
    /// # Safety
    ///
    /// No operation runs: nobody has a borrow of a page.
    pub unsafe fn each_changed(&self, mut see: impl FnMut(&Changed, &mut [u8; 4096])) {
        let mut blocks = lock(&self.dirty);
        blocks.sort_unstable();
        for &block in &*blocks {
            let page = self.page(block);
            let state = page.state.load(Ordering::Relaxed);
            if state & FREED == 0 {
                // SAFETY: the caller's promise.
                see(&Changed { block, fresh: state & FRESH != 0 }, unsafe { &mut *page.bytes.get() });
            }
        }
    }

    /// Whether a block was changed and has to be logged where it is. Asks only what is in memory.
    pub fn is_logged(&self, block: u64) -> bool {
        let known = self.shard(block).get(&block).copied();
        // SAFETY: as in `page`.
        known.is_some_and(|page| {
            unsafe { page.as_ref() }.state.load(Ordering::Relaxed) & (DIRTY | FRESH) == DIRTY
        })
    }

    /// Says that all that was changed is on its way to the medium. For a commit, while no operation runs.
    pub fn clean(&self) {
        self.dirty_count.store(0, Ordering::Relaxed);
        for block in lock(&self.dirty).drain(..) {
            if self.page(block).state.fetch_and(VERIFIED, Ordering::Relaxed) & FREED != 0 {
                self.drop_page(block);
            }
        }
    }

    fn drop_page(&self, block: u64) {
        if let Some(page) = self.shard(block).remove(&block) {
            // SAFETY: the page was boxed by `boxed`, and is in no shard any more; only a commit drops pages, while no
            // operation runs, and it holds no borrow of this one.
            drop(unsafe { Box::from_raw(page.as_ptr()) });
        }
    }

    /// Drops clean pages of one part in [`SHARDS`] until at most its share of `limit` is left; the next part with the
    /// next `turn`.
    ///
    /// # Safety
    ///
    /// No operation runs: nobody has a borrow of a page.
    pub unsafe fn trim(&self, limit: usize, turn: u64) {
        let mut shard = self.shard(turn << 3);
        let mut excess = shard.len().saturating_sub(limit / SHARDS);
        if excess == 0 {
            return;
        }
        shard.retain(|_, page| {
            // SAFETY: as in `page`.
            let clean = unsafe { page.as_ref() }.state.load(Ordering::Relaxed) & DIRTY == 0;
            if excess == 0 || !clean {
                return true;
            }
            excess -= 1;
            // SAFETY: as in `drop_page`; nobody has a borrow.
            drop(unsafe { Box::from_raw(page.as_ptr()) });
            false
        });
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            for (_, page) in shard.get_mut().unwrap_or_else(PoisonError::into_inner).drain() {
                // SAFETY: as in `drop_page`; `self` is borrowed by nobody any more.
                drop(unsafe { Box::from_raw(page.as_ptr()) });
            }
        }
    }
}

impl core::fmt::Debug for Pages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pages").field("dirty", &self.dirty_count()).finish_non_exhaustive()
    }
}

impl Blocks for Pages {
    fn blocks(&self) -> u64 {
        self.medium.len() / BLOCK_BYTES
    }

    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError> {
        if block >= self.blocks() {
            let offset = block.saturating_mul(BLOCK_BYTES);
            return Err(MediumError::OutOfRange { offset, length: BLOCK_BYTES, device: self.medium.len() });
        }
        // SAFETY: whoever reads a page holds what it belongs to; see the head of this file.
        Ok(unsafe { &*self.page(block).bytes.get() })
    }

    fn failed(&self, _block: u64) -> bool {
        false
    }

    fn verified(&self, block: u64) -> bool {
        self.page(block).state.load(Ordering::Relaxed) & VERIFIED != 0
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        (block < self.blocks()).then_some(block)
    }
}
