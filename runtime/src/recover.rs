//! Recovery: what a crash left is brought to where it belongs, and the volume is marked as open.
//!
//! A medium that fails meanwhile: block 0 and the headers of a clean volume have copies, and a journal that has nothing to
//! replay is not needed. A journal that may have something and cannot be read whole is refused, for what it has is nowhere
//! else. A home that fails is lost, unless the journal has all of it.

use crate::close::store_superblock;
use crate::core::now;
use crate::error::{Error, Result};
use crate::homes::store_lines;
use crate::media::bytes_of;
use crate::medium::{Medium, Point};
use crate::pages::Pages;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry};
use paxfs_format::journal::{self, JournalSlot, Write};
use paxfs_format::superblock::{State, Superblock};
use paxfs_format::volume::Volume;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Longest journal that is read. `mkfs.paxfs` makes none above a quarter of that.
const JOURNAL_BLOCKS_MAX: u64 = 1 << 16;
/// Highest number of a last transaction with which a volume is opened: more can follow than ever will.
const TRANSACTION_MAX: u64 = 1 << 63;
/// How often stores are made again that were lost because a block beside them failed.
const TRIES: u32 = 8;

/// Replays the journal and marks the volume as open. Returns the superblock and the number of the last transaction.
pub(crate) fn recover(medium: &Arc<dyn Medium>) -> Result<(Superblock, u64)> {
    let blocks = Pages::new(Arc::clone(medium), None);
    // No crash tears it; what else may happen to block 0 leaves a copy.
    let superblock = paxfs_format::volume::find(&blocks)?.superblock;
    superblock.understood()?;
    let geometry = Geometry::of(&superblock).map_err(|error| Error::damaged("the superblock", error))?;
    if geometry.blocks.saturating_mul(BLOCK_BYTES) > medium.len() {
        return Err(Error::damaged("the superblock", "the device is shorter than the volume"));
    }
    if geometry.journal_blocks > JOURNAL_BLOCKS_MAX {
        return Err(Error::ReadOnly("the engine keeps no journal of more than 256 MiB"));
    }
    let volume = Volume::new(blocks, superblock, geometry);
    let medium = &**medium;
    let is_clean = superblock.state.get() & State::CLEAN != 0;
    let bytes = load_journal(medium, &geometry, is_clean)?;
    let generation = superblock.header.generation.get();
    let mut bodies = [None, None];
    let elsewhere = journal::bodies_elsewhere(&bytes, &geometry, volume.seed, generation);
    for (body, run) in bodies.iter_mut().zip(elsewhere) {
        *body = run.map(|run| load_body(medium, run)).transpose()?;
    }
    let [first, second] = &bodies;
    let elsewhere = [first.as_deref(), second.as_deref()];
    let replay = journal::replay(&bytes, elsewhere, &geometry, volume.seed, generation);
    if let Some(fault) = replay.fault {
        return Err(fault.into());
    }
    let last = replay.live.last().map_or(generation, |live| live.sequence);
    if last > TRANSACTION_MAX {
        return Err(Error::damaged(
            "the superblock or the journal",
            "there is no number left for a transaction",
        ));
    }
    for transaction in &replay.live {
        store_homes(medium, &transaction.writes)?;
    }
    // What is no whole transaction is nothing; who closes the volume may not come round to its slot.
    for slot in replay.leftovers() {
        let head = geometry.journal_slot(slot) * BLOCK_BYTES;
        medium.zero_nt(head..head + size_of::<JournalSlot>() as u64);
    }
    if is_clean {
        restore_headers(medium, &volume);
    }
    // All that is durable before the superblock says so: it makes the journal's transactions old, and copies.
    let _homes = medium.fence(Point::Recovered)?;
    let mut open = superblock;
    open.header.generation = last.into();
    open.state = State::new(open.state.get() & !State::CLEAN);
    open.written = now();
    let place = geometry.superblock(0);
    heal(medium, place);
    store_superblock(medium, &volume.seed, open, place);
    // Nothing else is stored before it is known that the volume is open.
    let _opened = medium.fence(Point::Opened)?;
    if medium.has_failed(bytes_of(place)) {
        return Err(Error::lost("the superblock", place));
    }
    // What failed only beside another is good again for those who read now.
    medium.narrow();
    Ok((open, last))
}

/// Heals a block, if it failed, all of which is about to be stored.
fn heal(medium: &dyn Medium, block: u64) -> bool {
    !medium.has_failed(bytes_of(block)) || medium.heal(block)
}

/// The journal, whole; or what of it can be read, when nothing in it is needed, and the rest healed.
fn load_journal(medium: &dyn Medium, geometry: &Geometry, is_clean: bool) -> Result<Vec<u8>> {
    let journal = geometry.journal();
    let range = journal.start * BLOCK_BYTES..journal.end * BLOCK_BYTES;
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    medium.load(range.start, &mut bytes);
    if !medium.has_failed(range) {
        return Ok(bytes);
    }
    medium.narrow();
    for (block, bytes) in journal.zip(bytes.chunks_exact_mut(4096)) {
        if !medium.has_failed(bytes_of(block)) {
            medium.load(block * BLOCK_BYTES, bytes);
        } else if !is_clean || !medium.heal(block) {
            return Err(Error::lost("the journal", block));
        }
    }
    Ok(bytes)
}

/// The body of a transaction that is not in its slot: that of a repair which was interrupted. It is needed, or nobody asks.
fn load_body(medium: &dyn Medium, run: Range<u64>) -> Result<Vec<u8>> {
    if run.end.saturating_sub(run.start) > JOURNAL_BLOCKS_MAX {
        return Err(Error::ReadOnly(
            "an interrupted repair left more than 256 MiB to be written: fsck.paxfs -p completes it",
        ));
    }
    let range = run.start * BLOCK_BYTES..run.end * BLOCK_BYTES;
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    medium.load(range.start, &mut bytes);
    if medium.has_failed(range) {
        // What failed only beside another is good again.
        medium.narrow();
        for (block, bytes) in run.zip(bytes.chunks_exact_mut(4096)) {
            medium.load(block * BLOCK_BYTES, bytes);
            if medium.has_failed(bytes_of(block)) {
                return Err(Error::lost("the journal", block));
            }
        }
    }
    Ok(bytes)
}

/// Stores lines of the journal to their homes. Those that failed are healed where all of them is stored.
fn store_homes(medium: &dyn Medium, writes: &[Write<'_>]) -> Result<()> {
    for _ in 0..TRIES {
        let before = medium.failures();
        for write in writes {
            if !medium.has_failed(bytes_of(write.block))
                || write.lines == u64::MAX && medium.heal(write.block)
            {
                store_lines(medium, write, Point::Recovered);
            }
        }
        if medium.failures() <= before {
            return Ok(());
        }
        medium.narrow();
    }
    Err(Error::lost("the volume (the medium fails faster than it is recovered)", 0))
}

/// Writes headers of groups anew out of their copies, where the medium failed, or a crash left zeros while that was done.
/// For a clean volume: its copies are equal.
fn restore_headers(medium: &dyn Medium, volume: &Volume<Pages>) {
    for group in volume.geometry.group_numbers() {
        let (Err(_), Ok(copy)) = (volume.group(group), volume.group_copy(group)) else { continue };
        let place = volume.geometry.group_header(group);
        let mut header = *copy;
        header.header.place = place.into();
        volume.seed.seal(header.as_mut_bytes());
        // Other damage is for a check to tell.
        let is_zeroed = volume.blocks.block(place).is_ok_and(|bytes| {
            bytes.iter().zip(header.as_bytes()).all(|(there, new)| *there == 0 || there == new)
        });
        if is_zeroed && heal(medium, place) {
            medium.store_nt(place * BLOCK_BYTES, header.as_bytes());
        }
    }
}
