//! The target of the engine.

use crate::image_check::image_of;
use crate::tools::digest;
use fastrand::Rng;
use paxfs_format::inode::FileType;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::Result;
use paxfs_runtime::file::{File, Open, Set, Size};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::Sharing;
use std::time::Duration;

/// Most inodes that are looked at.
const INODES_MAX: usize = 64;
/// Operations tried on them.
const OPERATIONS: usize = 16;
const BLOCK: u64 = 4096;

/// A device as [`crate::image_check`] takes it, opened for writing and used.
///
/// Must hold: nothing panics or hangs. An error is always an answer.
pub fn engine(data: &[u8]) {
    let (device, _) = image_of(data);
    let Ok(engine) =
        Engine::on(device, Options { interval: Duration::ZERO, dax: Dax::Always, ..Options::default() })
    else {
        return;
    };
    let found = walk(&engine);
    let mut rng = Rng::with_seed(digest(data));
    for _ in 0..OPERATIONS {
        let _ = operate(&engine, &found, &mut rng);
    }
    let _ = engine.statistics();
    let _ = engine.sync();
    drop(found);
    let _ = engine.close();
}

/// An inode with the name that led to it.
struct Found {
    directory: u64,
    name: Vec<u8>,
    inode: u64,
}

/// What the tree has, all of it read.
fn walk(engine: &Engine) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut todo = vec![engine.root()];
    while let Some(directory) = todo.pop() {
        let Ok(names) = engine.read_directory(directory, 0, INODES_MAX) else { continue };
        for name in names {
            if found.len() == INODES_MAX {
                return found;
            }
            look(engine, name.inode);
            if name.kind == FileType::Directory {
                todo.push(name.inode);
            }
            found.push(Found { directory, name: name.name, inode: name.inode });
        }
    }
    found
}

fn look(engine: &Engine, inode: u64) {
    let _ = engine.attributes(inode);
    let _ = engine.read_link(inode);
    for name in engine.list_attributes(inode).unwrap_or_default() {
        let _ = engine.get_attribute(inode, &name);
    }
    if let Ok(file) = engine.open_file(inode, Open::READ) {
        let _ = (file.extents(), file.seek_data(0), file.seek_hole(0));
        let mut bytes = vec![0; 16 << 10];
        for offset in [0, file.size() / 2, file.size().saturating_sub(100)] {
            let _ = file.read_at(offset, &mut bytes);
        }
    }
}

fn open(engine: &Engine, found: &Found) -> Result<File> {
    engine.open_file(found.inode, Open::WRITE)
}

fn operate(engine: &Engine, all: &[Found], rng: &mut Rng) -> Result<()> {
    let root = engine.root();
    let (Some(one), Some(other)) = (rng.choice(all), rng.choice(all)) else {
        return engine.create(root, b"new", &New::default()).map(drop);
    };
    let fresh = rng.u64(..).to_string().into_bytes();
    let (at, length) = (rng.u64(..64) * BLOCK, rng.u64(1..20 * BLOCK));
    let bytes = vec![rng.u8(..); usize::try_from(length).unwrap_or(1)];
    match rng.u8(..26) {
        0 => engine.create(one.directory, &fresh, &New::default()).map(drop),
        1 => engine.make_directory(one.inode, &fresh, &New::default()).map(drop),
        2 => engine
            .symlink(one.directory, &fresh, bytes.get(..4000).unwrap_or(&bytes), &New::default())
            .map(drop),
        3 => engine.unlink(one.directory, &one.name),
        4 => engine.remove_directory(one.directory, &one.name),
        5 => engine.rename(one.directory, &one.name, other.directory, &other.name, Rename::Replace),
        6 => engine.rename(one.directory, &one.name, other.inode, &fresh, Rename::NoReplace),
        7 => engine.rename(one.directory, &one.name, other.directory, &other.name, Rename::Exchange),
        8 => engine.link(one.inode, other.directory, &fresh),
        9 => open(engine, one)?.write_at(at, &bytes),
        10 => open(engine, one)?.append(&bytes).map(drop),
        11 => open(engine, one)?.truncate(at),
        12 => open(engine, one)?.punch_hole(at..at + length),
        13 => open(engine, one)?.zero_range(at..at + length, Size::Grows),
        14 => open(engine, one)?.allocate(at..at + length, Size::Stays),
        15 => open(engine, one)?.clone_range(at, &open(engine, other)?, 0, 0),
        16 => {
            let (one, other) = (open(engine, one)?, open(engine, other)?);
            one.dedupe_range(0, &other, 0, one.size().min(other.size()) / BLOCK * BLOCK).map(drop)
        }
        17 => open(engine, one)?.unshare(0..u64::MAX),
        18 => {
            let value = bytes.get(..rng.usize(..10_000)).unwrap_or(&bytes);
            engine.set_attribute(one.inode, b"user.fuzz", value, SetAttribute::Any)
        }
        19 => {
            let names = engine.list_attributes(one.inode)?;
            rng.choice(names).map_or(Ok(()), |name| engine.remove_attribute(one.inode, &name))
        }
        20 => engine.snapshot(one.inode, root, &fresh, Access::Writable).map(drop),
        21 => engine.remove_tree(one.directory, &one.name),
        22 => engine.set_attributes(one.inode, &Set { uid: Some(1), ..Set::default() }),
        23..25 => {
            let view = open(engine, one)?.map(0..1 << 20, Sharing::Shared)?;
            let (offset, mut loaded) = (rng.u64(..1 << 20), vec![0; 5000]);
            let _ = (view.load(offset, &mut loaded), view.store(offset, &loaded));
            drop(engine.freeze()?);
            view.sync(0..1 << 20)
        }
        _ => engine.sync(),
    }
}
