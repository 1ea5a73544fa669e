#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! Many threads at one volume: nothing waits for itself, readers do not wait for writers of other files, no file is seen
//! half changed, and each thread finds what it left.
//!
//! `PAXFS_THREAD_OPS=100000 cargo test -p paxfs-runtime --test threads` does so many operations in each thread;
//! `cargo xtask tsan` runs it under ThreadSanitizer.

mod common;

use common::{check_bytes, volume};
use fastrand::Rng;
use paxfs_format::device::DeviceError;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Durable, Granularity, Medium, Point, Recorder};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::views::Sharing;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

const BLOCK: usize = 4096;
fn no_ticker() -> Options {
    Options { interval: Duration::ZERO, ..Options::default() }
}

/// Runs something that ends soon unless threads wait for each other.
fn within_a_minute(what: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let runner = std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("threads wait for each other"),
        // A panic of the other thread is told as such.
        _ => runner.join().unwrap(),
    }
}

fn in_memory() -> Engine {
    let medium: Arc<dyn Medium> = Arc::new(Recorder::forgetful(volume(16 << 20), Granularity::CacheLine));
    Engine::on_medium(medium, no_ticker()).unwrap()
}

/// Two threads that do something again and again at the same time.
fn side_by_side(one: impl Fn(&Engine) + Sync, other: impl Fn(&Engine) + Sync, engine: &Engine) {
    let repeat = |what: &dyn Fn(&Engine)| (0..30_000).for_each(|_| what(engine));
    std::thread::scope(|scope| {
        scope.spawn(|| repeat(&one));
        scope.spawn(|| repeat(&other));
    });
}

/// A rename looks for loops above the directories that it has locked: who removes one of them has locked the one above.
#[test]
fn a_rename_does_not_wait_for_a_removal_that_waits_for_it() {
    within_a_minute(|| {
        let engine = in_memory();
        let new = New::default();
        let above = engine.make_directory(engine.root(), b"above", &new).unwrap();
        let a = engine.make_directory(above, b"a", &new).unwrap();
        let b = engine.make_directory(above, b"b", &new).unwrap();
        engine.make_directory(a, b"moved", &new).unwrap();
        engine.create(b, b"stays", &new).unwrap();
        side_by_side(
            |engine| {
                engine.rename(a, b"moved", b, b"moved", Rename::Replace).unwrap();
                engine.rename(b, b"moved", a, b"moved", Rename::Replace).unwrap();
            },
            |engine| assert!(matches!(engine.remove_directory(above, b"b"), Err(Error::NotEmpty))),
            &engine,
        );
    });
}

/// What a rename would replace may be above where it comes from.
#[test]
fn a_rename_onto_a_directory_above_does_not_wait() {
    within_a_minute(|| {
        let engine = in_memory();
        let new = New::default();
        let above = engine.make_directory(engine.root(), b"above", &new).unwrap();
        let below = engine.make_directory(above, b"below", &new).unwrap();
        engine.make_directory(below, b"moved", &new).unwrap();
        let root = engine.root();
        side_by_side(
            |engine| {
                let answer = engine.rename(below, b"moved", root, b"above", Rename::Replace);
                assert!(matches!(answer, Err(Error::NotEmpty)));
            },
            |engine| assert!(matches!(engine.remove_directory(above, b"below"), Err(Error::NotEmpty))),
            &engine,
        );
    });
}

/// Files are locked behind directories, whoever gives one as the directory that a name is to be in.
#[test]
fn a_rename_into_a_file_is_refused() {
    let engine = in_memory();
    let (root, new) = (engine.root(), New::default());
    let file = engine.create(root, b"file", &new).unwrap();
    let directory = engine.make_directory(root, b"directory", &new).unwrap();
    engine.create(directory, b"moved", &new).unwrap();
    let answer = engine.rename(directory, b"moved", file, b"moved", Rename::Replace);
    assert!(matches!(answer, Err(Error::NotADirectory)));
    let answer = engine.rename(file, b"moved", directory, b"moved", Rename::Replace);
    assert!(matches!(answer, Err(Error::NotADirectory)));
}

/// A directory that somebody wants another name for may be above the one that the name is to be in.
#[test]
fn a_link_to_a_directory_does_not_wait_for_it() {
    within_a_minute(|| {
        let engine = in_memory();
        let new = New::default();
        let above = engine.make_directory(engine.root(), b"above", &new).unwrap();
        let below = engine.make_directory(above, b"below", &new).unwrap();
        engine.create(below, b"stays", &new).unwrap();
        side_by_side(
            |engine| assert!(matches!(engine.link(above, below, b"link"), Err(Error::NotPermitted(_)))),
            |engine| assert!(matches!(engine.remove_directory(above, b"below"), Err(Error::NotEmpty))),
            &engine,
        );
    });
}

/// A file has names in several directories: one of them may be exchanged with a directory that has another of them.
#[test]
fn an_exchange_of_a_file_and_a_directory_that_has_it_does_not_wait() {
    within_a_minute(|| {
        let engine = in_memory();
        let (root, new) = (engine.root(), New::default());
        let file = engine.create(root, b"a", &new).unwrap();
        let directory = engine.make_directory(root, b"b", &new).unwrap();
        side_by_side(
            |engine| engine.rename(root, b"a", root, b"b", Rename::Exchange).unwrap(),
            |engine| {
                engine.link(file, directory, b"link").unwrap();
                engine.unlink(directory, b"link").unwrap();
            },
            &engine,
        );
    });
}

/// A medium on which stores of one thread wait until they are let go.
struct Parking {
    below: Recorder,
    is_parked: Mutex<bool>,
    parked: Condvar,
    let_go: AtomicBool,
}

const PARKED: &str = "parked";

impl Parking {
    fn park(&self) {
        if std::thread::current().name() == Some(PARKED) && !self.let_go.load(Ordering::Acquire) {
            let mut is_parked = self.is_parked.lock().unwrap();
            *is_parked = true;
            self.parked.notify_all();
            while !self.let_go.load(Ordering::Acquire) {
                is_parked = self.parked.wait(is_parked).unwrap();
            }
        }
    }

    fn wait_until_parked(&self) {
        let mut is_parked = self.is_parked.lock().unwrap();
        while !*is_parked {
            is_parked = self.parked.wait(is_parked).unwrap();
        }
    }

    fn let_go(&self) {
        let _one = self.is_parked.lock().unwrap();
        self.let_go.store(true, Ordering::Release);
        self.parked.notify_all();
    }
}

impl Medium for Parking {
    fn len(&self) -> u64 {
        self.below.len()
    }
    fn granularity(&self) -> Granularity {
        self.below.granularity()
    }
    fn load(&self, offset: u64, to: &mut [u8]) {
        self.below.load(offset, to);
    }
    fn store(&self, offset: u64, bytes: &[u8]) {
        self.below.store(offset, bytes);
    }
    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        self.park();
        self.below.store_nt(offset, bytes);
    }
    fn zero_nt(&self, range: Range<u64>) {
        self.below.zero_nt(range);
    }
    fn flush(&self, range: Range<u64>, point: Point) {
        self.below.flush(range, point);
    }
    fn drain(&self, point: Point) {
        self.below.drain(point);
    }
    fn fence(&self, point: Point) -> Result<Durable, DeviceError> {
        self.below.fence(point)
    }
}

/// While a writer stands still within its write, and holds what it holds, everything that is not about its file goes on.
/// If it did not, this test would not end.
#[test]
fn nobody_waits_for_a_writer_of_another_file() {
    within_a_minute(|| {
        let medium = Arc::new(Parking {
            below: Recorder::forgetful(volume(64 << 20), Granularity::CacheLine),
            is_parked: Mutex::new(false),
            parked: Condvar::new(),
            let_go: AtomicBool::new(false),
        });
        let engine = Engine::on_medium(medium.clone(), no_ticker()).unwrap();
        let (root, new) = (engine.root(), New::default());
        let open = |name: &[u8]| {
            let inode = engine.create(root, name, &new).unwrap();
            engine.open_file(inode, Open::WRITE).unwrap()
        };
        let (written, read, other) = (open(b"written"), open(b"read"), open(b"other"));
        read.write_at(0, &[7; 3 * BLOCK]).unwrap();
        // So that no operation below has to commit first.
        engine.sync().unwrap();
        std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name(PARKED.into());
            let writer =
                writer.spawn_scoped(scope, || written.write_at(0, &[1; 2 * BLOCK]).unwrap()).unwrap();
            medium.wait_until_parked();
            let mut bytes = [0; 3 * BLOCK];
            assert_eq!(read.read_at(0, &mut bytes).unwrap(), bytes.len());
            assert_eq!(bytes, [7; 3 * BLOCK]);
            assert_eq!(engine.lookup(root, b"written").unwrap(), written.inode());
            assert_eq!(engine.read_directory(root, 0, 10).unwrap().len(), 3);
            assert_eq!(engine.attributes(read.inode()).unwrap().size, bytes.len() as u64);
            // Not even writers of other files, nor who changes names beside it.
            other.write_at(0, &[2; BLOCK]).unwrap();
            engine.create(root, b"new", &new).unwrap();
            assert!(!writer.is_finished());
            medium.let_go();
        });
        engine.sync().unwrap();
    });
}

// Many threads that do all kinds of things.

const WORKERS: usize = 5;
const SHARED_DIRECTORIES: usize = 4;
const COMMON_FILES: usize = 3;
const COMMON_BLOCKS: u64 = 24;

/// A file of one thread, as that thread knows it.
#[derive(Clone, Default)]
struct Own {
    bytes: Vec<u8>,
    attribute: Option<Vec<u8>>,
}

/// Where a thread's file is: directory and name.
type Place = (u64, Vec<u8>);

struct Worker<'e> {
    engine: &'e Engine,
    number: usize,
    rng: Rng,
    /// Directories that it puts files in: its own first.
    directories: Vec<u64>,
    common: &'e [File],
    files: BTreeMap<Place, Own>,
}

impl Worker<'_> {
    fn place(&mut self) -> Place {
        let directory = self.directories[self.rng.usize(..self.directories.len())];
        (directory, format!("{} {}", self.number, self.rng.u8(0..8)).into_bytes())
    }

    fn some_file(&mut self) -> Option<Place> {
        let index = self.rng.usize(..self.files.len().max(1));
        self.files.keys().nth(index).cloned()
    }

    fn open(&self, place: &Place) -> File {
        let inode = self.engine.lookup(place.0, &place.1).unwrap();
        self.engine.open_file(inode, Open::WRITE).unwrap()
    }

    fn step(&mut self) {
        match self.rng.u8(0..24) {
            0..4 => self.create(),
            4..10 => self.change(),
            10..12 => self.rename(),
            12 => self.clone_own(),
            13..15 => self.unlink(),
            15..17 => self.set_attribute(),
            17..22 => self.change_common(),
            22 => self.read_own(),
            _ => self.engine.sync().unwrap(),
        }
    }

    fn create(&mut self) {
        let place = self.place();
        let made = self.engine.create(place.0, &place.1, &New::default());
        assert_eq!(made.is_ok(), !self.files.contains_key(&place));
        self.files.entry(place).or_default();
    }

    fn change(&mut self) {
        let Some(place) = self.some_file() else { return };
        let file = self.open(&place);
        let bytes = &mut self.files.get_mut(&place).unwrap().bytes;
        let (at, length, fill) = (self.rng.usize(0..40_000), self.rng.usize(1..20_000), self.rng.u8(..));
        match self.rng.u8(0..6) {
            0 => {
                file.truncate(at as u64).unwrap();
                bytes.resize(at, 0);
            }
            1 => {
                file.punch_hole(at as u64..(at + length) as u64).unwrap();
                let size = bytes.len();
                bytes[at.min(size)..(at + length).min(size)].fill(0);
            }
            _ => {
                file.write_at(at as u64, &vec![fill; length]).unwrap();
                bytes.resize(bytes.len().max(at + length), 0);
                bytes[at..at + length].fill(fill);
            }
        }
    }

    fn rename(&mut self) {
        let Some(from) = self.some_file() else { return };
        let to = self.place();
        self.engine.rename(from.0, &from.1, to.0, &to.1, Rename::Replace).unwrap();
        let file = self.files.remove(&from).unwrap();
        self.files.insert(to, file);
    }

    fn clone_own(&mut self) {
        let (Some(from), Some(to)) = (self.some_file(), self.some_file()) else { return };
        let bytes = self.files[&from].bytes.clone();
        if from != to && bytes.len() >= self.files[&to].bytes.len() {
            self.open(&to).clone_range(0, &self.open(&from), 0, 0).unwrap();
            self.files.get_mut(&to).unwrap().bytes = bytes;
        }
    }

    fn unlink(&mut self) {
        let Some(place) = self.some_file() else { return };
        let file = self.rng.bool().then(|| self.open(&place));
        self.engine.unlink(place.0, &place.1).unwrap();
        if let Some(file) = file {
            file.append(&[1; 9000]).unwrap();
        }
        self.files.remove(&place);
    }

    fn set_attribute(&mut self) {
        let Some(place) = self.some_file() else { return };
        let inode = self.engine.lookup(place.0, &place.1).unwrap();
        let value = vec![self.rng.u8(..); [3, 900, 5000][self.rng.usize(..3)]];
        self.engine.set_attribute(inode, b"user.a", &value, SetAttribute::Any).unwrap();
        self.files.get_mut(&place).unwrap().attribute = Some(value);
    }

    /// Whole blocks of a file of all, each of one word again and again; or whole blocks of another.
    fn change_common(&mut self) {
        let file = &self.common[self.rng.usize(..COMMON_FILES)];
        let other = &self.common[self.rng.usize(..COMMON_FILES)];
        let (at, length) = (self.rng.u64(..COMMON_BLOCKS), self.rng.u64(1..4));
        let (at, length) = (at * BLOCK as u64, length.min(COMMON_BLOCKS - at) * BLOCK as u64);
        match self.rng.u8(0..4) {
            0 if file.inode() != other.inode() => file.clone_range(at, other, at, length).unwrap(),
            1 => file.punch_hole(at..at + length).unwrap(),
            2 => assert_uniform(file, at, length),
            _ => {
                let word = self.rng.u64(..).to_le_bytes();
                file.write_at(at, &word.repeat(length as usize / word.len())).unwrap();
            }
        }
    }

    fn read_own(&mut self) {
        if let Some(place) = self.some_file() {
            assert_is(self.engine, &place, &self.files[&place]);
        }
    }
}

/// Each block is of one writer.
fn assert_uniform(file: &File, at: u64, length: u64) {
    let mut bytes = vec![0; length as usize];
    let there = file.read_at(at, &mut bytes).unwrap();
    for block in bytes[..there].chunks(BLOCK) {
        assert!(block.chunks(8).all(|word| word == &block[..8]), "a block of two writers");
    }
}

fn assert_is(engine: &Engine, place: &Place, own: &Own) {
    let inode = engine.lookup(place.0, &place.1).unwrap();
    let file = engine.open_file(inode, Open::READ).unwrap();
    let mut bytes = vec![1; own.bytes.len() + 1];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), own.bytes.len());
    assert!(bytes[..own.bytes.len()] == own.bytes, "contents of {} differ", place.1.escape_ascii());
    assert_eq!(engine.get_attribute(inode, b"user.a").ok(), own.attribute);
}

/// Moves the shared directories into and out of each other.
fn move_directories(engine: &Engine, directories: &[u64], rng: &mut Rng) {
    let root = engine.root();
    let mut parents = vec![root; directories.len()];
    let name = |index: usize| format!("shared {index}").into_bytes();
    for _ in 0..operations() / 4 {
        let index = rng.usize(..directories.len());
        let to = [root, directories[rng.usize(..directories.len())]][rng.usize(..2)];
        match engine.rename(parents[index], &name(index), to, &name(index), Rename::NoReplace) {
            Ok(()) => parents[index] = to,
            // Into itself, or below itself, or where it is.
            Err(Error::Invalid(_) | Error::Exists) => {}
            Err(error) => panic!("{error}"),
        }
        // It never succeeds, but it locks.
        let _ = engine.remove_directory(parents[index], &name(index));
    }
    for (index, parent) in parents.iter().enumerate() {
        engine.rename(*parent, &name(index), root, &name(index), Rename::Replace).unwrap();
    }
}

fn operations() -> u64 {
    std::env::var("PAXFS_THREAD_OPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

#[test]
fn threads_find_what_they_left() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = directory.path().join("image");
    std::fs::write(&image, volume(64 << 20)).unwrap();
    let left = stress(&image);
    check_bytes(std::fs::read(&image).unwrap());
    let engine = Engine::open(&image, no_ticker()).unwrap();
    left.iter().for_each(|(place, own)| assert_is(&engine, place, own));
    engine.close().unwrap();
}

fn stress(image: &Path) -> Vec<(Place, Own)> {
    let engine =
        Engine::open(image, Options { interval: Duration::from_millis(7), ..Default::default() }).unwrap();
    let (root, new) = (engine.root(), New::default());
    let make = |name: String| engine.make_directory(root, name.as_bytes(), &new).unwrap();
    let shared: Vec<u64> = (0..SHARED_DIRECTORIES).map(|index| make(format!("shared {index}"))).collect();
    for directory in &shared {
        // So that nobody can remove it.
        engine.create(*directory, b"stays", &new).unwrap();
    }
    let own: Vec<u64> = (0..WORKERS).map(|number| make(format!("of {number}"))).collect();
    let common: Vec<File> = (0..COMMON_FILES)
        .map(|index| {
            let inode = engine.create(root, format!("common {index}").as_bytes(), &new).unwrap();
            let file = engine.open_file(inode, Open::WRITE).unwrap();
            file.write_at(0, &vec![0; COMMON_BLOCKS as usize * BLOCK]).unwrap();
            file
        })
        .collect();
    let finished = AtomicBool::new(false);
    let left = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let directories: Vec<u64> = [own[number]].into_iter().chain(shared.iter().copied()).collect();
                let rng = Rng::with_seed(number as u64 + 1);
                let (engine, common) = (&engine, common.as_slice());
                let mut worker = Worker { engine, number, rng, directories, common, files: BTreeMap::new() };
                scope.spawn(move || {
                    (0..operations()).for_each(|_| worker.step());
                    worker.files
                })
            })
            .collect();
        let mover = scope.spawn(|| move_directories(&engine, &shared, &mut Rng::with_seed(99)));
        let reader = scope.spawn(|| {
            let mut rng = Rng::with_seed(100);
            while !finished.load(Ordering::Acquire) {
                let file = &common[rng.usize(..COMMON_FILES)];
                assert_uniform(file, rng.u64(..COMMON_BLOCKS) * BLOCK as u64, 8 * BLOCK as u64);
                let directory = shared[rng.usize(..SHARED_DIRECTORIES)];
                for name in engine.read_directory(directory, 0, 1000).unwrap() {
                    // It may be gone by now.
                    let _ = engine.attributes(name.inode);
                }
                engine.statistics().unwrap();
            }
        });
        let left = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>();
        mover.join().unwrap();
        finished.store(true, Ordering::Release);
        reader.join().unwrap();
        left
    });
    left.iter().for_each(|(place, own)| assert_is(&engine, place, own));
    drop(common);
    engine.close().unwrap();
    left
}

/// Files and views outlive the engine: who uses one while the volume is closed has done it before, or is refused.
#[test]
fn a_volume_that_is_closed_beside_its_users_is_clean() {
    for _ in 0..50 {
        let medium = Arc::new(Recorder::forgetful(volume(4 << 20), Granularity::CacheLine));
        let options = Options { dax: Dax::Always, ..no_ticker() };
        let engine = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, options).unwrap();
        let create = |name| engine.create(engine.root(), name, &New::default()).unwrap();
        let file = |name| engine.open_file(create(name), Open::WRITE).unwrap();
        let (written, mapped) = (file(b"written"), file(b"mapped"));
        mapped.truncate(64 * BLOCK as u64).unwrap();
        let view = mapped.map(0..64 * BLOCK as u64, Sharing::Shared).unwrap();
        let begun = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                while written.append(&[1; 5000]).and_then(|_| written.truncate(100)).is_ok() {}
            });
            scope.spawn(|| {
                begun.wait();
                let mut blocks = (0..64).cycle();
                while view.store(blocks.next().unwrap() * BLOCK as u64, &[2; 10]).is_ok() {}
            });
            begun.wait();
            std::thread::sleep(Duration::from_micros(500));
            engine.close().unwrap();
            let closed = medium.now();
            check_bytes(closed.clone());
            std::thread::sleep(Duration::from_millis(2));
            assert!(closed == medium.now(), "something was stored after the volume was closed");
        });
    }
}
