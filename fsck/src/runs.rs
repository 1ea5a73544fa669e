//! Runs of blocks, and in which blocks two lists of them differ.

use core::ops::Range;
use paxfs_format::record::Record;
use zerocopy::{Immutable, IntoBytes};

/// A run of blocks of a group with a number: what free, refcount and role records are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Run {
    pub start: u64,
    pub end: u64,
    /// Owners of a shared run, the owner of a role; 0 for free ones.
    pub what: u64,
}

impl Run {
    pub fn of<R: Record>(record: &R, what: u64) -> Self {
        Run { start: record.key().start, end: record.end(), what }
    }

    pub fn blocks(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// A part of the blocks, with the run of each of two lists over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'r, T> {
    pub blocks: Range<u64>,
    pub left: Option<&'r T>,
    pub right: Option<&'r T>,
}

/// Cuts two lists of runs, each ascending by start, into parts in which nothing changes: neither a run of them nor a
/// range of `borders` begins or ends within one. Parts that neither has are left out.
pub(crate) fn parts<'r, T>(
    left: &'r [T],
    right: &'r [T],
    run: impl Fn(&T) -> Run,
    borders: &[Range<u64>],
) -> Vec<Part<'r, T>> {
    let of_runs = left.iter().chain(right).map(|one| run(one).range());
    let mut cuts: Vec<u64> =
        of_runs.chain(borders.iter().cloned()).flat_map(|range| [range.start, range.end]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let over = |list: &'r [T], blocks: &Range<u64>| {
        let begun = list.partition_point(|one| run(one).start <= blocks.start);
        // Runs of a damaged list may overlap, but few do.
        let mut near = list.iter().take(begun).rev().take(3);
        near.find(|one| blocks.end <= run(one).end)
    };
    let blocks = cuts.iter().zip(cuts.iter().skip(1)).map(|(start, end)| *start..*end);
    let parts = blocks.map(|blocks| Part { left: over(left, &blocks), right: over(right, &blocks), blocks });
    parts.filter(|part| part.left.is_some() || part.right.is_some()).collect()
}

/// Disjoint ranges, ascending, that have the blocks of all of these.
pub(crate) fn union(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut disjoint: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match disjoint.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => disjoint.push(range),
        }
    }
    disjoint
}

/// The parts of disjoint ranges, ascending, that lie in a range.
pub(crate) fn within<'l>(
    list: &'l [Range<u64>],
    range: &Range<u64>,
) -> impl Iterator<Item = Range<u64>> + use<'l> {
    let range = range.clone();
    let first = list.partition_point(|other| other.end <= range.start);
    let (start, end) = (range.start, range.end);
    let others = list.get(first..).unwrap_or_default().iter().take_while(move |other| other.start < end);
    others.map(move |other| other.start.max(start)..other.end.min(end))
}

/// A range without disjoint ranges, ascending.
pub(crate) fn without(range: Range<u64>, list: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut start = range.start;
    for taken in within(list, &range) {
        left.push(start..taken.start);
        start = taken.end;
    }
    left.push(start..range.end);
    left.retain(|part| part.start < part.end);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, end: u64, what: u64) -> Run {
        Run { start, end, what }
    }

    #[test]
    fn parts_are_cut_where_anything_changes() {
        let (left, right) = ([run(0, 4, 2), run(4, 8, 2)], [run(0, 10, 2), run(20, 30, 3)]);
        let cut = parts(&left, &right, |one| *one, core::slice::from_ref(&(9..25)));
        let shown: Vec<_> =
            cut.iter().map(|part| (part.blocks.clone(), part.left.is_some(), part.right.is_some())).collect();
        let both = |range: Range<u64>| (range, true, true);
        let right = |range: Range<u64>| (range, false, true);
        assert_eq!(shown, [both(0..4), both(4..8), right(8..9), right(9..10), right(20..25), right(25..30)]);
    }

    #[test]
    fn ranges_are_joined_and_taken_away() {
        let all = union(vec![5..7, 1..3, 3..4, 20..30, 25..40]);
        assert_eq!(all, [1..4, 5..7, 20..40]);
        assert_eq!(without(0..25, &all), [0..1, 4..5, 7..20]);
        assert_eq!(without(5..7, &all), []);
        assert_eq!(within(&all, &(6..21)).collect::<Vec<_>>(), [6..7, 20..21]);
    }
}
