//! Reading a tree in order: from a key on, or what overlaps a range.
//!
//! Both are one [`Scan`]; they differ in what they [`Select`]. A scan checks each node by itself and takes the order of
//! keys as given, so on a tree that is in doubt it may miss records; it neither fails nor runs on. After a node that
//! cannot be read it yields the error once and goes on with the next subtree.

use super::{Defect, Tree, TreeError};
use crate::blocks::Blocks;
use crate::node::{Branch, Node};
use crate::record::{Key, Record};
use core::ops::Range;
use core::slice;
use std::collections::HashSet;

/// A record and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<R> {
    /// The record.
    pub record: R,
    /// Block of its leaf.
    pub leaf: u64,
    /// Its position in the leaf.
    pub index: usize,
}

/// Records from a key on, in order. Made by [`Tree::range`].
pub type Cursor<'b, B, R> = Scan<'b, B, R, FromKey>;
/// Records from before a key on, in order. Made by [`Tree::range_around`].
pub type Around<'b, B, R> = Scan<'b, B, R, FromBefore>;
/// Records that overlap a range, in order. Made by [`Tree::overlapping`].
pub type Overlapping<'b, B, R> = Scan<'b, B, R, Within>;

impl<R: Record> Tree<R> {
    /// All records with a key of `from` or above, in order.
    pub fn range<'b, B: Blocks>(&self, blocks: &'b B, from: Key) -> Cursor<'b, B, R> {
        Scan::new(*self, blocks, FromKey(from))
    }

    /// All records from the last with a key of `key` or below on, in order; all when there is none.
    pub fn range_around<'b, B: Blocks>(&self, blocks: &'b B, key: Key) -> Around<'b, B, R> {
        Scan::new(*self, blocks, FromBefore(key))
    }

    /// All records that cover a position of `range`, in order.
    pub fn overlapping<'b, B: Blocks>(&self, blocks: &'b B, range: Range<u64>) -> Overlapping<'b, B, R> {
        Scan::new(*self, blocks, Within(range))
    }

    /// The last record with a key of `key` or below.
    pub fn last_at_or_before<B: Blocks>(&self, blocks: &B, key: Key) -> Result<Option<At<R>>, TreeError> {
        if let Some(defect) = self.root_defect() {
            return Err(TreeError { block: self.root, level: self.height.saturating_sub(1), fault: defect });
        }
        let (mut block, Some(mut level)) = (self.root, self.top()) else { return Ok(None) };
        loop {
            let node = self.node(blocks, block, level).map_err(|fault| TreeError {
                block,
                level,
                fault: fault.into(),
            })?;
            let Some(branches) = node.branches() else {
                let records = node.records::<R>().unwrap_or_default();
                let last = records.partition_point(|record| record.key() <= key).checked_sub(1);
                let found = last.and_then(|index| Some((index, *records.get(index)?)));
                return Ok(found.map(|(index, record)| At { record, leaf: block, index }));
            };
            let last = branches.partition_point(|entry| entry.key() <= key).checked_sub(1);
            let Some(entry) = last.and_then(|index| branches.get(index)) else { return Ok(None) };
            (block, level) = (entry.child.get(), level.saturating_sub(1));
        }
    }
}

/// What a [`Scan`] is after. Narrowing cuts off what lies wholly before or after; the rest is asked one by one.
pub trait Select {
    /// The entries that records to be found may be below.
    fn narrow<'b, R: Record>(&self, entries: &'b [Branch]) -> &'b [Branch];
    /// Whether records to be found may be below `entry`.
    fn is_above(&self, entry: &Branch) -> bool;
    /// The positions where records to be found may be.
    fn narrow_records<R: Record>(&self, records: &[R]) -> Range<usize>;
    /// Whether `record` is to be found.
    fn is<R: Record>(&self, record: &R) -> bool;
}

/// Selects keys from this one on.
#[derive(Debug, Clone)]
pub struct FromKey(Key);

impl Select for FromKey {
    fn narrow<'b, R: Record>(&self, entries: &'b [Branch]) -> &'b [Branch] {
        // The last child that begins at or before the key may hold it.
        let first = entries.partition_point(|entry| entry.key() <= self.0).saturating_sub(1);
        entries.get(first..).unwrap_or_default()
    }

    fn is_above(&self, _entry: &Branch) -> bool {
        true
    }

    fn narrow_records<R: Record>(&self, records: &[R]) -> Range<usize> {
        records.partition_point(|record| record.key() < self.0)..records.len()
    }

    fn is<R: Record>(&self, _record: &R) -> bool {
        true
    }
}

/// Selects the last key that is this one or below, and those behind it.
#[derive(Debug, Clone)]
pub struct FromBefore(Key);

impl Select for FromBefore {
    fn narrow<'b, R: Record>(&self, entries: &'b [Branch]) -> &'b [Branch] {
        FromKey(self.0).narrow::<R>(entries)
    }

    fn is_above(&self, _entry: &Branch) -> bool {
        true
    }

    fn narrow_records<R: Record>(&self, records: &[R]) -> Range<usize> {
        records.partition_point(|record| record.key() <= self.0).saturating_sub(1)..records.len()
    }

    fn is<R: Record>(&self, _record: &R) -> bool {
        true
    }
}

/// Selects records that cover a position of the range.
#[derive(Debug, Clone)]
pub struct Within(Range<u64>);

impl Select for Within {
    fn narrow<'b, R: Record>(&self, entries: &'b [Branch]) -> &'b [Branch] {
        let end = entries.partition_point(|entry| entry.start.get() < self.0.end);
        let entries = entries.get(..end).unwrap_or_default();
        // Where records do not overlap, ends ascend as starts do.
        let first = if R::OVERLAPS { 0 } else { entries.partition_point(|entry| !self.is_above(entry)) };
        entries.get(first..).unwrap_or_default()
    }

    fn is_above(&self, entry: &Branch) -> bool {
        entry.high.get() > self.0.start
    }

    fn narrow_records<R: Record>(&self, records: &[R]) -> Range<usize> {
        let end = records.partition_point(|record| record.key().start < self.0.end);
        let first = if R::OVERLAPS { 0 } else { records.partition_point(|record| !self.is(record)) };
        first.min(end)..end
    }

    fn is<R: Record>(&self, record: &R) -> bool {
        record.end() > self.0.start
    }
}

/// Reads the selected records of a tree in order.
#[derive(Debug)]
pub struct Scan<'b, B, R: Record, S> {
    tree: Tree<R>,
    blocks: &'b B,
    select: S,
    /// The root, until it is read.
    root: Option<(u64, u32)>,
    /// What is still to be read below each branch node down to here.
    stack: Vec<(u32, slice::Iter<'b, Branch>)>,
    leaf: Leaf<'b, R>,
    /// Branch nodes read, so that no web of shared nodes makes a scan endless.
    seen: HashSet<u64>,
    /// How many were read before they were noted: as many as a first descent takes, so that a mere lookup stays free of
    /// the set.
    unnoted: u32,
}

/// What is still to be read of a leaf.
#[derive(Debug)]
struct Leaf<'b, R> {
    block: u64,
    records: &'b [R],
    rest: Range<usize>,
}

impl<'b, B: Blocks, R: Record, S: Select> Scan<'b, B, R, S> {
    fn new(tree: Tree<R>, blocks: &'b B, select: S) -> Self {
        // A height without a root, or the reverse, is no empty tree: the root is tried and gives the error.
        let root = (tree.root != 0 || tree.height != 0).then_some((tree.root, tree.height.saturating_sub(1)));
        let leaf = Leaf { block: 0, records: &[], rest: 0..0 };
        Scan { tree, blocks, select, root, stack: Vec::new(), leaf, seen: HashSet::new(), unnoted: 0 }
    }

    /// The next node to read, and its level.
    fn next_node(&mut self) -> Option<(u64, u32)> {
        if let Some(root) = self.root.take() {
            return Some(root);
        }
        while let Some((level, entries)) = self.stack.last_mut() {
            match entries.find(|entry| self.select.is_above(entry)) {
                Some(entry) => return Some((entry.child.get(), level.saturating_sub(1))),
                None => self.stack.pop(),
            };
        }
        None
    }

    fn enter(&mut self, block: u64, level: u32) -> Result<(), Defect> {
        if let Some(defect) = self.tree.root_defect() {
            return Err(defect);
        }
        let node: &'b Node = self.tree.node(self.blocks, block, level)?;
        if let Some(entries) = node.branches() {
            if self.unnoted < self.tree.height {
                self.unnoted += 1;
            } else if !self.seen.insert(block) {
                return Err(Defect::Twice);
            }
            self.stack.push((level, self.select.narrow::<R>(entries).iter()));
        } else {
            let records = node.records().unwrap_or_default();
            self.leaf = Leaf { block, records, rest: self.select.narrow_records(records) };
        }
        Ok(())
    }
}

impl<B: Blocks, R: Record, S: Select> Iterator for Scan<'_, B, R, S> {
    type Item = Result<At<R>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Leaf { block: leaf, records, ref mut rest } = self.leaf;
            for index in rest {
                if let Some(record) = records.get(index).filter(|record| self.select.is(*record)) {
                    return Some(Ok(At { record: *record, leaf, index }));
                }
            }
            let (block, level) = self.next_node()?;
            if let Err(fault) = self.enter(block, level) {
                return Some(Err(TreeError { block, level, fault }));
            }
        }
    }
}
