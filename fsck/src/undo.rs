//! What a repair changed is put back, out of its undo file.
//!
//! **Crash by crash.** Nothing is stored before the file is found to be whole and of this volume, and every block to be as
//! the repair found it, or made it, or was making it when it was stopped. Then (1) block 0 says that the volume is not
//! clean; (2) all other blocks are put back; (3) block 0 is. What is stored does not depend on what is there: after a crash
//! the same is done again, and the same blocks are found to be as they may be.

use crate::error::Error;
use crate::medium::Medium;
use crate::replay::put_superblock;
use crate::undo_file::{Entry, Reader, UndoFault};
use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_SIZE, Geometry, HEAD_BLOCKS};
use paxfs_format::header::{BlockKind, Expected, Header, Seed};
use paxfs_format::journal::{LINE_SIZE, SEALED_HEAD, SLOTS, Slot};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::State;
use paxfs_format::units::Uuid;
use paxfs_format::volume::{find, read_superblock};
use std::path::Path;

/// Bytes of a word: what a medium has whole.
const WORD: usize = 8;

/// What was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// Blocks that were changed back.
    pub blocks: u64,
}

/// Puts back what the repair changed that wrote the undo file: the device is then, byte for byte, as it was before. With
/// `force` also when something else changed it since.
///
/// # Errors
///
/// Before anything is written: when the file is damaged, not complete, or of another volume, or when the volume was
/// changed since. Later: what the device says; then the same call completes it.
pub fn undo(device: &mut Device, file: &Path, force: bool) -> Result<Undone, Error> {
    undo_on(device, file, force)
}

pub(crate) fn undo_on<M: Medium>(medium: &mut M, file: &Path, force: bool) -> Result<Undone, Error> {
    let found = look(medium, file)?;
    if let (Some(what), false) = (found.changed, force) {
        return Err(Error::Undo { path: file.to_path_buf(), fault: UndoFault::Changed(what) });
    }
    if found.differing > 0 {
        restore(medium, file)?;
    }
    Ok(Undone { blocks: found.differing })
}

/// To be called before a repair is planned that is to write the undo file `file`. When there is one of a repair of this
/// volume that did not come to its end, all is put back: then it is planned anew, and [`crate::write`] replaces the file.
/// `None` when there was nothing to put back.
///
/// # Errors
///
/// When there is a file that must not be overwritten; and as [`undo`].
pub fn put_back(device: &mut Device, file: &Path) -> Result<Option<Undone>, Error> {
    if !file.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let refuse = |fault| Error::Undo { path: file.to_path_buf(), fault };
    match look(device, file) {
        Ok(found) if found.differing == 0 => Ok(None),
        Ok(found) if found.is_finished => Err(refuse(UndoFault::Finished)),
        Ok(_) => undo(device, file, false).map(Some),
        Err(Error::Undo { fault: UndoFault::Incomplete, .. }) => Ok(None),
        Err(Error::Undo {
            fault: UndoFault::Magic | UndoFault::Uuid { .. } | UndoFault::Size { .. },
            ..
        }) => Err(refuse(UndoFault::Exists)),
        Err(error) => Err(error),
    }
}

/// What there is to put back.
struct Found {
    /// Blocks that are not as they were.
    differing: u64,
    /// What was changed by something else.
    changed: Option<String>,
    /// The repair came to its end.
    is_finished: bool,
}

/// Reads the file, all of it, and compares the device.
fn look<M: Medium>(medium: &M, file: &Path) -> Result<Found, Error> {
    let mut reader = Reader::open(file)?;
    let (uuid, last) = (reader.head.uuid, reader.head.last.get());
    let refuse = |fault| Error::Undo { path: file.to_path_buf(), fault };
    let (of_file, of_device) = (reader.head.blocks.get(), medium.blocks());
    if of_file != of_device {
        return Err(refuse(UndoFault::Size { file: of_file, device: of_device }));
    }
    let present = find(medium).ok();
    let geometry = present.as_ref().filter(|found| found.superblock.uuid == uuid).map(|found| found.geometry);
    let (mut differing, mut changed) = (0_u64, None);
    // The only superblock of a volume may be torn: then other structures say whose they are.
    let heads = (0..HEAD_BLOCKS).filter_map(|block| Some((block, medium.block(block).ok()?)));
    let mut is_of_this =
        geometry.is_some() || { heads }.any(|(block, bytes)| is_structure(bytes, block, uuid));
    let mut kept_slots = [false; 2];
    while let Some(entry) = reader.next()? {
        let bytes = medium.block(entry.block)?;
        let is_old = bytes == &*entry.old;
        // A damaged block 0 may be of any volume.
        is_of_this |= is_structure(bytes, entry.block, uuid) || entry.block == 0 && is_made_of(bytes, &entry);
        differing = differing.saturating_add(u64::from(!is_old));
        for (slot, kept) in (0..).zip(&mut kept_slots) {
            *kept |= is_old && geometry.is_some_and(|geometry| geometry.journal_slot(slot) == entry.block);
        }
        let is_known =
            is_old || is_made_of(bytes, &entry) || is_used(bytes, &entry, geometry.as_ref(), uuid, last);
        if !is_known && changed.is_none() {
            changed = Some(format!("block {} is neither as it was nor as it was made", entry.block));
        }
    }
    if !is_of_this {
        return Err(refuse(match present {
            Some(found) => UndoFault::Uuid { file: uuid, device: found.superblock.uuid },
            None => UndoFault::Damaged("nothing on this device is of its volume".to_owned()),
        }));
    }
    let block_0 = read_superblock(medium, 0).ok().map(|(superblock, _)| superblock);
    let block_0 = block_0.filter(|superblock| superblock.uuid == uuid);
    let is_finished = block_0.is_some_and(|it| it.is_clean() && it.header.generation.get() >= last);
    if let (None, Some(_), Some(number)) = (&changed, geometry, later(medium, last, kept_slots)) {
        changed = Some(format!("it is at transaction {number}, and the repair ended with {last}"));
    }
    Ok(Found { differing, changed, is_finished })
}

/// Whether a block is a sound structure of that volume: all checksums begin with its uuid.
fn is_structure(bytes: &[u8; BLOCK_SIZE], block: u64, uuid: Uuid) -> bool {
    Seed::new(&uuid).verify(bytes).is_ok_and(|header| header.place.get() == block)
}

/// The last transaction of the volume, if the repair has none so late.
fn later<M: Medium>(medium: &M, last: u64, kept_slots: [bool; 2]) -> Option<u64> {
    let found = find(medium).ok()?;
    let bytes = JournalBytes::read(medium, &found.superblock, &found.geometry).ok()?;
    let replay = bytes.replay();
    let slots = replay.slots.iter().zip(kept_slots).filter(|(_, is_kept)| !is_kept);
    let numbers = slots.filter_map(|(slot, _)| match slot {
        Slot::Committed(transaction) => Some(transaction.sequence),
        Slot::Broken { sequence, .. } | Slot::Done { sequence } => Some(*sequence),
        Slot::Empty | Slot::Torn { .. } => None,
    });
    numbers.filter(|number| *number > last).max()
}

/// Whether each word of a block is as it was before the repair, or as the repair stored it at some time.
fn is_made_of(bytes: &[u8; BLOCK_SIZE], entry: &Entry) -> bool {
    let lines = bytes.as_chunks::<LINE_SIZE>().0.iter().zip(entry.old.as_chunks::<LINE_SIZE>().0);
    (0_u32..).zip(lines).all(|(number, (line, old))| {
        let stored = || entry.lines.iter().filter(|stored| stored.number == number);
        line == old
            || (0..).zip(line.as_chunks::<WORD>().0.iter().zip(old.as_chunks::<WORD>().0)).all(
                |(at, (word, old)): (usize, _)| {
                    word == old || stored().any(|line| line.bytes.as_chunks::<WORD>().0.get(at) == Some(word))
                },
            )
    })
}

/// Whether a block is as those may have left it who completed the repair, or undid it in part: they store their own times
/// to superblocks, and clear slots of the journal, but make no transaction of their own.
fn is_used(
    bytes: &[u8; BLOCK_SIZE],
    entry: &Entry,
    geometry: Option<&Geometry>,
    uuid: Uuid,
    last: u64,
) -> bool {
    let seed = Seed::new(&uuid);
    let is_superblock =
        |geometry: &Geometry| geometry.locate(entry.block).is_some_and(|place| place.block == 0);
    if entry.block == 0 || geometry.is_some_and(is_superblock) {
        let expected = Expected { kind: BlockKind::SUPERBLOCK, place: entry.block, owner: 0 };
        let is_intact = seed.verify(bytes).and_then(|header| expected.check(header)).is_ok();
        let is_early = Header::of(bytes).is_some_and(|header| header.generation.get() <= last);
        // In one that is torn, the first line is as any of them stored it.
        let mut rest = *bytes;
        rest.iter_mut().zip(entry.old.iter()).take(LINE_SIZE).for_each(|(to, from)| *to = *from);
        return is_early && (is_intact || is_made_of(&rest, entry));
    }
    let Some(geometry) = geometry else { return false };
    if !geometry.journal().contains(&entry.block) {
        return false;
    }
    // What the slots say as a whole is asked elsewhere.
    let head = bytes.get(..SEALED_HEAD).unwrap_or_default();
    let is_head = (0..SLOTS).any(|slot| geometry.journal_slot(slot) == entry.block);
    !is_head
        || head.iter().all(|&byte| byte == 0)
        || Header::of(head).is_some_and(|it| it.generation.get() <= last)
}

/// Puts all back.
fn restore<M: Medium>(medium: &mut M, file: &Path) -> Result<(), Error> {
    let uuid = Reader::open(file)?.head.uuid;
    if let Ok((mut superblock, _)) = read_superblock(medium, 0)
        && superblock.uuid == uuid
    {
        superblock.state = State::new(superblock.state.get() & !State::CLEAN | State::ERRORS);
        put_superblock(medium, superblock, 0)?;
        medium.sync()?;
    }
    let mut reader = Reader::open(file)?;
    let mut first = None;
    while let Some(entry) = reader.next()? {
        match entry.block {
            0 => first = Some(entry),
            block => medium.put(block, &entry.old)?,
        }
    }
    medium.sync()?;
    if let Some(entry) = first {
        medium.put(0, &entry.old)?;
        medium.sync()?;
    }
    Ok(())
}
