#![allow(dead_code)] // Each test uses a part.
//! A volume on memory that outlives its engine.

pub mod crash;
pub mod kill;
pub mod media;

use paxfs_format::device::Device;
use paxfs_format::geometry::Geometry;
use paxfs_format::time::Timestamp;
use paxfs_format::units::Uuid;
use paxfs_fsck::Finding;
use paxfs_mkfs::builder::Builder;
use paxfs_mkfs::options::{Features, Options};
use paxfs_runtime::engine::{self, Engine};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// An empty volume as bytes.
pub fn volume(bytes: usize) -> Vec<u8> {
    volume_of(bytes, None)
}

/// An empty volume of so many groups as bytes.
pub fn volume_of(bytes: usize, groups: Option<u64>) -> Vec<u8> {
    volume_with(bytes, groups, Features::default())
}

/// An empty volume with these features as bytes.
pub fn volume_with(bytes: usize, groups: Option<u64>, features: Features) -> Vec<u8> {
    let mut device = Device::memory(vec![0; bytes]);
    let geometry = Geometry::choose(device.len(), groups, false).unwrap();
    let options = Options::new(geometry, features, Uuid([9; 16]), Timestamp::new(1_800_000_000, 0));
    let mut builder = Builder::new(&mut device, options, true).unwrap();
    let root = paxfs_mkfs::run::empty(&mut builder).unwrap();
    builder.finish(root).unwrap();
    device.bytes(0, bytes).unwrap().to_vec()
}

/// A medium that a test keeps.
pub struct Disk {
    pub medium: Arc<Recorder>,
}

impl Disk {
    pub fn new(bytes: usize) -> Self {
        Disk { medium: Arc::new(Recorder::forgetful(volume(bytes), Granularity::CacheLine)) }
    }

    pub fn of_groups(bytes: usize, groups: u64) -> Self {
        let bytes = volume_of(bytes, Some(groups));
        Disk { medium: Arc::new(Recorder::forgetful(bytes, Granularity::CacheLine)) }
    }

    /// What another would find on it now.
    pub fn copy(&self) -> Self {
        Disk { medium: Arc::new(Recorder::forgetful(self.medium.now(), Granularity::CacheLine)) }
    }

    pub fn open(&self) -> Engine {
        let medium: Arc<dyn Medium> = self.medium.clone();
        let options =
            engine::Options { interval: Duration::ZERO, dax: engine::Dax::Always, ..Default::default() };
        Engine::on_medium(medium, options).unwrap()
    }
}

/// A check that finds nothing.
pub fn check(disk: &Disk) {
    check_bytes(disk.medium.now());
}

/// A check that finds nothing.
pub fn check_bytes(bytes: Vec<u8>) {
    let findings = findings(bytes).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What a check finds.
pub fn findings(bytes: Vec<u8>) -> Result<Vec<Finding>, paxfs_fsck::Error> {
    let device = Device::memory(bytes);
    let mut findings = Vec::new();
    let options = paxfs_fsck::Options { threads: std::num::NonZeroUsize::new(1), ..Default::default() };
    paxfs_fsck::check(&device, &options, &mut |finding| findings.push(finding))?;
    Ok(findings)
}

/// A new file in the root.
pub fn create(engine: &Engine, name: &str) -> File {
    let inode = engine.create(engine.root(), name.as_bytes(), &New::default()).unwrap();
    engine.open_file(inode, Open::WRITE).unwrap()
}

/// What a file has in a range, as far as it goes.
pub fn read(file: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let there = file.read_at(offset, &mut bytes).unwrap();
    bytes.truncate(there);
    bytes
}

/// Runs of `length` operations each, until there were as many as the environment says.
pub fn long_runs<O: Debug>(
    variable: &str,
    default: u64,
    length: usize,
    op: impl Strategy<Value = O>,
    run: impl Fn(&[O]),
) {
    let wanted = kill::number_from(variable).unwrap_or(default);
    let mut runner = TestRunner::deterministic();
    let ops = proptest::collection::vec(op, length);
    let mut done = 0;
    while done < wanted {
        let ops = ops.new_tree(&mut runner).unwrap().current();
        run(&ops);
        done += ops.len() as u64;
    }
    println!("{done} operations without a difference");
}
