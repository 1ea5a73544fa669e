//! What -p changes: it replays the journal, and marks a volume clean that was found so.
//!
//! **Crash by crash.** Replay stores whole lines whose contents follow from the journal alone, so doing it again gives
//! the same. (1) The lines are stored home and made durable; a crash before that leaves the journal as it was, and it is
//! replayed again. (2) Only then the superblock says that its transaction is home. All that changes of it is in its first
//! cache line: a crash leaves it as it was, or as it is.
//!
//! Marking clean first brings all copies up to date, takes away what the crash left of a transaction that never happened,
//! and makes that durable; then it writes the superblock. A crash between
//! leaves a superblock that is not clean: the next run checks again. A copy of a group header that was torn is damage to it;
//! the next who opens the volume and closes it writes it anew.

use crate::error::Error;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::header::Seed;
use paxfs_format::image::Image;
use paxfs_format::journal::JournalSlot;
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
    match crate::journal::read(device, superblock, geometry) {
        Ok(replay) if replay.fault.is_some() => Pending::Damaged,
        Ok(replay) if replay.live.is_empty() => Pending::Nothing,
        Ok(_) => Pending::Transactions,
        Err(_) => Pending::Damaged,
    }
}

/// Writes all committed transactions home.
pub(crate) fn replay(device: &mut Device) -> Result<Replayed, Error> {
    let found = find(&*device)?;
    let (changed, transactions, last) = {
        let replay = crate::journal::read(device, &found.superblock, &found.geometry)?;
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

/// Marks a volume clean and checked, which was found to be so.
pub(crate) fn mark_clean(device: &mut Device) -> Result<(), Error> {
    let found = find(&*device)?;
    let geometry = found.geometry;
    let seed = Seed::new(&found.superblock.uuid);
    for group in geometry.group_numbers() {
        let (block, copy) = {
            let volume = Volume::new(Image::new(device), found.superblock, geometry);
            let Ok(header) = volume.group(group) else { continue };
            let place = geometry.group_copy(group);
            let mut copy = *header;
            copy.header.place = place.into();
            seed.seal(copy.as_mut_bytes());
            (place, copy)
        };
        store(device, block, copy.as_bytes())?;
    }
    let leftovers: Vec<u64> =
        crate::journal::read(device, &found.superblock, &geometry)?.leftovers().collect();
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
