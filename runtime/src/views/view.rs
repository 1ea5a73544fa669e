//! Views as their users see them.

use super::area::{Area, Plan, Stores};
use super::fault::{Outcome, prefault};
use super::{registry, signal};
use crate::error::{Error, Result};
use crate::file::File;
use crate::medium::Point;
use core::ops::Range;
use core::ptr::NonNull;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::inode::InodeFlags;
use std::sync::Arc;

/// Where stores to a view go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// There are none: a store is a SIGBUS.
    ReadOnly,
    /// To the file, where all see them: `MAP_SHARED`.
    Shared,
    /// To the view alone: `MAP_PRIVATE`. What was not stored to follows the file, and all ends where the file does.
    Private,
}

/// A range of a file that is mapped: loads are the medium's bytes, and stores go to the medium.
///
/// Address and offset in the file agree modulo 2 MiB. A hole is zeros; the first store to it allocates. What is past the end
/// of the file is a SIGBUS until the file grows. So is what cannot be had: no space, a volume that is shut down or closed, a
/// damaged extent map ([`Engine::last_fault`](crate::engine::Engine::last_fault) says why).
///
/// A store is durable after [`View::sync`], [`File::sync`] or `Engine::sync`; on a medium of cache lines also when the
/// program wrote its lines back by itself, since what leads to a block is durable before the first store to it goes on.
///
/// A child made by `fork` does not have it. Addresses handed to a system call have to be [`pinned`](View::pin) first if it
/// stores there, and looked at or pinned if it loads.
#[derive(Debug)]
pub struct View {
    file: File,
    area: Arc<Area>,
    /// Bytes of the file.
    range: Range<u64>,
}

/// Pages of a view that can be stored to, and that stay where they are, until this is dropped.
#[derive(Debug)]
pub struct Pinned<'v> {
    view: &'v View,
    blocks: Range<u64>,
}

impl File {
    /// Maps a range of bytes, which may go past the end of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when it does not start at a multiple of 4096, or is empty; [`Error::BadFile`] when the file is not
    /// open for that, or to append; [`Error::NotSupported`] when the file is not DAX (see
    /// [`Dax`](crate::engine::Dax)), and for a private view on devdax; [`Error::Mapping`] when the kernel has no addresses
    /// left.
    pub fn map(&self, range: Range<u64>, sharing: Sharing) -> Result<View> {
        if !range.start.is_multiple_of(BLOCK_BYTES) || range.start >= range.end {
            return Err(Error::Invalid("a view starts at a multiple of 4096, and is not empty"));
        }
        if i64::try_from(range.end).is_err() {
            return Err(Error::TooLarge);
        }
        let stores = match sharing {
            Sharing::ReadOnly => Stores::Never,
            Sharing::Shared => Stores::Shared,
            Sharing::Private => Stores::Private,
        };
        if !self.open.read || sharing == Sharing::Shared && (!self.open.write || self.open.append) {
            return Err(Error::BadFile);
        }
        if !self.core.is_dax(&self.cell) {
            return Err(Error::NotSupported(
                "the file is not DAX: see its dax flag and the engine's dax option",
            ));
        }
        let guard = Arc::clone(self.core.views.guard(stores));
        if guard.is_memory() {
            signal::install().map_err(|error| Error::Mapping(error.kind()))?;
        }
        if stores == Stores::Private && !guard.takes_private() {
            return Err(Error::NotSupported("private views on devdax"));
        }
        let mut blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        if guard.is_coarse() {
            blocks = blocks.start - blocks.start % HUGE_BLOCKS..blocks.end.next_multiple_of(HUGE_BLOCKS);
        }
        let file = self.again();
        let area = Area::new(Plan {
            core: Arc::downgrade(&self.core),
            cell: Arc::clone(&self.cell),
            stores,
            guard,
            door: Arc::clone(&self.core.views.door),
            blocks,
        })
        .map_err(|error| Error::Mapping(error.kind()))?;
        if area.guard.is_memory() {
            registry::insert(&area);
        }
        let view = View { file, area, range };
        {
            let _look = self.core.look()?;
            let state = self.cell.write();
            if sharing == Sharing::Shared
                && state.inode.flags.get()
                    & (InodeFlags::APPEND | InodeFlags::IMMUTABLE | InodeFlags::SNAPSHOT)
                    != 0
            {
                return Err(Error::NotPermitted("the file may not be stored to"));
            }
            // What the running transaction did to the file is not durable. If that is nothing, no commit has to come.
            self.core.views.add(&view.area, self.core.running() - u64::from(!state.dirty));
        }
        Ok(view)
    }
}

impl View {
    /// The first byte, where the view is memory; `None` on a medium that cannot be mapped, where [`View::load`] and
    /// [`View::store`] are the way. Who stores there while others load, or the other way round, has to order it as with any
    /// memory that threads share.
    pub fn address(&self) -> Option<NonNull<u8>> {
        let at = self.area.address(self.range.start / BLOCK_BYTES);
        NonNull::new(core::ptr::with_exposed_provenance_mut(at)).filter(|_| self.area.guard.is_memory())
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether it has none: never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The file's bytes that it shows.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Loads bytes from an offset in the view.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] past the view's end. Where the view is no memory also what would be a SIGBUS: [`Error::PastEnd`]
    /// and all others.
    pub fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let at = self.place(offset, to.len())?;
        self.access(offset, to.len(), false, || self.area.guard.load(at, to))
    }

    /// Stores bytes at an offset in the view.
    ///
    /// # Errors
    ///
    /// As for [`View::load`].
    pub fn store(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = self.place(offset, bytes.len())?;
        self.access(offset, bytes.len(), true, || self.area.guard.store(at, bytes))
    }

    /// The address of an offset, if so many bytes are there.
    fn place(&self, offset: u64, length: usize) -> Result<usize> {
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= self.len());
        let skip = usize::try_from(offset).ok().filter(|_| fits);
        let skip = skip.ok_or(Error::Invalid("past the end of the view"))?;
        Ok(self.area.address(self.range.start / BLOCK_BYTES) + skip)
    }

    /// Tries an access until no page of it has to be asked for.
    fn access(
        &self,
        offset: u64,
        length: usize,
        store: bool,
        mut attempt: impl FnMut() -> Option<()>,
    ) -> Result<()> {
        while attempt().is_none() {
            for block in self.blocks(&(offset..offset + length as u64)) {
                if self.area.resolve(&self.file.core, block, store)? == Outcome::Frozen {
                    self.file.core.wait_until_thawed();
                }
            }
        }
        Ok(())
    }

    /// File blocks of a range of the view.
    fn blocks(&self, range: &Range<u64>) -> Range<u64> {
        let start = self.range.start + range.start.min(self.len());
        let end = self.range.start + range.end.min(self.len());
        start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)
    }

    /// Makes what was stored to a range of the view durable. What that costs follows what was stored to, not the range.
    /// Times of the file may be left behind: see [`File::sync`].
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`], [`Error::Device`], [`Error::Mapping`]; [`Error::LostWrites`] as for [`File::sync`].
    pub fn sync(&self, range: Range<u64>) -> Result<()> {
        let core = &self.file.core;
        core.check_alive()?;
        core.clean_file(&self.file.cell, &self.blocks(&range))?;
        let _durable = core.medium().fence(Point::Mapped)?;
        core.notice()?;
        self.file.check_hit()
    }

    /// Makes a range of the view ready to be stored to by a system call, which gets EFAULT instead of a fault that could be
    /// answered; and keeps it so. Meanwhile nobody makes its blocks shared or gives them away: that is [`Error::Busy`].
    ///
    /// # Errors
    ///
    /// As for [`View::store`].
    pub fn pin(&self, range: Range<u64>) -> Result<Pinned<'_>> {
        self.place(range.start, 0)?;
        let blocks = self.blocks(&range);
        let core = &self.file.core;
        if self.area.stores == Stores::Never {
            return Err(Error::BadFile);
        }
        {
            // Who shares blocks or gives them away holds one of these alone.
            let _look = core.look()?;
            let _state = self.file.cell.read();
            core.views.of(self.file.cell.number).ok_or(Error::Stale)?.pin(blocks.clone());
        }
        // Pinned before it is made ready, so that nobody takes it away again.
        let pinned = Pinned { view: self, blocks: blocks.clone() };
        prefault(&self.area, core, blocks)?;
        Ok(pinned)
    }

    /// As [`View::pin`], for memory that is handed to one system call after the other: nothing is pinned, so that a sync in
    /// between takes it back.
    ///
    /// # Errors
    ///
    /// As for [`View::store`].
    pub fn prefault_write(&self, range: Range<u64>) -> Result<()> {
        self.pin(range).map(drop)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let core = &self.file.core;
        // What cannot be flushed now was never promised to be durable.
        let _ = core.clean_file(&self.file.cell, &self.area.blocks);
        core.follow_touched_of(&self.file.cell);
        registry::remove(&self.area);
        core.views.remove(&self.area);
        self.area.release();
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if let Some(mapping) = self.view.file.core.views.of(self.view.file.cell.number) {
            mapping.unpin(&self.blocks);
        }
    }
}
