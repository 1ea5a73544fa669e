//! The metadata clusters of a group, in memory.

use paxfs_format::cluster as on_disk;
use paxfs_format::units::{Bits64, Run};
use std::collections::BTreeMap;

/// One cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cluster {
    /// Its blocks in use in the running transaction.
    pub used: [u64; 8],
    /// Blocks freed since the last durable commit, not to be used again before.
    pending: [u64; 8],
    committing: [u64; 8],
    /// Whether the cluster tree has yet to follow.
    changed: bool,
}

/// The clusters of a group.
#[derive(Debug, Clone)]
pub struct Clusters {
    size: u32,
    clusters: BTreeMap<u32, Cluster>,
    /// Clusters that may have blocks to give out.
    roomy: Vec<u32>,
    /// Those that the cluster tree has yet to follow.
    changed: Vec<u32>,
    /// Those with blocks freed by the running transaction, and by the one being committed.
    pending: Vec<u32>,
    committing: Vec<u32>,
    free: u32,
}

impl Cluster {
    /// The record of the cluster tree.
    pub fn record(&self, start: u32) -> on_disk::Cluster {
        let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
        on_disk::Cluster { start: start.into(), used: Run::new(used), bitmap: self.used.map(Bits64::new) }
    }

    /// The first aligned run of `blocks` blocks (a power of two up to 64) that may be given out.
    fn find(&self, blocks: u32, size: u32) -> Option<u32> {
        let run = if blocks >= 64 { u64::MAX } else { (1 << blocks) - 1 };
        let words = self.used.iter().zip(&self.pending).zip(&self.committing);
        for (word, ((used, pending), committing)) in (0..).zip(words) {
            let taken = used | pending | committing;
            if taken == u64::MAX {
                continue;
            }
            let steps = (0..64).step_by(usize::try_from(blocks).unwrap_or(64));
            for bit in steps.take_while(|bit| word * 64 + bit + blocks <= size) {
                if taken >> bit & run == 0 {
                    return Some(word * 64 + bit);
                }
            }
        }
        None
    }
}

fn place(index: u32) -> (usize, u32) {
    (usize::try_from(index / 64).unwrap_or(usize::MAX), index % 64)
}

impl Clusters {
    /// None yet; each is to have `size` blocks.
    pub fn new(size: u32) -> Self {
        Clusters {
            size: size.max(1),
            clusters: BTreeMap::new(),
            roomy: Vec::new(),
            changed: Vec::new(),
            pending: Vec::new(),
            committing: Vec::new(),
            free: 0,
        }
    }

    /// Blocks of each.
    pub fn cluster_blocks(&self) -> u32 {
        self.size
    }

    /// Blocks not in use in the running transaction.
    pub fn free_blocks(&self) -> u32 {
        self.free
    }

    /// Adds one from its record.
    pub fn load(&mut self, record: &on_disk::Cluster) {
        let start = record.start.get();
        let used = record.bitmap.map(Bits64::get);
        self.free += self.size.saturating_sub(used.iter().map(|word| word.count_ones()).sum());
        self.clusters.insert(start, Cluster { used, ..Cluster::default() });
        self.roomy.push(start);
    }

    /// Adds an empty one.
    pub fn add(&mut self, start: u32) {
        self.clusters.insert(start, Cluster { changed: true, ..Cluster::default() });
        self.roomy.push(start);
        self.changed.push(start);
        self.free += self.size;
    }

    /// Gives out blocks at a multiple of their number, a power of two.
    pub fn allocate(&mut self, blocks: u32) -> Option<u32> {
        // The last is tried first: it was the last to have room.
        for index in (0..self.roomy.len()).rev() {
            let start = *self.roomy.get(index)?;
            let Some(cluster) = self.clusters.get_mut(&start) else { continue };
            match cluster.find(blocks, self.size) {
                Some(found) => {
                    for block in found..found + blocks {
                        let (word, bit) = place(block);
                        if let Some(word) = cluster.used.get_mut(word) {
                            *word |= 1 << bit;
                        }
                    }
                    if !core::mem::replace(&mut cluster.changed, true) {
                        self.changed.push(start);
                    }
                    self.free = self.free.saturating_sub(blocks);
                    return Some(start + found);
                }
                None if blocks == 1 => {
                    self.roomy.remove(index);
                }
                None => {}
            }
        }
        None
    }

    /// Gives back a block.
    pub fn free(&mut self, block: u32) {
        let start = block - block % self.size;
        if let Some(cluster) = self.clusters.get_mut(&start) {
            let (word, bit) = place(block - start);
            let first = cluster.pending == [0; 8];
            if let (Some(used), Some(pending)) = (cluster.used.get_mut(word), cluster.pending.get_mut(word))
                && *used >> bit & 1 != 0
            {
                *used &= !(1 << bit);
                *pending |= 1 << bit;
                if first {
                    self.pending.push(start);
                }
                if !core::mem::replace(&mut cluster.changed, true) {
                    self.changed.push(start);
                }
                self.free += 1;
            }
        }
    }

    /// What was freed so far belongs to the transaction being committed.
    pub fn seal(&mut self) {
        for start in self.pending.drain(..) {
            let Some(cluster) = self.clusters.get_mut(&start) else { continue };
            for (committing, pending) in cluster.committing.iter_mut().zip(&mut cluster.pending) {
                *committing |= core::mem::take(pending);
            }
            self.committing.push(start);
        }
    }

    /// What the committed transaction freed can be given out.
    pub fn durable(&mut self) {
        for start in self.committing.drain(..) {
            let Some(cluster) = self.clusters.get_mut(&start) else { continue };
            cluster.committing = [0; 8];
            if !self.roomy.contains(&start) {
                self.roomy.push(start);
            }
        }
    }

    /// Records that the cluster tree has yet to follow, ascending; it is taken to have followed from now on.
    pub fn take_changed(&mut self) -> Vec<on_disk::Cluster> {
        self.changed.sort_unstable();
        let clusters = &mut self.clusters;
        let record = |start: u32| {
            let cluster = clusters.get_mut(&start)?;
            cluster.changed = false;
            Some(cluster.record(start))
        };
        self.changed.drain(..).filter_map(record).collect()
    }

    /// The maximal run of clusters side by side that holds the cluster at `start`.
    pub fn run_with(&self, start: u32) -> Option<(u32, u32)> {
        self.clusters.get(&start)?;
        let mut first = start;
        while let Some(before) =
            first.checked_sub(self.size).filter(|before| self.clusters.contains_key(before))
        {
            first = before;
        }
        let mut end = start + self.size;
        while self.clusters.contains_key(&end) {
            end += self.size;
        }
        Some((first, end - first))
    }

    /// The runs of clusters that end and begin beside a place where there is none yet.
    pub fn run_around(&self, start: u32) -> Vec<(u32, u32)> {
        let before = start.checked_sub(self.size).and_then(|before| self.run_with(before));
        before.into_iter().chain(self.run_with(start + self.size)).collect()
    }
}
