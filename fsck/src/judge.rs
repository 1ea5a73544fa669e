//! Which of two structures is wrong, where extents and reverse map disagree.

use crate::context::{Check, Group, locked};
use crate::extents::ExtentItem;
use crate::observe::ExtentPlace;
use crate::patch::Patch;
use crate::space_naming::mismatches;
use core::ops::Range;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::record::Key;
use paxfs_format::rmap::Owner;

/// An extent on one side, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub item: ExtentItem,
    pub place: ExtentPlace,
    /// Wrong by itself, which has been told.
    pub doubtful: bool,
}

/// Two records that mean the same extent, or one that has no partner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub file: Option<Held>,
    pub rmap: Option<Held>,
    /// Nothing is to be told of it.
    pub silent: bool,
    /// The reverse map is wrong.
    pub blame_rmap: bool,
    /// The cluster tree is wrong.
    pub blame_clusters: bool,
}

impl Pair {
    pub fn new(file: Option<Held>, rmap: Option<Held>) -> Self {
        Pair { file, rmap, silent: false, blame_rmap: false, blame_clusters: false }
    }
}

/// What is not to be told, because it follows from what could not be read or has been told.
pub(crate) fn silence(check: &Check<'_>, pairs: &mut Vec<Pair>) {
    let unknown = Unknown::of(check);
    // Records that both may have a partner where nobody can look are none for each other.
    let mut apart = Vec::new();
    for pair in pairs.iter_mut() {
        if let (Some(file), Some(rmap)) = (&pair.file, &pair.rmap)
            && unknown.has_rmap_of(check, file)
            && unknown.has_extent_of(check, rmap)
        {
            apart.push(Pair::new(None, pair.rmap.take()));
        }
    }
    pairs.append(&mut apart);
    for pair in pairs {
        if is_of_lost_cluster(check, &pair.file) || is_of_lost_cluster(check, &pair.rmap) {
            // What the reverse map has stays.
            pair.silent = true;
            pair.blame_rmap = pair.rmap.is_none_or(|rmap| rmap.doubtful);
            continue;
        }
        match (&pair.file, &pair.rmap) {
            (Some(file), Some(rmap)) => {
                pair.silent = file.doubtful || rmap.doubtful;
                pair.blame_rmap = rmap.doubtful;
            }
            (Some(file), None) => {
                let lost = unknown.has_rmap_of(check, file);
                pair.silent = file.doubtful || lost;
                pair.blame_rmap = lost;
            }
            (None, Some(rmap)) => {
                pair.silent = rmap.doubtful || unknown.has_extent_of(check, rmap);
                pair.blame_rmap = rmap.doubtful;
            }
            (None, None) => {}
        }
    }
}

/// What is not known of files, sorted.
struct Unknown {
    inodes: Vec<u64>,
    /// Inode, file blocks.
    extents: Vec<(u64, Range<u64>)>,
}

impl Unknown {
    fn of(check: &Check<'_>) -> Self {
        let mut inodes = locked(&check.doubts.inodes).clone();
        inodes.sort_unstable();
        let mut extents = locked(&check.doubts.extents).clone();
        extents.sort_unstable_by_key(|(inode, range)| (*inode, range.start));
        Unknown { inodes, extents }
    }

    /// Whether the reverse map may have an extent of a file where it cannot be read.
    fn has_rmap_of(&self, check: &Check<'_>, file: &Held) -> bool {
        let Some(place) = check.volume.geometry.locate(file.item.start) else { return true };
        // A group whose roots are lost has no reverse map to speak of.
        let Some(group) = check.group(place.group).filter(|group| group.header.is_some()) else {
            return true;
        };
        let key = Key { start: place.block.into(), owner: file.item.inode, offset: file.item.offset };
        locked(&group.missing.rmap).iter().any(|missing| missing.has(key))
    }

    /// Whether a file may have the extent of a record of the reverse map where it cannot be read.
    fn has_extent_of(&self, check: &Check<'_>, rmap: &Held) -> bool {
        let (inode, offset) = (rmap.item.inode, rmap.item.offset);
        let first = self.extents.partition_point(|(other, _)| *other < inode);
        let mut of_inode = self.extents.iter().skip(first).take_while(|(other, _)| *other == inode);
        of_inode.any(|(_, range)| range.contains(&offset)) || check.is_unknown(inode, &self.inodes)
    }
}

/// Whether it is a metadata cluster of a group of which not all clusters are known.
fn is_of_lost_cluster(check: &Check<'_>, held: &Option<Held>) -> bool {
    held.is_some_and(|held| {
        let group = check.volume.geometry.locate(held.item.start).and_then(|place| check.group(place.group));
        let index = group.and_then(|group| group.index.get());
        held.item.inode == Owner::CLUSTER.get() && index.is_none_or(|index| index.clusters_lost)
    })
}

/// Decides which side is wrong: the one without which free space and refcounts fit better. The reverse map, when they
/// fit no worse with the extent. Where metadata is, the geometry knows; and of clusters, the blocks that are in use.
pub(crate) fn judge(check: &Check<'_>, pairs: &mut [Pair]) {
    for pair in pairs.iter_mut().filter(|pair| !pair.silent && (is_role(&pair.file) || is_role(&pair.rmap))) {
        pair.blame_clusters = is_cluster_wrong(check, pair);
        pair.blame_rmap = !pair.blame_clusters;
    }
    // A wrong cluster leaves its neighbours alone, which the reverse map has as one run with where it should be.
    let wrong: Vec<Range<u64>> = pairs
        .iter()
        .filter(|pair| pair.blame_clusters)
        .filter_map(|pair| pair.rmap.map(|held| held.item.start..held.item.end()))
        .collect();
    for pair in pairs.iter_mut().filter(|pair| pair.rmap.is_none() && is_role(&pair.file)) {
        let part =
            |held: Held| wrong.iter().any(|run| run.start <= held.item.start && held.item.end() <= run.end);
        if pair.file.is_some_and(part) {
            (pair.silent, pair.blame_rmap) = (true, false);
        }
    }
    let is_open = |pair: &Pair| !pair.silent && !is_role(&pair.file) && !is_role(&pair.rmap);
    if !pairs.iter().any(is_open) {
        return;
    }
    let settled = |pair: &Pair| !is_open(pair) && pair.blame_rmap;
    let by_rmap = patch(check, pairs, settled);
    let by_files = patch(check, pairs, |pair| settled(pair) || is_open(pair));
    for group in &check.groups {
        let blocks = |pair: &Pair| -> Vec<Range<u64>> {
            let items = [pair.file, pair.rmap].into_iter().flatten().map(|held| held.item);
            items.filter_map(|item| inside(check, group, &item)).collect()
        };
        if !pairs.iter().any(|pair| is_open(pair) && !blocks(pair).is_empty()) {
            continue;
        }
        let (with_rmap, with_files) =
            (mismatches(check, group, &by_rmap), mismatches(check, group, &by_files));
        for pair in pairs.iter_mut().filter(|pair| is_open(pair)) {
            let ranges = blocks(pair);
            if ranges.is_empty() {
                continue;
            }
            let misfit = |list: &[Range<u64>]| ranges.iter().map(|range| overlap(list, range)).sum::<u64>();
            let (rmap, files) = (misfit(&with_rmap), misfit(&with_files));
            // A record without any extent stays unless something says that its blocks are not in use; and one extent that
            // its file's size does not allow is wrong unless something speaks for it.
            let needs_proof = pair.file.is_none_or(|file| is_past_size(check, &file.item));
            pair.blame_rmap |= if needs_proof { files < rmap } else { files <= rmap };
        }
    }
}

/// Whether metadata lies where the reverse map has a cluster, and the cluster tree has none.
fn is_cluster_wrong(check: &Check<'_>, pair: &Pair) -> bool {
    let Some(rmap) = pair.rmap.filter(|rmap| rmap.item.inode == Owner::CLUSTER.get()) else { return false };
    let group = check.volume.geometry.locate(rmap.item.start).and_then(|place| check.group(place.group));
    group.is_some_and(|group| {
        locked(&group.outside).iter().any(|(block, _)| (rmap.item.start..rmap.item.end()).contains(block))
    })
}

/// Whether written blocks of an extent lie past the end of its file.
fn is_past_size(check: &Check<'_>, item: &ExtentItem) -> bool {
    let limit = check.volume.inode(item.inode).map(|inode| inode.size.get().div_ceil(BLOCK_BYTES));
    let end = item.offset.saturating_add(item.length.into());
    item.flags == 0 && limit.is_ok_and(|limit| end > limit)
}

pub(crate) fn is_role(held: &Option<Held>) -> bool {
    held.is_some_and(|held| !Owner::new(held.item.inode).is_inode())
}

/// The blocks of an extent that lie in a group, from the group's start.
pub(crate) fn inside(check: &Check<'_>, group: &Group, item: &ExtentItem) -> Option<Range<u64>> {
    let start = check.volume.geometry.group_start(group.number);
    let end = start.saturating_add(check.volume.geometry.group_len(group.number));
    let (from, to) = (item.start.max(start), item.end().min(end));
    (from < to).then(|| from - start..to - start)
}

/// Blocks of a range that lie in a list of disjoint ranges, ascending.
fn overlap(list: &[Range<u64>], range: &Range<u64>) -> u64 {
    let first = list.partition_point(|other| other.end <= range.start);
    let others = list.iter().skip(first).take_while(|other| other.start < range.end);
    others.map(|other| other.end.min(range.end).saturating_sub(other.start.max(range.start))).sum()
}

/// What the reverse map would be with some pairs taken as the files have them.
pub(crate) fn patch(check: &Check<'_>, pairs: &[Pair], by_file: impl Fn(&Pair) -> bool) -> Patch {
    let mut patch = Patch::default();
    for pair in pairs.iter().filter(|pair| by_file(pair)) {
        if let Some(rmap) = pair.rmap {
            patch.remove(check, &rmap.item);
        }
        if let Some(file) = pair.file.filter(|file| !file.doubtful) {
            patch.add(check, &file.item);
        }
    }
    patch.sort();
    patch
}
