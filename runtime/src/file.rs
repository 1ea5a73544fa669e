//! Open files: reading, writing, space and sharing. And what can be asked and set of any inode.

use crate::core::Core;
use crate::data::{Purpose, Source, Writer, next_data, read};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inodes::{Cell, State};
use crate::map::{clip, extents_from, overlapping, remap};
use crate::medium::Point;
use crate::namespace::check_mutable;
use crate::views::{apart, is_in_view};
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, MAX_FILE_BLOCKS};
use paxfs_format::inode::{FileType, Inode, InodeFlags};
use paxfs_format::record::Record;
use paxfs_format::rmap::ExtentFlags;
use paxfs_format::time::Timestamp;
use std::sync::Arc;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// To read.
    pub read: bool,
    /// To write.
    pub write: bool,
    /// Writes go to the end, wherever they are aimed.
    pub append: bool,
}

impl Open {
    /// To read only.
    pub const READ: Self = Open { read: true, write: false, append: false };
    /// To read and write.
    pub const WRITE: Self = Open { read: true, write: true, append: false };
}

/// What is known of an inode, as in `statx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: u64,
    /// Tells it from earlier files of that number.
    pub generation: u32,
    /// What it is.
    pub kind: FileType,
    /// Permissions.
    pub permissions: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Its flags, see [`InodeFlags`].
    pub flags: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks of 4096 bytes that its extents cover.
    pub blocks: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of contents.
    pub modified: Timestamp,
    /// Last change of contents or attributes.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
    /// Numbers of a device.
    pub device: (u32, u32),
}

/// What is to be set of an inode; `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set {
    /// Permissions.
    pub permissions: Option<u32>,
    /// Owning user.
    pub uid: Option<u32>,
    /// Owning group.
    pub gid: Option<u32>,
    /// Last access.
    pub accessed: Option<Timestamp>,
    /// Last change of contents.
    pub modified: Option<Timestamp>,
    /// Flags, see [`InodeFlags`].
    pub flags: Option<u32>,
}

impl Attributes {
    pub(crate) fn of(inode: &Inode) -> Result<Self> {
        Ok(Attributes {
            inode: inode.header.place.get(),
            generation: inode.generation.get(),
            kind: inode.file_type().ok_or(Error::Stale)?,
            permissions: inode.mode.get() & 0o7777,
            uid: inode.uid.get(),
            gid: inode.gid.get(),
            links: inode.links.get(),
            flags: inode.flags.get(),
            size: inode.size.get(),
            blocks: inode.blocks.get(),
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
            born: inode.born,
            device: (inode.major.get(), inode.minor.get()),
        })
    }
}

impl Engine {
    /// What is known of an inode.
    pub fn attributes(&self, inode: u64) -> Result<Attributes> {
        let cell = {
            let _look = self.core.look()?;
            self.core.inode(inode)?
        };
        self.core.follow_touched_of(&cell);
        Attributes::of(&cell.read().inode)
    }

    /// Sets attributes of an inode.
    pub fn set_attributes(&self, inode: u64, set: &Set) -> Result<()> {
        let joined = self.core.join()?;
        let cell = self.core.inode(inode)?;
        let mut state = cell.write();
        if state.inode.is_free() {
            return Err(Error::Stale);
        }
        // That it is immutable may be taken away; that it is part of a snapshot may not.
        if set.flags.is_none() || state.inode.flags.get() & InodeFlags::SNAPSHOT != 0 {
            check_mutable(&state.inode)?;
        }
        let times = set.accessed.iter().chain(&set.modified);
        if times.into_iter().any(|time| !time.is_valid())
            || set.flags.is_some_and(|bits| bits & !(InodeFlags::KNOWN & !InodeFlags::SNAPSHOT) != 0)
        {
            return Err(Error::Invalid("times have nanoseconds below a second, flags must be known"));
        }
        let inode = &mut state.inode;
        if let Some(permissions) = set.permissions {
            inode.mode = (inode.mode.get() & !0o7777 | permissions & 0o7777).into();
        }
        inode.uid = set.uid.unwrap_or(inode.uid.get()).into();
        inode.gid = set.gid.unwrap_or(inode.gid.get()).into();
        inode.flags = set.flags.unwrap_or(inode.flags.get()).into();
        inode.accessed = set.accessed.unwrap_or(inode.accessed);
        inode.modified = set.modified.unwrap_or(inode.modified);
        joined.changed(&cell, &mut state);
        Ok(())
    }

    /// Opens a regular file.
    pub fn open_file(&self, inode: u64, open: Open) -> Result<File> {
        let _look = self.core.look()?;
        let cell = self.core.inode(inode)?;
        {
            let state = cell.read();
            match state.inode.file_type() {
                Some(FileType::Regular) => {}
                Some(FileType::Directory) => return Err(Error::IsADirectory),
                Some(_) => return Err(Error::Invalid("not a regular file")),
                None => return Err(Error::Stale),
            }
            if open.write {
                check_mutable(&state.inode)?;
            }
            if !cell.is_open() {
                // A change takes effect when nobody has it open.
                cell.is_dax.store(state.inode.flags.get() & InodeFlags::DAX != 0, Ordering::Release);
            }
            cell.opens.fetch_add(1, Ordering::AcqRel);
        }
        Ok(File { core: Arc::clone(&self.core), cell, open })
    }
}

/// An open regular file. It lives on without a name until the last handle is dropped.
#[derive(Debug)]
pub struct File {
    pub(crate) core: Arc<Core>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) open: Open,
}

impl Drop for File {
    fn drop(&mut self) {
        if self.cell.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
            // An orphan that cannot be freed now is freed by the next to open the volume. Blocks ahead of the end may stay.
            let _ = self.core.closed(&self.cell);
        }
    }
}

/// How [`File::allocate`] deals with the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// It grows when the range ends past it.
    Grows,
    /// It stays: `FALLOC_FL_KEEP_SIZE`.
    Stays,
}

impl File {
    /// Another handle of it.
    pub(crate) fn again(&self) -> Self {
        self.cell.opens.fetch_add(1, Ordering::AcqRel);
        File { core: Arc::clone(&self.core), cell: Arc::clone(&self.cell), open: self.open }
    }

    /// Its inode number.
    pub fn inode(&self) -> u64 {
        self.cell.number
    }

    /// What is known of it.
    pub fn attributes(&self) -> Result<Attributes> {
        self.core.follow_touched_of(&self.cell);
        let _look = self.core.look()?;
        Attributes::of(&self.cell.read().inode)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.cell.read().inode.size.get()
    }

    /// Reads from `offset`; returns how many bytes there were.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        if !self.open.read {
            return Err(Error::BadFile);
        }
        if is_in_view(to) {
            let mut apart = vec![0; to.len()];
            let length = self.read_at(offset, &mut apart)?;
            to.iter_mut().zip(apart).take(length).for_each(|(to, byte)| *to = byte);
            return Ok(length);
        }
        self.core.with_losses(|| {
            let _look = self.core.look()?;
            read(&self.core, &self.cell.read().inode, offset, to)
        })
    }

    /// Changes data. What finds no space must have changed nothing.
    pub(crate) fn change<T>(
        &self,
        mut change: impl FnMut(&Writer<'_>, &mut State) -> Result<T>,
    ) -> Result<T> {
        if !self.open.write {
            return Err(Error::BadFile);
        }
        self.core.with_space(|| self.change_once(&mut change))
    }

    fn change_once<T>(&self, change: impl FnOnce(&Writer<'_>, &mut State) -> Result<T>) -> Result<T> {
        let joined = self.core.join()?;
        let writer = Writer { core: &self.core, joined: &joined, number: self.cell.number };
        let mut state = self.cell.write();
        check_mutable(&state.inode)?;
        // What it does before it fails is part of the transaction, too: a block that was copied to be zeroed.
        self.core.inodes.set_dirty(&self.cell, &mut state);
        let answer = change(&writer, &mut state)?;
        state.inode.modified = joined.now;
        joined.changed(&self.cell, &mut state);
        Ok(answer)
    }

    /// Writes all of `bytes` at `offset`, or at the end of a file opened to append.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return if self.open.write { Ok(()) } else { Err(Error::BadFile) };
        }
        let bytes = &*apart(bytes);
        self.change(|writer, state| {
            let offset = if self.open.append { state.inode.size.get() } else { offset };
            check_append(&state.inode, offset)?;
            writer.write(state, offset, Source::Bytes(bytes))
        })
    }

    /// Writes at the end; returns where that was.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
        let bytes = &*apart(bytes);
        self.change(|writer, state| {
            let offset = state.inode.size.get();
            writer.write(state, offset, Source::Bytes(bytes))?;
            Ok(offset)
        })
    }

    /// Makes the file `size` bytes long.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if i64::try_from(size).is_err() {
            return Err(Error::TooLarge);
        }
        self.change(|writer, state| {
            check_append(&state.inode, size)?;
            let old = state.inode.size.get();
            self.core.check_unpinned(&self.cell, &(size / BLOCK_BYTES..MAX_FILE_BLOCKS))?;
            if size > old {
                writer.zero_behind_size(state, size)?;
                writer.core.medium().drain(Point::Data);
                writer.grow(state, size)?;
            }
            state.inode.size = size.into();
            // What a view shows of the last block behind the end has to be zeros.
            let last = size / BLOCK_BYTES;
            self.core.take_mappings_away(self.cell.number, &(last..last + 1))?;
            self.core.end_private_views(self.cell.number, size.div_ceil(BLOCK_BYTES))?;
            // Preallocation past the new size goes, too.
            let removed = remap(
                writer.core,
                writer.joined,
                &mut state.inode,
                &(size.div_ceil(BLOCK_BYTES)..MAX_FILE_BLOCKS),
                &[],
            )?;
            writer.forget_growth(state);
            writer.release(&removed)
        })
    }

    /// Allocates what is not allocated in a range; it reads as zeros.
    pub fn allocate(&self, range: Range<u64>, size: Size) -> Result<()> {
        check_range(&range)?;
        self.change(|writer, state| {
            let old = state.inode.size.get();
            let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
            let holes = holes(writer.core, &state.inode, &blocks)?;
            let runs =
                writer.allocate_all(state, holes.iter().map(|hole| (hole.clone(), Purpose::Reserve)))?;
            writer.keep_ahead(state, blocks.end);
            if size == Size::Grows && range.end > old {
                writer
                    .zero_behind_size(state, range.end)
                    .or_else(|error| writer.give_back_all(&runs, error))?;
                writer.core.medium().drain(Point::Data);
            }
            for (hole, mut extents) in holes.iter().zip(runs) {
                set_unwritten(&mut extents);
                remap(writer.core, writer.joined, &mut state.inode, hole, &extents)?;
            }
            if size == Size::Grows { writer.grow(state, range.end) } else { Ok(()) }
        })
    }

    /// Makes a range a hole: whole blocks are given back, the rest of it is zeroed. The size stays.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<()> {
        check_range(&range)?;
        self.change(|writer, state| {
            check_append(&state.inode, range.start)?;
            self.core.check_unpinned(&self.cell, &blocks_of(&range))?;
            zero_edges(writer, state, &range)?;
            let whole = range.start.div_ceil(BLOCK_BYTES)..range.end / BLOCK_BYTES;
            // The last block may be given back with what is behind the size.
            let end =
                if range.end >= state.inode.size.get() { range.end.div_ceil(BLOCK_BYTES) } else { whole.end };
            if whole.start < end {
                let removed = remap(writer.core, writer.joined, &mut state.inode, &(whole.start..end), &[])?;
                writer.release(&removed)?;
            }
            Ok(())
        })
    }

    /// Makes a range read as zeros, and keeps it allocated.
    pub fn zero_range(&self, range: Range<u64>, size: Size) -> Result<()> {
        check_range(&range)?;
        self.change(|writer, state| {
            check_append(&state.inode, range.start)?;
            self.core.check_unpinned(&self.cell, &blocks_of(&range))?;
            let old = state.inode.size.get();
            let whole = range.start.div_ceil(BLOCK_BYTES)..range.end / BLOCK_BYTES;
            let whole_or_none = (whole.start < whole.end).then(|| (whole.clone(), Purpose::Reserve));
            let runs = writer.allocate_all(state, whole_or_none)?;
            writer.keep_ahead(state, whole.end);
            if size == Size::Grows && range.end > old {
                writer
                    .zero_behind_size(state, range.end)
                    .or_else(|error| writer.give_back_all(&runs, error))?;
            }
            zero_edges(writer, state, &range).or_else(|error| writer.give_back_all(&runs, error))?;
            for mut extents in runs {
                set_unwritten(&mut extents);
                let removed = remap(writer.core, writer.joined, &mut state.inode, &whole, &extents)?;
                writer.release(&removed)?;
            }
            if size == Size::Grows { writer.grow(state, range.end) } else { Ok(()) }
        })
    }

    /// Makes everything durable that was done to the file, and with it all that was done before.
    ///
    /// # Errors
    ///
    /// [`Error::LostWrites`], once, when the medium failed under contents of the file since the last sync: all else is
    /// durable.
    pub fn sync(&self) -> Result<()> {
        self.core.clean_file(&self.cell, &(0..MAX_FILE_BLOCKS))?;
        self.core.commit()?;
        self.check_hit()
    }

    /// Says once that the medium failed under contents of the file.
    pub(crate) fn check_hit(&self) -> Result<()> {
        match self.cell.is_hit.swap(false, Ordering::Relaxed) {
            true => Err(Error::LostWrites(Some(self.cell.number))),
            false => Ok(()),
        }
    }

    /// As [`File::sync`]; times may be left behind.
    pub fn sync_data(&self) -> Result<()> {
        self.sync()
    }

    /// The first byte at or after `offset` that is in no hole: `SEEK_DATA`. Unwritten blocks count as a hole.
    pub fn seek_data(&self, offset: u64) -> Result<u64> {
        let _look = self.core.look()?;
        let state = self.cell.read();
        let data = next_data(&self.core, &state.inode, offset)?;
        if data < state.inode.size.get() { Ok(data) } else { Err(Error::NoData) }
    }

    /// The first byte at or after `offset` that is in a hole: `SEEK_HOLE`. The end of the file is one.
    pub fn seek_hole(&self, offset: u64) -> Result<u64> {
        let _look = self.core.look()?;
        let state = self.cell.read();
        let size = state.inode.size.get();
        if offset >= size {
            return Err(Error::NoData);
        }
        let mut at = offset;
        for extent in extents_from(&self.core, &state.inode, offset / BLOCK_BYTES) {
            let extent = extent?;
            if extent.offset.get() * BLOCK_BYTES > at || extent.flags.is_unwritten() {
                break;
            }
            at = extent.end() * BLOCK_BYTES;
        }
        Ok(at.min(size))
    }

    /// Its extents, ascending.
    pub fn extents(&self) -> Result<Vec<Extent>> {
        let _look = self.core.look()?;
        overlapping(&self.core, &self.cell.read().inode, &(0..MAX_FILE_BLOCKS))
    }
}

/// The blocks that have some of a range of bytes.
fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
}

fn check_range(range: &Range<u64>) -> Result<()> {
    if range.start >= range.end {
        Err(Error::Invalid("the range is empty"))
    } else if i64::try_from(range.end).is_err() {
        Err(Error::TooLarge)
    } else {
        Ok(())
    }
}

/// Whether a file that may only grow may be changed from `offset` on.
pub(crate) fn check_append(inode: &Inode, offset: u64) -> Result<()> {
    if inode.flags.get() & InodeFlags::APPEND != 0 && offset < inode.size.get() {
        Err(Error::NotPermitted("the file may only grow"))
    } else {
        Ok(())
    }
}

fn set_unwritten(extents: &mut [Extent]) {
    for extent in extents {
        extent.flags = ExtentFlags::new(ExtentFlags::UNWRITTEN);
    }
}

/// The parts of a range of file blocks that no extent covers.
fn holes(core: &Core, inode: &Inode, blocks: &Range<u64>) -> Result<Vec<Range<u64>>> {
    let mut holes = Vec::new();
    let mut at = blocks.start;
    for extent in overlapping(core, inode, blocks)? {
        if let Some(part) = clip(&extent, blocks) {
            if at < part.offset.get() {
                holes.push(at..part.offset.get());
            }
            at = part.end();
        }
    }
    if at < blocks.end {
        holes.push(at..blocks.end);
    }
    Ok(holes)
}

/// Zeros what a range has of blocks that it does not cover whole, as far as they have data below the size.
fn zero_edges(writer: &Writer<'_>, state: &mut State, range: &Range<u64>) -> Result<()> {
    let size = state.inode.size.get();
    let end = range.end.min(size.next_multiple_of(BLOCK_BYTES));
    let first = range.start..range.start.next_multiple_of(BLOCK_BYTES).min(end);
    let last = (end - end % BLOCK_BYTES).max(first.end)..end;
    for edge in [&first, &last] {
        writer.check_edge(state, edge)?;
    }
    for edge in [first, last] {
        let block = edge.start / BLOCK_BYTES;
        let holds_data = |inode: &Inode| -> Result<bool> {
            let below = overlapping(writer.core, inode, &(block..block + 1))?;
            Ok(below.first().is_some_and(|extent| !extent.flags.is_unwritten()))
        };
        if edge.start < edge.end && holds_data(&state.inode)? {
            let size = state.inode.size;
            writer.write(state, edge.start, Source::Zeros(edge.end - edge.start))?;
            // Zeros behind the size do not make the file longer.
            state.inode.size = size;
        }
    }
    Ok(())
}
