//! paxfs, by the engine in this process.

use crate::target::{Result, Target};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::medium::Granularity;
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;
use paxfs_runtime::views::Sharing;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// All files can be mapped.
fn options() -> Options {
    Options { dax: Dax::Always, ..Options::default() }
}

/// A volume that is open for writing.
pub struct Volume {
    path: PathBuf,
    /// None only while it is opened again.
    engine: Option<Engine>,
}

impl Volume {
    /// Opens the volume on a device or in a file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Volume { path: path.to_owned(), engine: Some(Engine::open(path, options())?) })
    }

    /// What the medium takes whole.
    pub fn granularity(&self) -> Result<Granularity> {
        Ok(self.engine()?.granularity())
    }

    /// By what a mapped file is loaded and stored to.
    pub fn maps(&self, sharing: Sharing) -> Result<String> {
        Ok(match self.file("clone-2")?.map(0..4096, sharing) {
            Ok(view) if view.address().is_some() => "address".to_owned(),
            Ok(_) => "call".to_owned(),
            Err(error) => error.to_string(),
        })
    }

    /// How many blocks are recorded as bad.
    pub fn bad(&self) -> Result<u64> {
        Ok(self.engine()?.statistics()?.bad)
    }

    /// What it lies on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The block of the volume that a file begins with.
    pub fn first_block(&self, file: &str) -> Result<u64> {
        let extents = self.file(file)?.extents()?;
        Ok(extents.first().ok_or("the file has no blocks")?.start.get())
    }

    /// Leaves the volume clean.
    pub fn close(mut self) -> Result<()> {
        self.engine.take().map_or(Ok(()), |engine| Ok(engine.close()?))
    }

    /// The engine.
    pub fn engine(&self) -> Result<&Engine> {
        self.engine.as_ref().ok_or_else(|| "the volume is closed".into())
    }

    /// A file, which is made if it is not there.
    pub fn file(&self, name: &str) -> Result<File> {
        let engine = self.engine()?;
        let inode = match engine.lookup(engine.root(), name.as_bytes()) {
            Err(Error::NotFound) => engine.create(engine.root(), name.as_bytes(), &New::default()),
            answer => answer,
        };
        Ok(engine.open_file(inode?, Open::WRITE)?)
    }
}

impl Target for Volume {
    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.file(file)?.write_at(offset, bytes)?)
    }

    fn store(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.file(file)?;
        let view = file.map(0..file.size(), Sharing::Shared)?;
        view.store(offset, bytes)?;
        Ok(view.sync(0..file.size())?)
    }

    fn remove(&mut self, file: &str) -> Result<()> {
        let engine = self.engine()?;
        Ok(engine.unlink(engine.root(), file.as_bytes())?)
    }

    fn read(&mut self, file: &str) -> Result<Vec<u8>> {
        let file = self.file(file)?;
        let mut bytes = vec![0; usize::try_from(file.size())?];
        let length = file.read_at(0, &mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn truncate(&mut self, file: &str, size: u64) -> Result<()> {
        Ok(self.file(file)?.truncate(size)?)
    }

    fn allocate(&mut self, file: &str, range: Range<u64>) -> Result<()> {
        Ok(self.file(file)?.allocate(range, Size::Grows)?)
    }

    fn punch(&mut self, file: &str, range: Range<u64>) -> Result<()> {
        Ok(self.file(file)?.punch_hole(range)?)
    }

    fn clone(&mut self, from: &str, to: &str) -> Result<()> {
        Ok(self.file(to)?.clone_range(0, &self.file(from)?, 0, 0)?)
    }

    fn dedupe(&mut self, from: &str, to: &str) -> Result<bool> {
        let from = self.file(from)?;
        Ok(self.file(to)?.dedupe_range(0, &from, 0, from.size())? != Dedupe::Differs)
    }

    fn free(&mut self) -> Result<u64> {
        let engine = self.engine()?;
        engine.sync()?;
        Ok(engine.statistics()?.free * 4096)
    }

    fn remount(&mut self) -> Result<()> {
        if let Some(engine) = self.engine.take() {
            engine.close()?;
        }
        self.engine = Some(Engine::open(&self.path, options())?);
        Ok(())
    }
}
