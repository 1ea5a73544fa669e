//! A paxfs volume, by the engine in this process.

use crate::target::{Result, Target};
use paxfs_format::device::{Access, Device};
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Mapped, Medium};
use paxfs_runtime::namespace::New;
use std::path::Path;
use std::sync::Arc;

/// An open volume.
pub struct Volume {
    engine: Engine,
}

impl Volume {
    /// Opens the volume in an image.
    pub fn open(path: &Path) -> Result<Self> {
        let medium = Mapped::new(Device::open(path, Access::Exclusive)?).ok_or("not open for writing")?;
        // Each page is stored to once, so that no page fault of the image falls into what is timed.
        let mut word = [0; 8];
        for page in (0..medium.len()).step_by(4096) {
            medium.load(page, &mut word);
            medium.store(page, &word);
        }
        Ok(Volume { engine: Engine::on_medium(Arc::new(medium), Options::default())? })
    }

    /// Closes it.
    pub fn close(self) -> Result<()> {
        Ok(self.engine.close()?)
    }
}

impl Target for Volume {
    type File = File;

    fn create(&self, name: &str) -> Result<File> {
        let inode = self.engine.create(self.engine.root(), name.as_bytes(), &New::default())?;
        Ok(self.engine.open_file(inode, Open::WRITE)?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(self.engine.unlink(self.engine.root(), name.as_bytes())?)
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(file.write_at(offset, bytes)?)
    }

    fn read(&self, file: &File, offset: u64, to: &mut [u8]) -> Result<()> {
        let length = to.len();
        if file.read_at(offset, to)? == length { Ok(()) } else { Err("the file is too short".into()) }
    }

    fn clone(&self, from: &File, to: &File) -> Result<()> {
        Ok(to.clone_range(0, from, 0, 0)?)
    }

    fn sync(&self, file: &File) -> Result<()> {
        Ok(file.sync()?)
    }

    fn sync_all(&self) -> Result<()> {
        Ok(self.engine.sync()?)
    }
}
