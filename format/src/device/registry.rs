//! The mappings of this process that must survive a fault, where the signal handler can find them, and what
//! faulted.
//!
//! A fixed table of slots made of atomics, because the handler may interrupt anything and must neither lock nor
//! allocate:
//!
//! ```text
//! SLOTS   [start end unit … faults bitmap] [start end …] [0 …] …        start = 0: not to be looked at
//!                                     └──> two bits a block, an anonymous mapping that costs nothing untouched
//! ```
//!
//! One bit of a block says that it is *lost*: zeros are in its place. The other that it is to *blame*: that somebody
//! faulted there. They differ where a mapping can only be replaced in units larger than a block.
//!
//! Invariants:
//!
//! 1. `start` is stored last when a slot is filled and cleared first when it is given back. So a handler that reads
//!    `start`, `end` and again the same `start` has read the range of a mapping that lived in that moment.
//! 2. Mappings that live at the same time are disjoint, and the mapping that a thread faults in lives as long as its
//!    handler runs (the thread holds a borrow of it). So the range that holds the address is that mapping's, and the
//!    rest of its slot stands still.
//! 3. A fault is noted before its page is replaced: whoever reads the zeros of the replacement finds the note.
//! 4. A note is taken back before its page is the medium's again, and only while nobody else uses the page.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;

use crate::geometry::BLOCK_SIZE;

/// How many devices a process may have mapped at once. The handler looks at each, so this stays small.
pub(super) const LIMIT: usize = 256;

/// How many blocks a word of the fault bitmap is for.
const WORD: usize = u64::BITS as usize;

static SLOTS: [Slot; LIMIT] = [const { Slot::new() }; LIMIT];

/// The address of a page that is mapped for no other use than to be given back, or 0.
///
/// Each replacement far from the others splits the mapping in two more pieces, and the kernel bounds the number of
/// pieces of a process (vm.max_map_count). Beyond the bound it maps nothing at all, not even one piece in place of
/// many, until one is given back.
static SPARE: AtomicUsize = AtomicUsize::new(0);

/// One mapping, as the handler sees it.
struct Slot {
    /// Whether a [`Watch`] owns this slot.
    taken: AtomicBool,
    /// The address of the first byte; 0 while there is nothing to see.
    start: AtomicUsize,
    /// The address after the last byte, rounded up to `unit`.
    end: AtomicUsize,
    /// What can be replaced at once, in bytes; a power of two.
    unit: AtomicUsize,
    writable: AtomicBool,
    /// How many blocks are lost.
    faults: AtomicU64,
    /// The bitmap of lost blocks and, behind it, that of those to blame; and the length of each in words.
    bitmap: AtomicPtr<AtomicU64>,
    words: AtomicUsize,
}

impl Slot {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            unit: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            bitmap: AtomicPtr::new(ptr::null_mut()),
            words: AtomicUsize::new(0),
        }
    }

    /// The range of addresses this slot is for, or an empty one.
    fn range(&self) -> Range<usize> {
        let start = self.start.load(SeqCst);
        let end = self.end.load(SeqCst);
        if start != 0 && self.start.load(SeqCst) == start { start..end } else { 0..0 }
    }

    /// The bitmaps of lost blocks and of those to blame.
    ///
    /// # Safety
    ///
    /// The [`Watch`] that fills this slot lives for all of `'a`.
    unsafe fn words<'a>(&self) -> (&'a [AtomicU64], &'a [AtomicU64]) {
        let words = self.words.load(Acquire);
        // SAFETY: `Watch::new` stored the address of a page-aligned anonymous mapping of twice that many words, zeroed
        // by the kernel and reached by nothing but these atomics; the watch, which owns it, lives, as the caller
        // promises.
        unsafe { slice::from_raw_parts(self.bitmap.load(Acquire), 2 * words) }.split_at(words)
    }

    /// Notes the blocks of the unit that holds `address`, and puts zeros in their place. With `is_exact`, the block there is to
    /// blame. Async-signal-safe.
    ///
    /// # Safety
    ///
    /// `mapping` is what [`range`](Self::range) said and holds `address`, and the [`Watch`] of this slot lives until
    /// this returns.
    unsafe fn replace(&self, mapping: &Range<usize>, address: usize, is_exact: bool) -> bool {
        // The mapping is whole units from its start on: none of this wraps.
        let offset = address.wrapping_sub(mapping.start);
        let unit = self.unit.load(Acquire);
        let start = mapping.start.wrapping_add(offset & !unit.wrapping_sub(1));
        let unit = start..start.wrapping_add(unit);
        // SAFETY: as promised by the caller; the unit lies within the mapping.
        unsafe {
            if is_exact {
                set(self.words().1, offset / BLOCK_SIZE);
            }
            self.note(mapping, &unit);
            if self.zero(&unit) {
                return true;
            }
            // No room for one more piece: losing the whole device still leaves the process alive, and told.
            self.note(mapping, mapping);
            give_room();
            self.zero(mapping)
        }
    }

    /// Notes that the blocks in `piece` are lost.
    ///
    /// # Safety
    ///
    /// The [`Watch`] of this slot lives until this returns.
    unsafe fn note(&self, mapping: &Range<usize>, piece: &Range<usize>) {
        let first = piece.start.wrapping_sub(mapping.start) / BLOCK_SIZE;
        let end = piece.end.wrapping_sub(mapping.start).div_ceil(BLOCK_SIZE);
        // SAFETY: as promised by the caller.
        let (lost, _) = unsafe { self.words() };
        for block in first..end {
            if set(lost, block) {
                self.faults.fetch_add(1, SeqCst);
            }
        }
    }

    /// Maps zeros over `piece`, of this process alone: what is stored there goes nowhere.
    ///
    /// # Safety
    ///
    /// `piece` is whole units of the mapping of this slot, which lives.
    unsafe fn zero(&self, piece: &Range<usize>) -> bool {
        let access = self.access();
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let at = ptr::without_provenance_mut(piece.start);
        // SAFETY: this replaces memory of ours and no one else's. Its bytes were open to change from outside before
        // (see `Map::bytes`), so no reference loses a value that it could rely on.
        unsafe { mmap_anonymous(at, piece.len(), access, flags) }.is_ok()
    }

    /// What may be done to the bytes.
    fn access(&self) -> ProtFlags {
        if self.writable.load(Acquire) { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ }
    }
}

/// Sets a block's bit; says whether it was not set before.
fn set(words: &[AtomicU64], block: usize) -> bool {
    let bit = 1 << (block % WORD);
    words.get(block / WORD).is_some_and(|word| word.fetch_or(bit, SeqCst) & bit == 0)
}

/// Clears a block's bit; says whether it was set before.
fn clear(words: &[AtomicU64], block: usize) -> bool {
    let bit = 1 << (block % WORD);
    words.get(block / WORD).is_some_and(|word| word.fetch_and(!bit, SeqCst) & bit != 0)
}

/// Makes a fault at `address` harmless if it lies in a mapping that is watched: notes it and puts zeros there.
/// Async-signal-safe.
///
/// Gives false when it does not, or when the kernel has no room for the replacement. `is_exact` is whether the block there is
/// known to be what failed.
///
/// # Safety
///
/// This thread just faulted at `address`, through a borrow of the mapping if it is one of those watched.
pub(super) unsafe fn absorb(address: usize, is_exact: bool) -> bool {
    SLOTS.iter().any(|slot| {
        let range = slot.range();
        // SAFETY: by invariants 1 and 2 this is the slot of the mapping that this thread holds a borrow of.
        range.contains(&address) && unsafe { slot.replace(&range, address, is_exact) }
    })
}

/// Whether an address is in a mapping that is watched. Async-signal-safe.
pub(super) fn is_watched(address: usize) -> bool {
    SLOTS.iter().any(|slot| slot.range().contains(&address))
}

/// Gives the spare page back to the kernel. Async-signal-safe.
fn give_room() {
    let spare = SPARE.swap(0, SeqCst);
    if spare != 0 {
        // SAFETY: `take_spare` mapped this page, and nothing else knows of it.
        let _ = unsafe { munmap(ptr::without_provenance_mut(spare), page_size()) };
    }
}

/// Maps a spare page, if there is none.
fn take_spare() -> io::Result<()> {
    if SPARE.load(SeqCst) != 0 {
        return Ok(());
    }
    // Shared, because the kernel never joins such a mapping with its neighbours.
    // SAFETY: a new mapping, where the kernel likes.
    let spare =
        unsafe { mmap_anonymous(ptr::null_mut(), page_size(), ProtFlags::empty(), MapFlags::SHARED)? };
    if SPARE.compare_exchange(0, spare.addr(), SeqCst, Relaxed).is_err() {
        // SAFETY: another thread was faster; this page is not known to anyone.
        unsafe { munmap(spare, page_size())? };
    }
    Ok(())
}

/// The registration of one mapping; it ends when this is dropped, which must be before the mapping is.
pub(super) struct Watch {
    slot: &'static Slot,
    /// Owns what `slot.bitmap` points to.
    _bitmap: MmapRaw,
}

impl Watch {
    /// Registers the mapping of `length` bytes at `start`, whose pages can be replaced by `unit` bytes.
    ///
    /// Gives None when [`LIMIT`] mappings are registered.
    ///
    /// # Safety
    ///
    /// The mapping is the caller's own, mapped at least up to the next multiple of `unit`, and outlives the watch.
    ///
    /// # Errors
    ///
    /// When the kernel has no address space for the bitmap.
    pub(super) unsafe fn new(
        start: *mut u8,
        length: usize,
        unit: usize,
        writable: bool,
    ) -> io::Result<Option<Self>> {
        take_spare()?;
        let words = length.next_multiple_of(unit).div_ceil(BLOCK_SIZE).div_ceil(WORD);
        let bitmap = MmapOptions::new().len(2 * words * size_of::<u64>()).no_reserve_swap().map_anon()?;
        let bitmap = MmapRaw::from(bitmap);
        let free = |slot: &&Slot| slot.taken.compare_exchange(false, true, SeqCst, Relaxed).is_ok();
        let Some(slot) = SLOTS.iter().find(free) else { return Ok(None) };
        slot.end.store(start.addr() + length.next_multiple_of(unit), SeqCst);
        slot.unit.store(unit, Release);
        slot.writable.store(writable, Release);
        slot.faults.store(0, Release);
        slot.bitmap.store(bitmap.as_mut_ptr().cast(), Release);
        slot.words.store(words, Release);
        slot.start.store(start.addr(), SeqCst);
        Ok(Some(Self { slot, _bitmap: bitmap }))
    }

    /// How many blocks are lost.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.slot.faults.load(Acquire)
    }

    /// The blocks that are lost, ascending.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> {
        let ones = |(index, word): (usize, &AtomicU64)| {
            let word = word.load(Acquire);
            (0..WORD).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (index * WORD + bit) as u64)
        };
        let known = usize::try_from(self.count()).unwrap_or(usize::MAX);
        self.words().0.iter().enumerate().flat_map(ones).take(known)
    }

    /// Whether one of the blocks from `first` to `last` is lost.
    pub(super) fn any(&self, first: usize, last: usize) -> bool {
        let words = self.words().0.iter().enumerate().take(last / WORD + 1).skip(first / WORD);
        words.map(|(index, word)| (index, word.load(Acquire))).filter(|(_, word)| *word != 0).any(
            |(index, word)| {
                let low = if index == first / WORD { u64::MAX << (first % WORD) } else { u64::MAX };
                let high = if index == last / WORD { u64::MAX >> (WORD - 1 - last % WORD) } else { u64::MAX };
                word & low & high != 0
            },
        )
    }

    /// Blocks of what can be replaced at once.
    pub(super) fn unit_blocks(&self) -> usize {
        self.slot.unit.load(Acquire) / BLOCK_SIZE
    }

    /// Whether somebody faulted in a block itself.
    pub(super) fn is_to_blame(&self, block: usize) -> bool {
        let bit = 1 << (block % WORD);
        self.words().1.get(block / WORD).is_some_and(|word| word.load(Acquire) & bit != 0)
    }

    /// Says that a block is lost.
    pub(super) fn lose(&self, block: usize) {
        if set(self.words().0, block) {
            self.slot.faults.fetch_add(1, SeqCst);
        }
    }

    /// Says that a block is lost, and to blame.
    pub(super) fn blame(&self, block: usize) {
        set(self.words().1, block);
        self.lose(block);
    }

    /// Forgets that a block is lost.
    pub(super) fn forget(&self, block: usize) {
        let (lost, blamed) = self.words();
        clear(blamed, block);
        if clear(lost, block) {
            self.slot.faults.fetch_sub(1, SeqCst);
        }
    }

    /// Maps the unit that holds a block anew: `file` at the unit's own place in it, in place of what is there.
    ///
    /// # Safety
    ///
    /// `file` is what the mapping is of, from its start on, shared. Nobody relies on what the unit's bytes were.
    ///
    /// # Errors
    ///
    /// When the kernel has no room for one more piece of a mapping. The unit is as it was.
    pub(super) unsafe fn map_anew(&self, file: &File, block: usize) -> io::Result<()> {
        let (unit, mapping) = (self.slot.unit.load(Acquire), self.slot.range());
        let offset = block.saturating_mul(BLOCK_SIZE) & !(unit - 1);
        if mapping.len().checked_sub(unit).is_none_or(|last| offset > last) {
            return Err(Errno::INVAL.into());
        }
        let at = ptr::without_provenance_mut(mapping.start + offset);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the unit lies within the mapping that this watches, which is ours and lives; it is replaced by the
        // same bytes of the same file, as the caller promises.
        unsafe { mmap(at, unit, self.slot.access(), flags, file, offset as u64)? };
        Ok(())
    }

    fn words(&self) -> (&[AtomicU64], &[AtomicU64]) {
        // SAFETY: this is the watch of the slot, and it lives as long as what it gives out.
        unsafe { self.slot.words() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.slot.start.store(0, SeqCst);
        self.slot.taken.store(false, SeqCst);
    }
}
