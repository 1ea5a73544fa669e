//! The whole tree of a volume, out into a directory.
//!
//! The image may be damaged, or made to harm. So: every name is created relative to an open directory, exclusively, and
//! no symlink is ever followed; a name that is no single name (`..`, one with `/` or NUL) is refused; a directory is
//! entered once, and a file with one link is taken once, so that no web of entries makes the tree endless. Whatever
//! fails is noted by its path, and the rest goes on.
//!
//! Directories get their attributes when they are left: they stay ours until then, inherit nothing to what is made in
//! them, and keep their times.

mod attributes;
mod contents;
mod directory;

use attributes::{Denied, Made};
use directory::Open;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::Device;
use paxfs_format::entry::{DirectoryEntry, Entry};
use paxfs_format::fork::ForkFault;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::names::printable;
use paxfs_format::volume::{StructureFault, Volume};
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// What came out.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Exported {
    /// Directories, the root among them.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Devices, FIFOs and sockets.
    pub special: u64,
    /// Names beyond the first of a file.
    pub hard_links: u64,
    /// Bytes of contents written.
    pub bytes: u64,
    /// What did not come out, or not whole.
    pub failures: Vec<Failure>,
    /// What only root may set.
    pub denied: Denied,
}

/// Something that did not come out whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its path on the volume.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Why something did not come out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}: refused, that is no name")]
    Name(String),
    #[error("inode {inode}: {fault}")]
    Inode { inode: u64, fault: StructureFault },
    #[error("inode {0} is free")]
    Free(u64),
    #[error("inode {inode} is of generation {found}, its name is one of generation {expected}")]
    Generation { inode: u64, found: u32, expected: u32 },
    #[error("inode {inode} has mode {mode:#o}, which is no type of file")]
    Type { inode: u64, mode: u32 },
    #[error("directory inode {0} has another name already")]
    DirectoryTwice(u64),
    #[error("inode {0} has one link, and another name already")]
    FileTwice(u64),
    #[error("inode {inode}: {fault}")]
    Fork { inode: u64, fault: ForkFault },
    #[error("the medium failed at byte {offset} of the file (block {block}): a hole is left there")]
    Medium { offset: u64, block: u64 },
    #[error("{what}: {error}")]
    Kernel { what: &'static str, error: Errno },
}

impl Trouble {
    fn kernel(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |error| Trouble::Kernel { what, error }
    }
}

/// Brings the tree of a volume out.
#[derive(Debug)]
pub struct Exporter<'v, B> {
    volume: &'v Volume<B>,
    device: &'v Device,
    exported: Exported,
    /// Where we are on the volume, without `/` at its end.
    path: Vec<u8>,
    /// Directories entered, and files with one link taken.
    seen: HashSet<u64>,
    /// The first name of each file with several links.
    linked: HashMap<u64, Vec<u8>>,
    is_root: bool,
}

impl<'v, B: Blocks> Exporter<'v, B> {
    /// An exporter of a volume on a device: the contents of files are taken from the device.
    pub fn new(volume: &'v Volume<B>, device: &'v Device) -> Self {
        Exporter {
            volume,
            device,
            exported: Exported::default(),
            path: Vec::new(),
            seen: HashSet::new(),
            linked: HashMap::new(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Brings the tree out into `directory`, which must be empty.
    ///
    /// # Errors
    ///
    /// Only those of the kernel that leave no place to go on from; others are in [`Exported::failures`].
    pub fn run(mut self, directory: BorrowedFd<'_>) -> Result<Exported, Errno> {
        let number = self.volume.superblock.root.get();
        let root = match self.inode(number) {
            Ok(root) => root,
            Err(trouble) => {
                self.note(&trouble);
                return Ok(self.exported);
            }
        };
        attributes::forget_inherited(directory);
        self.seen.insert(number);
        self.exported.directories = 1;
        let mut open = Open::new(directory, root, self.volume)?;
        loop {
            match open.next_entry() {
                Some(Ok(entry)) => self.entry(&mut open, &entry)?,
                Some(Err(fault)) => {
                    let inode = open.inode().header.place.get();
                    self.note(&Trouble::Fork { inode, fault });
                }
                None => {
                    let inode = open.inode();
                    self.finish(&Made::open(open.fd()?), inode);
                    if !open.leave()? {
                        return Ok(self.exported);
                    }
                    let parent = self.path.iter().rposition(|&byte| byte == b'/');
                    self.path.truncate(parent.unwrap_or(0));
                }
            }
        }
    }

    /// Takes one entry of the directory that is open.
    fn entry(&mut self, open: &mut Open<'v>, entry: &Entry<'v, DirectoryEntry>) -> Result<(), Errno> {
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(entry.name);
        match self.make(open, entry) {
            Ok(Some(directory)) => {
                // The path is now that of the directory entered.
                return open.enter(entry.name, directory, self.volume);
            }
            Ok(None) => {}
            Err(trouble) => self.note(&trouble),
        }
        self.path.truncate(length);
        Ok(())
    }

    /// Makes what an entry names. A directory is made and returned, to be entered.
    fn make(
        &mut self,
        open: &mut Open<'v>,
        entry: &Entry<'v, DirectoryEntry>,
    ) -> Result<Option<&'v Inode>, Trouble> {
        let name = entry.name;
        let is_name =
            !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if !is_name {
            return Err(Trouble::Name(printable(name)));
        }
        let number = entry.head.inode.get();
        let inode = self.inode(number)?;
        let (found, expected) = (inode.generation.get(), entry.head.generation.get());
        if found != expected {
            return Err(Trouble::Generation { inode: number, found, expected });
        }
        let no_type = Trouble::Type { inode: number, mode: inode.mode.get() };
        let file_type = inode.file_type().ok_or(no_type)?;
        let fd = open.fd().map_err(Trouble::kernel("open the directory"))?;
        if file_type == FileType::Directory {
            if !self.seen.insert(number) {
                return Err(Trouble::DirectoryTwice(number));
            }
            rustix::fs::mkdirat(fd, name, Mode::RWXU).map_err(Trouble::kernel("make the directory"))?;
            self.exported.directories += 1;
            return Ok(Some(inode));
        }
        if inode.links.get() != 1 {
            if let Some(first) = self.linked.get(&number) {
                open.link(first, name).map_err(Trouble::kernel("make a hard link"))?;
                self.exported.hard_links += 1;
                return Ok(None);
            }
        } else if !self.seen.insert(number) {
            return Err(Trouble::FileTwice(number));
        }
        self.make_file(fd, name, inode, file_type)?;
        if inode.links.get() != 1 {
            self.linked.insert(number, self.path.clone());
        }
        Ok(None)
    }

    fn make_file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &'v [u8],
        inode: &'v Inode,
        file_type: FileType,
    ) -> Result<(), Trouble> {
        let number = inode.header.place.get();
        match file_type {
            FileType::Regular => {
                let file = contents::create(directory, name).map_err(Trouble::kernel("make the file"))?;
                self.exported.files += 1;
                let written = self.contents(&file, inode);
                self.finish(&Made::open(rustix::fd::AsFd::as_fd(&file)), inode);
                return written;
            }
            FileType::Symlink => {
                let target =
                    self.volume.target(inode).map_err(|fault| Trouble::Fork { inode: number, fault })?;
                rustix::fs::symlinkat(target.as_slice(), directory, name)
                    .map_err(Trouble::kernel("make the symlink"))?;
                self.exported.symlinks += 1;
            }
            _ => {
                let kind = rustix::fs::FileType::from_raw_mode(inode.mode.get());
                let device = rustix::fs::makedev(inode.major.get(), inode.minor.get());
                rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device)
                    .map_err(Trouble::kernel("make the device, FIFO or socket"))?;
                self.exported.special += 1;
            }
        }
        self.finish(&Made::named(directory, name), inode);
        Ok(())
    }

    fn inode(&self, number: u64) -> Result<&'v Inode, Trouble> {
        let inode = self.volume.inode(number).map_err(|fault| Trouble::Inode { inode: number, fault })?;
        if inode.is_free() { Err(Trouble::Free(number)) } else { Ok(inode) }
    }

    /// Notes that what is at the current path did not come out whole.
    fn note(&mut self, trouble: &Trouble) {
        let path = if self.path.is_empty() { "/".to_owned() } else { printable(&self.path) };
        self.exported.failures.push(Failure { path, error: trouble.to_string() });
    }
}

/// Links a path to what was made at another, both in `root`, and nothing outside of it.
fn link_within(
    root: BorrowedFd<'_>,
    first: &[u8],
    directory: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    let mut names = first.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
    let mut above = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    while let Some(part) = names.next() {
        if names.peek().is_none() {
            return rustix::fs::linkat(&above, part, directory, name, AtFlags::empty());
        }
        above = directory::open_below(rustix::fd::AsFd::as_fd(&above), part)?;
    }
    Err(Errno::NOENT)
}
