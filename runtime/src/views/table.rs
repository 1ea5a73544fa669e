//! Which files have views: for those who change extent maps, share blocks or make stores last.

use super::area::{Area, Stores};
use super::door::Door;
use super::guard::{Guard, Kernel, Shim, Userfault};
use super::pages::PageSet;
use crate::core::{Core, lock};
use crate::error::{Error, Result};
use crate::inodes::Cell;
use crate::locks::{Ordered, Rank, take};
use crate::medium::Medium;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS, MAX_FILE_BLOCKS};
use paxfs_format::record::Record;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// All views of an engine.
#[derive(Debug)]
pub(crate) struct Views {
    pub door: Arc<Door>,
    guard: Arc<dyn Guard>,
    /// For views that keep what is stored to them.
    private: Arc<dyn Guard>,
    mechanism: Mechanism,
    /// How many files have views: what others ask before they take a lock.
    count: AtomicUsize,
    files: Mutex<HashMap<u64, Arc<Mapping>>>,
    /// Views that were on the stack of those that may be dirty, and have not been cleaned since.
    dirty: Mutex<Vec<Arc<Area>>>,
    /// The last fault that could not be answered.
    failed: Mutex<Option<FailedFault>>,
}

/// How stores to views are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// By SIGSEGV, on any file or device. A system call that stores to a page that is protected gets EFAULT: see
    /// [`View::pin`](super::View::pin).
    Signal,
    /// By userfaultfd, in memory (tmpfs, memfd). System calls wait as loads and stores do.
    Userfault,
    /// Loads and stores are calls: the medium cannot be mapped.
    Calls,
}

/// Shared and private views' guards, and how stores to shared views are noticed.
type Guards = (Arc<dyn Guard>, Option<Arc<dyn Guard>>, Mechanism);

/// Who stands between views and a medium that can be mapped: as wanted, or what is best. That is userfaultfd in memory,
/// unless the kernel has 2 MiB pages there, which it would take apart.
fn guards(medium: &Arc<dyn Medium>, wanted: Option<Mechanism>) -> Option<Guards> {
    let window = medium.window().filter(|_| wanted != Some(Mechanism::Calls))?;
    let kernel = Kernel::new(window.file.try_clone().ok()?, &window);
    let private: Arc<dyn Guard> = Arc::new(kernel.again().ok()?);
    let is_best = window.memory && !window.huge && wanted.is_none();
    if is_best || window.memory && wanted == Some(Mechanism::Userfault) {
        let again = kernel.again().ok()?;
        if let Some(userfault) = Userfault::new(again) {
            return Some((Arc::new(userfault), Some(private), Mechanism::Userfault));
        }
    }
    Some((Arc::new(kernel), Some(private), Mechanism::Signal))
}

/// A fault that could not be answered: the thread got SIGBUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFault {
    /// Inode of the file.
    pub inode: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Whether it was a store.
    pub store: bool,
    /// Why.
    pub error: String,
    /// The errno of that.
    pub errno: i32,
}

/// The views of one file.
#[derive(Debug)]
pub(crate) struct Mapping {
    areas: Mutex<Vec<Arc<Area>>>,
    /// The last transaction that changed the file's extents.
    pub remapped: AtomicU64,
    /// One sync of the file at a time.
    pub cleaning: Mutex<()>,
    /// Ranges of file blocks that have to stay as they are.
    pins: Mutex<Vec<Range<u64>>>,
}

impl Views {
    /// No views yet, of a medium; and how many kernel mappings they may have.
    pub fn new(medium: &Arc<dyn Medium>, budget: usize, wanted: Option<Mechanism>) -> Self {
        let (guard, private, mechanism) = guards(medium, wanted)
            .unwrap_or_else(|| (Arc::new(Shim::new(Arc::clone(medium))), None, Mechanism::Calls));
        Views {
            door: Arc::new(Door::new(budget)),
            private: private.unwrap_or_else(|| Arc::clone(&guard)),
            guard,
            mechanism,
            count: AtomicUsize::new(0),
            files: Mutex::default(),
            dirty: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// What stands between a view and the medium.
    pub fn guard(&self, stores: Stores) -> &Arc<dyn Guard> {
        if stores == Stores::Private { &self.private } else { &self.guard }
    }

    /// How stores are noticed.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    fn files(&self) -> Ordered<MutexGuard<'_, HashMap<u64, Arc<Mapping>>>> {
        take(Rank::Views, || lock(&self.files))
    }

    /// The views of a file, if it has any.
    pub fn of(&self, inode: u64) -> Option<Arc<Mapping>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.files().get(&inode).cloned()
    }

    /// Adds a view. The file's inode is locked; `remapped` is the last transaction that may have changed its extents.
    pub fn add(&self, area: &Arc<Area>, remapped: u64) {
        let mut files = self.files();
        let mapping = files.entry(area.cell.number).or_insert_with(|| {
            Arc::new(Mapping {
                areas: Mutex::default(),
                remapped: AtomicU64::new(remapped),
                cleaning: Mutex::default(),
                pins: Mutex::default(),
            })
        });
        mapping.locked().push(Arc::clone(area));
        self.count.store(files.len(), Ordering::Release);
    }

    /// Forgets a view that is clean, and that nobody can reach any more.
    pub fn remove(&self, area: &Arc<Area>) {
        let mut files = self.files();
        if let Some(mapping) = files.get(&area.cell.number) {
            let mut areas = mapping.locked();
            areas.retain(|other| !Arc::ptr_eq(other, area));
            let gone = areas.is_empty();
            drop(areas);
            if gone {
                files.remove(&area.cell.number);
            }
        }
        self.count.store(files.len(), Ordering::Release);
        drop(files);
        self.each_dirty(|dirty| dirty.retain(|other| !Arc::ptr_eq(other, area)));
    }

    /// The list of views that may be dirty, with those that were stored to since.
    fn each_dirty<T>(&self, each: impl FnOnce(&mut Vec<Arc<Area>>) -> T) -> T {
        let mut dirty = take(Rank::DirtyViews, || lock(&self.dirty));
        for area in self.door.take_dirty() {
            if !dirty.iter().any(|other| Arc::ptr_eq(other, &area)) {
                dirty.push(area);
            }
        }
        each(&mut dirty)
    }

    /// Views that may have dirty pages, and leaves those that have none off the list.
    pub fn dirty(&self) -> Vec<Arc<Area>> {
        self.each_dirty(|dirty| {
            dirty.retain(|area| area.is_dirty() || area.is_touched());
            dirty.clone()
        })
    }

    /// All views.
    pub fn all(&self) -> Vec<Arc<Area>> {
        let mappings: Vec<_> = self.files().values().cloned().collect();
        mappings.iter().flat_map(|mapping| mapping.areas()).collect()
    }

    /// Whether a file that `is_meant` has something pinned.
    pub fn has_pins(&self, is_meant: impl Fn(u64) -> bool) -> bool {
        self.count.load(Ordering::Acquire) != 0
            && self.files().iter().any(|(inode, mapping)| is_meant(*inode) && mapping.has_pins())
    }

    /// The blocks whose mappings change with those of a range: whole frames, where nothing less is mapped.
    pub fn reached(&self, blocks: &Range<u64>) -> Range<u64> {
        if !self.guard.is_coarse() {
            return blocks.clone();
        }
        let end = blocks.end.checked_next_multiple_of(HUGE_BLOCKS).unwrap_or(u64::MAX);
        blocks.start - blocks.start % HUGE_BLOCKS..end
    }

    /// The last fault that could not be answered.
    pub fn failed(&self) -> Option<FailedFault> {
        take(Rank::DirtyViews, || lock(&self.failed)).clone()
    }

    /// Remembers a fault that could not be answered.
    pub fn set_failed(&self, fault: FailedFault) {
        *take(Rank::DirtyViews, || lock(&self.failed)) = Some(fault);
    }

    /// Lets faults that waited for a thaw be answered.
    pub fn thaw(&self) {
        super::request::thaw();
        if self.mechanism == Mechanism::Userfault {
            super::guard::thaw();
        }
    }

    /// Takes kernel mappings from where there are most of them, until the budget has room.
    pub fn make_room(&self) {
        if !self.door.is_over_budget() {
            return;
        }
        for area in self.all() {
            for index in 0..area.frame_count() {
                area.evict(index);
            }
            if !self.door.is_over_budget() {
                return;
            }
        }
    }
}

impl Mapping {
    /// The views.
    pub fn areas(&self) -> Vec<Arc<Area>> {
        self.locked().clone()
    }

    fn locked(&self) -> Ordered<MutexGuard<'_, Vec<Arc<Area>>>> {
        take(Rank::FileViews, || lock(&self.areas))
    }

    /// Whether one of the views takes stores to the file.
    pub fn takes_stores(&self) -> bool {
        self.locked().iter().any(|area| area.stores == Stores::Shared)
    }

    /// Pins a range of file blocks.
    pub fn pin(&self, blocks: Range<u64>) {
        take(Rank::FileViews, || lock(&self.pins)).push(blocks);
    }

    /// Unpins a range of file blocks.
    pub fn unpin(&self, blocks: &Range<u64>) {
        let mut pins = take(Rank::FileViews, || lock(&self.pins));
        if let Some(index) = pins.iter().position(|pin| pin == blocks) {
            pins.swap_remove(index);
        }
    }

    /// Those of a frame's pages, from a file block on, that are pinned.
    pub fn pinned_pages(&self, first: u64) -> PageSet {
        let page = |block: u64| usize::try_from(block.saturating_sub(first).min(HUGE_BLOCKS)).unwrap_or(0);
        let pins = take(Rank::FileViews, || lock(&self.pins));
        pins.iter().fold(PageSet::EMPTY, |all, pin| all | PageSet::range(page(pin.start)..page(pin.end)))
    }

    /// Whether anything is pinned.
    pub fn has_pins(&self) -> bool {
        !take(Rank::FileViews, || lock(&self.pins)).is_empty()
    }

    /// Whether something in a range of file blocks is pinned.
    pub fn is_pinned(&self, blocks: &Range<u64>) -> bool {
        let pins = take(Rank::FileViews, || lock(&self.pins));
        pins.iter().any(|pin| pin.start < blocks.end && blocks.start < pin.end)
    }
}

impl Core {
    /// Takes the pages of a range of file blocks away in all views of the file: its extents there are `new` from now on.
    /// The inode's lock is held alone, or the gate is.
    pub fn views_follow(&self, inode: u64, blocks: &Range<u64>, new: &[Extent], running: u64) -> Result<()> {
        let Some(mapping) = self.views.of(inode) else { return Ok(()) };
        mapping.remapped.fetch_max(running, Ordering::AcqRel);
        for area in mapping.areas() {
            for (index, pages) in area.frames_of(blocks) {
                let there = area.frame_blocks(index);
                let kept = new.iter().flat_map(|extent| {
                    let part = extent.offset.get().max(there.start)..extent.end().min(there.end);
                    area.frames_of(&part).map(|(_, pages)| pages)
                });
                let kept = kept.fold(PageSet::EMPTY, |all, pages| all | pages);
                area.take_away(index, pages, pages & !kept).map_err(|error| self.no_mapping(&error))?;
            }
        }
        Ok(())
    }

    /// Takes pages away in all views of a file; what was stored to them stays to be flushed.
    pub fn take_mappings_away(&self, inode: u64, blocks: &Range<u64>) -> Result<()> {
        let Some(mapping) = self.views.of(inode) else { return Ok(()) };
        for area in mapping.areas() {
            for (index, pages) in area.frames_of(blocks) {
                area.take_away(index, pages, PageSet::EMPTY).map_err(|error| self.no_mapping(&error))?;
            }
        }
        Ok(())
    }

    /// Addresses at which views have a block of a file.
    pub fn addresses_of(&self, inode: u64, block: u64) -> Vec<usize> {
        let areas = self.views.of(inode).map(|mapping| mapping.areas()).unwrap_or_default();
        let there = areas.iter().filter(|area| area.guard.is_memory() && area.blocks.contains(&block));
        there.map(|area| area.address(block)).collect()
    }

    /// Takes pages from a file block on away in private views: the file ends before them, and what was stored to them ends
    /// with it.
    pub fn end_private_views(&self, inode: u64, end: u64) -> Result<()> {
        let Some(mapping) = self.views.of(inode) else { return Ok(()) };
        for area in mapping.areas().iter().filter(|area| area.stores == Stores::Private) {
            for (index, pages) in area.frames_of(&(end..MAX_FILE_BLOCKS)) {
                area.forget(index, pages).map_err(|error| self.no_mapping(&error))?;
            }
        }
        Ok(())
    }

    /// A file that ended at `size` is longer. Where a frame is mapped whole, blocks behind that end were mapped with those
    /// before it, and now they are the file's: they are looked at again.
    pub fn views_grow(&self, inode: u64, size: u64) -> Result<()> {
        if !self.views.guard.is_coarse() {
            return Ok(());
        }
        let last = size / BLOCK_BYTES;
        self.take_mappings_away(inode, &(last..last + 1))
    }

    /// Whether a range of a file may be given other blocks, or be shared.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when somebody has part of it pinned.
    pub fn check_unpinned(&self, cell: &Cell, blocks: &Range<u64>) -> Result<()> {
        match self.views.of(cell.number) {
            Some(mapping) if mapping.is_pinned(&self.views.reached(blocks)) => Err(Error::Busy),
            _ => Ok(()),
        }
    }

    /// Takes all views away: the volume is closed, or shut down. What is stored afterwards reaches nothing.
    pub fn close_views(&self) {
        self.views.door.close();
        for area in self.views.all() {
            for (index, pages) in area.frames_of(&(0..MAX_FILE_BLOCKS)) {
                // What the kernel cannot take away is gone with the process.
                let _ = area.take_away(index, pages, PageSet::EMPTY);
            }
        }
    }

    /// The error of a kernel that could not change a mapping: a page may still lead to where it must not.
    fn no_mapping(&self, error: &std::io::Error) -> Error {
        self.shut_down();
        Error::Mapping(error.kind())
    }
}
