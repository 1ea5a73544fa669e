//! What has to be done before an access can go on: one look at the inode, one thing to do first, and a look again.

use super::area::{Area, Stores};
use super::pages::PageSet;
use super::table::FailedFault;
use crate::below::{Below, Piece, pieces};
use crate::core::Core;
use crate::data::{Source, Writer};
use crate::error::{Error, Result};
use crate::inodes::State;
use crate::map::overlapping;
use crate::media::lost_data;
use crate::medium::Point;
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::record::Record;
use std::sync::Arc;

/// Most blocks around a fault that are looked at: 1 GiB.
const AROUND: u64 = 512 * HUGE_BLOCKS;

/// What an access needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Fault {
    /// Something to load.
    Load,
    /// A page that can be stored to.
    Store,
    /// Another page: the medium failed at this one.
    Medium,
}

impl Fault {
    /// The one of that number.
    pub fn of(number: u32) -> Self {
        [Fault::Load, Fault::Store].into_iter().find(|fault| *fault as u32 == number).unwrap_or(Fault::Medium)
    }
}

/// How a fault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The access can be tried again.
    Done,
    /// It has to wait until the volume is thawed.
    Frozen,
    /// It cannot be: SIGBUS.
    Failed,
}

/// What comes after something that had to be done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// A commit, and another look.
    Commit,
    /// Another look: on the medium all is as it has to be.
    Look,
    /// The same once more when the volume is thawed.
    Thaw,
}

/// What has to be done before a page can be mapped as the access wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// Nothing: it is.
    Nothing,
    /// What was done to the file is not durable.
    Commit,
    /// Blocks of zeros in the place of holes and unwritten ones.
    Zeros(Range<u64>),
    /// A copy of blocks that others own, too.
    Copy(Extent),
    /// Zeros behind the end of the file, in its last block.
    Tail,
    /// One aligned run for a frame.
    Gather(Range<u64>),
}

impl Area {
    /// Makes an access possible, or says why it is not.
    pub fn answer(&self, block: u64, fault: Fault) -> Outcome {
        let Some(core) = self.core.upgrade() else { return Outcome::Failed };
        let store = fault == Fault::Store;
        let outcome = match fault {
            Fault::Medium => self.tell_of_failure(&core, block),
            Fault::Load | Fault::Store => self.resolve(&core, block, store),
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                core.views.set_failed(FailedFault {
                    inode: self.cell.number,
                    offset: block * BLOCK_BYTES,
                    store,
                    errno: error.errno(),
                    error: error.to_string(),
                });
                Outcome::Failed
            }
        }
    }

    /// Makes an access possible.
    pub fn resolve(&self, core: &Core, block: u64, store: bool) -> Result<Outcome> {
        if store && self.stores == Stores::Never {
            return Err(Error::BadFile);
        }
        let changes = store && self.stores == Stores::Shared;
        loop {
            if changes && core.is_frozen() {
                return Ok(Outcome::Frozen);
            }
            core.views.make_room();
            let first = if self.guard.is_coarse() {
                self.look_at_frame(core, block, store)?
            } else {
                self.look(core, block, store)?
            };
            let then = match first {
                First::Nothing => return Ok(Outcome::Done),
                First::Commit => Then::Commit,
                First::Zeros(blocks) => self.zeros(core, &blocks)?,
                First::Copy(extent) => self.copy(core, &extent, block)?,
                First::Tail => self.zero_tail(core)?,
                First::Gather(frame) => self.gather(core, &frame)?,
            };
            match then {
                Then::Commit => core.commit()?,
                Then::Look => {}
                Then::Thaw => return Ok(Outcome::Frozen),
            }
        }
    }

    /// Has a block dealt with that the medium failed at while it was mapped. What an access gets then the next fault says:
    /// the mapping is taken away.
    fn tell_of_failure(&self, core: &Core, block: u64) -> Result<Outcome> {
        if core.is_frozen() {
            return Ok(Outcome::Frozen);
        }
        let failed = {
            let _look = core.look()?;
            let state = self.cell.read();
            if !self.is_mapped(block) {
                return Ok(Outcome::Done);
            }
            if !self.shows_medium(block) {
                return Ok(Outcome::Failed);
            }
            let extent = overlapping(core, &state.inode, &(block..block + 1))?.first().copied();
            let Some(extent) = extent else { return Ok(Outcome::Done) };
            extent.start.get() + (block - extent.offset.get())
        };
        // Where 2 MiB are taken away at once, the kernel does not say which block it was.
        let is_exact = !self.guard.is_coarse();
        let around = if is_exact { 1 } else { HUGE_BLOCKS };
        let first = failed - failed % around;
        // The engine's own mapping fails there as well, and tells how much is lost.
        for block in first..first + around {
            core.medium().load(block * BLOCK_BYTES, &mut [0; 4096]);
        }
        if core.medium().has_failed(first * BLOCK_BYTES..(first + around) * BLOCK_BYTES) {
            core.notice()?;
        } else if is_exact {
            core.report(core::slice::from_ref(&(failed..failed + 1)))?;
        }
        Ok(Outcome::Done)
    }

    /// Whether the volume is not shut down, after something was mapped: who took all mappings away may have been here
    /// before.
    pub(super) fn check_alive_still(&self, core: &Core, index: usize) -> Result<()> {
        core.check_alive().or_else(|error| {
            let taken = self.take_away(index, PageSet::ALL, PageSet::EMPTY);
            taken.map_err(|error| Error::Mapping(error.kind()))?;
            Err(error)
        })
    }

    /// Maps what can be mapped as the access wants it; else says what has to be done first.
    fn look(&self, core: &Core, block: u64, store: bool) -> Result<First> {
        let _look = core.look()?;
        core.check_open()?;
        let state = self.cell.read();
        let size = state.inode.size.get();
        let end = size.div_ceil(BLOCK_BYTES).min(self.blocks.end);
        let Some((index, page)) = self.place(block).filter(|_| block < end) else {
            return Err(Error::PastEnd);
        };
        let frame = self.frame_blocks(index);
        let around = frame.start.max(self.blocks.start)..frame.end.min(end);
        let there = pieces(core, &state.inode, around.clone())?;
        let Some(piece) = there.iter().find(|piece| piece.blocks.contains(&block)) else {
            return Err(Error::PastEnd);
        };
        let changes = store && self.stores == Stores::Shared;
        let durable = core.is_durable(self.cell.number);
        match &piece.below {
            below if below.is_zeros() && !changes => {
                self.map_zeros(&piece.blocks).map_err(|error| Error::Mapping(error.kind()))?;
            }
            below if below.is_zeros() => {
                // A whole frame is made of one run, for one entry of 2 MiB.
                let empty = |piece: &Piece| piece.below.is_zeros();
                let whole = self.guard.is_huge() && around == frame && there.iter().all(empty);
                return Ok(First::Zeros(if whole { frame } else { block..block + 1 }));
            }
            Below::Shared(_) if changes && !durable => return Ok(First::Commit),
            Below::Shared(extent) if changes => {
                return if core.is_loosened(extent, block)? {
                    Ok(First::Commit)
                } else {
                    Ok(First::Copy(*extent))
                };
            }
            Below::Bad(extent) => return Err(lost_data(self.cell.number, extent)),
            Below::Own(_) if changes && !durable => return Ok(First::Commit),
            _ => {
                let last = size / BLOCK_BYTES;
                if block == last && core.has_tail(&state, &piece.below)? {
                    return Ok(if durable { First::Tail } else { First::Commit });
                }
                self.map_extent(core, &state, block, end)?;
            }
        }
        self.check_alive_still(core, index)?;
        if store {
            self.allow_store(index, page)?;
        }
        Ok(First::Nothing)
    }

    /// Maps the whole extent that a block is of, as far as it can be seen.
    fn map_extent(&self, core: &Core, state: &State, block: u64, end: u64) -> Result<()> {
        let Some(extent) = overlapping(core, &state.inode, &(block..block + 1))?.first().copied() else {
            return Ok(());
        };
        // What is mapped already is looked at for who owns it, and its frame is enough for that.
        let around = if self.is_mapped(block) { HUGE_BLOCKS } else { AROUND };
        let window = block - block % around;
        let mut range = extent.offset.get().max(self.blocks.start).max(window)
            ..extent.end().min(end).min(window.saturating_add(around));
        let last = state.inode.size.get() / BLOCK_BYTES;
        if range.end > last && block != last {
            // What is behind the end in the last block has to be looked at first.
            range.end = last.max(block + 1);
        }
        let durable = core.is_durable(self.cell.number);
        for piece in pieces(core, &state.inode, range)? {
            if let Below::Own(part) | Below::Shared(part) = piece.below {
                let own = durable && matches!(piece.below, Below::Own(_)) && self.stores == Stores::Shared;
                let mapped = self.map(&piece.blocks, part.start.get(), own);
                mapped.map_err(|error| Error::Mapping(error.kind()))?;
            }
        }
        Ok(())
    }

    /// Lets a page that is mapped as it has to be be stored to.
    pub(super) fn allow_store(&self, index: usize, page: usize) -> Result<()> {
        let Some(locked) = self.lock(index) else { return Ok(()) };
        if self.stores == Stores::Private {
            if !locked.writable.get().has(page) {
                let (at, _) = self.span(index, &(page..page + 1));
                self.guard.make_private(at).map_err(|error| Error::Mapping(error.kind()))?;
                locked.writable.add(PageSet::range(page..page + 1));
            }
            return Ok(());
        }
        // Who took it away meanwhile holds the inode or the gate, and so do we: it is own.
        if locked.own.get().has(page) {
            self.open(&locked, index, page).map_err(|error| Error::Mapping(error.kind()))?;
        }
        Ok(())
    }

    /// Gives holes and unwritten blocks of the file blocks of zeros.
    fn zeros(&self, core: &Core, blocks: &Range<u64>) -> Result<Then> {
        core.with_space(|| {
            let Some(joined) = core.join_for_fault()? else { return Ok(Then::Thaw) };
            let writer = Writer { core, joined: &joined, number: self.cell.number };
            let mut state = self.cell.write();
            let empty = |piece: &Piece| piece.below.is_zeros();
            let size = state.inode.size.get();
            if blocks.end > size.div_ceil(BLOCK_BYTES)
                || !pieces(core, &state.inode, blocks.clone())?.iter().all(empty)
            {
                // Somebody was faster: another look tells.
                return Ok(Then::Look);
            }
            let zeros = Source::Zeros((blocks.end - blocks.start) * BLOCK_BYTES);
            writer.put(&mut state, blocks.start * BLOCK_BYTES, zeros)?;
            core.medium().drain(Point::Data);
            state.inode.modified = joined.now;
            joined.changed(&self.cell, &mut state);
            Ok(Then::Commit)
        })
    }

    /// Zeros what is behind the end of the file in its last block.
    fn zero_tail(&self, core: &Core) -> Result<Then> {
        core.with_space(|| {
            let Some(joined) = core.join_for_fault()? else { return Ok(Then::Thaw) };
            let writer = Writer { core, joined: &joined, number: self.cell.number };
            let mut state = self.cell.write();
            let size = state.inode.size.get();
            // A truncation that is not durable would show zeros where the old size has data.
            if core.is_durable(self.cell.number) {
                writer.zero_behind_size(&mut state, size.next_multiple_of(BLOCK_BYTES))?;
                core.medium().drain(Point::Data);
                core.inodes.set_dirty(&self.cell, &mut state);
            }
            Ok(Then::Commit)
        })
    }
}

impl Core {
    /// Whether all that was done to the extents of a file with views is durable.
    pub fn is_durable(&self, inode: u64) -> bool {
        let remapped = self.views.of(inode).map(|mapping| mapping.remapped.load(Ordering::Acquire));
        remapped.is_none_or(|remapped| remapped <= self.durable())
    }

    /// Whether a block counts as shared only because its other owner is gone, but not durably.
    pub(super) fn is_loosened(&self, extent: &Extent, block: u64) -> Result<bool> {
        let start = extent.start.get() + (block - extent.offset.get());
        let place = self.volume.geometry.locate(start);
        let place = place.ok_or_else(|| Error::damaged(format_args!("block {start}"), "past the volume"))?;
        let group = self.group(place.group)?;
        let counts = group.counts(self.pages(), &self.context(), place.block, 1)?;
        Ok(counts.iter().all(|counted| counted.count < 2))
    }

    /// Whether the last block of a file has anything but zeros behind the end.
    pub(super) fn has_tail(&self, state: &State, below: &Below) -> Result<bool> {
        let size = state.inode.size.get();
        let inside = size % BLOCK_BYTES;
        let (Below::Own(extent) | Below::Shared(extent)) = below else { return Ok(false) };
        if inside == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        let start = extent.start.get() + (size / BLOCK_BYTES).saturating_sub(extent.offset.get());
        self.medium().load(start * BLOCK_BYTES, &mut bytes);
        let tail = usize::try_from(inside).ok().and_then(|inside| bytes.get(inside..));
        Ok(tail.unwrap_or_default().iter().any(|byte| *byte != 0))
    }
}

/// Opens pages of a view for stores, as if each had been stored to.
pub(crate) fn prefault(area: &Arc<Area>, core: &Core, blocks: Range<u64>) -> Result<()> {
    for block in blocks {
        while area.resolve(core, block, true)? == Outcome::Frozen {
            core.wait_until_thawed();
        }
    }
    Ok(())
}
