//! Copies of blocks that two files claim without sharing them.

use super::census::{Census, Claim};
use super::extents::merged;
use super::file::File;
use super::names::Files;
use super::round::Round;
use crate::error::Error;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;

impl Round<'_, '_> {
    /// Gives files copies of blocks that others have too.
    pub(super) fn copies(&mut self, files: &mut Files, census: &mut Census) -> Result<(), Error> {
        let space = self.volume.geometry.volume_space();
        for (number, ranges) in self.targets.copies.clone() {
            let Some(file) = files.get_mut(&number) else { continue };
            let ranges = crate::runs::union(ranges);
            let mut after = Vec::new();
            for extent in core::mem::take(&mut file.extents) {
                let mut rest = extent;
                let whole = blocks(&extent);
                for part in crate::runs::within(&ranges, &whole) {
                    let before = part.start.saturating_sub(rest.start.get());
                    let (kept, taken) = split(rest, before);
                    after.extend(kept);
                    let Some(taken) = taken else { break };
                    let (moved, left) = split(taken, part.end.saturating_sub(part.start));
                    if let Some(moved) = moved {
                        after.extend(self.copy(file, census, moved)?);
                    }
                    match left {
                        Some(left) => rest = left,
                        None => {
                            rest.length = 0.into();
                            break;
                        }
                    }
                }
                if rest.length.get() > 0 {
                    after.push(rest);
                }
            }
            file.extents = merged(after, &space);
            for claims in census.claims.values_mut() {
                claims.retain(|claim| claim.inode != number);
            }
            for extent in &file.extents {
                let Some(place) = self.volume.geometry.locate(extent.start.get()) else { continue };
                let claim = Claim { inode: number, extent: *extent };
                census.claims.entry(place.group).or_default().push(claim);
            }
        }
        Ok(())
    }

    /// Copies an extent's blocks to free ones, as many runs as it takes.
    fn copy(&mut self, file: &mut File, census: &mut Census, extent: Extent) -> Result<Vec<Extent>, Error> {
        let mut copies = Vec::new();
        let mut rest = Some(extent);
        while let Some(extent) = rest.take() {
            let groups: Vec<u32> = census.claims.keys().copied().collect();
            let run = groups.into_iter().find_map(|group| {
                let bad = census.bad.get(&group).cloned().unwrap_or_default();
                let free = census.free(group).into_iter();
                let run = free
                    .flat_map(|run| crate::runs::without(run, &bad))
                    .max_by_key(|run| run.end - run.start)?;
                Some((group, run))
            });
            let Some((group, run)) = run else {
                let bytes = u64::from(extent.length.get()).saturating_mul(BLOCK_BYTES);
                file.lost.insert(format!("{bytes} bytes that others have too, for want of room"));
                break;
            };
            let (part, left) = split(extent, run.end.saturating_sub(run.start));
            rest = left;
            let Some(part) = part else { break };
            let to = self.volume.geometry.group_start(group).saturating_add(run.start);
            for block in 0..u64::from(part.length.get()) {
                let bytes = *self.volume.blocks.block(part.start.get().saturating_add(block))?;
                self.volume.blocks.put(to.saturating_add(block), Box::new(bytes));
            }
            let copy = Extent { start: to.into(), ..part };
            census.claims.entry(group).or_default().push(Claim { inode: file.number, extent: copy });
            copies.push(copy);
        }
        Ok(copies)
    }
}

/// The blocks of an extent.
pub(super) fn blocks(extent: &Extent) -> Range<u64> {
    let start = extent.start.get();
    start..start.saturating_add(extent.length.get().into())
}

/// An extent cut after so many blocks.
fn split(extent: Extent, at: u64) -> (Option<Extent>, Option<Extent>) {
    let length = u64::from(extent.length.get());
    let at = at.min(length);
    let part = |from: u64, to: u64| {
        (from < to).then(|| Extent {
            offset: extent.offset.get().saturating_add(from).into(),
            start: extent.start.get().saturating_add(from).into(),
            length: u32::try_from(to - from).unwrap_or(u32::MAX).into(),
            flags: extent.flags,
        })
    };
    (part(0, at), part(at, length))
}
