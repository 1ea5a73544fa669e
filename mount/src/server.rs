//! Each request of the kernel, in its words: decoded, done, answered.
//!
//! Nobody but the kernel changes the volume, so it may believe what it was told until it changes it itself: names,
//! attributes, contents, directories. What it cannot know it is told (`Volume::tell_changed`).

use crate::acl;
use crate::attributes::Change;
use crate::data::with_buffer;
use crate::fault::{Answer, Fault};
use crate::names::{Entry, Maker, What};
use crate::volume::Volume;
use core::time::Duration;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use paxfs_format::entry::MAX_NAME;
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_runtime::attributes::SetAttribute;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How long the kernel may believe what it was told.
pub(crate) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Background requests (reading ahead, writing back) that the kernel may have under way.
const BACKGROUND_MAX: u16 = 64;

/// What the kernel is asked to do where it can.
const CAPABILITIES: [InitFlags; 9] = [
    // Nobody else changes contents: pages stay as long as there is memory.
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_CACHE_SYMLINKS,
    // What is looked up while a directory is read need not be looked up.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    // Lists are obeyed by the kernel, and kept here; and with them goes what a new file's permissions are.
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// A volume as `fuser` serves it.
pub(crate) struct Server(pub Arc<Volume>);

impl Server {
    fn inode(&self, node: INodeNo) -> u64 {
        self.0.inode(node)
    }
}

fn maker(request: &Request, mode: u32, umask: u32) -> Maker {
    Maker { uid: request.uid(), gid: request.gid(), mode, umask }
}

fn enter(answer: Answer<Entry>, reply: ReplyEntry) {
    match answer {
        Ok(entry) => reply.entry(&TTL, &entry.attributes, entry.generation),
        Err(Fault(errno)) => reply.error(errno),
    }
}

fn finish(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(Fault(errno)) => reply.error(errno),
    }
}

/// Answers with bytes, or with their number when nobody has room for them.
fn value(answer: Answer<Vec<u8>>, room: u32, reply: ReplyXattr) {
    match answer {
        Ok(bytes) if room == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > usize::try_from(room).unwrap_or(0) => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(Fault(errno)) => reply.error(errno),
    }
}

/// No file of that name, which the kernel may remember.
fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for capability in CAPABILITIES {
            // A kernel without it does without.
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.engine.lookup(self.inode(parent), name.as_bytes());
        let answer = found.map_err(Fault::from).and_then(|inode| self.0.tell(inode));
        match answer {
            Err(Fault(errno)) if errno.code() == libc::ENOENT => {
                reply.entry(&TTL, &nothing(), Generation(0));
            }
            answer => enter(answer, reply),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.0.lookups.forget(self.inode(ino), nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attributes(self.inode(ino)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { permissions: mode, uid, gid, size, accessed, modified };
        match self.0.set(self.inode(ino), &change, request.uid()) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.engine.read_link(self.inode(ino)).map_err(Fault::from) {
            Ok(target) => reply.data(&target),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let maker = maker(request, mode, umask);
        enter(self.0.make_node(self.inode(parent), name.as_bytes(), rdev, &maker), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let maker = maker(request, mode, umask);
        enter(self.0.make(self.inode(parent), name.as_bytes(), &What::Directory, &maker), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let answer = self.0.engine.unlink(self.inode(parent), name.as_bytes());
        finish(answer.map_err(Fault::from), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let answer = self.0.engine.remove_directory(self.inode(parent), name.as_bytes());
        finish(answer.map_err(Fault::from), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let what = What::Symlink(target.as_os_str().as_bytes());
        let maker = maker(request, 0o777, 0);
        enter(self.0.make(self.inode(parent), name.as_bytes(), &what, &maker), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (self.inode(parent), self.inode(newparent));
        finish(self.0.rename((from, name.as_bytes()), (to, newname.as_bytes()), flags), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let inode = self.inode(ino);
        let made = self.0.engine.link(inode, self.inode(newparent), newname.as_bytes());
        enter(made.map_err(Fault::from).and_then(|()| self.0.tell(inode)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.0.open_file(self.inode(ino), flags) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let opened = match self.0.handles.get(fh) {
            Ok(opened) => opened,
            Err(Fault(errno)) => return reply.error(errno),
        };
        with_buffer(usize::try_from(size).unwrap_or(0), |buffer| {
            match opened.file.read_at(offset, buffer).map_err(Fault::from) {
                Ok(there) => reply.data(buffer.get(..there).unwrap_or_default()),
                Err(Fault(errno)) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = || -> Answer<u32> {
            let opened = self.0.handles.get(fh)?;
            // What comes out of the kernel's cache was written by somebody before.
            if !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
                let modes = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
                self.0.drop_privileges(self.inode(ino), modes)?;
            }
            opened.file.write_at(offset, data)?;
            Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
        };
        match write() {
            Ok(length) => reply.written(length),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing waits here for the end of a file; so the kernel asks no more.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let closed = self.0.handles.remove(fh);
        let writable = closed.as_ref().is_some_and(|opened| opened.writable);
        drop(closed);
        reply.ok();
        if writable {
            // Blocks ahead of its end were taken back.
            self.0.tell_changed(self.inode(ino));
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let sync = || -> Answer<()> {
            let opened = self.0.handles.get(fh)?;
            let answer = if datasync { opened.file.sync_data() } else { opened.file.sync() };
            answer.map_err(Fault::from)
        };
        finish(sync(), reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Directories are read by their numbers; so the kernel asks no more, and keeps what it has read.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.0.list(self.inode(ino), offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        match self.0.list_plus(self.inode(ino), offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        finish(self.0.engine.sync().map_err(Fault::from), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.0.engine.statistics().map_err(Fault::from) {
            Ok(found) => {
                // Inodes are made where there is space for them.
                let free = found.available.saturating_mul(INODES_PER_BLOCK);
                let block = u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX);
                let name = u32::try_from(MAX_NAME).unwrap_or(u32::MAX);
                let (blocks, inodes) = (found.blocks, found.inodes.saturating_add(free));
                reply.statfs(blocks, found.free, found.available, inodes, free, block, name, block);
            }
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (inode, name) = (self.inode(ino), name.as_bytes());
        let how = match flags {
            libc::XATTR_CREATE => SetAttribute::Create,
            libc::XATTR_REPLACE => SetAttribute::Replace,
            _ => SetAttribute::Any,
        };
        let answer = match name {
            acl::ACCESS | acl::DEFAULT => self.0.set_list(inode, name, value, (request.uid(), request.gid())),
            _ => self.0.engine.set_attribute(inode, name, value, how).map_err(Fault::from),
        };
        finish(answer, reply);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let answer = self.0.engine.get_attribute(self.inode(ino), name.as_bytes());
        value(answer.map_err(Fault::from), size, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.0.engine.list_attributes(self.inode(ino)).map_err(Fault::from);
        let answer = names.map(|names| {
            let is_seen = |name: &&Vec<u8>| request.uid() == 0 || !name.starts_with(b"trusted.");
            names.iter().filter(is_seen).flat_map(|name| name.iter().copied().chain([0])).collect()
        });
        value(answer, size, reply);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (inode, name) = (self.inode(ino), name.as_bytes());
        let answer = match name {
            acl::ACCESS | acl::DEFAULT => self.0.remove_list(inode, name),
            _ => self.0.engine.remove_attribute(inode, name).map_err(Fault::from),
        };
        finish(answer, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let maker = maker(request, mode, umask);
        let made = self.0.make(self.inode(parent), name.as_bytes(), &What::File, &maker);
        let opened = made.and_then(|entry| {
            let inode = entry.attributes.ino.0;
            let opened = self.0.open_file(inode, OpenFlags(flags));
            let handle = opened.inspect_err(|_| self.0.lookups.forget(inode, 1))?;
            Ok((entry, handle))
        });
        match opened {
            Ok((entry, handle)) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TTL, &entry.attributes, entry.generation, handle, flags);
            }
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        match self.0.control(self.inode(ino), cmd, in_data) {
            Ok(bytes) => reply.ioctl(0, &bytes),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = || -> Answer<()> {
            let opened = self.0.handles.get(fh)?;
            self.0.allocate(&opened.file, offset..offset.saturating_add(length), mode)
        };
        finish(allocate(), reply);
    }

    fn lseek(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let seek = || -> Answer<i64> {
            let opened = self.0.handles.get(fh)?;
            let offset = u64::try_from(offset).map_err(|_| Fault(Errno::ENXIO))?;
            let found = match whence {
                libc::SEEK_DATA => opened.file.seek_data(offset)?,
                libc::SEEK_HOLE => opened.file.seek_hole(offset)?,
                _ => return Err(Fault(Errno::EINVAL)),
            };
            i64::try_from(found).map_err(|_| Fault(Errno::EOVERFLOW))
        };
        match seek() {
            Ok(found) => reply.offset(found),
            Err(Fault(errno)) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let copy = || -> Answer<u32> {
            let (source, target) = (self.0.handles.get(fh_in)?, self.0.handles.get(fh_out)?);
            self.0.drop_privileges(self.inode(ino_out), request.uid() != 0)?;
            let copied = self.0.copy((&source.file, offset_in), (&target.file, offset_out), len)?;
            Ok(u32::try_from(copied).unwrap_or(u32::MAX))
        };
        match copy() {
            Ok(length) => reply.written(length),
            Err(Fault(errno)) => reply.error(errno),
        }
    }
}
