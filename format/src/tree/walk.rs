//! The check of a whole tree: every invariant of [`tree`](super), each finding once, and on past each broken node.
//!
//! **Order.** The walk carries the [`Span`] of keys that belong below each node. Keys are compared with the span and
//! with the others of their node; that they ascend from node to node follows, as spans do not overlap. So a wrong
//! key is found where it is, and those after it are not suspected.
//!
//! **One finding for each broken thing.** What a finding puts in doubt is not compared any further: the span
//! that came from a wrong entry, the highest end of a subtree with a wrong record, the neighbour of a record whose end
//! is wrong. Records in doubt are handed over apart ([`Visitor::doubtful`]).
//!
//! **Termination.** Levels go down by one from parent to child, so there are no cycles; a node could still have many
//! parents, and a web of such nodes more paths than anyone can walk. Branch nodes are therefore walked once: a node none
//! of whose keys fit is not walked but left to its right parent, and a second right parent is [`Defect::Twice`]. Leaves
//! need not be noted: each is read once for each entry above it, and a second time its keys fit no span. The set takes
//! a few bytes for each hundred leaves.
//!
//! **Maximal form** is tested between neighbours. In the reverse map, where records overlap, a pair to be merged need
//! not be neighbours; but metadata overlaps nothing, and a pair of data records is a pair of extents that are neighbours
//! in their file's tree, where the same test finds it. A pair stays apart when the merged record could not stand by
//! itself: this keeps extents apart at a group's border.

use super::order::{Marks, beyond_doubt};
use super::{Defect, Missing, NodeFault, NodePlace, Place, RecordPlace, Tree, TreeFault};
use crate::blocks::Blocks;
use crate::node::{Branch, MAX_HEIGHT, Node};
use crate::record::{Key, Record};
use std::collections::HashSet;

/// Who is told what a walk meets, from left to right.
pub trait Visitor<R> {
    /// A good node, before what is below it.
    fn node(&mut self, _at: &NodePlace, _node: &Node) {}

    /// A record. Keys ascend strictly from one call to the next, and each record has passed its own check.
    fn record(&mut self, at: &RecordPlace, record: &R);

    /// A record that is wrong, or where it does not belong. A fault has told, or soon will tell, of it or its leaf.
    fn doubtful(&mut self, _at: &RecordPlace, _record: &R) {}

    /// Records that are not known, in their place between the others. A fault has told, or soon will tell, why.
    fn missing(&mut self, _missing: &Missing) {}

    /// A finding.
    fn fault(&mut self, fault: TreeFault);
}

/// What a walk has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Good nodes.
    pub nodes: u64,
    /// Records in good leaves, doubtful ones among them.
    pub records: u64,
    /// Whether every record was handed to [`Visitor::record`]: no node was unreadable, no record doubtful. Only then
    /// does it mean something to compare these counts with the root's, or these records with another structure.
    pub complete: bool,
}

impl<R: Record> Tree<R> {
    /// Checks all of the tree, and hands all that is in it to `visitor`.
    pub fn walk<B: Blocks, V: Visitor<R>>(&self, blocks: &B, visitor: &mut V) -> Walked {
        Walk::new(*self, blocks, visitor).run().walked
    }

    /// Block of the node at that level and ordinal, counted as [`Tree::walk`] counts; `None` when there is none. The node
    /// itself is not read, so that a path to a broken one can be followed; the branch nodes above and to its left are.
    pub fn locate<B: Blocks>(&self, blocks: &B, level: u32, ordinal: u64) -> Option<u64> {
        let mut visitor = Silent;
        let mut walk = Walk::new(*self, blocks, &mut visitor);
        walk.target = Some((level, ordinal));
        walk.run().found
    }

    /// What is wrong with how two records of the tree follow one another.
    fn pair(&self, one: &R, next: &R) -> Option<Defect> {
        let (end, start) = (one.end(), next.key().start);
        if !R::OVERLAPS && start < end {
            Some(Defect::Overlap { end, start })
        } else if one.merged(next).is_some_and(|merged| merged.check(&self.space).is_ok()) {
            Some(Defect::Mergeable)
        } else {
            None
        }
    }
}

/// For a walk that only wants to arrive.
struct Silent;

impl<R> Visitor<R> for Silent {
    fn record(&mut self, _at: &RecordPlace, _record: &R) {}

    fn fault(&mut self, _fault: TreeFault) {}
}

/// What belongs below a node.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Keys and ends.
    below: Missing,
    /// The first key is the lowest that can be: so says an entry that is not in doubt.
    exact: bool,
}

impl Span {
    const ALL: Self = Span { below: Missing::ANY, exact: false };

    /// First key of a node that has none that belongs here: it is another's child.
    fn stranger(&self, mut keys: impl Iterator<Item = Key> + Clone) -> Option<Key> {
        let first = keys.clone().next()?;
        (self.exact && first != self.below.low && !keys.any(|key| self.below.has(key))).then_some(first)
    }
}

/// A branch node on the way down.
struct Frame<'b> {
    at: NodePlace,
    entries: &'b [Branch],
    /// Entries whose keys are in doubt.
    disputed: Marks,
    span: Span,
    /// Entry to go down next.
    next: usize,
    /// Highest end below the entries before it.
    high: u64,
    /// Doubts before the entry that the walk is below.
    doubts: u64,
}

impl Frame<'_> {
    /// The keys that belong below an entry.
    fn span_below(&self, index: usize, entry: &Branch) -> Span {
        let is_sure = |index: &usize| !self.disputed.contains(*index);
        let next = (index + 1..self.entries.len()).find(is_sure).and_then(|next| self.entries.get(next));
        let exact = is_sure(&index);
        let Missing { low, bound, high } = self.span.below;
        let below = Missing {
            low: if exact { entry.key() } else { low },
            bound: next.map_or(bound, Branch::key),
            high: if exact { entry.high.get() } else { high },
        };
        Span { below, exact }
    }
}

struct Walk<'b, 'v, B, R: Record, V> {
    tree: Tree<R>,
    blocks: &'b B,
    visitor: &'v mut V,
    stack: Vec<Frame<'b>>,
    /// Branch nodes walked.
    seen: HashSet<u64>,
    /// Nodes met at each level.
    ordinals: [u64; MAX_HEIGHT as usize],
    /// Findings so far, told or still to be told.
    doubts: u64,
    /// The last keys of a node reach past this end of its span. Whether they are wrong or the end, the node tells that
    /// begins there.
    overruns: Vec<(Key, TreeFault)>,
    /// Key of the last record handed over.
    last: Option<Key>,
    /// The last record, unless it is in doubt how it ends or what was after it.
    neighbour: Option<R>,
    walked: Walked,
    /// Level and ordinal of the node to arrive at. Nothing of its level or below is read.
    target: Option<(u32, u64)>,
    /// Block of that node.
    found: Option<u64>,
}

impl<'b, 'v, B: Blocks, R: Record, V: Visitor<R>> Walk<'b, 'v, B, R, V> {
    fn new(tree: Tree<R>, blocks: &'b B, visitor: &'v mut V) -> Self {
        Walk {
            tree,
            blocks,
            visitor,
            stack: Vec::new(),
            seen: HashSet::new(),
            ordinals: [0; MAX_HEIGHT as usize],
            doubts: 0,
            overruns: Vec::new(),
            last: None,
            neighbour: None,
            walked: Walked { nodes: 0, records: 0, complete: true },
            target: None,
            found: None,
        }
    }

    fn run(mut self) -> Self {
        if let Some(defect) = self.tree.root_defect() {
            self.fault(Place::Root, defect);
            self.missing(Missing::ANY);
        } else if let Some(top) = self.tree.top() {
            self.enter(Place::Root, self.tree.root, top, Span::ALL);
        }
        while let Some(frame) = self.stack.last_mut() {
            if let Some(entry) = frame.entries.get(frame.next) {
                let span = frame.span_below(frame.next, entry);
                let via = RecordPlace { node: frame.at, index: frame.next };
                frame.next += 1;
                frame.doubts = self.doubts;
                let level = frame.at.level.saturating_sub(1);
                self.enter(via.into(), entry.child.get(), level, span);
            } else {
                let high = frame.high;
                self.stack.pop();
                self.leave(high);
            }
        }
        for (_, fault) in self.overruns.drain(..) {
            self.visitor.fault(fault);
        }
        self
    }

    fn fault(&mut self, at: impl Into<Place>, what: Defect) {
        self.doubts += 1;
        self.visitor.fault(TreeFault { at: at.into(), what });
    }

    fn missing(&mut self, missing: Missing) {
        self.visitor.missing(&missing);
        self.walked.complete = false;
        self.neighbour = None;
    }

    /// Goes down to a node by the pointer at `via`: all of it when it is a leaf.
    fn enter(&mut self, via: Place, block: u64, level: u32, span: Span) {
        let at = NodePlace { block, level, ordinal: self.next_ordinal(level) };
        if let Some((level, ordinal)) = self.target
            && at.level <= level
        {
            if (at.level, at.ordinal) == (level, ordinal) {
                self.found = Some(block);
                self.stack.clear();
            }
            return;
        }
        let node = match self.open(at, span) {
            Ok(node) => node,
            Err(defect) => {
                let is_stranger = matches!(defect, Defect::FirstKey { .. });
                self.settle_overrun(span, !is_stranger);
                match defect {
                    // One entry there twice is out of order, and has been found so. Its records are known.
                    Defect::Twice if !span.exact => {
                        self.walked.complete = false;
                        self.neighbour = None;
                        return;
                    }
                    Defect::Node(NodeFault::Medium(_)) => self.fault(via, Defect::Nowhere { block, level }),
                    defect => self.fault(at, defect),
                }
                let below = match is_stranger {
                    // Its entry may be what is wrong.
                    true => Missing {
                        low: self.last.unwrap_or(Key::MIN),
                        high: self.stack.last().map_or(u64::MAX, |frame| frame.span.below.high),
                        ..span.below
                    },
                    false => span.below,
                };
                return self.missing(below);
            }
        };
        self.walked.nodes += 1;
        self.visitor.node(&at, node);
        match node.branches() {
            Some(entries) => self.branch(at, entries, span),
            None => self.leaf(at, node.records().unwrap_or_default(), span),
        }
    }

    /// Reads a node that is to be walked: sound by itself, in the right place, and for the first time.
    fn open(&mut self, at: NodePlace, span: Span) -> Result<&'b Node, Defect> {
        let node = self.tree.node(self.blocks, at.block, at.level)?;
        let stranger = match node.branches() {
            Some(entries) => span.stranger(entries.iter().map(Branch::key)),
            None => span.stranger(node.records::<R>().unwrap_or_default().iter().map(R::key)),
        };
        // Not noted as seen: its own parent is still to come, or has been.
        if let Some(found) = stranger {
            return Err(Defect::FirstKey { found, expected: span.below.low });
        }
        if at.level > 0 && !self.seen.insert(at.block) {
            return Err(Defect::Twice);
        }
        Ok(node)
    }

    fn next_ordinal(&mut self, level: u32) -> u64 {
        let counter = usize::try_from(level).ok().and_then(|level| self.ordinals.get_mut(level));
        counter.map_or(0, |counter| core::mem::replace(counter, *counter + 1))
    }

    fn branch(&mut self, at: NodePlace, entries: &'b [Branch], span: Span) {
        let mut disputed = Marks::default();
        // What is in doubt must depend on branch nodes alone, for `locate` to count the same without the leaves.
        if !self.in_line(entries.iter().map(Branch::key), span, None) {
            let keys: Vec<Key> = entries.iter().map(Branch::key).collect();
            self.blame(at, &keys, span, None, &mut disputed);
        }
        self.stack.push(Frame { at, entries, disputed, span, next: 0, high: 0, doubts: self.doubts });
    }

    /// Done with all below an entry of the top frame, whose records end at `high`.
    fn leave(&mut self, high: u64) {
        let Some(frame) = self.stack.last_mut() else { return };
        frame.high = frame.high.max(high);
        let index = frame.next.saturating_sub(1);
        let found = frame.entries.get(index).map_or(high, |entry| entry.high.get());
        if found != high && frame.doubts == self.doubts && !frame.disputed.contains(index) {
            let at = RecordPlace { node: frame.at, index };
            self.fault(at, Defect::High { found, expected: high });
            self.neighbour = None;
        }
    }

    /// A leaf. Nearly all are sound, and a few plain passes find them so.
    fn leaf(&mut self, at: NodePlace, records: &[R], span: Span) {
        self.walked.records =
            self.walked.records.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        let neighbours = self.neighbour.iter().zip(records.first());
        let mut pairs = neighbours.chain(records.iter().zip(records.iter().skip(1)));
        let sound = pairs.all(|(one, next)| self.tree.pair(one, next).is_none())
            && records.iter().all(|record| record.check(&self.tree.space).is_ok());
        // Not the other way round: what is in line settles an overrun of the node before, sound or not.
        let sound = self.in_line(records.iter().map(R::key), span, self.last) && sound;
        let doubtful = if sound { Marks::default() } else { self.doubtful(at, records, span) };
        let (mut high, mut last) = (0, None);
        for (index, record) in records.iter().enumerate() {
            let at = RecordPlace { node: at, index };
            if !sound && doubtful.contains(index) {
                self.walked.complete = false;
                self.visitor.doubtful(&at, record);
            } else {
                high = high.max(record.end());
                last = Some(record);
                self.visitor.record(&at, record);
            }
        }
        if let Some(last) = last {
            self.last = Some(last.key());
            self.neighbour = Some(*last);
        }
        self.leave(high);
    }

    /// Whether the keys of a node ascend, fit its span and come after those handed over.
    fn in_line(&mut self, mut keys: impl Iterator<Item = Key>, span: Span, after: Option<Key>) -> bool {
        let Some(first) = keys.next() else { return true };
        let Missing { low, bound, .. } = span.below;
        self.settle_overrun(span, first == low);
        let fits = if span.exact { first == low } else { first >= low };
        let mut last = first;
        let ascending = keys.all(|key| core::mem::replace(&mut last, key) < key);
        fits && Some(first) > after && ascending && last < bound
    }

    /// Tells of the keys that reach past their node's span, once the node is met that begins where the span ends. When
    /// that node itself `agrees` with its parent, or cannot be asked, the keys are wrong; else the parent is, which is
    /// found of the node.
    fn settle_overrun(&mut self, span: Span, agrees: bool) {
        if let Some(settled) =
            self.overruns.iter().position(|(bound, _)| span.exact && *bound == span.below.low)
        {
            let (_, fault) = self.overruns.swap_remove(settled);
            if agrees {
                self.visitor.fault(fault);
            }
        }
    }

    /// Marks and tells which keys of a node do not fit. Those marked already are left out.
    fn blame(&mut self, node: NodePlace, keys: &[Key], span: Span, after: Option<Key>, marks: &mut Marks) {
        let Missing { low, bound, .. } = span.below;
        let mut misplaced = false;
        if let Some(&found) = keys.first()
            && span.exact
            && found != low
            && !marks.contains(0)
        {
            self.fault(node, Defect::FirstKey { found, expected: low });
            marks.insert(0);
            misplaced = true;
        }
        // Keys outside of the span are no news when the node, or its entry, has been found wrong already.
        let known = misplaced || !span.exact;
        let unmarked = |index: &usize| !marks.contains(*index);
        let mut line: Vec<(usize, Key)> =
            keys.iter().copied().enumerate().filter(|(index, _)| unmarked(index)).collect();
        if !known {
            let fits = line.iter().rposition(|(_, key)| *key < bound).map_or(0, |last| last + 1);
            let over = line.split_off(fits);
            if let Some(&(index, key)) = over.first() {
                let at = RecordPlace { node, index }.into();
                // Of a branch node and what is below it, the branch node tells.
                if self.overruns.iter().all(|(other, _)| *other != bound) {
                    self.overruns.push((bound, TreeFault { at, what: Defect::Order(key) }));
                }
                self.doubts += 1;
            }
            over.iter().for_each(|(index, _)| marks.insert(*index));
        }
        let fits = |key: Key| span.below.has(key) && Some(key) > after;
        let (fitting, mut wrong): (Vec<_>, Vec<_>) = line.into_iter().partition(|(_, key)| fits(*key));
        wrong.iter().for_each(|(index, _)| marks.insert(*index));
        if known {
            wrong.clear();
        }
        let sure = beyond_doubt(&fitting.iter().map(|(_, key)| *key).collect::<Vec<_>>());
        let in_doubt = fitting.into_iter().zip(sure).filter(|(_, sure)| !sure).map(|(key, _)| key);
        wrong.extend(in_doubt.inspect(|(index, _)| marks.insert(*index)));
        wrong.sort_unstable_by_key(|(index, _)| *index);
        // Several in a row are one finding.
        let mut row_ends = usize::MAX;
        for (index, key) in wrong {
            if index != row_ends {
                self.fault(RecordPlace { node, index }, Defect::Order(key));
            }
            row_ends = index + 1;
        }
    }

    /// Tells what is wrong in a leaf, and marks the records that are.
    fn doubtful(&mut self, node: NodePlace, records: &[R], span: Span) -> Marks {
        let mut marks = Marks::default();
        for (index, record) in records.iter().enumerate() {
            if let Err(fault) = record.check(&self.tree.space) {
                self.fault(RecordPlace { node, index }, fault.into());
                marks.insert(index);
            }
        }
        let keys: Vec<Key> = records.iter().map(R::key).collect();
        self.blame(node, &keys, span, self.last, &mut marks);

        let line: Vec<_> = records.iter().enumerate().filter(|(index, _)| !marks.contains(*index)).collect();
        let mut before = self.neighbour.map(|record| (None, record));
        for (position, &(index, record)) in line.iter().enumerate() {
            let Some((before_index, one)) = before.replace((Some(index), *record)) else { continue };
            let Some(defect) = self.tree.pair(&one, record) else { continue };
            let mut wrong = index;
            if matches!(defect, Defect::Overlap { .. }) {
                // One that reaches over two others is wrong, not they; if it can still be held back.
                let after = line.get(position + 1).map_or(span.below.bound, |(_, after)| after.key());
                let reaches_on = after.start < one.end();
                wrong = before_index.filter(|_| reaches_on).unwrap_or(index);
                marks.insert(wrong);
            }
            self.fault(RecordPlace { node, index: wrong }, defect);
        }
        marks
    }
}
