//! The directories that are being filled, from the root down to where the export is.
//!
//! Each level keeps a handle, but no more than [`HANDLES`] at once: above that the upper ones are closed, and opened
//! again through `..` when the export comes back, which is believed only if it is the same directory.

use paxfs_format::blocks::Blocks;
use paxfs_format::entry::{DirectoryEntry, Entry};
use paxfs_format::fork::ForkFault;
use paxfs_format::inode::Inode;
use paxfs_format::volume::Volume;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Most directories open at once; a process may have 1024 files open.
const HANDLES: usize = 256;

type Entries<'v> = Box<dyn Iterator<Item = Result<Entry<'v, DirectoryEntry>, ForkFault>> + 'v>;

/// The open directories.
pub(super) struct Open<'v> {
    root: OwnedFd,
    lowest: Level<'v>,
    /// Those above it, the root first.
    above: Vec<Level<'v>>,
}

struct Level<'v> {
    inode: &'v Inode,
    entries: Entries<'v>,
    /// None while it is closed; never of the lowest.
    fd: Option<OwnedFd>,
    /// Device and inode on the host.
    identity: (u64, u64),
}

impl<'v> Level<'v> {
    fn new<B: Blocks>(fd: OwnedFd, inode: &'v Inode, volume: &'v Volume<B>) -> Result<Self, Errno> {
        let identity = identity(fd.as_fd())?;
        Ok(Level { inode, entries: Box::new(volume.directory(inode)), fd: Some(fd), identity })
    }
}

impl<'v> Open<'v> {
    /// Only the root, in `directory`.
    pub(super) fn new<B: Blocks>(
        directory: BorrowedFd<'_>,
        inode: &'v Inode,
        volume: &'v Volume<B>,
    ) -> Result<Self, Errno> {
        let lowest = Level::new(rustix::io::fcntl_dupfd_cloexec(directory, 0)?, inode, volume)?;
        Ok(Open { root: rustix::io::fcntl_dupfd_cloexec(directory, 0)?, lowest, above: Vec::new() })
    }

    /// The next entry of the lowest directory.
    pub(super) fn next_entry(&mut self) -> Option<Result<Entry<'v, DirectoryEntry>, ForkFault>> {
        self.lowest.entries.next()
    }

    /// Inode of the lowest directory.
    pub(super) fn inode(&self) -> &'v Inode {
        self.lowest.inode
    }

    /// Handle of the lowest directory.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.lowest.fd.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Goes down into the directory `name`, which was made just now.
    pub(super) fn enter<B: Blocks>(
        &mut self,
        name: &[u8],
        inode: &'v Inode,
        volume: &'v Volume<B>,
    ) -> Result<(), Errno> {
        let level = Level::new(open_below(self.fd()?, name)?, inode, volume)?;
        self.above.push(std::mem::replace(&mut self.lowest, level));
        let closed = self.above.len().checked_sub(HANDLES);
        if let Some(level) = closed.and_then(|index| self.above.get_mut(index)) {
            level.fd = None;
        }
        Ok(())
    }

    /// Goes up; false when the lowest directory was the root.
    pub(super) fn leave(&mut self) -> Result<bool, Errno> {
        let Some(mut level) = self.above.pop() else { return Ok(false) };
        if level.fd.is_none() {
            let above = open_below(self.fd()?, b"..")?;
            if identity(above.as_fd())? != level.identity {
                return Err(Errno::STALE);
            }
            level.fd = Some(above);
        }
        self.lowest = level;
        Ok(true)
    }

    /// Makes `name` in the lowest directory a hard link to what was made at the path `first`.
    pub(super) fn link(&self, first: &[u8], name: &[u8]) -> Result<(), Errno> {
        super::link_within(self.root.as_fd(), first, self.fd()?, name)
    }
}

/// Opens a directory in another, not through a symlink.
pub(super) fn open_below(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
