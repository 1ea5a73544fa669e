//! Writes over bad blocks: allowed where nothing is kept of what is lost.

use super::lost_data;
use crate::below::{Below, Piece, pieces};
use crate::core::Core;
use crate::data::Writer;
use crate::error::Result;
use crate::inodes::State;
use crate::map::clip;
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::record::Record;

impl Writer<'_> {
    /// Whether a write leaves nothing of what bad blocks had: all of it within the file is written anew.
    ///
    /// # Errors
    ///
    /// [`Error::LostData`](crate::error::Error::LostData), for the first block that it would be a part of.
    pub fn check_lost(&self, state: &State, pieces: &[Piece], write: &Range<u64>) -> Result<()> {
        let size = state.inode.size.get();
        for piece in pieces {
            let Below::Bad(extent) = &piece.below else { continue };
            let (first, last) = (extent.offset.get(), extent.end().saturating_sub(1));
            let kept = match () {
                () if extent.flags.is_unwritten() => None,
                () if first * BLOCK_BYTES < write.start => Some(first),
                () if write.end < (extent.end() * BLOCK_BYTES).min(size) => Some(last),
                () => None,
            };
            if let Some(lost) = kept.and_then(|block| clip(extent, &(block..block + 1))) {
                return Err(lost_data(self.number, &lost));
            }
        }
        Ok(())
    }

    /// Whether some bytes of a block may be zeroed, and the others kept.
    ///
    /// # Errors
    ///
    /// As for [`Writer::check_lost`].
    pub fn check_edge(&self, state: &State, edge: &Range<u64>) -> Result<()> {
        let blocks = edge.start / BLOCK_BYTES..edge.end.div_ceil(BLOCK_BYTES);
        self.check_lost(state, &pieces(self.core, &state.inode, blocks)?, edge)
    }
}

impl Core {
    /// Heals what failed of blocks that nothing leads to yet.
    pub fn heal_new(&self, extent: &Extent) {
        let start = extent.start.get();
        for block in start..start.saturating_add(extent.length.get().into()) {
            if self.medium().has_failed(super::bytes_of(block)) {
                self.heal(block);
            }
        }
    }
}
