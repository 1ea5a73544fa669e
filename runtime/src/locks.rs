//! The order in which locks are taken. Debug builds panic where it is broken, whether or not anybody waits; release builds
//! pay nothing.
//!
//! ```text
//! committing → gate → renaming → directories → other inodes → groups
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
    /// Held for a whole commit.
    Committing,
    /// Held shared by an operation.
    Gate,
    /// Held alone by a commit while it gathers what was changed, or by an operation on many inodes.
    GateAlone,
    /// Held by a rename.
    Renaming,
    /// A directory.
    Directory,
    /// An inode that is no directory, by number.
    Inode(u64),
    /// A group, by number.
    Group(u32),
}

/// The guard of a lock that has a place in the order.
#[derive(Debug)]
pub struct Ordered<G> {
    guard: G,
    _taken: Taken,
}

/// Takes a lock in its place of the order.
pub(crate) fn take<G>(rank: Rank, lock: impl FnOnce() -> G) -> Ordered<G> {
    // Checked before it is waited for.
    let taken = Taken::new(rank);
    Ordered { guard: lock(), _taken: taken }
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

    thread_local! {
        /// What this thread holds.
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// That a lock is held.
    #[derive(Debug)]
    pub(super) struct Taken(Rank);

    impl Taken {
        #[allow(clippy::panic, reason = "a wrong order is a fault of the program, in debug builds alone")]
        pub(super) fn new(rank: Rank) -> Self {
            HELD.with_borrow_mut(|held| {
                assert!(may_follow(held, rank), "{rank:?} is taken after {held:?}");
                held.push(rank);
            });
            Taken(rank)
        }
    }

    impl Drop for Taken {
        fn drop(&mut self) {
            // A thread that ends has nothing left to check.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(index) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(index);
                }
            });
        }
    }

    fn may_follow(held: &[Rank], rank: Rank) -> bool {
        let holds = |rank| held.contains(&rank);
        let last = held.iter().max();
        match rank {
            Rank::Directory | Rank::Inode(_) if holds(Rank::GateAlone) => last < Some(&Rank::Group(0)),
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
            let take_all = || ranks.iter().map(|rank| take(*rank, || ())).collect::<Vec<_>>();
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
        }

        #[test]
        fn what_was_given_back_may_be_taken_again() {
            let first = take(Inode(9), || ());
            let second = take(Group(1), || ());
            drop(first);
            drop(second);
            drop(take(Inode(3), || ()));
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
}
