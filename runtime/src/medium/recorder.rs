//! A medium that remembers all that was done to it, for tests that build the images a crash could have left.

use super::{Durable, Granularity, Medium, Point};
use core::ops::Range;
use paxfs_format::device::DeviceError;
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
    Flush(Range<u64>),
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

/// Memory that records.
#[derive(Debug)]
pub struct Recorder {
    granularity: Granularity,
    /// Whether events are kept.
    recording: bool,
    /// The point whose flushes and fences are left out.
    omitted: Option<Point>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Vec<u8>,
    events: Vec<Recorded>,
}

impl Recorder {
    /// A medium that holds `bytes`.
    pub fn new(bytes: Vec<u8>, granularity: Granularity) -> Self {
        let state = Mutex::new(State { now: bytes, events: Vec::new() });
        Recorder { granularity, recording: true, omitted: None, state }
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

    fn change(&self, offset: u64, bytes: &[u8], event: impl FnOnce() -> Event) {
        let mut state = self.state();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(place) = state.now.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
            if self.recording {
                state.note(event());
            }
        }
    }
}

impl State {
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
        let state = self.state();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = state.now.get(start..).unwrap_or_default();
        let length = there.len().min(to.len());
        let (filled, past) = to.split_at_mut(length);
        filled.copy_from_slice(there.split_at(length).0);
        past.fill(0);
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        self.change(offset, bytes, || Event::Store { offset, bytes: bytes.to_vec() });
    }

    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        self.change(offset, bytes, || Event::StoreNt { offset, bytes: bytes.to_vec() });
    }

    fn zero_nt(&self, range: Range<u64>) {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        self.store_nt(range.start, &vec![0; length]);
    }

    fn flush(&self, range: Range<u64>, point: Point) {
        self.note_at(point, || Event::Flush(range));
    }

    fn drain(&self, point: Point) {
        self.note_at(point, || Event::Drain);
    }

    fn fence(&self, point: Point) -> Result<Durable, DeviceError> {
        self.note_at(point, || Event::Fence);
        Ok(Durable(()))
    }
}
