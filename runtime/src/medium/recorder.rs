//! A medium that remembers all that was done to it, for tests that build the images a crash could have left.

use super::{Durable, Granularity, Medium, Point};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use paxfs_format::device::DeviceError;
use paxfs_format::geometry::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// One thing done to the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were stored by way of the caches.
    Store {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Bytes were stored past the caches: flushed by themselves.
    StoreNt {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A range was flushed.
    Flush {
        /// Of the medium's bytes.
        range: Range<u64>,
        /// What for.
        point: Point,
    },
    /// A thread saw to it that the next fence covers its stores.
    Drain,
    /// A fence.
    Fence,
    /// The tester's own mark, such as the end of an operation.
    Mark(u64),
}

/// An event and the thread that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What was done.
    pub event: Event,
    /// By whom.
    pub thread: ThreadId,
}

/// What becomes of a bad block that is told to heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// It is good again.
    Heals,
    /// It stays bad.
    Never,
}

/// Memory that records, and of which blocks can be made to fail.
#[derive(Debug)]
pub struct Recorder {
    granularity: Granularity,
    /// Whether events are kept.
    recording: bool,
    /// The point whose flushes and fences are left out.
    omitted: Option<Point>,
    /// Blocks that are lost together when one of them is touched that is bad.
    unit: u64,
    /// How many blocks have failed.
    failures: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Vec<u8>,
    events: Vec<Recorded>,
    /// Blocks that fail when they are touched.
    bad: BTreeMap<u64, Cure>,
    /// Blocks that have failed.
    failed: BTreeSet<u64>,
}

impl Recorder {
    /// A medium that holds `bytes`.
    pub fn new(bytes: Vec<u8>, granularity: Granularity) -> Self {
        let state = State { now: bytes, events: Vec::new(), bad: BTreeMap::new(), failed: BTreeSet::new() };
        let (failures, state) = (AtomicU64::new(0), Mutex::new(state));
        Recorder { granularity, recording: true, omitted: None, unit: 1, failures, state }
    }

    /// A medium that loses so many blocks at once, as a device that is mapped in large units does.
    pub fn of_units(self, unit: u64) -> Self {
        Recorder { unit: unit.max(1), ..self }
    }

    /// Makes blocks bad: they fail when they are next touched.
    pub fn spoil(&self, blocks: Range<u64>, cure: Cure) {
        self.state().bad.extend(blocks.map(|block| (block, cure)));
    }

    /// A medium that holds `bytes` and records nothing: memory for tests that only look at the outcome.
    pub fn forgetful(bytes: Vec<u8>, granularity: Granularity) -> Self {
        Recorder { recording: false, ..Self::new(bytes, granularity) }
    }

    /// A medium that leaves out what makes stores last at one point, as if the code there were missing.
    pub fn without(bytes: Vec<u8>, granularity: Granularity, point: Point) -> Self {
        Recorder { omitted: Some(point), ..Self::new(bytes, granularity) }
    }

    /// What it holds now, in the caches' view.
    pub fn now(&self) -> Vec<u8> {
        self.state().now.clone()
    }

    /// All that was done so far.
    pub fn events(&self) -> Vec<Recorded> {
        self.state().events.clone()
    }

    /// Puts a mark among the events.
    pub fn mark(&self, mark: u64) {
        self.note(|| Event::Mark(mark));
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if self.recording {
            self.state().note(event());
        }
    }

    fn note_at(&self, point: Point, event: impl FnOnce() -> Event) {
        if self.omitted != Some(point) {
            self.note(event);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what is bad in a range fail.
    fn touch(&self, state: &mut State, offset: u64, length: usize) {
        if !state.bad.is_empty() && length > 0 {
            let last = offset.saturating_add(length as u64 - 1) / BLOCK_BYTES;
            let failing = |(block, _): (&u64, &Cure)| *block - *block % self.unit;
            let firsts: Vec<u64> = state.bad.range(offset / BLOCK_BYTES..=last).map(failing).collect();
            state.failed.extend(firsts.into_iter().flat_map(|first| first..first + self.unit));
            self.failures.store(state.failed.len() as u64, Ordering::Relaxed);
        }
    }

    fn change(&self, offset: u64, bytes: &[u8], event: fn(u64, Vec<u8>) -> Event) {
        let mut state = self.state();
        self.touch(&mut state, offset, bytes.len());
        let event = self.recording.then_some(event);
        if state.failed.is_empty() {
            state.put(offset, bytes, event);
            return;
        }
        for good in state.good(offset, bytes.len()) {
            let at = offset.saturating_add(good.start as u64);
            state.put(at, bytes.get(good).unwrap_or_default(), event);
        }
    }
}

impl State {
    /// The parts of so many bytes at an offset that are in no block that has failed.
    fn good(&self, offset: u64, length: usize) -> Vec<Range<usize>> {
        let end = offset.saturating_add(length as u64);
        let mut parts = Vec::new();
        let mut at = offset;
        while at < end {
            let stop = (at - at % BLOCK_BYTES).saturating_add(BLOCK_BYTES).min(end);
            let index = |place: u64| usize::try_from(place - offset).unwrap_or(usize::MAX);
            if !self.failed.contains(&(at / BLOCK_BYTES)) {
                parts.push(index(at)..index(stop));
            }
            at = stop;
        }
        parts
    }

    fn put(&mut self, offset: u64, bytes: &[u8], event: Option<fn(u64, Vec<u8>) -> Event>) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(place) = self.now.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
            if let Some(event) = event {
                self.note(event(offset, bytes.to_vec()));
            }
        }
    }

    fn note(&mut self, event: Event) {
        self.events.push(Recorded { event, thread: std::thread::current().id() });
    }
}

impl Medium for Recorder {
    fn len(&self) -> u64 {
        self.state().now.len() as u64
    }

    fn granularity(&self) -> Granularity {
        self.granularity
    }

    fn load(&self, offset: u64, to: &mut [u8]) {
        let mut state = self.state();
        self.touch(&mut state, offset, to.len());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = state.now.get(start..).unwrap_or_default();
        let length = there.len().min(to.len());
        let (filled, past) = to.split_at_mut(length);
        filled.copy_from_slice(there.split_at(length).0);
        past.fill(0);
        if !state.failed.is_empty() {
            let mut at = 0;
            for good in state.good(offset, to.len()) {
                to.get_mut(at..good.start).unwrap_or_default().fill(0);
                at = good.end;
            }
            to.get_mut(at..).unwrap_or_default().fill(0);
        }
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        self.change(offset, bytes, |offset, bytes| Event::Store { offset, bytes });
    }

    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        self.change(offset, bytes, |offset, bytes| Event::StoreNt { offset, bytes });
    }

    fn zero_nt(&self, range: Range<u64>) {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        self.store_nt(range.start, &vec![0; length]);
    }

    fn flush(&self, range: Range<u64>, point: Point) {
        self.note_at(point, || Event::Flush { range, point });
    }

    fn drain(&self, point: Point) {
        self.note_at(point, || Event::Drain);
    }

    fn fence(&self, point: Point) -> Result<Durable, DeviceError> {
        self.note_at(point, || Event::Fence);
        Ok(Durable(()))
    }

    fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn failed(&self) -> Vec<u64> {
        self.state().failed.iter().copied().collect()
    }

    fn has_failed(&self, range: Range<u64>) -> bool {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        self.failures() > 0 && self.state().failed.range(blocks).next().is_some()
    }

    fn narrow(&self) -> Vec<u64> {
        let mut state = self.state();
        let State { bad, failed, .. } = &mut *state;
        failed.retain(|block| bad.contains_key(block));
        self.failures.store(failed.len() as u64, Ordering::Relaxed);
        failed.iter().copied().collect()
    }

    fn heal(&self, block: u64) -> bool {
        let mut state = self.state();
        if state.bad.get(&block) == Some(&Cure::Never) {
            return false;
        }
        state.bad.remove(&block);
        state.failed.remove(&block);
        self.failures.store(state.failed.len() as u64, Ordering::Relaxed);
        let event = |offset, bytes| Event::StoreNt { offset, bytes };
        state.put(block.saturating_mul(BLOCK_BYTES), &[0; 4096], self.recording.then_some(event));
        true
    }
}
