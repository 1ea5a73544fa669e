//! The end: a volume that the next to open it finds clean, with copies that are equal.
//!
//! ```text
//!   nobody joins any more; what was done, and the copies of group headers: commits
//!   homes, copies of the superblock ─ fence ─ superblock ─ fence
//! ```
//!
//! The superblock and its copies need no journal: of each only the first cache line changes.

use crate::commit::GROUP_HEADER_USED;
use crate::core::{Core, lock, now};
use crate::error::{Error, Result};
use crate::locks::{Rank, take};
use crate::media::bytes_of;
use crate::medium::{Medium, Point};
use core::sync::atomic::Ordering;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::group::GroupHeader;
use paxfs_format::header::{Header, Seed};
use paxfs_format::superblock::{State, Superblock};
use zerocopy::IntoBytes;

impl Core {
    /// Commits, and leaves a volume that the next opener finds clean. Nobody can change it afterwards.
    pub fn close(&self) -> Result<()> {
        self.clean_all()?;
        self.take_back_ahead()?;
        {
            // Who has joined ends first; who comes later finds it closed.
            let _gate = self.gate_alone();
            self.closed.store(true, Ordering::Release);
        }
        self.close_views();
        // What was stored since.
        self.clean_all()?;
        while !self.leave_clean()? {}
        Ok(())
    }

    /// Commits what there is, and marks the volume clean if that was all; says whether it did.
    fn leave_clean(&self) -> Result<bool> {
        self.commit()?;
        if self.copy_headers()? {
            return Ok(false);
        }
        let mut logged = take(Rank::Committing, || lock(&self.committing));
        self.check_alive()?;
        // What the superblock speaks of comes first: homes, and copies that are equal.
        self.store_homes(&mut logged)?;
        let superblock = self.superblock(State::new(State::CLEAN), self.committed());
        for group in self.volume.geometry.group_numbers().skip(1) {
            self.put_superblock(group, superblock)?;
        }
        let _durable = self.medium().fence(Point::Close)?;
        // A home that was healed is no longer recorded as bad: that has to be durable, too.
        if self.has_failures() || self.each_group().any(|group| group.changed) {
            return Ok(false);
        }
        self.put_superblock(0, superblock)?;
        let _closed = self.medium().fence(Point::Closed)?;
        self.check_alive()?;
        self.shut_down();
        Ok(true)
    }

    /// Changes the copies of group headers that differ; says whether any did. They go through the journal, so that a crash
    /// leaves none that is torn.
    fn copy_headers(&self) -> Result<bool> {
        let mut differed = false;
        for group in self.volume.geometry.group_numbers() {
            {
                let _gate = self.gate_alone();
                if !self.needs_copy(group)? {
                    continue;
                }
                differed = true;
                // One that has just failed is for the next commit.
                if !self.medium().has_failed(bytes_of(self.volume.geometry.group_copy(group))) {
                    self.copy_header(group)?;
                }
            }
            if self.is_large() {
                self.commit()?;
            }
        }
        Ok(differed)
    }

    /// Whether the copy of a group's header can be other than it is, and should. The gate is held alone.
    fn needs_copy(&self, group: u32) -> Result<bool> {
        if self.is_bad(self.volume.geometry.group_copy(group))? {
            return Ok(false);
        }
        let (Ok(header), Ok(copy)) = (self.volume.group(group), self.volume.group_copy(group)) else {
            return Ok(true);
        };
        let placed = Header { place: header.header.place, crc: header.header.crc, ..copy.header };
        Ok(GroupHeader { header: placed, ..*copy } != *header)
    }

    /// Makes the copy of a group's header what the header is, in the running transaction. The gate is held alone.
    pub fn copy_header(&self, group: u32) -> Result<()> {
        let place = self.volume.geometry.group_copy(group);
        let mut header = self.group(group)?.header;
        // Both get the number of the transaction that has the copy.
        self.put_header(self.volume.geometry.group_header(group), &header, 0..GROUP_HEADER_USED);
        header.header.place = place.into();
        self.put_header(place, &header, 0..BLOCK_SIZE);
        Ok(())
    }

    /// A superblock that says that all transactions up to `done` are in their homes.
    pub fn superblock(&self, state: State, done: u64) -> Superblock {
        let mut superblock = self.volume.superblock;
        superblock.header.generation = done.into();
        superblock.state = state;
        superblock.written = now();
        superblock
    }

    /// Stores the superblock, or a copy unless its block is bad; heals that first if it fails. For who holds the lock of the
    /// commit.
    ///
    /// # Errors
    ///
    /// The medium does not take block 0. A copy's block is recorded as bad.
    pub fn put_superblock(&self, group: u32, superblock: Superblock) -> Result<()> {
        let block = self.volume.geometry.superblock(group);
        let store = || store_superblock(self.medium(), &self.volume.seed, superblock, block);
        match group {
            0 if !self.store_whole(block, store) => Err(Error::lost("the superblock", block)),
            0 => Ok(()),
            _ if !self.is_bad(block)? && !self.store_whole(block, store) => self.set_bad(block),
            _ => Ok(()),
        }
    }
}

/// Stores a superblock, or a copy.
pub(crate) fn store_superblock(medium: &dyn Medium, seed: &Seed, mut superblock: Superblock, block: u64) {
    superblock.header.place = block.into();
    seed.seal(superblock.as_mut_bytes());
    medium.store_nt(block * BLOCK_BYTES, superblock.as_bytes());
}
