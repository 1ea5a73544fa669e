//! What follows from the sorted owners of a group's blocks: its free runs and its reference counts. Pure.

use core::cmp::Reverse;
use paxfs_format::cluster::Cluster;
use paxfs_format::declare::OnDisk;
use paxfs_format::free::Free;
use paxfs_format::geometry::{Geometry, HEAD_BLOCKS};
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{Owner, Rmap};
use std::collections::BinaryHeap;

/// Sorts records as the reverse map holds them.
pub fn sort(owners: &mut [Rmap]) {
    owners.sort_unstable_by_key(|record| (record.start.get(), record.owner.get(), record.offset.get()));
}

/// The records of a group's metadata, in maximal form, ascending: head, table, journal, clusters (which must ascend).
pub fn specials(geometry: &Geometry, group: u32, clusters: &[Cluster]) -> Vec<Rmap> {
    let narrow = |blocks: u64| u32::try_from(blocks).unwrap_or(u32::MAX);
    let run = |start: u32, length: u64, owner| Rmap {
        start: start.into(),
        length: narrow(length).into(),
        owner,
        ..Rmap::zeroed()
    };
    let table = geometry.table_blocks(group);
    let mut list = vec![run(0, HEAD_BLOCKS, Owner::HEAD)];
    if table > 0 {
        list.push(run(narrow(HEAD_BLOCKS), table, Owner::CHECKSUMS));
    }
    if group == 0 {
        list.push(run(narrow(HEAD_BLOCKS + table), geometry.journal_blocks, Owner::JOURNAL));
    }
    for cluster in clusters {
        let next = run(cluster.start.get(), geometry.cluster_blocks, Owner::CLUSTER);
        match list.last_mut() {
            Some(last) if last.merged(&next).is_some() => *last = last.merged(&next).unwrap_or(next),
            _ => list.push(next),
        }
    }
    list
}

/// Two sorted lists as one.
pub fn merge<'a>(a: &'a [Rmap], b: &'a [Rmap]) -> impl Iterator<Item = &'a Rmap> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    core::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if y.key() < x.key() => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

/// The runs of `0..blocks` that nobody owns.
pub fn gaps<'a>(owners: impl Iterator<Item = &'a Rmap>, blocks: u32) -> impl Iterator<Item = Free> {
    let run = |start: u32, end: u32| Free { start: start.into(), length: end.saturating_sub(start).into() };
    let mut ends = owners.map(|record| (record.start.get(), record.start.get() + record.length.get()));
    let (mut at, mut done) = (0, false);
    core::iter::from_fn(move || {
        for (start, end) in ends.by_ref() {
            let before = at;
            at = at.max(end);
            if start > before {
                return Some(run(before, start));
            }
        }
        let last = !done && at < blocks;
        done = true;
        last.then(|| run(at, blocks))
    })
}

/// The maximal runs that two or more data records cover, with their number.
pub fn refcounts(data: &[Rmap]) -> impl Iterator<Item = Refcount> + '_ {
    let mut steps = Steps { data: data.iter().peekable(), ends: BinaryHeap::new(), at: 0 };
    let mut held: Option<Refcount> = None;
    core::iter::from_fn(move || {
        for next in steps.by_ref() {
            match held.as_ref().and_then(|held| held.merged(&next)) {
                Some(merged) => held = Some(merged),
                None => {
                    if let Some(full) = held.replace(next) {
                        return Some(full);
                    }
                }
            }
        }
        held.take()
    })
}

/// Runs of equal cover, not yet maximal.
struct Steps<'a> {
    data: core::iter::Peekable<core::slice::Iter<'a, Rmap>>,
    /// Ends of the records over `at`.
    ends: BinaryHeap<Reverse<u32>>,
    at: u32,
}

impl Iterator for Steps<'_> {
    type Item = Refcount;

    fn next(&mut self) -> Option<Refcount> {
        loop {
            let (count, from) = (self.ends.len(), self.at);
            let start = self.data.peek().map(|record| record.start.get());
            let end = self.ends.peek().map(|end| end.0);
            let to = match (start, end) {
                (Some(start), Some(end)) => start.min(end),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return None,
            };
            while self.ends.peek().is_some_and(|end| end.0 <= to) {
                self.ends.pop();
            }
            while let Some(record) = self.data.next_if(|record| record.start.get() == to) {
                self.ends.push(Reverse(to + record.length.get()));
            }
            self.at = to;
            if count >= 2 && to > from {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                return Some(Refcount {
                    start: from.into(),
                    length: (to - from).into(),
                    count: count.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(start: u32, length: u32, owner: u64, offset: u64) -> Rmap {
        Rmap {
            start: start.into(),
            length: length.into(),
            owner: owner.into(),
            offset: offset.into(),
            ..Rmap::zeroed()
        }
    }

    proptest! {
        #[test]
        fn as_counted_block_by_block(list in proptest::collection::vec((0u32..60, 1u32..20), 0..30)) {
            let mut owners: Vec<Rmap> =
                (1..).zip(list).map(|(owner, (start, length))| record(start, length, owner, 0)).collect();
            sort(&mut owners);
            let mut counts = [0u32; 100];
            for record in &owners {
                let start = record.start.get() as usize;
                counts[start..start + record.length.get() as usize].iter_mut().for_each(|count| *count += 1);
            }
            let mut expected_counts: Vec<(u32, u32, u32)> = Vec::new();
            let mut expected_free: Vec<(u32, u32)> = Vec::new();
            for (block, &count) in (0u32..).zip(&counts) {
                match expected_counts.last_mut() {
                    Some(last) if last.2 == count && last.0 + last.1 == block && count >= 2 => last.1 += 1,
                    _ if count >= 2 => expected_counts.push((block, 1, count)),
                    _ => {}
                }
                match expected_free.last_mut() {
                    Some(last) if last.0 + last.1 == block && count == 0 => last.1 += 1,
                    _ if count == 0 => expected_free.push((block, 1)),
                    _ => {}
                }
            }
            let counted: Vec<_> =
                refcounts(&owners).map(|run| (run.start.get(), run.length.get(), run.count.get())).collect();
            prop_assert_eq!(counted, expected_counts);
            let free: Vec<_> = gaps(owners.iter(), 100).map(|run| (run.start.get(), run.length.get())).collect();
            prop_assert_eq!(free, expected_free);
        }
    }

    #[test]
    fn clusters_that_touch_are_one_record() {
        let geometry = Geometry::choose(64 << 20, Some(2), true).unwrap();
        let cluster = |start: u32| Cluster { start: start.into(), ..Cluster::zeroed() };
        let list = specials(&geometry, 1, &[cluster(32), cluster(48), cluster(80)]);
        let list: Vec<_> = list.iter().map(|one| (one.start.get(), one.length.get(), one.owner)).collect();
        let expected = [
            (0, 3, Owner::HEAD),
            (3, 16, Owner::CHECKSUMS),
            (32, 32, Owner::CLUSTER),
            (80, 16, Owner::CLUSTER),
        ];
        assert_eq!(list, expected);
    }
}
