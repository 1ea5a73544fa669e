//! What -p changes: it replays the journal, and marks a volume clean that was found so.
//!
//! **Crash by crash.** Replay stores whole lines whose contents follow from the journal alone, so doing it again gives
//! the same. (1) The lines are stored home and made durable; a crash before that leaves the journal as it was, and it is
//! replayed again. (2) Only then the superblock says that its transaction is home. All that changes of it is in its first
//! cache line: a crash leaves it as it was, or as it is.
//!
//! Marking clean first brings the copies of group headers up to date: by transactions, which are replayed, so that a crash
//! tears none. Then the copies of the superblock, of which again the first cache line changes; what the crash left in the
//! journal of a transaction that never happened is taken away; and that is made durable before the superblock says so. A
//! crash between leaves a superblock that is not clean: the next run checks again.

use crate::error::Error;
use crate::medium::{Medium, differing};
use core::mem::offset_of;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::group::GroupHeader;
use paxfs_format::header::{BlockKind, Expected, Seed};
use paxfs_format::journal::{Body, JournalRecord, JournalSlot, SLOTS, Slot};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::{State, Superblock};
use paxfs_format::time::Timestamp;
use paxfs_format::volume::{Found, find};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{SystemTime, UNIX_EPOCH};
use zerocopy::{FromBytes, IntoBytes};

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub transactions: usize,
    pub blocks: usize,
}

/// Whether a replay is needed, or cannot be done.
pub(crate) enum Pending {
    Nothing,
    Transactions,
    Damaged,
}

/// What the journal of a device waits for.
pub(crate) fn pending(device: &Device, superblock: &Superblock, geometry: &Geometry) -> Pending {
    let Ok(bytes) = JournalBytes::read(device, superblock, geometry) else { return Pending::Damaged };
    match bytes.replay() {
        replay if replay.fault.is_some() => Pending::Damaged,
        replay if replay.live.is_empty() => Pending::Nothing,
        _ => Pending::Transactions,
    }
}

/// Writes all live transactions home.
pub(crate) fn replay<M: Medium>(medium: &mut M) -> Result<Replayed, Error> {
    replay_at(medium, now())
}

/// The same, and it is `now`.
pub(crate) fn replay_at<M: Medium>(medium: &mut M, now: Timestamp) -> Result<Replayed, Error> {
    let found = find(medium)?;
    let (changed, transactions, last) = {
        let bytes = JournalBytes::read(medium, &found.superblock, &found.geometry)?;
        let replay = bytes.replay();
        let mut changed = BTreeMap::new();
        for write in replay.live.iter().flat_map(|transaction| &transaction.writes) {
            let block = match changed.entry(write.block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Box::new(*medium.block(write.block)?)),
            };
            write.apply(block);
        }
        let last = replay.live.last().map(|transaction| transaction.sequence);
        (changed, replay.live.len(), last)
    };
    let Some(last) = last else { return Ok(Replayed { transactions: 0, blocks: 0 }) };
    let blocks = changed.len();
    for (block, bytes) in changed {
        medium.put(block, &bytes)?;
    }
    medium.sync()?;
    advance(medium, last, now)?;
    Ok(Replayed { transactions, blocks })
}

/// Has the superblock say that all transactions up to `last` are home. They are, and that lasts.
pub(crate) fn advance<M: Medium>(medium: &mut M, last: u64, now: Timestamp) -> Result<(), Error> {
    let mut superblock = find(medium)?.superblock;
    superblock.header.generation = last.max(superblock.header.generation.get()).into();
    superblock.state = State::new(superblock.state.get() & !State::CLEAN);
    superblock.written = now;
    put_superblock(medium, superblock, 0)?;
    medium.sync()
}

/// Marks a volume clean and checked, which was found to be so. Nothing waits in its journal.
pub(crate) fn mark_clean<M: Medium>(medium: &mut M) -> Result<(), Error> {
    mark_clean_as(medium, None, now())
}

/// The same, and it is `now`, and the superblock is to be `wanted`, but for its generation, state and times.
pub(crate) fn mark_clean_as<M: Medium>(
    medium: &mut M,
    wanted: Option<&Superblock>,
    now: Timestamp,
) -> Result<(), Error> {
    while let Some((sequence, body)) = stale_copies(medium)? {
        commit(medium, sequence, &body, None)?;
        replay_at(medium, now)?;
    }
    let found = find(medium)?;
    let geometry = found.geometry;
    let idle: Vec<u64> = {
        let bytes = JournalBytes::read(medium, &found.superblock, &geometry)?;
        let replay = bytes.replay();
        let done = |slot: &Slot<'_>| matches!(slot, Slot::Done { .. });
        let done = (0..).zip(&replay.slots).filter(|(_, slot)| done(slot)).map(|(number, _)| number);
        replay.leftovers().chain(done).collect()
    };
    for slot in idle {
        clear_slot(medium, &geometry, slot)?;
    }
    let mut superblock = *wanted.unwrap_or(&found.superblock);
    superblock.header.generation = found.superblock.header.generation;
    superblock.state = State::new(State::CLEAN);
    superblock.written = now;
    superblock.checked = now.seconds;
    for group in geometry.group_numbers().skip(1) {
        put_superblock(medium, superblock, geometry.superblock(group))?;
    }
    medium.sync()?;
    put_superblock(medium, superblock, 0)?;
    medium.sync()
}

/// Makes the head of a slot zeros. What it holds is not needed.
pub(crate) fn clear_slot<M: Medium>(medium: &mut M, geometry: &Geometry, slot: u64) -> Result<(), Error> {
    let head = geometry.journal_slot(slot).saturating_mul(BLOCK_BYTES);
    medium.store(head, &[0; size_of::<JournalSlot>()])
}

/// Bytes of records that a slot has room for.
pub(crate) fn slot_room(geometry: &Geometry) -> u64 {
    let slot = (geometry.journal_blocks / SLOTS).saturating_mul(BLOCK_BYTES);
    slot.saturating_sub(size_of::<JournalSlot>() as u64)
}

/// The next transaction that brings copies of group headers up to date: its number and what it writes. `None` when they are.
fn stale_copies<M: Medium>(medium: &M) -> Result<Option<(u64, Body)>, Error> {
    let found = find(medium)?;
    let room = usize::try_from(slot_room(&found.geometry)).unwrap_or(usize::MAX);
    let mut body = Body::default();
    for group in found.geometry.group_numbers() {
        let Some(copy) = group_copy(medium, &found, group) else { continue };
        let place = found.geometry.group_copy(group);
        body.push_lines(place, differing(medium.block(place)?, &copy), &copy);
        // The next may be all of a block.
        if body.bytes().len().saturating_add(size_of::<JournalRecord>() + BLOCK_SIZE) > room {
            break;
        }
    }
    if body.is_empty() {
        return Ok(None);
    }
    let sequence = found.superblock.header.generation.get().checked_add(1);
    let sequence = sequence.filter(|_| body.bytes().len() <= room).ok_or(Error::Journal)?;
    Ok(Some((sequence, body)))
}

/// The copy that the header of a group should have; `None` when the header is damaged.
fn group_copy<M: Medium>(medium: &M, found: &Found, group: u32) -> Option<[u8; BLOCK_SIZE]> {
    let (place, seed) = (found.geometry.group_header(group), Seed::new(&found.superblock.uuid));
    let bytes = medium.block(place).ok()?;
    let expected = Expected { kind: BlockKind::GROUP, place, owner: group.into() };
    seed.verify(bytes).and_then(|header| expected.check(header)).ok()?;
    let mut copy = GroupHeader::read_from_bytes(bytes).ok()?;
    copy.header.place = found.geometry.group_copy(group).into();
    seed.seal(copy.as_mut_bytes());
    Some(zerocopy::transmute!(copy))
}

/// Commits a transaction. Nothing in its slot is needed. Its body goes there too, or `elsewhere`: to free blocks, from that
/// one on.
pub(crate) fn commit<M: Medium>(
    medium: &mut M,
    sequence: u64,
    body: &Body,
    elsewhere: Option<u64>,
) -> Result<(), Error> {
    let found = find(medium)?;
    let (slot, seed) = (sequence % SLOTS, Seed::new(&found.superblock.uuid));
    let place = found.geometry.journal_slot(slot);
    let offset = place.saturating_mul(BLOCK_BYTES);
    let word = offset.saturating_add(offset_of!(JournalSlot, commit) as u64);
    // The head must not be committed by a word that is there already.
    let stale = JournalSlot::ref_from_prefix(medium.block(place)?);
    if stale.is_ok_and(|(head, _)| head.commit.get() == sequence) {
        clear_slot(medium, &found.geometry, slot)?;
        medium.sync()?;
    }
    let head = match elsewhere {
        None => {
            medium.store(offset.saturating_add(size_of::<JournalSlot>() as u64), body.bytes())?;
            body.head(seed, place, sequence)
        }
        Some(block) => {
            medium.store(block.saturating_mul(BLOCK_BYTES), body.bytes())?;
            body.head_elsewhere(seed, place, sequence, block)
        }
    };
    medium.store(offset, head.as_bytes())?;
    medium.sync()?;
    medium.store(word, &sequence.to_le_bytes())?;
    medium.sync()
}

/// Stores a superblock or copy, sealed for its place, as far as it is not there already.
pub(crate) fn put_superblock<M: Medium>(
    medium: &mut M,
    mut superblock: Superblock,
    block: u64,
) -> Result<(), Error> {
    superblock.header.place = block.into();
    Seed::new(&superblock.uuid).seal(superblock.as_mut_bytes());
    medium.put(block, &zerocopy::transmute!(superblock))
}

/// The time, or 1970 on a machine without a clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::check::check;
    use paxfs_format::image::Image;
    use paxfs_format::volume::Volume;

    const BYTES: usize = 8 << 20;

    /// A volume that was not closed, with headers that their copies are behind of.
    fn crashed() -> Vec<u8> {
        let geometry = Geometry::choose(BYTES as u64, Some(2), false).unwrap();
        let mut device = Device::memory(vec![0; BYTES]);
        let options = paxfs_mkfs::options::Options::new(
            geometry,
            paxfs_mkfs::options::Features::default(),
            paxfs_format::units::Uuid([9; 16]),
            Timestamp::new(1_800_000_000, 0),
        );
        let mut builder = paxfs_mkfs::builder::Builder::new(&mut device, options, true).unwrap();
        let root = paxfs_mkfs::run::empty(&mut builder).unwrap();
        builder.finish(root).unwrap();
        let mut superblock = find(&device).unwrap().superblock;
        let generation = superblock.header.generation.get() + 5;
        superblock.header.generation = generation.into();
        superblock.state = State::new(0);
        put_superblock(&mut device, superblock, 0).unwrap();
        for group in geometry.group_numbers() {
            let place = geometry.group_header(group);
            let seed = Seed::new(&superblock.uuid);
            let mut header = *Volume::new(Image::new(&device), superblock, geometry).group(group).unwrap();
            header.header.generation = generation.into();
            seed.seal(header.as_mut_bytes());
            device.put(place, &zerocopy::transmute!(header)).unwrap();
        }
        device.bytes(0, BYTES).unwrap().to_vec()
    }

    /// Findings that a crash may leave, and no others.
    fn assert_sound(image: &[u8]) {
        check(&Device::memory(image.to_vec()), &crate::check::Options::default(), &mut |finding| {
            let code = finding.problem.code();
            assert!(["PX-STATE-OPEN", "PX-JOURNAL-PENDING"].contains(&code), "{finding:?}");
        })
        .unwrap();
    }

    /// Units that one image has and another has not, each alone, and all but each.
    fn assert_no_tear(from: &[u8], to: &[u8], unit: usize) {
        let differs = |at: &usize| from[*at..*at + unit] != to[*at..*at + unit];
        for at in (0..BYTES).step_by(unit).filter(differs) {
            for (one, other) in [(from, to), (to, from)] {
                let mut image = one.to_vec();
                image[at..at + unit].copy_from_slice(&other[at..at + unit]);
                assert_sound(&image);
            }
        }
    }

    #[test]
    fn marking_clean_is_before_or_after() {
        let mut device = Device::memory(crashed());
        let geometry = find(&device).unwrap().geometry;
        let bytes = |device: &Device| device.bytes(0, BYTES).unwrap().to_vec();
        let before = bytes(&device);
        assert_sound(&before);
        let (sequence, body) = stale_copies(&device).unwrap().unwrap();
        commit(&mut device, sequence, &body, None).unwrap();
        let committed = bytes(&device);
        let mut written = committed.clone();
        let slot = usize::try_from(geometry.journal_slot(sequence % SLOTS)).unwrap() * BLOCK_SIZE;
        written[slot + offset_of!(JournalSlot, commit)..][..size_of::<u64>()].fill(0);
        replay(&mut device).unwrap();
        let replayed = bytes(&device);
        assert!(stale_copies(&device).unwrap().is_none());
        mark_clean(&mut device).unwrap();
        let images = [before, written, committed, replayed, bytes(&device)];
        for pair in images.windows(2) {
            // Block 0 is stored when all else is durable.
            let mut between = pair[1].clone();
            between[..BLOCK_SIZE].copy_from_slice(&pair[0][..BLOCK_SIZE]);
            for unit in [64, 512] {
                assert_no_tear(&pair[0], &between, unit);
                assert_no_tear(&between, &pair[1], unit);
            }
        }
        let mut findings = 0;
        check(&device, &crate::check::Options::default(), &mut |_| findings += 1).unwrap();
        assert_eq!(findings, 0);
    }
}
