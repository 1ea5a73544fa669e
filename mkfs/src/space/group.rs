//! What mkfs knows of one group while it fills it: free runs, clusters, inode chunks, and the owner of every extent.

use super::runs::Runs;
use paxfs_format::bad::Bad;
use paxfs_format::chunk::{CHUNK_BLOCKS, Chunk};
use paxfs_format::cluster::Cluster;
use paxfs_format::declare::OnDisk;
use paxfs_format::geometry::Geometry;
use paxfs_format::rmap::Rmap;
use paxfs_format::units::Bits64;

/// Part of a group, at its start, where clusters go first and data last: one in so many blocks.
const ZONE_PART: u64 = 16;

/// A group being filled.
#[derive(Debug)]
pub struct GroupSpace {
    /// Free blocks for data.
    pub data: Runs,
    /// Free blocks of the zone, for clusters.
    pub zone: Runs,
    /// End of the zone.
    zone_end: u32,
    /// Blocks of a cluster.
    cluster_blocks: u32,
    /// Its clusters, in the order they were made; only the last has octets left.
    pub clusters: Vec<Cluster>,
    /// First block of the last cluster's next octet.
    next_octet: u32,
    /// The octet that single blocks come from.
    octet: core::ops::Range<u32>,
    /// Its inode chunks, in the order they were made.
    pub chunks: Vec<Chunk>,
    /// Data extents that lie in it.
    pub owners: Vec<Rmap>,
    /// Its bad ranges.
    pub bad: Vec<Bad>,
}

impl GroupSpace {
    /// A group where nothing is but what geometry puts there.
    pub fn new(geometry: &Geometry, group: u32) -> Self {
        let narrow = |blocks: u64| u32::try_from(blocks).unwrap_or(u32::MAX);
        let (fixed, length) = (geometry.fixed_blocks(group), geometry.group_len(group));
        let cluster = geometry.cluster_blocks;
        let zone = (length / ZONE_PART).next_multiple_of(cluster).max(2 * cluster);
        let zone_end =
            fixed.next_multiple_of(cluster).saturating_add(zone).min(length / 2).max(fixed).min(length);
        let mut space = GroupSpace {
            data: Runs::default(),
            zone: Runs::default(),
            zone_end: narrow(zone_end),
            cluster_blocks: narrow(cluster),
            clusters: Vec::new(),
            next_octet: 0,
            octet: 0..0,
            chunks: Vec::new(),
            owners: Vec::new(),
            bad: Vec::new(),
        };
        space.zone.insert(narrow(fixed), narrow(zone_end.saturating_sub(fixed)));
        space.data.insert(narrow(zone_end), narrow(length.saturating_sub(zone_end)));
        space
    }

    /// Takes exactly these blocks; false, and nothing taken, when one of them is not free.
    pub fn take(&mut self, start: u32, length: u32) -> bool {
        if self.data.take(start, length) || self.zone.take(start, length) {
            return true;
        }
        match self.zone_end.checked_sub(start) {
            Some(first) if first > 0 && first < length => {
                let zone = self.zone.take(start, first);
                let both = zone && self.data.take(self.zone_end, length - first);
                if zone && !both {
                    self.zone.insert(start, first);
                }
                both
            }
            _ => false,
        }
    }

    /// Makes blocks free again.
    pub fn give_back(&mut self, start: u32, length: u32) {
        let first = self.zone_end.saturating_sub(start).min(length);
        self.zone.insert(start, first);
        self.data.insert(start + first, length - first);
    }

    /// Makes a cluster; false when no place is left for one.
    fn grow(&mut self) -> bool {
        let size = self.cluster_blocks;
        let zone = self.zone.aligned(size).filter(|&start| self.zone.take(start, size));
        let Some(start) =
            zone.or_else(|| self.data.aligned(size).filter(|&start| self.data.take(start, size)))
        else {
            return false;
        };
        self.clusters.push(Cluster { start: start.into(), ..Cluster::zeroed() });
        self.next_octet = 0;
        true
    }

    fn take_octet(&mut self) -> Option<u32> {
        if self.clusters.is_empty() || self.next_octet >= self.cluster_blocks {
            self.grow().then_some(())?;
        }
        let start = self.clusters.last()?.start.get() + self.next_octet;
        self.next_octet += CHUNK_BLOCKS;
        Some(start)
    }

    /// Marks a block of a cluster as in use or not.
    pub fn mark(&mut self, block: u32, used: bool) {
        // The newest cluster is nearly always the one.
        let size = self.cluster_blocks;
        let holds = |cluster: &&mut Cluster| block.wrapping_sub(cluster.start.get()) < size;
        if let Some(cluster) = self.clusters.iter_mut().rev().find(holds) {
            cluster.set_used(block - cluster.start.get(), used);
        }
    }

    /// A block of a cluster.
    pub fn node(&mut self) -> Option<u32> {
        if self.octet.is_empty() {
            let start = self.take_octet()?;
            self.octet = start..start + CHUNK_BLOCKS;
        }
        let block = self.octet.next()?;
        self.mark(block, true);
        Some(block)
    }

    /// A chunk of inodes, none of them in use.
    pub fn chunk(&mut self) -> Option<u32> {
        let start = self.take_octet()?;
        (start..start + CHUNK_BLOCKS).for_each(|block| self.mark(block, true));
        self.chunks.push(Chunk { start: start.into(), ..Chunk::zeroed() });
        Some(start)
    }

    /// Sets a bit of the chunk at `start`.
    pub fn chunk_bits(&mut self, start: u32, used: u64, orphans: u64) {
        if let Some(chunk) = self.chunks.iter_mut().rev().find(|chunk| chunk.start.get() == start) {
            chunk.used = Bits64::new(chunk.used.get() | used);
            chunk.orphans = Bits64::new(chunk.orphans.get() | orphans);
        }
    }
}
