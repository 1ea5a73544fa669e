//! The order in which locks are taken. Debug builds panic where it is broken, whether or not anybody waits; release builds
//! pay nothing.
//!
//! ```text
//! freezing → media errors → committing → gate → renaming → directories → other inodes → cleaning of a file's views → groups
//!   → table of inodes → tables of views → frames of views → changed pages → table of pages → medium
//! ```
//!
//! Of other inodes the lower number comes first, of groups as well. Of directories the one above comes first; of two side
//! by side the lower number, and only a rename holds two such. Which directory is above is not checked, but that no more
//! than one and one in it are held when nobody renames. Whoever holds the gate alone takes inodes in any order: nobody else
//! holds any for longer than it takes to look at it.

use core::ops::{Deref, DerefMut};

/// A lock's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Held while a volume is frozen or thawed.
    Freezing,
    /// Held while media errors are dealt with.
    MediaErrors,
    /// Held for a whole commit.
    Committing,
    /// Held shared by an operation.
    Gate,
    /// Held alone by a commit while it gathers what was changed, or by an operation on many inodes.
    GateAlone,
    /// Held by a rename, and by the removal of a directory.
    Renaming,
    /// A directory.
    Directory,
    /// An inode that is no directory, by number.
    Inode(u64),
    /// Held while pages of a file's views are protected and flushed.
    Cleaning,
    /// A group, by number.
    Group(u32),
    /// A part of the table of inodes in memory, or the list of changed ones.
    Inodes,
    /// The table of files with views.
    Views,
    /// The views of one file.
    FileViews,
    /// The list of views that may be dirty.
    DirtyViews,
    /// What stands in for the processor's tables.
    Guard,
    /// The list of changed pages.
    ChangedPages,
    /// What a medium remembers.
    Medium,
}

/// The guard of a lock that has a place in the order.
#[derive(Debug)]
pub struct Ordered<G> {
    // Goes before the guard does.
    _taken: Taken,
    guard: G,
}

/// Takes a lock in its place of the order.
pub(crate) fn take<G: Deref>(rank: Rank, lock: impl FnOnce() -> G) -> Ordered<G> {
    // Checked before it is waited for.
    let mut taken = Taken::new(rank);
    let guard = lock();
    taken.is_held(core::ptr::from_ref(&*guard).addr());
    Ordered { _taken: taken, guard }
}

impl<G: Deref> Deref for Ordered<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Ordered<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
use checked::Taken;

#[cfg(debug_assertions)]
mod checked {
    use super::Rank;
    use core::cell::RefCell;
    use core::sync::atomic::{AtomicU32, Ordering};

    /// Says once more what locks order, by the address of what they guard: ThreadSanitizer does not see what a standard
    /// library does that is not sanitized itself. Locks that share an entry are taken to order more than they do.
    static ORDERED: [AtomicU32; 1 << 12] = [const { AtomicU32::new(0) }; 1 << 12];

    fn ordered(address: usize) -> &'static AtomicU32 {
        let index = (address >> 3).wrapping_mul(0x9e37_79b9) >> 8;
        #[allow(clippy::indexing_slicing)] // The remainder is below the length.
        &ORDERED[index % ORDERED.len()]
    }

    thread_local! {
        /// What this thread holds.
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// That a lock is held.
    #[derive(Debug)]
    pub(super) struct Taken {
        rank: Rank,
        address: usize,
    }

    impl Taken {
        #[allow(clippy::panic, reason = "a wrong order is a fault of the program, in debug builds alone")]
        pub(super) fn new(rank: Rank) -> Self {
            HELD.with_borrow_mut(|held| {
                assert!(may_follow(held, rank), "{rank:?} is taken after {held:?}");
                held.push(rank);
            });
            Taken { rank, address: 0 }
        }

        /// The lock is held from now on, and guards what is at this address.
        pub(super) fn is_held(&mut self, address: usize) {
            self.address = address;
            ordered(address).load(Ordering::Acquire);
        }
    }

    impl Drop for Taken {
        fn drop(&mut self) {
            ordered(self.address).fetch_add(1, Ordering::Release);
            // A thread that ends has nothing left to check.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(index) = held.iter().rposition(|rank| *rank == self.rank) {
                    held.remove(index);
                }
            });
        }
    }

    fn may_follow(held: &[Rank], rank: Rank) -> bool {
        let holds = |rank| held.contains(&rank);
        let last = held.iter().max();
        match rank {
            Rank::Directory | Rank::Inode(_) if holds(Rank::GateAlone) => last < Some(&Rank::Cleaning),
            Rank::Directory if last == Some(&Rank::Directory) => {
                holds(Rank::Renaming) || held.iter().filter(|held| **held == Rank::Directory).count() == 1
            }
            Rank::GateAlone if holds(Rank::Gate) => false,
            _ => last < Some(&rank),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::{Rank, Rank::*, take};

        /// Whether a thread may take them one after the other.
        fn may_take(ranks: &'static [Rank]) -> bool {
            let take_all = || ranks.iter().map(|rank| take(*rank, || &())).collect::<Vec<_>>();
            std::thread::spawn(move || drop(take_all())).join().is_ok()
        }

        #[test]
        fn the_order_may_be_followed() {
            assert!(may_take(&[Committing, GateAlone, Group(0)]));
            assert!(may_take(&[
                Gate,
                Renaming,
                Directory,
                Directory,
                Directory,
                Inode(3),
                Inode(9),
                Group(0)
            ]));
            assert!(may_take(&[Gate, Directory, Directory, Group(1), Group(2)]));
            assert!(may_take(&[GateAlone, Inode(9), Inode(3), Directory, Group(1)]));
        }

        #[test]
        fn a_wrong_order_panics() {
            assert!(!may_take(&[Gate, Committing]));
            assert!(!may_take(&[Gate, Gate]));
            assert!(!may_take(&[Gate, GateAlone]));
            assert!(!may_take(&[Directory, Renaming]));
            assert!(!may_take(&[Gate, Directory, Directory, Directory]));
            assert!(!may_take(&[Gate, Inode(3), Directory]));
            assert!(!may_take(&[Gate, Inode(9), Inode(3)]));
            assert!(!may_take(&[Gate, Inode(3), Inode(3)]));
            assert!(!may_take(&[Gate, Group(2), Group(1)]));
            assert!(!may_take(&[GateAlone, Group(2), Inode(1)]));
            assert!(!may_take(&[ChangedPages, Inodes]));
            assert!(!may_take(&[ChangedPages, ChangedPages]));
        }

        #[test]
        fn what_was_given_back_may_be_taken_again() {
            let first = take(Inode(9), || &());
            let second = take(Group(1), || &());
            drop(first);
            drop(second);
            drop(take(Inode(3), || &()));
        }
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[derive(Debug)]
struct Taken;

#[cfg(not(debug_assertions))]
impl Taken {
    fn new(_rank: Rank) -> Self {
        Taken
    }

    fn is_held(&mut self, _address: usize) {}
}
