//! Bad blocks of a group: which are recorded, and that nobody is given one.
//!
//! A bad block is *idle* when nothing leads to it, on the medium neither: it can be healed. Until then it is in use, or
//! somebody may come back to it after a crash.

use super::{Group, Places};

impl Group {
    /// The blocks that are recorded as bad.
    pub fn bad(&self) -> &Places {
        &self.bad
    }

    /// Records a run as bad: its blocks are not given out any more.
    pub fn set_bad(&mut self, start: u32, length: u32) {
        self.change_bad(start, length, |bad| bad.cover(start, length));
        self.keep_back(start, length);
        self.hopeless.uncover(start, length);
    }

    /// Takes a run that is healed out of the record; its blocks can be given out.
    pub fn set_good(&mut self, start: u32, length: u32) {
        self.change_bad(start, length, |bad| bad.uncover(start, length));
        let mut idle = Places::default();
        self.free.overlapping(start, length).for_each(|(start, length)| idle.cover(start, length));
        self.freed_yet(&mut idle);
        idle.iter().for_each(|(start, length)| self.usable.insert(start, length));
        self.clusters.restore(start, length);
    }

    /// Says that a run does not heal: nobody tries again before it is reported anew.
    pub fn give_up(&mut self, start: u32, length: u32) {
        self.hopeless.cover(start, length);
    }

    /// Bad runs that are idle and may heal, ascending.
    pub fn idle_bad(&self) -> Vec<(u32, u32)> {
        let mut idle = Places::default();
        for (start, length) in self.bad.iter() {
            self.free.overlapping(start, length).for_each(|(start, length)| idle.cover(start, length));
        }
        self.freed_yet(&mut idle);
        self.clusters.spoiled().for_each(|block| idle.cover(block, 1));
        self.hopeless.iter().for_each(|(start, length)| idle.uncover(start, length));
        idle.iter().collect()
    }

    /// Takes out of a set what is freed, but not on the medium.
    fn freed_yet(&self, places: &mut Places) {
        self.pending
            .iter()
            .chain(&self.committing)
            .for_each(|(start, length)| places.uncover(*start, *length));
    }

    /// Sees to it that bad blocks of a run are not given out.
    pub(super) fn keep_back(&mut self, start: u32, length: u32) {
        let taken: Vec<(u32, u32)> = self.usable.overlapping(start, length).collect();
        taken.into_iter().for_each(|(start, length)| self.usable.remove(start, length));
        self.clusters.spoil(start, length);
    }

    /// Lets a run of data be given out, but for what is bad.
    pub(super) fn make_usable(&mut self, start: u32, length: u32) {
        let mut good = Places::default();
        good.cover(start, length);
        self.bad.overlapping(start, length).for_each(|(start, length)| good.uncover(start, length));
        good.iter().for_each(|(start, length)| self.usable.insert(start, length));
    }

    /// Changes the record in a run; its tree follows.
    fn change_bad(&mut self, start: u32, length: u32, change: impl FnOnce(&mut Places)) {
        // Records that touch the run may come, go or change.
        let (from, length) = (start.saturating_sub(1), length.saturating_add(2));
        let starts = |bad: &Places| -> Vec<u32> {
            let touching = bad.overlapping(from, length);
            touching.filter_map(|(block, _)| bad.run_with(block).map(|(start, _)| start)).collect()
        };
        let before = starts(&self.bad);
        change(&mut self.bad);
        let after = starts(&self.bad);
        before.into_iter().chain(after).for_each(|start| self.bad_log.say(start, ()));
        self.changed = true;
    }
}
