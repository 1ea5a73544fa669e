//! File data: where it is read from, where it is written to, and what becomes of the blocks below.
//!
//! A write goes in place when its blocks are written and nobody shares them. Else it goes to blocks that nothing leads
//! to yet, and the extent map follows in the same transaction, whose commit comes after the data is durable. Blocks
//! shared with others keep their bytes: those around the write are copied, and only those.

use crate::below::{Below, Piece, is_shared, pieces};
use crate::core::{Core, Joined};
use crate::error::{Error, Result};
use crate::inodes::State;
use crate::map::{clip, extents_from, remap};
use crate::media::lost_data;
use crate::medium::Point;
use crate::space::{Fit, Group, Request};
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::inode::Inode;
use paxfs_format::record::Record;
use paxfs_format::rmap::ExtentFlags;

/// What is written.
#[derive(Clone, Copy)]
pub(crate) enum Source<'d> {
    /// These bytes.
    Bytes(&'d [u8]),
    /// So many zeros.
    Zeros(u64),
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Zeros(length) => *length,
        }
    }
}

/// What blocks are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What is written.
    Data,
    /// Copies of what the file has already: blocks that are kept back may be taken.
    Copy,
    /// To be there when something is written.
    Reserve,
}

/// Reads what a reader of the file sees from `offset` on, within its size; returns how many bytes there were.
pub(crate) fn read(core: &Core, inode: &Inode, offset: u64, to: &mut [u8]) -> Result<usize> {
    let size = inode.size.get();
    let wanted = size.saturating_sub(offset).min(to.len() as u64);
    let wanted = usize::try_from(wanted).unwrap_or(to.len());
    let Some(to) = to.get_mut(..wanted).filter(|to| !to.is_empty()) else { return Ok(0) };
    let blocks = offset / BLOCK_BYTES..(offset + wanted as u64).div_ceil(BLOCK_BYTES);
    let mut done = offset;
    for extent in extents_from(core, inode, blocks.start) {
        let extent = extent?;
        let Some(part) = clip(&extent, &blocks) else { break };
        if part.flags.is_unwritten() {
            continue;
        }
        if let Some(bad) = core.bad_parts(&part)?.first() {
            return Err(lost_data(inode.header.place.get(), bad));
        }
        let start = (part.offset.get() * BLOCK_BYTES).max(offset);
        let end = (part.end() * BLOCK_BYTES).min(offset + wanted as u64);
        if let Some(gap) = slice(to, offset, done..start) {
            gap.fill(0);
        }
        if let Some(there) = slice(to, offset, start..end) {
            let skip = start - part.offset.get() * BLOCK_BYTES;
            core.medium().load(part.start.get() * BLOCK_BYTES + skip, there);
        }
        if core.has_failed(&part) {
            return Err(lost_data(inode.header.place.get(), &part));
        }
        done = end;
    }
    if let Some(gap) = slice(to, offset, done..offset + wanted as u64) {
        gap.fill(0);
    }
    Ok(wanted)
}

/// The first byte of a file at or after `offset` that is in no hole, wherever the file ends; `u64::MAX` when all are.
pub(crate) fn next_data(core: &Core, inode: &Inode, offset: u64) -> Result<u64> {
    for extent in extents_from(core, inode, offset / BLOCK_BYTES) {
        let extent = extent?;
        if !extent.flags.is_unwritten() {
            return Ok((extent.offset.get() * BLOCK_BYTES).max(offset));
        }
    }
    Ok(u64::MAX)
}

/// The part of a buffer that starts at file byte `base` which stands for file bytes `range`.
fn slice(buffer: &mut [u8], base: u64, range: Range<u64>) -> Option<&mut [u8]> {
    let start = usize::try_from(range.start.checked_sub(base)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(base)?).ok()?;
    buffer.get_mut(start..end)
}

/// Changes the data of one file. The caller holds its lock alone.
pub(crate) struct Writer<'o> {
    pub core: &'o Core,
    pub joined: &'o Joined<'o>,
    pub number: u64,
}

impl Writer<'_> {
    /// Writes at `offset`; the size grows when the write ends past it. On a full volume all of it or nothing.
    pub fn write(&self, state: &mut State, offset: u64, source: Source<'_>) -> Result<()> {
        let size = state.inode.size.get();
        let end = offset
            .checked_add(source.len())
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(Error::TooLarge)?;
        if offset > size {
            self.zero_behind_size(state, offset)?;
        }
        let result = self.put(state, offset, source).and_then(|()| self.grow(state, end));
        // The commit's fence is to cover what this thread stored.
        self.core.medium().drain(Point::Data);
        result
    }

    /// Makes the file end at `end`, if that is behind its end.
    pub fn grow(&self, state: &mut State, end: u64) -> Result<()> {
        let size = state.inode.size.get();
        if end <= size {
            return Ok(());
        }
        state.inode.size = end.into();
        self.core.views_grow(self.number, size)
    }

    /// Makes the bytes between the size and `to`, as far as they are in the last block, read as zeros: they may be of a
    /// time when the file was longer.
    pub fn zero_behind_size(&self, state: &mut State, to: u64) -> Result<()> {
        let size = state.inode.size.get();
        let end = size.next_multiple_of(BLOCK_BYTES).min(to);
        if size >= end {
            return Ok(());
        }
        let block = size / BLOCK_BYTES;
        let pieces = pieces(self.core, &state.inode, block..block + 1)?;
        match pieces.first().map(|piece| piece.below) {
            Some(Below::Own(_) | Below::Shared(_)) => self.put(state, size, Source::Zeros(end - size)),
            _ => Ok(()),
        }
    }

    /// Puts bytes or zeros into blocks, which get what they need for that. The size stays.
    pub fn put(&self, state: &mut State, offset: u64, source: Source<'_>) -> Result<()> {
        let end = offset + source.len();
        self.put_in(state, offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES), offset, source)
    }

    /// As [`Writer::put`], into blocks that may be more than the bytes need.
    fn put_in(&self, state: &mut State, blocks: Range<u64>, offset: u64, source: Source<'_>) -> Result<()> {
        let end = offset + source.len();
        let pieces = pieces(self.core, &state.inode, blocks)?;
        // All blocks first: a write that finds no space changes nothing.
        let wanted = pieces.iter().filter_map(|piece| match piece.below {
            Below::Hole => Some((piece.blocks.clone(), Purpose::Data)),
            Below::Shared(_) | Below::Bad(_) => Some((piece.blocks.clone(), Purpose::Copy)),
            Below::Own(_) | Below::Unwritten(_) => None,
        });
        self.check_lost(state, &pieces, &(offset..end))?;
        let blocks = self.allocate_all(state, wanted)?;
        // Then all that nobody sees yet.
        if let Err(error) = self.fill_new(&pieces, &blocks, offset, source) {
            return self.give_back_all(&blocks, error);
        }
        let mut blocks = blocks.into_iter();
        for piece in pieces {
            match piece.below {
                Below::Own(extent) => self.store(&extent, offset, source),
                Below::Unwritten(extent) => {
                    let written = Extent { flags: ExtentFlags::new(0), ..extent };
                    self.fill(&written, None, offset, source)?;
                    remap(self.core, self.joined, &mut state.inode, &piece.blocks, &[written])?;
                }
                Below::Shared(_) | Below::Bad(_) => {
                    let new = blocks.next().unwrap_or_default();
                    let removed = remap(self.core, self.joined, &mut state.inode, &piece.blocks, &new)?;
                    self.release(&removed)?;
                }
                Below::Hole => {
                    let new = blocks.next().unwrap_or_default();
                    let new_end = new.last().map_or(piece.blocks.end, Extent::end);
                    remap(self.core, self.joined, &mut state.inode, &(piece.blocks.start..new_end), &new)?;
                    if new_end > piece.blocks.end {
                        self.core.inodes.set_ahead(self.number, state, new_end);
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills those new `blocks` that take the place of pieces with what is written, and what is around it there.
    fn fill_new(
        &self,
        pieces: &[Piece],
        blocks: &[Vec<Extent>],
        offset: u64,
        source: Source<'_>,
    ) -> Result<()> {
        let replaced =
            pieces.iter().filter(|piece| !matches!(piece.below, Below::Own(_) | Below::Unwritten(_)));
        for (piece, new) in replaced.zip(blocks) {
            let old = if let Below::Shared(old) = &piece.below { Some(old) } else { None };
            let written = new.iter().filter(|extent| !extent.flags.is_unwritten());
            written.into_iter().try_for_each(|extent| self.fill(extent, old, offset, source))?;
        }
        Ok(())
    }

    /// Fills blocks that nobody sees yet with what is written; around it with what `old` has, or zeros. What fails meanwhile
    /// is healed, and filled again.
    fn fill(&self, extent: &Extent, old: Option<&Extent>, offset: u64, source: Source<'_>) -> Result<()> {
        let write = offset..offset + source.len();
        let fill = || -> Result<()> {
            match old {
                Some(old) => self.copy_around(old, extent, &write)?,
                None => self.zero_around(extent, &write),
            }
            self.store(extent, offset, source);
            Ok(())
        };
        fill()?;
        if self.core.has_failed(extent) {
            self.core.heal_new(extent);
            fill()?;
        }
        Ok(())
    }

    /// Gives those of some blocks that are shared to this file alone, with what they have.
    pub fn unshare(&self, state: &mut State, blocks: Range<u64>) -> Result<()> {
        for piece in pieces(self.core, &state.inode, blocks)? {
            if is_shared(self.core, &piece.below)? {
                let start = piece.blocks.start * BLOCK_BYTES;
                self.put_in(state, piece.blocks, start, Source::Bytes(&[]))?;
            }
        }
        self.core.medium().drain(Point::Data);
        Ok(())
    }

    /// The part of `source`, which stands at file byte `offset`, that falls on an extent.
    fn store(&self, extent: &Extent, offset: u64, source: Source<'_>) {
        let base = extent.offset.get() * BLOCK_BYTES;
        let start = base.max(offset);
        let end = (extent.end() * BLOCK_BYTES).min(offset + source.len());
        let to = extent.start.get() * BLOCK_BYTES + (start - base);
        match source {
            Source::Bytes(bytes) => {
                let part = usize::try_from(start - offset).ok().zip(usize::try_from(end - offset).ok());
                let part = part.and_then(|(start, end)| bytes.get(start..end));
                self.core.medium().store_nt(to, part.unwrap_or_default());
            }
            Source::Zeros(_) => self.core.medium().zero_nt(to..to + (end - start)),
        }
    }

    /// File bytes of an extent's blocks before and behind a write.
    fn around(extent: &Extent, write: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let whole = extent.offset.get() * BLOCK_BYTES..extent.end() * BLOCK_BYTES;
        let before = whole.start..write.start.clamp(whole.start, whole.end);
        let behind = write.end.clamp(whole.start, whole.end)..whole.end;
        [before, behind].into_iter().filter(|gap| !gap.is_empty())
    }

    fn zero_around(&self, extent: &Extent, write: &Range<u64>) {
        let base = extent.offset.get() * BLOCK_BYTES;
        for gap in Self::around(extent, write) {
            let to = extent.start.get() * BLOCK_BYTES;
            self.core.medium().zero_nt(to + (gap.start - base)..to + (gap.end - base));
        }
    }

    /// Copies what an old extent has around a write to a new one, which lies within it.
    fn copy_around(&self, old: &Extent, new: &Extent, write: &Range<u64>) -> Result<()> {
        for gap in Self::around(new, write) {
            let from = old.start.get() * BLOCK_BYTES + (gap.start - old.offset.get() * BLOCK_BYTES);
            let to = new.start.get() * BLOCK_BYTES + (gap.start - new.offset.get() * BLOCK_BYTES);
            let length = gap.end - gap.start;
            self.core.medium().copy_nt(from, to, length);
            if self.core.medium().has_failed(from..from + length) {
                return Err(lost_data(self.number, old));
            }
        }
        Ok(())
    }

    /// Blocks for a range of the file, in as few runs as there are; all of them or none. A file that grows may get
    /// unwritten ones behind them.
    fn allocate(&self, state: &mut State, blocks: &Range<u64>, purpose: Purpose) -> Result<Vec<Extent>> {
        let geometry = &self.core.volume.geometry;
        let size = state.inode.size.get();
        // A file that grows at its end is likely to grow on: the longer it is, the more.
        let grows = blocks.start > 0 && blocks.start == size.div_ceil(BLOCK_BYTES);
        // What is strewn over a long file is packed: one block in a 2 MiB run would take it from those who can use it.
        let large = blocks.end - blocks.start >= HUGE_BLOCKS || grows && size >= HUGE_BLOCKS * BLOCK_BYTES;
        let alone = grows && purpose == Purpose::Data && self.is_hole_from(&state.inode, blocks.end)?;
        let ahead = if alone { blocks.start.min(HUGE_BLOCKS) } else { 0 };
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = blocks.start;
        let mut tried = 0;
        let mut number = self.core.home(self.number);
        // Whole 2 MiB in any group go before pieces in this one.
        let mut has_frames = large;
        while at < blocks.end {
            let goal =
                state.goal.filter(|(file, _)| *file == at).and_then(|(_, block)| geometry.locate(block));
            if let Some(goal) = goal {
                number = goal.group;
            }
            let by_frames = has_frames && at.is_multiple_of(HUGE_BLOCKS) && blocks.end - at >= HUGE_BLOCKS;
            let request = Request {
                want: u32::try_from(blocks.end - at).unwrap_or(u32::MAX),
                ahead: if by_frames { 0 } else { u32::try_from(ahead).unwrap_or(0) },
                goal: goal.map(|goal| goal.block),
                fit: match large {
                    true if by_frames => Fit::Frames(at),
                    true => Fit::Congruent(at),
                    false => Fit::Packed,
                },
                urgent: purpose == Purpose::Copy,
            };
            let Some((start, given)) = self.core.group(number)?.allocate(&request) else {
                tried += 1;
                if tried > geometry.groups() && by_frames {
                    (has_frames, tried, number) = (false, 0, self.core.home(self.number));
                    continue;
                }
                if tried > geometry.groups() {
                    self.give_back(&extents)?;
                    return Err(Error::NoSpace);
                }
                state.goal = None;
                number = if u64::from(number) + 1 < geometry.groups() { number + 1 } else { 0 };
                continue;
            };
            let start = geometry.volume_block(number, start);
            let length = given.min(request.want);
            let new =
                Extent { offset: at.into(), start: start.into(), length: length.into(), flags: 0.into() };
            extents.push(new);
            if given > length {
                extents.push(Extent {
                    offset: (at + u64::from(length)).into(),
                    start: (start + u64::from(length)).into(),
                    length: (given - length).into(),
                    flags: ExtentFlags::new(ExtentFlags::UNWRITTEN),
                });
            }
            at += u64::from(given);
            state.goal = Some((at, start + u64::from(given)));
        }
        Ok(extents)
    }

    /// Whether no extent of the file is at a block or behind it.
    fn is_hole_from(&self, inode: &Inode, block: u64) -> Result<bool> {
        extents_from(self.core, inode, block).next().transpose().map(|extent| extent.is_none())
    }

    /// Blocks for each of several ranges, and what for; all of them or none.
    pub fn allocate_all(
        &self,
        state: &mut State,
        ranges: impl IntoIterator<Item = (Range<u64>, Purpose)>,
    ) -> Result<Vec<Vec<Extent>>> {
        let mut found: Vec<Vec<Extent>> = Vec::new();
        for (blocks, purpose) in ranges {
            match self.allocate(state, &blocks, purpose) {
                Ok(extents) => found.push(extents),
                Err(error) => return self.give_back_all(&found, error),
            }
        }
        Ok(found)
    }

    /// Gives back blocks that the file never got, because of an error.
    pub fn give_back_all<T>(&self, runs: &[Vec<Extent>], error: Error) -> Result<T> {
        runs.iter().try_for_each(|extents| self.give_back(extents))?;
        Err(error)
    }

    /// Forgets where the file grew, and that it was given blocks to grow into: they are its own, or gone.
    pub fn forget_growth(&self, state: &mut State) {
        state.goal = None;
        self.core.inodes.set_ahead(self.number, state, 0);
    }

    /// Leaves the file what it was given ahead of its end, if it is to have blocks of its own there, up to one.
    pub fn keep_ahead(&self, state: &mut State, end: u64) {
        if end > state.inode.size.get().div_ceil(BLOCK_BYTES) {
            self.forget_growth(state);
        }
    }

    /// Takes back the blocks that the file was given ahead of its end. Says whether there were any.
    pub fn take_back_ahead(&self, state: &mut State) -> Result<bool> {
        let ahead = state.inode.size.get().div_ceil(BLOCK_BYTES)..state.ahead;
        self.forget_growth(state);
        if ahead.is_empty() {
            return Ok(false);
        }
        let removed = remap(self.core, self.joined, &mut state.inode, &ahead, &[])?;
        self.release(&removed)?;
        Ok(!removed.is_empty())
    }

    /// Gives back blocks that the file never got.
    pub fn give_back(&self, extents: &[Extent]) -> Result<()> {
        self.each_run(extents, Group::give_back)
    }
}
