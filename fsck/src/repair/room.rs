//! Where new metadata goes: blocks of clusters that nothing uses.

use super::clusters::{Bitmap, clear, has, set};
use paxfs_format::geometry::Geometry;
use paxfs_format::image::Image;
use paxfs_format::tree::NodeSink;
use std::collections::{BTreeMap, HashSet};

/// There is no block left for metadata in any cluster: a group needs another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// The group that asked.
    pub group: u32,
}

/// The blocks of all clusters, and which of them are in use.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub geometry: Geometry,
    /// By group and start in it.
    pub clusters: BTreeMap<(u32, u32), Bitmap>,
    /// Blocks that the medium fails at: nobody is given them.
    pub bad: HashSet<u64>,
    /// By group, and for all of them: clusters before this one are full.
    hints: BTreeMap<u32, (u32, u32)>,
}

impl Room {
    /// No clusters yet.
    pub fn new(geometry: Geometry) -> Self {
        Room { geometry, clusters: BTreeMap::new(), bad: HashSet::new(), hints: BTreeMap::new() }
    }

    /// Marks a block as used. `None`: it is in no cluster; else whether it was used already.
    pub fn mark(&mut self, block: u64) -> Option<bool> {
        let place = self.geometry.locate(block)?;
        let start = self.geometry.cluster_start(place.block);
        let bitmap = self.clusters.get_mut(&(place.group, start))?;
        Some(set(bitmap, place.block.saturating_sub(start)))
    }

    /// A block that is free, in that group if there is one.
    pub fn allocate(&mut self, group: u32) -> Result<u64, Full> {
        self.allocate_in(group, (group, 0), (group, u32::MAX))
            .or_else(|| self.allocate_in(u32::MAX, (0, 0), (u32::MAX, u32::MAX)))
            .ok_or(Full { group })
    }

    /// A block that is free in one of these clusters. Those before the hint of that number are known to be full.
    fn allocate_in(&mut self, hint: u32, first: (u32, u32), last: (u32, u32)) -> Option<u64> {
        let from = self.hints.get(&hint).copied().unwrap_or(first).max(first);
        let unit = self.geometry.cluster_blocks;
        for (place, bitmap) in self.clusters.range_mut(from..=last) {
            let start = self.geometry.volume_block(place.0, place.1);
            let volume_block = |bit: u32| start.saturating_add(bit.into());
            let mut free = (0..512).filter(|bit| u64::from(*bit) < unit && !has(bitmap, *bit));
            if let Some(bit) = free.find(|bit| !self.bad.contains(&volume_block(*bit))) {
                set(bitmap, bit);
                self.hints.insert(hint, *place);
                return Some(volume_block(bit));
            }
        }
        None
    }

    /// Gives a block back.
    pub fn release(&mut self, block: u64) {
        let Some(place) = self.geometry.locate(block) else { return };
        let start = self.geometry.cluster_start(place.block);
        if let Some(bitmap) = self.clusters.get_mut(&(place.group, start)) {
            clear(bitmap, place.block.saturating_sub(start));
            for hint in self.hints.values_mut() {
                *hint = (*hint).min((place.group, start));
            }
        }
    }
}

/// Where the nodes of a new tree go.
pub(super) struct Sink<'s, 'd> {
    pub image: &'s mut Image<'d>,
    pub room: &'s mut Room,
    /// The group that its blocks are to be in.
    pub group: u32,
    /// Blocks that were set aside, the last one first to be given out; once they are gone any block will do.
    pub aside: Vec<u64>,
}

impl NodeSink for Sink<'_, '_> {
    type Error = Full;

    fn allocate(&mut self) -> Result<u64, Full> {
        match self.aside.pop() {
            Some(block) => Ok(block),
            None => self.room.allocate(self.group),
        }
    }

    fn write(&mut self, block: u64, node: &[u8; 4096]) -> Result<(), Full> {
        self.image.put(block, Box::new(*node));
        Ok(())
    }
}
