//! Where metadata may be: the clusters of a group, by all that still says so.

use super::source::gather;
use paxfs_format::blocks::Blocks;
use paxfs_format::cluster::Cluster;
use paxfs_format::group::GroupTree;
use paxfs_format::header::{Header, MAGIC};
use paxfs_format::image::Image;
use paxfs_format::record::Record;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::volume::Volume;
use std::collections::BTreeMap;

/// Blocks of a cluster, one bit each.
pub(super) type Bitmap = [u64; 8];

/// Sets a bit; tells whether it was set before.
pub(super) fn set(bitmap: &mut Bitmap, bit: u32) -> bool {
    let word = usize::try_from(bit / 64).ok().and_then(|word| bitmap.get_mut(word));
    word.is_some_and(|word| {
        let was = *word >> (bit % 64) & 1 != 0;
        *word |= 1 << (bit % 64);
        was
    })
}

/// Clears a bit.
pub(super) fn clear(bitmap: &mut Bitmap, bit: u32) {
    if let Some(word) = usize::try_from(bit / 64).ok().and_then(|word| bitmap.get_mut(word)) {
        *word &= !(1 << (bit % 64));
    }
}

/// Whether a bit is set.
pub(super) fn has(bitmap: &Bitmap, bit: u32) -> bool {
    usize::try_from(bit / 64)
        .ok()
        .and_then(|word| bitmap.get(word))
        .is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

/// The bits that are set, ascending.
pub(super) fn bits(bitmap: &Bitmap) -> impl Iterator<Item = u32> + '_ {
    (0..512).filter(|bit| has(bitmap, *bit))
}

/// The clusters of a group: those of its tree; where that is damaged also those of the reverse map; and where both are,
/// every place where metadata is. Starts in the group, and which blocks are marked in use.
/// `doubted`: something was found there, so the reverse map and the blocks themselves are asked as well.
pub(super) fn known(volume: &Volume<Image<'_>>, group: u32, doubted: bool) -> BTreeMap<u32, Bitmap> {
    let mut found = BTreeMap::new();
    let geometry = &volume.geometry;
    let blocks = geometry.group_len(group);
    let fixed = geometry.fixed_blocks(group);
    let unit = geometry.cluster_blocks;
    let fits = |start: u32| {
        let start = u64::from(start);
        start.is_multiple_of(unit) && start >= fixed && start.saturating_add(unit) <= blocks
    };
    let Ok(header) = volume.group(group) else { return swept(volume, group) };
    let tree = gather(volume, &volume.group_tree::<Cluster>(group, header, GroupTree::Clusters));
    let space = geometry.group_space(group);
    for cluster in tree.sound.iter().chain(&tree.doubtful) {
        if fits(cluster.start.get()) {
            let sound = cluster.check(&space).is_ok();
            let bitmap = if sound { cluster.bitmap.map(|word| word.get()) } else { all(unit) };
            found.insert(cluster.start.get(), bitmap);
        }
    }
    let counted = header.clusters.records.get() == tree.sound.len() as u64;
    let whole = tree.faults == 0 && tree.doubtful.is_empty() && counted;
    if whole && !doubted {
        return found;
    }
    let rmap = gather(volume, &volume.group_tree::<Rmap>(group, header, GroupTree::Rmap));
    // What only the cluster tree has, and holds nothing, may be anything.
    let roles: Vec<&Rmap> = rmap.sound.iter().filter(|run| run.owner == Owner::CLUSTER).collect();
    let holds = |start: u32| {
        let first = geometry.volume_block(group, start);
        (0..unit).any(|block| is_metadata(volume, first.saturating_add(block)))
    };
    found.retain(|start, _| {
        let told =
            roles.iter().any(|run| run.key().start <= u64::from(*start) && u64::from(*start) < run.end());
        told || holds(*start)
    });
    for run in rmap.sound.iter().filter(|run| run.owner == Owner::CLUSTER) {
        let (mut start, end) = (run.start.get(), run.end());
        while u64::from(start) < end && fits(start) {
            found.entry(start).or_insert_with(|| all(unit));
            start = start.saturating_add(u32::try_from(unit).unwrap_or(u32::MAX));
        }
    }
    if !whole || rmap.faults != 0 || rmap.sound.is_empty() {
        for (start, bitmap) in swept(volume, group) {
            found.entry(start).or_insert(bitmap);
        }
    }
    found
}

/// All blocks of a cluster.
fn all(unit: u64) -> Bitmap {
    let mut bitmap = [0; 8];
    for bit in (0..512).filter(|bit| u64::from(*bit) < unit) {
        set(&mut bitmap, bit);
    }
    bitmap
}

/// Every place of a group where blocks of metadata are that belong there.
fn swept(volume: &Volume<Image<'_>>, group: u32) -> BTreeMap<u32, Bitmap> {
    let geometry = &volume.geometry;
    let start = geometry.group_start(group);
    let end = start.saturating_add(geometry.group_len(group));
    let mut found: BTreeMap<u32, Bitmap> = BTreeMap::new();
    let mut next = start.saturating_add(geometry.fixed_blocks(group));
    while let Some(block) = volume.blocks.next_data(next).filter(|block| *block < end) {
        next = block.saturating_add(1);
        let Some(place) = geometry.locate(block) else { break };
        let cluster = geometry.cluster_start(place.block);
        let whole = u64::from(cluster) >= geometry.fixed_blocks(group)
            && u64::from(cluster).saturating_add(geometry.cluster_blocks) <= geometry.group_len(group);
        if whole && is_metadata(volume, block) {
            set(found.entry(cluster).or_default(), place.block.saturating_sub(cluster));
        }
    }
    found
}

/// Whether a block is metadata that belongs there: a sound node or body, or a block of inodes.
pub(super) fn is_metadata(volume: &Volume<Image<'_>>, block: u64) -> bool {
    let Ok(bytes) = volume.blocks.block(block) else { return false };
    if Header::of(bytes).is_some_and(|header| header.magic == MAGIC && header.place.get() == block) {
        return volume.seed.verify(bytes).is_ok();
    }
    super::chunks::inodes_in(volume, block) > 0
}
