//! Making files, as the kernel asks for them: what they inherit of their directory, and what the kernel is told.

use crate::acl::Inherited;
use crate::attributes::{device_from_kernel, to_kernel};
use crate::fault::{Answer, Fault};
use crate::handles::Opened;
use crate::volume::Volume;
use fuser::{Errno, FileAttr, FileHandle, Generation, OpenAccMode, OpenFlags, RenameFlags};
use paxfs_format::inode::FileType;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::file::{Open, Set};
use paxfs_runtime::namespace::{New, Rename};

const SET_GROUP_ID: u32 = 0o2000;

/// An inode as the kernel is told of it.
pub(crate) struct Entry {
    pub attributes: FileAttr,
    pub generation: Generation,
}

/// Who makes a file, and how.
pub(crate) struct Maker {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub umask: u32,
}

/// What is to be made.
pub(crate) enum What<'a> {
    File,
    Directory,
    Node(FileType, u32),
    Symlink(&'a [u8]),
}

impl Volume {
    /// Tells the kernel of an inode: from then on it knows its number.
    pub(crate) fn tell(&self, inode: u64) -> Answer<Entry> {
        let held = self.lookups.add(&self.engine, inode)?;
        match held.attributes() {
            Ok(attributes) => Ok(Entry {
                attributes: to_kernel(&attributes),
                generation: Generation(attributes.generation.into()),
            }),
            Err(error) => {
                drop(held);
                self.lookups.forget(inode, 1);
                Err(error.into())
            }
        }
    }

    /// Makes a file.
    pub(crate) fn make(&self, directory: u64, name: &[u8], what: &What<'_>, maker: &Maker) -> Answer<Entry> {
        let is_directory = matches!(what, What::Directory);
        let above = self.engine.attributes(directory)?;
        let inherited = match what {
            What::Symlink(_) => Inherited { permissions: 0o777, lists: Vec::new() },
            _ => self.inherit(directory, maker.mode, maker.umask, is_directory)?,
        };
        let mut permissions = inherited.permissions;
        let mut gid = maker.gid;
        if above.permissions & SET_GROUP_ID != 0 {
            gid = above.gid;
            if is_directory {
                permissions |= SET_GROUP_ID;
            }
        }
        // Before its lists are there, nobody but its owner uses it.
        let first = if inherited.lists.is_empty() { permissions } else { permissions & 0o700 };
        let new = New { permissions: first, uid: maker.uid, gid };
        let inode = match what {
            What::File | What::Node(FileType::Regular, _) => self.engine.create(directory, name, &new)?,
            What::Directory => self.engine.make_directory(directory, name, &new)?,
            What::Node(kind, device) => {
                self.engine.make_node(directory, name, *kind, device_from_kernel(*device), &new)?
            }
            What::Symlink(target) => self.engine.symlink(directory, name, target, &new)?,
        };
        if !inherited.lists.is_empty() {
            for (list, bytes) in &inherited.lists {
                self.engine.set_attribute(inode, list, bytes, SetAttribute::Any)?;
            }
            self.engine.set_attributes(inode, &Set { permissions: Some(permissions), ..Set::default() })?;
        }
        self.tell(inode)
    }

    /// Makes what a mode says.
    pub(crate) fn make_node(&self, directory: u64, name: &[u8], device: u32, maker: &Maker) -> Answer<Entry> {
        let kind = FileType::from_mode(maker.mode & libc::S_IFMT).ok_or(Fault(Errno::EINVAL))?;
        self.make(directory, name, &What::Node(kind, device), maker)
    }

    /// Opens a file.
    pub(crate) fn open_file(&self, inode: u64, flags: OpenFlags) -> Answer<FileHandle> {
        let writable = flags.acc_mode() != OpenAccMode::O_RDONLY;
        // Whether it may be read the kernel knows. It says itself where what is appended goes.
        let file = self.engine.open_file(inode, Open { read: true, write: writable, append: false })?;
        Ok(self.handles.add(Opened { file, writable }))
    }

    /// Renames.
    pub(crate) fn rename(
        &self,
        (from, old): (u64, &[u8]),
        (to, new): (u64, &[u8]),
        flags: RenameFlags,
    ) -> Answer<()> {
        let how = match flags {
            RenameFlags::RENAME_NOREPLACE => Rename::NoReplace,
            RenameFlags::RENAME_EXCHANGE => Rename::Exchange,
            flags if flags.is_empty() => Rename::Replace,
            // Whiteouts are for overlayfs, which does without.
            _ => return Err(Fault(Errno::EINVAL)),
        };
        Ok(self.engine.rename(from, old, to, new, how)?)
    }
}
