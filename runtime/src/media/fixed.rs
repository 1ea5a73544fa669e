//! Media errors under what has a fixed place: superblock and headers with their copies, and the journal.

use super::notice::{Round, Run};
use crate::commit::store_superblock;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::homes::Logged;
use crate::medium::Point;
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::GroupHeader;
use paxfs_format::header::BlockKind;
use paxfs_format::journal::{JournalSlot, SLOTS};
use zerocopy::IntoBytes;

impl Round<'_> {
    /// Deals with bad blocks at fixed places of a group; returns those that stay bad.
    ///
    /// # Errors
    ///
    /// What stays bad is needed.
    pub(super) fn fixed(&mut self, group: u32, blocks: Range<u32>, logged: &mut Logged) -> Result<Vec<Run>> {
        let core = self.core;
        let geometry = &core.volume.geometry;
        let journal = geometry.journal();
        let (mut bad, mut in_journal) = (Vec::new(), Vec::new());
        for number in blocks {
            let block = geometry.volume_block(group, number);
            let good = match number {
                0 => core.renew_superblock(group)?,
                1 => {
                    self.renew_header(group)?;
                    true
                }
                2 => core.renew_header_copy(block)?,
                _ if group == 0 && journal.contains(&block) => {
                    in_journal.push(block);
                    true
                }
                _ => false,
            };
            if !good {
                bad.push((group, number, 1));
            }
        }
        if !in_journal.is_empty() {
            core.store_homes(logged)?;
            let _homes = core.medium().fence(Point::Close)?;
            core.mend_journal(core.committed(), &in_journal)?;
        }
        Ok(bad)
    }

    /// The header of a group goes to its place with the next commit but one.
    fn renew_header(&self, group: u32) -> Result<()> {
        let header = self.core.group(group)?.header;
        let block = self.core.volume.geometry.group_header(group);
        // SAFETY: the gate is held alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        let page = unsafe { self.core.pages().page_mut(block) };
        page.copy_from_slice(header.as_bytes());
        self.core.pages().set_whole(block);
        self.core.media.make_homeless(block);
        Ok(())
    }
}

impl Core {
    /// Heals and stores a superblock or a copy; says whether that went well.
    ///
    /// # Errors
    ///
    /// Block 0 does not heal.
    fn renew_superblock(&self, group: u32) -> Result<bool> {
        let block = self.volume.geometry.superblock(group);
        if !self.heal(block) {
            return if group == 0 { Err(Error::lost("the superblock", block)) } else { Ok(false) };
        }
        let mut superblock = self.volume.superblock;
        superblock.header.generation = self.recorded.load(Ordering::Relaxed).into();
        store_superblock(self.medium(), &self.volume.seed, superblock, block);
        let _stored = self.medium().fence(Point::Mended)?;
        Ok(true)
    }

    /// Heals and stores the copy of a group's header that is in a block; says whether that went well.
    fn renew_header_copy(&self, block: u64) -> Result<bool> {
        let geometry = &self.volume.geometry;
        let of = geometry.group_numbers().find(|group| geometry.group_copy(*group) == block);
        let Some(of) = of.filter(|_| self.heal(block)) else { return Ok(false) };
        self.store_header_copy(of);
        let _stored = self.medium().fence(Point::Mended)?;
        Ok(true)
    }

    /// Stores the copy of a group's header as it is on the medium.
    pub fn store_header_copy(&self, group: u32) {
        let (geometry, medium) = (&self.volume.geometry, self.medium());
        let Ok(there) = self.group(group) else { return };
        let mut copy: GroupHeader = there.header;
        let mut home = copy;
        medium.load(geometry.group_header(group) * BLOCK_BYTES, home.as_mut_bytes());
        if self.volume.seed.verify(home.as_bytes()).is_ok() {
            copy = home;
        }
        debug_assert_eq!(copy.header.kind, BlockKind::GROUP);
        let place = geometry.group_copy(group);
        copy.header.place = place.into();
        self.volume.seed.seal(copy.as_mut_bytes());
        self.store_whole(place, || medium.store_nt(place * BLOCK_BYTES, copy.as_bytes()));
    }

    /// Makes the journal good again, in which nothing is needed: all transactions up to `done` are in their homes.
    ///
    /// # Errors
    ///
    /// It does not heal.
    pub fn mend_journal(&self, done: u64, blocks: &[u64]) -> Result<()> {
        // From here on no slot is replayed that is there now: one alone would bring back what is old.
        self.store_superblocks(self.volume.superblock.state, done)?;
        let (geometry, medium) = (&self.volume.geometry, self.medium());
        let slot_blocks = geometry.journal_blocks / SLOTS;
        for start in [geometry.journal().start, geometry.journal().start + slot_blocks] {
            if blocks.iter().any(|block| (start..start + slot_blocks).contains(block)) {
                medium.zero_nt(start * BLOCK_BYTES..start * BLOCK_BYTES + size_of::<JournalSlot>() as u64);
            }
        }
        let _emptied = medium.fence(Point::Mended)?;
        for block in blocks {
            if !self.heal(*block) {
                return Err(Error::lost("the journal", *block));
            }
        }
        let _healed = self.medium().fence(Point::Mended)?;
        Ok(())
    }
}
