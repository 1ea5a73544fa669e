//! Reference counts of a group's blocks: asked and changed at once, unlike its other trees.

use super::settle::GroupNodes;
use super::{Context, Group, Places, SpaceError};
use crate::edit::TreeMut;
use crate::pages::Pages;
use paxfs_format::group::GroupTree;
use paxfs_format::record::{Key, Record};
use paxfs_format::refcount::Refcount;

/// A run of blocks with one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// First block in the group.
    pub start: u32,
    /// Blocks.
    pub length: u32,
    /// Owners.
    pub count: u32,
}

impl Counted {
    /// The block behind it.
    pub fn end(&self) -> u32 {
        self.start.saturating_add(self.length)
    }
}

/// How often blocks are in runs of a start and a length, which may overlap: ascending runs that do not.
pub(crate) fn overlaid(runs: impl Iterator<Item = (u32, u32)>) -> Vec<Counted> {
    // Starts and ends, ascending.
    let mut borders: Vec<(u32, i32)> =
        runs.flat_map(|(start, length)| [(start, 1), (start.saturating_add(length), -1)]).collect();
    borders.sort_unstable();
    let mut counted: Vec<Counted> = Vec::new();
    let (mut at, mut depth) = (0, 0_i32);
    for (block, change) in borders {
        let (length, count) = (block - at, u32::try_from(depth).unwrap_or(0));
        if length > 0 && count > 0 {
            match counted.last_mut() {
                Some(last) if last.end() == at && last.count == count => last.length += length,
                _ => counted.push(Counted { start: at, length, count }),
            }
        }
        (at, depth) = (block, depth.saturating_add(change));
    }
    counted
}

impl Group {
    /// The counts of owned blocks `start..start + length`, in runs. Blocks that only one file owns count 1.
    pub fn counts(
        &self,
        pages: &Pages,
        context: &Context,
        start: u32,
        length: u32,
    ) -> Result<Vec<Counted>, SpaceError> {
        let tree = self.tree::<Refcount>(GroupTree::Refcount, context);
        let end = start.saturating_add(length);
        let mut runs = Vec::new();
        let mut at = start;
        if tree.height > 0 {
            for found in tree.overlapping(pages, start.into()..end.into()) {
                let record =
                    found.map_err(|error| SpaceError::node(self.number, GroupTree::Refcount, &error))?.record;
                let first = record.start.get().max(at);
                let last = u32::try_from(record.end()).unwrap_or(u32::MAX).min(end);
                if at < first {
                    runs.push(Counted { start: at, length: first - at, count: 1 });
                }
                runs.push(Counted {
                    start: first,
                    length: last.saturating_sub(first),
                    count: record.count.get(),
                });
                at = last.max(at);
            }
        }
        if at < end {
            runs.push(Counted { start: at, length: end - at, count: 1 });
        }
        Ok(runs)
    }

    /// Gives each run as many owners more as it says. The runs are ascending and do not overlap.
    pub fn share(&mut self, pages: &Pages, context: &Context, runs: &[Counted]) -> Result<(), SpaceError> {
        for run in self.change_counts(pages, context, runs, u32::saturating_add, |before, _| before < 2)? {
            let is_loosened = [&self.loosened, &self.loosened_committing]
                .iter()
                .any(|set| set.overlaps(run.start, run.length));
            if !is_loosened {
                self.tightened.cover(run.start, run.length);
            }
        }
        Ok(())
    }

    /// Takes as many owners from each run as it says, and frees the blocks that have none left. The runs are ascending and
    /// do not overlap.
    pub fn unshare(&mut self, pages: &Pages, context: &Context, runs: &[Counted]) -> Result<(), SpaceError> {
        for run in self.change_counts(pages, context, runs, u32::saturating_sub, |_, after| after < 2)? {
            match run.count {
                0 => self.release(run.start, run.length)?,
                _ => self.loosened.cover(run.start, run.length),
            }
        }
        Ok(())
    }

    /// As [`Group::counts`], for who wants to write in place: a block whose other owner is gone, but not durably, counts 2.
    /// On the medium it is still the other's, too.
    pub fn counts_on_medium(
        &self,
        pages: &Pages,
        context: &Context,
        start: u32,
        length: u32,
    ) -> Result<Vec<Counted>, SpaceError> {
        let mut counts = self.counts(pages, context, start, length)?;
        for loosened in [&self.loosened, &self.loosened_committing] {
            if !loosened.is_empty() {
                counts = counts.into_iter().flat_map(|run| apart(run, loosened)).collect();
            }
        }
        Ok(counts)
    }

    /// Says that the last owner of blocks is who owned them alone on the medium all the time, if the others came in the
    /// running transaction: then it may write there in place at once. Says whether it was so.
    pub fn take_back(&mut self, start: u32, length: u32) -> bool {
        /// As many as cost about what a commit does, which ends them.
        const LOOKED_THROUGH_MAX: u64 = 1 << 18;
        let is_whole = self.looked_through < LOOKED_THROUGH_MAX
            && self.tightened.free_at(start).is_some_and(|blocks| blocks >= length);
        if is_whole {
            self.loosened.uncover(start, length);
        }
        is_whole
    }

    /// Changes the counts of runs; returns those of which `is_noted` says so, by their counts before and after.
    fn change_counts(
        &mut self,
        pages: &Pages,
        context: &Context,
        runs: &[Counted],
        change: impl Fn(u32, u32) -> u32,
        is_noted: impl Fn(u32, u32) -> bool,
    ) -> Result<Vec<Counted>, SpaceError> {
        let mut noted = Vec::new();
        // Few runs are changed one by one; many in one splice over all that they span, if there is room for it.
        let root = *self.header.root(GroupTree::Refcount);
        let many = runs.len() > 64 && self.has_room_beside(root.nodes.get().into(), runs.len(), context);
        let step = if many { runs.len() } else { 1 };
        for part in runs.chunks(step.max(1)) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            // One block to each side, so that neighbours with the same count are joined.
            let low = first.start.saturating_sub(1);
            let high = last.end().saturating_add(1).min(self.blocks);
            let old = self.counts(pages, context, low, high - low)?;
            let new = changed_runs(&old, part, &change, &is_noted, &mut noted);
            self.splice_counts(pages, context, low, high, new)?;
        }
        Ok(noted)
    }

    fn splice_counts(
        &mut self,
        pages: &Pages,
        context: &Context,
        low: u32,
        high: u32,
        mut new: Vec<Refcount>,
    ) -> Result<(), SpaceError> {
        // Records that reach out of the range at either end are replaced whole.
        let tree = self.tree::<Refcount>(GroupTree::Refcount, context);
        let (mut from, mut to) = (low, high);
        if tree.height > 0 {
            let edges = tree.overlapping(pages, low.into()..high.into());
            let mut outer = Vec::new();
            for found in edges {
                let record =
                    found.map_err(|error| SpaceError::node(self.number, GroupTree::Refcount, &error))?.record;
                let end = u32::try_from(record.end()).unwrap_or(u32::MAX);
                if record.start.get() < low {
                    from = record.start.get();
                    outer.push(Refcount { length: (low - from).into(), ..record });
                }
                if end > high {
                    to = end;
                    outer.push(Refcount { start: high.into(), length: (end - high).into(), ..record });
                }
            }
            for record in outer {
                if record.start.get() < low { new.insert(0, record) } else { new.push(record) }
            }
        }
        let mut joined: Vec<Refcount> = Vec::with_capacity(new.len());
        for record in new {
            match joined.last_mut().and_then(|last| last.merged(&record).map(|both| (last, both))) {
                Some((last, both)) => *last = both,
                None => joined.push(record),
            }
        }
        let root = *self.header.root(GroupTree::Refcount);
        if joined.is_empty() && root.height.get() == 0 {
            return Ok(());
        }
        let owner = self.number.into();
        let mut nodes = GroupNodes::new(self, pages, context, GroupTree::Refcount);
        let mut tree = TreeMut::new(GroupTree::Refcount.kind(), owner, context.generation, root, &mut nodes);
        let keys = Key::at(from.into())..=Key { start: u64::from(to.max(from + 1)) - 1, ..Key::MAX };
        tree.splice(keys, &joined)?;
        let root = tree.root();
        *self.header.root_mut(GroupTree::Refcount) = root;
        self.changed = true;
        Ok(())
    }
}

/// A run with one count as runs: what is in `loosened` counts 2 at least.
fn apart(run: Counted, loosened: &Places) -> Vec<Counted> {
    let mut parts = Vec::new();
    let mut at = run.start;
    for (start, length) in loosened.overlapping(run.start, run.length) {
        if at < start {
            parts.push(Counted { start: at, length: start - at, ..run });
        }
        parts.push(Counted { start, length, count: run.count.max(2) });
        at = start + length;
    }
    if at < run.end() {
        parts.push(Counted { start: at, length: run.end() - at, ..run });
    }
    parts
}

/// The records of `old` runs after `change` to those in `runs`; notes those of which `is_noted` says so.
fn changed_runs(
    old: &[Counted],
    runs: &[Counted],
    change: &impl Fn(u32, u32) -> u32,
    is_noted: &impl Fn(u32, u32) -> bool,
    noted: &mut Vec<Counted>,
) -> Vec<Refcount> {
    let mut new = Vec::new();
    let mut push = |start: u32, end: u32, count: u32| {
        if start < end && count >= 2 {
            new.push(Refcount { start: start.into(), length: (end - start).into(), count: count.into() });
        }
    };
    let mut runs = runs.iter().copied().peekable();
    for counted in old {
        let mut at = counted.start;
        let end = counted.start.saturating_add(counted.length);
        while at < end {
            // Runs that ended before.
            while runs.next_if(|run| run.end() <= at).is_some() {}
            match runs.peek().copied() {
                Some(run) if run.start < end => {
                    push(at, run.start.max(at), counted.count);
                    at = run.start.max(at);
                    let stop = run.end().min(end);
                    let count = change(counted.count, run.count);
                    push(at, stop, count);
                    if is_noted(counted.count, count) {
                        match noted.last_mut() {
                            Some(last) if last.end() == at && last.count == count => last.length += stop - at,
                            _ => noted.push(Counted { start: at, length: stop - at, count }),
                        }
                    }
                    at = stop;
                }
                _ => {
                    push(at, end, counted.count);
                    at = end;
                }
            }
        }
    }
    new
}
