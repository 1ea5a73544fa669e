//! A run: what was stored, what could be seen after each operation, and what of it has to be there after a crash.

use crate::alphabet::{Durable, Op, Session, prepare};
use crate::common::crash::Crash;
use crate::common::{findings, volume_of};
use crate::seen::{Floors, Seen, contents, is_between, see};
use fastrand::Rng;
use paxfs_format::device::Device;
use paxfs_format::volume::find;
use paxfs_fsck::problem::Problem;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Event, Granularity, Medium, Point, Recorded, Recorder};
use paxfs_runtime::namespace::New;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// One run.
pub struct Run {
    start: Vec<u8>,
    granularity: Granularity,
    /// Whether blocks are healed in it.
    heals: bool,
    pub events: Vec<Recorded>,
    states: Vec<Seen>,
    /// For each state the last that is durable as a whole.
    synced: Vec<usize>,
    /// For each state what else is durable.
    floors: Vec<Floors>,
}

/// Between which states a crash may leave the volume.
#[derive(Clone, Copy)]
pub struct Span {
    now: usize,
    first: usize,
    last: usize,
}

pub fn engine_on(medium: Arc<Recorder>) -> Result<Engine, Error> {
    let medium: Arc<dyn Medium> = medium;
    Engine::on_medium(medium, Options { interval: Duration::ZERO, dax: Dax::Always, ..Default::default() })
}

/// A volume of so many groups as every run finds it.
pub fn prepared(groups: u64) -> Vec<u8> {
    let bytes = volume_of(4 << 20, Some(groups));
    let recorder = Arc::new(Recorder::forgetful(bytes, Granularity::CacheLine));
    let engine = engine_on(Arc::clone(&recorder)).unwrap();
    prepare(&engine);
    engine.close().unwrap();
    recorder.now()
}

/// Runs operations on a volume.
pub fn record(start: &[u8], ops: &[Op], granularity: Granularity, omitted: Option<Point>) -> Run {
    let recorder = Arc::new(match omitted {
        Some(point) => Recorder::without(start.to_vec(), granularity, point),
        None => Recorder::new(start.to_vec(), granularity),
    });
    let engine = engine_on(Arc::clone(&recorder)).unwrap();
    let mut run = Run {
        start: start.to_vec(),
        granularity,
        heals: ops.iter().any(|op| op.heals()),
        events: Vec::new(),
        states: vec![see(&engine)],
        synced: vec![0],
        floors: vec![Floors::new()],
    };
    recorder.mark(0);
    let geometry = find(&Device::memory(start.to_vec())).unwrap().geometry;
    let mut session = Session::new(&engine, geometry);
    // Since when bytes are as they were stored through views.
    let mut stores = Floors::new();
    for (step, op) in (1..).zip(ops) {
        // A failed operation is one that changed nothing; sequences that make no sense are runs of their own.
        let done = session.run(*op, step as u64);
        assert!(!matches!(done, Err(Error::ShutDown | Error::Damaged { .. })), "{op:?}: {done:?}");
        assert!(*op != Op::Sync || done.is_ok(), "{done:?}");
        run.end_operation(&engine, if done.is_ok() { op.durable() } else { Durable::Nothing }, &mut stores);
        if let Ok(Some((inode, bytes))) = done {
            let since = stores.entry(inode).or_default();
            since.resize(since.len().max(bytes.end), 0);
            since[bytes].fill(step);
        }
        recorder.mark(step as u64);
    }
    // A last commit by another thread: what each wrote must have been drained.
    std::thread::scope(|scope| {
        scope.spawn(|| engine.sync().unwrap());
    });
    run.end_operation(&engine, Durable::All, &mut stores);
    recorder.mark(ops.len() as u64 + 1);
    // With views that are open.
    engine.close().unwrap();
    run.events = recorder.events();
    run
}

impl Run {
    fn end_operation(&mut self, engine: &Engine, durable: Durable, stores: &mut Floors) {
        let now = see(engine);
        // What was changed since by other means is no store through a view.
        let before = &self.states[self.states.len() - 1];
        for (inode, since) in stores.iter_mut() {
            let (old, new) = (contents(before, *inode), contents(&now, *inode));
            let byte = |contents: Option<&[u8]>, at: usize| contents.and_then(|bytes| bytes.get(at).copied());
            let same = |at: usize| byte(new, at).is_some() && byte(old, at) == byte(new, at);
            since.iter_mut().enumerate().filter(|(at, _)| !same(*at)).for_each(|(_, since)| *since = 0);
        }
        let state = self.states.len();
        let (synced, floors) = (self.synced[state - 1], &self.floors[state - 1]);
        let floors = if durable == Durable::Stores { stores.clone() } else { floors.clone() };
        self.states.push(now);
        self.synced.push(if durable == Durable::All { state } else { synced });
        self.floors.push(floors);
    }

    /// What may be there while it is at some events of its run: between the last state that is durable and the next.
    fn span(&self, now: usize) -> Span {
        Span { now, first: self.synced[now], last: (now + 1).min(self.states.len() - 1) }
    }

    /// Calls back at each fence, and at the end, with what may be there.
    fn each_fence<E>(&self, mut at: impl FnMut(usize, &Crash, Span) -> Result<(), E>) -> Result<(), E> {
        let mut crash = Crash::new(&self.start, self.granularity);
        let mut now = 0;
        for (number, recorded) in self.events.iter().enumerate() {
            if let Event::Mark(mark) = recorded.event {
                now = mark as usize;
            }
            if recorded.event == Event::Fence {
                at(number, &crash, self.span(now))?;
            }
            crash.apply(recorded);
        }
        at(self.events.len(), &crash, self.span(now))
    }
}

/// Totals over all runs.
#[derive(Default)]
pub struct Totals {
    runs: u64,
    operations: u64,
    tried: u64,
    distinct: HashSet<(u64, usize, u64)>,
}

impl Totals {
    /// Whether an image has to be tried: that state of this run has not had it yet.
    fn is_new(&mut self, image: &[u8], state: usize) -> bool {
        self.tried += 1;
        self.distinct.insert((self.runs, state, xxh3_64(image)))
    }

    pub fn report(&self, what: &str) {
        let Totals { runs, operations, tried, distinct } = self;
        let distinct = distinct.len();
        println!(
            "{what}: {runs} runs, {operations} operations, {tried} crash states tried, {distinct} distinct, all recovered"
        );
    }
}

/// Tries the crash states of a run; the first that is wrong.
pub fn try_run(run: &Run, most: usize, totals: &mut Totals) -> Result<(), String> {
    let mut rng = Rng::with_seed(1);
    totals.runs += 1;
    totals.operations += run.states.len() as u64 - 2;
    run.each_fence(|number, crash, span| {
        for (which, image) in crash.images(&mut rng, most).iter().enumerate() {
            let place =
                |error| format!("event {number}, image {which}, after operation {}: {error}", span.now);
            if !totals.is_new(image, span.now) {
                continue;
            }
            run.check(image, span).map_err(place)?;
            if which % 16 == 3 {
                run.check_recovery(image, span, None, 2, totals).map_err(place)?;
            }
        }
        // Closed is closed, whatever happens then.
        if number == run.events.len() { run.check_closed(crash.durable.clone()) } else { Ok(()) }
    })
}

impl Run {
    /// What is wrong with an image that a crash left, if anything is: before it is recovered, recovered, and in use.
    fn check(&self, image: &[u8], span: Span) -> Result<(), String> {
        let mut before = findings(image.to_vec()).map_err(|error| format!("before recovery: {error}"))?;
        before.retain(|finding| {
            !matches!(finding.problem, Problem::JournalPending { .. } | Problem::NotClosed { .. })
        });
        if !before.is_empty() && !self.heals {
            return Err(format!("before recovery: {before:#?}"));
        }
        let recorder = Arc::new(Recorder::forgetful(image.to_vec(), self.granularity));
        let engine = engine_on(Arc::clone(&recorder)).map_err(|error| format!("recovery: {error}"))?;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| see(&engine)));
        let seen = seen.map_err(|_| "the tree cannot be read".to_owned())?;
        let (first, last) = (span.first, span.last);
        if !is_between(&seen, &self.states, first, last, &self.floors[span.now]) {
            let names: Vec<_> = seen.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            return Err(format!("no state from {first} to {last} is like what is there: {names:?}"));
        }
        // Also where nothing else is done to it.
        engine.close().map_err(|error| format!("close: {error}"))?;
        self.check_closed(recorder.now())?;
        let engine = engine_on(Arc::clone(&recorder)).map_err(|error| format!("open again: {error}"))?;
        let file = engine
            .create(engine.root(), b"after", &New::default())
            .and_then(|inode| engine.open_file(inode, Open::WRITE));
        let written = file.and_then(|file| file.write_at(0, &[1; 9000]));
        written.map_err(|error| format!("the volume takes no writes: {error}"))?;
        engine.close().map_err(|error| format!("close: {error}"))?;
        self.check_closed(recorder.now())
    }

    /// What is wrong with an image that has to be that of a volume that was closed.
    fn check_closed(&self, image: Vec<u8>) -> Result<(), String> {
        let found = findings(image).map_err(|error| format!("after close: {error}"))?;
        if found.is_empty() { Ok(()) } else { Err(format!("after close: {found:#?}")) }
    }

    /// Crashes inside the recovery of an image, which may lack a point.
    fn check_recovery(
        &self,
        image: &[u8],
        span: Span,
        omitted: Option<Point>,
        most: usize,
        totals: &mut Totals,
    ) -> Result<(), String> {
        let recorder = Arc::new(match omitted {
            Some(point) => Recorder::without(image.to_vec(), self.granularity, point),
            None => Recorder::new(image.to_vec(), self.granularity),
        });
        let engine = engine_on(Arc::clone(&recorder)).map_err(|error| format!("recovery: {error}"))?;
        let events = recorder.events();
        drop(engine);
        let mut rng = Rng::with_seed(1);
        let mut crash = Crash::new(image, self.granularity);
        for recorded in events.iter().map(Some).chain([None]) {
            if recorded.is_none_or(|recorded| recorded.event == Event::Fence) {
                for image in crash.images(&mut rng, most) {
                    if totals.is_new(&image, span.now) {
                        self.check(&image, span).map_err(|error| format!("in recovery: {error}"))?;
                    }
                }
            }
            recorded.into_iter().for_each(|recorded| crash.apply(recorded));
        }
        Ok(())
    }
}

/// Tries crashes in the recovery of what a run may leave, where the recovery lacks a point.
pub fn try_recoveries(run: &Run, omitted: Option<Point>, most: usize) -> Result<(), String> {
    run.each_fence(|_, crash, span| {
        // Here homes of a committed transaction are not on the medium.
        run.check_recovery(&crash.durable, span, omitted, most, &mut Totals::default())
    })
}
