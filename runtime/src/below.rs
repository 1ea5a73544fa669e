//! What lies below a range of a file: blocks of its own, blocks that others own, too, unwritten ones, or nothing.

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
    /// Nothing.
    Hole,
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
        if part.flags.is_unwritten() {
            pieces.push(Piece { blocks: start..at, below: Below::Unwritten(part) });
        } else if !reflink {
            pieces.push(Piece { blocks: start..at, below: Below::Own(part) });
        } else {
            counted(core, inode, &part, &mut pieces)?;
        }
    }
    if at < blocks.end {
        pieces.push(Piece { blocks: at..blocks.end, below: Below::Hole });
    }
    Ok(pieces)
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
