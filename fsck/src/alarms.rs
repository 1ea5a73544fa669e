//! What must not be in a reverse map, whatever the trees of space say: files over metadata, unwritten blocks that are
//! shared, shared blocks without reflink.

use crate::context::{Check, Env, Group};
use crate::finding::Finding;
use crate::patch::{Patch, records};
use crate::problem::Problem;
use crate::space::with_owners;
use crate::sweep::{Sweep, Swept};
use core::ops::Range;
use paxfs_format::rmap::Owner;

/// What must not be, as a sweep meets it.
#[derive(Default)]
pub(crate) struct Alarms {
    crossed: Vec<(Range<u64>, u64)>,
    unwritten: Vec<(Range<u64>, u64, u64)>,
    twice: Vec<(Range<u64>, u64, u64)>,
    /// Blocks that nobody owns.
    pub free_blocks: u64,
}

/// Alarms of one kind kept at most.
const ALARMS: usize = 1 << 16;

fn keep<T>(list: &mut Vec<T>, one: T) {
    if list.len() < ALARMS {
        list.push(one);
    }
}

impl Swept for Alarms {
    fn free(&mut self, start: u64, end: u64) {
        self.free_blocks = self.free_blocks.saturating_add(end.saturating_sub(start));
    }
    fn shared(&mut self, _start: u64, _end: u64, _count: u64) {}
    fn role(&mut self, _start: u64, _end: u64, _owner: Owner) {}
    fn crossed(&mut self, start: u64, end: u64, inode: u64) {
        match self.crossed.last_mut() {
            Some((range, last)) if range.end == start && *last == inode => range.end = end,
            _ => keep(&mut self.crossed, (start..end, inode)),
        }
    }
    fn unwritten(&mut self, start: u64, end: u64, inode: u64, count: u64) {
        match self.unwritten.last_mut() {
            Some((range, last, number)) if range.end == start && (*last, *number) == (inode, count) => {
                range.end = end
            }
            _ => keep(&mut self.unwritten, (start..end, inode, count)),
        }
    }
    fn twice(&mut self, start: u64, end: u64, inode: u64, other: u64) {
        match self.twice.last_mut() {
            Some((range, one, two)) if range.end == start && (*one, *two) == (inode, other) => {
                range.end = end
            }
            _ => keep(&mut self.twice, (start..end, inode, other)),
        }
    }
}

/// What a sweep over the reverse map with that patch meets that must not be.
pub(crate) fn alarms<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch) -> Alarms {
    let mut sweep = Sweep::new(Alarms::default());
    records(check, group, patch, |record| sweep.record(record));
    let mut alarms = sweep.finish(check.volume.geometry.group_len(group.number));
    if check.reflink() {
        alarms.twice.clear();
    }
    alarms
}

impl Alarms {
    /// The blocks.
    pub fn ranges(self) -> impl Iterator<Item = Range<u64>> {
        let crossed = self.crossed.into_iter().map(|(range, _)| range);
        let unwritten = self.unwritten.into_iter().map(|(range, ..)| range);
        crossed.chain(unwritten).chain(self.twice.into_iter().map(|(range, ..)| range))
    }

    /// Tells of them.
    pub fn tell(&self, env: &mut Env<'_>, group: &Group) {
        let check = env.check;
        let start = check.volume.geometry.group_start(group.number);
        let parts =
            |range: &Range<u64>| (start.saturating_add(range.start), range.end.saturating_sub(range.start));
        let mut found = Vec::new();
        for (range, inode) in &self.crossed {
            let (block, blocks) = parts(range);
            let problem = Problem::RmapCrossed { block, blocks, inode: *inode };
            found.push((Finding::new(format!("block[{block}].raw"), problem), range));
        }
        for (range, inode, count) in &self.unwritten {
            let (block, blocks) = parts(range);
            let problem = Problem::SharedUnwritten { block, blocks, inode: *inode, count: *count };
            found.push((Finding::new(format!("block[{block}].raw"), problem), range));
        }
        for (range, inode, other) in &self.twice {
            let (block, blocks) = parts(range);
            let problem = Problem::DataTwice { block, blocks, inode: *inode, other: *other };
            found.push((Finding::new(format!("block[{block}].raw"), problem), range));
        }
        for (finding, range) in found {
            let finding = with_owners(env, group, range.clone(), finding);
            env.findings.push(finding);
        }
    }
}
