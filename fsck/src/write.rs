//! A finished repair is written to the device, as one step that a crash leaves done or not begun.

use crate::error::Error;
use core::ops::Range;
use paxfs_format::device::Device;
use paxfs_format::geometry::Geometry;
use paxfs_format::superblock::Superblock;
use paxfs_format::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

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
    let _ = (device, superblock, geometry);
    Err(Error::Journal)
}

/// Writes a repair to the device, and marks the volume clean. With `undo`, all that will be changed is saved to that file
/// before.
///
/// # Errors
///
/// Before anything is written: when there is no room for its log ([`Error::NoRoom`]) and no undo file; when the undo file
/// cannot be written. Later: what the device says. Then the volume is as before, or the next replay makes it repaired.
pub fn write(device: &mut Device, repair: &Repair<'_>, undo: Option<&Path>) -> Result<Written, Error> {
    let _ = (device, repair, undo);
    Err(Error::Journal)
}
