//! Media errors: who is hit by one, and what is done about it. See "Media errors" in `docs/DESIGN.md`.
//!
//! ```text
//!   a fault, a list, a call ── notice ──┬── fixed      superblock, headers, journal: written anew
//!                                       ├── metadata   moved, or healed in its place
//!                                       ├── rebuild    what is lost with its block: from what says the same
//!                                       ├── owners     file data: recorded, and every owner told
//!                                       └── heal       what nobody needs: zeroed, tested, given out again
//! ```
//!
//! * For users: [`MediaError`], [`Engine::on_media_error`], [`Engine::report_media_error`],
//!   [`Engine::report_media_errors`], [`Engine::bad_ranges`].
//! * What costs nothing until there is an error: the record in memory, which readers ask by one load.

mod fixed;
mod heal;
mod metadata;
mod notice;
mod owners;
mod rebuild;
mod writes;

use crate::core::{Core, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::locks::{Ordered, Rank, take};
use crate::map::clip;
use crate::trees::TreeName;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use paxfs_format::badblocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What the medium lost of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaError {
    /// The file.
    pub inode: u64,
    /// A path of it, if it has one.
    pub path: Option<Vec<u8>>,
    /// Which part of it.
    pub part: Part,
    /// Where in the file, in bytes; 0 for other parts than its contents.
    pub offset: u64,
    /// How many bytes; 0 for other parts than its contents.
    pub length: u64,
    /// Where that was mapped, if it was: the mapping is taken away, and an access is a SIGBUS until the bytes are written
    /// anew. A file that is mapped several times is told of once for each.
    pub address: Option<usize>,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Bytes of it.
    Contents,
    /// Something that says what it is or has: its inode, extent map, entries, attributes or target. What needs that fails
    /// with EIO from now on.
    Metadata,
}

/// Who is told of media errors.
type Handler = dyn Fn(&MediaError) + Send + Sync;

/// What is known of media errors.
#[derive(Default)]
pub(crate) struct Media {
    /// Whether a block is recorded as bad: readers look no further where none is.
    any: AtomicBool,
    /// Blocks that failed, and that were dealt with; and how many there are.
    dealt: Mutex<BTreeSet<u64>>,
    known: AtomicU64,
    /// Metadata blocks whose contents are in the journal, or will be: they are healed before they go home.
    homeless: Mutex<BTreeSet<u64>>,
    /// Inodes that are lost.
    lost: Mutex<BTreeSet<u64>>,
    /// Trees that were left half changed, because a part of them is lost.
    torn: Mutex<BTreeSet<TreeName>>,
    /// Runs of data that lost an owner while their counts could not be read: group, first block, blocks.
    unreleased: Mutex<Vec<(u32, u32, u32)>>,
    /// One at a time deals with errors.
    dealing: Mutex<()>,
    /// What handlers have yet to be told, if anything.
    untold: Mutex<Vec<MediaError>>,
    is_untold: AtomicBool,
    handlers: RwLock<Vec<Arc<Handler>>>,
    /// Whether stores were lost since a sync said so.
    is_hit: AtomicBool,
}

impl core::fmt::Debug for Media {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Media").field("any", &self.any).field("known", &self.known).finish_non_exhaustive()
    }
}

impl Media {
    /// Whether a block is recorded as bad.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn dealing(&self) -> Ordered<MutexGuard<'_, ()>> {
        take(Rank::MediaErrors, || lock(&self.dealing))
    }

    /// Notes what handlers are to be told.
    fn tell(&self, errors: impl IntoIterator<Item = MediaError>) {
        lock(&self.untold).extend(errors);
        self.is_untold.store(true, Ordering::Relaxed);
    }

    /// Says that a tree was left half changed, because a part of it is lost. It is made anew before the next commit.
    pub fn tear(&self, tree: TreeName) {
        lock(&self.torn).insert(tree);
    }

    /// Says that runs of data (group, first block, blocks) lose an owner when their counts are known again.
    pub fn release_late(&self, runs: &[(u32, u32, u32)]) {
        lock(&self.unreleased).extend(runs);
    }

    /// Whether stores were lost since this was last asked.
    pub fn take_hit(&self) -> bool {
        self.is_hit.swap(false, Ordering::Relaxed)
    }

    /// Says that an inode is lost.
    fn lose(&self, inode: u64) {
        lock(&self.lost).insert(inode);
    }

    /// Whether an inode is lost.
    pub fn is_lost(&self, inode: u64) -> bool {
        lock(&self.lost).contains(&inode)
    }

    /// Says that a block's home has to be healed before anything is stored there.
    pub fn make_homeless(&self, block: u64) {
        lock(&self.homeless).insert(block);
    }

    /// Whether a block's home has to be healed first. It is not asked twice.
    pub fn take_homeless(&self, block: u64) -> bool {
        lock(&self.homeless).remove(&block)
    }
}

impl Core {
    /// The parts of an extent that are recorded as bad, ascending. Costs a load where nothing is.
    pub fn bad_parts(&self, extent: &Extent) -> Result<Vec<Extent>> {
        if !self.media.any() {
            return Ok(Vec::new());
        }
        let place = self.volume.geometry.locate(extent.start.get());
        let place = place.ok_or_else(|| Error::damaged("an extent", "past the volume"))?;
        let group = self.group(place.group)?;
        let bad = group.bad().overlapping(place.block, extent.length.get());
        let part = |(start, length): (u32, u32)| {
            let first = extent.offset.get() + u64::from(start - place.block);
            clip(extent, &(first..first + u64::from(length)))
        };
        Ok(bad.filter_map(part).collect())
    }

    /// Whether the medium failed while somebody loaded or stored a part of an extent.
    pub fn has_failed(&self, part: &Extent) -> bool {
        let start = part.start.get().saturating_mul(BLOCK_BYTES);
        let length = u64::from(part.length.get()).saturating_mul(BLOCK_BYTES);
        self.medium().has_failed(start..start.saturating_add(length))
    }
}

/// The error of a file that has lost what a part of an extent held.
pub(crate) fn lost_data(inode: u64, part: &Extent) -> Error {
    Error::LostData {
        inode,
        offset: part.offset.get().saturating_mul(BLOCK_BYTES),
        length: u64::from(part.length.get()).saturating_mul(BLOCK_BYTES),
    }
}

impl Engine {
    /// Has a function called for each owner of contents that the medium loses, and for each file of which it loses metadata.
    /// It is called after that is recorded, by the thread that met the error or reported it, which holds no lock.
    pub fn on_media_error(&self, handler: Box<dyn Fn(&MediaError) + Send + Sync>) {
        let mut handlers = self.core.media.handlers.write().unwrap_or_else(PoisonError::into_inner);
        handlers.push(Arc::from(handler));
    }

    /// Says that a range of bytes of the device is bad, however that is known; what was there is taken for lost. Returns
    /// who is hit, which handlers are told as well.
    ///
    /// What is free is zeroed and good again, if the medium can heal it. What is file data is recorded, and reads as EIO
    /// until it is written anew. Metadata is written anew out of memory or from what says the same. What the volume does not
    /// have is passed over.
    ///
    /// # Errors
    ///
    /// When metadata is lost that nothing else tells, or the journal does not heal: the volume is shut down then.
    pub fn report_media_error(&self, range: Range<u64>) -> Result<Vec<MediaError>> {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        self.core.report(&[blocks])
    }

    /// As [`Engine::report_media_error`], for a list in the form of sysfs `badblocks`, or of `ndctl list -M`. Of a list of
    /// several devices that is meant which has the name of `device`.
    ///
    /// # Errors
    ///
    /// As there; and [`Error::List`].
    pub fn report_media_errors(&self, list: &str, device: &Path) -> Result<Vec<MediaError>> {
        self.core.report(&badblocks::parse(list, device)?.blocks)
    }

    /// The ranges of bytes of the device that are recorded as bad, ascending.
    pub fn bad_ranges(&self) -> Result<Vec<Range<u64>>> {
        let _look = self.core.look()?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for group in self.core.each_group() {
            for (start, length) in group.bad().iter() {
                let start = self.core.volume.geometry.volume_block(group.number, start) * BLOCK_BYTES;
                let end = start.saturating_add(u64::from(length) * BLOCK_BYTES);
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => ranges.push(start..end),
                }
            }
        }
        Ok(ranges)
    }
}

/// The bytes of a block.
pub(crate) fn bytes_of(block: u64) -> Range<u64> {
    let start = block.saturating_mul(BLOCK_BYTES);
    start..start.saturating_add(BLOCK_BYTES)
}
