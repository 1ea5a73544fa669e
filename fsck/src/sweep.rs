//! One sweep over a group's reverse map in order: free space, shared runs and roles fall out of it.
//!
//! ```text
//! records   ├──A──────────┤        ├─B─┤
//!                 ├──C────────┤
//! owners    1     2       1   0    1   0      a heap holds the ends of the records that cover the current position
//! ```
//!
//! Memory is that of the records over one block. Must not know where records come from.

use paxfs_format::record::Record;
use paxfs_format::rmap::{Owner, Rmap};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What falls out of a sweep, in order. Positions are blocks of the group.
pub(crate) trait Swept {
    /// Nobody owns these; a maximal run.
    fn free(&mut self, start: u64, end: u64);
    /// These have `count` owners, 2 or more; a maximal run.
    fn shared(&mut self, start: u64, end: u64, count: u64);
    /// A record of metadata.
    fn role(&mut self, start: u64, end: u64, owner: Owner);
    /// Data and metadata at once.
    fn crossed(&mut self, start: u64, end: u64, inode: u64);
    /// Shared, and unwritten for one owner.
    fn unwritten(&mut self, start: u64, end: u64, inode: u64, count: u64);
    /// Two owners, for volumes without reflink.
    fn twice(&mut self, start: u64, end: u64, inode: u64, other: u64);
}

/// A data record that covers the current position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Active {
    end: u64,
    inode: u64,
    unwritten: bool,
}

/// Owners of a run: 0 for free ones.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    end: u64,
    count: u64,
}

/// A sweep on its way.
pub(crate) struct Sweep<S> {
    active: BinaryHeap<Reverse<Active>>,
    unwritten: u64,
    position: u64,
    role_end: u64,
    run: Option<Run>,
    pub to: S,
}

impl<S: Swept> Sweep<S> {
    /// A sweep from the group's first block.
    pub fn new(to: S) -> Self {
        Sweep { active: BinaryHeap::new(), unwritten: 0, position: 0, role_end: 0, run: None, to }
    }

    /// The next record, in the order of starts.
    #[inline]
    pub fn record(&mut self, record: &Rmap) {
        let (start, end) = (u64::from(record.start.get()), record.end());
        self.advance(start);
        if record.owner.is_inode() {
            let unwritten = record.flags.is_unwritten();
            self.unwritten += u64::from(unwritten);
            self.active.push(Reverse(Active { end, inode: record.owner.get(), unwritten }));
        } else {
            self.to.role(start, end, record.owner);
            self.role_end = self.role_end.max(end);
        }
    }

    /// No more records; the group ends at `end`.
    pub fn finish(mut self, end: u64) -> S {
        self.advance(end);
        self.flush();
        self.to
    }

    fn advance(&mut self, to: u64) {
        while let Some(&Reverse(next)) = self.active.peek()
            && next.end <= to
        {
            self.segment(next.end);
            self.active.pop();
            self.unwritten -= u64::from(next.unwritten);
        }
        self.segment(to);
    }

    /// The records over the blocks from the current position up to `to` are those that are active.
    fn segment(&mut self, to: u64) {
        if to <= self.position {
            return;
        }
        let count = self.active.len() as u64;
        let start = if count == 0 { self.position.max(self.role_end) } else { self.position };
        if start < to {
            match &mut self.run {
                Some(run) if run.count == count && run.end == start => run.end = to,
                _ => {
                    self.flush();
                    self.run = Some(Run { start, end: to, count });
                }
            }
        }
        if count > 0 && (count > 1 || self.position < self.role_end) {
            self.alarms(to, count);
        }
        self.position = to;
    }

    fn alarms(&mut self, to: u64, count: u64) {
        let Some(&Reverse(first)) = self.active.peek() else { return };
        if self.position < self.role_end {
            self.to.crossed(self.position, to.min(self.role_end), first.inode);
        }
        if count > 1 {
            if self.unwritten > 0
                && let Some(Reverse(one)) = self.active.iter().find(|Reverse(one)| one.unwritten)
            {
                self.to.unwritten(self.position, to, one.inode, count);
            }
            let other = self.active.iter().nth(1).map_or(first.inode, |Reverse(other)| other.inode);
            self.to.twice(self.position, to, first.inode, other);
        }
    }

    fn flush(&mut self) {
        match self.run.take() {
            Some(Run { start, end, count: 0 }) => self.to.free(start, end),
            Some(Run { start, end, count }) if count > 1 => self.to.shared(start, end, count),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out, as text.
    #[derive(Default)]
    struct Log(Vec<String>);

    impl Swept for Log {
        fn free(&mut self, start: u64, end: u64) {
            self.0.push(format!("free {start}..{end}"));
        }
        fn shared(&mut self, start: u64, end: u64, count: u64) {
            self.0.push(format!("shared {start}..{end} ×{count}"));
        }
        fn role(&mut self, start: u64, end: u64, _owner: Owner) {
            self.0.push(format!("role {start}..{end}"));
        }
        fn crossed(&mut self, start: u64, end: u64, inode: u64) {
            self.0.push(format!("crossed {start}..{end} by {inode}"));
        }
        fn unwritten(&mut self, start: u64, end: u64, inode: u64, count: u64) {
            self.0.push(format!("unwritten {start}..{end} of {inode} ×{count}"));
        }
        fn twice(&mut self, _start: u64, _end: u64, _inode: u64, _other: u64) {}
    }

    fn sweep(records: &[(u32, u32, u64, u32)], end: u64) -> Vec<String> {
        let mut sweep = Sweep::new(Log::default());
        for &(start, length, owner, flags) in records {
            let record = Rmap {
                start: start.into(),
                length: length.into(),
                owner: owner.into(),
                offset: 0.into(),
                flags: flags.into(),
            };
            sweep.record(&record);
        }
        sweep.finish(end).0
    }

    const HEAD: u64 = u64::MAX;

    #[test]
    fn gaps_are_free_and_maximal() {
        assert_eq!(sweep(&[], 10), ["free 0..10"]);
        let log = sweep(&[(0, 3, HEAD, 0), (5, 1, 9, 0), (6, 2, 8, 0)], 10);
        assert_eq!(log, ["role 0..3", "free 3..5", "free 8..10"]);
        assert_eq!(sweep(&[(0, 10, 9, 0)], 10), Vec::<String>::new());
    }

    #[test]
    fn shared_runs_are_maximal_and_counted() {
        let log = sweep(&[(0, 4, 7, 0), (0, 4, 8, 0), (4, 4, 7, 0), (4, 2, 9, 0), (5, 5, 5, 0)], 10);
        assert_eq!(log, ["shared 0..5 ×2", "shared 5..6 ×3", "shared 6..8 ×2"]);
    }

    #[test]
    fn what_must_not_be_is_told() {
        assert_eq!(sweep(&[(0, 4, HEAD, 0), (2, 4, 9, 0)], 6), ["role 0..4", "crossed 2..4 by 9"]);
        let log = sweep(&[(0, 4, 9, 1), (2, 4, 8, 0)], 6);
        assert_eq!(log, ["unwritten 2..4 of 9 ×2", "shared 2..4 ×2"]);
    }
}
