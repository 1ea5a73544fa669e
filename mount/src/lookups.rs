//! What the kernel knows by number: inodes that it was told of, until it has forgotten them as often.
//!
//! Each is held meanwhile, so that its number stays its own, and it lives on without a name.

use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Result;
use paxfs_runtime::hold::Held;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One of them.
#[derive(Debug)]
struct Known {
    /// How often the kernel was told of it.
    times: u64,
    held: Arc<Held>,
}

const SHARDS: usize = 16;

type Shard = HashMap<u64, Known>;

/// All of them.
#[derive(Debug)]
pub(crate) struct Lookups {
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups { shards: core::array::from_fn(|_| Mutex::default()) }
    }
}

impl Lookups {
    fn shard(&self, inode: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(inode % (SHARDS as u64)).unwrap_or(0);
        #[allow(clippy::indexing_slicing)] // The remainder is below the number of shards.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts that the kernel is told of an inode once more.
    pub fn add(&self, engine: &Engine, inode: u64) -> Result<Arc<Held>> {
        let mut shard = self.shard(inode);
        match shard.entry(inode) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.times = known.times.saturating_add(1);
                Ok(Arc::clone(&known.held))
            }
            Entry::Vacant(place) => {
                let held = Arc::new(engine.hold(inode)?);
                place.insert(Known { times: 1, held: Arc::clone(&held) });
                Ok(held)
            }
        }
    }

    /// Counts that the kernel has forgotten an inode so many times.
    pub fn forget(&self, inode: u64, times: u64) {
        let mut shard = self.shard(inode);
        let Entry::Occupied(mut known) = shard.entry(inode) else { return };
        known.get_mut().times = known.get().times.saturating_sub(times);
        if known.get().times == 0 {
            let gone = known.remove();
            // What it owned may have to be given back, which takes its time.
            drop(shard);
            drop(gone);
        }
    }

    /// Lets go of all.
    pub fn clear(&self) {
        for shard in &self.shards {
            let gone = core::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            drop(gone);
        }
    }
}
