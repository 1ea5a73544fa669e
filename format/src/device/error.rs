//! What can go wrong with a device: [`MediumError`] for one access to an open device, [`DeviceError`] for opening,
//! sizing and syncing it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::inuse::InUse;
use super::lock::Holder;

/// An access that an open device cannot serve. It touched nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediumError {
    /// The range does not lie within the device.
    #[error("{length} bytes at offset {offset} reach past the end of the device, which has {device} bytes")]
    OutOfRange {
        /// Where the range begins, in bytes.
        offset: u64,
        /// How long the range is, in bytes.
        length: u64,
        /// How long the device is, in bytes.
        device: u64,
    },
    /// A change was asked of a device opened with [`Access::ReadOnly`](super::Access::ReadOnly).
    #[error("the device is open for reading only; open it for exclusive access to change it")]
    ReadOnly,
    /// Regions to be written side by side were not ascending and disjoint.
    #[error(
        "the region at offset {offset} begins before {end}, where the one before it ends; sort and merge them"
    )]
    Unordered {
        /// Where the offending region begins, in bytes.
        offset: u64,
        /// Where the region before it ends, in bytes.
        end: u64,
    },
    /// An engine does not read a block that contradicts itself, although its checksum fits.
    #[error("block {block} contradicts itself")]
    Unsound {
        /// The block.
        block: u64,
    },
}

/// Why a device could not be opened, made, sized or synced.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Nothing has that name.
    #[error("{path}: no such file or device; check the name")]
    NotFound {
        /// The name that was asked for.
        path: PathBuf,
    },
    /// A file to be made is there already.
    #[error("{path}: exists already; choose another name, or remove it first")]
    Exists {
        /// The name that was asked for.
        path: PathBuf,
    },
    /// The kernel refuses this user this access.
    #[error("{path}: permission denied; run as its owner or as root")]
    PermissionDenied {
        /// The name that was asked for.
        path: PathBuf,
    },
    /// Another handle, mostly another paxfs program, has the device for itself.
    #[error("{path}: locked by {}; wait until it is done, or stop it", holder_name(.holder.as_ref()))]
    Locked {
        /// The name that was asked for.
        path: PathBuf,
        /// Who holds the lock, where the kernel tells.
        holder: Option<Holder>,
    },
    /// The device holds a mounted file system.
    #[error("{path}: mounted at {at}; unmount it first")]
    Mounted {
        /// The name that was asked for.
        path: PathBuf,
        /// The mount point.
        at: PathBuf,
    },
    /// The kernel uses the block device for something else: swap, a loop or device-mapper device, RAID.
    #[error("{path}: in use{}; release it first", by.as_ref().map(|by| format!(": {by}")).unwrap_or_default())]
    Busy {
        /// The name that was asked for.
        path: PathBuf,
        /// What uses it, where that could be found out.
        by: Option<InUse>,
    },
    /// It is smaller than it has to be.
    #[error("{path}: {bytes} bytes are too small, it takes at least {least}; choose a larger size or device")]
    TooSmall {
        /// The name that was asked for.
        path: PathBuf,
        /// The size found or asked for, in bytes.
        bytes: u64,
        /// The least size, in bytes.
        least: u64,
    },
    /// It is larger than the file system under it can hold, or than this process can map.
    #[error(
        "{path}: {bytes} bytes are more than can be mapped here or than its file system lets a file have; choose a \
         smaller size, or raise the limit on address space (ulimit -v)"
    )]
    TooLarge {
        /// The name that was asked for.
        path: PathBuf,
        /// The size found or asked for, in bytes.
        bytes: u64,
    },
    /// Its size is what its maker gave it.
    #[error("{path}: {bytes} bytes, and not a regular file: it cannot be made larger or smaller")]
    NotResizable {
        /// The name it was opened by.
        path: PathBuf,
        /// The size it has, in bytes.
        bytes: u64,
    },
    /// The name is that of something else: a directory, a FIFO, a terminal.
    #[error("{path}: is a {found}; give a regular file, a block device or a devdax device (/dev/daxX.Y)")]
    NotADevice {
        /// The name that was asked for.
        path: PathBuf,
        /// What was found there, as a noun.
        found: &'static str,
    },
    /// This process holds as many devices open as it can protect against faults.
    #[error("{path}: {limit} devices are mapped already; close one first")]
    TooMany {
        /// The name that was asked for.
        path: PathBuf,
        /// How many a process may map.
        limit: usize,
    },
    /// Some blocks could not be reached (see [`Device::faults`](super::Device::faults)): what was stored there is
    /// lost.
    #[error(
        "{path}: {blocks} blocks from block {first} on could not be reached, and what was stored there is lost: its \
         file system is full, it was made smaller meanwhile, or the medium is bad (the kernel log says which)"
    )]
    Faulted {
        /// The name it was opened by.
        path: PathBuf,
        /// How many blocks faulted.
        blocks: u64,
        /// The lowest of them.
        first: u64,
    },
    /// The kernel refused for a reason of its own.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// What it was asked for, as a verb with its object.
        what: &'static str,
        /// The device or the kernel file that was asked.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl DeviceError {
    /// The error a system call on `path` left, given the type a caller can act on.
    pub(super) fn from_io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Self::NotFound { path },
            Some(Errno::EXIST) => Self::Exists { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::PermissionDenied { path },
            _ => Self::Io { what, path, source },
        }
    }

    /// The same for a call that gave `path` a size or an address range of `bytes`.
    pub(super) fn from_sizing(what: &'static str, path: &Path, bytes: u64, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::FBIG | Errno::NOMEM | Errno::OVERFLOW) => {
                Self::TooLarge { path: path.to_path_buf(), bytes }
            }
            _ => Self::from_io(what, path, source),
        }
    }
}

/// Words for a holder that may be unknown.
fn holder_name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}
