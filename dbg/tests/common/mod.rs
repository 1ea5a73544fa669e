//! A small volume with all that the format has, and the truth about it.

#![allow(dead_code, reason = "each test crate uses what it needs")]

use paxfs_format::device::Device;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::Geometry;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::rmap::ExtentFlags;
use paxfs_format::time::Timestamp;
use paxfs_format::units::Uuid;
use paxfs_format::volume::{Volume, find};
use paxfs_mkfs::builder::{Builder, Contents, merged};
use paxfs_mkfs::entries::{Attribute, Name, Value};
use paxfs_mkfs::inode::Meta;
use paxfs_mkfs::options::{Features, Options};
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

/// What is known of the sample besides its bytes.
#[derive(Debug, Default)]
pub struct Truth {
    /// Extents of each regular file, in maximal form.
    pub files: BTreeMap<u64, Vec<Extent>>,
    /// Paths of inodes.
    pub paths: BTreeMap<u64, Vec<String>>,
    /// Inodes by name.
    pub inodes: BTreeMap<&'static str, u64>,
}

/// The sample's entries in a directory: more than a leaf of its index has.
pub const MANY: u64 = 4000;
/// Extents of the file in pieces.
pub const PIECES: u64 = 500;

fn extent(offset: u64, start: u64, length: u32, unwritten: bool) -> Extent {
    let flags = ExtentFlags::new(if unwritten { ExtentFlags::UNWRITTEN } else { 0 });
    Extent { offset: offset.into(), start: start.into(), length: length.into(), flags }
}

struct Maker<'d> {
    builder: Builder<'d>,
    truth: Truth,
    names: Vec<(Vec<u8>, u64, u8)>,
    root: u64,
}

impl Maker<'_> {
    fn now() -> Timestamp {
        Timestamp::new(1_700_000_000, 5)
    }

    fn name(&mut self, name: &str, inode: u64, kind: FileType) {
        self.names.push((name.as_bytes().to_vec(), inode, kind.number()));
        self.truth.paths.entry(inode).or_default().push(format!("/{name}"));
    }

    fn file(&mut self, names: &[&'static str], extents: Vec<Extent>, mut attributes: Vec<Attribute>) -> u64 {
        let inode = self.builder.inode().unwrap();
        let extents = merged(&self.builder.geometry(), extents);
        let size =
            extents.iter().map(|e| e.offset.get() + u64::from(e.length.get())).max().unwrap_or(0) * 4096;
        self.truth.files.insert(inode, extents.clone());
        for name in names {
            self.name(name, inode, FileType::Regular);
            self.truth.inodes.insert(name, inode);
            attributes.push(Attribute::parent(name.as_bytes(), self.root));
        }
        let meta = Meta { size, uid: 1000, ..Meta::new(0o100_644, Self::now()) };
        let links = u32::try_from(names.len()).unwrap();
        self.builder.store(inode, &meta, links, Contents::Extents(extents), attributes).unwrap();
        inode
    }

    fn symlink(&mut self, name: &'static str, target: Vec<u8>) {
        let inode = self.builder.inode().unwrap();
        self.name(name, inode, FileType::Symlink);
        self.truth.inodes.insert(name, inode);
        let parent = Attribute::parent(name.as_bytes(), self.root);
        let meta = Meta::new(0o120_777, Self::now());
        self.builder.store(inode, &meta, 1, Contents::Target(target), vec![parent]).unwrap();
    }
}

/// The features of the sample.
pub fn features(change: &str) -> Features {
    Features::default().with(change).unwrap()
}

/// Makes the sample: 24 MiB in two groups.
pub fn sample(features: Features) -> (Vec<u8>, Truth) {
    let mut device = Device::memory(vec![0; 24 << 20]);
    let geometry = Geometry::choose(device.len(), None, features.csum).unwrap();
    let options = Options::new(geometry, features, Uuid([7; 16]), Maker::now());
    let mut builder = Builder::new(&mut device, options, true).unwrap();
    let root = builder.inode().unwrap();
    let mut maker = Maker { builder, truth: Truth::default(), names: Vec::new(), root };
    maker.truth.paths.insert(root, vec!["/".to_owned()]);
    maker.truth.inodes.insert("/", root);

    let one = maker.builder.allocate(0, 40).unwrap();
    let [run] = one.as_slice() else { panic!("40 blocks in one piece") };
    let start = run.start.get();
    let text = b"paxfs".iter().cycle().take(4096).copied().collect::<Vec<_>>();
    maker.builder.block_mut(start).unwrap().copy_from_slice(&text);
    maker.file(&["greeting", "second-name"], vec![extent(0, start, 4, false)], vec![]);
    if features.reflink {
        // Overlaps the first one partly, in the same order and out of it.
        maker.file(&["clone"], vec![extent(0, start, 2, false), extent(9, start + 2, 6, false)], vec![]);
        maker.file(&["third"], vec![extent(7, start + 1, 1, false), extent(20, start + 5, 2, false)], vec![]);
    }
    maker.file(&["unwritten"], vec![extent(1, start + 20, 3, true), extent(4, start + 23, 1, false)], vec![]);
    maker.file(&["empty"], vec![], vec![]);
    let pieces = maker.builder.allocate(0, 2 * PIECES).unwrap();
    let blocks: Vec<u64> =
        pieces.iter().flat_map(|e| e.start.get()..e.start.get() + u64::from(e.length.get())).collect();
    let odd = (0..).zip(blocks.chunks(2)).map(|(i, pair)| extent(2 * i, pair[0], 1, false));
    maker.file(&["pieces"], odd.collect(), vec![]);
    let value = |length: usize| Value::Bytes((0..length).map(|i| u8::try_from(i % 251).unwrap()).collect());
    let attributes = vec![
        Attribute { name: b"user.short".to_vec(), value: value(10) },
        Attribute { name: b"user.long".to_vec(), value: value(9000) },
    ];
    maker.file(&["attributed"], vec![extent(0, start + 30, 1, false)], attributes);
    let many = (0..150).map(|i| Attribute { name: format!("user.{i}").into_bytes(), value: value(900) });
    maker.file(&["many-attributes"], vec![], many.collect());
    maker.symlink("short-link", b"greeting".to_vec());
    maker.symlink("long-link", b"/x".iter().cycle().take(4000).copied().collect());
    let fifo = maker.builder.inode().unwrap();
    maker.name("fifo", fifo, FileType::Fifo);
    let parent = Attribute::parent(b"fifo", root);
    maker.builder.store(fifo, &Meta::new(0o010_600, Maker::now()), 1, Contents::None, vec![parent]).unwrap();

    let directory = maker.builder.inode().unwrap();
    maker.truth.inodes.insert("many", directory);
    let mut inside = Vec::new();
    for i in 0..MANY {
        let name = format!("entry-{i}");
        let inode = if i % 1000 == 0 {
            let inode = maker.builder.inode().unwrap();
            let parent = Attribute::parent(name.as_bytes(), directory);
            let meta = Meta::new(0o100_600, Maker::now());
            maker.builder.store(inode, &meta, 1, Contents::Extents(vec![]), vec![parent]).unwrap();
            maker.truth.paths.insert(inode, vec![format!("/many/{name}")]);
            inode
        } else {
            // Dangling, which no command minds.
            fifo
        };
        inside.push((name, inode));
    }
    let names = inside.iter().map(|(name, inode)| Name {
        name: name.as_bytes(),
        inode: *inode,
        generation: 1,
        kind: 8,
    });
    let entries = maker.builder.directory(directory, names).unwrap();
    let parent = Attribute::parent(b"many", root);
    let meta = Meta::new(0o040_755, Maker::now());
    maker.builder.store(directory, &meta, 1, Contents::Entries(entries), vec![parent]).unwrap();
    maker.name("many", directory, FileType::Directory);

    let Maker { mut builder, truth, names, .. } = maker;
    let names =
        names.iter().map(|(name, inode, kind)| Name { name, inode: *inode, generation: 1, kind: *kind });
    let entries = builder.directory(root, names).unwrap();
    builder.store(root, &meta, 1, Contents::Entries(entries), vec![]).unwrap();
    builder.finish(root).unwrap();
    (device.bytes(0, 24 << 20).unwrap().to_vec(), truth)
}

/// A volume on a device.
pub fn volume(device: &Device) -> Volume<Image<'_>> {
    let found = find(device).unwrap();
    Volume::new(Image::new(device), found.superblock, found.geometry)
}

/// Runs the program.
pub fn dbg(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The program, to be run.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbg-paxfs"));
    command.args(arguments);
    command
}

/// What the program printed on standard output; it must have succeeded.
pub fn printed(arguments: &[&str]) -> String {
    let output = dbg(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
pub fn json(arguments: &[&str]) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_str(&printed(arguments)).unwrap();
    assert_eq!(value["schema"], 1);
    value
}

/// The sample in a file.
pub fn sample_file(features: Features) -> (tempfile::TempDir, String, Truth) {
    let (bytes, truth) = sample(features);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path, truth)
}
