//! Free runs of one part of a group, and the ways to choose among them.
//!
//! Runs are maximal: no two touch. They are held twice, by start and by length, so that each choice costs O(log n).

use std::collections::{BTreeMap, BTreeSet};

/// Blocks that a 2 MiB mapping covers.
pub const FRAME: u32 = 512;

/// A set of free runs of blocks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Runs {
    by_start: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
    blocks: u64,
}

/// How many blocks to go up from `start` to where it is `phase` modulo a power of two `unit`.
pub fn gap(start: u32, phase: u32, unit: u32) -> u32 {
    phase.wrapping_sub(start) & (unit - 1)
}

impl Runs {
    /// Free blocks in all.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The runs, ascending, as (start, length).
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.by_start.iter().map(|(&start, &length)| (start, length))
    }

    /// Makes a run free. It must not be.
    pub fn insert(&mut self, start: u32, length: u32) {
        if length == 0 {
            return;
        }
        self.blocks += u64::from(length);
        let (mut start, mut length) = (start, length);
        if let Some((&before, &blocks)) = self.by_start.range(..start).next_back()
            && before + blocks == start
        {
            self.remove(before, blocks);
            (start, length) = (before, blocks + length);
        }
        if let Some(&blocks) = self.by_start.get(&(start + length)) {
            self.remove(start + length, blocks);
            length += blocks;
        }
        self.add(start, length);
    }

    fn add(&mut self, start: u32, length: u32) {
        if length > 0 {
            self.by_start.insert(start, length);
            self.by_length.insert((length, start));
        }
    }

    fn remove(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// Takes exactly these blocks; false when one of them is not free.
    pub fn take(&mut self, start: u32, length: u32) -> bool {
        let Some((run, blocks)) = self.around(start) else { return false };
        let (before, Some(after)) =
            (start - run, (run + blocks).checked_sub(start).and_then(|n| n.checked_sub(length)))
        else {
            return false;
        };
        self.remove(run, blocks);
        self.add(run, before);
        self.add(start + length, after);
        self.blocks -= u64::from(length);
        true
    }

    /// The run that a block is in.
    fn around(&self, block: u32) -> Option<(u32, u32)> {
        let (&start, &length) = self.by_start.range(..=block).next_back()?;
        (block - start < length).then_some((start, length))
    }

    /// The longest run, as (start, length); the last of several.
    pub fn longest(&self) -> Option<(u32, u32)> {
        self.by_length.last().map(|&(length, start)| (start, length))
    }

    /// A place for `blocks` (less than a frame) that spoils no whole frame if that can be: the shortest run that is long
    /// enough, and in it the odd end.
    pub fn small(&self, blocks: u32) -> Option<u32> {
        let &(length, start) = self.by_length.range((blocks, 0)..).next()?;
        let head = gap(start, 0, FRAME);
        let tail = (start + length) % FRAME;
        let whole = length >= head + FRAME;
        // One that spans the odd end and the frame behind it spoils no more than one that opens that frame.
        Some(if whole && blocks > head && blocks <= tail { start + length - tail } else { start })
    }

    /// A place for `blocks` that is `phase` modulo a frame, in the shortest run that has one.
    pub fn congruent(&self, blocks: u32, phase: u32) -> Option<u32> {
        let fits = |&&(length, start): &&(u32, u32)| length - blocks >= gap(start, phase, FRAME);
        self.by_length.range((blocks, 0)..).find(fits).map(|&(_, start)| start + gap(start, phase, FRAME))
    }

    /// The place that is `phase` modulo a frame with the most blocks from there on, as (start, length), at least a frame.
    pub fn most_congruent(&self, phase: u32) -> Option<(u32, u32)> {
        let part = |&(length, start): &(u32, u32)| {
            let gap = gap(start, phase, FRAME);
            length.checked_sub(gap).filter(|left| *left >= FRAME).map(|left| (start + gap, left))
        };
        // A run shorter by a frame than another cannot have more left.
        let longest = self.by_length.last()?.0;
        let candidates = self.by_length.range((longest.saturating_sub(FRAME), 0)..);
        candidates.filter_map(part).max_by_key(|&(start, left)| (left, u32::MAX - start))
    }

    /// The lowest place for `blocks`, a power of two, that is a multiple of them.
    pub fn aligned(&self, blocks: u32) -> Option<u32> {
        let fits = |&(length, start): &(u32, u32)| {
            let gap = gap(start, 0, blocks);
            (length.checked_sub(gap)? >= blocks).then_some(start + gap)
        };
        self.by_length.range((blocks, 0)..).filter_map(fits).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(list: &[(u32, u32)]) -> Runs {
        let mut runs = Runs::default();
        list.iter().for_each(|&(start, length)| runs.insert(start, length));
        runs
    }

    #[test]
    fn neighbours_become_one() {
        let mut free = runs(&[(10, 5), (20, 5), (15, 5)]);
        assert_eq!(free.iter().collect::<Vec<_>>(), [(10, 15)]);
        assert!(free.take(12, 3) && !free.take(14, 2) && !free.take(24, 2) && !free.take(9, 1));
        assert_eq!(free.iter().collect::<Vec<_>>(), [(10, 2), (15, 10)]);
        assert_eq!(free.blocks(), 12);
    }

    #[test]
    fn small_ones_fill_odd_ends_first() {
        assert_eq!(runs(&[(500, 2000)]).small(12), Some(500), "the head");
        assert_eq!(runs(&[(500, 2000)]).small(300), Some(2048), "the tail, 2048..2500");
        assert_eq!(runs(&[(500, 1560)]).small(300), Some(500), "the head and a new frame");
        assert_eq!(runs(&[(500, 2000), (8000, 13)]).small(13), Some(8000), "the shortest run");
        assert_eq!(runs(&[(500, 100)]).small(101), None);
    }

    #[test]
    fn large_ones_keep_their_phase() {
        assert_eq!(runs(&[(3, 2000)]).congruent(1024, 0), Some(512));
        assert_eq!(runs(&[(3, 2000)]).congruent(1024, 5), Some(5));
        assert_eq!(runs(&[(3, 1100), (4096, 1024)]).congruent(1024, 0), Some(4096));
        assert_eq!(runs(&[(3, 1100)]).congruent(1024, 0), None);
        assert_eq!(runs(&[(3, 1100), (4090, 1100)]).most_congruent(0), Some((4096, 1094)));
        assert_eq!(runs(&[(3, 520)]).most_congruent(0), None);
        assert_eq!(runs(&[(3, 31), (48, 50)]).aligned(16), Some(16));
    }

    proptest! {
        #[test]
        fn as_a_bitmap(steps in proptest::collection::vec((0u32..64, 1u32..20), 0..60)) {
            let (mut free, mut bits) = (Runs::default(), [false; 84]);
            for (start, length) in steps {
                let range = start as usize..(start + length) as usize;
                let all = bits[range.clone()].iter().all(|&bit| bit);
                let none = !bits[range.clone()].iter().any(|&bit| bit);
                prop_assert_eq!(free.clone().take(start, length), all);
                if none {
                    free.insert(start, length);
                    bits[range].fill(true);
                } else if all {
                    free.take(start, length);
                    bits[range].fill(false);
                }
            }
            let mut expected = runs(&[]);
            (0u32..).zip(bits).filter(|(_, bit)| *bit).for_each(|(block, _)| expected.insert(block, 1));
            prop_assert_eq!(free, expected);
        }
    }
}
