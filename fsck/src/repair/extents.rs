//! The extents of a file, from what it says itself and what the reverse map says of it.

use super::file::File;
use crate::extents::ExtentItem;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::record::{Record, Space};
use std::collections::{BTreeMap, HashSet};

/// What the check decided about extents and reverse-map records.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Extents of files that are wrong.
    pub wrong: HashSet<ExtentItem>,
    /// Records of the reverse map that are wrong.
    pub wrong_rmaps: HashSet<ExtentItem>,
}

pub(super) fn extent(item: &ExtentItem) -> Extent {
    Extent {
        offset: item.offset.into(),
        start: item.start.into(),
        length: item.length.into(),
        flags: item.flags.into(),
    }
}

/// Extents that do not overlap in their file, by offset.
type Settled = BTreeMap<u64, Extent>;

fn overlaps(settled: &Settled, one: &Extent) -> bool {
    let before = settled.range(..one.end()).next_back();
    before.is_some_and(|(_, other)| one.offset.get() < other.end())
}

/// Decides which extents a file has: what both sides have, then what the file has, then what only the reverse map has, then
/// what the file has and something was wrong with; each where nothing is yet.
pub(super) fn settle(file: &mut File, rmaps: &[ExtentItem], verdict: &Verdict, space: &Space) {
    let item = |extent: &Extent| ExtentItem::of_extent(extent, file.number);
    let known: HashSet<&ExtentItem> = rmaps.iter().collect();
    let fine = |extent: &&Extent| extent.check(space).is_ok() && !verdict.wrong.contains(&item(extent));
    let both = file.extents.iter().chain(&file.doubtful).filter(|extent| known.contains(&item(extent)));
    let own = file.extents.iter().filter(fine);
    let other: Vec<Extent> = rmaps
        .iter()
        .filter(|item| !verdict.wrong_rmaps.contains(item))
        .map(extent)
        .filter(|extent| extent.check(space).is_ok())
        .collect();
    let doubtful = file.doubtful.iter().filter(fine);
    let wrong = file.extents.iter().filter(|extent| verdict.wrong.contains(&item(extent)));
    let mut settled = Settled::new();
    for one in both.chain(own).chain(&other).chain(doubtful) {
        if one.check(space).is_ok() && !overlaps(&settled, one) {
            settled.insert(one.offset.get(), *one);
        }
    }
    // What no account but the extent knows: where it was, there is a hole now.
    let lost: u64 = wrong
        .filter(|extent| !overlaps(&settled, extent))
        .map(|extent| u64::from(extent.length.get()).saturating_mul(BLOCK_BYTES))
        .sum();
    if lost > 0 {
        file.lost.insert(format!("{lost} bytes that only a wrong extent led to"));
    }
    file.extents = merged(settled.into_values().collect(), space);
    file.doubtful.clear();
}

/// Extents in order and in maximal form.
pub(super) fn merged(mut extents: Vec<Extent>, space: &Space) -> Vec<Extent> {
    extents.sort_by_key(|extent| extent.offset.get());
    let mut list: Vec<Extent> = Vec::new();
    for extent in extents {
        let joined =
            list.last().and_then(|last| last.merged(&extent)).filter(|joined| joined.check(space).is_ok());
        match (joined, list.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => list.push(extent),
        }
    }
    list
}
