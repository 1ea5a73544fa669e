//! The engine and the model side by side: each operation is done by both.

use crate::common::{Disk, check};
use crate::mapped::Mapped;
use crate::model::{Answer, Model, Node};
use crate::op::{BLOCK, LARGEST, Op, VIEWS, attribute, path};
use paxfs_format::inode::FileType;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::share::Dedupe;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::View;
use std::collections::BTreeMap;

/// A volume and its model, side by side.
pub struct Bench {
    disk: Disk,
    engine: Option<Engine>,
    model: Model,
    views: [Option<(View, Mapped)>; VIEWS as usize],
    /// What a snapshot has to have.
    snapshot: Option<Model>,
}

const SNAPSHOT: &[u8] = b"snapshot";

/// Bytes that differ from place to place.
fn pattern(length: u64, fill: u8) -> Vec<u8> {
    (0..length).map(|i| if fill < 64 { 0 } else { fill.wrapping_add((i / 7) as u8) }).collect()
}

impl Bench {
    pub fn new() -> Self {
        let disk = Disk::new(16 << 20);
        let engine = Some(disk.open());
        Bench { disk, engine, model: Model::new(), views: Default::default(), snapshot: None }
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

    pub fn run(&mut self, op: &Op) {
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
            Op::Truncate(name, size) => {
                let done = self.file(name).and_then(|file| file.truncate(size));
                let said = self.model.file(name).map(|file| file.resize(size as usize, 0));
                self.views.iter_mut().flatten().for_each(|(_, mapped)| mapped.follow_size(&self.model));
                (done, said)
            }
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
            Op::Map { view, name, block, length, sharing } => {
                let range = block * BLOCK..block * BLOCK + length;
                self.views[usize::from(view)] = None;
                let done = self.file(name).and_then(|file| file.map(range.clone(), sharing));
                let said = self.model.file(name).map(drop);
                let done = done.map(|made| {
                    let mapped = Mapped::new(self.model.get(name).unwrap(), range, sharing);
                    self.views[usize::from(view)] = Some((made, mapped));
                });
                (done, said)
            }
            Op::Unmap(view) => {
                self.views[usize::from(view)] = None;
                (Ok(()), Ok(()))
            }
            Op::Store { view, at, length, fill } => {
                let Some((view, mapped)) = &mut self.views[usize::from(view)] else {
                    return (Ok(()), Ok(()));
                };
                let bytes = pattern(mapped.within(&self.model, at, length), fill);
                if bytes.is_empty() {
                    return (Ok(()), Ok(()));
                }
                (view.store(at, &bytes), mapped.store(&mut self.model, at, &bytes))
            }
            Op::Load { view, at, length } => {
                let Some((view, mapped)) = &self.views[usize::from(view)] else { return (Ok(()), Ok(())) };
                load(view, mapped, &self.model, at, length)
            }
            Op::ViewSync { view, at, length } => {
                let view = self.views[usize::from(view)].as_ref();
                (view.map_or(Ok(()), |(view, _)| view.sync(at..at + length)), Ok(()))
            }
            Op::Freeze => (self.freeze(), Ok(())),
            Op::Snapshot(access) => (self.take_or_remove_snapshot(access), Ok(())),
            Op::Sync => (self.engine().sync(), Ok(())),
            Op::Reopen => {
                self.views = Default::default();
                self.engine.take().unwrap().close().unwrap();
                check(&self.disk);
                self.engine = Some(self.disk.open());
                (Ok(()), Ok(()))
            }
        }
    }

    /// While the volume is frozen all can be loaded, and private views be stored to.
    fn freeze(&mut self) -> Result<(), Error> {
        let frozen = self.engine.as_ref().unwrap().freeze()?;
        for (view, mapped) in self.views.iter_mut().flatten() {
            let (done, said) = load(view, mapped, &self.model, 0, mapped.len());
            assert_eq!(done.map_err(|error| error.errno()), said);
            if mapped.is_private() {
                let stored = view.store(0, b"frozen").map_err(|error| error.errno());
                assert_eq!(stored, mapped.store(&mut self.model, 0, b"frozen"));
            }
        }
        drop(frozen);
        Ok(())
    }

    fn take_or_remove_snapshot(&mut self, access: Access) -> Result<(), Error> {
        let (engine, root) = (self.engine(), self.engine().root());
        if let Some(model) = &self.snapshot {
            self.compare_tree(engine.lookup(root, SNAPSHOT)?, model);
            engine.remove_tree(root, SNAPSHOT)?;
            self.snapshot = None;
        } else {
            engine.snapshot(root, root, SNAPSHOT, access)?;
            self.snapshot = Some(self.model.clone());
        }
        Ok(())
    }

    /// All that can be seen, compared.
    fn compare(&self) {
        self.compare_tree(self.engine().root(), &self.model);
        if let Some(model) = &self.snapshot {
            self.compare_tree(self.engine().lookup(self.engine().root(), SNAPSHOT).unwrap(), model);
        }
        for (view, mapped) in self.views.iter().flatten() {
            for at in (0..mapped.len()).step_by(BLOCK as usize) {
                let (done, said) = load(view, mapped, &self.model, at, BLOCK.min(mapped.len() - at));
                assert_eq!(done.map_err(|error| error.errno()), said);
            }
        }
    }

    fn compare_tree(&self, root: u64, model: &Model) {
        let mut todo = vec![(root, 0)];
        while let Some((inode, node)) = todo.pop() {
            let kind = self.engine().attributes(inode).unwrap().kind;
            let mut names = self.engine().list_attributes(inode).unwrap();
            names.sort();
            let values = names.into_iter().map(|name| {
                let value = self.engine().get_attribute(inode, &name).unwrap();
                ((node, name), value)
            });
            let expected = model.attributes.range((node, Vec::new())..(node + 1, Vec::new()));
            let expected = expected.map(|(name, value)| (name.clone(), value.clone()));
            assert!(values.eq(expected), "attributes of {inode} differ");
            match &model.nodes[node] {
                Node::Directory(entries) => {
                    assert_eq!(kind, FileType::Directory);
                    let mut names = self.engine().read_directory(inode, 0, 1000).unwrap();
                    names.retain(|name| name.name != SNAPSHOT);
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

    pub fn end(mut self) {
        self.compare();
        self.run(&Op::Reopen);
        self.compare();
    }
}

fn size_of(grows: bool) -> Size {
    if grows { Size::Grows } else { Size::Stays }
}

/// What a load shows: the same.
fn load(view: &View, mapped: &Mapped, model: &Model, at: u64, length: u64) -> (Result<(), Error>, Answer) {
    let mut bytes = vec![0xee; length as usize];
    let done = view.load(at, &mut bytes);
    let said = mapped.load(model, at, length).map(|expected| {
        let wrong = bytes.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(done.is_err() || wrong.is_none(), "byte {wrong:?} from {at} on of a view differs");
    });
    (done, said)
}
