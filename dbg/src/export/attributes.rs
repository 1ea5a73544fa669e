//! Owners, extended attributes, modes and times of what was made.

use super::{Exporter, Trouble};
use paxfs_format::blocks::Blocks;
use paxfs_format::entry::AttributeKind;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::time::Timestamp;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::Serialize;
use std::ffi::CString;

/// What could not be set because only root may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// Files whose owner is not theirs; they lost set-user-id and set-group-id with it.
    pub owners: u64,
    /// Extended attributes.
    pub xattrs: u64,
}

/// A file that was made: a handle on it, or where it is.
pub(super) enum Made<'f> {
    Open(BorrowedFd<'f>),
    Named { directory: BorrowedFd<'f>, name: &'f [u8] },
}

impl<'f> Made<'f> {
    /// A file or directory that is open.
    pub(super) fn open(fd: BorrowedFd<'f>) -> Self {
        Made::Open(fd)
    }

    /// A file that cannot or should not be opened.
    pub(super) fn named(directory: BorrowedFd<'f>, name: &'f [u8]) -> Self {
        Made::Named { directory, name }
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match self {
            Made::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Made::Named { directory, name } => {
                rustix::fs::chownat(directory, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Not for symlinks: they have no mode of their own.
    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Made::Open(fd) => rustix::fs::fchmod(fd, mode),
            // Follows symlinks, but this is a node that was made just now in a directory that is ours alone.
            Made::Named { directory, name } => rustix::fs::chmodat(directory, *name, mode, AtFlags::empty()),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Made::Open(fd) => rustix::fs::futimens(fd, times),
            Made::Named { directory, name } => {
                rustix::fs::utimensat(directory, *name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn set_xattr(&self, name: &CString, value: &[u8]) -> Result<(), Errno> {
        match self {
            Made::Open(fd) => rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty()),
            Made::Named { directory, name: file } => {
                // There is no setxattrat before Linux 6.13; the directory is reached by its handle all the same.
                let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
                path.extend_from_slice(file);
                rustix::fs::lsetxattr(path, name.as_c_str(), value, XattrFlags::empty())
            }
        }
    }
}

/// Takes off the ACLs that a directory has from the one above it, before anything inherits them.
pub(super) fn forget_inherited(directory: BorrowedFd<'_>) {
    for name in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        // Mostly there is none.
        let _ = rustix::fs::fremovexattr(directory, name);
    }
}

impl<'v, B: Blocks> Exporter<'v, B> {
    /// Gives what was made all attributes of its inode, as far as we may.
    pub(super) fn finish(&mut self, made: &Made<'_>, inode: &'v Inode) {
        // In this order: a change of owner takes set-user-id and capabilities away, an ACL changes the mode.
        let owned = self.own(made, inode);
        self.xattrs(made, inode);
        if inode.file_type() != Some(FileType::Symlink) {
            let kept = if owned { 0o7777 } else { 0o1777 };
            if let Err(error) = made.chmod(Mode::from_raw_mode(inode.mode.get() & kept)) {
                self.note(&Trouble::Kernel { what: "set the mode", error });
            }
        }
        let times = Timestamps {
            last_access: timespec(&inode.accessed),
            last_modification: timespec(&inode.modified),
        };
        if let Err(error) = made.set_times(&times) {
            self.note(&Trouble::Kernel { what: "set the times", error });
        }
    }

    /// Sets the owner; false when it is not what it should be.
    fn own(&mut self, made: &Made<'_>, inode: &Inode) -> bool {
        let (uid, gid) = (inode.uid.get(), inode.gid.get());
        // The highest number means "leave it" to the kernel, and is nobody's.
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        match made.chown(uid, gid) {
            Ok(()) => uid.is_some() && gid.is_some(),
            // EINVAL: a number without a meaning in our user namespace.
            Err(Errno::PERM | Errno::INVAL) => {
                let _ = made.chown(None, gid);
                self.exported.denied.owners += 1;
                false
            }
            Err(error) => {
                self.note(&Trouble::Kernel { what: "set the owner", error });
                false
            }
        }
    }

    fn xattrs(&mut self, made: &Made<'_>, inode: &'v Inode) {
        let number = inode.header.place.get();
        for entry in self.volume.attributes(inode) {
            let entry = match entry {
                Ok(entry) if entry.head.kind == AttributeKind::PARENT => continue,
                Ok(entry) => entry,
                Err(fault) => {
                    self.note(&Trouble::Fork { inode: number, fault });
                    continue;
                }
            };
            let value = match self.volume.attribute_value(inode, &entry) {
                Ok(value) => value,
                Err(fault) => {
                    self.note(&Trouble::Fork { inode: number, fault });
                    continue;
                }
            };
            let Ok(name) = CString::new(entry.name) else {
                self.note(&Trouble::Name(paxfs_format::names::printable(entry.name)));
                continue;
            };
            match made.set_xattr(&name, &value) {
                Ok(()) => {}
                Err(Errno::PERM) if !self.is_root => self.exported.denied.xattrs += 1,
                Err(error) => self.note(&Trouble::Kernel { what: "set an extended attribute", error }),
            }
        }
    }
}

/// A time as the kernel takes it; nanoseconds that are none as 0.
fn timespec(time: &Timestamp) -> Timespec {
    let nanoseconds = if time.is_valid() { time.nanoseconds.get() } else { 0 };
    Timespec { tv_sec: time.seconds.get(), tv_nsec: nanoseconds.into() }
}
