#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Commits that nobody asked for: after a while, and when a transaction is large. What they made durable is on a medium
//! that lost everything else.

mod common;

use common::crash::Crash;
use common::volume;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use std::sync::Arc;
use std::time::Duration;

/// An engine on a medium whose power may fail at any time.
struct Bench {
    recorder: Arc<Recorder>,
    engine: Engine,
    /// The medium as it would be, after so many events.
    crash: Crash,
    seen: usize,
}

impl Bench {
    fn new(interval: Duration) -> Self {
        let start = volume(8 << 20);
        let recorder = Arc::new(Recorder::new(start.clone(), Granularity::CacheLine));
        let medium: Arc<dyn Medium> = recorder.clone();
        let engine = Engine::on_medium(medium, Options { interval, ..Options::default() }).unwrap();
        Bench { recorder, engine, crash: Crash::new(&start, Granularity::CacheLine), seen: 0 }
    }

    fn create(&self, name: &str) {
        let inode = self.engine.create(self.engine.root(), name.as_bytes(), &New::default()).unwrap();
        let file = self.engine.open_file(inode, Open::WRITE).unwrap();
        file.write_at(0, name.as_bytes()).unwrap();
    }

    /// Whether a file would be there, with what was written to it, if the power failed now.
    fn is_durable(&mut self, name: &str) -> bool {
        let events = self.recorder.events();
        events[self.seen..].iter().for_each(|event| self.crash.apply(event));
        self.seen = events.len();
        let medium = Recorder::forgetful(self.crash.durable.clone(), Granularity::CacheLine);
        let engine =
            Engine::on_medium(Arc::new(medium), Options { interval: Duration::ZERO, ..Default::default() })
                .unwrap();
        let Ok(inode) = engine.lookup(engine.root(), name.as_bytes()) else { return false };
        let mut bytes = vec![0; name.len()];
        engine.open_file(inode, Open::READ).unwrap().read_at(0, &mut bytes).unwrap();
        bytes == name.as_bytes()
    }
}

#[test]
fn what_was_done_is_durable_after_the_interval() {
    let mut bench = Bench::new(Duration::from_millis(20));
    bench.create("file");
    // It comes by itself; how late is for the machine.
    for _ in 0..6000 {
        if bench.is_durable("file") {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing was committed in a minute");
}

#[test]
fn nothing_is_durable_by_itself_without_an_interval() {
    let mut bench = Bench::new(Duration::ZERO);
    bench.create("file");
    assert!(!bench.is_durable("file"));
    bench.engine.sync().unwrap();
    assert!(bench.is_durable("file"));
}

#[test]
fn a_large_transaction_is_committed_before_the_next_operation() {
    let mut bench = Bench::new(Duration::ZERO);
    let count = 1000;
    let first = (0..count).find(|number| {
        bench.create(&format!("file {number}"));
        bench.is_durable("file 0")
    });
    let first = first.unwrap();
    // Not each operation by itself; and the last of them waits.
    assert!(first >= 2, "{first}");
    assert!(!bench.is_durable(&format!("file {first}")));
}

/// The thread that commits is told to end, also when it is just about to wait.
#[test]
fn a_close_does_not_wait_for_the_interval() {
    for _ in 0..300 {
        Bench::new(Duration::from_secs(3600)).engine.close().unwrap();
    }
}
