//! Who uses which blocks: the metadata of all files and trees, bit by bit, and the extents of the groups asked about.

use super::clusters::{self, Bitmap};
use super::cross::{Chunks, in_use};
use super::names::Files;
use super::room::Room;
use super::source::{fork_blocks, gather};
use super::space::{nodes, tree};
use crate::runs::{union, without};
use core::ops::Range;
use paxfs_format::bad::Bad;
use paxfs_format::chunk::CHUNK_BLOCKS;
use paxfs_format::cluster::Cluster;
use paxfs_format::extent::Extent;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::record::Record;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};

/// An extent of a file, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub inode: u64,
    pub extent: Extent,
}

/// Who uses which blocks.
#[derive(Debug)]
pub(super) struct Census {
    pub room: Room,
    /// Extents of all files that lie in the groups asked about.
    pub claims: BTreeMap<u32, Vec<Claim>>,
    /// Files whose blocks lie in no cluster, or are used by others too: they have to be written anew.
    pub clashing: BTreeSet<u64>,
    /// Trees that cannot stay where they are, for the same reason.
    pub moving: BTreeSet<(u32, GroupTree)>,
    /// Nodes of the trees that stay.
    pub nodes: BTreeMap<(u32, GroupTree), Vec<u64>>,
    /// Bad ranges by group, as they are known.
    pub bad: BTreeMap<u32, Vec<Range<u64>>>,
}

/// What a census goes by.
pub(super) struct Scope<'s> {
    pub chunks: &'s Chunks,
    /// Groups in which something is wrong with clusters or chunks.
    pub doubted: &'s BTreeSet<u32>,
    /// Groups whose trees of space are compared.
    pub wanted: &'s BTreeSet<u32>,
    /// Trees to be written anew in any case.
    pub forced: &'s BTreeSet<(u32, GroupTree)>,
    /// Clusters to be added.
    pub extra: &'s BTreeSet<(u32, u32)>,
    /// Blocks at which the medium fails.
    pub failed: &'s BTreeSet<u64>,
}

/// Finds out who uses which blocks: all but the files in memory, whose forks will be written anew.
pub(super) fn census(volume: &Volume<Image<'_>>, scope: &Scope<'_>, files: &Files) -> Census {
    let geometry = volume.geometry;
    let mut room = Room::new(geometry);
    let mut bad = BTreeMap::new();
    for group in geometry.group_numbers() {
        let starts = clusters::known(volume, group, scope.doubted.contains(&group)).into_keys();
        room.clusters.extend(starts.map(|start| ((group, start), Bitmap::default())));
        let runs = bad_ranges(volume, group, scope.failed);
        let start = geometry.group_start(group);
        for run in &runs {
            room.bad.extend(run.clone().map(|block| start.saturating_add(block)));
        }
        bad.insert(group, runs);
    }
    room.clusters.extend(scope.extra.iter().map(|place| (*place, Bitmap::default())));
    let mut census = Census {
        room,
        claims: BTreeMap::new(),
        clashing: BTreeSet::new(),
        moving: BTreeSet::new(),
        nodes: BTreeMap::new(),
        bad,
    };
    census.chunks(volume, scope.chunks);
    for group in geometry.group_numbers() {
        for which in GroupTree::ALL {
            census.tree(volume, scope, group, which);
        }
    }
    for number in in_use(volume, scope.chunks) {
        if let Some(file) = files.get(&number) {
            if file.kind() == Some(FileType::Regular) {
                file.extents.iter().for_each(|extent| census.claim(scope, number, *extent));
            }
            continue;
        }
        let Ok(inode) = volume.inode(number) else { continue };
        let mut blocks = Vec::new();
        fork_blocks(volume, inode, |block| blocks.push(block));
        let clear = blocks.iter().all(|block| census.room.mark(*block) == Some(false));
        if !clear {
            census.clashing.insert(number);
        }
        if inode.file_type() == Some(FileType::Regular) {
            for extent in volume.extents(inode).flatten() {
                census.claim(scope, number, extent);
            }
        }
    }
    census
}

/// Bad ranges of a group: those of its tree, and blocks that were found to fail.
fn bad_ranges(volume: &Volume<Image<'_>>, group: u32, failed: &BTreeSet<u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    if let Some((tree, _)) = tree::<Bad>(volume, group, GroupTree::Bad) {
        let space = volume.geometry.group_space(group);
        let gathered = gather(volume, &tree);
        let all = gathered.sound.iter().chain(&gathered.doubtful).filter(|bad| bad.check(&space).is_ok());
        runs.extend(all.map(|bad| bad.key().start..bad.end()));
    }
    let start = volume.geometry.group_start(group);
    let end = start.saturating_add(volume.geometry.group_len(group));
    runs.extend(failed.range(start..end).map(|block| {
        let block = block.saturating_sub(start);
        block..block.saturating_add(1)
    }));
    union(runs)
}

impl Census {
    fn claim(&mut self, scope: &Scope<'_>, inode: u64, extent: Extent) {
        let Some(place) = self.room.geometry.locate(extent.start.get()) else { return };
        if scope.wanted.contains(&place.group) {
            self.claims.entry(place.group).or_default().push(Claim { inode, extent });
        }
    }

    fn chunks(&mut self, volume: &Volume<Image<'_>>, chunks: &Chunks) {
        for (group, chunks) in (0u32..).zip(chunks) {
            for start in chunks.keys() {
                let first = volume.geometry.volume_block(group, *start);
                for block in 0..u64::from(CHUNK_BLOCKS) {
                    if self.room.mark(first.saturating_add(block)).is_none() {
                        // Inodes cannot move: where they are is a cluster.
                        let cluster = volume.geometry.cluster_start(*start);
                        self.room.clusters.insert((group, cluster), Bitmap::default());
                        self.room.mark(first.saturating_add(block));
                    }
                }
            }
        }
    }

    fn tree(&mut self, volume: &Volume<Image<'_>>, scope: &Scope<'_>, group: u32, which: GroupTree) {
        let stays = if scope.forced.contains(&(group, which)) { None } else { nodes(volume, group, which) };
        let Some(nodes) = stays else {
            self.moving.insert((group, which));
            return;
        };
        let mut marked = Vec::new();
        for block in &nodes {
            match self.room.mark(*block) {
                Some(false) if !self.room.bad.contains(block) => marked.push(*block),
                _ => {
                    self.moving.insert((group, which));
                }
            }
        }
        if self.moving.contains(&(group, which)) {
            self.release(&marked);
        } else {
            self.nodes.insert((group, which), nodes);
        }
    }

    /// Gives blocks of clusters back.
    pub fn release(&mut self, blocks: &[u64]) {
        blocks.iter().for_each(|block| self.room.release(*block));
    }

    /// Blocks of a group, counted from its start, that are fixed, in clusters, or somebody's data; ascending, apart.
    fn occupied(&self, group: u32) -> Vec<Range<u64>> {
        let geometry = &self.room.geometry;
        let start = geometry.group_start(group);
        let clusters = self.room.clusters.range((group, 0)..=(group, u32::MAX));
        let mut runs: Vec<Range<u64>> = core::iter::once(0..geometry.fixed_blocks(group)).collect();
        runs.extend(clusters.map(|((_, start), _)| {
            let start = u64::from(*start);
            start..start.saturating_add(geometry.cluster_blocks)
        }));
        for Claim { extent, .. } in self.claims.get(&group).into_iter().flatten() {
            let from = extent.start.get().saturating_sub(start);
            runs.push(from..from.saturating_add(extent.length.get().into()));
        }
        union(runs)
    }

    /// What the cluster tree of a group must hold.
    pub fn clusters(&self, group: u32) -> Vec<Cluster> {
        let own = self.room.clusters.range((group, 0)..=(group, u32::MAX));
        own.map(|((_, start), bitmap)| {
            let used: u32 = bitmap.iter().map(|word| word.count_ones()).sum();
            Cluster { start: (*start).into(), used: used.into(), bitmap: bitmap.map(Into::into) }
        })
        .collect()
    }

    /// Free blocks of a group, counted from its start.
    pub fn free(&self, group: u32) -> Vec<Range<u64>> {
        without(0..self.room.geometry.group_len(group), &self.occupied(group))
    }

    /// A place for a new cluster, in that group if it has one, else in another of those that were looked at.
    pub fn place_for_cluster(&self, group: u32, wanted: &BTreeSet<u32>) -> Option<(u32, u32)> {
        let unit = self.room.geometry.cluster_blocks;
        let groups = core::iter::once(group).chain(wanted.iter().copied().filter(|other| *other != group));
        groups.filter(|group| wanted.contains(group)).find_map(|group| {
            let start = self.free(group).into_iter().find_map(|run| {
                let start = run.start.next_multiple_of(unit);
                (start.saturating_add(unit) <= run.end).then_some(start)
            })?;
            Some((group, u32::try_from(start).ok()?))
        })
    }
}
