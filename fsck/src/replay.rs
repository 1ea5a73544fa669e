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
use core::mem::offset_of;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::header::Seed;
use paxfs_format::image::Image;
use paxfs_format::journal::{Body, JournalRecord, JournalSlot, LINE_SIZE, SLOTS};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::{State, Superblock};
use paxfs_format::time::Timestamp;
use paxfs_format::volume::{Volume, find};
use std::time::{SystemTime, UNIX_EPOCH};
use zerocopy::IntoBytes;

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

/// Writes all committed transactions home.
pub(crate) fn replay(device: &mut Device) -> Result<Replayed, Error> {
    let found = find(&*device)?;
    let (changed, transactions, last) = {
        let bytes = JournalBytes::read(&*device, &found.superblock, &found.geometry)?;
        let replay = bytes.replay();
        let mut image = Image::new(device);
        image.apply(&replay.live)?;
        let last = replay.live.last().map(|transaction| transaction.sequence);
        (image.into_changed(), replay.live.len(), last)
    };
    let Some(last) = last else { return Ok(Replayed { transactions: 0, blocks: 0 }) };
    let blocks = changed.len();
    for (block, bytes) in changed {
        device.bytes_mut(block.saturating_mul(BLOCK_BYTES), BLOCK_SIZE)?.copy_from_slice(bytes.as_slice());
    }
    device.sync()?;
    let mut superblock = find(&*device)?.superblock;
    superblock.header.generation = last.max(superblock.header.generation.get()).into();
    superblock.state = State::new(superblock.state.get() & !State::CLEAN);
    superblock.written = now();
    put_superblock(device, superblock, 0)?;
    device.sync()?;
    Ok(Replayed { transactions, blocks })
}

/// Marks a volume clean and checked, which was found to be so. Nothing waits in its journal.
pub(crate) fn mark_clean(device: &mut Device) -> Result<(), Error> {
    while let Some((sequence, body)) = stale_copies(device)? {
        commit(device, sequence, &body)?;
        replay(device)?;
    }
    let found = find(&*device)?;
    let geometry = found.geometry;
    let leftovers: Vec<u64> =
        JournalBytes::read(&*device, &found.superblock, &geometry)?.replay().leftovers().collect();
    for slot in leftovers {
        let head = geometry.journal_slot(slot).saturating_mul(BLOCK_BYTES);
        device.bytes_mut(head, size_of::<JournalSlot>())?.fill(0);
    }
    let mut superblock = found.superblock;
    superblock.state = State::new(State::CLEAN);
    superblock.written = now();
    superblock.checked = superblock.written.seconds;
    for group in geometry.group_numbers().skip(1) {
        put_superblock(device, superblock, geometry.superblock(group))?;
    }
    device.sync()?;
    put_superblock(device, superblock, 0)?;
    device.sync()?;
    Ok(())
}

/// The next transaction that brings copies of group headers up to date: its number and what it writes. `None` when they are.
fn stale_copies(device: &Device) -> Result<Option<(u64, Body)>, Error> {
    let found = find(device)?;
    let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
    let room = (found.geometry.journal_blocks / SLOTS).saturating_mul(BLOCK_BYTES);
    let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(size_of::<JournalSlot>());
    let mut body = Body::default();
    for group in volume.geometry.group_numbers() {
        let Ok(header) = volume.group(group) else { continue };
        let place = volume.geometry.group_copy(group);
        let mut copy = *header;
        copy.header.place = place.into();
        volume.seed.seal(copy.as_mut_bytes());
        let copy: [u8; BLOCK_SIZE] = zerocopy::transmute!(copy);
        let (old, new) = (device.block(place)?.as_chunks::<LINE_SIZE>().0, copy.as_chunks::<LINE_SIZE>().0);
        let differing = (0..).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
        let lines = differing.fold(0, |lines, (line, _): (u32, _)| lines | 1_u64 << line);
        body.push_lines(place, lines, &copy);
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

/// Commits a transaction. Nothing in its slot is needed.
fn commit(device: &mut Device, sequence: u64, body: &Body) -> Result<(), Error> {
    let found = find(&*device)?;
    let place = found.geometry.journal_slot(sequence % SLOTS);
    let offset = place.saturating_mul(BLOCK_BYTES);
    let head = body.head(Seed::new(&found.superblock.uuid), place, sequence);
    let slot = device.bytes_mut(offset, size_of::<JournalSlot>().saturating_add(body.bytes().len()))?;
    slot.iter_mut().zip(head.as_bytes().iter().chain(body.bytes())).for_each(|(to, from)| *to = *from);
    device.sync()?;
    let word = offset.saturating_add(offset_of!(JournalSlot, commit) as u64);
    device.bytes_mut(word, size_of::<u64>())?.copy_from_slice(&sequence.to_le_bytes());
    device.sync()?;
    Ok(())
}

/// Stores a superblock or copy, sealed for its place.
fn put_superblock(device: &mut Device, mut superblock: Superblock, block: u64) -> Result<(), Error> {
    superblock.header.place = block.into();
    Seed::new(&superblock.uuid).seal(superblock.as_mut_bytes());
    store(device, block, superblock.as_bytes())
}

/// Stores a block, if it is not there already.
fn store(device: &mut Device, block: u64, bytes: &[u8]) -> Result<(), Error> {
    if device.block(block)?.as_slice() != bytes {
        device.bytes_mut(block.saturating_mul(BLOCK_BYTES), BLOCK_SIZE)?.copy_from_slice(bytes);
    }
    Ok(())
}

/// The time, or 1970 on a machine without a clock.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::check::check;

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
            store(&mut device, place, header.as_bytes()).unwrap();
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
        commit(&mut device, sequence, &body).unwrap();
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
