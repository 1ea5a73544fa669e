//! Images broken at random: no panic, no hang, the device untouched.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

use paxfs_format::device::Device;
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::header::Seed;
use paxfs_format::superblock::Superblock;
use paxfs_fsck::{Options, check};
use paxfs_mkfs::recipe::Recipe;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

fn image(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images").join(name);
    let recipe: Recipe = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap().to_vec()
}

/// How often, more when asked.
fn rounds(few: u64) -> u64 {
    std::env::var("PAXFS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

fn survives(bytes: Vec<u8>, what: &str) {
    let before = bytes.clone();
    let device = Device::memory(bytes);
    let options = Options { threads: NonZeroUsize::new(1), ..Options::default() };
    let begin = Instant::now();
    let mut count = 0u64;
    let _ = check(&device, &options, &mut |_| count += 1);
    assert!(begin.elapsed() < Duration::from_secs(20), "{what}: took {:?}", begin.elapsed());
    assert_eq!(device.bytes(0, before.len()).unwrap(), before, "{what}: changed the device");
}

/// Blocks that hold something.
fn in_use(bytes: &[u8]) -> Vec<usize> {
    let blocks = bytes.chunks(BLOCK_SIZE).enumerate();
    blocks.filter(|(_, block)| block.iter().any(|&byte| byte != 0)).map(|(number, _)| number).collect()
}

/// Changes some bytes of metadata, and makes the checksums fit again.
fn damage(random: &mut Random, bytes: &mut [u8], blocks: &[usize], seed: Seed) {
    for _ in 0..=random.below(4) {
        let block = blocks[random.below(blocks.len())];
        let range = block * BLOCK_SIZE..(block + 1) * BLOCK_SIZE;
        let other = blocks[random.below(blocks.len())];
        match random.below(8) {
            0 => bytes.copy_within(other * BLOCK_SIZE..(other + 1) * BLOCK_SIZE, range.start),
            1 => bytes[range.clone()].fill(0),
            _ => {
                let at = range.start + random.below(BLOCK_SIZE);
                let length = 1 << random.below(4);
                for byte in bytes[at..range.end.min(at + length)].iter_mut() {
                    *byte = match random.below(4) {
                        0 => 0,
                        1 => 0xff,
                        2 => *byte ^ 1 << random.below(8),
                        _ => u8::try_from(random.below(256)).unwrap(),
                    };
                }
            }
        }
        if random.below(4) != 0 {
            let block = &mut bytes[range];
            match &block[40..44] == b"PAXF" || &block[512..516] == b"PAXF" {
                true => block
                    .chunks_mut(512)
                    .filter(|slot| slot.starts_with(b"PAXF"))
                    .for_each(|slot| seed.seal(slot)),
                false => seed.seal(block),
            }
        }
    }
}

fn run(name: &str, few: u64) {
    let pristine = image(name);
    let superblock = Superblock::ref_from_bytes(&pristine[..BLOCK_SIZE]).unwrap();
    let seed = Seed::new(&superblock.uuid);
    let blocks = in_use(&pristine);
    for round in 0..rounds(few) {
        let mut random = Random(round);
        let mut bytes = pristine.clone();
        damage(&mut random, &mut bytes, &blocks, seed);
        survives(bytes, &format!("{name} round {round}"));
    }
}

#[test]
fn damaged_everything() {
    run("everything.yaml", 300);
}

#[test]
fn damaged_without_reverse_map() {
    run("no-rmap.yaml", 300);
}

#[test]
fn damaged_and_crashed() {
    run("crashed.yaml", 300);
}

#[test]
fn no_volumes_at_all() {
    let pristine = image("everything.yaml");
    for length in [0, 1, 4095, 4096, 8192, 65536, 1 << 20, pristine.len() - 4096, pristine.len() - 1] {
        survives(pristine[..length].to_vec(), &format!("cut to {length}"));
    }
    let mut random = Random(1);
    survives((0..1 << 20).map(|_| u8::try_from(random.below(256)).unwrap()).collect(), "random bytes");
    survives(vec![0; 1 << 20], "zeros");
    survives(vec![0xff; 1 << 20], "ones");
}
