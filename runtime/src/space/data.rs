//! Blocks for file data.
//!
//! A file that grows at its end gets a *window*: blocks behind its last that nobody else is given while it is open. A
//! window is a matter of memory: on the medium its blocks are free.

use super::{Group, block_u32};
use paxfs_format::geometry::HUGE_BLOCKS;

/// How a run of data is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Anywhere, packed with other small runs.
    Packed,
    /// At a block that is congruent to this file block modulo 2 MiB.
    Congruent(u64),
}

/// A wish for blocks.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Number of the inode that gets them.
    pub inode: u64,
    /// How many at most.
    pub want: u32,
    /// How many more are likely to follow.
    pub ahead: u32,
    /// Where they would lie best, before all other places.
    pub goal: Option<u32>,
    /// Where else.
    pub fit: Fit,
    /// Whether blocks that are kept back may be taken: the file has these bytes already.
    pub urgent: bool,
}

impl Group {
    /// Blocks kept back for clusters that are to be ready and are not yet, and for copies on write.
    pub fn kept(&self) -> u64 {
        u64::from(self.ready().saturating_sub(self.clusters.usable_blocks())) + u64::from(self.blocks / 512)
    }

    /// Blocks that a file could get now or after the next commit, those kept back included.
    pub fn usable_blocks(&self) -> u64 {
        self.usable.blocks() + self.window_blocks
    }

    /// Gives out a run of at most as many blocks as wanted, as long as there is one.
    pub fn allocate(&mut self, request: &Request) -> Option<(u32, u32)> {
        if let Some((start, length)) = self.windows.get(&request.inode).copied()
            && request.goal == Some(start)
            && request.want <= length
        {
            self.set_window(request.inode, start + request.want, length - request.want);
            self.own(start, request.want);
            return Some((start, request.want));
        }
        self.close_window(request.inode);
        self.allocate_usable(request).or_else(|| {
            // Files that may grow give way to one that does.
            (self.window_blocks > 0).then(|| self.close_windows())?;
            self.allocate_usable(&Request { ahead: 0, ..*request })
        })
    }

    fn allocate_usable(&mut self, request: &Request) -> Option<(u32, u32)> {
        let kept = if request.urgent { 0 } else { self.kept() };
        let left = self.usable.blocks().saturating_sub(kept);
        let want = request.want.min(block_u32(left));
        if want == 0 || !request.urgent && self.metadata_room(1) == 0 {
            return None;
        }
        let ahead = request.ahead.min(block_u32(left) - want);
        let (start, length) = self.find(want + ahead, request.goal, request.fit)?;
        let given = length.min(want);
        self.usable.remove(start, length);
        self.set_window(request.inode, start + given, length - given);
        self.own(start, given);
        Some((start, given))
    }

    fn find(&mut self, want: u32, goal: Option<u32>, fit: Fit) -> Option<(u32, u32)> {
        let huge = block_u32(HUGE_BLOCKS);
        if let Some(goal) = goal
            && let Some(length) = self.usable.free_at(goal)
            // The end of a file need not be where it would break a 2 MiB run.
            && !(want < huge && length >= huge && goal.is_multiple_of(huge))
        {
            return Some((goal, length.min(want)));
        }
        if let Fit::Congruent(offset) = fit {
            let residue = block_u32(offset % HUGE_BLOCKS);
            // Up to the end of its last whole 2 MiB; what is behind goes with the small.
            let whole = (residue + want) / huge * huge;
            let most = if whole > residue { whole - residue } else { want };
            if let Some(start) = self.usable.find_aligned(most, residue) {
                return Some((start, most));
            }
        }
        // What breaks no 2 MiB run goes before what does.
        if let Some((start, length)) = self.usable.best_fit(want)
            && (want..huge).contains(&length)
        {
            return Some((start, want));
        }
        // Behind the last small run, so that small files fill one 2 MiB run after the other.
        if let Some(length) = self.usable.free_at(self.packed)
            && length >= want
        {
            let start = self.packed;
            self.packed += want;
            return Some((start, want));
        }
        let (start, length) = self.usable.best_fit(want)?;
        let length = length.min(want);
        self.packed = start + length;
        Some((start, length))
    }

    /// Says that a run has an owner from now on.
    pub(super) fn own(&mut self, start: u32, length: u32) {
        let before = self.free.run_with(start);
        self.free.remove(start, length);
        self.log_free(before.map(|(start, _)| start), start + length);
        self.changed = true;
    }

    /// Says that the records of free space that start at these blocks may have come, gone or changed.
    fn log_free(&mut self, first: Option<u32>, end: u32) {
        first.into_iter().chain([end]).for_each(|start| self.free_log.say(start, ()));
    }

    /// Takes a run that is usable.
    pub(super) fn take(&mut self, start: u32, length: u32) {
        self.usable.remove(start, length);
        self.own(start, length);
    }

    /// Gives back a run of data. It can be given out again when this transaction is durable.
    pub fn release(&mut self, start: u32, length: u32) {
        self.disown(start, length);
        self.pending.push((start, length));
    }

    /// Gives back a run that was given out and never used.
    pub fn give_back(&mut self, start: u32, length: u32) {
        self.disown(start, length);
        self.usable.insert(start, length);
    }

    fn disown(&mut self, start: u32, length: u32) {
        self.free.insert(start, length);
        let now = self.free.run_with(start).map(|(start, _)| start);
        self.free_log.say(start, ());
        self.log_free(now, start + length);
        self.changed = true;
    }

    /// Whether blocks will be usable after a commit that are not yet.
    pub fn is_space_pending(&self) -> bool {
        !self.pending.is_empty() || !self.committing.is_empty() || self.clusters.is_space_pending()
    }

    fn set_window(&mut self, inode: u64, start: u32, length: u32) {
        let old = if length > 0 {
            self.windows.insert(inode, (start, length))
        } else {
            self.windows.remove(&inode)
        };
        self.window_blocks += u64::from(length);
        self.window_blocks -= old.map_or(0, |(_, length)| u64::from(length));
    }

    /// Gives up a file's window.
    pub fn close_window(&mut self, inode: u64) {
        if let Some((start, length)) = self.windows.remove(&inode) {
            self.window_blocks -= u64::from(length);
            self.usable.insert(start, length);
        }
    }

    /// Gives up all windows.
    pub(super) fn close_windows(&mut self) {
        for (_, (start, length)) in core::mem::take(&mut self.windows) {
            self.usable.insert(start, length);
        }
        self.window_blocks = 0;
    }
}
