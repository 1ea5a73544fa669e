//! The commit: what the running transaction changed is gathered, and made durable all at once.
//!
//! ```text
//!   homes of the last; gate alone: settle groups, seal blocks, find changed lines, build the journal slot
//!   gate open again:   body ─ fence ─ commit word ─ fence
//! ```
//!
//! A transaction whose changed lines do not fit its slot is made smaller by [`crate::shadow`].

use crate::core::{Core, lock, now};
use crate::error::{Error, Result};
use crate::inodes::Cell;
use crate::locks::{Rank, take};
use crate::medium::{Medium, Point};
use crate::space::{Context, Group};
use core::sync::atomic::Ordering;
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_format::group::GroupHeader;
use paxfs_format::header::{BlockKind, Header, MAGIC, Seed};
use paxfs_format::inode::INODE_SIZE;
use paxfs_format::journal::{self, Body, JournalSlot, LINE_SIZE, SLOTS};
use paxfs_format::superblock::{State, Superblock};
use zerocopy::IntoBytes;

/// Pages kept in memory after a commit.
const PAGES_KEPT: usize = 1 << 16;
/// Inodes kept in memory after a commit.
const INODES_KEPT: usize = 1 << 16;

/// Bytes of a group header that have a meaning.
const GROUP_HEADER_USED: usize = core::mem::offset_of!(GroupHeader, reserved_2);

impl Core {
    /// Bytes of records that a transaction can have.
    pub fn slot_bytes(&self) -> u64 {
        (self.volume.geometry.journal_blocks / SLOTS) * BLOCK_BYTES - size_of::<JournalSlot>() as u64
    }

    /// Number of the last transaction that was committed.
    pub fn committed(&self) -> u64 {
        self.running.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Makes all that was done so far durable. Who waits for another's commit that has all of it needs none of its own.
    pub fn commit(&self) -> Result<()> {
        // Not below the number of the transaction that the caller's operations joined.
        let joined = self.running.load(Ordering::Relaxed);
        let mut body = take(Rank::Committing, || lock(&self.committing));
        if self.dead.load(Ordering::Relaxed) {
            return Err(Error::ShutDown);
        }
        if joined < self.running.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.commit_alone(&mut body);
        if result.is_err() {
            self.shut_down();
        }
        result
    }

    fn commit_alone(&self, body: &mut Body) -> Result<()> {
        self.store_homes(body);
        let sequence = {
            let _gate = self.gate_alone();
            let sequence = self.running.load(Ordering::Relaxed);
            // SAFETY: the gate is held alone, so no operation runs. All that is clean is in its home by now.
            #[allow(unsafe_code)]
            unsafe {
                self.pages().trim(PAGES_KEPT);
            }
            self.inodes.trim(INODES_KEPT, sequence);
            self.follow_touched();
            self.seal(sequence, body)?;
            // Numbers that follow each other are slots that take turns: one that no slot has would break both.
            if !body.is_empty() {
                self.running.store(sequence + 1, Ordering::Relaxed);
            }
            sequence
        };
        let medium = self.medium();
        if body.is_empty() {
            let _durable = medium.fence(Point::Slot)?;
            return Ok(());
        }
        if body.bytes().len() as u64 > self.slot_bytes() {
            return Err(Error::Invalid("the transaction does not fit the journal"));
        }
        let slot_blocks = self.volume.geometry.journal_blocks / SLOTS;
        let place = self.volume.geometry.journal().start + (sequence % SLOTS) * slot_blocks;
        let offset = place * BLOCK_BYTES;
        let head = body.head(self.volume.seed, place, sequence);
        medium.store_nt(offset, head.as_bytes());
        medium.store_nt(offset + size_of::<JournalSlot>() as u64, body.bytes());
        let written = medium.fence(Point::Slot)?;
        let word = core::mem::offset_of!(JournalSlot, commit) as u64;
        medium.commit(offset + word, sequence, &written);
        let _committed = medium.fence(Point::Commit)?;
        self.durable.store(sequence, Ordering::Release);
        for mut group in self.each_group() {
            group.durable();
        }
        Ok(())
    }

    /// Brings what the last transaction logged to where it belongs. This thread's next fence makes it durable, before the
    /// slot is used again. Nobody has read it there: all of it is still in pages.
    fn store_homes(&self, body: &mut Body) {
        for write in body.writes() {
            store_lines(self.medium(), &write, Point::Homes);
        }
        body.clear();
    }

    /// Gathers what the running transaction changed: into `body` what goes to the journal. The gate is held alone.
    fn seal(&self, sequence: u64, body: &mut Body) -> Result<()> {
        let context = self.context();
        let inodes = self.inodes.take_dirty();
        for cell in &inodes {
            self.seal_inode(cell, sequence);
        }
        self.settle(&context)?;
        self.log(sequence, body);
        if self.slot_bytes() < body.bytes().len() as u64 {
            // Nodes of trees need not be logged where they are.
            self.shadow(&inodes, &context)?;
            self.log(sequence, body);
        }
        // SAFETY: the gate is held alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        unsafe {
            self.pages().clean();
        }
        for mut group in self.each_group() {
            group.seal();
        }
        Ok(())
    }

    /// Brings the trees and headers of all groups to what is in memory.
    pub fn settle(&self, context: &Context) -> Result<()> {
        loop {
            let mut foreign = Vec::new();
            for number in self.volume.geometry.group_numbers() {
                let (changed, needed) = {
                    let mut group = self.group(number)?;
                    (core::mem::take(&mut group.changed), group.needed_to_follow())
                };
                if changed {
                    self.stock(number, needed, context)?;
                    let mut group = self.group(number)?;
                    group.settle(self.pages(), context)?;
                    group.changed = false;
                    foreign.append(&mut group.take_foreign());
                    foreign.append(group.stock());
                    self.seal_group(&group)?;
                }
            }
            if foreign.is_empty() {
                return Ok(());
            }
            foreign.into_iter().try_for_each(|block| self.free_page(block))?;
        }
    }

    /// Copies a group's header into its page, if it differs there.
    fn seal_group(&self, group: &Group) -> Result<()> {
        let block = self.volume.geometry.group_header(group.number);
        let there = self.volume.group(group.number);
        let there = there.map_err(|fault| Error::damaged(format_args!("group {}", group.number), fault))?;
        // What the header of the block itself says is set later.
        let contents = |header: &GroupHeader| GroupHeader { header: group.header.header, ..*header };
        if contents(there) == group.header {
            return Ok(());
        }
        // SAFETY: the gate is held alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        let page = unsafe { self.pages().page_mut_in(block, 0..GROUP_HEADER_USED) };
        page.copy_from_slice(group.header.as_bytes());
        Ok(())
    }

    /// Seals the changed pages: stores those that are fresh; `body` becomes what differs from the medium of the others.
    fn log(&self, sequence: u64, body: &mut Body) {
        body.clear();
        let medium = self.medium();
        // SAFETY: the gate is held alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        unsafe {
            self.pages().each_changed(|changed, page| {
                self.seal_page(page, sequence);
                let offset = changed.block * BLOCK_BYTES;
                if changed.fresh {
                    medium.store_nt(offset, page.as_slice());
                } else {
                    let lines = medium.changed_lines(offset, changed.lines, page);
                    debug_assert_eq!(medium.changed_lines(offset, !changed.lines, page), 0, "unsaid changes");
                    body.push_lines(changed.block, lines, page);
                }
            });
        }
    }

    /// Copies a dirty inode into its page.
    pub fn seal_inode(&self, cell: &Cell, sequence: u64) {
        let mut state = cell.write();
        state.dirty = false;
        state.inode.header.generation = sequence.into();
        let mut inode = state.inode;
        self.volume.seed.seal(inode.as_mut_bytes());
        let block = cell.number / INODES_PER_BLOCK;
        let slot = usize::try_from(cell.number % INODES_PER_BLOCK).unwrap_or(0);
        let range = slot * INODE_SIZE..(slot + 1) * INODE_SIZE;
        // SAFETY: only a commit touches pages of inodes, and it holds the gate alone.
        #[allow(unsafe_code)]
        let page = unsafe { self.pages().page_mut_in(block, range.clone()) };
        if let Some(place) = page.get_mut(range) {
            place.copy_from_slice(inode.as_bytes());
        }
    }

    /// Sets generation and checksum of a block that is one structure. Blocks of inodes are not.
    fn seal_page(&self, page: &mut [u8; 4096], sequence: u64) {
        let whole =
            Header::of(page).is_some_and(|header| header.magic == MAGIC && header.kind != BlockKind::INODE);
        if whole {
            let at = core::mem::offset_of!(Header, generation);
            if let Some(field) = page.get_mut(at..at + 8) {
                field.copy_from_slice(&sequence.to_le_bytes());
            }
            self.volume.seed.seal(page);
        }
    }

    /// Commits, and leaves a volume that the next opener finds clean.
    pub fn close(&self) -> Result<()> {
        self.close_views();
        self.clean_all()?;
        self.take_back_ahead()?;
        self.commit()?;
        let medium = self.medium();
        // The homes of the last transaction first: the superblock says that they are there.
        self.store_homes(&mut take(Rank::Committing, || lock(&self.committing)));
        let _homes = medium.fence(Point::Close)?;
        let geometry = &self.volume.geometry;
        for group in self.each_group() {
            let mut copy = group.header;
            medium.load(geometry.group_header(group.number) * BLOCK_BYTES, copy.as_mut_bytes());
            let place = geometry.group_copy(group.number);
            copy.header.place = place.into();
            self.volume.seed.seal(copy.as_mut_bytes());
            medium.store_nt(place * BLOCK_BYTES, copy.as_bytes());
        }
        let mut superblock = self.volume.superblock;
        superblock.header.generation = (self.running.load(Ordering::Relaxed) - 1).into();
        superblock.state = State::new(State::CLEAN);
        superblock.written = now();
        // Never all at once: a crash must leave a whole one.
        for group in geometry.group_numbers().rev() {
            store_superblock(medium, &self.volume.seed, superblock, geometry.superblock(group));
            let _stored = medium.fence(if group == 0 { Point::Closed } else { Point::Copies })?;
        }
        self.dead.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Stores a superblock, or a copy.
pub(crate) fn store_superblock(medium: &dyn Medium, seed: &Seed, mut superblock: Superblock, block: u64) {
    superblock.header.place = block.into();
    seed.seal(superblock.as_mut_bytes());
    medium.store_nt(block * BLOCK_BYTES, superblock.as_bytes());
}

/// Stores lines of the journal to their homes, and flushes them.
pub(crate) fn store_lines(medium: &dyn Medium, write: &journal::Write<'_>, point: Point) {
    let lines = (0..64).filter(|line| write.lines >> line & 1 != 0);
    for (line, data) in lines.zip(write.data.chunks_exact(LINE_SIZE)) {
        let offset = write.block * BLOCK_BYTES + line * LINE_SIZE as u64;
        medium.store(offset, data);
        medium.flush(offset..offset + LINE_SIZE as u64, point);
    }
}
