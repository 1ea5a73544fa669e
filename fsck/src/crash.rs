//! For tests: what a medium may hold after a crash at any store of a repair, of its completion, or of its undoing.
//!
//! What is stored between two syncs reaches a medium in any order, each of its units by itself; those of one unit in the
//! order of their stores. A unit is a cache line of persistent memory, or a sector of a file on a disk. A process that is
//! killed leaves the first so many stores. Of all those states here are, for each stretch between two syncs: the first so
//! many units, each unit alone, all units but one, and some subsets by chance, with some units at an earlier store.

use crate::error::Error;
use crate::medium::Medium;
use crate::replay::{mark_clean_as, replay_at};
use crate::undo::undo_on;
use crate::write::{Repair, Shelter, carry_out, rehearse};
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::{Device, MediumError};
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::journal::LINE_SIZE;
use paxfs_format::time::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// What is done to a volume while it crashes.
#[derive(Debug, Clone, Copy)]
pub enum Step<'s> {
    /// A repair is written, with a transaction.
    Write(&'s Repair<'s>),
    /// The same, with the transaction's body in free blocks, even where the journal has room for it.
    WriteFree(&'s Repair<'s>),
    /// A repair is written in place, once this undo file is there; the file is made.
    WriteInPlace(&'s Repair<'s>, &'s Path),
    /// What waits in the journal is brought home: the first thing that -p does.
    Replay(Timestamp),
    /// A volume that was found to be so is marked clean: the last thing that -p does.
    MarkClean(Timestamp),
    /// A repair is undone, out of its file.
    Undo(&'s Path),
}

/// How many crashes are tried.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Of each sort, between two syncs, for each size of a unit; evenly chosen when there are more.
    pub each: usize,
    /// Subsets by chance, between two syncs, for each size of a unit.
    pub subsets: usize,
    /// What chance starts from.
    pub seed: u64,
}

/// A crash.
#[derive(Debug)]
pub struct Crash<'c> {
    /// What the medium holds.
    pub image: &'c [u8],
    /// Which: for who reads that a test failed.
    pub name: &'c str,
}

/// Takes a step on a medium that holds `image`, and calls `each` with what crashes leave. Returns what it holds in the end,
/// and how many crashes there were.
///
/// # Errors
///
/// When the step cannot be taken.
pub fn crash_states(
    image: &[u8],
    step: &Step<'_>,
    budget: Budget,
    each: &mut dyn FnMut(&Crash<'_>),
) -> Result<(Vec<u8>, u64), Error> {
    let mut record = Record::new(image);
    match step {
        Step::Write(repair) => {
            carry_out(&mut record, repair, Shelter::Log)?;
        }
        Step::WriteFree(repair) => {
            carry_out(&mut record, repair, Shelter::Free)?;
        }
        Step::WriteInPlace(repair, undo) => {
            rehearse(&record.device, repair, Some(undo), Shelter::Undo)?;
            carry_out(&mut record, repair, Shelter::Undo)?;
        }
        Step::Replay(now) => {
            replay_at(&mut record, *now)?;
        }
        Step::MarkClean(now) => mark_clean_as(&mut record, None, *now)?,
        Step::Undo(file) => {
            undo_on(&mut record, file, false)?;
        }
    }
    record.sync()?;
    let mut states = States { budget, chance: budget.seed | 1, crashes: 0, each };
    let mut base = image.to_vec();
    for (number, stretch) in record.stretches.iter().enumerate() {
        for unit in [LINE_SIZE, SECTOR] {
            states.between(&mut base, stretch, unit, number);
        }
        stretch.iter().for_each(|store| store.apply(&mut base, None));
    }
    Ok((base, states.crashes))
}

/// A store.
#[derive(Debug)]
struct Store {
    offset: usize,
    bytes: Vec<u8>,
}

impl Store {
    fn range(&self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.bytes.len())
    }

    /// Stores it to an image, or only what lies in a range.
    fn apply(&self, image: &mut [u8], within: Option<Range<usize>>) {
        let own = self.range();
        let range = within.map_or(own.clone(), |within| within.start.max(own.start)..within.end.min(own.end));
        if range.is_empty() {
            return;
        }
        let from = range.start - own.start..range.end - own.start;
        if let (Some(to), Some(from)) = (image.get_mut(range), self.bytes.get(from)) {
            to.copy_from_slice(from);
        }
    }
}

/// A device of memory, and what was stored to it between syncs.
#[derive(Debug)]
struct Record {
    device: Device,
    stretches: Vec<Vec<Store>>,
    open: Vec<Store>,
}

impl Record {
    fn new(image: &[u8]) -> Self {
        Record { device: Device::memory(image.to_vec()), stretches: Vec::new(), open: Vec::new() }
    }
}

impl Blocks for Record {
    fn blocks(&self) -> u64 {
        Blocks::blocks(&self.device)
    }

    fn block(&self, block: u64) -> Result<&[u8; BLOCK_SIZE], MediumError> {
        self.device.block(block)
    }

    fn run(&self, blocks: Range<u64>) -> Result<Cow<'_, [u8]>, MediumError> {
        self.device.run(blocks)
    }

    fn failed(&self, block: u64) -> bool {
        self.device.failed(block)
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        Blocks::next_data(&self.device, block)
    }
}

impl Medium for Record {
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        self.open.push(Store { offset: at, bytes: bytes.to_vec() });
        self.device.store(offset, bytes)
    }

    fn sync(&mut self) -> Result<(), Error> {
        if !self.open.is_empty() {
            self.stretches.push(core::mem::take(&mut self.open));
        }
        Ok(())
    }
}

/// Makes the states.
struct States<'s> {
    budget: Budget,
    chance: u64,
    crashes: u64,
    each: &'s mut dyn FnMut(&Crash<'_>),
}

impl States<'_> {
    /// Those between two syncs. `base` is what is durable; it is the same again afterwards.
    fn between(&mut self, base: &mut [u8], stretch: &[Store], unit: usize, number: usize) {
        let mut units: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, store) in stretch.iter().enumerate() {
            let range = store.range();
            for start in (range.start / unit * unit..range.end).step_by(unit) {
                units.entry(start).or_default().push(at);
            }
        }
        // In the order of the stores; with all of a unit's stores.
        let mut units: Vec<(usize, Vec<usize>)> = units.into_iter().collect();
        units.sort_by_key(|(start, stores)| (stores.first().copied(), *start));
        let count = units.len();
        let all = |chosen: &dyn Fn(usize) -> bool| -> Vec<usize> {
            units
                .iter()
                .enumerate()
                .map(|(at, (_, stores))| if chosen(at) { stores.len() } else { 0 })
                .collect()
        };
        let name =
            |what: &str, at: usize| format!("stretch {number}, units of {unit}: {what} {at} of {count}");
        for at in evenly(count + 1, self.budget.each) {
            self.tell(base, stretch, &units, unit, &all(&|unit| unit < at), &name("the first", at));
        }
        for at in evenly(count, self.budget.each) {
            self.tell(base, stretch, &units, unit, &all(&|unit| unit == at), &name("only", at));
            self.tell(base, stretch, &units, unit, &all(&|unit| unit != at), &name("all but", at));
        }
        for at in 0..self.budget.subsets {
            let chosen: Vec<usize> = units
                .iter()
                .map(|(_, stores)| {
                    let below = u64::try_from(stores.len()).unwrap_or(0).saturating_add(1);
                    usize::try_from(self.draw() % below).unwrap_or(0)
                })
                .collect();
            self.tell(base, stretch, &units, unit, &chosen, &name("subset", at));
        }
    }

    /// Tells of a crash that left so many stores of each unit.
    fn tell(
        &mut self,
        base: &mut [u8],
        stretch: &[Store],
        units: &[(usize, Vec<usize>)],
        unit: usize,
        left: &[usize],
        name: &str,
    ) {
        let mut before = Vec::new();
        for ((start, stores), left) in units.iter().zip(left) {
            let range = *start..start.saturating_add(unit);
            before.push((*start, base.get(range.clone()).unwrap_or_default().to_vec()));
            for store in stores.iter().take(*left).filter_map(|store| stretch.get(*store)) {
                store.apply(base, Some(range.clone()));
            }
        }
        self.crashes = self.crashes.saturating_add(1);
        (self.each)(&Crash { image: base, name });
        for (start, bytes) in before {
            if let Some(to) = base.get_mut(start..start.saturating_add(bytes.len())) {
                to.copy_from_slice(&bytes);
            }
        }
    }

    fn draw(&mut self) -> u64 {
        // xorshift64*: enough to choose by.
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        self.chance.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

/// At most `most` of the numbers below `count`, evenly; the first and the last among them.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let last = most.saturating_sub(1).max(1);
    (0..most).map(|at| at.saturating_mul(count - 1) / last).collect()
}
