//! Metadata clusters: aligned runs in which all tree nodes, inodes, directory blocks and values live, so that the rest
//! of the volume stays in runs that a 2 MiB mapping can reach.
//!
//! Allocating a node sets a bit here and leaves free space and reverse map alone: they know the cluster as a whole.

use crate::on_disk;
use crate::record::{Key, Record, RecordFault, Space, check_run};
use crate::units::{Bits64, GroupBlock, Run};

/// Most blocks a cluster can have.
pub const MAX_CLUSTER_BLOCKS: u32 = 512;
/// Fewest blocks a cluster can have.
pub const MIN_CLUSTER_BLOCKS: u32 = 16;

on_disk! {
    /// A metadata cluster.
    pub struct Cluster = 72 {
        /// First block, a multiple of the volume's `cluster_blocks`.
        pub start: GroupBlock,
        /// Its blocks in use: the bits set in `bitmap`.
        pub used: Run,
        /// Bit b of word w: block `start` + 64 w + b is in use. Bits past the cluster's size are 0.
        pub bitmap: [Bits64; 8],
    }
}

impl Cluster {
    /// Whether the cluster's block `index` is in use.
    pub fn is_used(&self, index: u32) -> bool {
        let word = usize::try_from(index / 64).ok().and_then(|word| self.bitmap.get(word));
        word.is_some_and(|word| word.get() >> (index % 64) & 1 != 0)
    }

    /// Marks the cluster's block `index` as in use or not, and keeps the count.
    pub fn set_used(&mut self, index: u32, used: bool) {
        let was = self.is_used(index);
        let word = usize::try_from(index / 64).ok().and_then(|word| self.bitmap.get_mut(word));
        if let Some(word) = word
            && was != used
        {
            *word = Bits64::new(word.get() ^ 1 << (index % 64));
            let count = self.used.get();
            self.used = Run::new(if used { count.saturating_add(1) } else { count.saturating_sub(1) });
        }
    }
}

impl Record for Cluster {
    fn key(&self) -> Key {
        Key::at(self.start.get().into())
    }

    /// Past its first block only: how many there are is the volume's to say, and aligned clusters cannot overlap.
    fn end(&self) -> u64 {
        u64::from(self.start.get()) + 1
    }

    fn check(&self, space: &Space) -> Result<(), RecordFault> {
        let start = u64::from(self.start.get());
        check_run(start, space.cluster_blocks, space.blocks)?;
        if start.checked_rem(space.cluster_blocks) != Some(0) {
            return Err(RecordFault::Misaligned { start, unit: space.cluster_blocks });
        }
        let used: u32 = self.bitmap.iter().map(|word| word.get().count_ones()).sum();
        let past = (0..MAX_CLUSTER_BLOCKS).any(|i| u64::from(i) >= space.cluster_blocks && self.is_used(i));
        if past || used != self.used.get() { Err(RecordFault::Count) } else { Ok(()) }
    }

    fn merged(&self, _next: &Self) -> Option<Self> {
        None
    }
}
