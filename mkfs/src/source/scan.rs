//! Reading a directory of the source: its names in order, and what `statx` says of each.

use super::attributes;
use super::path::{Path, open};
use crate::entries::Attribute;
use crate::inode::Meta;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::inode::{FileType, MAX_SYMLINK};
use paxfs_format::time::Timestamp;
use rayon::prelude::*;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, OFlags, RawDir, SeekFrom, Statx, StatxAttributes, StatxFlags, StatxTimestamp, readlinkat, seek,
    statx,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Entries looked at by one thread at a time.
const STAT_BATCH: usize = 128;

/// A file's identity on the source's machine.
pub(super) type Id = (u64, u64);

/// A directory to be read.
#[derive(Debug)]
pub(super) struct Directory {
    pub path: Arc<Path>,
    /// Its inode in the new volume.
    pub number: u64,
    /// The inode of the directory that holds it; 0 for the root.
    pub parent: u64,
    pub meta: Meta,
    pub id: Id,
    /// Whether something is mounted there: then it stays empty.
    pub mount: bool,
}

/// Something that could not be read, and why.
#[derive(Debug)]
pub(super) struct Fault {
    pub path: Vec<u8>,
    pub why: String,
}

/// A part of a file that holds data: (first block, blocks).
pub(super) type Range = (u64, u64);

/// What only few entries have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Target of a symlink.
    pub target: Vec<u8>,
    /// Attributes of what is not opened: anything but files and directories.
    pub attributes: Vec<Attribute>,
    /// Where a sparse file has data.
    pub data: Option<Vec<Range>>,
}

/// A name in a directory, and what it names.
#[derive(Debug)]
pub(super) struct Entry {
    /// Start of the name in [`Listing::names`].
    name: u32,
    length: u8,
    /// Whether something is mounted there.
    pub mount: bool,
    pub links: u32,
    /// Its inode in the new volume; 0 until it is known, and for what is left out.
    pub number: u64,
    /// Whether this name is the first of its inode: then its contents are stored.
    pub first: bool,
    pub id: Id,
    pub meta: Meta,
    pub extra: Option<Box<Extra>>,
}

/// A directory that was read.
#[derive(Debug)]
pub(super) struct Listing {
    pub directory: Directory,
    pub file: Option<OwnedFd>,
    names: Vec<u8>,
    /// Ascending by name.
    pub entries: Vec<Entry>,
    pub attributes: Vec<Attribute>,
    pub faults: Vec<Fault>,
}

impl Listing {
    /// The name of an entry.
    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        self.c_name(entry).to_bytes()
    }

    /// The same, for the kernel.
    pub(super) fn c_name(&self, entry: &Entry) -> &CStr {
        name_at(&self.names, entry)
    }
}

fn name_at<'a>(names: &'a [u8], entry: &Entry) -> &'a CStr {
    let start = usize::try_from(entry.name).unwrap_or(usize::MAX);
    let bytes = names.get(start..start.saturating_add(usize::from(entry.length) + 1)).unwrap_or_default();
    CStr::from_bytes_with_nul(bytes).unwrap_or_default()
}

/// What all readers need to know.
#[derive(Debug)]
pub(super) struct Scanner {
    pub root: OwnedFd,
    /// The path of the root, for messages and for calls that take nothing else.
    pub base: Vec<u8>,
    /// The image itself, if it is a file: left out.
    pub image: Option<Id>,
    /// No time is later than this.
    pub latest: Option<Timestamp>,
}

/// The flags of `statx` used everywhere.
pub(super) fn look(at: BorrowedFd<'_>, name: &CStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    statx(at, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Its identity.
pub(super) fn id_of(stat: &Statx) -> Id {
    (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

fn time(stamp: StatxTimestamp) -> Timestamp {
    Timestamp::new(stamp.tv_sec, stamp.tv_nsec)
}

impl Scanner {
    /// What the volume will say of a file. Without a birth time that the source knows, the oldest other time is taken.
    pub(super) fn meta(&self, stat: &Statx) -> Meta {
        let (modified, changed) = (time(stat.stx_mtime), time(stat.stx_ctime));
        let key = |time: &Timestamp| (time.seconds.get(), time.nanoseconds.get());
        let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = if known {
            time(stat.stx_btime)
        } else if key(&modified) < key(&changed) {
            modified
        } else {
            changed
        };
        let meta = Meta {
            mode: stat.stx_mode.into(),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            accessed: time(stat.stx_atime),
            modified,
            changed,
            born,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            ..Meta::new(0, modified)
        };
        self.latest.map_or(meta, |latest| meta.clamped(latest))
    }

    /// Reads a directory, and looks at everything in it.
    pub(super) fn scan(&self, directory: Directory) -> Listing {
        let mut listing = Listing {
            directory,
            file: None,
            names: Vec::new(),
            entries: Vec::new(),
            attributes: Vec::new(),
            faults: Vec::new(),
        };
        if listing.directory.mount {
            return listing;
        }
        if let Err(error) = self.read(&mut listing) {
            let path = listing.directory.path.join(&self.base, b"");
            let why = if error == Errno::AGAIN {
                CHANGED.to_owned()
            } else {
                std::io::Error::from(error).to_string()
            };
            listing.faults.push(Fault { path, why });
        }
        listing
    }

    fn read(&self, listing: &mut Listing) -> Result<(), Errno> {
        let file = listing.directory.path.open(&self.root)?;
        let before = look(file.as_fd(), c"")?;
        if id_of(&before) != listing.directory.id {
            return Err(Errno::AGAIN);
        }
        self.names(&file, listing)?;
        listing.attributes = attributes::of_file(&file)?;
        let (names, path) = (&listing.names, &listing.directory.path);
        let faults: Vec<Vec<Fault>> = listing
            .entries
            .par_chunks_mut(STAT_BATCH)
            .map(|entries| {
                let mut faults = Vec::new();
                for entry in entries {
                    let name = name_at(names, entry);
                    if let Err(error) = self.entry(file.as_fd(), path, name, listing.directory.id, entry) {
                        let path = path.join(&self.base, name.to_bytes());
                        faults.push(Fault { path, why: std::io::Error::from(error).to_string() });
                    }
                }
                faults
            })
            .collect();
        listing.faults.extend(faults.into_iter().flatten());
        listing.entries.retain(|entry| entry.meta.mode != 0);
        let after = look(file.as_fd(), c"")?;
        if (time(after.stx_mtime), time(after.stx_ctime)) != (time(before.stx_mtime), time(before.stx_ctime))
        {
            return Err(Errno::AGAIN);
        }
        listing.file = Some(file);
        Ok(())
    }

    fn names(&self, file: &OwnedFd, listing: &mut Listing) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut raw = RawDir::new(file, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let start = u32::try_from(listing.names.len()).map_err(|_| Errno::OVERFLOW)?;
            listing.names.extend_from_slice(name.to_bytes_with_nul());
            listing.entries.push(Entry {
                name: start,
                length: u8::try_from(name.to_bytes().len()).map_err(|_| Errno::NAMETOOLONG)?,
                mount: false,
                links: 0,
                number: 0,
                first: false,
                id: (0, 0),
                meta: Meta::new(0, Timestamp::new(0, 0)),
                extra: None,
            });
        }
        let names = &listing.names;
        listing.entries.sort_unstable_by(|a, b| name_at(names, a).cmp(name_at(names, b)));
        Ok(())
    }

    /// Looks at one entry. Its mode stays 0 when it is the image itself.
    fn entry(
        &self,
        at: BorrowedFd<'_>,
        path: &Path,
        name: &CStr,
        directory: Id,
        entry: &mut Entry,
    ) -> Result<(), Errno> {
        let stat = look(at, name)?;
        entry.id = id_of(&stat);
        if self.image == Some(entry.id) {
            return Ok(());
        }
        let meta = self.meta(&stat);
        entry.links = stat.stx_nlink;
        match FileType::from_mode(meta.mode) {
            Some(FileType::Directory) => {
                entry.mount = if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
                    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
                } else {
                    entry.id.0 != directory.0
                };
            }
            Some(FileType::Regular) => {
                // Fewer blocks than its size needs: there may be holes (or compression, or data in the inode).
                if stat.stx_blocks.saturating_mul(512) < meta.size {
                    let file = open(at, name, OFlags::empty())?;
                    let data = data_ranges(&file, meta.size)?;
                    entry.extra = Some(Box::new(Extra { data: Some(data), ..Extra::default() }));
                }
            }
            None => return Err(Errno::INVAL),
            Some(kind) => {
                let target = match kind {
                    FileType::Symlink => readlinkat(at, name, Vec::new())?.into_bytes(),
                    _ => Vec::new(),
                };
                if u64::try_from(target.len()).is_ok_and(|length| length > MAX_SYMLINK) {
                    return Err(Errno::NAMETOOLONG);
                }
                let mut whole = path.join(&self.base, name.to_bytes());
                if whole.len() >= 4096 {
                    whole = format!("/proc/self/fd/{}/", at.as_raw_fd()).into_bytes();
                    whole.extend_from_slice(name.to_bytes());
                }
                let attributes = attributes::of_path(&whole)?;
                if !target.is_empty() || !attributes.is_empty() {
                    entry.extra = Some(Box::new(Extra { target, attributes, data: None }));
                }
            }
        }
        entry.meta = meta;
        Ok(())
    }
}

/// Why a file or directory is refused whose times or size moved.
pub(super) const CHANGED: &str = "changed while it was read";

/// The parts of an open file that hold data, in whole blocks; those that touch are one.
pub(super) fn data_ranges(file: impl AsFd, size: u64) -> Result<Vec<Range>, Errno> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            // No such question is known here: all of it is data.
            Err(Errno::INVAL) => return Ok(vec![(0, size.div_ceil(BLOCK_BYTES))]),
            Err(error) => return Err(error),
        };
        let end = match seek(&file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let (first, last) = (start / BLOCK_BYTES, end.div_ceil(BLOCK_BYTES));
        match ranges.last_mut() {
            Some((before, blocks)) if *before + *blocks >= first => *blocks = last.saturating_sub(*before),
            _ => ranges.push((first, last.saturating_sub(first))),
        }
        at = end.max(at + 1);
    }
    Ok(ranges)
}
