//! A volume on each kind of medium that tests can have.

use super::{check_bytes, volume};
use paxfs_format::device::{Access, Device};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::medium::{Granularity, Medium, Recorder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// What a volume lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A medium that cannot be mapped: loads and stores are calls.
    Shim,
    /// A file on tmpfs: memory.
    Memory,
    /// A file behind the page cache.
    File,
}

impl Media {
    /// Those that this machine has.
    pub fn all() -> Vec<Self> {
        let memory = Path::new("/dev/shm").is_dir().then_some(Self::Memory);
        [Some(Self::Shim), memory, Some(Self::File)].into_iter().flatten().collect()
    }
}

/// A volume that outlives its engine.
pub struct Volume {
    medium: Option<Arc<Recorder>>,
    path: PathBuf,
    _directory: TempDir,
}

impl Volume {
    pub fn new(media: Media, bytes: usize) -> Self {
        let place = if media == Media::Memory { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(place).unwrap();
        let path = directory.path().join("image");
        let image = volume(bytes);
        let medium = (media == Media::Shim)
            .then(|| Arc::new(Recorder::forgetful(image.clone(), Granularity::CacheLine)));
        if medium.is_none() {
            std::fs::write(&path, image).unwrap();
        }
        Volume { medium, path, _directory: directory }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn open(&self, dax: Dax) -> Engine {
        self.open_with(Options { interval: Duration::ZERO, dax, ..Options::default() })
    }

    pub fn open_with(&self, options: Options) -> Engine {
        match &self.medium {
            Some(medium) => Engine::on_medium(Arc::clone(medium) as Arc<dyn Medium>, options).unwrap(),
            None => Engine::on(Device::open(&self.path, Access::Exclusive).unwrap(), options).unwrap(),
        }
    }

    /// A check that finds nothing.
    pub fn check(&self) {
        check_bytes(match &self.medium {
            Some(medium) => medium.now(),
            None => std::fs::read(&self.path).unwrap(),
        });
    }
}
