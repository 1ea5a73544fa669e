//! A finished repair is written to the device, as one step that a crash leaves done or not begun.
//!
//! 1. Block 0 becomes the superblock that is believed, if it is another or damaged.
//! 2. What waits in the journal is brought home, and block 0 says so; also that the volume is not clean.
//! 3. All that the repair changes, superblocks and the journal aside, is committed as one transaction: with its body in a
//!    slot of the journal, else in free blocks. Its number is above all that the journal has, so that with it the broken
//!    ones are history.
//! 4. That is brought home, and block 0 says so.
//! 5. The volume is marked clean: copies of the superblock first, block 0 last.
//!
//! All of it is rehearsed in memory first. So what can fail does so before the first store, and it is known what an undo
//! file has to save. `docs/DESIGN.md`, "Writing a repair", argues it crash by crash.

use crate::error::Error;
use crate::medium::{Medium, differing};
use crate::rehearsal::Rehearsal;
use crate::replay::{advance, clear_slot, commit, mark_clean_as, put_superblock, replay_at, slot_room};
use crate::superblocks::says_the_same;
use crate::undo_file;
use core::ops::Range;
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::journal::{Body, LINE_SIZE, Replay, SLOTS, Slot};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::{State, Superblock};
use paxfs_format::time::Timestamp;
use paxfs_format::volume::{find, read_superblock};
use std::collections::BTreeMap;
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

/// Highest number of a transaction after which an engine opens a volume.
const TRANSACTION_MAX: u64 = 1 << 63;

/// A repair that was planned and found to be good.
#[derive(Debug, Clone, Copy)]
pub struct Repair<'r> {
    /// The superblock that is believed, as it is in its block: with the generation, and the state, that it has there.
    pub superblock: &'r Superblock,
    /// What it describes.
    pub geometry: &'r Geometry,
    /// All blocks that are to be other than they are on the device, the effect of the journal's live transactions
    /// included. Block 0 may be among them: then it says what the superblock is to be, but for its generation, state,
    /// and times. Copies of the superblock and blocks of the journal may be among them; they are not looked at.
    pub blocks: &'r BTreeMap<u64, Box<[u8; 4096]>>,
    /// Runs of blocks that nobody owns, neither before the repair nor after.
    pub free: &'r [Range<u64>],
    /// What the superblock's times will say.
    pub now: Timestamp,
}

/// Where a repair was written to before it was written home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// Nothing but superblocks and the journal was to be written.
    None,
    /// To a slot of the journal.
    Slot,
    /// To blocks that nobody owns.
    Free(Range<u64>),
    /// Nowhere: the undo file alone protects it.
    Undo,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Transactions that waited in the journal, and were brought home first.
    pub replayed: usize,
    /// Blocks that were changed, superblocks and the journal aside.
    pub blocks: u64,
    /// Lines of 64 bytes in which they were.
    pub lines: u64,
    /// Where they were written to first.
    pub log: Log,
}

/// The number of the transaction that a repair of this volume will be: nothing that it writes may be of a later one.
///
/// # Errors
///
/// When the journal cannot be read, or no number is left.
pub fn transaction(device: &Device, superblock: &Superblock, geometry: &Geometry) -> Result<u64, Error> {
    let bytes = JournalBytes::read(device, superblock, geometry)?;
    let believed = superblock.header.generation.get();
    // Block 0 may say the same of a later transaction.
    let there = read_superblock(device, 0).ok().map(|(superblock, _)| superblock);
    let there = there.filter(|there| says_the_same(there, superblock));
    let generation = there.map_or(believed, |there| there.header.generation.get().max(believed));
    next(&bytes.replay(), generation).sequence()
}

/// Writes a repair to the device, and marks the volume clean. With `undo`, all that will be changed is saved to that file
/// before.
///
/// # Errors
///
/// Before anything is written: when there is no room for its log ([`Error::NoRoom`]) and no undo file; when the undo file
/// cannot be written. Later: what the device says. Then the volume is as before, or the next replay makes it repaired.
pub fn write(device: &mut Device, repair: &Repair<'_>, undo: Option<&Path>) -> Result<Written, Error> {
    let shelter = prepare(device, repair, undo)?;
    carry_out(device, repair, shelter)
}

/// Rehearses it, and writes the undo file. Says what will protect the repair.
fn prepare(device: &Device, repair: &Repair<'_>, undo: Option<&Path>) -> Result<Shelter, Error> {
    match rehearse(device, repair, undo, Shelter::Log) {
        Err(Error::NoRoom { .. } | Error::Journal | Error::OnlySuperblock) if undo.is_some() => {
            rehearse(device, repair, undo, Shelter::Undo).map(|()| Shelter::Undo)
        }
        rehearsed => rehearsed.map(|()| Shelter::Log),
    }
}

/// Rehearses it, and writes the undo file if it went well.
pub(crate) fn rehearse(
    device: &Device,
    repair: &Repair<'_>,
    undo: Option<&Path>,
    shelter: Shelter,
) -> Result<(), Error> {
    let mut rehearsal = Rehearsal::new(device, undo.is_some());
    carry_out(&mut rehearsal, repair, shelter)?;
    undo.map_or(Ok(()), |path| undo_file::save(path, &rehearsal))
}

/// What protects a repair from a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelter {
    /// A transaction that has all of it.
    Log,
    /// Such a one with its body in free blocks, where the journal has room for it too: for tests.
    Free,
    /// The undo file.
    Undo,
}

/// Stores it, step by step.
pub(crate) fn carry_out<M: Medium>(
    medium: &mut M,
    repair: &Repair<'_>,
    shelter: Shelter,
) -> Result<Written, Error> {
    let geometry = repair.geometry;
    let wanted = wanted(repair);
    if shelter != Shelter::Undo && geometry.groups() == 1 && !is_one_line(&wanted, repair.superblock) {
        return Err(Error::OnlySuperblock);
    }
    put_believed(medium, repair)?;
    let replayed = replay_at(medium, repair.now)?.transactions;
    let next = {
        let found = find(medium)?;
        let bytes = JournalBytes::read(medium, &found.superblock, &found.geometry)?;
        next(&bytes.replay(), found.superblock.header.generation.get())
    };
    for slot in &next.cut {
        clear_slot(medium, geometry, *slot)?;
        medium.sync()?;
    }
    // No clean volume has a transaction that waits; and none that is repaired in place is sound meanwhile.
    let mut superblock = find(medium)?.superblock;
    let errors = if shelter == Shelter::Undo { State::ERRORS } else { 0 };
    superblock.state = State::new(superblock.state.get() & !State::CLEAN | errors);
    put_superblock(medium, superblock, 0)?;
    medium.sync()?;
    let (body, blocks) = body(medium, repair)?;
    let mut last = next.last;
    let log = match shelter {
        _ if body.is_empty() => Log::None,
        Shelter::Log | Shelter::Free => {
            last = next.sequence()?;
            log(medium, repair, &body, last, shelter)?
        }
        Shelter::Undo => {
            // Nothing is told by the number here that the undo file does not tell.
            last = next.sequence().unwrap_or(last);
            Log::Undo
        }
    };
    for write in body.writes() {
        medium.put_write(&write)?;
    }
    medium.sync()?;
    advance(medium, last, repair.now)?;
    mark_clean_as(medium, Some(&wanted), repair.now)?;
    let lines = body.writes().map(|write| u64::from(write.lines.count_ones())).sum();
    Ok(Written { replayed, blocks, lines, log })
}

/// What the superblock is to be, but for its generation, state and times.
fn wanted(repair: &Repair<'_>) -> Superblock {
    let planned = repair.blocks.get(&0).and_then(|bytes| Superblock::read_from_bytes(bytes.as_slice()).ok());
    planned.unwrap_or(*repair.superblock)
}

/// Whether two superblocks differ in their first line alone: so that a medium has one of them, or the other.
fn is_one_line(one: &Superblock, other: &Superblock) -> bool {
    let behind = |superblock: &Superblock| superblock.as_bytes().get(LINE_SIZE..).map(<[u8]>::to_vec);
    behind(one) == behind(other)
}

/// Makes block 0 the superblock that is believed, unless it says the same already.
fn put_believed<M: Medium>(medium: &mut M, repair: &Repair<'_>) -> Result<(), Error> {
    let believed = repair.superblock;
    let is_there = read_superblock(medium, 0).is_ok_and(|(there, _)| {
        says_the_same(&there, believed) && there.header.generation.get() >= believed.header.generation.get()
    });
    if is_there {
        return Ok(());
    }
    let mut superblock = *believed;
    superblock.state = State::new(superblock.state.get() & !State::CLEAN);
    put_superblock(medium, superblock, 0)?;
    medium.sync()
}

/// What the next transaction follows.
struct Next {
    /// The highest number that the journal has, broken or not: nobody looks at those below the next any more.
    last: u64,
    /// Slots to be cleared before, as no number is above theirs.
    cut: Vec<u64>,
}

impl Next {
    /// The number of the next.
    fn sequence(&self) -> Result<u64, Error> {
        self.last.checked_add(1).filter(|next| *next <= TRANSACTION_MAX).ok_or(Error::Journal)
    }
}

fn next(replay: &Replay<'_>, generation: u64) -> Next {
    let (mut last, mut cut) = (generation, Vec::new());
    for (number, slot) in (0..).zip(&replay.slots) {
        match slot {
            Slot::Broken { sequence, .. } if *sequence >= TRANSACTION_MAX => cut.push(number),
            Slot::Broken { sequence, .. } => last = last.max(*sequence),
            Slot::Committed(transaction) => last = last.max(transaction.sequence),
            Slot::Empty | Slot::Torn { .. } | Slot::Done { .. } => {}
        }
    }
    Next { last, cut }
}

/// The transaction's records, and how many blocks they change. Superblocks and the journal are none of its business.
fn body<M: Medium>(medium: &M, repair: &Repair<'_>) -> Result<(Body, u64), Error> {
    let (mut body, mut blocks) = (Body::default(), 0_u64);
    for (&block, bytes) in repair.blocks {
        let place = repair.geometry.locate(block);
        if place.is_none_or(|place| place.block == 0) || repair.geometry.journal().contains(&block) {
            continue;
        }
        let lines = differing(medium.block(block)?, bytes);
        blocks = blocks.saturating_add(u64::from(lines != 0));
        body.push_lines(block, lines, bytes);
    }
    Ok((body, blocks))
}

/// Commits the repair, where there is room for its log.
fn log<M: Medium>(
    medium: &mut M,
    repair: &Repair<'_>,
    body: &Body,
    sequence: u64,
    shelter: Shelter,
) -> Result<Log, Error> {
    let bytes = body.bytes().len() as u64;
    if bytes <= slot_room(repair.geometry) && shelter == Shelter::Log {
        commit(medium, sequence, body, None)?;
        return Ok(Log::Slot);
    }
    let blocks = bytes.div_ceil(BLOCK_BYTES);
    let rooms = rooms(repair, medium.blocks());
    let Some(room) = rooms.iter().find(|room| room.end - room.start >= blocks) else {
        let free = rooms.iter().map(|room| room.end - room.start).max().unwrap_or(0);
        return Err(Error::NoRoom { blocks, slot: repair.geometry.journal_blocks / SLOTS, free });
    };
    commit(medium, sequence, body, Some(room.start))?;
    Ok(Log::Free(room.start..room.start.saturating_add(blocks)))
}

/// The free runs that a log may be in: each within one group, where blocks can be free, and not to be changed.
fn rooms(repair: &Repair<'_>, device_blocks: u64) -> Vec<Range<u64>> {
    let geometry = repair.geometry;
    let mut rooms = Vec::new();
    for run in repair.free {
        let mut start = run.start;
        let end = run.end.min(geometry.blocks).min(device_blocks);
        while start < end {
            let Some(place) = geometry.locate(start) else { break };
            let group = geometry.group_start(place.group);
            let group_end = group.saturating_add(geometry.group_len(place.group));
            let first = start.max(group.saturating_add(geometry.fixed_blocks(place.group)));
            push_unchanged(&mut rooms, first..end.min(group_end), repair.blocks);
            start = group_end;
        }
    }
    rooms
}

/// The parts of a run that the repair leaves alone.
fn push_unchanged(
    rooms: &mut Vec<Range<u64>>,
    run: Range<u64>,
    changed: &BTreeMap<u64, Box<[u8; BLOCK_SIZE]>>,
) {
    let mut start = run.start;
    if run.is_empty() {
        return;
    }
    for (&block, _) in changed.range(run.clone()) {
        rooms.push(start..block);
        start = block.saturating_add(1);
    }
    rooms.push(start..run.end);
}
