//! The target of journals.

use crate::draw::Draw;
use paxfs_format::declare::OnDisk;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry};
use paxfs_format::header::Seed;
use paxfs_format::image::Image;
use paxfs_format::journal::{JournalSlot, SEALED_HEAD, SLOTS, bodies_elsewhere, replay};
use paxfs_format::units::Uuid;
use zerocopy::{FromBytes, IntoBytes};

/// The volume that the journals are of.
const UUID: Uuid = Uuid([0x11; 16]);

/// A journal of any contents, its checksums made to fit if its first byte says so.
///
/// Must hold: nothing panics; at most two transactions are live, in order, and newer than the superblock; no write leaves
/// the volume or hits the journal; to apply them twice is to apply them once.
pub fn journal_replay(data: &[u8]) {
    let Ok(geometry) = Geometry::choose(4 << 20, None, false) else { return };
    let seed = Seed::new(&UUID);
    let mut draw = Draw::new(data);
    let fit = draw.byte();
    let generation = draw.below(16);
    let mut journal = vec![0; bytes(geometry.journal_blocks)];
    journal.iter_mut().zip(draw.rest()).for_each(|(to, from)| *to = *from);
    let half = journal.len() / 2;
    let (first, second) = journal.split_at_mut(half);
    for (number, slot) in [first, second].into_iter().enumerate() {
        if fit >> number & 1 != 0 {
            make_fit(slot, seed, fit >> (2 + number) & 1 != 0);
        }
    }
    // A body elsewhere has the bytes behind its head, if they are as many as it asks for.
    let runs = bodies_elsewhere(&journal, &geometry, seed, generation);
    let mut behind = [0, half].into_iter().map(|slot| journal.get(slot + size_of::<JournalSlot>()..));
    let elsewhere = runs.clone().map(|run| {
        let (behind, run) = (behind.next().flatten()?, run?);
        assert!(run.start < run.end && run.end <= geometry.blocks, "a body outside the volume: {run:?}");
        behind.get(..bytes(run.end - run.start).min(behind.len()))
    });
    let found = replay(&journal, elsewhere, &geometry, seed, generation);
    assert!(found.live.len() <= 2, "{} live transactions", found.live.len());
    let numbers: Vec<u64> = found.live.iter().map(|live| live.sequence).collect();
    assert!(numbers.iter().all(|number| *number > generation), "live transactions that are in their homes");
    assert!(
        numbers.windows(2).all(|pair| matches!(pair, [a, b] if a.checked_add(1) == Some(*b))),
        "{numbers:?}"
    );
    for (live, write) in found.live.iter().flat_map(|live| live.writes.iter().map(move |write| (live, write)))
    {
        let own = usize::try_from(live.slot).ok().and_then(|slot| runs.get(slot)?.clone());
        assert!(
            own.is_none_or(|run| !run.contains(&write.block)),
            "a write to its own body: {}",
            write.block
        );
    }
    for write in found.live.iter().flat_map(|live| &live.writes) {
        assert!(
            write.block < geometry.blocks && !geometry.journal().contains(&write.block),
            "{}",
            write.block
        );
    }
    let device = Device::memory(vec![0; bytes(geometry.blocks)]);
    let (mut once, mut twice) = (Image::new(&device), Image::new(&device));
    for image in [&mut once, &mut twice] {
        assert!(image.apply(&found.live).is_ok(), "a write outside the volume");
    }
    assert!(twice.apply(&found.live).is_ok(), "a second time differs from the first");
    assert!(once.changed().eq(twice.changed()), "replay is not idempotent");
}

/// Makes the checksums of a slot fit, and its commit word if asked, so that more than the first test is met.
fn make_fit(slot: &mut [u8], seed: Seed, commit: bool) {
    let Ok((head, rest)) = JournalSlot::mut_from_prefix(slot) else { return };
    let used = usize::try_from(head.bytes.get()).unwrap_or(usize::MAX);
    head.body_crc = seed.plain(rest.get(..used).unwrap_or(rest)).into();
    // A random number is hardly ever a place: low ones are, every other time.
    if head.body.get() % 2 == 0 {
        head.body = 0.into();
    } else {
        head.body = (head.body.get() % (4 << 20 >> 12)).into();
    }
    if commit {
        head.commit = head.header.generation;
    }
    debug_assert_eq!(JournalSlot::LAYOUT.size, head.as_bytes().len());
    seed.seal(head.as_mut_bytes().split_at_mut(SEALED_HEAD).0);
}

fn bytes(blocks: u64) -> usize {
    debug_assert!(blocks >= SLOTS);
    usize::try_from(blocks * BLOCK_BYTES).unwrap_or(0)
}
