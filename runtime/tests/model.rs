#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! Random operations against a plain in-memory file system: same answers, same contents, and a clean check at the end.
//!
//! `PAXFS_MODEL_OPS=10000000 cargo test --release -p paxfs-runtime --test model long -- --nocapture` goes on until so
//! many operations agreed.

mod common;

use common::{Disk, check};
use paxfs_format::inode::FileType;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::share::Dedupe;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NAMES: u8 = 7;
const BLOCK: u64 = 4096;
/// Most bytes that a file gets.
const LARGEST: u64 = 40 * BLOCK;

#[derive(Debug, Clone)]
enum Op {
    Create(u8),
    MakeDirectory(u8),
    Symlink(u8, u16),
    Link(u8, u8),
    Unlink(u8),
    RemoveDirectory(u8),
    Rename(u8, u8, u8),
    Write(u8, u64, u64, u8),
    Append(u8, u64, u8),
    Truncate(u8, u64),
    Punch(u8, u64, u64),
    Zero(u8, u64, u64, bool),
    Allocate(u8, u64, u64, bool),
    Clone { to: u8, from: u8, to_at: u64, from_at: u64, length: u64 },
    Dedupe { to: u8, from: u8, to_at: u64, from_at: u64, length: u64 },
    Unshare(u8, u64, u64),
    SetAttribute(u8, u8, u32, u8, SetAttribute),
    RemoveAttribute(u8, u8),
    Sync,
    Reopen,
}

/// An offset: mostly at block borders, where things happen.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..LARGEST / BLOCK).prop_map(|block| block * BLOCK),
        1 => (0..LARGEST / BLOCK, 0..3u64).prop_map(|(block, near)| (block * BLOCK + near).saturating_sub(1)),
        1 => 0..LARGEST,
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (1..12u64).prop_map(|blocks| blocks * BLOCK),
        1 => 1..3 * BLOCK,
        1 => 1..64u64,
    ]
}

/// How long a value is: around what an entry and a block hold, and the most.
fn value_length() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..300u32,
        2 => 1000..1030u32,
        2 => (1..4u32, 0..3u32).prop_map(|(blocks, near)| blocks * 4056 + near - 1),
        1 => 65530..65540u32,
        1 => 0..65536u32,
    ]
}

fn how() -> impl Strategy<Value = SetAttribute> {
    prop_oneof![4 => Just(SetAttribute::Any), 1 => Just(SetAttribute::Create), 1 => Just(SetAttribute::Replace)]
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES;
    prop_oneof![
        4 => name().prop_map(Op::Create),
        2 => name().prop_map(Op::MakeDirectory),
        1 => (name(), 1..5000u16).prop_map(|(name, length)| Op::Symlink(name, length)),
        2 => (name(), name()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => name().prop_map(Op::Unlink),
        1 => name().prop_map(Op::RemoveDirectory),
        3 => (name(), name(), 0..3u8).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
        8 => (name(), place(), length(), any::<u8>()).prop_map(|(f, at, length, fill)| Op::Write(f, at, length, fill)),
        3 => (name(), length(), any::<u8>()).prop_map(|(f, length, fill)| Op::Append(f, length, fill)),
        3 => (name(), place()).prop_map(|(f, size)| Op::Truncate(f, size)),
        3 => (name(), place(), length()).prop_map(|(f, at, length)| Op::Punch(f, at, length)),
        2 => (name(), place(), length(), any::<bool>()).prop_map(|(f, at, length, g)| Op::Zero(f, at, length, g)),
        2 => (name(), place(), length(), any::<bool>()).prop_map(|(f, at, length, g)| Op::Allocate(f, at, length, g)),
        5 => (name(), name(), place(), place(), length()).prop_map(|(to, from, to_at, from_at, length)| Op::Clone {
            to, from, to_at, from_at, length: if length == 3 { 0 } else { length },
        }),
        4 => (name(), name(), place(), place(), length()).prop_map(|(to, from, to_at, from_at, length)| Op::Dedupe {
            to, from, to_at, from_at, length,
        }),
        1 => (name(), place(), length()).prop_map(|(f, at, length)| Op::Unshare(f, at, length)),
        6 => (name(), 0..ATTRIBUTES, value_length(), any::<u8>(), how())
            .prop_map(|(f, which, length, fill, how)| Op::SetAttribute(f, which, length, fill, how)),
        3 => (name(), 0..ATTRIBUTES).prop_map(|(f, which)| Op::RemoveAttribute(f, which)),
        1 => Just(Op::Sync),
        1 => Just(Op::Reopen),
    ]
}

/// What a name stands for: names 0 to 4 in the root, the others in the directory that name 0 may be.
fn path(name: u8) -> (Option<u8>, Vec<u8>) {
    if name < 5 {
        (None, format!("name {name}").into_bytes())
    } else {
        (Some(0), format!("inner {name}").into_bytes())
    }
}

/// Names of attributes: so many, the last few of them wrong.
const ATTRIBUTES: u8 = 9;

fn attribute(which: u8) -> Vec<u8> {
    match which {
        0 => b"user.a".to_vec(),
        1 => b"system.posix_acl_access".to_vec(),
        2 => b"trusted.overlay.opaque".to_vec(),
        3 => [b"security.".as_slice(), &[b'n'; 246]].concat(),
        4..6 => format!("user.number {which}").into_bytes(),
        6 => b"user.".to_vec(),
        7 => b"nowhere.a".to_vec(),
        _ => [b"user.".as_slice(), &[b'n'; 251]].concat(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, usize>),
    Symlink(Vec<u8>),
}

#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
    /// By node and name.
    attributes: BTreeMap<(usize, Vec<u8>), Vec<u8>>,
}

/// What the model says an operation answers: an errno, or that it is done.
type Answer = Result<(), i32>;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EPERM: i32 = 1;
const ENOTEMPTY: i32 = 39;
const E2BIG: i32 = 7;
const ERANGE: i32 = 34;
const ENODATA: i32 = 61;
const EOPNOTSUPP: i32 = 95;

impl Model {
    fn new() -> Self {
        Model { nodes: vec![Node::Directory(BTreeMap::new())], ..Model::default() }
    }

    fn directory(&self, name: u8) -> Result<usize, i32> {
        match path(name).0 {
            None => Ok(0),
            Some(above) => {
                let node = self.get(above)?;
                if matches!(self.nodes[node], Node::Directory(_)) { Ok(node) } else { Err(ENOTDIR) }
            }
        }
    }

    fn entries(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[directory] {
            Node::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn get(&self, name: u8) -> Result<usize, i32> {
        let directory = self.directory(name)?;
        match &self.nodes[directory] {
            Node::Directory(entries) => entries.get(&path(name).1).copied().ok_or(ENOENT),
            _ => Err(ENOTDIR),
        }
    }

    fn make(&mut self, name: u8, node: Node) -> Answer {
        let directory = self.directory(name)?;
        if self.get(name).is_ok() {
            return Err(EEXIST);
        }
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.entries(directory).insert(path(name).1, new);
        Ok(())
    }

    fn link(&mut self, from: u8, to: u8) -> Answer {
        let node = self.get(from)?;
        let directory = self.directory(to)?;
        if self.get(to).is_ok() {
            return Err(EEXIST);
        }
        if matches!(self.nodes[node], Node::Directory(_)) {
            return Err(EPERM);
        }
        self.entries(directory).insert(path(to).1, node);
        Ok(())
    }

    fn remove(&mut self, name: u8, wants_directory: bool) -> Answer {
        let node = self.get(name)?;
        match (&self.nodes[node], wants_directory) {
            (Node::Directory(_), false) => return Err(EISDIR),
            (Node::Directory(entries), true) if !entries.is_empty() => return Err(ENOTEMPTY),
            (Node::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(ENOTDIR),
        }
        let directory = self.directory(name)?;
        self.entries(directory).remove(&path(name).1);
        Ok(())
    }

    fn rename(&mut self, from: u8, to: u8, how: Rename) -> Answer {
        let (source, target) = (self.directory(from)?, self.directory(to)?);
        let moved = self.get(from)?;
        let there = self.get(to).ok();
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(EEXIST),
            (Rename::Exchange, None) => return Err(ENOENT),
            (_, Some(there)) if there == moved => return Ok(()),
            _ => {}
        }
        if moved == target || (how == Rename::Exchange && there == Some(source)) {
            return Err(EINVAL);
        }
        let is_directory = |node: usize| matches!(self.nodes[node], Node::Directory(_));
        if how == Rename::Exchange {
            self.entries(target).insert(path(to).1, moved);
            self.entries(source).insert(path(from).1, there.unwrap());
            return Ok(());
        }
        if let Some(there) = there {
            match (is_directory(moved), &self.nodes[there]) {
                (true, Node::Directory(entries)) if !entries.is_empty() => return Err(ENOTEMPTY),
                (true, Node::Directory(_)) => {}
                (true, _) => return Err(ENOTDIR),
                (false, Node::Directory(_)) => return Err(EISDIR),
                (false, _) => {}
            }
        }
        self.entries(source).remove(&path(from).1);
        self.entries(target).insert(path(to).1, moved);
        Ok(())
    }

    /// The bytes of a regular file.
    fn file(&mut self, name: u8) -> Result<&mut Vec<u8>, i32> {
        let node = self.get(name)?;
        match &mut self.nodes[node] {
            Node::File(bytes) => Ok(bytes),
            Node::Directory(_) => Err(EISDIR),
            Node::Symlink(_) => Err(EINVAL),
        }
    }

    fn set_attribute(&mut self, name: u8, which: u8, value: &[u8], how: SetAttribute) -> Answer {
        let node = self.get(name)?;
        match which {
            6 => return Err(EINVAL),
            7 => return Err(EOPNOTSUPP),
            8 => return Err(ERANGE),
            _ if value.len() > 65536 => return Err(E2BIG),
            _ => {}
        }
        let key = (node, attribute(which));
        if matches!(self.nodes[node], Node::Symlink(_)) && key.1.starts_with(b"user.") {
            return Err(EPERM);
        }
        match (how, self.attributes.contains_key(&key)) {
            (SetAttribute::Create, true) => return Err(EEXIST),
            (SetAttribute::Replace, false) => return Err(ENODATA),
            _ => {}
        }
        self.attributes.insert(key, value.to_vec());
        Ok(())
    }

    fn remove_attribute(&mut self, name: u8, which: u8) -> Answer {
        let node = self.get(name)?;
        let key = (node, attribute(which));
        if which == 8 {
            return Err(ERANGE);
        }
        if matches!(self.nodes[node], Node::Symlink(_)) && key.1.starts_with(b"user.") {
            return Err(EPERM);
        }
        self.attributes.remove(&key).map(drop).ok_or(ENODATA)
    }

    fn write(&mut self, name: u8, at: Option<u64>, bytes: &[u8]) -> Answer {
        let file = self.file(name)?;
        let at = at.map_or(file.len(), |at| at as usize);
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, name: u8, at: u64, length: u64, grows: bool) -> Answer {
        let file = self.file(name)?;
        let end = (at + length) as usize;
        if grows && end > file.len() {
            file.resize(end, 0);
        }
        let end = end.min(file.len());
        if (at as usize) < end {
            file[at as usize..end].fill(0);
        }
        Ok(())
    }

    /// The part of a source that a clone or dedupe takes, with the errors of `FICLONERANGE`.
    fn source(
        &mut self,
        to: u8,
        from: u8,
        to_at: u64,
        from_at: u64,
        length: u64,
        dedupe: bool,
    ) -> Result<Vec<u8>, i32> {
        let target_size = self.file(to)?.len() as u64;
        let same = self.get(to)? == self.get(from)?;
        let source = self.file(from)?;
        let size = source.len() as u64;
        let length = if length == 0 && !dedupe { size.saturating_sub(from_at) } else { length };
        if length == 0 {
            return Ok(Vec::new());
        }
        if dedupe && to_at + length > target_size {
            return Err(EINVAL);
        }
        let aligned = |at: u64| at.is_multiple_of(BLOCK);
        let fine = aligned(from_at)
            && aligned(to_at)
            && from_at + length <= size
            && (aligned(length) || from_at + length == size)
            && (aligned(length) || to_at + length >= target_size)
            && !(same && from_at < to_at + length && to_at < from_at + length);
        if fine { Ok(source[from_at as usize..(from_at + length) as usize].to_vec()) } else { Err(EINVAL) }
    }
}

struct Bench {
    disk: Disk,
    engine: Option<Engine>,
    model: Model,
}

/// Bytes that differ from place to place.
fn pattern(length: u64, fill: u8) -> Vec<u8> {
    (0..length).map(|i| if fill < 64 { 0 } else { fill.wrapping_add((i / 7) as u8) }).collect()
}

impl Bench {
    fn new() -> Self {
        let disk = Disk::new(16 << 20);
        let engine = Some(disk.open());
        Bench { disk, engine, model: Model::new() }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn directory(&self, name: u8) -> Result<u64, Error> {
        match path(name).0 {
            None => Ok(self.engine().root()),
            Some(above) => self.engine().lookup(self.engine().root(), &path(above).1),
        }
    }

    fn inode(&self, name: u8) -> Result<u64, Error> {
        self.engine().lookup(self.directory(name)?, &path(name).1)
    }

    fn file(&self, name: u8) -> Result<File, Error> {
        self.engine().open_file(self.inode(name)?, Open::WRITE)
    }

    fn run(&mut self, op: &Op) {
        let (done, said) = self.both(op);
        assert_eq!(done.map_err(|error| error.errno()), said, "{op:?}");
    }

    /// What the engine and what the model answers.
    fn both(&mut self, op: &Op) -> (Result<(), Error>, Answer) {
        let new = New::default();
        match *op {
            Op::Create(name) => (
                self.directory(name).and_then(|at| self.engine().create(at, &path(name).1, &new)).map(drop),
                self.model.make(name, Node::File(Vec::new())),
            ),
            Op::MakeDirectory(name) => (
                self.directory(name)
                    .and_then(|at| self.engine().make_directory(at, &path(name).1, &new))
                    .map(drop),
                self.model.make(name, Node::Directory(BTreeMap::new())),
            ),
            Op::Symlink(name, length) => {
                let target = vec![b'x'; usize::from(length.min(4095))];
                let at = self.directory(name);
                (
                    at.and_then(|at| self.engine().symlink(at, &path(name).1, &target, &new)).map(drop),
                    self.model.make(name, Node::Symlink(target)),
                )
            }
            Op::Link(from, to) => (
                self.inode(from).and_then(|inode| {
                    self.directory(to).and_then(|at| self.engine().link(inode, at, &path(to).1))
                }),
                self.model.link(from, to),
            ),
            Op::Unlink(name) => (
                self.directory(name).and_then(|at| self.engine().unlink(at, &path(name).1)),
                self.model.remove(name, false),
            ),
            Op::RemoveDirectory(name) => (
                self.directory(name).and_then(|at| self.engine().remove_directory(at, &path(name).1)),
                self.model.remove(name, true),
            ),
            Op::Rename(from, to, how) => {
                let how = [Rename::Replace, Rename::NoReplace, Rename::Exchange][usize::from(how)];
                let places = self.directory(from).and_then(|from| Ok((from, self.directory(to)?)));
                (
                    places.and_then(|(source, target)| {
                        self.engine().rename(source, &path(from).1, target, &path(to).1, how)
                    }),
                    self.model.rename(from, to, how),
                )
            }
            Op::Write(name, at, length, fill) => {
                let bytes = pattern(length, fill);
                (
                    self.file(name).and_then(|file| file.write_at(at, &bytes)),
                    self.model.write(name, Some(at), &bytes),
                )
            }
            Op::Append(name, length, fill) => {
                let bytes = pattern(length, fill);
                if self.model.file(name).is_ok_and(|file| file.len() as u64 + length > LARGEST) {
                    return (Ok(()), Ok(()));
                }
                (
                    self.file(name).and_then(|file| file.append(&bytes)).map(drop),
                    self.model.write(name, None, &bytes),
                )
            }
            Op::Truncate(name, size) => (
                self.file(name).and_then(|file| file.truncate(size)),
                self.model.file(name).map(|file| file.resize(size as usize, 0)),
            ),
            Op::Punch(name, at, length) => (
                self.file(name).and_then(|file| file.punch_hole(at..at + length)),
                self.model.zero(name, at, length, false),
            ),
            Op::Zero(name, at, length, grows) => (
                self.file(name).and_then(|file| file.zero_range(at..at + length, size_of(grows))),
                self.model.zero(name, at, length, grows),
            ),
            Op::Allocate(name, at, length, grows) => (
                self.file(name).and_then(|file| file.allocate(at..at + length, size_of(grows))),
                self.model.file(name).map(|file| {
                    if grows && file.len() < (at + length) as usize {
                        file.resize((at + length) as usize, 0);
                    }
                }),
            ),
            Op::Clone { to, from, to_at, from_at, length } => {
                let done = self.file(to).and_then(|target| {
                    self.file(from).and_then(|source| target.clone_range(to_at, &source, from_at, length))
                });
                let bytes = self.model.source(to, from, to_at, from_at, length, false);
                (
                    done,
                    bytes.and_then(|bytes| {
                        if bytes.is_empty() { Ok(()) } else { self.model.write(to, Some(to_at), &bytes) }
                    }),
                )
            }
            Op::Dedupe { to, from, to_at, from_at, length } => {
                let done = self.file(to).and_then(|target| {
                    self.file(from).and_then(|source| target.dedupe_range(to_at, &source, from_at, length))
                });
                let bytes = self.model.source(to, from, to_at, from_at, length, true);
                let said = bytes.map(|bytes| {
                    let target = self.model.file(to).unwrap();
                    let same = target[to_at as usize..to_at as usize + bytes.len()] == bytes;
                    assert_eq!(same, matches!(done, Ok(Dedupe::Same { .. })), "{op:?}: {done:?}");
                });
                (done.map(drop), said)
            }
            Op::Unshare(name, at, length) => (
                self.file(name).and_then(|file| file.unshare(at..at + length)),
                self.model.file(name).map(drop),
            ),
            Op::SetAttribute(name, which, length, fill, how) => {
                let value = pattern(length.into(), fill);
                (
                    self.inode(name)
                        .and_then(|inode| self.engine().set_attribute(inode, &attribute(which), &value, how)),
                    self.model.set_attribute(name, which, &value, how),
                )
            }
            Op::RemoveAttribute(name, which) => (
                self.inode(name).and_then(|inode| self.engine().remove_attribute(inode, &attribute(which))),
                self.model.remove_attribute(name, which),
            ),
            Op::Sync => (self.engine().sync(), Ok(())),
            Op::Reopen => {
                self.engine.take().unwrap().close().unwrap();
                check(&self.disk);
                self.engine = Some(self.disk.open());
                (Ok(()), Ok(()))
            }
        }
    }

    /// All that can be seen, compared.
    fn compare(&self) {
        let mut todo = vec![(self.engine().root(), 0)];
        while let Some((inode, node)) = todo.pop() {
            let kind = self.engine().attributes(inode).unwrap().kind;
            let mut names = self.engine().list_attributes(inode).unwrap();
            names.sort();
            let values = names.into_iter().map(|name| {
                let value = self.engine().get_attribute(inode, &name).unwrap();
                ((node, name), value)
            });
            let expected = self.model.attributes.range((node, Vec::new())..(node + 1, Vec::new()));
            let expected = expected.map(|(name, value)| (name.clone(), value.clone()));
            assert!(values.eq(expected), "attributes of {inode} differ");
            match &self.model.nodes[node] {
                Node::Directory(entries) => {
                    assert_eq!(kind, FileType::Directory);
                    let mut names = self.engine().read_directory(inode, 0, 1000).unwrap();
                    names.sort_by(|a, b| a.name.cmp(&b.name));
                    assert!(
                        names.iter().map(|name| &name.name).eq(entries.keys()),
                        "names of {inode} differ"
                    );
                    todo.extend(names.iter().map(|name| name.inode).zip(entries.values().copied()));
                }
                Node::File(bytes) => {
                    let file = self.engine().open_file(inode, Open::READ).unwrap();
                    let mut there = vec![1; bytes.len() + 10];
                    let length = file.read_at(0, &mut there).unwrap();
                    assert_eq!(length, bytes.len());
                    let wrong = there.iter().zip(bytes).position(|(a, b)| a != b);
                    assert_eq!(wrong, None, "contents of {inode} differ");
                }
                Node::Symlink(target) => assert_eq!(&self.engine().read_link(inode).unwrap(), target),
            }
        }
    }

    fn end(mut self) {
        self.compare();
        self.run(&Op::Reopen);
        self.compare();
    }
}

fn size_of(grows: bool) -> Size {
    if grows { Size::Grows } else { Size::Stays }
}

/// So many operations as `PAXFS_MODEL_OPS` says, in runs of 500.
#[test]
fn long_runs_agree_with_the_model() {
    use proptest::strategy::ValueTree;
    let wanted =
        std::env::var("PAXFS_MODEL_OPS").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(2000);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let ops = proptest::collection::vec(op(), 500);
    let mut done = 0;
    while done < wanted {
        let ops = ops.new_tree(&mut runner).unwrap().current();
        let mut bench = Bench::new();
        ops.iter().for_each(|op| bench.run(op));
        bench.end();
        done += ops.len() as u64;
    }
    println!("{done} operations without a difference");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_model(ops in proptest::collection::vec(op(), 1..120)) {
        let mut bench = Bench::new();
        for op in &ops {
            bench.run(op);
        }
        bench.end();
    }
}
