//! The mappings of this process that must survive a fault, where the signal handler can find them, and what
//! faulted.
//!
//! A fixed table of slots made of atomics, because the handler may interrupt anything and must neither lock nor
//! allocate:
//!
//! ```text
//! SLOTS   [start end unit … faults bitmap] [start end …] [0 …] …        start = 0: not to be looked at
//!                                     └──> one bit a block, an anonymous mapping that costs nothing untouched
//! ```
//!
//! Invariants:
//!
//! 1. `start` is stored last when a slot is filled and cleared first when it is given back. So a handler that reads
//!    `start`, `end` and again the same `start` has read the range of a mapping that lived in that moment.
//! 2. Mappings that live at the same time are disjoint, and the mapping that a thread faults in lives as long as its
//!    handler runs (the thread holds a borrow of it). So the range that holds the address is that mapping's, and the
//!    rest of its slot stands still.
//! 3. A fault is noted before its page is replaced: whoever reads the zeros of the replacement finds the note.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
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
    /// How many bits of the bitmap are set.
    faults: AtomicU64,
    /// The bitmap, and its length in words.
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

    /// The fault bitmap.
    ///
    /// # Safety
    ///
    /// The [`Watch`] that fills this slot lives for all of `'a`.
    unsafe fn words<'a>(&self) -> &'a [AtomicU64] {
        // SAFETY: `Watch::new` stored the address and length of a page-aligned anonymous mapping, zeroed by the
        // kernel and reached by nothing but these atomics; the watch, which owns it, lives, as the caller promises.
        unsafe { slice::from_raw_parts(self.bitmap.load(Acquire), self.words.load(Acquire)) }
    }

    /// Notes the blocks of the unit that holds `address`, and puts zeros in their place. Async-signal-safe.
    ///
    /// # Safety
    ///
    /// `mapping` is what [`range`](Self::range) said and holds `address`, and the [`Watch`] of this slot lives until
    /// this returns.
    unsafe fn replace(&self, mapping: &Range<usize>, address: usize) -> bool {
        // The mapping is whole units from its start on: none of this wraps.
        let unit = self.unit.load(Acquire);
        let start = mapping.start.wrapping_add(address.wrapping_sub(mapping.start) & !unit.wrapping_sub(1));
        let unit = start..start.wrapping_add(unit);
        // SAFETY: as promised by the caller; the unit lies within the mapping.
        unsafe {
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

    /// Sets the bits of the blocks in `piece`.
    ///
    /// # Safety
    ///
    /// The [`Watch`] of this slot lives until this returns.
    unsafe fn note(&self, mapping: &Range<usize>, piece: &Range<usize>) {
        let first = piece.start.wrapping_sub(mapping.start) / BLOCK_SIZE;
        let end = piece.end.wrapping_sub(mapping.start).div_ceil(BLOCK_SIZE);
        // SAFETY: as promised by the caller.
        let words = unsafe { self.words() };
        for block in first..end {
            let bit = 1 << (block % WORD);
            if words.get(block / WORD).is_some_and(|word| word.fetch_or(bit, SeqCst) & bit == 0) {
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
        let access =
            if self.writable.load(Acquire) { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let at = ptr::without_provenance_mut(piece.start);
        // SAFETY: this replaces memory of ours and no one else's. Its bytes were open to change from outside before
        // (see `Map::bytes`), so no reference loses a value that it could rely on.
        unsafe { mmap_anonymous(at, piece.len(), access, flags) }.is_ok()
    }
}

/// Makes a fault at `address` harmless if it lies in a mapping that is watched: notes it and puts zeros there.
/// Async-signal-safe.
///
/// Gives false when it does not, or when the kernel has no room for the replacement.
///
/// # Safety
///
/// This thread just faulted at `address`, through a borrow of the mapping if it is one of those watched.
pub(super) unsafe fn absorb(address: usize) -> bool {
    SLOTS.iter().any(|slot| {
        let range = slot.range();
        // SAFETY: by invariants 1 and 2 this is the slot of the mapping that this thread holds a borrow of.
        range.contains(&address) && unsafe { slot.replace(&range, address) }
    })
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
        let bitmap = MmapOptions::new().len(words * size_of::<u64>()).no_reserve_swap().map_anon()?;
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

    /// How many blocks faulted.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.slot.faults.load(Acquire)
    }

    /// The blocks that faulted, ascending.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> {
        let ones = |(index, word): (usize, &AtomicU64)| {
            let word = word.load(Acquire);
            (0..WORD).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (index * WORD + bit) as u64)
        };
        let known = usize::try_from(self.count()).unwrap_or(usize::MAX);
        self.words().iter().enumerate().flat_map(ones).take(known)
    }

    /// Whether one of the blocks from `first` to `last` faulted.
    pub(super) fn any(&self, first: usize, last: usize) -> bool {
        let words = self.words().iter().enumerate().take(last / WORD + 1).skip(first / WORD);
        words.map(|(index, word)| (index, word.load(Acquire))).filter(|(_, word)| *word != 0).any(
            |(index, word)| {
                let low = if index == first / WORD { u64::MAX << (first % WORD) } else { u64::MAX };
                let high = if index == last / WORD { u64::MAX >> (WORD - 1 - last % WORD) } else { u64::MAX };
                word & low & high != 0
            },
        )
    }

    fn words(&self) -> &[AtomicU64] {
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
