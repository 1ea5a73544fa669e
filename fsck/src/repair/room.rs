//! Where new metadata goes: blocks of clusters that nothing uses.

use super::clusters::{Bitmap, has, set};
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
}

impl Room {
    /// Marks a block as used. `None`: it is in no cluster; else whether it was used already.
    pub fn mark(&mut self, block: u64) -> Option<bool> {
        let place = self.geometry.locate(block)?;
        let start = self.geometry.cluster_start(place.block);
        let bitmap = self.clusters.get_mut(&(place.group, start))?;
        Some(set(bitmap, place.block.saturating_sub(start)))
    }

    /// A block that is free, in that group if there is one.
    pub fn allocate(&mut self, group: u32) -> Result<u64, Full> {
        let unit = self.geometry.cluster_blocks;
        let own = self.clusters.range((group, 0)..=(group, u32::MAX)).map(|(place, _)| *place);
        let others = self.clusters.keys().copied().filter(|(other, _)| *other != group);
        let places: Vec<(u32, u32)> = own.chain(others).collect();
        for (group, start) in places {
            let Some(bitmap) = self.clusters.get_mut(&(group, start)) else { continue };
            let volume_block = |bit: u32| self.geometry.volume_block(group, start).saturating_add(bit.into());
            let mut free = (0..512).filter(|bit| u64::from(*bit) < unit && !has(bitmap, *bit));
            if let Some(bit) = free.find(|bit| !self.bad.contains(&volume_block(*bit))) {
                set(bitmap, bit);
                return Ok(volume_block(bit));
            }
        }
        Err(Full { group })
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
