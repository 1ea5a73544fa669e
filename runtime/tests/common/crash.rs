#![allow(clippy::cast_possible_truncation, clippy::indexing_slicing)]
//! What a medium may hold after a crash: for each of its units any of the stores that were made since the last fence that
//! covers them.

use fastrand::Rng;
use paxfs_runtime::medium::{Event, Granularity, Recorded};
use std::collections::{BTreeMap, BTreeSet};
use std::thread::ThreadId;

/// A store that need not have reached the medium.
#[derive(Clone)]
struct Pending {
    bytes: Vec<u8>,
    flushed: Option<ThreadId>,
    drained: bool,
}

/// The medium as the crash model has it: what is there for sure, and for each unit the stores that may be.
pub struct Crash {
    unit: usize,
    /// What is there for sure.
    pub durable: Vec<u8>,
    pending: BTreeMap<usize, Vec<Pending>>,
}

impl Crash {
    pub fn new(start: &[u8], granularity: Granularity) -> Self {
        let unit = if granularity == Granularity::CacheLine { 64 } else { 512 };
        Crash { unit, durable: start.to_vec(), pending: BTreeMap::new() }
    }

    fn latest(&self, unit: usize) -> Vec<u8> {
        match self.pending.get(&unit).and_then(|versions| versions.last()) {
            Some(pending) => pending.bytes.clone(),
            None => self.durable[unit * self.unit..(unit + 1) * self.unit].to_vec(),
        }
    }

    fn store(&mut self, offset: u64, bytes: &[u8], flushed: Option<ThreadId>) {
        let mut at = offset as usize;
        let end = at + bytes.len();
        while at < end {
            let unit = at / self.unit;
            let stop = ((unit + 1) * self.unit).min(end);
            let mut new = self.latest(unit);
            let inside = at % self.unit;
            new[inside..inside + (stop - at)]
                .copy_from_slice(&bytes[at - offset as usize..stop - offset as usize]);
            // What is there already makes no other image.
            if self.pending.contains_key(&unit) || new != self.latest(unit) {
                self.pending.entry(unit).or_default().push(Pending { bytes: new, flushed, drained: false });
            }
            at = stop;
        }
    }

    pub fn apply(&mut self, recorded: &Recorded) {
        let thread = recorded.thread;
        match &recorded.event {
            Event::Store { offset, bytes } => self.store(*offset, bytes, None),
            Event::StoreNt { offset, bytes } => self.store(*offset, bytes, Some(thread)),
            Event::Flush { range, .. } => {
                let units = range.start as usize / self.unit..(range.end as usize).div_ceil(self.unit);
                for (_, versions) in self.pending.range_mut(units) {
                    versions.iter_mut().for_each(|version| version.flushed = Some(thread));
                }
            }
            Event::Drain => {
                for version in self.pending.values_mut().flatten() {
                    version.drained |= version.flushed == Some(thread);
                }
            }
            Event::Fence => {
                let by_line = self.unit == 64;
                for (unit, versions) in &mut self.pending {
                    let sure = versions.iter().rposition(|version| {
                        // Behind the page cache the system call writes what anyone noted.
                        version.flushed.is_some_and(|by| !by_line || by == thread || version.drained)
                    });
                    if let Some(sure) = sure {
                        self.durable[unit * self.unit..(unit + 1) * self.unit]
                            .copy_from_slice(&versions[sure].bytes);
                        versions.drain(..=sure);
                    }
                }
                self.pending.retain(|_, versions| !versions.is_empty());
            }
            Event::Mark(_) => {}
        }
    }

    /// The image in which each pending unit has so many of its stores.
    fn image(&self, reached: &[usize]) -> Vec<u8> {
        let mut image = self.durable.clone();
        for ((unit, versions), reached) in self.pending.iter().zip(reached) {
            if let Some(version) = reached.checked_sub(1) {
                image[unit * self.unit..(unit + 1) * self.unit].copy_from_slice(&versions[version].bytes);
            }
        }
        image
    }

    /// Images that a crash may leave: nothing of what is pending, all of it, each unit alone, all but each, pairs, random; of
    /// many units some.
    pub fn images(&self, rng: &mut Rng, most: usize) -> Vec<Vec<u8>> {
        let all: Vec<usize> = self.pending.values().map(Vec::len).collect();
        let none = vec![0; all.len()];
        let with = |mut reached: Vec<usize>, unit: usize, versions: usize| {
            reached[unit] = versions;
            reached
        };
        let units = all.len();
        let mut choices = BTreeSet::from([none.clone(), all.clone()]);
        let pick = |rng: &mut Rng| rng.usize(..units.max(1));
        for one in 0..units.min(most) {
            let one = if units <= most { one } else { pick(rng) };
            choices.insert(with(none.clone(), one, all[one]));
            choices.insert(with(all.clone(), one, 0));
            choices.insert(with(all.clone(), one, 1));
        }
        for _ in 0..(most / 2).min(units * units) {
            let (one, other) = (pick(rng), pick(rng));
            choices.insert(with(with(none.clone(), one, all[one]), other, all[other]));
        }
        for _ in 0..most.min(units * 4) {
            choices.insert(all.iter().map(|all| rng.usize(..=*all)).collect());
        }
        choices.iter().map(|reached| self.image(reached)).collect()
    }
}
