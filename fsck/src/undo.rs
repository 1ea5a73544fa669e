//! The undo file: what a repair changed, as it was before; and how it is put back.

use crate::error::Error;
use paxfs_format::device::Device;
use std::path::Path;

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let _ = (device, file, force);
    Err(Error::Journal)
}

/// To be called before a repair is planned that is to write the undo file `file`. When there is one of a repair of this
/// volume that did not come to its end, all is put back: then it is planned anew, and [`crate::write`] replaces the file.
/// `None` when there was nothing to put back.
///
/// # Errors
///
/// When there is a file that must not be overwritten; and as [`undo`].
pub fn put_back(device: &mut Device, file: &Path) -> Result<Option<Undone>, Error> {
    let _ = (device, file);
    Err(Error::Journal)
}
