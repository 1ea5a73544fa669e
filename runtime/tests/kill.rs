#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! A process that writes to an image on a plain file is killed with SIGKILL at a random moment. Then `fsck.paxfs -p` ends
//! 0 or 1, or the engine recovers the volume itself; and each directory is what it was after some operation that is not
//! before the last sync that had ended.
//!
//! What this proves: the volume recovers from any prefix of what a real process, with threads, stores and asks the kernel
//! for. It is no power loss: the kernel lives on, and with it every store that was made, in its order. Stores that are lost
//! or come in another order are for the crash tester (`crash`).
//!
//! The writer is this program again. It says on its standard output what it begins, what it has done, and what is synced.
//!
//! `PAXFS_KILLS=1000 cargo test -p paxfs-runtime --test kill -- --nocapture`, or `cargo xtask kill`, kills so often;
//! `PAXFS_KILL_SEED` makes other operations and moments.

mod common;

use common::kill::{kill_a_writer, number_from, say, task};
use common::volume;
use fastrand::Rng;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::error::Result;
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::namespace::{New, Rename};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const THREADS: usize = 2;
/// Names in each directory.
const NAMES: usize = 6;
/// What is written to a file that has just lost its name.
const NAMELESS: [u8; 5000] = [1; 5000];
const ATTRIBUTE: &[u8] = b"user.a";

#[derive(Debug, Clone, Copy)]
enum Op {
    Create(usize),
    Write(usize, u64, u64, u8),
    Append(usize, u64, u8),
    Truncate(usize, u64),
    Unlink(usize),
    Rename(usize, usize),
    Clone(usize, usize),
    SetAttribute(usize, u64, u8),
    Sync,
}

impl Op {
    fn random(rng: &mut Rng) -> Self {
        let name = rng.usize(..NAMES);
        let fill = rng.u8(1..);
        match rng.u8(0..20) {
            0..3 => Op::Create(name),
            3..8 => Op::Write(name, rng.u64(0..30_000), rng.u64(1..12_000), fill),
            8..10 => Op::Append(name, rng.u64(1..9000), fill),
            10 => Op::Truncate(name, rng.u64(0..30_000)),
            11..13 => Op::Unlink(name),
            13..15 => Op::Rename(name, rng.usize(..NAMES)),
            15 => Op::Clone(name, rng.usize(..NAMES)),
            16..18 => Op::SetAttribute(name, [10, 1000, 5000, 60_000][rng.usize(0..4)], fill),
            _ => Op::Sync,
        }
    }
}

/// The operations of one thread of one writer.
fn operations(seed: u64, thread: usize) -> impl Iterator<Item = Op> {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(thread as u64));
    std::iter::repeat_with(move || Op::random(&mut rng))
}

fn directory(thread: usize) -> Vec<u8> {
    format!("thread {thread}").into_bytes()
}

fn name(number: usize) -> Vec<u8> {
    format!("file {number}").into_bytes()
}

// The writer.

/// Does nothing unless it is the writer.
#[test]
fn writer() {
    let Some((image, seed)) = task() else { return };
    let mut threads: Vec<_> = (0..THREADS).map(|thread| operations(seed, thread)).collect();
    loop {
        let engine =
            Engine::open(&image, Options { interval: Duration::from_millis(3), ..Default::default() })
                .unwrap();
        std::thread::scope(|scope| {
            for (thread, operations) in threads.iter_mut().enumerate() {
                let engine = &engine;
                scope.spawn(move || write(engine, thread, operations.take(80)));
            }
        });
        engine.close().unwrap();
    }
}

fn write(engine: &Engine, thread: usize, operations: impl Iterator<Item = Op>) {
    let at = engine.lookup(engine.root(), &directory(thread)).unwrap();
    // Files that are open when their last name goes.
    let mut held = VecDeque::new();
    for op in operations {
        let is_sync = matches!(op, Op::Sync);
        say(&format!("{}{thread}", if is_sync { 's' } else { 'b' }));
        // What fails changes nothing, here as in the model.
        let _ = apply(engine, at, op, &mut held);
        held.truncate(2);
        say(&format!("{}{thread}", if is_sync { 'S' } else { 'd' }));
    }
}

fn apply(engine: &Engine, at: u64, op: Op, held: &mut VecDeque<File>) -> Result<()> {
    let open = |number: usize| engine.open_file(engine.lookup(at, &name(number))?, Open::WRITE);
    match op {
        Op::Create(number) => engine.create(at, &name(number), &New::default()).map(drop),
        Op::Write(number, offset, length, fill) => {
            open(number)?.write_at(offset, &vec![fill; length as usize])
        }
        Op::Append(number, length, fill) => open(number)?.append(&vec![fill; length as usize]).map(drop),
        Op::Truncate(number, size) => open(number)?.truncate(size),
        Op::Unlink(number) => {
            let file = open(number)?;
            engine.unlink(at, &name(number))?;
            file.append(&NAMELESS)?;
            held.push_front(file);
            Ok(())
        }
        Op::Rename(from, to) => engine.rename(at, &name(from), at, &name(to), Rename::Replace),
        Op::Clone(from, to) => {
            let (from, to) = (open(from)?, open(to)?);
            if from.size() >= to.size() { to.clone_range(0, &from, 0, 0) } else { Ok(()) }
        }
        Op::SetAttribute(number, length, fill) => {
            let inode = engine.lookup(at, &name(number))?;
            engine.set_attribute(inode, ATTRIBUTE, &vec![fill; length as usize], SetAttribute::Any)
        }
        Op::Sync => engine.sync(),
    }
}

// The model.

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ModelFile {
    /// Tells it from others that have its name before or after.
    id: usize,
    bytes: Vec<u8>,
    attribute: Option<Vec<u8>>,
}

/// What a directory holds, by the numbers of names; and behind [`NAMES`] the files that lost theirs and are open.
type Model = BTreeMap<usize, ModelFile>;

fn named(model: &Model) -> impl Iterator<Item = (&usize, &ModelFile)> {
    model.range(..NAMES)
}

fn predict(model: &mut Model, op: Op, id: usize) {
    let write = |file: &mut ModelFile, at: usize, length: u64, fill: u8| {
        let end = at + length as usize;
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[at..end].fill(fill);
    };
    match op {
        Op::Create(number) => {
            model.entry(number).or_insert(ModelFile { id, ..ModelFile::default() });
        }
        Op::Unlink(number) => {
            if let Some(mut file) = model.remove(&number) {
                // In place: who sees the file as it was before may see this, too.
                file.bytes.extend_from_slice(&NAMELESS);
                model.insert(NAMES + id, file);
            }
        }
        Op::Rename(from, to) if from != to => {
            if let Some(file) = model.remove(&from) {
                model.insert(to, file);
            }
        }
        Op::Clone(from, to) if from != to => {
            let source = model.get(&from).map(|file| file.bytes.clone());
            if let (Some(bytes), Some(file)) = (source, model.get_mut(&to))
                && bytes.len() >= file.bytes.len()
            {
                file.bytes = bytes;
            }
        }
        Op::Rename(..) | Op::Clone(..) | Op::Sync => {}
        Op::Write(number, ..)
        | Op::Append(number, ..)
        | Op::Truncate(number, _)
        | Op::SetAttribute(number, ..) => {
            let Some(file) = model.get_mut(&number) else { return };
            match op {
                Op::Write(_, at, length, fill) => write(file, at as usize, length, fill),
                Op::Append(_, length, fill) => write(file, file.bytes.len(), length, fill),
                Op::Truncate(_, size) => file.bytes.resize(size as usize, 0),
                Op::SetAttribute(_, length, fill) => file.attribute = Some(vec![fill; length as usize]),
                _ => {}
            }
        }
    }
}

fn see(engine: &Engine, thread: usize) -> Model {
    let at = engine.lookup(engine.root(), &directory(thread)).unwrap();
    let mut seen = Model::new();
    for number in 0..NAMES {
        let Ok(inode) = engine.lookup(at, &name(number)) else { continue };
        let file = engine.open_file(inode, Open::READ).unwrap();
        let mut bytes = vec![0; file.size() as usize];
        file.read_at(0, &mut bytes).unwrap();
        let attribute = engine.get_attribute(inode, ATTRIBUTE).ok();
        seen.insert(number, ModelFile { id: usize::MAX - number, bytes, attribute });
    }
    assert_eq!(engine.read_directory(at, 0, 100).unwrap().len(), seen.len());
    seen
}

/// Whether what is there is one of the states: all of it, but for bytes of files, which may be of any of the states,
/// because a write in place is no transaction.
fn is_one_of(seen: &Model, states: &[Model]) -> bool {
    let byte_fits = |id: usize, at: usize, byte: u8| {
        let files = states.iter().flat_map(|state| state.values()).filter(|file| file.id == id);
        files.into_iter().any(|file| file.bytes.get(at) == Some(&byte))
    };
    states.iter().any(|state| {
        named(state).map(|(number, _)| number).eq(seen.keys())
            && named(state).zip(seen.values()).all(|((_, file), there)| {
                file.attribute == there.attribute
                    && file.bytes.len() == there.bytes.len()
                    && (file.bytes == there.bytes
                        || (0..).zip(&there.bytes).all(|(at, byte)| byte_fits(file.id, at, *byte)))
            })
    })
}

// The killer.

/// What a writer has said, of each thread: operations begun, ended, and durable for sure.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    begun: [usize; THREADS],
    done: [usize; THREADS],
    synced: [usize; THREADS],
    /// Operations that were done when the sync of a thread began.
    before_sync: [[usize; THREADS]; THREADS],
}

impl Progress {
    fn hear(&mut self, line: &str) {
        let Some((what, thread)) = line.split_at_checked(1) else { return };
        // The last line may be cut.
        let Some(thread) = thread.parse::<usize>().ok().filter(|thread| *thread < THREADS) else { return };
        match what {
            "b" => self.begun[thread] += 1,
            "d" => self.done[thread] += 1,
            "s" => {
                self.begun[thread] += 1;
                self.before_sync[thread] = self.done;
            }
            _ => {
                self.done[thread] += 1;
                for (synced, before) in self.synced.iter_mut().zip(self.before_sync[thread]) {
                    *synced = before.max(*synced);
                }
            }
        }
    }
}

#[test]
fn a_killed_writer_leaves_what_it_synced() {
    let count = number_from("PAXFS_KILLS").unwrap_or(30);
    let first = number_from("PAXFS_KILL_SEED").unwrap_or(1);
    let directory_of_test = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = directory_of_test.path().join("image");
    std::fs::write(&image, volume(8 << 20)).unwrap();
    let options = Options { interval: Duration::ZERO, ..Default::default() };
    let engine = Engine::open(&image, options).unwrap();
    for thread in 0..THREADS {
        engine.make_directory(engine.root(), &directory(thread), &New::default()).unwrap();
    }
    engine.close().unwrap();

    let mut models = [const { Model::new() }; THREADS];
    let mut rng = Rng::with_seed(first);
    let (mut operations_done, mut exits, mut in_opening, mut in_sync) = (0, [0_u64; 2], 0, 0);
    for kill in 0..count {
        let seed = first.wrapping_mul(1_000_003).wrapping_add(kill);
        let mut progress = Progress::default();
        let said = kill_a_writer(&image, seed, Duration::from_micros(rng.u64(1000..60_000)));
        said.iter().for_each(|line| progress.hear(line));
        let by_engine = kill % 4 == 3;
        if by_engine {
            // The engine's own recovery.
            Engine::open(&image, options).unwrap().close().unwrap();
        }
        let arguments = ["fsck.paxfs".into(), "-p".into(), image.clone().into_os_string()];
        let exit = paxfs_fsck::run::run(arguments).code();
        assert!(exit <= u8::from(!by_engine), "kill {kill}: fsck.paxfs -p ends {exit}");
        exits[usize::from(exit)] += 1;

        let engine = Engine::open(&image, options).unwrap();
        for (thread, model) in models.iter_mut().enumerate() {
            let mut states = vec![std::mem::take(model)];
            for (id, op) in operations(seed, thread).take(progress.begun[thread]).enumerate() {
                let mut next = states[id].clone();
                predict(&mut next, op, id);
                states.push(next);
            }
            let seen = see(&engine, thread);
            let allowed = &states[progress.synced[thread]..];
            assert!(
                is_one_of(&seen, allowed),
                "kill {kill} (seed {seed}), thread {thread}: no state from {} to {} is like what is there: {:?}",
                progress.synced[thread],
                progress.begun[thread],
                seen.iter().map(|(number, file)| (number, file.bytes.len())).collect::<Vec<_>>()
            );
            *model = seen;
        }
        engine.close().unwrap();
        operations_done += progress.done.iter().sum::<usize>();
        in_opening += u64::from(progress.begun == [0; THREADS]);
        in_sync += u64::from(progress.begun != progress.done);
    }
    println!(
        "{count} kills: {in_opening} before the first operation, {in_sync} within one; {operations_done} operations; \
         fsck.paxfs -p ended 0 {} times, 1 {} times; what was synced was there each time",
        exits[0], exits[1]
    );
}
