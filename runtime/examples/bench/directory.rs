//! A directory of a mounted file system, by system calls.

use crate::target::{Result, Target};
use rustix::fs::{OFlags, ioctl_ficlone, syncfs};
use std::fs::{File, OpenOptions, remove_file};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory.
pub struct Directory {
    path: PathBuf,
    direct: bool,
}

impl Directory {
    /// A directory whose files are written past the page cache (`O_DIRECT`) or not.
    pub fn new(path: &Path, direct: bool) -> Self {
        Directory { path: path.to_path_buf(), direct }
    }
}

impl Target for Directory {
    type File = File;

    fn create(&self, name: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        if self.direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        Ok(options.open(self.path.join(name))?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(remove_file(self.path.join(name))?)
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(file.write_all_at(bytes, offset)?)
    }

    fn read(&self, file: &File, offset: u64, to: &mut [u8]) -> Result<()> {
        Ok(file.read_exact_at(to, offset)?)
    }

    fn clone(&self, from: &File, to: &File) -> Result<()> {
        Ok(ioctl_ficlone(to, from)?)
    }

    fn sync(&self, file: &File) -> Result<()> {
        Ok(file.sync_all()?)
    }

    fn sync_all(&self) -> Result<()> {
        Ok(syncfs(File::open(&self.path)?)?)
    }
}
