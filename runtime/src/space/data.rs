//! Blocks for file data.

use super::{Group, SpaceError, block_u32};
use paxfs_format::geometry::HUGE_BLOCKS;

/// How a run of data is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Anywhere, packed with other small runs.
    Packed,
    /// At a block that is congruent to this file block modulo 2 MiB.
    Congruent(u64),
    /// As that, in whole 2 MiB, or not at all.
    Frames(u64),
}

/// A wish for blocks.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// How many at most.
    pub want: u32,
    /// How many more would be welcome behind them.
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
        self.usable.blocks()
    }

    /// Gives out a run of at most as many blocks as wanted, as long as there is one; and behind a run that long, of those
    /// that would be welcome.
    pub fn allocate(&mut self, request: &Request) -> Option<(u32, u32)> {
        let kept = if request.urgent { 0 } else { self.kept() };
        let left = block_u32(self.usable.blocks().saturating_sub(kept));
        let want = request.want.min(left);
        if want == 0 || !request.urgent && self.metadata_room(1) == 0 {
            return None;
        }
        // Where space is short nobody is given more than needed.
        let ahead = request.ahead.min((left - want) / 8);
        let (start, length) = self.find(want + ahead, request.goal, request.fit)?;
        self.take(start, length);
        Some((start, length))
    }

    /// Gives out an aligned run of 2 MiB.
    pub fn allocate_aligned(&mut self) -> Option<u32> {
        let length = block_u32(HUGE_BLOCKS);
        let left = self.usable.blocks().saturating_sub(self.kept());
        let start = self.usable.find_aligned(length, 0).filter(|_| left >= HUGE_BLOCKS)?;
        self.take(start, length);
        Some(start)
    }

    /// Gives out one run of so many blocks, at a block that is congruent to `offset` modulo 2 MiB if there is such a one.
    /// Blocks that are kept back may be taken: it is for copies on write.
    pub fn allocate_run(&mut self, length: u32, offset: u64) -> Option<u32> {
        let residue = block_u32(offset % HUGE_BLOCKS);
        let aligned =
            || self.usable.find_aligned(length, residue).filter(|_| u64::from(length) >= HUGE_BLOCKS);
        let fitting =
            || self.usable.best_fit(length).filter(|(_, found)| *found >= length).map(|(start, _)| start);
        let start = aligned().or_else(fitting)?;
        self.take(start, length);
        Some(start)
    }

    fn find(&mut self, want: u32, goal: Option<u32>, fit: Fit) -> Option<(u32, u32)> {
        let huge = block_u32(HUGE_BLOCKS);
        if let Fit::Frames(offset) = fit {
            let residue = block_u32(offset % HUGE_BLOCKS);
            let whole = want / huge * huge;
            let goes_on = goal.filter(|goal| goal % huge == residue).and_then(|goal| {
                let length = self.usable.free_at(goal)?.min(whole) / huge * huge;
                (length > 0).then_some((goal, length))
            });
            let found = |most: u32| self.usable.find_aligned(most, residue).map(|start| (start, most));
            return goes_on
                .or_else(|| found(whole))
                .or_else(|| found(huge))
                .filter(|(_, length)| *length > 0);
        }
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
    fn own(&mut self, start: u32, length: u32) {
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
    pub fn release(&mut self, start: u32, length: u32) -> Result<(), SpaceError> {
        self.disown(start, length)?;
        self.pending.push((start, length));
        Ok(())
    }

    /// Gives back a run that was given out and never used.
    pub fn give_back(&mut self, start: u32, length: u32) -> Result<(), SpaceError> {
        self.disown(start, length)?;
        self.make_usable(start, length);
        Ok(())
    }

    fn disown(&mut self, start: u32, length: u32) -> Result<(), SpaceError> {
        if self.free.overlaps(start, length) || self.clusters.overlap(start, length) {
            return Err(SpaceError::NotInUse { group: self.number, block: start });
        }
        self.free.insert(start, length);
        let now = self.free.run_with(start).map(|(start, _)| start);
        self.free_log.say(start, ());
        self.log_free(now, start + length);
        self.changed = true;
        Ok(())
    }

    /// Whether blocks will be usable after a commit that are not yet.
    pub fn is_space_pending(&self) -> bool {
        !self.pending.is_empty() || !self.committing.is_empty() || self.clusters.is_space_pending()
    }
}
