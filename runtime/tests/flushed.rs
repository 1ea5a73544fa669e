#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init
)]
//! What is flushed for a view: each page that was stored to since the last time and is still the file's, and no other. Linux
//! forgot what was dirty beside a hole that was punched into an entry of 2 MiB, and flushed whole entries for one line.

mod common;

use common::volume;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Event, Granularity, Medium, Point, Recorder};
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u64 = 4096;
/// More than two frames of 2 MiB.
const BLOCKS: u64 = 1100;

/// A file that is mapped, all of it clean.
struct Bench {
    medium: Arc<Recorder>,
    engine: Engine,
    file: File,
    view: View,
}

fn create(engine: &Engine, name: &str, fill: u8, blocks: u64) -> File {
    let inode = engine.create(engine.root(), name.as_bytes(), &New::default()).unwrap();
    let file = engine.open_file(inode, Open::WRITE).unwrap();
    file.write_at(0, &vec![fill; (blocks * BLOCK) as usize]).unwrap();
    file
}

impl Bench {
    fn new() -> Self {
        let medium = Arc::new(Recorder::new(volume(16 << 20), Granularity::CacheLine));
        let options = Options { interval: Duration::ZERO, dax: Dax::Always, ..Options::default() };
        let engine = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, options).unwrap();
        let file = create(&engine, "a", 1, BLOCKS);
        engine.sync().unwrap();
        let view = file.map(0..BLOCKS * BLOCK, Sharing::Shared).unwrap();
        Bench { medium, engine, file, view }
    }

    /// Stores a byte to each of some pages.
    fn store(&self, pages: impl IntoIterator<Item = u64>) {
        pages.into_iter().for_each(|page| self.view.store(page * BLOCK + 77, &[9]).unwrap());
    }

    /// The file's blocks that something flushes for views. Of each all lines, in runs.
    fn flushed(&self, what: impl FnOnce()) -> Vec<Range<u64>> {
        // Where they are: what goes is flushed before, if it is.
        let extents = self.file.extents().unwrap();
        let before = self.medium.events().len();
        what();
        let mut blocks = Vec::new();
        for recorded in &self.medium.events()[before..] {
            let Event::Flush { range, point: Point::Mapped } = &recorded.event else { continue };
            assert!(range.start.is_multiple_of(BLOCK) && range.end.is_multiple_of(BLOCK), "{range:?}");
            for block in range.start / BLOCK..range.end / BLOCK {
                let extent = extents
                    .iter()
                    .find(|extent| {
                        (extent.start.get()..extent.start.get() + u64::from(extent.length.get()))
                            .contains(&block)
                    })
                    .unwrap_or_else(|| panic!("block {block} is not the file's"));
                blocks.push(extent.offset.get() + (block - extent.start.get()));
            }
        }
        blocks.sort_unstable();
        let runs = blocks.chunk_by(|a, b| a + 1 == *b);
        runs.map(|run| run[0]..run[run.len() - 1] + 1).collect()
    }

    /// What a sync of the view flushes; another flushes nothing.
    fn synced(&self) -> Vec<Range<u64>> {
        let sync = || self.view.sync(0..BLOCKS * BLOCK).unwrap();
        let flushed = self.flushed(sync);
        assert_eq!(self.flushed(sync), []);
        flushed
    }
}

#[test]
fn what_was_stored_to_and_nothing_else() {
    let bench = Bench::new();
    assert_eq!(bench.synced(), []);
    let mut all = vec![0; (BLOCKS * BLOCK) as usize];
    bench.view.load(0, &mut all).unwrap();
    assert_eq!(bench.synced(), [], "loads");
    bench.store([3, 700, 511, 512, 3]);
    assert_eq!(bench.synced(), [3..4, 511..513, 700..701]);
    bench.store([3]);
    assert_eq!(bench.synced(), [3..4], "stored to again");
    bench.store([10, 20]);
    assert_eq!(bench.flushed(|| bench.view.sync(0..15 * BLOCK).unwrap()), [10..11]);
    assert_eq!(bench.synced(), [20..21], "what was not asked for stays");
    bench.store([1, 1000]);
    assert_eq!(bench.flushed(|| drop(bench.engine.freeze().unwrap())), [1..2, 1000..1001]);
    bench.store([2]);
    assert_eq!(bench.flushed(|| bench.file.sync().unwrap()), [2..3]);
    bench.store([4]);
    assert_eq!(bench.flushed(|| bench.engine.sync().unwrap()), [4..5]);
    assert_eq!(bench.synced(), []);
}

#[test]
fn what_is_dirty_beside_a_hole() {
    let bench = Bench::new();
    bench.store(0..600);
    bench.file.punch_hole(5 * BLOCK..9 * BLOCK).unwrap();
    // From one entry to the next.
    bench.file.punch_hole(500 * BLOCK..520 * BLOCK).unwrap();
    assert_eq!(bench.synced(), [0..5, 9..500, 520..600]);
    // Of blocks at the edges only bytes go.
    bench.store(30..40);
    bench.file.punch_hole(31 * BLOCK + 5..35 * BLOCK + 5).unwrap();
    assert_eq!(bench.synced(), [30..32, 35..40]);
}

#[test]
fn what_is_dirty_before_the_end() {
    let bench = Bench::new();
    bench.store(0..600);
    bench.file.truncate(9 * BLOCK + 10).unwrap();
    assert_eq!(bench.synced(), [0..10]);
    bench.file.truncate(BLOCKS * BLOCK).unwrap();
    assert_eq!(bench.synced(), [], "what was dirty behind the end is gone");
}

#[test]
fn what_is_dirty_beside_a_clone() {
    let bench = Bench::new();
    let other = create(&bench.engine, "b", 2, 8);
    bench.store(0..16);
    // From the other: what it replaces may be flushed first.
    bench.file.clone_range(5 * BLOCK, &other, 0, 4 * BLOCK).unwrap();
    assert_eq!(bench.synced(), [0..5, 9..16]);
    // To the other: what it gets has to be.
    bench.store(0..16);
    let clone = || other.clone_range(0, &bench.file, 10 * BLOCK, 4 * BLOCK).unwrap();
    assert_eq!(bench.flushed(clone), [10..14]);
    assert_eq!(bench.synced(), [0..10, 14..16]);
    bench.store(20..30);
    let mut bytes = vec![0; 2 * BLOCK as usize];
    bench.view.load(24 * BLOCK, &mut bytes).unwrap();
    other.write_at(0, &bytes).unwrap();
    let dedupe = || {
        let done = other.dedupe_range(0, &bench.file, 24 * BLOCK, 2 * BLOCK).unwrap();
        assert_eq!(done, Dedupe::Same { shared: 2 * BLOCK });
    };
    assert_eq!(bench.flushed(dedupe), [24..26]);
    assert_eq!(bench.synced(), [20..24, 26..30]);
}

#[test]
fn what_is_dirty_in_a_snapshot() {
    let bench = Bench::new();
    bench.store([7, 800]);
    let root = bench.engine.root();
    let snapshot = || {
        bench.engine.snapshot(root, root, b"snapshot", Access::ReadOnly).unwrap();
    };
    assert_eq!(bench.flushed(snapshot), [7..8, 800..801]);
    assert_eq!(bench.synced(), []);
    // The others move: the file's blocks stay where they are.
    bench.store([7, 9]);
    assert_eq!(bench.synced(), [7..8, 9..10]);
}
