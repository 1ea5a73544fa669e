//! What all views of an engine share, and a signal handler may look at: atomics only.

use super::area::Area;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

/// The door to making pages writable without a lock, and what comes of that.
#[derive(Debug)]
pub(crate) struct Door {
    closed: AtomicBool,
    /// Who is on the way through.
    inside: AtomicUsize,
    /// Raised when every page may have another owner: what was own before is not known to be.
    epoch: AtomicU64,
    /// Views that may have dirty pages: a stack, linked through them.
    dirty: AtomicPtr<Area>,
    /// Kernel mappings of all views beyond one each.
    pieces: AtomicUsize,
    /// Most of those.
    budget: usize,
}

/// Somebody on the way through the door; until this is dropped it cannot be closed.
pub(crate) struct Inside<'d>(&'d Door);

impl Door {
    /// An open door, and a budget of kernel mappings.
    pub fn new(budget: usize) -> Self {
        Door {
            closed: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            epoch: AtomicU64::new(1),
            dirty: AtomicPtr::new(ptr::null_mut()),
            pieces: AtomicUsize::new(0),
            budget,
        }
    }

    /// Goes in, unless it is closed.
    pub fn enter(&self) -> Option<Inside<'_>> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(self);
        (!self.closed.load(Ordering::SeqCst)).then_some(inside)
    }

    /// Closes it, and waits until nobody is inside. Who is inside waits for nobody.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
    }

    /// Opens it.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// The epoch that runs.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Ends the epoch: no page of any view is known to be own. Only while the door is closed.
    pub fn end_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Puts a view on the stack of those that may have dirty pages.
    pub fn push_dirty(&self, area: &Area) {
        if area.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut head = self.dirty.load(Ordering::Acquire);
        loop {
            area.next.store(head, Ordering::Release);
            let area = ptr::from_ref(area).cast_mut();
            match self.dirty.compare_exchange_weak(head, area, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }

    /// Empties the stack. One thread at a time.
    #[allow(unsafe_code)]
    pub fn take_dirty(&self) -> Vec<Arc<Area>> {
        let mut areas = Vec::new();
        let mut at = self.dirty.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: what is on the stack is a view that lives: before one is dropped the stack is emptied.
        while let Some(area) = unsafe { at.as_ref() } {
            at = area.next.load(Ordering::Acquire);
            // From now on it may be pushed again.
            area.queued.swap(false, Ordering::AcqRel);
            areas.extend(area.me.upgrade());
        }
        areas
    }

    /// Says that a frame needs another number of kernel mappings.
    pub fn change_pieces(&self, before: u32, now: u32) {
        if now >= before {
            self.pieces.fetch_add((now - before) as usize, Ordering::Relaxed);
        } else {
            self.pieces.fetch_sub((before - now) as usize, Ordering::Relaxed);
        }
    }

    /// Whether the budget of kernel mappings is used up.
    pub fn is_over_budget(&self) -> bool {
        self.pieces.load(Ordering::Relaxed) > self.budget
    }

    /// Kernel mappings of all views beyond one each.
    pub fn pieces(&self) -> usize {
        self.pieces.load(Ordering::Relaxed)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}
