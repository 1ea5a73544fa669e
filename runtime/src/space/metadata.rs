//! Blocks for metadata, out of clusters; and the clusters that are kept ready.

use super::{Clusters, Context, Group, SpaceError, block_u32};
use crate::pages::Pages;
use paxfs_format::geometry::HUGE_BLOCKS;
use paxfs_format::group::GroupTree;
use paxfs_format::rmap::{ExtentFlags, Owner, Rmap};

impl Group {
    /// Blocks of clusters kept ready, so that a full volume can still unlink, truncate and copy on write.
    pub(super) fn ready(&self) -> u32 {
        let cluster = self.clusters.cluster_blocks();
        (self.blocks / 100).clamp(cluster, block_u32(4 * HUGE_BLOCKS).max(cluster))
    }

    /// Blocks up to `wanted` that an operation that adds to the volume can have for metadata, besides what the trees need
    /// to follow what was done already.
    pub fn metadata_room(&self, wanted: u64) -> u64 {
        let kept = u64::from(self.ready() / 2) + self.needed_to_follow();
        let have = u64::from(self.clusters.usable_blocks());
        let missing = (wanted + kept).saturating_sub(have);
        if missing == 0 {
            return wanted;
        }
        let size = u64::from(self.clusters.cluster_blocks());
        let more = self.usable.aligned_units(size, missing.div_ceil(size)) * size;
        (have + more).saturating_sub(kept).min(wanted)
    }

    /// Blocks that the trees may need to follow what is in memory.
    pub fn needed_to_follow(&self) -> u64 {
        let logged = self.rmap_log.len() + self.free_log.len() + self.chunk_log.len() + self.bad_log.len();
        let logged = logged as u64;
        if logged == 0 {
            return 0;
        }
        let trees = [GroupTree::Rmap, GroupTree::Free, GroupTree::Inodes, GroupTree::Bad];
        trees.into_iter().map(|tree| self.needed_for(tree, logged)).sum::<u64>().min(4 * logged + 16)
    }

    /// Blocks that one tree may need for so many changes: at worst each splits a full leaf; but no more leaves than there
    /// are, and than new records fill. And a split at each level.
    pub fn needed_for(&self, tree: GroupTree, changes: u64) -> u64 {
        let root = self.header.root(tree);
        changes.min(u64::from(root.nodes.get()) + changes / 32) + 2 * u64::from(root.height.get()) + 2
    }

    /// How many blocks for metadata are missing of so many, when no more clusters can be had here.
    pub fn missing(&mut self, needed: u64, context: &Context) -> u64 {
        let own = needed.saturating_sub(self.stock.len() as u64);
        // What cannot be had is missing.
        let _ = self.reserve_metadata(u32::try_from(own).unwrap_or(u32::MAX), context);
        own.saturating_sub(self.clusters.usable_blocks().into())
    }

    /// Blocks of other groups that this group's trees may use.
    pub fn stock(&mut self) -> &mut Vec<u64> {
        &mut self.stock
    }

    /// Blocks of other groups that the last settling gave back.
    pub fn take_foreign(&mut self) -> Vec<u64> {
        core::mem::take(&mut self.foreign)
    }

    /// Blocks of a cluster for metadata, aligned to their number, which is a power of two. Makes a new cluster when the
    /// old ones are full.
    pub fn allocate_metadata(&mut self, blocks: u32, context: &Context) -> Result<u32, SpaceError> {
        loop {
            if let Some(start) = self.clusters.allocate(blocks) {
                self.changed = true;
                return Ok(start);
            }
            self.add_cluster(context)?;
        }
    }

    /// Gives back a block of a cluster.
    pub fn free_metadata(&mut self, block: u32) -> Result<(), SpaceError> {
        if !self.clusters.free(block) {
            return Err(SpaceError::NotInUse { group: self.number, block });
        }
        self.changed = true;
        Ok(())
    }

    fn add_cluster(&mut self, context: &Context) -> Result<(), SpaceError> {
        let size = self.clusters.cluster_blocks();
        let start = self.usable.find_aligned_unit(size).ok_or(SpaceError::Full)?;
        self.take(start, size);
        self.change_clusters(start, context, |clusters| clusters.add(start));
        Ok(())
    }

    /// Makes sure that so many blocks of clusters can be given out.
    pub fn reserve_metadata(&mut self, blocks: u32, context: &Context) -> Result<(), SpaceError> {
        while self.clusters.usable_blocks() < blocks {
            self.add_cluster(context)?;
        }
        Ok(())
    }

    /// Keeps clusters ready, as far as there is space; and gives back those that are too many.
    pub(super) fn balance_clusters(&mut self, context: &Context) -> Result<(), SpaceError> {
        let ready = self.ready();
        // Best effort: on a full volume there may be none.
        let _ = self.reserve_metadata(ready, context);
        while let Some(start) = self.removable_cluster(ready) {
            let size = self.clusters.cluster_blocks();
            self.change_clusters(start, context, |clusters| clusters.remove(start));
            self.release(start, size)?;
        }
        Ok(())
    }

    fn removable_cluster(&self, ready: u32) -> Option<u32> {
        // Twice what is kept ready, so that a cluster does not come and go with each commit.
        self.clusters.empty_beyond(ready.saturating_mul(2))
    }

    /// Changes which clusters there are at `start`; the reverse map follows.
    fn change_clusters(&mut self, start: u32, context: &Context, change: impl FnOnce(&mut Clusters)) {
        let before = self.clusters.runs_around(start);
        change(&mut self.clusters);
        if context.rmap {
            for (start, length) in before {
                self.log_rmap(cluster_rmap(start, length), false);
            }
            for (start, length) in self.clusters.runs_around(start) {
                self.log_rmap(cluster_rmap(start, length), true);
            }
        }
    }

    /// Makes the page of a metadata block that was just given out.
    #[allow(unsafe_code)]
    pub(crate) fn new_page(&self, pages: &Pages, context: &Context, block: u32) {
        // SAFETY: the block was just given out under this group's lock, so nobody else knows of it yet.
        unsafe { pages.fresh(context.geometry.volume_block(self.number, block)) };
    }
}

fn cluster_rmap(start: u32, length: u32) -> Rmap {
    Rmap {
        start: start.into(),
        length: length.into(),
        owner: Owner::CLUSTER,
        offset: 0.into(),
        flags: ExtentFlags::new(0),
    }
}
