//! The file handle under a device: how its name is opened, so that asking leaves no trace and changing is
//! exclusive.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;

use super::Access;
use super::error::DeviceError;
use super::inuse::InUse;
use super::kind::DeviceKind;
use super::lock;

/// Flags of every open: what turns out to be a FIFO or a terminal must neither block us nor become ours.
const HARMLESS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens the device `path`, which must be there, and locks it if it is to be changed.
pub(super) fn existing(path: &Path, access: Access) -> Result<(File, DeviceKind), DeviceError> {
    // Looked at before it is opened, because opening some things does something (a tape rewinds).
    let metadata = fs::metadata(path).map_err(|error| DeviceError::from_io("stat it", path, error))?;
    let kind = DeviceKind::of(path, &metadata)?;
    let file = match access {
        Access::ReadOnly => reading(path),
        Access::Exclusive => changing(path, kind),
    };
    let file = file.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => busy(path),
        _ => DeviceError::from_io("open it", path, error),
    })?;
    let metadata = file.metadata().map_err(|error| DeviceError::from_io("stat it", path, error))?;
    if DeviceKind::of(path, &metadata)? != kind {
        let source = io::Error::other("it was replaced by something else at this moment");
        return Err(DeviceError::Io { what: "open it", path: path.to_path_buf(), source });
    }
    if access == Access::Exclusive {
        lock::lock(path, kind, &file)?;
    }
    Ok((file, kind))
}

/// Makes the file `path`, which must not be there. It is empty, and not locked yet.
pub(super) fn new(path: &Path) -> Result<File, DeviceError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    file.map_err(|error| DeviceError::from_io("make it", path, error))
}

/// Opens for reading, leaving the access time alone where this user may.
fn reading(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(HARMLESS | flags).open(path);
    match open(libc::O_NOATIME) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => open(0),
        answer => answer,
    }
}

/// Opens for reading and writing, a block device only if nothing in the kernel uses it.
fn changing(path: &Path, kind: DeviceKind) -> io::Result<File> {
    let exclusive = if kind == DeviceKind::Block { libc::O_EXCL } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(HARMLESS | exclusive).open(path)
}

/// The refusal of a block device that the kernel has in use, with the reason if there is one to be found.
fn busy(path: &Path) -> DeviceError {
    let path = path.to_path_buf();
    match InUse::find(&path).ok().flatten() {
        Some(InUse::Mounted { at }) => DeviceError::Mounted { path, at },
        by => DeviceError::Busy { path, by },
    }
}
