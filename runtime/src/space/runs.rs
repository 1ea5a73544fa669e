//! Sets of blocks as maximal runs: found by place ([`Places`]), and by length as well ([`Runs`]).

use core::ops::Deref;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks of a 2 MiB run.
const HUGE: u32 = 512;

/// A set of blocks, whose runs are found by place.
#[derive(Debug, Clone, Default)]
pub struct Places {
    by_start: BTreeMap<u32, u32>,
}

/// A set of blocks, whose runs are found by place and by length.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    places: Places,
    by_length: BTreeSet<(u32, u32)>,
    blocks: u64,
}

impl Deref for Runs {
    type Target = Places;

    fn deref(&self) -> &Places {
        &self.places
    }
}

impl Places {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The runs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.by_start.iter().map(|(start, length)| (*start, *length))
    }

    /// The length of the run that starts at `start`.
    pub fn starting_at(&self, start: u32) -> Option<u32> {
        self.by_start.get(&start).copied()
    }

    /// The run that holds `block`.
    pub fn run_with(&self, block: u32) -> Option<(u32, u32)> {
        let (&start, &length) = self.by_start.range(..=block).next_back()?;
        (block - start < length).then_some((start, length))
    }

    /// How many blocks follow from `block` on, it included; `None` when it is not there.
    pub fn free_at(&self, block: u32) -> Option<u32> {
        self.run_with(block).map(|(start, length)| start + length - block)
    }

    /// Whether a block of a run is there.
    pub fn overlaps(&self, start: u32, length: u32) -> bool {
        self.overlapping(start, length).next().is_some()
    }

    /// The runs that a new one touches at either end.
    fn beside(&self, start: u32, length: u32) -> [Option<(u32, u32)>; 2] {
        let before = start.checked_sub(1).and_then(|block| self.run_with(block));
        let end = start.saturating_add(length);
        [before, self.starting_at(end).map(|length| (end, length))]
    }

    fn insert(&mut self, start: u32, length: u32) {
        let [before, after] = self.beside(start, length);
        let (_, more) = after.unwrap_or_default();
        if let Some((end, _)) = after {
            self.by_start.remove(&end);
        }
        let (start, length) = before.map_or((start, length), |(first, before)| (first, before + length));
        self.by_start.insert(start, length + more);
    }

    /// Adds those blocks of a run that are not there.
    pub fn cover(&mut self, start: u32, length: u32) {
        let end = start.saturating_add(length);
        let mut at = start;
        while at < end {
            if let Some((first, length)) = self.run_with(at) {
                at = first + length;
            } else {
                let next = self.by_start.range(at..end).next().map_or(end, |(next, _)| *next);
                self.insert(at, next - at);
                at = next;
            }
        }
    }

    /// Takes away those blocks of a run that are there.
    pub fn uncover(&mut self, start: u32, length: u32) {
        let parts: Vec<(u32, u32)> = self.overlapping(start, length).collect();
        for (start, length) in parts {
            let Some((first, total)) = self.run_with(start) else { continue };
            self.by_start.remove(&first);
            let (end, last) = (start + length, first + total);
            let rests = [(first, start - first), (end, last - end)];
            self.by_start.extend(rests.into_iter().filter(|(_, length)| *length > 0));
        }
    }

    /// The parts of runs that are in a run, ascending.
    pub fn overlapping(&self, start: u32, length: u32) -> impl Iterator<Item = (u32, u32)> {
        let end = start.saturating_add(length);
        let first = self.run_with(start).map_or(start, |(first, _)| first);
        self.by_start.range(first..end).map(move |(&first, &length)| {
            let (from, to) = (first.max(start), (first + length).min(end));
            (from, to - from)
        })
    }
}

impl Runs {
    /// How many blocks there are.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    fn put(&mut self, start: u32, length: u32) {
        self.places.by_start.insert(start, length);
        self.by_length.insert((length, start));
        self.blocks += u64::from(length);
    }

    fn cut(&mut self, start: u32, length: u32) {
        self.places.by_start.remove(&start);
        self.by_length.remove(&(length, start));
        self.blocks -= u64::from(length);
    }

    /// Adds a run, none of whose blocks is there.
    pub fn insert(&mut self, start: u32, length: u32) {
        let (mut first, mut total) = (start, length);
        for (beside, its_length) in self.beside(start, length).into_iter().flatten() {
            self.cut(beside, its_length);
            (first, total) = (first.min(beside), total + its_length);
        }
        self.put(first, total);
    }

    /// Removes a run, all of whose blocks are there.
    pub fn remove(&mut self, start: u32, length: u32) {
        let Some((first, total)) = self.run_with(start) else { return };
        self.cut(first, total);
        if first < start {
            self.put(first, start - first);
        }
        let (end, total_end) = (start + length, first + total);
        if end < total_end {
            self.put(end, total_end - end);
        }
    }

    /// The shortest run of at least `want` blocks, else the longest there is.
    pub fn best_fit(&self, want: u32) -> Option<(u32, u32)> {
        let fitting = self.by_length.range((want, 0)..).next();
        fitting.or_else(|| self.by_length.last()).map(|(length, start)| (*start, *length))
    }

    /// The start of `want` blocks whose first is `residue` past a multiple of 2 MiB.
    pub fn find_aligned(&self, want: u32, residue: u32) -> Option<u32> {
        let fits = |start: u32, length: u32| {
            let skip = (residue + HUGE - start % HUGE) % HUGE;
            (length >= skip.saturating_add(want)).then(|| start + skip)
        };
        // A run longer by one 2 MiB run always fits; shorter ones may, and are better.
        let few = self.by_length.range((want, 0)..).take(64);
        let sure = self.by_length.range((want.saturating_add(HUGE), 0)..).take(1);
        few.chain(sure).find_map(|(length, start)| fits(*start, *length))
    }

    /// The lowest start of a unit of `size` blocks, a power of two, at a multiple of it.
    pub fn find_aligned_unit(&self, size: u32) -> Option<u32> {
        self.iter().find_map(|(start, length)| {
            let aligned = start.checked_next_multiple_of(size)?;
            (aligned - start <= length && length - (aligned - start) >= size).then_some(aligned)
        })
    }

    /// How many units of `size` blocks there are, each at a multiple of it; counted up to about `limit`.
    pub fn aligned_units(&self, size: u64, limit: u64) -> u64 {
        let mut found = 0_u64;
        for (start, length) in self.iter() {
            let end = u64::from(start) + u64::from(length);
            found += (end / size).saturating_sub(u64::from(start).div_ceil(size));
            if found >= limit {
                break;
            }
        }
        found
    }

    /// Blocks in whole, aligned 2 MiB runs.
    pub fn huge_blocks(&self) -> u64 {
        let aligned = |(start, length): (u32, u32)| {
            let first = u64::from(start).next_multiple_of(HUGE.into());
            let end = u64::from(start) + u64::from(length);
            (end - end % u64::from(HUGE)).saturating_sub(first)
        };
        self.iter().map(aligned).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_bitmap(ops in proptest::collection::vec((0..200u32, 1..40u32, any::<bool>()), 1..80)) {
            let (mut runs, mut bits) = (Runs::default(), vec![false; 256]);
            let (mut places, mut covered) = (Places::default(), vec![false; 256]);
            for (start, length, insert) in ops {
                let range = start as usize..(start + length) as usize;
                if bits[range.clone()].iter().all(|bit| *bit != insert) {
                    if insert { runs.insert(start, length) } else { runs.remove(start, length) }
                    bits[range.clone()].fill(insert);
                }
                if insert {
                    places.cover(start, length);
                    covered[range].fill(true);
                    prop_assert_eq!(places.overlapping(start, length).collect::<Vec<_>>(), [(start, length)]);
                } else {
                    places.uncover(start, length);
                    covered[range].fill(false);
                    prop_assert_eq!(places.overlapping(start, length).count(), 0);
                }
            }
            let blocks = |runs: &Places| runs.iter().flat_map(|(start, length)| start..start + length).collect::<Vec<_>>();
            let set = |bits: &[bool]| (0..256).filter(|block| bits[*block as usize]).collect::<Vec<u32>>();
            prop_assert_eq!(blocks(&places), set(&covered));
            let maximal = |runs: &Places| runs.iter().zip(runs.iter().skip(1)).all(|(a, b)| a.0 + a.1 < b.0);
            prop_assert!(maximal(&places) && maximal(&runs));
            prop_assert_eq!(blocks(&runs), set(&bits));
            prop_assert_eq!(runs.blocks(), set(&bits).len() as u64);
        }
    }

    #[test]
    fn finds_congruent_places() {
        let mut runs = Runs::default();
        runs.insert(100, 1000);
        assert_eq!(runs.find_aligned(512, 0), Some(512));
        assert_eq!(runs.find_aligned(512, 100), Some(100));
        assert_eq!(runs.find_aligned(600, 0), None);
        assert_eq!(runs.find_aligned_unit(16), Some(112));
    }
}
