//! Commands on damaged volumes: no panic, no hang, and an exit status that is documented.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{command, features, sample, volume};
use paxfs_format::device::Device;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Commands that look at all there is.
const COMMANDS: &[&str] = &[
    "sb",
    "group",
    "group 0",
    "owner 0..6144",
    "owner -s 0..6144",
    "tree free",
    "tree rmap",
    "tree refcount -n",
    "tree inodes",
    "tree clusters",
    "tree extents /pieces",
    "tree directory /many",
    "tree attributes /many-attributes",
    "inode /greeting",
    "inode /many",
    "block 1",
    "block 40",
    "show rmap[0].leaf[1]",
    "show journal.slot[0]",
    "show inode[/attributed].attributes.entry[1].block[0]",
    "diff IMAGE",
    "ls -lR /",
    "path 33",
    "cat /pieces",
    "extents /pieces",
    "space",
    "freesp",
    "huge",
    "sharing",
    "journal",
];

/// Runs all commands at the prompt of one process.
fn run_all(image: &Path) {
    let image = image.to_str().unwrap();
    let lines: String = COMMANDS.iter().map(|line| line.replace("IMAGE", image) + "\n").collect();
    for format in ["-J", "-Y"].into_iter().map(Some).chain([None]) {
        let mut arguments: Vec<_> = format.into_iter().collect();
        arguments.push(image);
        let mut child = command(&arguments);
        let started = Instant::now();
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}: {said}", output.status);
        assert!(!said.contains("panicked"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(60), "took {:?}", started.elapsed());
    }
}

#[test]
fn random_damage() {
    let (good, _) = sample(features("rmap,reflink,csum"));
    let device = Device::memory(good.clone());
    let seed = volume(&device).seed;
    let used: Vec<usize> = good
        .chunks_exact(4096)
        .enumerate()
        .filter(|(_, block)| block.starts_with(b"PAXF"))
        .map(|(block, _)| block)
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let cases = std::env::var("PAXFS_DAMAGE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let change = (any::<prop::sample::Index>(), 8usize..600, any::<u8>(), any::<bool>());
    let result = runner.run(&prop::collection::vec(change, 1..30), |changes| {
        let mut bytes = good.clone();
        for (block, at, value, sealed) in &changes {
            let start = used[block.index(used.len())] * 4096;
            bytes[start + at] = *value;
            if *sealed {
                // A checksum that fits lets the damage through: of the block, and of each inode in it.
                seed.seal(&mut bytes[start..][..4096]);
                if bytes[start + 8] == 15 {
                    bytes[start..][..4096].chunks_exact_mut(512).for_each(|inode| seed.seal(inode));
                }
            }
        }
        std::fs::write(&image, &bytes).unwrap();
        run_all(&image);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn files_that_are_no_volumes() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let (good, _) = sample(features("rmap,reflink"));
    let noise: Vec<u8> =
        (0u32..4 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 23).to_le_bytes()[0]).collect();
    let headless = [&vec![0; 8192], &good[8192..]].concat();
    for bytes in
        [&[][..], &[7; 100], &vec![0; 5 << 20], &noise, &good[..7 << 20], &good[..4096 * 3], &headless]
    {
        std::fs::write(&image, bytes).unwrap();
        run_all(&image);
    }
}
