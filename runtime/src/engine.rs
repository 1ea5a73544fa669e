//! The engine as its users see it: a volume that is open for writing.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::medium::{Granularity, Mapped, Medium};
use crate::recover::recover;
use crate::views::{FailedFault, Mechanism};
use core::time::Duration;
use paxfs_format::device::{Access, Device};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

/// How a volume is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a change may wait for its commit when nobody asks for it; zero for as long as it likes.
    pub interval: Duration,
    /// Which files can be mapped.
    pub dax: Dax,
    /// Most kernel mappings that all views may have beyond one each; `None` for half of what the kernel allows a process.
    pub mappings: Option<usize>,
    /// How stores to views are noticed; `None` for what is best on the medium, and where the other is not to be had.
    pub mechanism: Option<Mechanism>,
}

/// Which files can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dax {
    /// Those with the flag `dax` when they were opened; new files inherit it from their directory.
    #[default]
    Inode,
    /// All.
    Always,
    /// None.
    Never,
}

impl Default for Options {
    fn default() -> Self {
        Options { interval: Duration::from_secs(5), dax: Dax::default(), mappings: None, mechanism: None }
    }
}

impl Options {
    /// Most kernel mappings that all views may have beyond one each.
    pub(crate) fn mappings(&self) -> usize {
        /// What the kernel allows unless it is told otherwise.
        const DEFAULT: usize = 65_530;
        self.mappings.unwrap_or_else(|| {
            let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
            limit.and_then(|limit| limit.trim().parse().ok()).unwrap_or(DEFAULT) / 2
        })
    }
}

/// Space of a volume, in blocks and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks that nobody owns, those within metadata clusters included.
    pub free: u64,
    /// Blocks that a file can get now.
    pub available: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Free blocks in whole, aligned 2 MiB runs.
    pub huge_free: u64,
    /// Blocks that are recorded as bad.
    pub bad: u64,
}

/// A volume that is open for writing. All its methods may be called by many threads.
///
/// Dropping it commits; [`Engine::close`] also says whether that went well.
#[derive(Debug)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
    ticker: Option<Ticker>,
}

/// The thread that commits now and then, as long as the sender is there.
#[derive(Debug)]
struct Ticker {
    alive: Sender<()>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Opens the volume on a device: a file, a block device or a devdax device, locked as long as it is open. What a
    /// crash left is recovered first.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let device = Device::open(path, Access::Exclusive)?;
        Self::on(device, options)
    }

    /// Opens the volume on a device that is open for writing.
    pub fn on(device: Device, options: Options) -> Result<Self> {
        let medium = Mapped::new(device).ok_or(Error::ReadOnly("the device is not open for writing"))?;
        Self::on_medium(Arc::new(medium), options)
    }

    /// Opens the volume on a medium.
    pub fn on_medium(medium: Arc<dyn Medium>, options: Options) -> Result<Self> {
        let (superblock, last) = recover(&medium)?;
        let core = Arc::new(Core::new(medium, superblock, last, &options)?);
        core.load_bad()?;
        core.free_orphans()?;
        let ticker =
            (!options.interval.is_zero()).then(|| Ticker::start(Arc::clone(&core), options.interval));
        Ok(Engine { core, ticker })
    }

    /// Makes everything durable that was done before the call, stores through views included.
    ///
    /// # Errors
    ///
    /// [`Error::LostWrites`], once, when the medium failed under contents of files since the last sync: all else is durable.
    pub fn sync(&self) -> Result<()> {
        self.core.clean_all()?;
        self.core.commit()?;
        if self.core.media.take_hit() { Err(Error::LostWrites(None)) } else { Ok(()) }
    }

    /// Kernel mappings of all views beyond one each.
    pub fn mappings(&self) -> usize {
        self.core.views.door.pieces()
    }

    /// How stores to views are noticed.
    pub fn mechanism(&self) -> Mechanism {
        self.core.views.mechanism()
    }

    /// The last fault of a view that could not be answered, so that its thread got SIGBUS.
    pub fn last_fault(&self) -> Option<FailedFault> {
        self.core.views.failed()
    }

    /// What the medium takes whole, and so what `sync` costs.
    pub fn granularity(&self) -> Granularity {
        self.core.medium().granularity()
    }

    /// Number of the last transaction that was committed.
    pub fn transactions(&self) -> u64 {
        self.core.committed()
    }

    /// Inode number of the root directory.
    pub fn root(&self) -> u64 {
        self.core.volume.superblock.root.get()
    }

    /// Space of the volume.
    pub fn statistics(&self) -> Result<Statistics> {
        let _look = self.core.look()?;
        let blocks = self.core.volume.geometry.blocks;
        let mut sum = Statistics { blocks, free: 0, available: 0, inodes: 0, huge_free: 0, bad: 0 };
        for number in self.core.volume.geometry.group_numbers() {
            let group = self.core.group(number)?;
            sum.free += group.free_blocks();
            sum.available += group.usable_blocks().saturating_sub(group.kept());
            sum.inodes += group.header.inodes_used.get();
            sum.huge_free += group.huge_blocks();
            sum.bad += group.bad().iter().map(|(_, length)| u64::from(length)).sum::<u64>();
        }
        Ok(sum)
    }

    /// Commits, and leaves the volume clean.
    pub fn close(mut self) -> Result<()> {
        self.stop();
        self.core.close()
    }

    fn stop(&mut self) {
        if let Some(Ticker { alive, thread }) = self.ticker.take() {
            drop(alive);
            // It ends by itself; that it panicked would have been said on stderr.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        // Nobody is left to be told; a volume that could not be closed is recovered by the next to open it.
        let _ = self.core.close();
    }
}

impl Ticker {
    fn start(core: Arc<Core>, interval: Duration) -> Self {
        let (alive, is_alive) = channel();
        let thread = std::thread::spawn(move || {
            // After a failed commit every call says so.
            while is_alive.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) && core.commit().is_ok() {
            }
        });
        Ticker { alive, thread }
    }
}
