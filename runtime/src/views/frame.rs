//! The frames of a view: what each page of 2 MiB of it is, as the processor's tables have it.

use super::pages::{AtomicPageSet, PageSet};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zerocopy::FromZeros;

/// What is known of 512 pages of a view. All but `dirty` and `lock` changes only while it is locked.
///
/// Invariants, whenever it is not locked: `zero`, `own` and `writable` are within `mapped`; `writable` is within `own` and
/// `dirty`; a page is not both `zero` and `own`.
#[derive(Debug, Default, FromZeros)]
pub struct Frame {
    lock: AtomicU32,
    /// How many kernel mappings it needs beyond one, as counted last.
    pub pieces: AtomicU32,
    /// Whether all of it is one aligned run of blocks below 2 MiB pages: an entry of 2 MiB.
    pub huge: AtomicU32,
    /// The engine's epoch when `own` was last filled; in any other `own` means nothing.
    pub epoch: AtomicU64,
    /// What can be loaded without asking.
    pub mapped: AtomicPageSet,
    /// Holes.
    pub zero: AtomicPageSet,
    /// What may become writable without asking who else owns it.
    pub own: AtomicPageSet,
    /// What can be stored to.
    pub writable: AtomicPageSet,
    /// What may have been stored to since it was last flushed.
    pub dirty: AtomicPageSet,
}

/// A locked frame.
#[derive(Debug)]
pub struct Locked<'f>(&'f Frame);

impl Frame {
    /// Locks it if nobody has. For signal handlers, too.
    pub fn try_lock(&self) -> Option<Locked<'_>> {
        let taken = self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        // Made only when it is: dropping one unlocks.
        taken.is_ok().then(|| Locked(self))
    }

    /// Locks it. Who has it does not wait for anything but the kernel.
    pub fn lock(&self) -> Locked<'_> {
        let mut tries = 0_u32;
        loop {
            if let Some(locked) = self.try_lock() {
                return locked;
            }
            tries += 1;
            if tries < 100 { core::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Whether it is an entry of 2 MiB.
    pub fn is_huge(&self) -> bool {
        self.huge.load(Ordering::Relaxed) != 0
    }
}

impl Locked<'_> {
    /// Says that pages are mapped to blocks, read-only; `own` of them are the file's alone in this epoch.
    pub fn set_mapped(&self, pages: PageSet, own: PageSet, epoch: u64) {
        self.set_unmapped(pages);
        if self.epoch.swap(epoch, Ordering::Relaxed) != epoch {
            self.own.remove(!PageSet::EMPTY);
        }
        self.mapped.add(pages);
        self.own.add(own & pages);
    }

    /// Says that pages are mapped to the zero page.
    pub fn set_zero(&self, pages: PageSet) {
        self.set_unmapped(pages);
        self.mapped.add(pages);
        self.zero.add(pages);
    }

    /// Says that pages are not mapped. What was stored to them stays dirty.
    pub fn set_unmapped(&self, pages: PageSet) {
        for set in [&self.writable, &self.own, &self.zero, &self.mapped] {
            set.remove(pages);
        }
        self.huge.store(0, Ordering::Relaxed);
    }

    /// How many kernel mappings it needs beyond one.
    /// `protection` says whether what is writable is a mapping of its own.
    pub fn count_pieces(&self, protection: bool) -> u32 {
        if self.is_huge() {
            return 1;
        }
        let (mapped, writable) = (self.mapped.get(), self.writable.get());
        let writable = if protection { writable.run_count() } else { 0 };
        let runs = 2 * (mapped.run_count() + writable + self.zero.get().run_count());
        u32::try_from(runs).unwrap_or(u32::MAX)
    }
}

impl core::ops::Deref for Locked<'_> {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.lock.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_each_other() {
        let frame = Frame::default();
        let some = PageSet::range(3..7);
        let locked = frame.lock();
        assert!(frame.try_lock().is_none());
        assert!(frame.try_lock().is_none(), "who does not get it does not give it back");
        locked.set_mapped(some, PageSet::range(3..5), 1);
        assert_eq!(frame.own.get(), PageSet::range(3..5));
        // In another epoch nothing of old is own.
        locked.set_mapped(PageSet::range(6..8), PageSet::ALL, 2);
        assert_eq!(frame.own.get(), PageSet::range(6..8));
        frame.dirty.add(some);
        locked.set_zero(PageSet::range(6..7));
        assert_eq!(frame.own.get(), PageSet::range(7..8));
        locked.set_unmapped(PageSet::ALL);
        assert!(frame.mapped.get().is_empty() && frame.zero.get().is_empty());
        assert_eq!(frame.dirty.get(), some, "unmapping forgets no store");
        drop(locked);
        assert!(frame.try_lock().is_some());
    }
}
