#![allow(clippy::unwrap_used, clippy::panic)]
//! Volumes with one damage each, whose checksums fit: what the engine says, instead of doing as it is told there.

mod common;

use common::Disk;
use paxfs_format::device::Device;
use paxfs_format::image::Image;
use paxfs_format::path::{Change, Csum, edit, resolve};
use paxfs_format::volume::{Volume, find};
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::{Error, Result};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Granularity, Medium, Recorder};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::views::Sharing;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const BLOCK: u64 = 4096;

/// A volume that was closed.
struct Closed(Vec<u8>);

impl Closed {
    /// A volume with what `make` does.
    fn with(make: impl FnOnce(&Engine)) -> Self {
        let disk = Disk::new(16 << 20);
        let engine = disk.open();
        make(&engine);
        engine.close().unwrap();
        Closed(disk.medium.now())
    }

    /// A volume with the file `f` of a few blocks.
    fn with_file() -> Self {
        Self::with(|engine| file(engine, b"f").write_at(0, &[1; 20_000]).unwrap())
    }

    /// A volume with a directory in a directory: `a/b`.
    fn with_directories() -> Self {
        Self::with(|engine| {
            let above = engine.make_directory(engine.root(), b"a", &New::default()).unwrap();
            engine.make_directory(above, b"b", &New::default()).unwrap();
        })
    }

    /// Gives a field a value, and makes its checksum fit.
    fn set(mut self, path: &str, value: impl ToString) -> Self {
        let mut device = Device::memory(self.0);
        let found = find(&device).unwrap();
        let volume = Volume::new(Image::new(&device), found.superblock, found.geometry);
        let (seed, target) = (volume.seed, resolve(&volume, path).unwrap());
        edit(&mut device, seed, &target, &Change::Set(value.to_string()), Csum::Fix).unwrap();
        self.0 = device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap().to_vec();
        self
    }

    /// The number in a field.
    fn get(&self, path: &str) -> u64 {
        let device = Device::memory(self.0.clone());
        let found = find(&device).unwrap();
        let volume = Volume::new(Image::new(&device), found.superblock, found.geometry);
        let bytes = resolve(&volume, path).unwrap().read(&volume.blocks).unwrap();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The number of an inode.
    fn inode(&self, path: &str) -> u64 {
        self.get(&format!("inode[{path}].header.place"))
    }

    fn open(&self) -> Result<Engine> {
        let medium: Arc<dyn Medium> = Arc::new(Recorder::forgetful(self.0.clone(), Granularity::CacheLine));
        Engine::on_medium(
            medium,
            Options { interval: Duration::ZERO, dax: Dax::Always, ..Options::default() },
        )
    }
}

fn file(engine: &Engine, name: &[u8]) -> File {
    let root = engine.root();
    let inode = engine.lookup(root, name).or_else(|_| engine.create(root, name, &New::default()));
    engine.open_file(inode.unwrap(), Open::WRITE).unwrap()
}

/// What is said to be damaged, and how.
#[track_caller]
fn damage<T>(result: Result<T>) -> (String, String) {
    match result {
        Err(Error::Damaged { what, fault }) => (what, fault),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("nothing is said"),
    }
}

/// Does something that must not wait for itself.
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(run()).unwrap());
    result.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn numbers_of_transactions_that_are_used_up() {
    for last in [u64::MAX, u64::MAX - 1] {
        let volume = Closed::with_file().set("sb.header.generation", last);
        assert_eq!(damage(volume.open()).1, "there is no number left for a transaction");
    }
}

#[test]
fn a_group_header_that_counts_too_high() {
    let fields = ["free.records", "rmap.nodes", "inodes.records", "inodes.height", "clusters.nodes", "start"];
    for field in fields {
        let max =
            if field.ends_with("nodes") || field.ends_with("height") { u32::MAX.into() } else { u64::MAX };
        let volume = Closed::with_file().set(&format!("group[0].{field}"), max);
        assert_eq!(damage(volume.open()), ("group 0".to_owned(), "block 1 contradicts itself".to_owned()));
    }
}

/// Inodes in use and orphans are counted when the volume is opened.
#[test]
fn a_group_header_that_counts_wrong() {
    for field in ["inodes_used", "orphans"] {
        let volume = Closed::with_file().set(&format!("group[0].{field}"), u64::MAX);
        let engine = volume.open().unwrap();
        let inodes = engine.statistics().unwrap().inodes;
        for name in [b"a", b"b", b"c", b"d"] {
            engine.create(engine.root(), name, &New::default()).unwrap();
        }
        assert_eq!(engine.statistics().unwrap().inodes, inodes + 4);
        engine.close().unwrap();
    }
}

#[test]
fn free_blocks_in_a_cluster() {
    let volume = Closed::with_file();
    let cluster = volume.get("clusters[0].leaf[0].rec[0].start");
    let volume = volume.set("free[0].leaf[0].rec[0].start", cluster);
    assert_eq!(damage(volume.open()).0, "the clusters tree of group 0");
}

#[test]
fn free_blocks_in_the_head_of_a_group() {
    let volume = Closed::with_file().set("free[1].leaf[0].rec[0].start", 2);
    assert_eq!(damage(volume.open()).0, "the free tree of group 1");
}

#[test]
fn inodes_outside_of_clusters() {
    let volume = Closed::with_file();
    let free = volume.get("free[0].leaf[0].rec[0].start").next_multiple_of(8);
    let volume = volume.set("inodes[0].leaf[0].rec[0].start", free);
    assert_eq!(damage(volume.open()).0, "the inodes tree of group 0");
}

#[test]
fn fields_of_an_inode_that_cannot_be() {
    let cases = [
        ("mode", 177_777, "its mode"),
        ("size", u64::MAX, "its size"),
        ("blocks", u64::MAX, "its blocks"),
        ("data.count", u64::MAX, "its data fork"),
        ("data.inline_bytes", 300, "its data fork"),
        ("data.format", 3, "its data fork"),
        ("extents.rec[0].offset", u64::MAX, "its data fork"),
        ("extents.rec[0].start", u64::MAX, "its data fork"),
        ("extents.rec[0].start", 0, "its data fork"),
        ("extents.rec[0].length", u64::from(u32::MAX), "its data fork"),
        ("attributes.format", 2, "its attribute fork"),
        ("attributes.entry[0].name_length", 255, "its attribute fork"),
    ];
    for (field, value, fault) in cases {
        let volume = Closed::with_file().set(&format!("inode[/f].{field}"), value);
        let engine = volume.open().unwrap();
        let inode = engine.lookup(engine.root(), b"f").unwrap();
        assert_eq!(damage(engine.attributes(inode)), (format!("inode {inode}"), fault.to_owned()), "{field}");
        assert_eq!(damage(engine.unlink(engine.root(), b"f")).1, fault, "{field}");
        engine.close().unwrap();
    }
}

#[test]
fn names_that_are_none() {
    let volume = Closed::with_directories().set("inode[/].directory.entry[0].name", "\"/\"");
    let engine = volume.open().unwrap();
    assert_eq!(damage(engine.read_directory(engine.root(), 0, 9)).1, "its data fork");
}

/// It would be locked twice.
#[test]
fn a_name_that_leads_to_its_own_directory() {
    let volume = Closed::with_directories();
    let above = volume.inode("/a");
    let volume = volume.set("inode[/a].directory.entry[0].inode", above);
    let engine = volume.open().unwrap();
    in_time(move || {
        let (root, expected) =
            (engine.root(), (format!("directory inode {above}"), format!("a name of inode {above}")));
        assert_eq!(damage(engine.remove_directory(above, b"b")), expected);
        assert_eq!(damage(engine.rename(above, b"b", above, b"c", Rename::Replace)), expected);
        assert_eq!(damage(engine.rename(above, b"b", root, b"c", Rename::Replace)), expected);
        engine.create(root, b"f", &New::default()).unwrap();
        assert_eq!(damage(engine.rename(root, b"f", above, b"b", Rename::Exchange)), expected);
        damage(engine.remove_tree(root, b"a"));
        damage(engine.remove_tree(above, b"b"));
    });
}

#[test]
fn a_name_that_leads_to_the_root() {
    let volume = Closed::with_directories();
    let root = volume.inode("/");
    let volume = volume.set("inode[/a].directory.entry[0].inode", root);
    let engine = volume.open().unwrap();
    let above = engine.lookup(root, b"a").unwrap();
    assert_eq!(damage(engine.remove_directory(above, b"b")).1, format!("a name of inode {root}"));
    assert_eq!(damage(engine.remove_tree(above, b"b")).1, format!("a name of inode {root}"));
}

#[test]
fn a_tree_that_holds_the_directory_it_is_in() {
    // `a/b/c` leads to `a`.
    let volume = Closed::with(|engine| {
        let above = engine.make_directory(engine.root(), b"a", &New::default()).unwrap();
        let below = engine.make_directory(above, b"b", &New::default()).unwrap();
        engine.make_directory(below, b"c", &New::default()).unwrap();
    });
    let above = volume.inode("/a");
    let generation = volume.get("inode[/a].generation");
    let volume = volume
        .set("inode[/a/b].directory.entry[0].generation", generation)
        .set("inode[/a/b].directory.entry[0].inode", above);
    let engine = volume.open().unwrap();
    in_time(move || {
        assert_eq!(damage(engine.remove_tree(above, b"b")).1, "a second name");
    });
}

#[test]
fn directories_in_each_other_that_are_removed_at_once() {
    // `a/b/c` leads to `a`.
    let volume = Closed::with(|engine| {
        let above = engine.make_directory(engine.root(), b"a", &New::default()).unwrap();
        let below = engine.make_directory(above, b"b", &New::default()).unwrap();
        engine.make_directory(below, b"c", &New::default()).unwrap();
    });
    let (above, below) = (volume.inode("/a"), volume.inode("/a/b"));
    let generation = volume.get("inode[/a].generation");
    let volume = volume
        .set("inode[/a/b].directory.entry[0].generation", generation)
        .set("inode[/a/b].directory.entry[0].inode", above);
    let engine = Arc::new(volume.open().unwrap());
    in_time(move || {
        std::thread::scope(|scope| {
            for (directory, name) in [(above, b"b"), (below, b"c")] {
                let engine = &engine;
                scope.spawn(move || {
                    for _ in 0..100_000 {
                        assert!(matches!(engine.remove_directory(directory, name), Err(Error::NotEmpty)));
                    }
                });
            }
        });
    });
}

#[test]
fn an_inode_that_is_not_what_its_name_says() {
    for (field, value) in [("generation", 77), ("kind", 4), ("kind", 10)] {
        let volume = Closed::with_file().set(&format!("inode[/].directory.entry[0].{field}"), value);
        let engine = volume.open().unwrap();
        let root = engine.root();
        damage(if value == 4 { engine.remove_directory(root, b"f") } else { engine.unlink(root, b"f") });
        damage(engine.rename(root, b"f", root, b"g", Rename::Replace));
        damage(engine.snapshot(root, root, b"s", paxfs_runtime::snapshot::Access::Writable));
        // Nothing was done.
        assert_eq!(engine.read_directory(root, 0, 9).unwrap().len(), 1);
    }
}

#[test]
fn an_inode_in_use_that_the_index_calls_free() {
    let volume = Closed::with_file();
    let used = volume.get("inodes[0].leaf[0].rec[0].used");
    let slot = volume.inode("/f") % 64;
    let volume = volume.set("inodes[0].leaf[0].rec[0].used", used & !(1 << slot));
    let engine = volume.open().unwrap();
    let inode = engine.lookup(engine.root(), b"f").unwrap();
    let answer = engine.create(engine.root(), b"g", &New::default());
    assert_eq!(damage(answer).1, format!("inode {inode} is in use"));
}

#[test]
fn an_orphan_with_a_name() {
    let volume = Closed::with_file();
    let slot = volume.inode("/f") % 64;
    let volume = volume.set("inodes[0].leaf[0].rec[0].orphans", 1_u64 << slot);
    assert_eq!(damage(volume.open()).1, "an orphan that has names, or was freed");
}

#[test]
fn extents_of_blocks_that_are_free() {
    let volume = Closed::with_file();
    let free = volume.get("free[0].leaf[0].rec[0].start");
    let volume = volume.set("inode[/f].extents.rec[0].start", free);
    let engine = volume.open().unwrap();
    assert_eq!(damage(engine.unlink(engine.root(), b"f")).1, "the block is not in use");
}

#[test]
fn extents_of_blocks_of_metadata() {
    let volume = Closed::with_file();
    let cluster = volume.get("clusters[0].leaf[0].rec[0].start");
    let volume = volume.set("inode[/f].extents.rec[0].start", cluster);
    let engine = volume.open().unwrap();
    assert_eq!(damage(engine.unlink(engine.root(), b"f")).1, "the block is not in use");
}

/// A volume with a file of so many extents, `f`.
fn with_extents(extents: u64) -> Closed {
    Closed::with(|engine| {
        let file = file(engine, b"f");
        for extent in 0..extents {
            file.write_at(extent * 2 * BLOCK, &[1; 4096]).unwrap();
        }
    })
}

#[test]
fn extents_in_leaves_that_overlap() {
    let volume = with_extents(600);
    let first = volume.get("inode[/f].extents.node[1][0].rec[0].child");
    let volume = volume.set("inode[/f].extents.node[1][0].rec[1].child", first);
    let engine = volume.open().unwrap();
    let file = file(&engine, b"f");
    let mut bytes = vec![0; 600 * 8192];
    assert_eq!(damage(file.read_at(0, &mut bytes)).1, "extents that overlap");
    assert_eq!(damage(file.write_at(0, &bytes)).1, "extents that overlap");
    assert_eq!(damage(file.truncate(0)).1, "extents that overlap");
}

#[test]
fn a_leaf_whose_records_do_not_ascend() {
    let volume = with_extents(600).set("inode[/f].extents.leaf[0].rec[3].offset", 0);
    let leaf = volume.get("inode[/f].extents.node[1][0].rec[0].child");
    let engine = volume.open().unwrap();
    let fault = damage(file(&engine, b"f").read_at(0, &mut [0; 9])).1;
    assert_eq!(fault, format!("block {leaf}, a tree node of level 0: block {leaf} contradicts itself"));
}

/// A directory whose blocks would be read over and over, as often as leaves of its index are reached.
#[test]
fn an_index_in_leaves_that_overlap() {
    let volume = Closed::with(|engine| {
        let directory = engine.make_directory(engine.root(), b"d", &New::default()).unwrap();
        for name in 0..8000 {
            engine.create(directory, format!("{name:0200}").as_bytes(), &New::default()).unwrap();
        }
    });
    let first = volume.get("inode[/d].directory.index.node[1][0].rec[0].child");
    let volume = volume.set("inode[/d].directory.index.node[1][0].rec[1].child", first);
    let engine = volume.open().unwrap();
    let directory = engine.lookup(engine.root(), b"d").unwrap();
    let fault = damage(engine.read_directory(directory, 0, usize::MAX)).1;
    assert!(fault.ends_with("is out of order"), "{fault}");
}

#[test]
fn a_value_in_a_block_that_is_none() {
    let volume = Closed::with(|engine| {
        let inode = engine.create(engine.root(), b"f", &New::default()).unwrap();
        engine.set_attribute(inode, b"user.a", &[1; 5000], SetAttribute::Any).unwrap();
    });
    let node = volume.get("group[0].inodes.block");
    let entry =
        (0..2).find(|entry| volume.get(&format!("inode[/f].attributes.entry[{entry}].kind")) == 2).unwrap();
    let volume = volume.set(&format!("inode[/f].attributes.entry[{entry}].value[0]"), node);
    let fault = "is a 6 block where a 14 block belongs";
    let engine = volume.open().unwrap();
    let inode = engine.lookup(engine.root(), b"f").unwrap();
    assert_eq!(damage(engine.remove_attribute(inode, b"user.a")).1, fault);
    let engine = volume.open().unwrap();
    assert_eq!(damage(engine.unlink(engine.root(), b"f")).1, fault);
}

/// A volume where `f` and `g` share blocks, and `h` has its own.
fn with_shared() -> Closed {
    Closed::with(|engine| {
        let (one, other) = (file(engine, b"f"), file(engine, b"g"));
        one.write_at(0, &[1; 8192]).unwrap();
        other.clone_range(0, &one, 0, 0).unwrap();
        file(engine, b"h").write_at(0, &[2; 8192]).unwrap();
    })
}

fn store(engine: Engine, name: &'static [u8]) -> Result<()> {
    in_time(move || {
        let view = file(&engine, name).map(0..8192, Sharing::Shared)?;
        view.store(5000, b"stored")?;
        view.sync(0..8192)
    })
}

/// The first store to them would move owners that there are none of, again and again.
#[test]
fn blocks_that_count_owners_whom_the_reverse_map_does_not_know() {
    let own = with_shared().get("inode[/h].extents.rec[0].start");
    let volume = with_shared().set("refcount[0].leaf[0].rec[0].start", own);
    store(volume.open().unwrap(), b"h").unwrap();
}

/// Every block that a store is given would be shared, too.
#[test]
fn free_blocks_that_count_owners() {
    let volume = with_shared();
    let shared = volume.get("inode[/f].extents.rec[0].start");
    let blocks = volume.get("group[0].blocks");
    let volume = volume.set("refcount[0].leaf[0].rec[0].length", blocks - shared);
    let (what, fault) = damage(store(volume.open().unwrap(), b"h"));
    assert!(what.starts_with("reference count of block "), "{what}");
    assert_eq!(fault, "it was free, and has more than one owner");
}
