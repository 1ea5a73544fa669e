//! The addresses of a view, and the one step that needs no lock: a page that is the file's own becomes writable.

use super::door::Door;
use super::frame::{Frame, Locked};
use super::guard::{Access, Guard};
use super::pages::{FRAME_PAGES, PageSet};
use crate::core::Core;
use crate::inodes::Cell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use std::io;
use std::sync::{Arc, Weak};
use zerocopy::FromZeros;

const PAGE: usize = 4096;
const FRAME: usize = FRAME_PAGES * PAGE;

/// Which stores a view takes, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stores {
    /// None.
    Never,
    /// To the file.
    Shared,
    /// To the view alone.
    Private,
}

/// The addresses of a view.
#[derive(Debug)]
pub(crate) struct Area {
    pub core: Weak<Core>,
    pub cell: Arc<Cell>,
    pub me: Weak<Area>,
    pub stores: Stores,
    pub guard: Arc<dyn Guard>,
    pub door: Arc<Door>,
    /// Address of the first frame.
    pub base: usize,
    /// The file's blocks that can be reached.
    pub blocks: Range<u64>,
    frames: Box<[Frame]>,
    /// A bit for each frame that may have dirty pages.
    dirty: Box<[AtomicU64]>,
    /// When it was first stored to since that was last asked: nanoseconds since 1970, 0 for not at all.
    touched: AtomicU64,
    is_released: AtomicBool,
    pub queued: AtomicBool,
    pub next: AtomicPtr<Area>,
}

/// What an area is made for.
pub(crate) struct Plan {
    pub core: Weak<Core>,
    pub cell: Arc<Cell>,
    pub stores: Stores,
    pub guard: Arc<dyn Guard>,
    pub door: Arc<Door>,
    pub blocks: Range<u64>,
}

impl Area {
    /// Reserves addresses for a range of file blocks.
    pub fn new(plan: Plan) -> io::Result<Arc<Self>> {
        let Plan { core, cell, stores, guard, door, blocks } = plan;
        let count = blocks.end.div_ceil(HUGE_BLOCKS) - blocks.start / HUGE_BLOCKS;
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let count = usize::try_from(count).ok().filter(|count| *count <= 1 << 26).ok_or_else(too_large)?;
        // Memory that costs nothing untouched.
        let frames = <[Frame]>::new_box_zeroed_with_elems(count).map_err(|_| too_large())?;
        let dirty = <[AtomicU64]>::new_box_zeroed_with_elems(count.div_ceil(64)).map_err(|_| too_large())?;
        let base = guard.reserve(count * FRAME)?;
        Ok(Arc::new_cyclic(|me| Area {
            core,
            cell,
            me: me.clone(),
            stores,
            guard,
            door,
            base,
            blocks,
            frames,
            dirty,
            touched: AtomicU64::new(0),
            is_released: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }))
    }

    /// Bytes of addresses from `base` on.
    pub fn length(&self) -> usize {
        self.frames.len() * FRAME
    }

    /// The file's first block of the first frame.
    fn first(&self) -> u64 {
        self.blocks.start - self.blocks.start % HUGE_BLOCKS
    }

    /// Address of a block of the file.
    pub fn address(&self, block: u64) -> usize {
        self.base + usize::try_from((block - self.first()) * BLOCK_BYTES).unwrap_or(0)
    }

    /// The block of the file at an address, if it can be reached.
    pub fn block_at(&self, address: usize) -> Option<u64> {
        let block = self.first() + (address.checked_sub(self.base)? / PAGE) as u64;
        self.blocks.contains(&block).then_some(block)
    }

    /// The file's blocks of a frame.
    pub fn frame_blocks(&self, index: usize) -> Range<u64> {
        let start = self.first() + index as u64 * HUGE_BLOCKS;
        start..start + HUGE_BLOCKS
    }

    /// A frame, locked; `None` when the addresses were given back.
    pub fn lock(&self, index: usize) -> Option<Locked<'_>> {
        let locked = self.frames.get(index)?.lock();
        (!self.is_released.load(Ordering::Acquire)).then_some(locked)
    }

    /// Frame and page of a block.
    pub fn place(&self, block: u64) -> Option<(usize, usize)> {
        let page = usize::try_from(block.checked_sub(self.first())?).ok()?;
        (page / FRAME_PAGES < self.frames.len()).then_some((page / FRAME_PAGES, page % FRAME_PAGES))
    }

    /// The frames that have some of a range of file blocks, and which of their pages.
    pub fn frames_of(&self, blocks: &Range<u64>) -> impl Iterator<Item = (usize, PageSet)> + use<> {
        let first = self.first();
        let end = self.blocks.end.min(blocks.end).saturating_sub(first);
        let start = self.blocks.start.max(blocks.start).saturating_sub(first);
        let frames = start / HUGE_BLOCKS..if start < end { end.div_ceil(HUGE_BLOCKS) } else { 0 };
        frames.map(move |frame| {
            let page = |at: u64| {
                let page = at.saturating_sub(frame * HUGE_BLOCKS).min(HUGE_BLOCKS);
                usize::try_from(page).unwrap_or(FRAME_PAGES)
            };
            (usize::try_from(frame).unwrap_or(usize::MAX), PageSet::range(page(start)..page(end)))
        })
    }

    /// Address and length of pages of a frame.
    pub fn span(&self, index: usize, pages: &Range<usize>) -> (usize, usize) {
        (self.base + index * FRAME + pages.start * PAGE, (pages.end - pages.start) * PAGE)
    }

    /// Makes what is at an address writable, if that takes no lock and nothing else. For signal handlers.
    pub fn open_at_once(&self, address: usize) -> bool {
        let Some(_inside) = self.door.enter() else { return false };
        let place = self.block_at(address).and_then(|block| self.place(block));
        let Some((index, page)) = place.filter(|_| self.stores == Stores::Shared) else { return false };
        let Some(locked) = self.frames.get(index).and_then(Frame::try_lock) else { return false };
        if self.is_released.load(Ordering::Acquire) {
            return false;
        }
        if locked.epoch.load(Ordering::Relaxed) != self.door.epoch() || !locked.own.get().has(page) {
            return false;
        }
        if self.guard.makes_pieces() && !locked.is_huge() && self.door.is_over_budget() {
            return false;
        }
        self.open(&locked, index, page).is_ok()
    }

    /// Makes a page that is the file's own writable, and with it all of an entry of 2 MiB.
    pub fn open(&self, locked: &Locked<'_>, index: usize, page: usize) -> io::Result<()> {
        if locked.writable.get().has(page) {
            return Ok(());
        }
        let pages = if locked.is_huge() { 0..FRAME_PAGES } else { page..page + 1 };
        let set = PageSet::range(pages.clone());
        // Noted before anything can be stored.
        locked.dirty.add(set);
        self.note_dirty(index);
        let (at, length) = self.span(index, &pages);
        self.guard.protect(at, length, true)?;
        locked.writable.add(set);
        self.recount(locked);
        Ok(())
    }

    fn note_dirty(&self, index: usize) {
        if let Some(word) = self.dirty.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::AcqRel);
        }
        if self.touched.load(Ordering::Relaxed) == 0 {
            self.touched.store(nanoseconds(), Ordering::Release);
        }
        self.door.push_dirty(self);
    }

    /// When it was first stored to since this was last asked.
    pub fn take_touched(&self) -> Option<u64> {
        Some(self.touched.swap(0, Ordering::AcqRel)).filter(|nanoseconds| *nanoseconds != 0)
    }

    /// Whether it was stored to since that was last asked.
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire) != 0
    }

    /// Whether frames have dirty pages.
    pub fn is_dirty(&self) -> bool {
        self.dirty.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }

    /// Takes from the frames that may have dirty pages those that have some of a range of file blocks.
    pub fn take_dirty_frames(&self, blocks: &Range<u64>) -> Vec<(usize, PageSet)> {
        let mut found = Vec::new();
        for (index, word) in self.dirty.iter().enumerate() {
            let mut bits = word.load(Ordering::Acquire);
            while bits != 0 {
                let frame = index * 64 + bits.trailing_zeros() as usize;
                let there = self.frame_blocks(frame);
                let part = there.start.max(blocks.start)..there.end.min(blocks.end);
                if let Some((_, pages)) = self.frames_of(&part).next() {
                    word.fetch_and(!(bits & bits.wrapping_neg()), Ordering::AcqRel);
                    found.push((frame, pages));
                }
                bits &= bits - 1;
            }
        }
        found
    }

    /// Takes pages of a frame the right to be stored to. Those that were dirty are clean, and returned.
    pub fn clean(&self, index: usize, pages: PageSet) -> io::Result<PageSet> {
        let Some(locked) = self.lock(index) else { return Ok(PageSet::EMPTY) };
        // An entry of 2 MiB is protected as one.
        let whole = locked.is_huge() && !(locked.writable.get() & pages).is_empty();
        let pages = if whole { PageSet::ALL } else { pages };
        self.protect(&locked, index, pages)?;
        let dirty = locked.dirty.get() & pages;
        locked.dirty.remove(dirty);
        if !locked.dirty.get().is_empty() {
            self.note_dirty_again(index);
        }
        Ok(dirty)
    }

    /// Says that pages of a frame are dirty still: they were not flushed.
    pub fn keep_dirty(&self, index: usize, pages: PageSet) {
        if let Some(locked) = self.lock(index) {
            locked.dirty.add(pages);
            self.note_dirty_again(index);
        }
    }

    fn note_dirty_again(&self, index: usize) {
        if let Some(word) = self.dirty.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::AcqRel);
        }
        self.door.push_dirty(self);
    }

    fn protect(&self, locked: &Locked<'_>, index: usize, pages: PageSet) -> io::Result<()> {
        let writable = locked.writable.get() & pages;
        if self.stores == Stores::Private || writable.is_empty() {
            return Ok(());
        }
        for run in writable.runs() {
            let (at, length) = self.span(index, &run);
            if self.guard.protect(at, length, false).is_err() {
                // No kernel mapping is left for another border. One for all of the frame needs fewer than there are.
                return self.unmap(locked, index, PageSet::ALL);
            }
        }
        locked.writable.remove(writable);
        self.recount(locked);
        Ok(())
    }

    /// Takes pages of a frame the right to be stored to, and to get it without being asked.
    pub fn revoke(&self, index: usize, pages: PageSet) -> io::Result<PageSet> {
        let dirty = self.clean(index, pages)?;
        if let Some(locked) = self.lock(index) {
            locked.own.remove(pages);
        }
        Ok(dirty)
    }

    /// Takes pages of a frame away; of those in `gone` nothing is left that would have to be flushed.
    pub fn take_away(&self, index: usize, pages: PageSet, gone: PageSet) -> io::Result<()> {
        let Some(locked) = self.lock(index) else { return Ok(()) };
        let pages = if self.guard.is_coarse() { PageSet::ALL } else { pages };
        // What was stored to a private view stays with it.
        let kept = if self.stores == Stores::Private { locked.writable.get() } else { PageSet::EMPTY };
        self.unmap(&locked, index, pages & !kept)?;
        locked.dirty.remove(gone);
        Ok(())
    }

    /// Takes pages of a frame away, with what was stored to them in a private view.
    pub fn forget(&self, index: usize, pages: PageSet) -> io::Result<()> {
        self.lock(index).map_or(Ok(()), |locked| self.unmap(&locked, index, pages))
    }

    /// Takes a page away whose fault cannot be answered.
    pub fn refuse(&self, block: u64) -> io::Result<()> {
        let Some((index, page)) = self.place(block) else { return Ok(()) };
        let Some(locked) = self.lock(index) else { return Ok(()) };
        self.unmap(&locked, index, PageSet::range(page..page + 1))?;
        let (at, length) = self.span(index, &(page..page + 1));
        self.guard.refuse(at, length)
    }

    fn unmap(&self, locked: &Locked<'_>, index: usize, pages: PageSet) -> io::Result<()> {
        let mapped = locked.mapped.get() & pages;
        if mapped.is_empty() {
            return Ok(());
        }
        let all = mapped.runs().try_for_each(|run| {
            let (at, length) = self.span(index, &run);
            self.guard.clear(at, length)
        });
        if all.is_err() {
            let (at, length) = self.span(index, &(0..FRAME_PAGES));
            self.guard.clear(at, length)?;
        }
        locked.set_unmapped(if all.is_err() { PageSet::ALL } else { mapped });
        self.recount(locked);
        Ok(())
    }

    /// Takes a frame away as a whole, so that it needs one kernel mapping. Says whether it needed more.
    pub fn evict(&self, index: usize) -> bool {
        if self.frames.get(index).is_none_or(|frame| frame.pieces.load(Ordering::Relaxed) <= 1) {
            return false;
        }
        let Some(locked) = self.lock(index) else { return false };
        self.stores != Stores::Private && self.unmap(&locked, index, PageSet::ALL).is_ok()
    }

    /// Whether a block of the file can be loaded without asking. For signal handlers.
    pub fn is_mapped(&self, block: u64) -> bool {
        let place = self.place(block).and_then(|(index, page)| Some((self.frames.get(index)?, page)));
        place.is_some_and(|(frame, page)| frame.mapped.get().has(page))
    }

    /// Whether a block that is mapped is the medium's, and neither a hole nor what was stored to a private view.
    pub fn shows_medium(&self, block: u64) -> bool {
        let place = self.place(block).and_then(|(index, page)| Some((self.lock(index)?, page)));
        place.is_some_and(|(frame, page)| {
            let is_stored = self.stores == Stores::Private && frame.writable.get().has(page);
            frame.mapped.get().has(page) && !frame.zero.get().has(page) && !is_stored
        })
    }

    /// Whether the volume is not frozen.
    pub fn is_thawed(&self) -> bool {
        self.core.upgrade().is_none_or(|core| !core.is_frozen())
    }

    /// How many frames there are.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Maps blocks of the file that are one run of the medium, as far as they are not mapped yet; `own` ones may become
    /// writable without asking.
    pub fn map(&self, blocks: &Range<u64>, start: u64, own: bool) -> io::Result<()> {
        let access = if self.stores == Stores::Private { Access::Private } else { Access::Shared };
        let epoch = self.door.epoch();
        let frames: Vec<(usize, PageSet)> = self.frames_of(blocks).collect();
        let mut locked = Vec::with_capacity(frames.len());
        for (index, pages) in &frames {
            // All of them are there, or none.
            let Some(frame) = self.lock(*index) else { return Ok(()) };
            let whole = *pages == PageSet::ALL
                && (start + self.frame_blocks(*index).start)
                    .wrapping_sub(blocks.start)
                    .is_multiple_of(HUGE_BLOCKS);
            let joins = whole && self.guard.is_huge() && self.stores != Stores::Private && !frame.is_huge();
            let wanted = if joins { PageSet::ALL } else { *pages & !frame.mapped.get() };
            locked.push((*index, frame, wanted, whole, *pages));
        }
        // Runs that go on in the next frame are one call.
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (index, _, wanted, ..) in &locked {
            for pages in wanted.runs() {
                let (at, length) = self.span(*index, &pages);
                match runs.last_mut() {
                    Some(last) if last.end == at => last.end += length,
                    _ => runs.push(at..at + length),
                }
            }
        }
        let mapped = runs.into_iter().try_for_each(|run| {
            let skip = (run.start - self.address(blocks.start)) as u64;
            self.guard.map(run.start, run.len(), start * BLOCK_BYTES + skip, access)
        });
        if let Err(error) = mapped {
            // Some of it may be there.
            for (index, frame, wanted, ..) in &locked {
                frame.set_mapped(*wanted, PageSet::EMPTY, epoch);
                self.unmap(frame, *index, PageSet::ALL)?;
            }
            return Err(error);
        }
        for (_, frame, wanted, whole, pages) in &locked {
            if !wanted.is_empty() {
                frame.set_mapped(*wanted, PageSet::EMPTY, epoch);
            }
            let known =
                if frame.epoch.load(Ordering::Relaxed) == epoch { frame.own.get() } else { PageSet::EMPTY };
            let keep =
                known | if own { *pages & !frame.zero.get() & frame.mapped.get() } else { PageSet::EMPTY };
            frame.own.remove(!keep);
            frame.epoch.store(epoch, Ordering::Relaxed);
            frame.own.add(keep);
            if *whole
                && self.guard.is_huge()
                && self.stores != Stores::Private
                && frame.mapped.get() == PageSet::ALL
            {
                frame.huge.store(1, Ordering::Relaxed);
            }
            self.recount(frame);
        }
        Ok(())
    }

    /// Lets blocks of the file that are not mapped read as zeros.
    pub fn map_zeros(&self, blocks: &Range<u64>) -> io::Result<()> {
        for (index, pages) in self.frames_of(blocks) {
            let Some(locked) = self.lock(index) else { return Ok(()) };
            let wanted = pages & !locked.mapped.get();
            let zeroed = wanted.runs().try_for_each(|run| {
                let (at, length) = self.span(index, &run);
                self.guard.zero(at, length)
            });
            locked.set_zero(wanted);
            self.recount(&locked);
            if let Err(error) = zeroed {
                self.unmap(&locked, index, PageSet::ALL)?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn recount(&self, locked: &Locked<'_>) {
        let now = locked.count_pieces(self.guard.makes_pieces());
        let before = locked.pieces.swap(now, Ordering::Relaxed);
        self.door.change_pieces(before, now);
    }

    /// Gives the addresses back. Nobody may use them any more; who has the area still finds no frame in it.
    pub fn release(&self) {
        self.is_released.store(true, Ordering::Release);
        for frame in &self.frames {
            // Who has it locked may be about to map something.
            drop(frame.lock());
            self.door.change_pieces(frame.pieces.swap(0, Ordering::Relaxed), 0);
        }
        self.guard.release(self.base, self.length());
    }
}

/// The time of day. For signal handlers, too.
fn nanoseconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
}
