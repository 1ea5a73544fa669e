//! The commit: what the running transaction changed is gathered, and made durable all at once.
//!
//! ```text
//!   homes of the last; gate alone: settle groups, seal blocks, find changed lines, build the journal slot
//!   gate open again:   body ─ fence ─ commit word ─ fence
//! ```
//!
//! A transaction whose changed lines do not fit its slot is made smaller by [`crate::shadow`].

use crate::core::{Core, Joined, lock};
use crate::error::{Error, Result};
use crate::homes::Logged;
use crate::inodes::Cell;
use crate::locks::{Rank, take};
use crate::medium::Point;
use crate::space::{Context, Group, SpaceError};
use crate::trees::TreeName;
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::{BlockKind, Header, MAGIC};
use paxfs_format::inode::INODE_SIZE;
use paxfs_format::journal::{Body, JournalSlot, SLOTS};
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Pages kept in memory after a commit.
const PAGES_KEPT: usize = 1 << 16;
/// Inodes kept in memory after a commit.
const INODES_KEPT: usize = 1 << 16;

/// Bytes of a group header that have a meaning.
pub(crate) const GROUP_HEADER_USED: usize = core::mem::offset_of!(GroupHeader, reserved_2);

impl Core {
    /// Bytes of records that a transaction can have.
    pub fn slot_bytes(&self) -> u64 {
        (self.volume.geometry.journal_blocks / SLOTS) * BLOCK_BYTES - size_of::<JournalSlot>() as u64
    }

    /// Number of the last transaction that was committed.
    pub fn committed(&self) -> u64 {
        self.running.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Makes all that was done so far durable. Who waits for another's commit that has all of it needs none of its own. What
    /// the medium failed to take is dealt with before anybody hears that it is durable. The caller holds no lock.
    pub fn commit(&self) -> Result<()> {
        self.commit_quietly()?;
        self.notice()
    }

    /// Commits, and leaves media errors to others.
    pub fn commit_quietly(&self) -> Result<()> {
        // Not below the number of the transaction that the caller's operations joined.
        let joined = self.running.load(Ordering::Relaxed);
        let mut logged = take(Rank::Committing, || lock(&self.committing));
        self.check_alive()?;
        if joined < self.running.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.commit_alone(&mut logged);
        if result.is_err() {
            self.shut_down();
        }
        result
    }

    fn commit_alone(&self, logged: &mut Logged) -> Result<()> {
        self.store_homes(logged)?;
        let sequence = {
            let joined = self.join_alone_quietly();
            let sequence = self.running.load(Ordering::Relaxed);
            if self.has_failures() {
                // Homes may be lost, and trees half changed: neither may be committed, or dropped.
                self.round(&joined, &[], logged)?;
            } else {
                // SAFETY: the gate is held alone, so no operation runs. All that is clean is in its home by now.
                #[allow(unsafe_code)]
                unsafe {
                    self.pages().trim(PAGES_KEPT);
                }
            }
            self.inodes.trim(INODES_KEPT, sequence);
            self.follow_touched();
            self.seal(&joined, logged)?;
            // Numbers that follow each other are slots that take turns: one that no slot has would break both.
            if !logged.body.is_empty() {
                self.running.store(sequence + 1, Ordering::Relaxed);
            }
            sequence
        };
        if logged.body.is_empty() {
            let _durable = self.medium().fence(Point::Slot)?;
            return self.check_alive();
        }
        self.store_slot(&logged.body, sequence)?;
        self.durable.store(sequence, Ordering::Release);
        for mut group in self.each_group() {
            group.durable();
        }
        self.heal_idle()
    }

    /// Stores a transaction to its slot, and commits it.
    fn store_slot(&self, body: &Body, sequence: u64) -> Result<()> {
        /// How often a slot is mended that fails while it is stored.
        const TRIES: u32 = 3;
        if body.bytes().len() as u64 > self.slot_bytes() {
            return Err(Error::Invalid("the transaction does not fit the journal"));
        }
        let medium = self.medium();
        let geometry = &self.volume.geometry;
        let place = geometry.journal_slot(sequence % SLOTS);
        let (offset, end) = (place * BLOCK_BYTES, (place + geometry.journal_blocks / SLOTS) * BLOCK_BYTES);
        let word = offset + core::mem::offset_of!(JournalSlot, commit) as u64;
        let head = body.head(self.volume.seed, place, sequence);
        for _ in 0..TRIES {
            medium.store_nt(offset, head.as_bytes());
            medium.store_nt(offset + size_of::<JournalSlot>() as u64, body.bytes());
            let written = medium.fence(Point::Slot)?;
            if !medium.has_failed(offset..end) {
                medium.commit(word, sequence, &written);
                let _committed = medium.fence(Point::Commit)?;
                // Somebody may have shut the volume down meanwhile, and these stores with it.
                self.check_alive()?;
                if !medium.has_failed(offset..end) {
                    return Ok(());
                }
                // It may be there or not. From here on it is not.
                medium.store(word, &0_u64.to_le_bytes());
                medium.flush(word..word + 8, Point::Commit);
            }
            // The homes of the transaction before are durable with the fence above.
            let failed =
                medium.failed().into_iter().filter(|block| (offset..end).contains(&(block * BLOCK_BYTES)));
            self.mend_journal(sequence.saturating_sub(1), &failed.collect::<Vec<u64>>())?;
        }
        Err(Error::lost("the journal", place))
    }

    /// Gathers what the running transaction changed: into `logged` what goes to the journal.
    fn seal(&self, joined: &Joined<'_>, logged: &mut Logged) -> Result<()> {
        let context = joined.context;
        let sequence = context.generation;
        let mut inodes = self.seal_inodes(sequence);
        match self.settle(&context) {
            // What was lost until now is made anew, and all groups follow once more.
            Err(error) if error.is_loss() && self.has_failures() => {
                self.round(joined, &[], logged)?;
                inodes.extend(self.seal_inodes(sequence));
                self.settle(&context)?;
            }
            settled => settled?,
        }
        logged.begin();
        let body = &mut logged.body;
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

    /// Copies all dirty inodes into their pages.
    fn seal_inodes(&self, sequence: u64) -> Vec<Arc<Cell>> {
        let inodes = self.inodes.take_dirty();
        inodes.iter().for_each(|cell| self.seal_inode(cell, sequence));
        inodes
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
                    group
                        .settle(self.pages(), context)
                        .inspect_err(|error| self.tear_settled(number, error))?;
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

    /// What a group's trees had yet to follow is gone when one of them cannot be read: all are made anew.
    fn tear_settled(&self, group: u32, error: &SpaceError) {
        if matches!(error, SpaceError::Lost { .. }) {
            let trees = GroupTree::ALL.into_iter().filter(|tree| *tree != GroupTree::Refcount);
            trees.for_each(|tree| self.media.tear(TreeName::Group(group, tree)));
        }
    }

    /// Copies a group's header into its page, if it differs there.
    fn seal_group(&self, group: &Group) -> Result<()> {
        let block = self.volume.geometry.group_header(group.number);
        let there = self.volume.group(group.number);
        let there =
            there.map_err(|fault| Error::structure(format_args!("group {}", group.number), &fault))?;
        // What the header of the block itself says is set later.
        let contents = |header: &GroupHeader| GroupHeader { header: group.header.header, ..*header };
        if contents(there) == group.header {
            return Ok(());
        }
        self.put_header(block, &group.header, 0..GROUP_HEADER_USED);
        Ok(())
    }

    /// Copies a header of a group into the page of its block, or its copy's, where bytes in `range` may differ. The gate is
    /// held alone.
    pub fn put_header(&self, block: u64, header: &GroupHeader, range: Range<usize>) {
        // SAFETY: the gate is held alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        let page = unsafe { self.pages().page_mut_in(block, range) };
        page.copy_from_slice(header.as_bytes());
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
                let has_failed = || medium.has_failed(offset..offset + BLOCK_BYTES);
                let mut lines = u64::MAX;
                if changed.fresh {
                    medium.store_nt(offset, page.as_slice());
                    if !has_failed() {
                        return;
                    }
                } else if !changed.whole && !has_failed() {
                    lines = medium.changed_lines(offset, changed.lines, page);
                    let unsaid = || medium.changed_lines(offset, !changed.lines, page);
                    debug_assert!(has_failed() || unsaid() == 0 || has_failed(), "unsaid changes");
                }
                if has_failed() {
                    // What leads to it must not be committed without it.
                    self.media.make_homeless(changed.block);
                    lines = u64::MAX;
                }
                body.push_lines(changed.block, lines, page);
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
}
