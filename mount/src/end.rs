//! The end that somebody asks for by a signal: unmounted, and with it all requests end.

use crate::log::complain;
use fuser::SessionUnmounter;
use rustix::fs::syncfs;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Unmounts once.
#[derive(Debug)]
pub(crate) struct End {
    /// The mount point, with all links resolved.
    pub directory: PathBuf,
    /// For who may not unmount by himself.
    pub helper: SessionUnmounter,
}

impl End {
    /// Unmounts, whoever uses it: who has files open there loses them, after what was written is in the volume.
    pub fn unmount(mut self) {
        let answer = match unmount(&self.directory, UnmountFlags::empty()) {
            Err(Errno::BUSY) => {
                complain(format_args!(
                    "{}: in use; who has files open there loses them",
                    self.directory.display()
                ));
                // What programs stored to mapped files and have not synced.
                if let Ok(directory) = File::open(&self.directory) {
                    let _ = syncfs(directory);
                }
                // Together they end the connection, and take the mount away for everybody who comes.
                unmount(&self.directory, UnmountFlags::FORCE | UnmountFlags::DETACH).map_err(io::Error::from)
            }
            Err(Errno::PERM) => self.helper.unmount(),
            // Somebody else was faster.
            Err(Errno::INVAL) => Ok(()),
            answer => answer.map_err(io::Error::from),
        };
        if let Err(error) = answer {
            complain(format_args!("{}: cannot be unmounted: {error}; use umount", self.directory.display()));
        }
    }
}
