//! The inodes in memory: each once, with the lock that guards it and its trees.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use paxfs_format::inode::{FileType, Inode};
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::locks::{Ordered, Rank, take};

/// Numbers of inodes are spread well enough by one multiplication.
#[derive(Default)]
struct NumberHasher(u64);

impl core::hash::Hasher for NumberHasher {
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

/// An inode in memory.
#[derive(Debug)]
pub struct Cell {
    /// Its number.
    pub number: u64,
    /// Whether it is a directory. That never changes: another inode of that number is another cell.
    pub is_directory: bool,
    /// How many handles are open.
    pub opens: AtomicU32,
    /// How many hold it beside: see [`crate::hold`].
    pub holds: AtomicU32,
    /// Whether it had the flag `dax` when it was opened.
    pub is_dax: AtomicBool,
    /// Whether the medium lost contents of it since that was last asked.
    pub is_hit: AtomicBool,
    state: RwLock<State>,
}

/// What a cell's lock guards: the inode, and with it the pages of its trees and entries.
#[derive(Debug)]
pub struct State {
    /// The inode as the running transaction has it. Its header's checksum is set at the commit.
    pub inode: Inode,
    /// Whether it differs from the one that the last commit left.
    pub dirty: bool,
    /// Where file data was last allocated behind, for the next run: file block and volume block.
    pub goal: Option<(u64, u64)>,
    /// Up to which file block it was given unwritten blocks behind its end, for what is yet to be appended; they are taken
    /// back when it is closed. 0 when it was given none.
    pub ahead: u64,
}

impl Cell {
    /// To read the inode.
    pub fn read(&self) -> Ordered<RwLockReadGuard<'_, State>> {
        take(self.rank(), || self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To change the inode.
    pub fn write(&self) -> Ordered<RwLockWriteGuard<'_, State>> {
        take(self.rank(), || self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn rank(&self) -> Rank {
        if self.is_directory { Rank::Directory } else { Rank::Inode(self.number) }
    }

    /// Whether a handle is open.
    pub fn is_open(&self) -> bool {
        self.opens.load(Ordering::Acquire) > 0
    }

    /// Whether somebody goes on using it when it has no name any more.
    pub fn is_held(&self) -> bool {
        self.is_open() || self.holds.load(Ordering::Acquire) > 0
    }
}

const SHARDS: usize = 16;

type Shard = HashMap<u64, Arc<Cell>, BuildHasherDefault<NumberHasher>>;

/// The inodes in memory.
#[derive(Debug)]
pub struct Inodes {
    shards: [Mutex<Shard>; SHARDS],
    dirty: Mutex<Vec<Arc<Cell>>>,
    dirty_count: AtomicUsize,
    /// Numbers of those that may have blocks ahead of their end.
    ahead: Mutex<BTreeSet<u64>>,
}

impl Default for Inodes {
    fn default() -> Self {
        let shards = core::array::from_fn(|_| Mutex::default());
        Inodes { shards, dirty: Mutex::default(), dirty_count: AtomicUsize::new(0), ahead: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Ordered<MutexGuard<'_, T>> {
    take(Rank::Inodes, || mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Inodes {
    fn shard(&self, number: u64) -> Ordered<MutexGuard<'_, Shard>> {
        let index = usize::try_from((number >> 6) % (SHARDS as u64)).unwrap_or(0);
        #[allow(clippy::indexing_slicing)] // The remainder is below the number of shards.
        lock(&self.shards[index])
    }

    /// The cell of an inode; `read` gives the inode when it is not in memory yet.
    pub fn get<E>(&self, number: u64, read: impl FnOnce() -> Result<Inode, E>) -> Result<Arc<Cell>, E> {
        let mut shard = self.shard(number);
        if let Some(cell) = shard.get(&number) {
            return Ok(Arc::clone(cell));
        }
        let cell = Self::cell(number, read()?);
        shard.insert(number, Arc::clone(&cell));
        Ok(cell)
    }

    /// The cell of an inode, if it is in memory.
    pub fn known(&self, number: u64) -> Option<Arc<Cell>> {
        self.shard(number).get(&number).cloned()
    }

    /// Puts a new inode in the place of whatever had its number.
    pub fn insert(&self, number: u64, inode: Inode) -> Arc<Cell> {
        let cell = Self::cell(number, inode);
        self.shard(number).insert(number, Arc::clone(&cell));
        cell
    }

    fn cell(number: u64, inode: Inode) -> Arc<Cell> {
        let is_directory = inode.file_type() == Some(FileType::Directory);
        let state = RwLock::new(State { inode, dirty: false, goal: None, ahead: 0 });
        Arc::new(Cell {
            number,
            is_directory,
            opens: AtomicU32::new(0),
            holds: AtomicU32::new(0),
            is_dax: AtomicBool::new(false),
            is_hit: AtomicBool::new(false),
            state,
        })
    }

    /// Says that a cell differs from what the last commit left.
    pub fn set_dirty(&self, cell: &Arc<Cell>, state: &mut State) {
        if !state.dirty {
            state.dirty = true;
            lock(&self.dirty).push(Arc::clone(cell));
            self.dirty_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that an inode has blocks ahead of its end up to a file block, or none any more.
    pub fn set_ahead(&self, number: u64, state: &mut State, ahead: u64) {
        if (state.ahead == 0) != (ahead == 0) {
            let mut all = lock(&self.ahead);
            if ahead == 0 {
                all.remove(&number)
            } else {
                all.insert(number)
            };
        }
        state.ahead = ahead;
    }

    /// Numbers of those that may have blocks ahead of their end.
    pub fn ahead(&self) -> Vec<u64> {
        lock(&self.ahead).iter().copied().collect()
    }

    /// How many are dirty.
    pub fn dirty_count(&self) -> usize {
        self.dirty_count.load(Ordering::Relaxed)
    }

    /// The dirty cells, in the order of their numbers; they count as clean from now on. For a commit, while no operation
    /// runs.
    pub fn take_dirty(&self) -> Vec<Arc<Cell>> {
        self.take_dirty_of(|_| true)
    }

    /// As [`Inodes::take_dirty`], those that are meant.
    pub fn take_dirty_of(&self, is_meant: impl Fn(u64) -> bool) -> Vec<Arc<Cell>> {
        let mut dirty = lock(&self.dirty);
        let (mut taken, left): (Vec<_>, Vec<_>) = dirty.drain(..).partition(|cell| is_meant(cell.number));
        self.dirty_count.store(left.len(), Ordering::Relaxed);
        *dirty = left;
        taken.sort_unstable_by_key(|cell| cell.number);
        taken
    }

    /// Forgets cells that nobody holds, of one part of the table, until at most its share of `limit` is left; the next
    /// part with the next `turn`. For a commit, while no operation runs.
    pub fn trim(&self, limit: usize, turn: u64) {
        let mut shard = self.shard(turn << 6);
        let mut excess = shard.len().saturating_sub(limit / SHARDS);
        if excess == 0 {
            return;
        }
        shard.retain(|_, cell| {
            let keep = excess == 0 || Arc::strong_count(cell) > 1;
            excess -= usize::from(!keep);
            keep
        });
    }
}
