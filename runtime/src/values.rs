//! Values in blocks of their own: those of attributes and targets of symlinks that are too long for where they belong.

use crate::core::{Core, Joined};
use crate::error::{Error, Result};
use paxfs_format::entry::{BODY_SIZE, BodyBlock, value_blocks};
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Header};
use zerocopy::FromBytes;

/// The values of one inode.
pub(crate) struct Values<'o> {
    core: &'o Core,
    joined: &'o Joined<'o>,
    inode: u64,
}

impl<'o> Values<'o> {
    pub(crate) fn new(core: &'o Core, joined: &'o Joined<'o>, inode: u64) -> Self {
        Values { core, joined, inode }
    }

    /// The first group, from that of the inode on, that has so many blocks for metadata besides its reserve.
    pub(crate) fn group_with_room(&self, blocks: u64) -> Result<u32> {
        let geometry = &self.core.volume.geometry;
        let home = geometry.locate(self.inode / INODES_PER_BLOCK).map_or(0, |place| place.group);
        for step in 0..geometry.groups() {
            let number = u32::try_from((u64::from(home) + step) % geometry.groups()).unwrap_or(0);
            if self.core.group(number)?.has_metadata_room(blocks) {
                return Ok(number);
            }
        }
        Err(Error::NoSpace)
    }

    /// Stores a value; returns the numbers of its blocks as they are stored. All of it or none.
    pub(crate) fn store(&self, value: &[u8]) -> Result<Vec<u8>> {
        let blocks = value_blocks(value.len() as u64);
        let group = self.group_with_room(blocks as u64)?;
        let mut pointers = Vec::with_capacity(8 * blocks);
        for (ordinal, part) in (0..).zip(value.chunks(BODY_SIZE)) {
            match self.store_part(group, ordinal, part) {
                Ok(block) => pointers.extend_from_slice(&block.to_le_bytes()),
                Err(error) => {
                    self.free(&pointers)?;
                    return Err(error);
                }
            }
        }
        Ok(pointers)
    }

    fn store_part(&self, group: u32, ordinal: u16, part: &[u8]) -> Result<u64> {
        let block = self.core.allocate_page(group, &self.joined.context)?;
        let mut header = Header::new(BlockKind::VALUE, block, self.inode, self.joined.context.generation);
        header.level = ordinal.into();
        header.count = u32::try_from(part.len()).unwrap_or(u32::MAX).into();
        // SAFETY: the block was just given out: nobody else knows of it yet.
        #[allow(unsafe_code)]
        let page = unsafe { self.core.pages().page_mut(block) };
        if let Ok(body) = BodyBlock::mut_from_bytes(page) {
            body.header = header;
            if let Some(place) = body.body.0.get_mut(..part.len()) {
                place.copy_from_slice(part);
            }
        }
        Ok(block)
    }

    /// Gives back the blocks of a value.
    pub(crate) fn free(&self, pointers: &[u8]) -> Result<()> {
        let numbers = pointers.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
        numbers.map(u64::from_le_bytes).try_for_each(|block| self.core.free_page(block))
    }
}
