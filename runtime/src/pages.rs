//! The metadata blocks in memory: read once, verified then, changed here, and carried to the medium by a commit.
//!
//! # Who may touch a page
//!
//! A page belongs to the structure that its block is part of: a group's trees to the lock of the group, the trees and
//! entries of an inode to the lock of the inode, blocks of inodes to the commit. Whoever holds that lock shared may read
//! the page, whoever holds it alone may change it. Pages are dropped by a commit's [`Pages::trim`] only, while no
//! operation runs.
#![allow(unsafe_code)]

use crate::locks::{self, Ordered, Rank};
use crate::medium::Medium;
use crate::sound::is_sound;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use paxfs_format::blocks::Blocks;
use paxfs_format::device::MediumError;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry};
use paxfs_format::header::Seed;
use paxfs_format::journal::{JournalRecord, LINE_SIZE};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// It was sound and its checksum fitted when it came from the medium, or it was made here.
const VERIFIED: u8 = 1;
/// Changed since the last commit.
const DIRTY: u8 = 2;
/// Not on the medium yet, and reached by nothing there: it may be written before the commit.
const FRESH: u8 = 4;
/// Given back since the last commit.
const FREED: u8 = 8;
/// Its checksum fitted when it came from the medium, but it contradicts itself: nobody is to read it.
const UNSOUND: u8 = 16;
/// What its home holds is not to be believed: all of it has to be logged.
const WHOLE: u8 = 32;

#[repr(align(64))]
struct Page {
    bytes: UnsafeCell<[u8; 4096]>,
    /// Cache lines that may have been changed since the last commit: bit i for line i.
    lines: AtomicU64,
    state: AtomicU8,
}

impl Page {
    fn new(bytes: [u8; 4096], state: u8) -> Self {
        Page { bytes: UnsafeCell::new(bytes), lines: AtomicU64::new(0), state: AtomicU8::new(state) }
    }
}

/// 512 of something, each made when it is asked for first.
struct Table<T>([AtomicPtr<T>; WIDTH]);

const WIDTH: usize = 512;
/// Blocks of a table of tables.
const TABLE_BLOCKS: u64 = (WIDTH * WIDTH) as u64;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table([const { AtomicPtr::new(ptr::null_mut()) }; WIDTH])
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(take);
    }
}

/// Frees what is in a place, if anything is.
fn take<T>(place: &mut AtomicPtr<T>) {
    let there = core::mem::replace(place.get_mut(), ptr::null_mut());
    if !there.is_null() {
        // SAFETY: only `get` fills places, from a box, and this was the one pointer to it.
        drop(unsafe { Box::from_raw(there) });
    }
}

/// What is in a place; made now if nothing is. Of two threads that make it one wins.
fn get<T>(place: &AtomicPtr<T>, make: impl FnOnce() -> T) -> &T {
    let there = place.load(Ordering::Acquire);
    if !there.is_null() {
        // SAFETY: what is in a place lives until it is taken out, which asks for the place alone.
        return unsafe { &*there };
    }
    let new = Box::into_raw(Box::new(make()));
    match place.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above.
        Ok(_) => unsafe { &*new },
        Err(there) => {
            // SAFETY: the box is still this thread's own; and as above.
            unsafe {
                drop(Box::from_raw(new));
                &*there
            }
        }
    }
}

/// The metadata blocks in memory.
pub struct Pages {
    medium: Arc<dyn Medium>,
    /// What is needed to verify blocks, once it is known.
    volume: Option<(Seed, Geometry)>,
    /// By block number: 2^18 blocks (1 GiB), of these 512 (2 MiB: a cluster), of these one. The last is for blocks past
    /// the end.
    tables: Box<[AtomicPtr<Table<Table<Page>>>]>,
    /// How many there are.
    count: AtomicUsize,
    /// The table in which `trim` goes on.
    hand: AtomicUsize,
    dirty: Mutex<Vec<u64>>,
    /// Bytes of journal that they can take.
    dirty_bytes: AtomicUsize,
}

// SAFETY: what is in a page's cell is touched by nobody but who is said above to; all else is atomic.
unsafe impl Sync for Pages {}

/// A block that a commit has to bring to the medium.
pub struct Changed {
    /// The block.
    pub block: u64,
    /// Whether nothing on the medium leads to it yet, so that it may be written there now.
    pub fresh: bool,
    /// Whether all of it has to be logged, whatever its home holds.
    pub whole: bool,
    /// The cache lines that may have been changed: bit i for line i.
    pub lines: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> Ordered<MutexGuard<'_, T>> {
    locks::take(Rank::ChangedPages, || mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Pages {
    /// None yet. Those of a volume that is not known yet are all unverified.
    pub fn new(medium: Arc<dyn Medium>, volume: Option<(Seed, Geometry)>) -> Self {
        let tables = usize::try_from(medium.len() / BLOCK_BYTES / TABLE_BLOCKS).unwrap_or(usize::MAX);
        let tables = core::iter::repeat_with(AtomicPtr::default).take(tables.saturating_add(2)).collect();
        let (count, hand, dirty_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Pages { medium, volume, tables, count, hand, dirty: Mutex::new(Vec::new()), dirty_bytes }
    }

    /// The medium below.
    pub fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Bytes of journal that the pages changed since the last commit can take.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// Counts again what the journal takes: nothing of blocks that are fresh until now. What is made fresh later counts, as a
    /// measure of what has yet to follow.
    pub fn discount_fresh(&self) {
        let dirty = lock(&self.dirty);
        let logged = dirty.iter().filter_map(|block| self.known(*block));
        let logged = logged.filter(|page| page.state.load(Ordering::Relaxed) & (FRESH | WHOLE) != FRESH);
        let bytes = logged.map(|page| {
            let lines = usize::try_from(page.lines.load(Ordering::Relaxed).count_ones()).unwrap_or(64);
            lines * LINE_SIZE + size_of::<JournalRecord>()
        });
        self.dirty_bytes.store(bytes.sum(), Ordering::Relaxed);
    }

    /// Where the page of a block is.
    #[allow(clippy::indexing_slicing)] // There is a table at least; remainders are below the number of places.
    fn place(&self, block: u64) -> &AtomicPtr<Page> {
        let part = |number: u64| usize::try_from(number % WIDTH as u64).unwrap_or(0);
        let top = usize::try_from(block / TABLE_BLOCKS).unwrap_or(usize::MAX).min(self.tables.len() - 1);
        let clusters = get(&self.tables[top], Table::default);
        let pages = get(&clusters.0[part(block / WIDTH as u64)], Table::default);
        &pages.0[part(block)]
    }

    /// The page of a block; made when it is not in memory.
    fn page_or(&self, block: u64, make: impl FnOnce() -> Page) -> &Page {
        get(self.place(block), || {
            self.count.fetch_add(1, Ordering::Relaxed);
            make()
        })
    }

    fn page(&self, block: u64) -> &Page {
        self.page_or(block, || {
            let bytes = self.load(block);
            let state = self.judge(&bytes);
            Page::new(bytes, state)
        })
    }

    /// What the medium has. One that failed is not touched again: others beside it might fail, too.
    fn load(&self, block: u64) -> [u8; 4096] {
        let mut bytes = [0; 4096];
        if !self.failed(block) {
            self.medium.load(block.saturating_mul(BLOCK_BYTES), &mut bytes);
        }
        bytes
    }

    /// What is to be thought of bytes that come from the medium.
    fn judge(&self, bytes: &[u8; 4096]) -> u8 {
        let intact = self.volume.filter(|(seed, _)| seed.verify(bytes).is_ok());
        let state = intact.map(|(_, geometry)| if is_sound(bytes, &geometry) { VERIFIED } else { UNSOUND });
        state.unwrap_or(0)
    }

    fn set_dirty(&self, block: u64, page: &Page, lines: u64) {
        let new = lines & !page.lines.fetch_or(lines, Ordering::Relaxed);
        if new != 0 {
            let bytes = usize::try_from(new.count_ones()).unwrap_or(64) * LINE_SIZE;
            self.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if page.state.fetch_or(DIRTY | VERIFIED, Ordering::Relaxed) & DIRTY == 0 {
            lock(&self.dirty).push(block);
            self.dirty_bytes.fetch_add(size_of::<JournalRecord>(), Ordering::Relaxed);
        }
    }

    /// A page to change.
    ///
    /// # Safety
    ///
    /// The caller holds alone what the page belongs to, and no other borrow of the page.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn page_mut(&self, block: u64) -> &mut [u8; 4096] {
        // SAFETY: the caller's promise.
        unsafe { self.page_mut_in(block, 0..4096) }
    }

    /// A page of which the bytes in `range` are to change, and the header's generation and checksum with them. Bytes
    /// elsewhere must stay: no commit would look at them.
    ///
    /// # Safety
    ///
    /// As for [`Pages::page_mut`].
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn page_mut_in(&self, block: u64, range: Range<usize>) -> &mut [u8; 4096] {
        let page = self.page(block);
        let (first, end) = (range.start / LINE_SIZE, range.end.div_ceil(LINE_SIZE).min(64));
        let below = |line: usize| if line >= 64 { u64::MAX } else { (1 << line) - 1 };
        self.set_dirty(block, page, below(end) & !below(first) | 1);
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
        let page = self.page_or(block, || Page::new([0; 4096], 0));
        page.state.fetch_and(!(FREED | UNSOUND | WHOLE), Ordering::Relaxed);
        self.set_dirty(block, page, u64::MAX);
        page.state.fetch_or(FRESH, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        let bytes = unsafe { &mut *page.bytes.get() };
        bytes.fill(0);
        bytes
    }

    /// Says that what the block's home holds is lost: the next commit logs all of the page, which is known to be right.
    pub fn set_whole(&self, block: u64) {
        let page = self.page(block);
        self.set_dirty(block, page, u64::MAX);
        page.state.fetch_or(WHOLE, Ordering::Relaxed);
    }

    /// Whether the block was given back since the last commit.
    pub fn is_freed(&self, block: u64) -> bool {
        self.known(block).is_some_and(|page| page.state.load(Ordering::Relaxed) & FREED != 0)
    }

    /// Whether the page is in memory.
    pub fn is_known(&self, block: u64) -> bool {
        self.known(block).is_some()
    }

    /// Reads a page once more that came as zeros: a block does while the medium fails beside it.
    ///
    /// # Safety
    ///
    /// No operation runs: nobody has a borrow of the page.
    pub unsafe fn reload_blank(&self, block: u64) {
        let Some(page) = self.known(block) else { return };
        // SAFETY: the caller's promise.
        let bytes = unsafe { &mut *page.bytes.get() };
        if page.state.load(Ordering::Relaxed) & DIRTY == 0 && *bytes == [0; 4096] {
            *bytes = self.load(block);
            page.state.store(self.judge(bytes), Ordering::Relaxed);
        }
    }

    /// What a block holds, if its checksum fits or fitted when it came from the medium. It is not kept in memory for that.
    ///
    /// # Safety
    ///
    /// Nobody changes the page meanwhile.
    pub unsafe fn peek(&self, block: u64) -> Option<[u8; 4096]> {
        if let Some(page) = self.known(block) {
            let verified = page.state.load(Ordering::Relaxed) & VERIFIED != 0;
            // SAFETY: the caller's promise.
            return verified.then(|| unsafe { *page.bytes.get() });
        }
        let bytes = self.load(block);
        (self.judge(&bytes) == VERIFIED).then_some(bytes)
    }

    /// Says that the block was given back: it need not reach the medium any more.
    pub fn forget(&self, block: u64) {
        if let Some(page) = self.known(block) {
            page.state.fetch_or(FREED, Ordering::Relaxed);
        }
    }

    /// The page of a block, if it is in memory.
    fn known(&self, block: u64) -> Option<&Page> {
        // SAFETY: pages live until a commit takes them out, while no operation runs.
        unsafe { self.place(block).load(Ordering::Acquire).as_ref() }
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
                let lines = page.lines.load(Ordering::Relaxed);
                let whole = state & WHOLE != 0;
                let fresh = state & FRESH != 0 && !whole;
                // SAFETY: the caller's promise.
                see(&Changed { block, fresh, whole, lines }, unsafe { &mut *page.bytes.get() });
            }
        }
    }

    /// Whether a block was changed and has to be logged where it is. Asks only what is in memory.
    pub fn is_logged(&self, block: u64) -> bool {
        let page = self.known(block);
        page.is_some_and(|page| page.state.load(Ordering::Relaxed) & (DIRTY | FRESH) == DIRTY)
    }

    /// Says that all that was changed is on its way to the medium.
    ///
    /// # Safety
    ///
    /// No operation runs: nobody has a borrow of a page.
    pub unsafe fn clean(&self) {
        let mut blocks = lock(&self.dirty);
        self.dirty_bytes.store(0, Ordering::Relaxed);
        for block in blocks.drain(..) {
            let page = self.page(block);
            page.lines.store(0, Ordering::Relaxed);
            if page.state.fetch_and(VERIFIED, Ordering::Relaxed) & FREED != 0 {
                // SAFETY: the caller's promise.
                unsafe { self.drop_page(self.place(block)) };
            }
        }
    }

    /// # Safety
    ///
    /// Nobody has a borrow of the page.
    unsafe fn drop_page(&self, place: &AtomicPtr<Page>) {
        let page = place.swap(ptr::null_mut(), Ordering::AcqRel);
        if !page.is_null() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: only `get` fills places, from a box; nobody has a borrow.
            drop(unsafe { Box::from_raw(page) });
        }
    }

    /// When there are more than `limit` pages, drops clean ones until a quarter of that is free again.
    ///
    /// # Safety
    ///
    /// No operation runs: nobody has a borrow of a page.
    pub unsafe fn trim(&self, limit: usize) {
        if self.count.load(Ordering::Relaxed) <= limit {
            return;
        }
        let first = self.hand.load(Ordering::Relaxed);
        let (before, behind) = self.tables.split_at(first.min(self.tables.len()));
        for (step, table) in behind.iter().chain(before).enumerate() {
            self.hand.store((first + step) % self.tables.len(), Ordering::Relaxed);
            // SAFETY: tables live as long as this.
            let Some(clusters) = (unsafe { table.load(Ordering::Acquire).as_ref() }) else { continue };
            for cluster in &clusters.0 {
                // SAFETY: as above.
                let Some(pages) = (unsafe { cluster.load(Ordering::Acquire).as_ref() }) else { continue };
                for place in &pages.0 {
                    // SAFETY: as in `known`.
                    let page = unsafe { place.load(Ordering::Acquire).as_ref() };
                    if page.is_some_and(|page| page.state.load(Ordering::Relaxed) & DIRTY == 0) {
                        // SAFETY: the caller's promise.
                        unsafe { self.drop_page(place) };
                    }
                }
                if self.count.load(Ordering::Relaxed) <= limit / 4 * 3 {
                    return;
                }
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.tables.iter_mut().for_each(take);
    }
}

impl core::fmt::Debug for Pages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pages").field("dirty_bytes", &self.dirty_bytes()).finish_non_exhaustive()
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
        let page = self.page(block);
        if page.state.load(Ordering::Relaxed) & UNSOUND != 0 {
            return Err(MediumError::Unsound { block });
        }
        // SAFETY: whoever reads a page holds what it belongs to; see the head of this file.
        Ok(unsafe { &*page.bytes.get() })
    }

    fn failed(&self, block: u64) -> bool {
        let offset = block.saturating_mul(BLOCK_BYTES);
        self.medium.has_failed(offset..offset.saturating_add(BLOCK_BYTES))
    }

    fn verified(&self, block: u64) -> bool {
        self.page(block).state.load(Ordering::Relaxed) & VERIFIED != 0
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        (block < self.blocks()).then_some(block)
    }
}
