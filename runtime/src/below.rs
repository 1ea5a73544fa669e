//! What lies below a range of a file: blocks of its own, blocks that others own, too, unwritten ones,
//! bad ones, or nothing.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::map::{clip, overlapping};
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::inode::Inode;
use paxfs_format::record::Record;
use paxfs_format::superblock::ReadOnlyCompatible;

/// What a range of file blocks has below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// Written blocks that only this file owns, on the medium as well.
    Own(Extent),
    /// Written blocks that others own, too.
    Shared(Extent),
    /// Allocated blocks that read as zeros.
    Unwritten(Extent),
    /// Bad blocks, whoever else owns them. What was written there is lost.
    Bad(Extent),
    /// Nothing.
    Hole,
}

impl Below {
    /// Whether that reads as zeros, and nobody stored anything there.
    pub fn is_zeros(&self) -> bool {
        match self {
            Below::Hole | Below::Unwritten(_) => true,
            Below::Bad(extent) => extent.flags.is_unwritten(),
            Below::Own(_) | Below::Shared(_) => false,
        }
    }
}

/// A range of file blocks with one kind of thing below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub blocks: Range<u64>,
    pub below: Below,
}

/// What is below a range of file blocks, piece by piece. The gate is held.
pub(crate) fn pieces(core: &Core, inode: &Inode, blocks: Range<u64>) -> Result<Vec<Piece>> {
    let reflink = core.volume.superblock.has(ReadOnlyCompatible::REFLINK);
    let mut pieces = Vec::new();
    let mut at = blocks.start;
    for extent in overlapping(core, inode, &blocks)? {
        let Some(part) = clip(&extent, &blocks) else { continue };
        let start = part.offset.get();
        if at < start {
            pieces.push(Piece { blocks: at..start, below: Below::Hole });
        }
        at = part.end();
        let mut next = start;
        for bad in core.bad_parts(&part)? {
            good(core, inode, &part, next..bad.offset.get(), reflink, &mut pieces)?;
            next = bad.end();
            pieces.push(Piece { blocks: bad.offset.get()..next, below: Below::Bad(bad) });
        }
        good(core, inode, &part, next..at, reflink, &mut pieces)?;
    }
    if at < blocks.end {
        pieces.push(Piece { blocks: at..blocks.end, below: Below::Hole });
    }
    Ok(pieces)
}

/// Whether blocks are written, and not only this file's. The gate is held.
pub(crate) fn is_shared(core: &Core, below: &Below) -> Result<bool> {
    let Below::Bad(extent) = below else { return Ok(matches!(below, Below::Shared(_))) };
    if extent.flags.is_unwritten() || !core.volume.superblock.has(ReadOnlyCompatible::REFLINK) {
        return Ok(false);
    }
    let place = core.volume.geometry.locate(extent.start.get());
    let place = place.ok_or_else(|| Error::damaged("an extent", "past the volume"))?;
    let group = core.group(place.group)?;
    let counts = group.counts_on_medium(core.pages(), &core.context(), place.block, extent.length.get())?;
    Ok(counts.iter().any(|counted| counted.count > 1))
}

/// What is below file blocks of an extent that are not bad.
fn good(
    core: &Core,
    inode: &Inode,
    extent: &Extent,
    blocks: Range<u64>,
    reflink: bool,
    pieces: &mut Vec<Piece>,
) -> Result<()> {
    let Some(part) = clip(extent, &blocks) else { return Ok(()) };
    if part.flags.is_unwritten() {
        pieces.push(Piece { blocks, below: Below::Unwritten(part) });
    } else if !reflink {
        pieces.push(Piece { blocks, below: Below::Own(part) });
    } else {
        counted(core, inode, &part, pieces)?;
    }
    Ok(())
}

/// A written extent, cut where its blocks' counts change between one and more.
fn counted(core: &Core, inode: &Inode, extent: &Extent, pieces: &mut Vec<Piece>) -> Result<()> {
    let number = inode.header.place.get();
    let place = core.volume.geometry.locate(extent.start.get());
    let place = place.ok_or_else(|| Error::damaged(format_args!("inode {number}"), "extent"))?;
    let group = core.group(place.group)?;
    let length = extent.length.get();
    for counted in group.counts_on_medium(core.pages(), &core.context(), place.block, length)? {
        let start = extent.offset.get() + u64::from(counted.start - place.block);
        let blocks = start..start + u64::from(counted.length);
        let Some(part) = clip(extent, &blocks) else { continue };
        let below = if counted.count > 1 { Below::Shared(part) } else { Below::Own(part) };
        match (pieces.last_mut(), below) {
            (Some(Piece { blocks: last, below: Below::Shared(before) }), Below::Shared(_))
                if before.merged(&part).is_some() =>
            {
                last.end = blocks.end;
                *before = before.merged(&part).unwrap_or(part);
            }
            _ => pieces.push(Piece { blocks, below }),
        }
    }
    Ok(())
}
