//! Which inodes are in use, while a round decides it.

use super::chunks;
use super::cross::Chunks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES, Chunk};
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::image::Image;
use paxfs_format::inode::Inode;
use paxfs_format::volume::Volume;
use std::collections::BTreeMap;

/// What an attempt changes besides the image.
pub(super) struct State {
    pub chunks: Chunks,
    /// Inodes as they were.
    pub original: BTreeMap<u64, Inode>,
}

impl State {
    pub fn chunk(&mut self, volume: &Volume<Image<'_>>, number: u64) -> Option<(&mut Chunk, u64)> {
        let place = volume.geometry.locate(number / INODES_PER_BLOCK)?;
        let chunks = self.chunks.get_mut(usize::try_from(place.group).ok()?)?;
        let (start, chunk) = chunks.range_mut(..=place.block).next_back()?;
        let block = place.block.saturating_sub(*start);
        let slot =
            u64::from(block).saturating_mul(INODES_PER_BLOCK).saturating_add(number % INODES_PER_BLOCK);
        (block < CHUNK_BLOCKS).then(|| (chunk, 1u64 << slot))
    }

    /// Marks an inode that there must be as in use, in a chunk of its own if there is none.
    pub fn add(&mut self, volume: &Volume<Image<'_>>, number: u64) {
        if self.chunk(volume, number).is_none()
            && let Some(place) = volume.geometry.locate(number / INODES_PER_BLOCK)
            && let Some(chunks) =
                usize::try_from(place.group).ok().and_then(|group| self.chunks.get_mut(group))
        {
            let start = place.block - place.block % CHUNK_BLOCKS;
            chunks.insert(start, chunks::chunk(start, 0, 0));
        }
        self.set(volume, number, true, false);
    }

    pub fn is_marked(&mut self, volume: &Volume<Image<'_>>, number: u64) -> bool {
        self.chunk(volume, number).is_some_and(|(chunk, bit)| chunk.used.get() & bit != 0)
    }

    pub fn set(&mut self, volume: &Volume<Image<'_>>, number: u64, used: bool, orphan: bool) {
        let Some((chunk, bit)) = self.chunk(volume, number) else { return };
        let (mut bits, mut orphans) = (chunk.used.get() & !bit, chunk.orphans.get() & !bit);
        if used {
            bits |= bit;
        }
        if used && orphan {
            orphans |= bit;
        }
        (chunk.used, chunk.orphans) = (bits.into(), orphans.into());
    }

    /// A free inode.
    pub fn new_inode(&mut self, volume: &Volume<Image<'_>>) -> Option<u64> {
        for (group, chunks) in (0u32..).zip(&mut self.chunks) {
            for (start, chunk) in chunks {
                let slot = chunk.used.get().trailing_ones();
                if slot < CHUNK_INODES {
                    chunk.used = (chunk.used.get() | 1 << slot).into();
                    return Some(chunks::inode(volume, group, *start, slot));
                }
            }
        }
        None
    }
}
