#![allow(clippy::cast_possible_truncation, clippy::indexing_slicing)]
//! What a medium may hold after a crash: for each of its units any of the stores that were made since the last fence that
//! covers them.

use fastrand::Rng;
use paxfs_runtime::medium::{Event, Granularity, Recorded};
use std::collections::BTreeMap;
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
            self.pending.entry(unit).or_default().push(Pending { bytes: new, flushed, drained: false });
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
    pub fn image(&self, reached: impl Fn(usize, usize) -> usize) -> Vec<u8> {
        let mut image = self.durable.clone();
        for (index, (unit, versions)) in self.pending.iter().enumerate() {
            if let Some(version) = reached(index, versions.len()).checked_sub(1) {
                image[unit * self.unit..(unit + 1) * self.unit].copy_from_slice(&versions[version].bytes);
            }
        }
        image
    }

    pub fn images(&self, rng: &mut Rng, most: usize) -> Vec<Vec<u8>> {
        let units = self.pending.len();
        let mut images = vec![self.image(|_, _| 0), self.image(|_, all| all)];
        let pick = |rng: &mut Rng| rng.usize(..units.max(1));
        for one in 0..units.min(most) {
            let one = if units <= most { one } else { pick(rng) };
            images.push(self.image(|index, all| if index == one { all } else { 0 }));
            images.push(self.image(|index, all| if index == one { 0 } else { all }));
            images.push(self.image(|index, all| if index == one { all.min(1) } else { all }));
        }
        for _ in 0..(most / 2).min(units * units) {
            let (one, other) = (pick(rng), pick(rng));
            images.push(self.image(|index, all| if index == one || index == other { all } else { 0 }));
        }
        for _ in 0..most.min(units * 4) {
            let bits: Vec<u64> = (0..units).map(|_| rng.u64(..)).collect();
            images.push(self.image(|index, all| (bits[index] as usize) % (all + 1)));
        }
        images
    }
}
