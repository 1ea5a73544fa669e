#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! One file under everything that can be done to its contents, mostly around its end, through several handles, with a name
//! or without: after each operation it reads as a plain vector of bytes does. In the manner of `fsx`.
//!
//! `PAXFS_FSX_OPS=1000000 cargo test --release -p paxfs-runtime --test fsx -- --nocapture` does so many.

mod common;

use common::{Disk, check, long_runs};
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;
use proptest::prelude::*;

const BLOCK: u64 = 4096;
const LARGEST: u64 = 64 * BLOCK;
const HANDLES: usize = 3;

/// An offset, as far as it can be said before the size is known.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes from the end.
    End(i64),
    /// So many bytes from the end of the last block.
    EndBlock(i64),
    At(u64),
}

impl Place {
    fn within(self, size: u64) -> u64 {
        let near = |base: u64, by: i64| base.saturating_add_signed(by);
        let at = match self {
            Place::End(by) => near(size, by),
            Place::EndBlock(by) => near(size.next_multiple_of(BLOCK), by),
            Place::At(at) => at,
        };
        at.min(LARGEST)
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        2 => (-5000..5000i64).prop_map(Place::End),
        2 => (-2..=2i64).prop_map(Place::End),
        2 => (-2..=2i64, -1..=1i64).prop_map(|(blocks, near)| Place::EndBlock(blocks * 4096 + near)),
        2 => (0..LARGEST / BLOCK).prop_map(|block| Place::At(block * BLOCK)),
        1 => (0..LARGEST).prop_map(Place::At),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Place, u64, u8),
    Append(usize, u64, u8),
    Truncate(usize, Place),
    Punch(usize, Place, u64),
    Zero(usize, Place, u64, bool),
    Allocate(usize, Place, u64, bool),
    /// From block to block within the file, so many blocks, the last of them perhaps in part.
    CloneWithin(usize, u64, u64, u64),
    DedupeWithin(usize, u64, u64, u64),
    /// The whole of the other file, from a block on.
    CloneOther(usize, u64),
    WriteOther(u64, u64, u8),
    Unshare(usize, Place, u64),
    Unlink,
    Sync,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let handle = || 0..HANDLES;
    let length =
        || prop_oneof![2 => 1..3 * BLOCK, 1 => (1..8u64).prop_map(|blocks| blocks * BLOCK), 1 => 1..9u64];
    let block = || 0..LARGEST / BLOCK;
    prop_oneof![
        8 => (handle(), place(), length(), 1..=255u8).prop_map(|(h, at, n, fill)| Op::Write(h, at, n, fill)),
        2 => (handle(), length(), 1..=255u8).prop_map(|(h, n, fill)| Op::Append(h, n, fill)),
        5 => (handle(), place()).prop_map(|(h, at)| Op::Truncate(h, at)),
        4 => (handle(), place(), length()).prop_map(|(h, at, n)| Op::Punch(h, at, n)),
        4 => (handle(), place(), length(), any::<bool>()).prop_map(|(h, at, n, grows)| Op::Zero(h, at, n, grows)),
        4 => (handle(), place(), length(), any::<bool>()).prop_map(|(h, at, n, grows)| Op::Allocate(h, at, n, grows)),
        4 => (handle(), block(), block(), 1..8u64).prop_map(|(h, from, to, n)| Op::CloneWithin(h, from, to, n)),
        3 => (handle(), block(), block(), 1..8u64).prop_map(|(h, from, to, n)| Op::DedupeWithin(h, from, to, n)),
        2 => (handle(), block()).prop_map(|(h, to)| Op::CloneOther(h, to)),
        2 => (0..10 * BLOCK, length(), 1..=255u8).prop_map(|(at, n, fill)| Op::WriteOther(at, n, fill)),
        1 => (handle(), place(), length()).prop_map(|(h, at, n)| Op::Unshare(h, at, n)),
        1 => Just(Op::Unlink),
        1 => Just(Op::Sync),
        1 => Just(Op::Reopen),
    ]
}

struct Bench {
    disk: Disk,
    /// The file's handles and the other file; dropped before the engine.
    handles: Vec<File>,
    other: Option<File>,
    engine: Option<Engine>,
    bytes: Vec<u8>,
    other_bytes: Vec<u8>,
    has_name: bool,
}

fn size_of(grows: bool) -> Size {
    if grows { Size::Grows } else { Size::Stays }
}

impl Bench {
    fn new() -> Self {
        let disk = Disk::new(16 << 20);
        let engine = disk.open();
        for name in [b"file".as_slice(), b"other"] {
            engine.create(engine.root(), name, &New::default()).unwrap();
        }
        let mut bench = Bench {
            disk,
            handles: Vec::new(),
            other: None,
            engine: Some(engine),
            bytes: Vec::new(),
            other_bytes: Vec::new(),
            has_name: true,
        };
        bench.open();
        bench
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn open(&mut self) {
        let open = |name: &[u8]| {
            let inode = self.engine().lookup(self.engine().root(), name).unwrap();
            self.engine().open_file(inode, Open::WRITE).unwrap()
        };
        let handles = (0..HANDLES).map(|_| open(b"file")).collect();
        let other = open(b"other");
        (self.handles, self.other) = (handles, Some(other));
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn grow(&mut self, size: u64) {
        if self.size() < size {
            self.bytes.resize(size as usize, 0);
        }
    }

    fn zero(&mut self, at: u64, length: u64) {
        let end = (at + length).min(self.size());
        if at < end {
            self.bytes[at as usize..end as usize].fill(0);
        }
    }

    /// A range of blocks as a byte length that a clone takes: up to the end when that is within its last block.
    fn length(&self, from: u64, blocks: u64) -> u64 {
        let start = from * BLOCK;
        self.size().saturating_sub(start).min(blocks * BLOCK)
    }

    fn run(&mut self, op: &Op) {
        let size = self.size();
        match *op {
            Op::Write(handle, at, length, fill) => {
                let at = at.within(size);
                self.handles[handle].write_at(at, &vec![fill; length as usize]).unwrap();
                self.grow(at + length);
                self.bytes[at as usize..(at + length) as usize].fill(fill);
            }
            Op::Append(handle, length, fill) => {
                if size <= LARGEST {
                    assert_eq!(self.handles[handle].append(&vec![fill; length as usize]).unwrap(), size);
                    self.bytes.resize((size + length) as usize, fill);
                }
            }
            Op::Truncate(handle, to) => {
                let to = to.within(size);
                self.handles[handle].truncate(to).unwrap();
                self.bytes.resize(to as usize, 0);
            }
            Op::Punch(handle, at, length) => {
                let at = at.within(size);
                self.handles[handle].punch_hole(at..at + length).unwrap();
                self.zero(at, length);
            }
            Op::Zero(handle, at, length, grows) => {
                let at = at.within(size);
                self.handles[handle].zero_range(at..at + length, size_of(grows)).unwrap();
                self.zero(at, length);
                self.grow(if grows { at + length } else { 0 });
            }
            Op::Allocate(handle, at, length, grows) => {
                let at = at.within(size);
                self.handles[handle].allocate(at..at + length, size_of(grows)).unwrap();
                self.grow(if grows { at + length } else { 0 });
            }
            Op::CloneWithin(handle, from, to, blocks) => self.clone_within(handle, from, to, blocks),
            Op::DedupeWithin(handle, from, to, blocks) => self.dedupe_within(handle, from, to, blocks),
            Op::CloneOther(handle, to) => {
                let (to, length) = (to * BLOCK, self.other_bytes.len() as u64);
                let fits = length.is_multiple_of(BLOCK) || to + length >= size;
                let done = self.handles[handle].clone_range(to, self.other.as_ref().unwrap(), 0, 0);
                if length == 0 {
                    done.unwrap();
                } else if fits {
                    done.unwrap();
                    self.grow(to + length);
                    self.bytes[to as usize..(to + length) as usize].copy_from_slice(&self.other_bytes);
                } else {
                    assert!(matches!(done, Err(Error::Invalid(_))));
                }
            }
            Op::WriteOther(at, length, fill) => {
                self.other.as_ref().unwrap().write_at(at, &vec![fill; length as usize]).unwrap();
                let end = (at + length) as usize;
                self.other_bytes.resize(self.other_bytes.len().max(end), 0);
                self.other_bytes[at as usize..end].fill(fill);
            }
            Op::Unshare(handle, at, length) => {
                let at = at.within(size);
                self.handles[handle].unshare(at..at + length).unwrap();
            }
            Op::Unlink => {
                if self.has_name {
                    self.engine().unlink(self.engine().root(), b"file").unwrap();
                    self.has_name = false;
                }
            }
            Op::Sync => self.engine().sync().unwrap(),
            Op::Reopen => self.reopen(),
        }
    }

    fn clone_within(&mut self, handle: usize, from: u64, to: u64, blocks: u64) {
        let length = self.length(from, blocks);
        if length == 0 {
            return;
        }
        let (from, to, size) = (from * BLOCK, to * BLOCK, self.size());
        let overlaps = from < to + length && to < from + length;
        let fits = !overlaps && (length.is_multiple_of(BLOCK) || to + length >= size);
        // Through one handle, or through two of the same file.
        let source = &self.handles[(handle + length as usize) % HANDLES];
        let done = self.handles[handle].clone_range(to, source, from, length);
        if fits {
            done.unwrap();
            self.grow(to + length);
            self.bytes.copy_within(from as usize..(from + length) as usize, to as usize);
        } else {
            assert!(matches!(done, Err(Error::Invalid(_))));
        }
    }

    fn dedupe_within(&mut self, handle: usize, from: u64, to: u64, blocks: u64) {
        let length = self.length(from, blocks).min(self.length(to, blocks)) / BLOCK * BLOCK;
        let (from, to) = (from * BLOCK, to * BLOCK);
        if length == 0 || (from < to + length && to < from + length) {
            return;
        }
        let range = |at: u64| at as usize..(at + length) as usize;
        let same = self.bytes[range(from)] == self.bytes[range(to)];
        let done = self.handles[handle].dedupe_range(to, &self.handles[0], from, length).unwrap();
        assert_eq!(matches!(done, Dedupe::Same { .. }), same);
    }

    /// Closes the volume and opens it again. A file without a name is gone then, and another one begins.
    fn reopen(&mut self) {
        self.handles.clear();
        self.other = None;
        self.engine.take().unwrap().close().unwrap();
        check(&self.disk);
        self.engine = Some(self.disk.open());
        if !self.has_name {
            self.engine().create(self.engine().root(), b"file", &New::default()).unwrap();
            self.bytes.clear();
            self.has_name = true;
        }
        self.open();
    }

    /// What is read through any handle, and what the map of holes says.
    fn compare(&self, handle: usize) {
        let file = &self.handles[handle];
        assert_eq!(file.size(), self.size());
        let mut there = vec![0xee; self.bytes.len() + 3];
        assert_eq!(file.read_at(0, &mut there).unwrap(), self.bytes.len());
        let wrong = there.iter().zip(&self.bytes).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "contents differ");
        let mut at = 0;
        while at < self.size() {
            let data = file.seek_data(at).unwrap_or(self.size());
            assert!(self.bytes[at as usize..data as usize].iter().all(|byte| *byte == 0), "data in a hole");
            at = if data < self.size() { file.seek_hole(data).unwrap() } else { data };
        }
        let mut other = vec![0; self.other_bytes.len() + 1];
        assert_eq!(self.other.as_ref().unwrap().read_at(0, &mut other).unwrap(), self.other_bytes.len());
        assert!(other.starts_with(&self.other_bytes), "the other file differs");
    }
}

fn run(ops: &[Op]) {
    let mut bench = Bench::new();
    for (number, op) in ops.iter().enumerate() {
        bench.run(op);
        bench.compare(number % HANDLES);
    }
    bench.reopen();
    bench.compare(0);
}

/// So many operations as `PAXFS_FSX_OPS` says, in runs of 400.
#[test]
fn long_runs_read_as_a_vector_does() {
    long_runs("PAXFS_FSX_OPS", 2000, 400, op(), run);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_file_reads_as_a_vector_does(ops in proptest::collection::vec(op(), 1..80)) {
        run(&ops);
    }
}
