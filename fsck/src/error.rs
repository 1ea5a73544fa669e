//! Why a volume could not be checked.

use crate::undo_file::UndoFault;
use paxfs_format::device::{DeviceError, MediumError};
use paxfs_format::volume::{NoSuperblock, StructureFault};
use paxfs_format::words::counted;
use std::path::PathBuf;

/// Why a check, or a replay, could not be done. What is wrong with the volume itself are findings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device could not be opened, or not be written.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A part of it is out of reach.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// Nothing here is, or was, a paxfs volume.
    #[error("{0}; if this was a paxfs volume, -b GROUP tries the copy of one group")]
    NoSuperblock(#[from] NoSuperblock),
    /// The copy that was asked for is none.
    #[error("there is no usable superblock in group {group}{}", fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default())]
    NoCopy {
        /// The group.
        group: u32,
        /// What is wrong with it, if it was found at all.
        fault: Option<StructureFault>,
    },
    /// A transaction is needed, and there is no room or no number left for one.
    #[error(
        "the journal has no room, or no number, left for a transaction; the volume cannot be marked clean"
    )]
    Journal,
    /// What has to be made anew does not fit the volume.
    #[error(
        "there is no room on the volume for what a repair has to make anew: remove or move files, or enlarge it"
    )]
    Full,
    /// There is no room for the log of a repair.
    #[error(
        "the repair needs {} for its log, in one piece: the journal has {slot}, and the largest run of free blocks {free}; \
         give -z FILE, outside of this volume: then the repair is protected by that file",
        counted(*blocks, "block")
    )]
    NoRoom {
        /// Blocks that the log needs.
        blocks: u64,
        /// Blocks that a slot of the journal has.
        slot: u64,
        /// Blocks of the largest free run.
        free: u64,
    },
    /// The only superblock is to be changed in more than one line, and a crash could tear it.
    #[error(
        "the superblock is to be changed, and the volume has a single group, so no copy that would help when a crash tears \
         it; give -z FILE, outside of this volume: then the repair is protected by that file"
    )]
    OnlySuperblock,
    /// Something is wrong with an undo file, or with using it.
    #[error("{}: {fault}", path.display())]
    Undo {
        /// The file.
        path: PathBuf,
        /// What.
        fault: UndoFault,
    },
    /// The superblock is another volume's, or its uuid is damaged: all else would be lost by a repair.
    #[error(
        "nothing on the device fits the superblock in block {block}: it is another volume's, or its uuid is damaged; no \
         repair begins (-b GROUP tries the copy of one group)"
    )]
    NothingFits {
        /// Where the superblock is.
        block: u64,
    },
    /// Somebody interrupted it. Nothing was changed.
    #[error("interrupted; nothing was changed")]
    Cancelled,
}
