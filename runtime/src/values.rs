//! Values in blocks of their own: those of attributes and targets of symlinks that are too long for where they belong.

use crate::core::{Core, Joined};
use crate::error::{Error, Result};
use paxfs_format::entry::{BODY_SIZE, BodyBlock, value_blocks};
use paxfs_format::header::{BlockKind, Expected, Header};
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

    /// Stores a value; returns the numbers of its blocks as they are stored. The operation was promised them.
    pub(crate) fn store(&self, value: &[u8]) -> Result<Vec<u8>> {
        let mut pointers = Vec::with_capacity(8 * value_blocks(value.len() as u64));
        for (ordinal, part) in (0..).zip(value.chunks(BODY_SIZE)) {
            pointers.extend_from_slice(&self.store_part(ordinal, part)?.to_le_bytes());
        }
        Ok(pointers)
    }

    fn store_part(&self, ordinal: u16, part: &[u8]) -> Result<u64> {
        let block = self.core.allocate_page(self.core.home(self.inode), &self.joined.context)?;
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
        numbers.map(u64::from_le_bytes).try_for_each(|block| {
            let expected = Expected { kind: BlockKind::VALUE, place: block, owner: self.inode };
            let value = self.core.volume.structure(expected);
            value.map_err(|fault| Error::inode(self.inode, &fault))?;
            self.core.free_page(block)
        })
    }
}
