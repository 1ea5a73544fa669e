//! The metadata clusters of a group, in memory.

use super::Places;
use core::ops::Range;
use paxfs_format::cluster as on_disk;
use paxfs_format::units::{Bits64, Run};
use std::collections::{BTreeMap, BTreeSet};

/// One cluster.
#[derive(Debug, Clone, Copy, Default)]
struct Cluster {
    /// Its blocks in use in the running transaction.
    used: [u64; 8],
    /// Blocks that are freed, but that the medium still leads to.
    held: [u64; 8],
}

/// The clusters of a group.
#[derive(Debug, Clone, Default)]
pub struct Clusters {
    size: u32,
    clusters: BTreeMap<u32, Cluster>,
    /// Clusters that may have blocks to give out.
    roomy: Vec<u32>,
    free: u32,
    /// Blocks freed by the running transaction, and by the one being committed.
    pending: Vec<u32>,
    committing: Vec<u32>,
    /// Blocks that are free, also on the medium, and bad. They are held.
    spoiled: BTreeSet<u32>,
    /// Clusters that the cluster tree has yet to follow.
    changed: BTreeSet<u32>,
}

impl Cluster {
    /// The record of the cluster tree.
    fn record(&self, start: u32) -> on_disk::Cluster {
        let used: u32 = self.used.iter().map(|word| word.count_ones()).sum();
        on_disk::Cluster { start: start.into(), used: Run::new(used), bitmap: self.used.map(Bits64::new) }
    }

    /// The first aligned run of `blocks` blocks (a power of two up to 64) that may be given out.
    fn find(&self, blocks: u32, size: u32) -> Option<u32> {
        let run = if blocks >= 64 { u64::MAX } else { (1 << blocks) - 1 };
        for (word, (used, held)) in (0..).zip(self.used.iter().zip(&self.held)) {
            let taken = used | held;
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
        Clusters { size: size.max(1), ..Clusters::default() }
    }

    /// Blocks of each.
    pub fn cluster_blocks(&self) -> u32 {
        self.size
    }

    /// Blocks not in use in the running transaction.
    pub fn free_blocks(&self) -> u32 {
        self.free
    }

    /// Blocks that can be given out now.
    pub fn usable_blocks(&self) -> u32 {
        let held = self.pending.len() + self.committing.len() + self.spoiled.len();
        self.free.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// Whether blocks will be usable after a commit that are not yet.
    pub fn is_space_pending(&self) -> bool {
        !self.pending.is_empty() || !self.committing.is_empty()
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
        self.clusters.insert(start, Cluster::default());
        self.changed.insert(start);
        self.roomy.push(start);
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
                    self.changed.insert(start);
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

    /// Gives back a block; says whether it was in use.
    pub fn free(&mut self, block: u32) -> bool {
        let start = block - block % self.size;
        let (word, bit) = place(block - start);
        let cluster = self.clusters.get_mut(&start);
        let words = cluster.and_then(|cluster| cluster.used.get_mut(word).zip(cluster.held.get_mut(word)));
        let Some((used, held)) = words.filter(|(used, _)| **used >> bit & 1 != 0) else { return false };
        *used &= !(1 << bit);
        *held |= 1 << bit;
        self.pending.push(block);
        self.changed.insert(start);
        self.free += 1;
        true
    }

    /// Whether all of a run of blocks, which lies in one cluster, are in use.
    pub fn are_used(&self, mut blocks: Range<u32>) -> bool {
        let start = blocks.start - blocks.start % self.size;
        let cluster = self.clusters.get(&start);
        cluster.is_some_and(|cluster| {
            blocks.all(|block| {
                let (word, bit) = place(block - start);
                cluster.used.get(word).is_some_and(|used| used >> bit & 1 != 0)
            })
        })
    }

    /// Whether a run of blocks has one in a cluster.
    pub fn overlap(&self, start: u32, length: u32) -> bool {
        let first = start - start % self.size;
        self.clusters.range(first..start.saturating_add(length)).next().is_some()
    }

    /// What was freed so far belongs to the transaction being committed.
    pub fn seal(&mut self) {
        self.committing.append(&mut self.pending);
    }

    /// What the committed transaction freed can be given out, but for what is bad.
    pub fn durable(&mut self, bad: &Places) {
        for block in core::mem::take(&mut self.committing) {
            if bad.run_with(block).is_some() {
                self.spoiled.insert(block);
            } else {
                self.let_go(block);
            }
        }
    }

    /// Lets a block that was held be given out.
    fn let_go(&mut self, block: u32) {
        let start = block - block % self.size;
        let (word, bit) = place(block - start);
        let Some(cluster) = self.clusters.get_mut(&start) else { return };
        if let Some(held) = cluster.held.get_mut(word) {
            *held &= !(1 << bit);
        }
        if !self.roomy.contains(&start) {
            self.roomy.push(start);
        }
    }

    /// Whether a block is in a cluster, and then whether it is in use.
    pub fn is_used(&self, block: u32) -> Option<bool> {
        let start = block - block % self.size;
        let (word, bit) = place(block - start);
        self.clusters.get(&start)?.used.get(word).map(|word| word >> bit & 1 != 0)
    }

    /// The blocks of a run that are in clusters.
    fn blocks_in(&self, start: u32, length: u32) -> Vec<u32> {
        let end = start.saturating_add(length);
        let clusters = self.clusters.range(start - start % self.size..end);
        let within = |first: u32| first.max(start)..first.saturating_add(self.size).min(end);
        clusters.flat_map(|(first, _)| within(*first)).collect()
    }

    /// Says that a run is bad: its blocks that are free are not given out any more.
    pub fn spoil(&mut self, start: u32, length: u32) {
        for block in self.blocks_in(start, length) {
            let first = block - block % self.size;
            let (word, bit) = place(block - first);
            let Some(cluster) = self.clusters.get_mut(&first) else { continue };
            // What is held was freed, and is bad once it is free on the medium, too.
            if let (Some(used), Some(held)) = (cluster.used.get(word), cluster.held.get_mut(word))
                && (*used | *held) >> bit & 1 == 0
            {
                *held |= 1 << bit;
                self.spoiled.insert(block);
            }
        }
    }

    /// Says that a run is good again.
    pub fn restore(&mut self, start: u32, length: u32) {
        for block in self.blocks_in(start, length) {
            if self.spoiled.remove(&block) {
                self.let_go(block);
            }
        }
    }

    /// The blocks of a run that are in clusters and in use.
    pub fn used_in(&self, start: u32, length: u32) -> Vec<u32> {
        let mut blocks = self.blocks_in(start, length);
        blocks.retain(|block| self.is_used(*block) == Some(true));
        blocks
    }

    /// Has the cluster tree follow in all records.
    pub fn say_again(&mut self) {
        self.changed.extend(self.clusters.keys());
    }

    /// The maximal runs of clusters side by side.
    pub fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for start in self.clusters.keys() {
            match runs.last_mut() {
                Some((first, length)) if *first + *length == *start => *length += self.size,
                _ => runs.push((*start, self.size)),
            }
        }
        runs
    }

    /// Blocks that are free, also on the medium, and bad, ascending.
    pub fn spoiled(&self) -> impl Iterator<Item = u32> {
        self.spoiled.iter().copied()
    }

    /// A cluster that has no block in use and none that the medium still leads to, if `keep` blocks could still be given
    /// out without it.
    pub fn empty_beyond(&self, keep: u32) -> Option<u32> {
        if self.usable_blocks() < keep.saturating_add(self.size) {
            return None;
        }
        let empty = |cluster: &Cluster| cluster.used == [0; 8] && cluster.held == [0; 8];
        // The last: what stays lies together at the front.
        self.clusters.iter().rev().find(|(_, cluster)| empty(cluster)).map(|(start, _)| *start)
    }

    /// Takes away a cluster that is empty.
    pub fn remove(&mut self, start: u32) {
        if self.clusters.remove(&start).is_some() {
            self.roomy.retain(|roomy| *roomy != start);
            self.changed.insert(start);
            self.free = self.free.saturating_sub(self.size);
        }
    }

    /// Starts of clusters whose records the cluster tree has yet to follow, with the records that are to be there. It is
    /// taken to have followed from now on.
    pub fn take_changed(&mut self) -> Vec<(u32, Option<on_disk::Cluster>)> {
        let changed = core::mem::take(&mut self.changed).into_iter();
        changed.map(|start| (start, self.clusters.get(&start).map(|cluster| cluster.record(start)))).collect()
    }

    /// The maximal run of clusters side by side that holds the cluster at `start`.
    fn run_with(&self, start: u32) -> Option<(u32, u32)> {
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

    /// The runs of clusters that touch the place of the cluster at `start`, whether it is there or not.
    pub fn runs_around(&self, start: u32) -> Vec<(u32, u32)> {
        if let Some(run) = self.run_with(start) {
            return vec![run];
        }
        let before = start.checked_sub(self.size).and_then(|before| self.run_with(before));
        before.into_iter().chain(self.run_with(start + self.size)).collect()
    }
}
