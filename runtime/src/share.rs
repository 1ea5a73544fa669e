//! Sharing blocks between files: clone and dedupe of ranges, and unsharing.

use crate::core::NAME_BLOCKS;
use crate::data::{Writer, next_data, read};
use crate::error::{Error, Result};
use crate::file::{File, check_append};
use crate::inodes::State;
use crate::map::{clip, overlapping, remap};
use crate::medium::Point;
use crate::namespace::check_mutable;
use crate::rename::lock_two;
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::inode::Inode;
use paxfs_format::superblock::ReadOnlyCompatible;
use std::sync::Arc;

/// What a dedupe of one range came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedupe {
    /// The ranges read the same and share their blocks now.
    Same {
        /// Bytes that share blocks now and did not before.
        shared: u64,
    },
    /// The ranges differ; nothing changed.
    Differs,
}

impl File {
    /// Makes `length` bytes of this file at `to` share the blocks of `source` from `from` on: `FICLONERANGE`. A length of
    /// 0 means to the end of the source.
    ///
    /// One transaction: after a crash all of the range is cloned or none.
    pub fn clone_range(&self, to: u64, source: &File, from: u64, length: u64) -> Result<()> {
        self.check_sharing(source)?;
        self.core.with_space(|| self.clone_once(to, source, from, length))
    }

    fn clone_once(&self, to: u64, source: &File, from: u64, length: u64) -> Result<()> {
        let mut joined = self.core.join()?;
        let same = Arc::ptr_eq(&self.cell, &source.cell);
        let (mut state, other) = lock_two(&self.cell, (!same).then_some(&source.cell));
        check_mutable(&state.inode)?;
        let size = other.as_ref().map_or(state.inode.size, |other| other.inode.size).get();
        let length = if length == 0 { size.saturating_sub(from) } else { length };
        if length == 0 {
            return Ok(());
        }
        let ranges = Ranges::checked(from, to, length, size, state.inode.size.get(), same)?;
        check_append(&state.inode, to)?;
        self.check_alike(source)?;
        self.stand_still(&state, other.as_deref(), &ranges)?;
        let extents = {
            let source = other.as_ref().map_or(&state.inode, |other| &other.inode);
            moved(overlapping(&self.core, source, &ranges.from)?, &ranges)
        };
        joined.promise(self.cell.number, blocks_to_share(extents.len()))?;
        let writer = Writer { core: &self.core, joined: &joined, number: self.cell.number };
        // As in `change_once`.
        self.core.inodes.set_dirty(&self.cell, &mut state);
        if to > state.inode.size.get() {
            writer.zero_behind_size(&mut state, to)?;
            self.core.medium().drain(Point::Data);
        }
        self.replace(&writer, &mut state, &ranges.to, &extents)?;
        writer.grow(&mut state, to + length)?;
        state.inode.modified = joined.now;
        joined.changed(&self.cell, &mut state);
        Ok(())
    }

    /// Shares the blocks of a range with `source` if both read the same: `FIDEDUPERANGE`. What is compared is what a
    /// reader sees: holes, unwritten blocks and written zeros are the same.
    pub fn dedupe_range(&self, to: u64, source: &File, from: u64, length: u64) -> Result<Dedupe> {
        self.check_sharing(source)?;
        self.core.with_space(|| self.dedupe_once(to, source, from, length))
    }

    fn dedupe_once(&self, to: u64, source: &File, from: u64, length: u64) -> Result<Dedupe> {
        let mut joined = self.core.join()?;
        let same = Arc::ptr_eq(&self.cell, &source.cell);
        let (mut state, other) = lock_two(&self.cell, (!same).then_some(&source.cell));
        check_mutable(&state.inode)?;
        let size = other.as_ref().map_or(state.inode.size, |other| other.inode.size).get();
        let target_size = state.inode.size.get();
        if length == 0 {
            return Ok(Dedupe::Same { shared: 0 });
        }
        if to.checked_add(length).is_none_or(|end| end > target_size) {
            return Err(Error::Invalid("the range ends past the destination's end"));
        }
        let ranges = Ranges::checked(from, to, length, size, target_size, same)?;
        self.check_alike(source)?;
        self.stand_still(&state, other.as_deref(), &ranges)?;
        let source_inode = other.as_ref().map_or(&state.inode, |other| &other.inode);
        if !self.reads_alike(source_inode, from, &state.inode, to, length)? {
            return Ok(Dedupe::Differs);
        }
        let extents = moved(overlapping(&self.core, source_inode, &ranges.from)?, &ranges);
        let before: Vec<Extent> = overlapping(&self.core, &state.inode, &ranges.to)?
            .iter()
            .filter_map(|old| clip(old, &ranges.to))
            .collect();
        joined.promise(self.cell.number, blocks_to_share(extents.len()))?;
        let writer = Writer { core: &self.core, joined: &joined, number: self.cell.number };
        let shared = newly_shared(&before, &extents);
        if shared > 0 || before != extents {
            self.replace(&writer, &mut state, &ranges.to, &extents)?;
            // Contents are what they were: the time of their last change stays.
            joined.changed(&self.cell, &mut state);
        }
        Ok(Dedupe::Same { shared: shared.saturating_mul(BLOCK_BYTES).min(length) })
    }

    /// Gives a range blocks of its own.
    pub fn unshare(&self, range: Range<u64>) -> Result<()> {
        /// Bytes of a step: others have their turn in between.
        const STEP: u64 = 1 << 20;
        let mut at = range.start - range.start % BLOCK_BYTES;
        loop {
            // Holes are passed over, however long they are.
            at = match self.seek_data(at) {
                Ok(data) => data - data % BLOCK_BYTES,
                Err(Error::NoData) => return Ok(()),
                Err(error) => return Err(error),
            };
            if at >= range.end {
                return Ok(());
            }
            let next = at.saturating_add(STEP);
            self.change(|writer, state| {
                let end = next.min(state.inode.size.get());
                let blocks = at / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES).max(at / BLOCK_BYTES);
                writer.unshare(state, blocks)
            })?;
            at = next;
        }
    }

    fn check_sharing(&self, source: &File) -> Result<()> {
        if !self.core.volume.superblock.has(ReadOnlyCompatible::REFLINK) {
            return Err(Error::Invalid("the volume has no reflink (mkfs.paxfs -O rmap,reflink)"));
        }
        if !Arc::ptr_eq(&self.core, &source.core) {
            return Err(Error::Invalid("the files are on different volumes"));
        }
        if !self.open.write || self.open.append || !source.open.read { Err(Error::BadFile) } else { Ok(()) }
    }

    /// Puts shared extents in the place of a range.
    fn replace(
        &self,
        writer: &Writer<'_>,
        state: &mut State,
        to: &Range<u64>,
        extents: &[Extent],
    ) -> Result<()> {
        writer.share(extents)?;
        let removed = remap(writer.core, writer.joined, &mut state.inode, to, extents)?;
        writer.release(&removed)
    }

    /// Both must be mapped directly, or neither: a store to a mapping of one would go past the other's copies.
    fn check_alike(&self, source: &File) -> Result<()> {
        if self.core.is_dax(&self.cell) == self.core.is_dax(&source.cell) {
            Ok(())
        } else {
            Err(Error::Invalid("one of the files is DAX, the other is not"))
        }
    }

    /// Nobody stores to the ranges through views until this operation is over.
    fn stand_still(&self, target: &State, source: Option<&State>, ranges: &Ranges) -> Result<()> {
        self.core.revoke(&source.unwrap_or(target).inode, &ranges.from)?;
        self.core.revoke(&target.inode, &ranges.to)
    }

    fn reads_alike(&self, one: &Inode, at: u64, other: &Inode, other_at: u64, length: u64) -> Result<bool> {
        let (mut left, mut right) = (vec![0; 1 << 18], vec![0; 1 << 18]);
        let mut done = 0;
        while done < length {
            // What is a hole in both is passed over.
            let gap = (next_data(&self.core, one, at + done)? - (at + done))
                .min(next_data(&self.core, other, other_at + done)? - (other_at + done));
            if gap > 0 {
                done = done.saturating_add(gap);
                continue;
            }
            let step = usize::try_from(length - done).unwrap_or(left.len()).min(left.len());
            let (Some(a), Some(b)) = (left.get_mut(..step), right.get_mut(..step)) else { return Ok(false) };
            let read_a = read(&self.core, one, at + done, a)?;
            let read_b = read(&self.core, other, other_at + done, b)?;
            if read_a != step || read_b != step || a != b {
                return Ok(false);
            }
            done += step as u64;
        }
        Ok(true)
    }
}

/// Blocks for metadata that so many more extents can need in the extent, reference count and reverse map trees: new nodes,
/// half filled, and others for old ones that change their place.
pub(crate) fn blocks_to_share(extents: usize) -> u64 {
    extents as u64 / 10 + NAME_BLOCKS
}

/// Ranges of file blocks to share.
struct Ranges {
    from: Range<u64>,
    to: Range<u64>,
}

impl Ranges {
    /// The errors of `FICLONERANGE`.
    fn checked(from: u64, to: u64, length: u64, size: u64, target_size: u64, same: bool) -> Result<Self> {
        let aligned = |offset: u64| offset.is_multiple_of(BLOCK_BYTES);
        let from_end = from.checked_add(length).ok_or(Error::Invalid("the range overflows"))?;
        let to_end =
            to.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or(Error::TooLarge)?;
        if !aligned(from) || !aligned(to) {
            return Err(Error::Invalid("offsets must be multiples of 4096"));
        }
        if from_end > size {
            return Err(Error::Invalid("the range ends past the source's end"));
        }
        if !aligned(length) && from_end != size {
            return Err(Error::Invalid("the length must be a multiple of 4096, or reach the source's end"));
        }
        if !aligned(length) && to_end < target_size {
            return Err(Error::Invalid("a partial block cannot go into the middle of a file"));
        }
        if same && from < to_end && to < from_end {
            return Err(Error::Invalid("the ranges overlap"));
        }
        let blocks = |start: u64, end: u64| start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        Ok(Ranges { from: blocks(from, from_end), to: blocks(to, to_end) })
    }
}

/// The written extents of a source, where they are to be in the destination. Unwritten ones become holes.
fn moved(extents: Vec<Extent>, ranges: &Ranges) -> Vec<Extent> {
    let written = extents.iter().filter(|extent| !extent.flags.is_unwritten());
    let parts = written.filter_map(|extent| clip(extent, &ranges.from));
    let place = |part: Extent| Extent {
        offset: (part.offset.get() - ranges.from.start + ranges.to.start).into(),
        ..part
    };
    parts.map(place).collect()
}

/// Blocks of `after` that were not the same in `before`.
fn newly_shared(before: &[Extent], after: &[Extent]) -> u64 {
    use paxfs_format::record::Record;
    let total: u64 = after.iter().map(|extent| u64::from(extent.length.get())).sum();
    let mut kept = 0;
    let mut old = before.iter().peekable();
    for new in after {
        while old.next_if(|old| old.end() <= new.offset.get()).is_some() {}
        for before in old.clone().take_while(|old| old.offset.get() < new.end()) {
            let shift = before.offset.get().wrapping_sub(before.start.get());
            if shift == new.offset.get().wrapping_sub(new.start.get()) && !before.flags.is_unwritten() {
                kept += before.end().min(new.end()) - before.offset.get().max(new.offset.get());
            }
        }
    }
    total.saturating_sub(kept)
}
