//! A repair that was interrupted is completed by the engine too, when it opens the volume: its body is in free blocks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects by failing"
)]

use paxfs_format::device::Device;
use paxfs_format::time::Timestamp;
use paxfs_format::volume::find;
use paxfs_fsck::crash::{Budget, Step, crash_states};
use paxfs_fsck::{Options as Check, Repair, check};
use paxfs_mkfs::recipe::Recipe;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a check finds.
fn found(device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    check(device, &Check::default(), &mut |finding| found.push(finding.problem.code().to_owned())).unwrap();
    found
}

#[test]
fn an_interrupted_repair_is_completed() {
    let recipe: Recipe = "volume: {size: 4M}\nfiles: [{path: /a, size: 9k, seed: 1}]".parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    let sound = device.bytes(0, 4 << 20).unwrap().to_vec();
    let superblock = find(&device).unwrap();
    // Both group headers, and their copies.
    let mut damaged = sound.clone();
    let mut blocks = BTreeMap::new();
    for block in [1, 2, 513, 514] {
        let at = usize::try_from(block).unwrap() * 4096;
        damaged[at + 100] ^= 0xff;
        damaged[at + 200] ^= 0xff;
        blocks.insert(block, Box::new(*device.block(block).unwrap()));
    }
    let repair = Repair {
        superblock: &superblock.superblock,
        geometry: &superblock.geometry,
        blocks: &blocks,
        free: core::slice::from_ref(&(900..1000)),
        now: Timestamp::new(1_900_000_000, 0),
    };
    let budget = Budget { each: 40, subsets: 20, seed: 1 };
    let (mut completed, mut untouched) = (0, 0);
    let (_, crashes) = crash_states(&damaged, &Step::WriteFree(&repair), budget, &mut |crash| {
        let device = Device::memory(crash.image.to_vec());
        let is_damaged = found(&device).iter().any(|code| code.starts_with("PX-GROUP"));
        let medium = Arc::new(Recorder::forgetful(crash.image.to_vec(), Granularity::CacheLine));
        let opened = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, Options::default());
        if is_damaged {
            untouched += 1;
            return;
        }
        completed += 1;
        let engine = opened.unwrap_or_else(|error| panic!("{}: {error}", crash.name));
        // It gives out all that is free, the blocks that have the body too.
        let inode = engine.create(engine.root(), b"all", &New::default()).unwrap();
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        while file.append(&[0x77; 4096]).is_ok() {}
        drop(file);
        engine.close().unwrap();
        let closed = medium.now();
        assert_eq!(closed[900 * 4096..901 * 4096], [0x77; 4096]);
        assert_eq!(found(&Device::memory(closed.clone())), [""; 0], "{}", crash.name);
    })
    .unwrap();
    assert!(completed > 20 && untouched > 20, "{completed} and {untouched} of {crashes}");
}
