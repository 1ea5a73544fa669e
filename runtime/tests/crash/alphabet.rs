//! The alphabet: operations on a small tree, and what that is before the first.

use crate::BLOCK;
use paxfs_format::geometry::Geometry;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// One of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Create,
    MakeDirectory,
    Link,
    RenameNew,
    RenameOver,
    RenameExchange,
    RenameInto,
    Unlink,
    WriteNew,
    Overwrite,
    OverwriteShared,
    Append,
    TruncateDown,
    TruncateUp,
    Punch,
    Zero,
    Allocate,
    Clone,
    Dedupe,
    Symlink,
    SetAttribute,
    GrowAttribute,
    ShrinkAttribute,
    RemoveAttribute,
    Snapshot,
    SnapshotDirectory,
    RemoveTree,
    /// A store through a view, to blocks of the file's own.
    Store,
    /// To a hole and an unwritten block.
    StoreHole,
    /// To blocks that another file owns, too: that one moves.
    StoreShared,
    /// As before, but the other is mapped for stores: the writer moves.
    StoreSharedMapped,
    /// Makes durable what was stored through views, and nothing else.
    ViewSync,
    Unmap,
    FileSync,
    FreezeThaw,
    Sync,
    /// The medium failed under the superblock and its copies, at once.
    LoseSuperblocks,
    /// Under the first slot of the journal.
    LoseSlot,
}

/// All that do not need a medium error.
pub const ALPHABET: [Op; 36] = [
    Op::Create,
    Op::MakeDirectory,
    Op::Link,
    Op::RenameNew,
    Op::RenameOver,
    Op::RenameExchange,
    Op::RenameInto,
    Op::Unlink,
    Op::WriteNew,
    Op::Overwrite,
    Op::OverwriteShared,
    Op::Append,
    Op::TruncateDown,
    Op::TruncateUp,
    Op::Punch,
    Op::Zero,
    Op::Allocate,
    Op::Clone,
    Op::Dedupe,
    Op::Symlink,
    Op::SetAttribute,
    Op::GrowAttribute,
    Op::ShrinkAttribute,
    Op::RemoveAttribute,
    Op::Snapshot,
    Op::SnapshotDirectory,
    Op::RemoveTree,
    Op::Store,
    Op::StoreHole,
    Op::StoreShared,
    Op::StoreSharedMapped,
    Op::ViewSync,
    Op::Unmap,
    Op::FileSync,
    Op::FreezeThaw,
    Op::Sync,
];

/// What is durable when an operation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Nothing that was not before.
    Nothing,
    /// What was stored through views.
    Stores,
    /// All that was done.
    All,
}

impl Op {
    /// Whether blocks are healed: what a check finds of those on the way is no fault of the engine.
    pub fn heals(self) -> bool {
        matches!(self, Op::LoseSuperblocks | Op::LoseSlot)
    }

    pub fn durable(self) -> Durable {
        match self {
            Op::ViewSync => Durable::Stores,
            Op::FileSync | Op::FreezeThaw | Op::Sync | Op::LoseSuperblocks | Op::LoseSlot => Durable::All,
            _ => Durable::Nothing,
        }
    }
}

/// What every run begins with: files a (5 blocks), b (3 blocks, shared with c), c, empty, holes (6 blocks: one written, a
/// hole, two unwritten, a hole), d/e; attributes of a (short) and b (two blocks).
pub fn prepare(engine: &Engine) {
    let (root, new) = (engine.root(), New::default());
    let create =
        |name: &[u8]| engine.open_file(engine.create(root, name, &new).unwrap(), Open::WRITE).unwrap();
    let make = |name: &[u8], fill: u8, blocks: u64| {
        let file = create(name);
        file.write_at(0, &vec![fill; (blocks * BLOCK) as usize]).unwrap();
        file
    };
    make(b"a", 0xa0, 5);
    let b = make(b"b", 0xb0, 3);
    let c = make(b"c", 0xc0, 1);
    c.clone_range(0, &b, 0, 0).unwrap();
    let d = engine.make_directory(root, b"d", &new).unwrap();
    engine.create(d, b"e", &new).unwrap();
    create(b"empty");
    let holes = make(b"holes", 0xd0, 1);
    holes.truncate(6 * BLOCK).unwrap();
    holes.allocate(2 * BLOCK..4 * BLOCK, Size::Stays).unwrap();
    let set = |name: &[u8], value: &[u8]| {
        engine
            .set_attribute(engine.lookup(root, name).unwrap(), b"user.a", value, SetAttribute::Create)
            .unwrap();
    };
    set(b"a", b"short");
    set(b"b", &[0xab; 5000]);
}

/// A volume in use: views stay from one operation to the next.
pub struct Session<'e> {
    engine: &'e Engine,
    geometry: Geometry,
    views: BTreeMap<u64, View>,
}

/// Bytes of a file that were stored to through a view.
pub type Stored = Option<(u64, Range<usize>)>;

impl<'e> Session<'e> {
    pub fn new(engine: &'e Engine, geometry: Geometry) -> Self {
        Session { engine, geometry, views: BTreeMap::new() }
    }

    /// Says that blocks are bad, which heal.
    fn lose(&self, blocks: impl IntoIterator<Item = u64>) -> Result<(), Error> {
        let sectors = BLOCK / 512;
        let list: String =
            blocks.into_iter().map(|block| format!("{} {sectors}\n", block * sectors)).collect();
        self.engine.report_media_errors(&list, Path::new("")).map(drop)
    }

    fn file(&self, name: &[u8]) -> Result<File, Error> {
        self.engine.open_file(self.engine.lookup(self.engine.root(), name)?, Open::WRITE)
    }

    /// The view of a file, which is mapped if it is not yet.
    fn view(&mut self, name: &[u8]) -> Result<(u64, &View), Error> {
        let inode = self.engine.lookup(self.engine.root(), name)?;
        if !self.views.contains_key(&inode) {
            let view = self.file(name)?.map(0..16 * BLOCK, Sharing::Shared)?;
            self.views.insert(inode, view);
        }
        Ok((inode, &self.views[&inode]))
    }

    fn store(&mut self, name: &[u8], at: u64, bytes: &[u8]) -> Result<Stored, Error> {
        let (inode, view) = self.view(name)?;
        view.store(at, bytes)?;
        Ok(Some((inode, at as usize..at as usize + bytes.len())))
    }

    /// Does an operation; says what it stored through views.
    pub fn run(&mut self, op: Op, step: u64) -> Result<Stored, Error> {
        let fill = 0x10 + step as u8;
        match op {
            Op::Store => self.store(b"a", BLOCK + 50, &[fill; 5000]),
            Op::StoreHole => self.store(b"holes", 2 * BLOCK - 100, &[fill; 300]),
            Op::StoreShared => self.store(b"c", BLOCK / 2, &[fill; 5000]),
            Op::StoreSharedMapped => {
                self.view(b"b")?;
                self.store(b"c", BLOCK / 2, &[fill; 5000])
            }
            Op::Unmap => {
                self.views.clear();
                Ok(None)
            }
            _ => self.change(op, step, fill).map(|()| None),
        }
    }

    fn change(&self, op: Op, step: u64, fill: u8) -> Result<(), Error> {
        let (engine, root, new) = (self.engine, self.engine.root(), New::default());
        let open = |name: &[u8]| self.file(name);
        let set = |name: &[u8], attribute: &[u8], value: &[u8]| {
            engine.set_attribute(engine.lookup(root, name)?, attribute, value, SetAttribute::Any)
        };
        let fresh = |kind: &str| format!("{kind}{step}").into_bytes();
        match op {
            Op::Create => engine.create(root, &fresh("new"), &new).map(drop),
            Op::MakeDirectory => engine.make_directory(root, &fresh("dir"), &new).map(drop),
            Op::Link => engine.link(engine.lookup(root, b"a")?, root, &fresh("link")),
            Op::RenameNew => engine.rename(root, b"a", root, &fresh("moved"), Rename::NoReplace),
            Op::RenameOver => engine.rename(root, b"a", root, b"b", Rename::Replace),
            Op::RenameExchange => engine.rename(root, b"a", root, b"d", Rename::Exchange),
            Op::RenameInto => {
                engine.rename(root, b"b", engine.lookup(root, b"d")?, b"inside", Rename::Replace)
            }
            Op::Unlink => engine.unlink(root, b"b"),
            Op::WriteNew => open(b"empty")?.write_at(100, &vec![fill; 6000]),
            Op::Overwrite => open(b"a")?.write_at(BLOCK + 7, &vec![fill; 5000]),
            Op::OverwriteShared => open(b"c")?.write_at(BLOCK / 2, &vec![fill; 5000]),
            Op::Append => open(b"a")?.append(&vec![fill; 3000]).map(drop),
            Op::TruncateDown => open(b"a")?.truncate(BLOCK + 100),
            Op::TruncateUp => open(b"b")?.truncate(9 * BLOCK + 1),
            Op::Punch => open(b"a")?.punch_hole(BLOCK..3 * BLOCK),
            Op::Zero => open(b"b")?.zero_range(0..2 * BLOCK, Size::Grows),
            Op::Allocate => open(b"c")?.allocate(6 * BLOCK..8 * BLOCK, Size::Grows),
            Op::Clone => open(b"a")?.clone_range(BLOCK, &open(b"b")?, 0, 2 * BLOCK),
            Op::Dedupe => open(b"c")?.dedupe_range(0, &open(b"b")?, 0, BLOCK).map(drop),
            Op::Symlink => engine.symlink(root, &fresh("symlink"), &[b'x'; 4000], &new).map(drop),
            Op::SetAttribute => set(b"c", b"user.b", &[fill; 10]),
            Op::GrowAttribute => set(b"a", b"user.a", &vec![fill; 9000]),
            Op::ShrinkAttribute => set(b"b", b"user.a", &vec![fill; 900]),
            Op::RemoveAttribute => engine.remove_attribute(engine.lookup(root, b"b")?, b"user.a"),
            Op::Snapshot => engine.snapshot(root, root, &fresh("snapshot"), Access::ReadOnly).map(drop),
            Op::SnapshotDirectory => {
                engine.snapshot(engine.lookup(root, b"d")?, root, &fresh("tree"), Access::Writable).map(drop)
            }
            Op::RemoveTree => engine.remove_tree(root, b"d"),
            Op::ViewSync => self.views.values().try_for_each(|view| view.sync(0..view.len())),
            Op::FileSync => {
                open(b"a")?.sync()?;
                self.views.values().try_for_each(|view| view.file().sync())
            }
            Op::FreezeThaw => engine.freeze().map(drop),
            Op::Sync => engine.sync(),
            Op::LoseSuperblocks => {
                self.lose(self.geometry.group_numbers().map(|group| self.geometry.superblock(group)))
            }
            Op::LoseSlot => self.lose([self.geometry.journal_slot(0)]),
            Op::Store | Op::StoreHole | Op::StoreShared | Op::StoreSharedMapped | Op::Unmap => unreachable!(),
        }
    }
}
