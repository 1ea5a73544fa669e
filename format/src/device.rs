//! The one way a paxfs device is opened and mapped.
//!
//! A device is a regular file, a block device, a devdax character device, or plain memory (for tests and fuzzers).
//! It is only ever mapped: nobody calls `read` or `write` on one, because devdax has neither.
//!
//! ```
//! # use paxfs_format::device::{Access, Device};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("image");
//! let mut image = Device::create(&path, 1 << 20)?; // sparse, locked, mapped
//! image.bytes_mut(4096, 5)?.copy_from_slice(b"paxfs");
//! image.sync()?; // also says if a store could not be kept
//! drop(image);
//!
//! let image = Device::open(&path, Access::ReadOnly)?;
//! assert_eq!(&image.block(1)?[..5], b"paxfs");
//! assert!(!image.faulted(4096, 4096));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Faults
//!
//! A mapped page may be out of reach: the file was made smaller by someone, the file system it lies on is full and
//! the page was a hole, the medium has an error there. The process gets a SIGBUS; here that is caught, the block
//! reads as zeros from then on and forgets what is stored to it, and [`Device::faulted`] and [`Device::faults`]
//! tell. So a reader asks `faulted` when what it read makes no sense (zeros have no valid checksum), and a writer
//! has stored nothing for sure before [`Device::sync`] said so. On devdax a fault costs the whole unit the device
//! is mapped in, 2 MiB mostly; on others a page. [`Device::narrow`] brings back what of such a unit is not bad itself;
//! [`Device::heal`] makes a bad block one that keeps what is stored to it, where the medium can do that. A system call that is handed mapped bytes gets `EFAULT` instead of
//! a signal, and no fault is noted.
//!
//! # Invariants
//!
//! 1. A device opened [`Access::ReadOnly`] is never changed, its times included where the user may ask for that.
//! 2. A device opened [`Access::Exclusive`] is locked (`flock`) as long as the [`Device`] lives.
//! 3. No offset or length panics; all arithmetic on them is checked.
//! 4. 64-bit Linux only.
//!
//! This module knows nothing of what is on a device, and has no policy: whether to go on when
//! [`Device::in_use`] finds something is for the tools to say.

mod error;
mod handle;
mod heal;
mod inuse;
mod kind;
mod lock;
mod map;
mod pages;
mod registry;
mod sigbus;
mod unflushed;

use std::fmt;
use std::fs::{self, File};
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use self::kind::Extent;
use self::map::Map;
use self::unflushed::Unflushed;
use crate::geometry::BLOCK_SIZE;

pub use self::error::{DeviceError, MediumError};
pub use self::inuse::InUse;
pub use self::kind::DeviceKind;
pub use self::lock::Holder;

/// What a device is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look only: no lock, no trace, also while someone else changes it.
    ReadOnly,
    /// To change it, as the only one: locked, and a block device not otherwise in use by the kernel.
    Exclusive,
}

/// An open device, mapped whole.
pub struct Device {
    path: PathBuf,
    kind: DeviceKind,
    map: Map,
    /// The handle that holds the lock; none under plain memory.
    file: Option<File>,
    /// What may still be in CPU caches only, on a medium that has no `msync`.
    unflushed: Option<Unflushed>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut device = f.debug_struct("Device");
        device.field("path", &self.path).field("kind", &self.kind).field("bytes", &self.len());
        device.finish_non_exhaustive()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            lock::unlock(file);
        }
    }
}

/// Opening, making and sizing.
impl Device {
    /// Opens the device `path`. It may be empty; then every access is out of range.
    ///
    /// # Errors
    ///
    /// Any [`DeviceError`] but those of making and syncing. In particular [`DeviceError::Locked`],
    /// [`DeviceError::Mounted`] and [`DeviceError::Busy`] for [`Access::Exclusive`] only.
    pub fn open(path: &Path, access: Access) -> Result<Self, DeviceError> {
        let (file, kind) = handle::existing(path, access)?;
        Self::mapped(path, kind, file, access == Access::Exclusive)
    }

    /// Makes the regular file `path` of `bytes` zeros, sparse, and opens it for [`Access::Exclusive`]. When that
    /// fails there is no file left behind.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Exists`] for a file that is there, [`DeviceError::TooSmall`] for less than a block,
    /// [`DeviceError::TooLarge`], or what the kernel says.
    pub fn create(path: &Path, bytes: u64) -> Result<Self, DeviceError> {
        check_size(path, bytes)?;
        let file = handle::new(path)?;
        let device = lock::lock(path, DeviceKind::File, &file)
            .and_then(|()| set_size(path, &file, bytes))
            .and_then(|()| Self::mapped(path, DeviceKind::File, file, true));
        device.inspect_err(|_| {
            // It is the first error that counts.
            let _ = fs::remove_file(path);
        })
    }

    /// A device of plain memory, writable.
    #[must_use]
    pub fn memory(bytes: Vec<u8>) -> Self {
        let map = Map::heap(bytes);
        Self { path: PathBuf::from("(memory)"), kind: DeviceKind::Memory, map, file: None, unflushed: None }
    }

    /// Makes a regular file `bytes` long, by cutting off its end or adding zeros, and maps it anew.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NotResizable`] for other kinds and for [`Access::ReadOnly`]; [`DeviceError::TooSmall`] for
    /// less than a block; [`DeviceError::Faulted`] if stores so far were lost; [`DeviceError::TooLarge`], or what
    /// the kernel says. When mapping it anew fails the device is empty.
    pub fn resize(&mut self, bytes: u64) -> Result<(), DeviceError> {
        let path = &self.path;
        check_size(path, bytes)?;
        self.check_faults()?;
        let Some(file) = self.file.as_ref().filter(|_| self.kind == DeviceKind::File && self.map.writable())
        else {
            return Err(DeviceError::NotResizable { path: path.clone(), bytes: self.len() });
        };
        set_size(path, file, bytes)?;
        // Given back first, so that the two need not fit into the address space together.
        drop(mem::replace(&mut self.map, Map::empty(true)));
        self.map = Map::of(path, file, Extent::measure(path, self.kind, file)?, true)?;
        Ok(())
    }

    /// Who else uses the device `path`, if anyone does: a mount, swap, a loop device on it, a block device built on
    /// it, another process that has it open for [`Access::Exclusive`].
    ///
    /// What this process does itself does not count. On btrfs a lock is not seen here, only by [`Device::open`].
    ///
    /// # Errors
    ///
    /// When `path` or the kernel's own files cannot be looked at.
    pub fn in_use(path: &Path) -> Result<Option<InUse>, DeviceError> {
        InUse::find(path)
    }

    fn mapped(path: &Path, kind: DeviceKind, file: File, writable: bool) -> Result<Self, DeviceError> {
        let extent = Extent::measure(path, kind, &file)?;
        let map = Map::of(path, &file, extent, writable)?;
        let unflushed = (kind == DeviceKind::Devdax).then(|| Unflushed::new(map.bytes().len(), extent.unit));
        Ok(Self { path: path.to_path_buf(), kind, map, file: Some(file), unflushed })
    }
}

/// Reading.
impl Device {
    /// How long the device is, in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    /// The first byte of the device, for an engine whose threads store to it all at once; `None` when it is read-only.
    ///
    /// From then on the caller alone is answerable for who stores where when: it must not use the slices that this
    /// type gives out while anyone stores to what they show. The bytes are there as long as the device is.
    pub fn base(&mut self) -> Option<std::ptr::NonNull<u8>> {
        self.map.bytes_mut().map(|bytes| std::ptr::NonNull::from(bytes).cast())
    }

    /// Makes sure that stores to a range are on the medium, where that takes a system call: a file or block device. What
    /// faulted is not: who stored there asks [`Device::faulted`] afterwards.
    ///
    /// # Errors
    ///
    /// What `msync` says.
    pub fn sync_range(&self, offset: u64, length: u64) -> Result<(), DeviceError> {
        self.map.sync_range(offset, length).map_err(|source| DeviceError::Io {
            what: "write to it",
            path: self.path.clone(),
            source,
        })
    }

    /// Whether what is stored to it lasts as soon as it has left the processor's caches, with no system call: devdax;
    /// a file on a DAX file system, mapped with `MAP_SYNC`; and tmpfs, a memfd or plain memory, which have no other
    /// medium behind.
    ///
    /// False for a file that is open for [`Access::ReadOnly`] and lies on anything but tmpfs: nobody stores to it.
    #[must_use]
    pub fn is_byte_addressable(&self) -> bool {
        match self.kind {
            DeviceKind::Devdax | DeviceKind::Memory => true,
            DeviceKind::File => self.is_synchronous() || self.is_on_tmpfs(),
            DeviceKind::Block => false,
        }
    }

    /// Whether it is a file on tmpfs, or a memfd.
    #[must_use]
    pub fn is_on_tmpfs(&self) -> bool {
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        let file = self.file.as_ref().filter(|_| self.kind == DeviceKind::File);
        file.and_then(|file| rustix::fs::fstatfs(file).ok())
            .is_some_and(|statfs| statfs.f_type == TMPFS_MAGIC)
    }

    /// Whether it is mapped with `MAP_SYNC`: the kernel makes durable what leads to a page before the first store to it
    /// goes on. So is what lies on a DAX file system, and open to be changed.
    #[must_use]
    pub fn is_synchronous(&self) -> bool {
        self.map.synchronous()
    }

    /// The smallest piece of it that can be mapped, protected or replaced by itself, in bytes: a page, and on devdax what
    /// it was made with, 2 MiB mostly.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.map.unit() as u64
    }

    /// The open file, to map pieces of it by themselves ([`Device::unit`]); `None` under plain memory.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Whether the kernel maps it by 2 MiB at once where it can: devdax, and tmpfs with huge pages.
    #[must_use]
    pub fn is_huge(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        const HUGE: u64 = 2 << 20;
        let blocks =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.blksize());
        self.kind == DeviceKind::Devdax || blocks.is_some_and(|bytes| bytes >= HUGE)
    }

    /// Where the next bytes that may not be zero start, from `offset` on; `None` when zeros follow to the end.
    ///
    /// A sweep over a sparse file asks this first: reading a hole through a mapping costs tmpfs a page.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        if offset >= self.len() {
            return None;
        }
        match self.file.as_ref().filter(|_| self.kind == DeviceKind::File) {
            Some(file) => match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(data) => Some(data),
                Err(rustix::io::Errno::NXIO) => None,
                // The host file system cannot tell.
                Err(_) => Some(offset),
            },
            None => Some(offset),
        }
    }

    /// Whether it has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The name it was opened by; `(memory)` for plain memory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `length` bytes from byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`MediumError::OutOfRange`].
    #[inline]
    pub fn bytes(&self, offset: u64, length: usize) -> Result<&[u8], MediumError> {
        let bytes = self.map.bytes();
        let range = index(offset)..index(offset).saturating_add(length);
        bytes.get(range).ok_or_else(|| self.out_of_range(offset, length as u64))
    }

    /// Block number `block`. A block cut off by the end of the device is out of range.
    ///
    /// # Errors
    ///
    /// [`MediumError::OutOfRange`].
    #[inline]
    pub fn block(&self, block: u64) -> Result<&[u8; BLOCK_SIZE], MediumError> {
        let (blocks, _) = self.map.bytes().as_chunks();
        blocks
            .get(index(block))
            .ok_or_else(|| self.out_of_range(block.saturating_mul(BLOCK_SIZE as u64), BLOCK_SIZE as u64))
    }

    /// Whether a block in the range faulted (see [Faults](self#faults)); to be asked *after* its bytes were used.
    /// As long as nothing faulted anywhere on the device this costs one load.
    #[must_use]
    #[inline]
    pub fn faulted(&self, offset: u64, length: usize) -> bool {
        self.map.faulted(index(offset), length)
    }

    /// How many blocks faulted.
    #[must_use]
    #[inline]
    pub fn fault_count(&self) -> u64 {
        self.map.faults().map_or(0, registry::Watch::count)
    }

    /// The numbers of the blocks that faulted, ascending.
    #[must_use]
    pub fn faults(&self) -> Vec<u64> {
        self.map.faults().map(|watch| watch.blocks().collect()).unwrap_or_default()
    }
}

/// Changing.
impl Device {
    /// The `length` bytes from byte `offset` on, to be changed.
    ///
    /// # Errors
    ///
    /// [`MediumError::OutOfRange`], [`MediumError::ReadOnly`].
    pub fn bytes_mut(&mut self, offset: u64, length: usize) -> Result<&mut [u8], MediumError> {
        let range = self.changing(offset, length as u64)?;
        self.map.bytes_mut().and_then(|bytes| bytes.get_mut(range)).ok_or(MediumError::ReadOnly)
    }

    /// Several regions at once, as (byte offset, length), each to be changed, by as many threads. They must ascend
    /// and not overlap; they may touch.
    ///
    /// # Errors
    ///
    /// [`MediumError::OutOfRange`], [`MediumError::ReadOnly`], [`MediumError::Unordered`].
    pub fn regions_mut(&mut self, ranges: &[(u64, usize)]) -> Result<Vec<&mut [u8]>, MediumError> {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|(offset, length)| self.changing(*offset, *length as u64))
            .collect::<Result<_, _>>()?;
        let mut rest = self.map.bytes_mut().ok_or(MediumError::ReadOnly)?;
        let mut end = 0;
        let mut regions = Vec::with_capacity(ranges.len());
        for range in ranges {
            let unordered = MediumError::Unordered { offset: range.start as u64, end: end as u64 };
            let gap = range.start.checked_sub(end).ok_or(unordered)?;
            let (_, after) = mem::take(&mut rest).split_at_mut_checked(gap).ok_or(unordered)?;
            let (region, after) = after.split_at_mut_checked(range.len()).ok_or(unordered)?;
            (rest, end) = (after, range.end);
            regions.push(region);
        }
        Ok(regions)
    }

    /// Makes a range read as zeros, and takes no space for it where the medium can do without.
    ///
    /// # Errors
    ///
    /// [`MediumError::OutOfRange`], [`MediumError::ReadOnly`].
    pub fn zero_range(&mut self, offset: u64, length: u64) -> Result<(), MediumError> {
        let range = self.changing(offset, length)?;
        // A block that faulted is not on the medium any more.
        if range.is_empty() || (self.punch(offset, length) && !self.map.faulted(range.start, range.len())) {
            return Ok(());
        }
        self.map.bytes_mut().and_then(|bytes| bytes.get_mut(range)).ok_or(MediumError::ReadOnly)?.fill(0);
        Ok(())
    }

    /// Waits until everything stored so far is on the medium. Dropping a device without this loses nothing unless
    /// the machine fails, but nobody learns of faults.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Faulted`] if any block ever faulted, because stores to it are lost; [`DeviceError::Io`] if
    /// the medium could not be written.
    pub fn sync(&mut self) -> Result<(), DeviceError> {
        if self.map.writable() {
            match &mut self.unflushed {
                Some(unflushed) => unflushed.flush(self.map.bytes()),
                None => self.map.sync(),
            }
            .map_err(|error| DeviceError::from_io("write it back", &self.path, error))?;
        }
        self.check_faults()
    }

    /// The place in memory of a range that is about to be changed.
    fn changing(&mut self, offset: u64, length: u64) -> Result<Range<usize>, MediumError> {
        if !self.map.writable() {
            return Err(MediumError::ReadOnly);
        }
        let end = offset.checked_add(length).filter(|end| *end <= self.len());
        let range = index(offset)..index(end.ok_or_else(|| self.out_of_range(offset, length))?);
        if let Some(unflushed) = &mut self.unflushed {
            unflushed.mark(range.clone());
        }
        Ok(range)
    }

    /// Has the kernel drop a range from a file, or from a block device that promises zeros for it (unlike
    /// BLKDISCARD, this does, or fails). Gives false when the zeros have to be stored.
    fn punch(&self, offset: u64, length: u64) -> bool {
        let punchable = matches!(self.kind, DeviceKind::File | DeviceKind::Block);
        self.file.as_ref().filter(|_| punchable).is_some_and(|file| {
            fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).is_ok()
        })
    }

    fn check_faults(&self) -> Result<(), DeviceError> {
        let Some(watch) = self.map.faults() else { return Ok(()) };
        let first = watch.blocks().next().unwrap_or_default();
        Err(DeviceError::Faulted { path: self.path.clone(), blocks: watch.count(), first })
    }

    #[cold]
    fn out_of_range(&self, offset: u64, length: u64) -> MediumError {
        MediumError::OutOfRange { offset, length, device: self.len() }
    }
}

/// An offset as an index into memory. They are the same on the machines we build for (asserted in `map.rs`).
#[inline]
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Refuses a size for a file that holds no block or that no process could map.
fn check_size(path: &Path, bytes: u64) -> Result<(), DeviceError> {
    let path = path.to_path_buf();
    if bytes < BLOCK_SIZE as u64 {
        return Err(DeviceError::TooSmall { path, bytes, least: BLOCK_SIZE as u64 });
    }
    i64::try_from(bytes).map(drop).map_err(|_| DeviceError::TooLarge { path, bytes })
}

/// Makes `file` that long.
fn set_size(path: &Path, file: &File, bytes: u64) -> Result<(), DeviceError> {
    file.set_len(bytes).map_err(|error| DeviceError::from_sizing("set its size", path, bytes, error))
}
