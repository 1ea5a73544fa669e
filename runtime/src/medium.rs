//! Stores to the medium: the one way the engine changes a device, and the order in which that lasts.
//!
//! A store is *stored* when the processor has done it, *flushed* when it is on its way to the medium, *durable* after a
//! fence that followed the flush. Which stores of a crash are there is for the medium: an aligned word whole or not; on a
//! medium of cache lines, each line in the order of its own stores and apart from all others; on a medium of pages, each
//! page at any time.
//!
//! What must not happen before another thing is durable asks for a [`Durable`], which only [`Medium::fence`] makes: a
//! commit word stored too early does not compile.
//!
//! A block may *fail*: from then on it reads as zeros, and what is stored to it is lost. That is no error of the load or
//! store that met it; who has to know asks [`Medium::has_failed`] afterwards.

mod gated;
mod mapped;
mod overlay;
mod recorder;
mod x86;

pub use gated::Gated;
pub use mapped::Mapped;
pub use overlay::Overlay;
pub use recorder::{Cure, Event, Recorded, Recorder};

use core::ops::Range;
use paxfs_format::device::DeviceError;
use paxfs_format::geometry::BLOCK_BYTES;

/// What a medium takes whole, and what it takes to make a store last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Byte-addressable: 64 bytes, by cache-line write-back and a store fence.
    CacheLine,
    /// A file or block device behind the page cache: 4096 bytes, by a system call.
    Page,
}

/// How pieces of a medium can be mapped by themselves.
#[derive(Debug, Clone, Copy)]
pub struct Window<'m> {
    /// What is mapped.
    pub file: &'m std::fs::File,
    /// Whether it is memory: a file on tmpfs, or a memfd.
    pub memory: bool,
    /// Whether the kernel maps 2 MiB at once where it can.
    pub huge: bool,
    /// Whether nothing less than 2 MiB can be mapped, at a multiple of that: devdax, unless it was made in pages.
    pub coarse: bool,
    /// Whether it can be mapped so that stores stay with the mapping: anything but devdax.
    pub private: bool,
    /// Whether the file system of the file has to be told (`MAP_SYNC`) to keep durable by itself what leads to a mapped
    /// page.
    pub sync: bool,
}

/// Each point where the engine makes stores last or orders them, by name: so that a test can take one out and see that
/// somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A thread's file data, before its operation is over.
    Data,
    /// The journal slot, all but its commit word; and with it data and fresh blocks.
    Slot,
    /// The commit word.
    Commit,
    /// The lines that a transaction changed, in their homes.
    Homes,
    /// The homes of the last transaction and the copies of the superblock, before the superblock says that they are there.
    Close,
    /// The superblock of a volume that was closed.
    Closed,
    /// The homes that recovery wrote, before the superblock says so.
    Recovered,
    /// The superblock of a volume that was opened, before anything else is stored.
    Opened,
    /// A superblock or a copy that media errors made store anew, before another is, or before the journal is healed.
    Mended,
    /// What was stored through views, before a sync is over.
    Mapped,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Data,
        Self::Slot,
        Self::Commit,
        Self::Homes,
        Self::Close,
        Self::Closed,
        Self::Recovered,
        Self::Opened,
        Self::Mended,
        Self::Mapped,
    ];
}

/// Those of some cache lines in which two blocks differ.
fn differing(old: &[u8; 4096], lines: u64, new: &[u8; 4096]) -> u64 {
    let (old, new) = (old.as_chunks::<64>().0, new.as_chunks::<64>().0);
    let (mut asked, mut found) = (lines, 0);
    while asked != 0 {
        let line = asked & asked.wrapping_neg();
        let at = usize::try_from(line.trailing_zeros()).unwrap_or(0);
        // Not `!=`: without an early exit this is vector code.
        let differs = |(old, new): (&[u8; 64], &[u8; 64])| {
            old.iter().zip(new).fold(0, |all, (old, new)| all | (old ^ new)) != 0
        };
        if old.get(at).zip(new.get(at)).is_some_and(differs) {
            found |= line;
        }
        asked ^= line;
    }
    found
}

/// Proof that everything flushed before is on the medium.
#[derive(Debug)]
#[must_use = "the order of stores rests on this proof"]
pub struct Durable(());

/// A medium that is stored to by many threads. Who stores where, and that nobody reads it meanwhile, is for the caller to
/// arrange: a reader and a writer of the same bytes at the same time is a fault of the caller, though it can cost no more
/// than garbage in what was read.
pub trait Medium: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// What it takes whole.
    fn granularity(&self) -> Granularity;

    /// Reads `to.len()` bytes. Past the end they are zeros.
    fn load(&self, offset: u64, to: &mut [u8]);

    /// Those of some cache lines of an aligned block in which it differs from `new`: bit i for line i.
    fn changed_lines(&self, offset: u64, lines: u64, new: &[u8; 4096]) -> u64 {
        let mut old = [0; 4096];
        self.load(offset, &mut old);
        differing(&old, lines, new)
    }

    /// Stores bytes by way of the caches. An aligned word is stored whole. Past the end nothing is stored.
    fn store(&self, offset: u64, bytes: &[u8]);

    /// Stores bytes past the caches where that is faster; flushed by itself.
    fn store_nt(&self, offset: u64, bytes: &[u8]);

    /// Stores zeros past the caches; flushed by itself.
    fn zero_nt(&self, range: Range<u64>);

    /// Copies bytes to where they are not yet, past the caches; flushed by itself.
    fn copy_nt(&self, from: u64, to: u64, length: u64) {
        let mut bytes = [0; 4096];
        for done in (0..length).step_by(bytes.len()) {
            let step = usize::try_from(length - done).unwrap_or(usize::MAX).min(bytes.len());
            let Some(part) = bytes.get_mut(..step) else { return };
            self.load(from.saturating_add(done), part);
            self.store_nt(to.saturating_add(done), part);
        }
    }

    /// Starts the way of what was stored in a range to the medium.
    fn flush(&self, range: Range<u64>, point: Point);

    /// Makes sure that the next fence, of whichever thread, covers what this thread stored past the caches or flushed.
    fn drain(&self, point: Point);

    /// Waits until all that this thread stored past the caches or flushed is on the medium; but for blocks that failed.
    ///
    /// # Errors
    ///
    /// When the medium says that it lost something, and not what. Nothing may be believed durable then.
    fn fence(&self, point: Point) -> Result<Durable, DeviceError>;

    /// Stores an aligned word that says that what the proof is about has happened, and flushes it.
    fn commit(&self, offset: u64, word: u64, _after: &Durable) {
        self.store(offset, &word.to_le_bytes());
        self.flush(offset..offset.saturating_add(8), Point::Commit);
    }

    /// How pieces of it can be mapped by themselves; `None` when it is no file.
    fn window(&self) -> Option<Window<'_>> {
        None
    }

    /// How many blocks have failed and were not healed. Costs a load: this is asked all the time.
    fn failures(&self) -> u64 {
        0
    }

    /// The blocks that have failed, ascending.
    fn failed(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether a block in a range of bytes has failed; to be asked after the bytes were used.
    fn has_failed(&self, range: Range<u64>) -> bool {
        let _ = range;
        false
    }

    /// Brings back those blocks that failed only because others beside them did; what was stored to them since is lost.
    /// Nobody may use blocks that have failed meanwhile. Returns those that are left.
    fn narrow(&self) -> Vec<u64> {
        self.failed()
    }

    /// Makes a block that has failed, or is said to be bad, one that keeps what is stored to it; says whether that went
    /// well. Then it is zeros, as if this thread had stored them past the caches. Nobody else may use it meanwhile.
    fn heal(&self, block: u64) -> bool {
        let offset = block.saturating_mul(BLOCK_BYTES);
        self.zero_nt(offset..offset.saturating_add(BLOCK_BYTES));
        true
    }

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
