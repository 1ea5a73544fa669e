//! Changing the extent map of a file: one operation, [`remap`], puts extents in the place of a range of the file. The
//! reverse map follows record by record. Reference counts and free space are the caller's.

use crate::core::{Core, Joined};
use crate::error::{Error, Result};
use crate::fork::{edit_tree, fork_mut, inline_room, set_inline};
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::inode::{ForkFormat, Inode, Which};
use paxfs_format::record::{Key, Record};
use paxfs_format::rmap::{Owner, Rmap};
use zerocopy::IntoBytes;

/// The part of an extent within a range of file blocks.
pub(crate) fn clip(extent: &Extent, range: &Range<u64>) -> Option<Extent> {
    let start = extent.offset.get().max(range.start);
    let end = extent.end().min(range.end);
    let length = u32::try_from(end.checked_sub(start)?).ok().filter(|length| *length > 0)?;
    let skip = start - extent.offset.get();
    Some(Extent {
        offset: start.into(),
        start: (extent.start.get() + skip).into(),
        length: length.into(),
        flags: extent.flags,
    })
}

/// The extents of a file that end past file block `from`, each behind the one before it.
pub(crate) fn extents_from<'c>(
    core: &'c Core,
    inode: &'c Inode,
    from: u64,
) -> impl Iterator<Item = Result<Extent>> + 'c {
    let number = inode.header.place.get();
    let mut end = 0;
    core.volume.extents_from(inode, from).map(move |extent| {
        let extent = extent.map_err(|fault| Error::fork(number, &fault))?;
        if extent.offset.get() < end {
            return Err(Error::damaged(format_args!("inode {number}"), "extents that overlap"));
        }
        end = extent.end();
        Ok(extent)
    })
}

/// The extents of a file that overlap a range, whole.
pub(crate) fn overlapping(core: &Core, inode: &Inode, range: &Range<u64>) -> Result<Vec<Extent>> {
    let mut found = Vec::new();
    for extent in extents_from(core, inode, range.start) {
        let extent = extent?;
        if extent.offset.get() >= range.end {
            break;
        }
        found.push(extent);
    }
    Ok(found)
}

/// Puts `new`, ascending and within `range`, in the place of what the file has there. Returns what it had.
pub(crate) fn remap(
    core: &Core,
    joined: &Joined<'_>,
    inode: &mut Inode,
    range: &Range<u64>,
    new: &[Extent],
) -> Result<Vec<Extent>> {
    // Neighbours that touch the range may be joined with what comes.
    let around = range.start.saturating_sub(1)..range.end.saturating_add(1);
    let old = overlapping(core, inode, &around)?;
    let before = old.first().and_then(|first| clip(first, &(0..range.start)));
    let after = old.last().and_then(|last| clip(last, &(range.end..u64::MAX)));
    let removed: Vec<Extent> = old.iter().filter_map(|extent| clip(extent, range)).collect();
    // A neighbour to the left may be followed by more that end before the range: only the last of them touches it.
    let mut stays: Vec<Extent> = Vec::with_capacity(new.len() + 2);
    let geometry = &core.volume.geometry;
    let mut push = |extent: &Extent| {
        let joinable = |last: &Extent| {
            let same = geometry.locate(last.start.get()).map(|place| place.group)
                == geometry.locate(extent.start.get()).map(|place| place.group);
            last.merged(extent).filter(|_| same)
        };
        match stays.last_mut().and_then(|last| joinable(last).map(|both| (last, both))) {
            Some((last, both)) => *last = both,
            None => stays.push(*extent),
        }
    };
    before.iter().chain(new).chain(&after).for_each(&mut push);
    replace(core, joined, inode, &old, &stays)?;
    core.views_follow(inode.header.place.get(), range, new, joined.context.generation)?;
    let blocks =
        |extents: &[Extent]| extents.iter().map(|extent| u64::from(extent.length.get())).sum::<u64>();
    inode.blocks = (inode.blocks.get() + blocks(new)).saturating_sub(blocks(&removed)).into();
    Ok(removed)
}

/// Puts records `new` in the place of records `old`, in the fork and in the reverse map.
fn replace(
    core: &Core,
    joined: &Joined<'_>,
    inode: &mut Inode,
    old: &[Extent],
    new: &[Extent],
) -> Result<()> {
    if old == new {
        return Ok(());
    }
    let count = (inode.data.count.get() + new.len() as u64).saturating_sub(old.len() as u64);
    if inode.data.format == ForkFormat::TREE {
        splice(core, joined, inode, old, new)?;
    } else {
        let inline = core.volume.inline_extents(inode);
        let number = inode.header.place.get();
        let inline = inline.map_err(|fault| Error::fork(number, &fault))?.unwrap_or_default();
        let first = old.first().or(new.first()).map_or(0, |extent| extent.offset.get());
        let last = old.last().map_or(first, |extent| extent.end());
        let (left, rest): (Vec<Extent>, Vec<Extent>) =
            inline.iter().partition(|extent| extent.offset.get() < first);
        let right = rest.into_iter().filter(|extent| extent.offset.get() >= last);
        let all: Vec<Extent> = left.into_iter().chain(new.iter().copied()).chain(right).collect();
        if size_of_val(all.as_slice()) <= inline_room(inode, Which::Data) {
            set_inline(inode, Which::Data, all.as_bytes());
            inode.data.format = if all.is_empty() { ForkFormat::EMPTY } else { ForkFormat::INLINE };
        } else {
            set_inline(inode, Which::Data, &[]);
            inode.data.format = ForkFormat::EMPTY;
            splice(core, joined, inode, &[], &all)?;
        }
    }
    fork_mut(inode, Which::Data).count = count.into();
    log_rmap(core, inode.header.place.get(), old, new)
}

fn splice(core: &Core, joined: &Joined<'_>, inode: &mut Inode, old: &[Extent], new: &[Extent]) -> Result<()> {
    let first = old.first().into_iter().chain(new.first()).map(Record::key).min().unwrap_or(Key::MIN);
    let last = old.last().into_iter().chain(new.last()).map(Record::key).max().unwrap_or(first);
    edit_tree::<Extent>(core, joined, inode, Which::Data, |tree| tree.splice(first..=last, new))
}

/// The record of the reverse map for an extent that starts at a block of its group.
pub(crate) fn rmap_of(extent: &Extent, owner: u64, start: u32) -> Rmap {
    Rmap {
        start: start.into(),
        length: extent.length,
        owner: Owner::new(owner),
        offset: extent.offset,
        flags: extent.flags,
    }
}

/// The reverse map loses records that are in `old` alone, and gets those that are in `new` alone.
fn log_rmap(core: &Core, owner: u64, old: &[Extent], new: &[Extent]) -> Result<()> {
    let mut old = old.iter().peekable();
    let log = |extent: &Extent, present: bool| -> Result<()> {
        let place = core.volume.geometry.locate(extent.start.get());
        let place =
            place.ok_or_else(|| Error::damaged(format_args!("inode {owner}"), "extent past the volume"))?;
        core.group(place.group)?.log_rmap(rmap_of(extent, owner, place.block), present);
        Ok(())
    };
    // Removals first: a record may come back with the same key and another length.
    let mut added = Vec::new();
    for extent in new {
        while let Some(gone) = old.next_if(|old| old.offset.get() < extent.offset.get()) {
            log(gone, false)?;
        }
        match old.next_if(|old| old.offset.get() == extent.offset.get()) {
            Some(same) if same == extent => {}
            Some(changed) => {
                log(changed, false)?;
                added.push(extent);
            }
            None => added.push(extent),
        }
    }
    for gone in old {
        log(gone, false)?;
    }
    added.into_iter().try_for_each(|extent| log(extent, true))
}
