//! How many own the blocks of a file's extents: one more, or one less.

use crate::data::Writer;
use crate::error::{Error, Result};
use crate::pages::Pages;
use crate::space::{Context, Counted, Group, SpaceError, overlaid};
use crate::trees::TreeName;
use paxfs_format::extent::Extent;
use paxfs_format::group::GroupTree;
use paxfs_format::superblock::ReadOnlyCompatible;

/// Group, first block and length of an extent.
type Run = (u32, u32, u32);

impl Writer<'_> {
    /// Does something with each extent's run of blocks.
    pub fn each_run(
        &self,
        extents: &[Extent],
        change: impl Fn(&mut Group, u32, u32) -> core::result::Result<(), SpaceError>,
    ) -> Result<()> {
        for (group, start, length) in self.runs(extents)? {
            change(&mut *self.core.group(group)?, start, length)?;
        }
        Ok(())
    }

    /// Says that the file no longer owns these extents: blocks that nobody else owns are freed.
    pub fn release(&self, extents: &[Extent]) -> Result<()> {
        let reflink = self.core.volume.superblock.has(ReadOnlyCompatible::REFLINK);
        if !reflink {
            return self.each_run(extents, Group::release);
        }
        // The file has let go of them. What cannot be counted now is counted before the next commit.
        self.each_counted(extents, Group::unshare, |runs| {
            self.tear(runs);
            self.core.media.release_late(runs);
            Ok(())
        })
    }

    /// Says that one file more owns these extents.
    pub fn share(&self, extents: &[Extent]) -> Result<()> {
        let runs = self.runs(extents)?;
        // What was counted so far gets no owner.
        self.each_counted(extents, Group::share, |_| {
            self.tear(&runs);
            Err(())
        })
    }

    /// Says that the counts of the groups of runs are not to be believed.
    fn tear(&self, runs: &[Run]) {
        runs.iter()
            .for_each(|(group, ..)| self.core.media.tear(TreeName::Group(*group, GroupTree::Refcount)));
    }

    /// Changes the counts of extents' blocks, which may be the same: then each time counts by itself. `lost` says whether to
    /// go on when a group's counts are lost.
    fn each_counted(
        &self,
        extents: &[Extent],
        change: impl Fn(&mut Group, &Pages, &Context, &[Counted]) -> core::result::Result<(), SpaceError>,
        lost: impl Fn(&[Run]) -> core::result::Result<(), ()>,
    ) -> Result<()> {
        let mut runs = self.runs(extents)?;
        runs.sort_unstable();
        for part in runs.chunk_by(|a, b| a.0 == b.0) {
            let Some((number, ..)) = part.first() else { continue };
            let counted = overlaid(part.iter().map(|(_, start, length)| (*start, *length)));
            let needed = self.core.group(*number)?.needed_for(GroupTree::Refcount, counted.len() as u64);
            self.core.stock(*number, needed, &self.joined.context)?;
            let mut group = self.core.group(*number)?;
            match change(&mut group, self.core.pages(), &self.joined.context, &counted) {
                Err(error @ SpaceError::Lost { .. }) => lost(part).map_err(|()| Error::from(error))?,
                changed => changed?,
            }
        }
        Ok(())
    }

    /// Group, first block and length of each extent.
    fn runs(&self, extents: &[Extent]) -> Result<Vec<Run>> {
        let run = |extent: &Extent| {
            let place = self.core.volume.geometry.locate(extent.start.get());
            let place =
                place.ok_or_else(|| Error::damaged(format_args!("inode {}", self.number), "extent"))?;
            Ok((place.group, place.block, extent.length.get()))
        };
        extents.iter().map(run).collect()
    }
}
