//! The first store to blocks that others own, too: the others move to a copy, or the writer does.

use super::area::Area;
use super::fault::Then;
use crate::below::{Below, pieces};
use crate::core::{Core, Joined};
use crate::data::Writer;
use crate::error::{Error, Result};
use crate::inodes::State;
use crate::map::{clip, remap};
use crate::media::lost_data;
use crate::medium::Point;
use crate::share::blocks_to_share;
use crate::space::overlaid;
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::record::Record;
use std::collections::BTreeMap;

/// Most extents of others that are moved for one store.
const OWNERS_MAX: usize = 256;

impl Area {
    /// Makes the blocks around a store the file's own.
    pub(super) fn copy(&self, core: &Core, extent: &Extent, block: u64) -> Result<Then> {
        let frame = block - block % HUGE_BLOCKS;
        // An entry of 2 MiB stays one; of anything else one page is enough.
        let whole = self.guard.is_huge()
            && extent.offset.get() <= frame
            && frame + HUGE_BLOCKS <= extent.end()
            && (extent.start.get() + frame).wrapping_sub(extent.offset.get()).is_multiple_of(HUGE_BLOCKS);
        let blocks = if whole { frame..frame + HUGE_BLOCKS } else { block..block + 1 };
        match self.copy_out(core, &blocks)? {
            Some(then) => Ok(then),
            None => self.redirect(core, &blocks),
        }
    }

    /// Moves the others that own blocks of the file to a copy; `None` when that cannot be.
    fn copy_out(&self, core: &Core, blocks: &Range<u64>) -> Result<Option<Then>> {
        let Some(mut joined) = core.join_alone_for_fault()? else { return Ok(Some(Then::Thaw)) };
        let mut state = self.cell.write();
        let Some(mine) = shared_run(core, &state, blocks)? else { return Ok(Some(Then::Look)) };
        let others = core.others(&mine, self.cell.number)?.filter(|others| !others.is_empty());
        let Some(others) = others else { return Ok(None) };
        let parts: Vec<Extent> = others.values().flatten().copied().collect();
        match joined.promise(self.cell.number, blocks_to_share(3 * parts.len())) {
            Err(Error::NoSpace) => return Ok(None),
            promised => promised?,
        }
        let writer = Writer { core, joined: &joined, number: self.cell.number };
        // The others get one run, or nothing.
        let Some(copy) = core.run_for_copy(&mine, self.cell.number)? else { return Ok(None) };
        let [from, to] = [mine, copy].map(|extent| extent.start.get() * BLOCK_BYTES);
        core.medium().copy_nt(from, to, u64::from(mine.length.get()) * BLOCK_BYTES);
        if core.has_failed(&mine) {
            writer.give_back(&[copy])?;
            return Err(lost_data(self.cell.number, &mine));
        }
        core.medium().drain(Point::Data);
        let shift = |start: u64| start - mine.start.get() + copy.start.get();
        let mut moved = Vec::with_capacity(parts.len());
        for (owner, extents) in &others {
            let cell = core.inode(*owner)?;
            let mut other = cell.write();
            for extent in extents {
                let new = Extent { start: shift(extent.start.get()).into(), ..*extent };
                remap(core, &joined, &mut other.inode, &(extent.offset.get()..extent.end()), &[new])?;
                moved.push(new);
            }
            // Nothing that can be seen of it changed.
            core.inodes.set_dirty(&cell, &mut other);
        }
        release_and_share(&writer, &parts, &moved, &copy)?;
        self.modified(&joined, &mut state);
        // On the medium the others are not there yet, or this is their block until a commit.
        let is_own = core.is_durable(self.cell.number) && core.take_back(&mine)?;
        Ok(Some(if is_own { Then::Look } else { Then::Commit }))
    }

    /// Gives the file blocks of its own, with what it has.
    fn redirect(&self, core: &Core, blocks: &Range<u64>) -> Result<Then> {
        core.with_space(|| {
            let Some(joined) = core.join_for_fault()? else { return Ok(Then::Thaw) };
            let mut state = self.cell.write();
            let Some(mine) = shared_run(core, &state, blocks)? else { return Ok(Then::Look) };
            let writer = Writer { core, joined: &joined, number: self.cell.number };
            writer.unshare(&mut state, mine.offset.get()..mine.end())?;
            check_own(core, &state, blocks)?;
            self.modified(&joined, &mut state);
            Ok(Then::Commit)
        })
    }

    fn modified(&self, joined: &Joined<'_>, state: &mut State) {
        state.inode.modified = joined.now;
        joined.changed(&self.cell, state);
    }
}

/// The run that all of a range of file blocks is in and shares, as far as it is; `None` when nothing of it is shared any more.
fn shared_run(core: &Core, state: &State, blocks: &Range<u64>) -> Result<Option<Extent>> {
    let end = state.inode.size.get().div_ceil(BLOCK_BYTES);
    let there = pieces(core, &state.inode, blocks.start.min(end)..blocks.end.min(end))?;
    Ok(there.iter().find_map(|piece| match piece.below {
        Below::Shared(extent) => clip(&extent, blocks),
        _ => None,
    }))
}

/// Refuses blocks that were just given to a file alone, and count more owners than that: no store could ever go on.
pub(super) fn check_own(core: &Core, state: &State, blocks: &Range<u64>) -> Result<()> {
    match shared_run(core, state, blocks)? {
        Some(extent) => {
            let what = format!("reference count of block {}", extent.start.get());
            Err(Error::damaged(what, "it was free, and has more than one owner"))
        }
        None => Ok(()),
    }
}

/// Counts owners anew: the file alone has what it had, the others have the copy.
fn release_and_share(writer: &Writer<'_>, parts: &[Extent], moved: &[Extent], copy: &Extent) -> Result<()> {
    writer.release(parts)?;
    let base = copy.start.get();
    let runs = moved.iter().filter_map(|extent| {
        let start = u32::try_from(extent.start.get() - base).ok()?;
        Some((start, extent.length.get()))
    });
    let part = |start: u32, length: u32| Extent {
        offset: (copy.offset.get() + u64::from(start)).into(),
        start: (base + u64::from(start)).into(),
        length: length.into(),
        flags: copy.flags,
    };
    // A block that was given out counts one owner.
    let mut owned = 0;
    for run in overlaid(runs) {
        if owned < run.start {
            writer.give_back(&[part(owned, run.start - owned)])?;
        }
        for _ in 1..run.count {
            writer.share(&[part(run.start, run.length)])?;
        }
        owned = run.end();
    }
    if owned < copy.length.get() {
        writer.give_back(&[part(owned, copy.length.get() - owned)])?;
    }
    Ok(())
}

impl Core {
    /// What others own of a run of blocks, by inode; `None` when they cannot be moved: too many, one has a view that takes
    /// stores, or it is the file itself. The gate is held alone.
    fn others(&self, run: &Extent, me: u64) -> Result<Option<BTreeMap<u64, Vec<Extent>>>> {
        let place = self.volume.geometry.locate(run.start.get());
        let place =
            place.ok_or_else(|| Error::damaged(format_args!("inode {me}"), "extent past the volume"))?;
        let found = self.group(place.group)?.owners(
            self.pages(),
            &self.context(),
            place.block,
            run.length.get(),
            OWNERS_MAX,
        )?;
        let Some(found) = found else { return Ok(None) };
        let mut others: BTreeMap<u64, Vec<Extent>> = BTreeMap::new();
        for record in found {
            if !record.owner.is_inode() {
                return Ok(None);
            }
            let owner = record.owner.get();
            let start = self.volume.geometry.volume_block(place.group, record.start.get());
            let whole = Extent {
                offset: record.offset,
                start: start.into(),
                length: record.length,
                flags: record.flags,
            };
            let skip = run.start.get().saturating_sub(start);
            let end =
                (run.start.get() + u64::from(run.length.get())).min(start + u64::from(record.length.get()));
            let first = whole.offset.get() + skip;
            let blocks = first..first + end.saturating_sub(start + skip);
            let Some(part) = clip(&whole, &blocks) else { continue };
            if owner == me {
                if part.offset.get() == run.offset.get() && part.length == run.length {
                    continue;
                }
                return Ok(None);
            }
            if self.views.of(owner).is_some_and(|mapping| mapping.takes_stores()) {
                return Ok(None);
            }
            others.entry(owner).or_default().push(part);
        }
        Ok(Some(others))
    }

    /// Whether who owns a run alone did so on the medium all the time; then it may write there in place. The gate is held
    /// alone.
    fn take_back(&self, run: &Extent) -> Result<bool> {
        let place = self.volume.geometry.locate(run.start.get());
        let place = place.ok_or_else(|| Error::damaged("an extent", "past the volume"))?;
        Ok(self.group(place.group)?.take_back(place.block, run.length.get()))
    }

    /// A run of blocks for a copy of another.
    fn run_for_copy(&self, run: &Extent, near: u64) -> Result<Option<Extent>> {
        for number in self.groups_from(self.home(near)) {
            if let Some(start) = self.group(number)?.allocate_run(run.length.get(), run.offset.get()) {
                let start = self.volume.geometry.volume_block(number, start);
                return Ok(Some(Extent { start: start.into(), ..*run }));
            }
        }
        Ok(None)
    }
}
