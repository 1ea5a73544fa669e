//! A sweep over held runs in the order of their blocks: the volume cut into maximal runs over which the same hold.
//!
//! Takes O(log n) a record, and memory for as many as overlap at one place. A record that comes too late (from a damaged
//! tree) is cut to what is still ahead.

use crate::holders::{Fault, Held};
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;

/// The sweep.
pub struct Sweep<I: Iterator> {
    source: Peekable<I>,
    /// The runs over the current place, by their ends, and the order in which they came.
    open: BTreeMap<(u64, u64), Held>,
    entered: Vec<Held>,
    left: Vec<Held>,
    faults: Vec<Fault>,
    came: u64,
    at: u64,
    end: u64,
}

impl<I: Iterator<Item = Result<Held, Fault>>> Sweep<I> {
    /// A sweep over `range`: what holds nothing of it is passed over.
    pub fn new(source: I, range: Range<u64>) -> Self {
        Sweep {
            source: source.peekable(),
            open: BTreeMap::new(),
            entered: Vec::new(),
            left: Vec::new(),
            faults: Vec::new(),
            came: 0,
            at: range.start,
            end: range.end,
        }
    }

    /// The next run: over all of it hold those in [`Sweep::open`], nobody if there are none. The runs cover the range
    /// without gaps. At the end the last ones have left.
    pub fn next_run(&mut self) -> Option<Range<u64>> {
        self.entered.clear();
        self.left.clear();
        let at = self.at;
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.key().0 <= at || at >= self.end)
        {
            self.left.push(entry.remove());
        }
        let start = |next: &Result<Held, Fault>| next.as_ref().map_or(at, |held| held.start);
        while let Some(next) = self.source.next_if(|next| at < self.end && start(next) <= at) {
            match next {
                Ok(held) if held.end > at => {
                    self.came += 1;
                    self.open.insert((held.end, self.came), held);
                    self.entered.push(held);
                }
                Ok(held) if held.start < held.end && held.end <= at => {
                    self.faults.push(format!("blocks {}..{}: out of order", held.start, held.end));
                }
                Ok(_) => {}
                Err(fault) => self.faults.push(fault),
            }
        }
        if at >= self.end {
            return None;
        }
        let first_end = self.open.first_key_value().map_or(self.end, |((end, _), _)| *end);
        let next_start = self.source.peek().map_or(self.end, start);
        self.at = first_end.min(next_start).min(self.end);
        Some(at..self.at)
    }

    /// Those that hold the current run.
    pub fn open(&self) -> impl Iterator<Item = &Held> {
        self.open.values()
    }

    /// How many hold the current run.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Those that hold the current run and not the one before.
    pub fn entered(&self) -> &[Held] {
        &self.entered
    }

    /// Those that held the run before and not the current.
    pub fn left(&self) -> &[Held] {
        &self.left
    }

    /// What could not be read since this was asked last.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holders::Holder;

    fn held(start: u64, end: u64, inode: u64) -> Result<Held, Fault> {
        Ok(Held { start, end, by: Holder::Data { inode, offset: 0, unwritten: false } })
    }

    type Runs = Vec<(u64, u64, Vec<u64>)>;

    fn sweep(source: Vec<Result<Held, Fault>>) -> (Runs, Vec<Fault>) {
        let mut sweep = Sweep::new(source.into_iter(), 0..100);
        let mut runs = Vec::new();
        let mut inside = Vec::new();
        while let Some(run) = sweep.next_run() {
            for held in sweep.left() {
                let place = inside.iter().position(|other| other == held).unwrap();
                inside.remove(place);
            }
            inside.extend_from_slice(sweep.entered());
            let mut inodes: Vec<_> = sweep
                .open()
                .map(|held| match held.by {
                    Holder::Data { inode, .. } => inode,
                    _ => unreachable!(),
                })
                .collect();
            inodes.sort_unstable();
            assert_eq!(inside.len(), inodes.len());
            runs.push((run.start, run.end, inodes));
        }
        assert_eq!(sweep.left().len(), inside.len());
        (runs, sweep.take_faults())
    }

    #[test]
    fn overlaps_are_cut_and_gaps_are_runs() {
        let source = vec![held(10, 40, 1), held(20, 30, 2), held(20, 50, 3), held(90, 100, 4)];
        let runs = vec![
            (0, 10, vec![]),
            (10, 20, vec![1]),
            (20, 30, vec![1, 2, 3]),
            (30, 40, vec![1, 3]),
            (40, 50, vec![3]),
            (50, 90, vec![]),
            (90, 100, vec![4]),
        ];
        assert_eq!(sweep(source), (runs, vec![]));
    }

    #[test]
    fn late_records_are_cut_or_told() {
        let source =
            vec![held(50, 60, 1), held(40, 70, 2), held(10, 20, 3), Err("x".to_owned()), held(80, 200, 4)];
        let (runs, faults) = sweep(source);
        let expected = vec![
            (0, 50, vec![]),
            (50, 60, vec![1, 2]),
            (60, 70, vec![2]),
            (70, 80, vec![]),
            (80, 100, vec![4]),
        ];
        assert_eq!(runs, expected);
        assert_eq!(faults, ["blocks 10..20: out of order", "x"]);
    }
}
