//! Making stores last: pages are taken the right to be stored to, and the lines of those that had it are flushed.

use super::area::Area;
use super::pages::PageSet;
use super::table::Mapping;
use crate::core::{Core, lock};
use crate::error::{Error, Result};
use crate::inodes::Cell;
use crate::locks::{Rank, take};
use crate::map::{clip, overlapping};
use crate::medium::Point;
use core::ops::Range;
use paxfs_format::geometry::{BLOCK_BYTES, MAX_FILE_BLOCKS};
use paxfs_format::inode::Inode;
use paxfs_format::record::Record;
use paxfs_format::time::Timestamp;
use std::sync::Arc;

/// What becomes of pages that are cleaned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// They may become writable again without asking.
    Kept,
    /// They have to ask.
    Revoked,
}

impl Core {
    /// Flushes what was stored to a range of a file's blocks through views. The next fence makes it durable.
    pub fn clean_file(&self, cell: &Cell, blocks: &Range<u64>) -> Result<()> {
        let Some(mapping) = self.views.of(cell.number) else { return Ok(()) };
        let _look = self.look()?;
        let state = cell.read();
        self.clean(&mapping, &state.inode, blocks, Right::Kept)
    }

    /// As [`Core::clean_file`]; and nobody stores to the range any more without asking. The inode's lock is held alone, or
    /// the gate is: for who makes the blocks shared, or lets them stand still.
    pub fn revoke(&self, inode: &Inode, blocks: &Range<u64>) -> Result<()> {
        let Some(mapping) = self.views.of(inode.header.place.get()) else { return Ok(()) };
        if mapping.is_pinned(&self.views.reached(blocks)) {
            return Err(Error::Busy);
        }
        self.clean(&mapping, inode, blocks, Right::Revoked)
    }

    fn clean(&self, mapping: &Mapping, inode: &Inode, blocks: &Range<u64>, right: Right) -> Result<()> {
        // Who finds a page clean that another took has to wait until it is flushed.
        let _alone = take(Rank::Cleaning, || lock(&mapping.cleaning));
        let areas = mapping.areas();
        for area in areas {
            // First all that is to be written, so that it ends.
            let frames = match right {
                Right::Kept => area.take_dirty_frames(blocks),
                Right::Revoked => {
                    drop(area.take_dirty_frames(blocks));
                    area.frames_of(blocks).collect()
                }
            };
            let mut cleaned = Ok(());
            for (index, pages) in frames {
                if cleaned.is_ok() {
                    cleaned = self.clean_frame(mapping, inode, &area, index, pages, right);
                }
                if cleaned.is_err() {
                    // Still to be asked for dirty pages.
                    area.keep_dirty(index, PageSet::EMPTY);
                }
            }
            cleaned?;
        }
        // The fence is another thread's.
        self.medium().drain(Point::Mapped);
        Ok(())
    }

    fn clean_frame(
        &self,
        mapping: &Mapping,
        inode: &Inode,
        area: &Area,
        index: usize,
        pages: PageSet,
        right: Right,
    ) -> Result<()> {
        let first = area.frame_blocks(index).start;
        let dirty = match right {
            Right::Kept => {
                let pinned = mapping.pinned_pages(first) & pages;
                // What is pinned stays writable, and so dirty.
                let dirty = area.clean(index, pages & !pinned);
                if !pinned.is_empty() {
                    area.keep_dirty(index, PageSet::EMPTY);
                }
                dirty.map(|dirty| dirty | pinned)
            }
            Right::Revoked => area.revoke(index, pages),
        };
        let dirty = dirty.map_err(|error| Error::Mapping(error.kind()))?;
        let flushed = dirty.runs().try_for_each(|run| {
            self.flush_blocks(inode, &(first + run.start as u64..first + run.end as u64))
        });
        if flushed.is_err() {
            area.keep_dirty(index, dirty);
        }
        flushed
    }

    /// Flushes the lines of a range of file blocks.
    fn flush_blocks(&self, inode: &Inode, blocks: &Range<u64>) -> Result<()> {
        for extent in overlapping(self, inode, blocks)? {
            if let Some(part) = clip(&extent, blocks) {
                let start = part.start.get() * BLOCK_BYTES;
                self.medium()
                    .flush(start..start + (part.end() - part.offset.get()) * BLOCK_BYTES, Point::Mapped);
            }
        }
        Ok(())
    }

    /// Flushes what was stored through all views. The next fence makes it durable.
    pub fn clean_all(&self) -> Result<()> {
        for area in self.views.dirty() {
            self.clean_file(&area.cell, &(0..MAX_FILE_BLOCKS))?;
        }
        Ok(())
    }

    /// Lets files stand still at one instant: no page of their views can be stored to without asking, and what was stored is
    /// flushed. The gate is held alone, and the files have nothing pinned. [`Core::open_door`] has to follow, whatever comes
    /// of it.
    pub fn cut(&self, is_meant: impl Fn(u64) -> bool) -> Result<()> {
        self.views.door.close();
        self.views.door.end_epoch();
        for area in self.views.dirty() {
            let number = area.cell.number;
            if let Some(mapping) = self.views.of(number).filter(|_| is_meant(number)) {
                let inode = area.cell.read().inode;
                self.clean(&mapping, &inode, &(0..MAX_FILE_BLOCKS), Right::Kept)?;
            }
        }
        Ok(())
    }

    /// Lets pages become writable again without asking, unless the volume is frozen.
    pub fn open_door(&self) {
        if !self.is_frozen() {
            self.views.door.open();
        }
    }

    /// Gives files that were stored to through views their times. The gate is held alone.
    pub fn follow_touched(&self) {
        for area in self.views.dirty() {
            if let Some(touched) = area.take_touched() {
                self.set_modified(&area.cell, touched);
            }
        }
    }

    /// As [`Core::follow_touched`], for one file, before somebody looks at its times.
    pub fn follow_touched_of(&self, cell: &Arc<Cell>) {
        let Some(mapping) = self.views.of(cell.number) else { return };
        if !mapping.areas().iter().any(|area| area.is_touched()) {
            return;
        }
        // Of a volume that is shut down nothing follows any more.
        let Ok(_look) = self.look() else { return };
        for area in mapping.areas() {
            if let Some(touched) = area.take_touched() {
                self.set_modified(cell, touched);
            }
        }
    }

    fn set_modified(&self, cell: &Arc<Cell>, nanoseconds: u64) {
        const SECOND: u64 = 1_000_000_000;
        let seconds = i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX);
        let time = Timestamp::new(seconds, u32::try_from(nanoseconds % SECOND).unwrap_or(0));
        let mut state = cell.write();
        state.inode.modified = time;
        state.inode.changed = time;
        state.inode.changes = state.inode.changes.get().wrapping_add(1).into();
        self.inodes.set_dirty(cell, &mut state);
    }
}
