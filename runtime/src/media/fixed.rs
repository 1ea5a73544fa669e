//! Media errors under what has a fixed place: superblock and headers with their copies, and the journal.

use super::notice::{Round, Run};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::homes::Logged;
use crate::medium::Point;
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::journal::{JournalSlot, SLOTS};
use paxfs_format::superblock::Superblock;

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
        self.core.put_header(block, &header, 0..BLOCK_SIZE);
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
        self.set_good(block)?;
        let done = self.recorded.load(Ordering::Relaxed);
        self.put_superblock_alone(group, self.superblock(self.volume.superblock.state, done))?;
        Ok(true)
    }

    /// Stores a superblock or a copy, which may be healed for that, and waits for it: a crash leaves another that is whole.
    fn put_superblock_alone(&self, group: u32, superblock: Superblock) -> Result<()> {
        self.put_superblock(group, superblock)?;
        let _stored = self.medium().fence(Point::Mended)?;
        Ok(())
    }

    /// Heals the copy of a group's header that is in a block, which the next commit logs; says whether that went well.
    fn renew_header_copy(&self, block: u64) -> Result<bool> {
        let geometry = &self.volume.geometry;
        let of = geometry.group_numbers().find(|group| geometry.group_copy(*group) == block);
        let Some(of) = of.filter(|_| self.heal(block)) else { return Ok(false) };
        self.set_good(block)?;
        self.copy_header(of)?;
        self.pages().set_whole(block);
        Ok(true)
    }

    /// Makes the journal good again, in which nothing is needed: all transactions up to `done` are in their homes.
    ///
    /// # Errors
    ///
    /// It does not heal.
    pub fn mend_journal(&self, done: u64, blocks: &[u64]) -> Result<()> {
        let (geometry, medium) = (&self.volume.geometry, self.medium());
        // From here on no slot is replayed that is there now: one alone would bring back what is old.
        let superblock = self.superblock(self.volume.superblock.state, done);
        for group in geometry.group_numbers().rev() {
            self.put_superblock_alone(group, superblock)?;
        }
        self.recorded.store(done, Ordering::Relaxed);
        let slot_blocks = geometry.journal_blocks / SLOTS;
        for start in (0..SLOTS).map(|slot| geometry.journal_slot(slot)) {
            if blocks.iter().any(|block| (start..start + slot_blocks).contains(block)) {
                medium.zero_nt(start * BLOCK_BYTES..start * BLOCK_BYTES + size_of::<JournalSlot>() as u64);
            }
        }
        // Durable with the next fence, which is that of the slot that is stored next.
        match blocks.iter().find(|block| !self.heal(**block)) {
            Some(block) => Err(Error::lost("the journal", *block)),
            None => Ok(()),
        }
    }
}
