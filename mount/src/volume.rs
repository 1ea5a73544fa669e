//! A volume that is served: the engine, and what the kernel knows of it.

use crate::handles::Handles;
use crate::log::complain;
use crate::lookups::Lookups;
use crate::options::Options;
use fuser::{INodeNo, Notifier};
use paxfs_format::device::{Access, Device, DeviceError};
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::media::{MediaError, Part};
use paxfs_runtime::medium::Overlay;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A volume that is served.
#[derive(Debug)]
pub struct Volume {
    pub(crate) engine: Engine,
    pub(crate) lookups: Lookups,
    pub(crate) handles: Handles,
    /// To tell the kernel what changed without its asking.
    pub(crate) notifier: OnceLock<Notifier>,
    /// The lock of who reads only: others may read, too, but nobody writes.
    reader: Option<File>,
}

/// Why a volume cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It cannot be opened to be written to, but perhaps to be read.
    #[error("{0}; to read it, mount it with -o ro")]
    NotWritable(DeviceError),
    /// It cannot be locked.
    #[error("{path}: cannot be locked: {source}")]
    Lock {
        /// The device.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The engine refuses what is on it.
    #[error("{path}: {source}")]
    Engine {
        /// The device.
        path: PathBuf,
        /// Why.
        source: Error,
    },
}

impl Volume {
    /// Opens the volume on a device.
    ///
    /// # Errors
    ///
    /// A [`VolumeError`]: the device is not to be had, or holds nothing that the engine opens.
    pub fn open(path: &Path, options: &Options) -> Result<Self, VolumeError> {
        let failed = |source| VolumeError::Engine { path: path.to_path_buf(), source };
        let (engine, reader) = if options.read_only {
            let reader = lock_to_read(path)?;
            let medium = Overlay::new(Device::open(path, Access::ReadOnly)?);
            (Engine::on_medium(Arc::new(medium), options.engine).map_err(failed)?, Some(reader))
        } else {
            let device = Device::open(path, Access::Exclusive).map_err(hint)?;
            (Engine::on(device, options.engine).map_err(failed)?, None)
        };
        engine.on_media_error(Box::new(|error| complain(lost(error))));
        Ok(Volume {
            engine,
            lookups: Lookups::default(),
            handles: Handles::default(),
            notifier: OnceLock::new(),
            reader,
        })
    }

    /// The inode that the kernel means by a node: its own name for the root is 1, which no inode has for its number.
    pub(crate) fn inode(&self, node: INodeNo) -> u64 {
        if node == INodeNo::ROOT { self.engine.root() } else { node.0 }
    }

    /// Lets go of all that the kernel knew, commits, and leaves the volume clean.
    ///
    /// # Errors
    ///
    /// When the medium does not take it; the volume is recovered by the next to open it.
    pub fn close(self) -> Result<(), Error> {
        let Volume { engine, lookups, handles, reader, .. } = self;
        handles.clear();
        lookups.clear();
        let answer = engine.close();
        // Nobody may write before nobody reads.
        drop(reader);
        answer
    }
}

/// What the medium lost, in words.
fn lost(error: &MediaError) -> String {
    let MediaError { inode, offset, length, .. } = error;
    let path = error.path.as_deref().map(|path| format!(" ({})", path.escape_ascii())).unwrap_or_default();
    match error.part {
        Part::Contents => format!(
            "the medium failed under inode {inode}{path}: {length} bytes from byte {offset} on are lost"
        ),
        Part::Metadata => {
            format!("the medium failed under what inode {inode}{path} is or has; run fsck.paxfs")
        }
    }
}

/// Locks a device against those who write to it.
fn lock_to_read(path: &Path) -> Result<File, VolumeError> {
    // Who gives it to this process says whether it is a device at all.
    drop(Device::open(path, Access::ReadOnly)?);
    let failed = |source| VolumeError::Lock { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let by = Device::in_use(path).ok().flatten();
            Err(match by {
                Some(_) => DeviceError::Busy { path: path.to_path_buf(), by },
                None => DeviceError::Locked { path: path.to_path_buf(), holder: None },
            }
            .into())
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Says what else can be done about a device that may not be written to.
fn hint(error: DeviceError) -> VolumeError {
    let is_permission = match &error {
        DeviceError::PermissionDenied { .. } => true,
        DeviceError::Io { source, .. } => source.kind() == std::io::ErrorKind::ReadOnlyFilesystem,
        _ => false,
    };
    if is_permission { VolumeError::NotWritable(error) } else { VolumeError::Device(error) }
}
