//! Media that are mapped in units of 2 MiB and nothing less (devdax): what a frame of a view shows has to be one aligned run
//! of blocks. Where it is not, it is gathered there: a copy on write of the whole frame, for loads as well.

use super::area::{Area, Stores};
use super::copy::check_own;
use super::fault::{First, Then};
use crate::below::{Below, Piece, pieces};
use crate::core::{Core, Joined};
use crate::data::Writer;
use crate::error::{Error, Result};
use crate::map::remap;
use crate::media::lost_data;
use crate::medium::Point;
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::rmap::ExtentFlags;

impl Area {
    /// As `Area::look`, where a frame can only be mapped whole. What of it is past the end of the file is unwritten blocks,
    /// and can be reached: what is stored there is lost.
    pub(super) fn look_at_frame(&self, core: &Core, block: u64, store: bool) -> Result<First> {
        let _look = core.look()?;
        core.check_open()?;
        let state = self.cell.read();
        let size = state.inode.size.get();
        let (index, page) = self.place(block).ok_or(Error::PastEnd)?;
        let frame = self.frame_blocks(index);
        let used = frame.start..frame.end.min(size.div_ceil(BLOCK_BYTES));
        if used.is_empty() {
            return Err(Error::PastEnd);
        }
        let there = pieces(core, &state.inode, frame.clone())?;
        let changes = store && self.stores == Stores::Shared;
        if !changes && there.iter().all(|piece| piece.below.is_zeros()) {
            self.map_zeros(&frame).map_err(|error| Error::Mapping(error.kind()))?;
            return Ok(First::Nothing);
        }
        self.check_lost(&there)?;
        let Some(start) = run_of(&there, &frame, &used) else { return Ok(First::Gather(frame)) };
        let durable = core.is_durable(self.cell.number);
        if changes && !durable {
            return Ok(First::Commit);
        }
        let shared = there.iter().find_map(|piece| match piece.below {
            Below::Shared(extent) => Some((piece.blocks.start, extent)),
            _ => None,
        });
        if let Some((first, extent)) = shared.filter(|_| changes) {
            return Ok(match there.as_slice() {
                _ if core.is_loosened(&extent, first)? => First::Commit,
                [_] => First::Copy(extent),
                _ => First::Gather(frame),
            });
        }
        let last = there.iter().find(|piece| piece.blocks.contains(&(size / BLOCK_BYTES)));
        if last.is_some_and(|_| used.end < frame.end || size < frame.end * BLOCK_BYTES)
            && let Some(last) = last
            && core.has_tail(&state, &last.below)?
        {
            return Ok(if durable { First::Tail } else { First::Commit });
        }
        if !self.is_mapped(block) {
            // Nobody may see what was in these blocks before.
            let behind = start + (used.end - frame.start)..start + HUGE_BLOCKS;
            core.medium().zero_nt(behind.start * BLOCK_BYTES..behind.end * BLOCK_BYTES);
            core.medium().drain(Point::Data);
        }
        let own = durable && shared.is_none() && self.stores == Stores::Shared;
        self.map(&frame, start, own).map_err(|error| Error::Mapping(error.kind()))?;
        self.check_alive_still(core, index)?;
        if store {
            self.allow_store(index, page)?;
        }
        Ok(First::Nothing)
    }

    /// A frame of which something is lost cannot be mapped at all.
    fn check_lost(&self, there: &[Piece]) -> Result<()> {
        there.iter().try_for_each(|piece| match &piece.below {
            Below::Bad(extent) if !piece.below.is_zeros() => Err(lost_data(self.cell.number, extent)),
            _ => Ok(()),
        })
    }

    /// Brings a frame to one aligned run of blocks of the file's own.
    pub(super) fn gather(&self, core: &Core, frame: &Range<u64>) -> Result<Then> {
        core.with_space(|| {
            let Some(joined) = core.join_for_fault()? else { return Ok(Then::Thaw) };
            self.gather_once(core, &joined, frame).map(|()| Then::Commit)
        })
    }

    fn gather_once(&self, core: &Core, joined: &Joined<'_>, frame: &Range<u64>) -> Result<()> {
        let writer = Writer { core, joined, number: self.cell.number };
        let mut state = self.cell.write();
        let used = frame.start..frame.end.min(state.inode.size.get().div_ceil(BLOCK_BYTES));
        if used.is_empty() {
            return Ok(());
        }
        let there = pieces(core, &state.inode, frame.clone())?;
        self.check_lost(&there)?;
        let start = core.aligned_run(self.cell.number)?.ok_or(Error::NoSpace)?;
        core.medium().zero_nt(start * BLOCK_BYTES..(start + HUGE_BLOCKS) * BLOCK_BYTES);
        let mut lost = None;
        for piece in &there {
            if let Below::Own(part) | Below::Shared(part) = piece.below {
                let to = start + (piece.blocks.start - frame.start);
                let [from, to] = [part.start.get(), to].map(|block| block * BLOCK_BYTES);
                core.medium().copy_nt(from, to, u64::from(part.length.get()) * BLOCK_BYTES);
                lost = lost.or(core.has_failed(&part).then_some(part));
            }
        }
        core.medium().drain(Point::Data);
        let extent = |blocks: &Range<u64>, flags: u32| Extent {
            offset: blocks.start.into(),
            start: (start + (blocks.start - frame.start)).into(),
            length: u32::try_from(blocks.end - blocks.start).unwrap_or(0).into(),
            flags: ExtentFlags::new(flags),
        };
        if let Some(lost) = lost {
            writer.give_back(&[extent(frame, 0)])?;
            return Err(lost_data(self.cell.number, &lost));
        }
        let behind = used.end..frame.end;
        let mut new = vec![extent(&used, 0)];
        if !behind.is_empty() {
            new.push(extent(&behind, ExtentFlags::UNWRITTEN));
        }
        let removed = remap(core, joined, &mut state.inode, frame, &new)?;
        check_own(core, &state, frame)?;
        if !behind.is_empty() {
            // Given back when the file is closed.
            core.inodes.set_ahead(self.cell.number, &mut state, frame.end);
        }
        core.inodes.set_dirty(&self.cell, &mut state);
        writer.release(&removed)
    }
}

/// The first block of the aligned run that a frame is, written as far as the file goes and unwritten behind; `None` when it
/// is no such run.
fn run_of(there: &[Piece], frame: &Range<u64>, used: &Range<u64>) -> Option<u64> {
    let mut start = None;
    for piece in there {
        let (extent, is_written) = match piece.below {
            Below::Own(extent) | Below::Shared(extent) => (extent, true),
            Below::Unwritten(extent) => (extent, false),
            Below::Hole | Below::Bad(_) => return None,
        };
        let first = extent.start.get().checked_sub(piece.blocks.start - frame.start)?;
        let fits = first.is_multiple_of(HUGE_BLOCKS)
            && *start.get_or_insert(first) == first
            && if is_written { piece.blocks.end <= used.end } else { piece.blocks.start >= used.end };
        if !fits {
            return None;
        }
    }
    start
}

impl Core {
    /// An aligned run of 2 MiB, near an inode if there is one.
    fn aligned_run(&self, near: u64) -> Result<Option<u64>> {
        for number in self.groups_from(self.home(near)) {
            if let Some(start) = self.group(number)?.allocate_aligned() {
                return Ok(Some(self.volume.geometry.volume_block(number, start)));
            }
        }
        Ok(None)
    }
}
