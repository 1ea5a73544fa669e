//! Contents of regular files: written extents as they are, all else as holes. So unwritten extents, which read as zeros,
//! become holes, and what was allocated past the end is not there.

use super::{Exporter, Trouble};
use paxfs_format::blocks::Blocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::inode::Inode;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Most bytes given to the kernel at once.
const PIECE: u64 = 64 << 20;

/// Makes a file that was not there.
pub(super) fn create(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

impl<'v, B: Blocks> Exporter<'v, B> {
    /// Writes all of a file that can be read; the first trouble is returned at the end.
    pub(super) fn contents(&mut self, file: &OwnedFd, inode: &'v Inode) -> Result<(), Trouble> {
        let number = inode.header.place.get();
        let size = inode.size.get();
        let mut end = 0;
        let mut trouble = Ok(());
        for extent in self.volume.extents(inode) {
            let written = match extent {
                Ok(extent) if extent.flags.is_unwritten() => Ok(()),
                Ok(extent) => self.extent(file, &extent, size).map(|to| end = end.max(to)),
                Err(fault) => Err(Trouble::Fork { inode: number, fault }),
            };
            trouble = trouble.and(written);
        }
        if end < size {
            let sized = rustix::fs::ftruncate(file, size).map_err(Trouble::kernel("set the size"));
            trouble = trouble.and(sized);
        }
        trouble
    }

    /// Writes one extent as far as the file's size reaches; returns where it ends.
    fn extent(&mut self, file: &OwnedFd, extent: &Extent, size: u64) -> Result<u64, Trouble> {
        let place = |block: u64| block.saturating_mul(BLOCK_BYTES);
        let mut at = place(extent.offset.get());
        let end = place(extent.offset.get().saturating_add(extent.length.get().into())).min(size);
        let from = place(extent.start.get());
        let first = at;
        let mut trouble = Ok(());
        while at < end {
            let source = from.saturating_add(at - first);
            let length = (end - at).min(PIECE);
            let bytes =
                usize::try_from(length).ok().and_then(|length| self.device.bytes(source, length).ok());
            // The bytes are handed to the kernel as they are mapped: what cannot be read is EFAULT, and no signal.
            let written = match bytes {
                Some(bytes) => rustix::io::pwrite(file, bytes, at),
                None => Err(Errno::FAULT),
            };
            match written {
                Ok(0) => return Err(Trouble::Kernel { what: "write", error: Errno::IO }),
                Ok(count) => {
                    let count = u64::try_from(count).unwrap_or(length);
                    self.exported.bytes += count;
                    at = at.saturating_add(count);
                }
                Err(Errno::FAULT) => {
                    let failed = Err(Trouble::Medium { offset: at, block: source / BLOCK_BYTES });
                    trouble = trouble.and(failed);
                    at = (at / BLOCK_BYTES).saturating_add(1).saturating_mul(BLOCK_BYTES);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Trouble::Kernel { what: "write", error }),
            }
        }
        // A failed block at the end leaves the size to be set.
        trouble.map(|()| end)
    }
}
