//! The differences of a group's free space, refcounts and roles, named.

use crate::alarms::alarms;
use crate::context::{Check, Env, Group, SpaceProof, locked};
use crate::differences::{Differences, Side, Take, differences};
use crate::finding::Finding;
use crate::groups::check_free_count;
use crate::multiset::Key;
use crate::observe::ExtentPlace;
use crate::patch::{Patch, records};
use crate::problem::Problem;
use crate::runs::{Part, Run, parts, union, within, without};
use crate::space::with_owners;
use crate::sweep::{Sweep, Swept};
use crate::trees::{Blamed, Item, TreeName, walk};
use core::ops::Range;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Owner;
use paxfs_format::tree::Missing;
use std::collections::HashMap;

/// What is compared with what the sweep gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Which {
    Free,
    Refcount,
}

/// A run on one side, and where it is.
#[derive(Debug, Clone, Copy)]
struct Held {
    which: Which,
    run: Run,
    place: ExtentPlace,
    doubtful: bool,
}

/// Hands on what a sweep gives.
struct Hand<'t> {
    take: Take<'t, Held>,
    key: Key,
}

impl Hand<'_> {
    fn give(&self, side: Side, held: Held) {
        let salt = match held.which {
            Which::Free => 1u128,
            Which::Refcount => 2,
        };
        // The same run of another kind is another element.
        (self.take)(side, self.key.hash(&held.run).wrapping_mul(salt << 1 | 1), held);
    }

    fn right(&self, which: Which, start: u64, end: u64, what: u64) {
        let place = ExtentPlace { leaf: 0, index: 0 };
        self.give(Side::Right, Held { which, run: Run { start, end, what }, place, doubtful: false });
    }
}

impl Swept for &Hand<'_> {
    fn free(&mut self, start: u64, end: u64) {
        self.right(Which::Free, start, end, 0);
    }
    fn shared(&mut self, start: u64, end: u64, count: u64) {
        self.right(Which::Refcount, start, end, count);
    }
    fn role(&mut self, _start: u64, _end: u64, _owner: Owner) {}
    fn crossed(&mut self, _start: u64, _end: u64, _inode: u64) {}
    fn unwritten(&mut self, _start: u64, _end: u64, _inode: u64, _count: u64) {}
    fn twice(&mut self, _start: u64, _end: u64, _inode: u64, _other: u64) {}
}

/// Enumerates the group's trees on the left, and what they should be on the right.
fn enumerate<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch, take: Take<'_, Held>) {
    let Some(header) = group.header else { return };
    let number = group.number;
    let hand = Hand { take, key: check.key };
    let mut env = Env::new(check, false);
    let left = |which: Which, run: Run, at: &paxfs_format::tree::RecordPlace, doubtful: bool| {
        hand.give(Side::Left, Held { which, run, place: ExtentPlace::of(at), doubtful });
    };
    let name = TreeName::Group(GroupTree::Free, number);
    walk::<Free>(&mut env, name, header.root(GroupTree::Free), |_, item| match item {
        Item::Sound(at, record) => left(Which::Free, Run::of(record, 0), &at, false),
        Item::Doubtful(at, record) => left(Which::Free, Run::of(record, 0), &at, true),
        Item::Lost(_) => {}
    });
    if check.reflink() {
        let name = TreeName::Group(GroupTree::Refcount, number);
        walk::<Refcount>(&mut env, name, header.root(GroupTree::Refcount), |_, item| match item {
            Item::Sound(at, record) => {
                left(Which::Refcount, Run::of(record, record.count.get().into()), &at, false);
            }
            Item::Doubtful(at, record) => {
                left(Which::Refcount, Run::of(record, record.count.get().into()), &at, true);
            }
            Item::Lost(_) => {}
        });
    }
    if !check.rmap() {
        if let Some(claimed) = group.claimed.get() {
            claimed.free(|start, end| hand.right(Which::Free, start, end, 0));
        }
        return;
    }
    let mut sweep = Sweep::new(&hand);
    records(check, group, patch, |record| sweep.record(record));
    sweep.finish(check.volume.geometry.group_len(number));
}

/// Blocks of a group where free space or refcounts do not fit a reverse map with that patch, or where that has what must
/// not be: disjoint, ascending.
pub(crate) fn mismatches<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch) -> Vec<Range<u64>> {
    let found = differences(|take: Take<'_, Held>| enumerate(check, group, patch, take));
    let mut ranges: Vec<Range<u64>> = alarms(check, group, patch).ranges().collect();
    for which in [Which::Free, Which::Refcount] {
        let (left, right) = (which.of(&found.left), which.of(&found.right));
        ranges.extend(which.compare(&left, &right, &Unknown::of(check, group, which)).wrong);
    }
    union(ranges)
}

/// What is not known where a tree is compared with what it should be: disjoint, ascending.
struct Unknown {
    /// Blocks that may be in records of the tree.
    records: Vec<Range<u64>>,
    /// Blocks that may have more owners.
    owners: Vec<Range<u64>>,
}

impl Unknown {
    fn of(check: &Check<'_>, group: &Group, which: Which) -> Self {
        let records = match which {
            Which::Free => &group.missing.free,
            Which::Refcount => &group.missing.refcount,
        };
        let records = locked(records).iter().map(Missing::positions).collect();
        Unknown { records: union(records), owners: union(check.unknown_owners(group)) }
    }
}

/// In which blocks a tree is not what it should be.
struct Compared {
    /// It is wrong: disjoint, ascending.
    wrong: Vec<Range<u64>>,
    /// It may be right, because not all is known: disjoint, ascending.
    excused: Vec<Range<u64>>,
}

impl Which {
    fn tree(self) -> GroupTree {
        match self {
            Which::Free => GroupTree::Free,
            Which::Refcount => GroupTree::Refcount,
        }
    }

    /// The runs of this tree, ascending.
    fn of(self, list: &[Held]) -> Vec<Held> {
        let mut runs: Vec<Held> = list.iter().filter(|held| held.which == self).copied().collect();
        runs.sort_unstable_by_key(|held| held.run);
        runs
    }

    /// Compares block by block: how records are cut is another matter.
    fn compare(self, left: &[Held], right: &[Held], unknown: &Unknown) -> Compared {
        let borders: Vec<Range<u64>> = unknown.records.iter().chain(&unknown.owners).cloned().collect();
        let (mut wrong, mut excused) = (Vec::new(), Vec::new());
        for Part { blocks, left, right } in parts(left, right, |held| held.run, &borders) {
            let what = |held: Option<&Held>| held.map(|held| held.run.what);
            if what(left) == what(right) || left.is_some_and(|held| held.doubtful) {
                continue;
            }
            let is_in = |list: &[Range<u64>]| within(list, &blocks).next().is_some();
            // Owners that are known are a lower bound: there may be more, not fewer.
            let may_have_more = match self {
                Which::Free => left.is_none(),
                Which::Refcount => what(left).unwrap_or(1) > what(right).unwrap_or(1),
            };
            let may_be_right =
                (left.is_none() && is_in(&unknown.records)) || (may_have_more && is_in(&unknown.owners));
            if may_be_right { &mut excused } else { &mut wrong }.push(blocks);
        }
        Compared { wrong: union(wrong), excused: union(excused) }
    }
}

fn is_proven(proof: &SpaceProof, check: &Check<'_>) -> bool {
    let free = proof.free_tree == proof.free_swept;
    let refcount = !check.reflink() || proof.refcount_tree == proof.refcount_swept;
    free && refcount && !proof.alarm
}

/// Names what is wrong with the space of a group.
pub(crate) fn name_group<'c>(
    check: &'c Check<'c>,
    group: &Group,
    patch: &Patch,
    clusters: &[Range<u64>],
    blamed: &mut Vec<Blamed>,
    unchecked: &mut Vec<String>,
) -> Vec<Finding> {
    let number = group.number;
    let mut env = Env::new(check, false);
    let proof = *locked(&group.space);
    if group.header.is_none() {
        unchecked.push(format!("space of group {number}: its header is lost"));
        return Vec::new();
    }
    if is_proven(&proof, check) && (patch.is_empty() || !patch.touches(number)) {
        check_free_count(&mut env, group, None);
        outside(&mut env, group, clusters);
        return env.findings;
    }
    if !check.unknown_owners(group).is_empty() {
        unchecked.push(format!("whether all blocks of group {number} that belong to nobody are free"));
    }
    let found = differences(|take: Take<'_, Held>| enumerate(check, group, patch, take));
    if found.cut {
        unchecked.push(format!("not all differences of space in group {number} are listed"));
    }
    for which in [Which::Free, Which::Refcount] {
        name_tree(&mut env, group, which, &found, blamed);
    }
    let alarms = alarms(check, group, patch);
    alarms.tell(&mut env, group);
    outside(&mut env, group, clusters);
    let swept = match group.claimed.get() {
        Some(claimed) => {
            let mut blocks = 0u64;
            claimed.free(|start, end| blocks = blocks.saturating_add(end.saturating_sub(start)));
            blocks
        }
        None => alarms.free_blocks,
    };
    check_free_count(&mut env, group, Some(swept));
    env.findings
}

/// Names what is wrong with one of the trees.
fn name_tree(
    env: &mut Env<'_>,
    group: &Group,
    which: Which,
    found: &Differences<Held>,
    blamed: &mut Vec<Blamed>,
) {
    let check = env.check;
    let (left, right) = (which.of(&found.left), which.of(&found.right));
    let Compared { wrong, excused } = which.compare(&left, &right, &Unknown::of(check, group, which));
    if wrong.is_empty() {
        return;
    }
    let right = right.iter().flat_map(|held| {
        let known = without(held.run.range(), &excused);
        known.into_iter().map(|Range { start, end }| Held { run: Run { start, end, ..held.run }, ..*held })
    });
    for hunk in pair(left, right.collect()) {
        let is_wrong = |held: Held| within(&wrong, &held.run.range()).next().is_some();
        let doubtful = hunk.0.is_some_and(|left| left.doubtful);
        if doubtful || !(hunk.0.is_some_and(is_wrong) || hunk.1.is_some_and(is_wrong)) {
            continue;
        }
        if let Some(left) = hunk.0 {
            let (tree, wrong) = (TreeName::Group(which.tree(), group.number), left.run.range());
            let right = hunk.1.map_or(wrong.clone(), |right| right.run.range());
            blamed.push(Blamed { tree, right, wrong });
        }
        env.findings.extend(told(check, group, which, hunk, &wrong));
    }
}

/// Metadata blocks in no cluster: told, unless a cluster has been told of that the cluster tree should have there.
fn outside(env: &mut Env<'_>, group: &Group, clusters: &[Range<u64>]) {
    let start = env.check.volume.geometry.group_start(group.number);
    let list = core::mem::take(&mut *locked(&group.outside));
    for (block, at) in list {
        let inside = block.saturating_sub(start);
        if clusters.iter().any(|cluster| cluster.contains(&inside)) {
            continue;
        }
        if locked(&group.lost_chunks).contains(&block) {
            continue;
        }
        if at.is_empty() {
            let start = u32::try_from(inside).unwrap_or(u32::MAX);
            let at = crate::inodes::chunk_path(env.check, group, start);
            env.find(format!("{at}.start"), Problem::ChunkOutside { block });
        } else {
            env.find(at, Problem::BlockOutside { block });
        }
    }
}

/// Puts runs together that mean the same: those that begin, or end, or lie alike, then those of the same length.
fn pair(left: Vec<Held>, right: Vec<Held>) -> Vec<(Option<Held>, Option<Held>)> {
    let mut left: Vec<Option<Held>> = left.into_iter().map(Some).collect();
    let mut right: Vec<Option<Held>> = right.into_iter().map(Some).collect();
    left.sort_unstable_by_key(|held| held.map(|held| held.run));
    right.sort_unstable_by_key(|held| held.map(|held| held.run));
    let mut pairs = Vec::new();
    type Likeness = fn(&Run) -> (u64, u64);
    let alike: [Likeness; 2] = [|run| (run.start, 0), |run| (run.end, 0)];
    for likeness in alike {
        by_key(&mut left, &mut right, likeness, &mut pairs);
    }
    by_overlap(&mut left, &mut right, &mut pairs);
    by_key(&mut left, &mut right, |run| (run.blocks(), run.what), &mut pairs);
    pairs.extend(left.into_iter().flatten().map(|held| (Some(held), None)));
    pairs.extend(right.into_iter().flatten().map(|held| (None, Some(held))));
    pairs.sort_unstable_by_key(|(left, right)| left.or(*right).map(|held| held.run));
    pairs
}

type Pairs = Vec<(Option<Held>, Option<Held>)>;

fn by_key(
    left: &mut [Option<Held>],
    right: &mut [Option<Held>],
    likeness: impl Fn(&Run) -> (u64, u64),
    pairs: &mut Pairs,
) {
    let mut keys: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (i, held) in left.iter().enumerate().rev() {
        if let Some(held) = held {
            keys.entry(likeness(&held.run)).or_default().push(i);
        }
    }
    for slot in right {
        let Some(held) = slot else { continue };
        let partner = keys.get_mut(&likeness(&held.run)).and_then(Vec::pop);
        if let Some(partner) = partner.and_then(|i| left.get_mut(i)).and_then(Option::take) {
            pairs.push((Some(partner), slot.take()));
        }
    }
}

/// Both lists ascend, and each is disjoint, or nearly.
fn by_overlap(left: &mut [Option<Held>], right: &mut [Option<Held>], pairs: &mut Pairs) {
    let mut next = 0;
    for slot in right {
        let Some(held) = *slot else { continue };
        while left.get(next).is_some_and(|one| one.is_none_or(|one| one.run.end <= held.run.start)) {
            next += 1;
        }
        if let Some(partner) = left.get_mut(next)
            && partner.is_some_and(|one| one.run.start < held.run.end)
        {
            pairs.push((partner.take(), slot.take()));
        }
    }
}

/// A hunk, given the blocks in which the tree is wrong.
fn told(
    check: &Check<'_>,
    group: &Group,
    which: Which,
    hunk: (Option<Held>, Option<Held>),
    wrong: &[Range<u64>],
) -> Option<Finding> {
    let number = group.number;
    let start = check.volume.geometry.group_start(number);
    let name = TreeName::Group(which.tree(), number);
    let at = |held: &Held| {
        let ExtentPlace { leaf, index } = held.place;
        format!("{name}.leaf[{leaf}].rec[{index}]")
    };
    let nowhere = format!("{name}.root");
    let block = |run: &Run| start.saturating_add(run.start);
    let env = Env::new(check, false);
    let owned = |finding: Finding, run: &Run| with_owners(&env, group, run.range(), finding);
    Some(match (which, hunk) {
        (Which::Free, (Some(left), Some(right))) => {
            let field = if left.run.start != right.run.start { "start" } else { "length" };
            let problem = Problem::FreeWrong {
                block: block(&left.run),
                blocks: left.run.blocks(),
                expected_block: block(&right.run),
                expected_blocks: right.run.blocks(),
            };
            Finding::new(format!("{}.{field}", at(&left)), problem)
        }
        (Which::Free, (Some(left), None)) => {
            let owned_blocks = within(wrong, &left.run.range()).next()?;
            let run = Run { start: owned_blocks.start, end: owned_blocks.end, what: 0 };
            let problem = Problem::FreeOwned { block: block(&run), blocks: run.blocks() };
            owned(Finding::new(at(&left), problem), &run)
        }
        (Which::Free, (None, Some(right))) => {
            let problem = Problem::FreeMissing { block: block(&right.run), blocks: right.run.blocks() };
            Finding::new(nowhere, problem)
        }
        (Which::Refcount, (Some(left), Some(right))) => {
            let field = if left.run.start != right.run.start {
                "start"
            } else if left.run.end != right.run.end {
                "length"
            } else {
                "count"
            };
            let problem = Problem::RefcountWrong {
                block: block(&left.run),
                blocks: left.run.blocks(),
                count: left.run.what,
                expected_block: block(&right.run),
                expected_blocks: right.run.blocks(),
                expected_count: right.run.what,
            };
            owned(Finding::new(format!("{}.{field}", at(&left)), problem), &right.run)
        }
        (Which::Refcount, (Some(left), None)) => {
            let (blocks, count) = (left.run.blocks(), left.run.what);
            let problem = Problem::RefcountExtra { block: block(&left.run), blocks, count };
            owned(Finding::new(at(&left), problem), &left.run)
        }
        (Which::Refcount, (None, Some(right))) => {
            let (blocks, count) = (right.run.blocks(), right.run.what);
            let problem = Problem::RefcountMissing { block: block(&right.run), blocks, count };
            owned(Finding::new(nowhere, problem), &right.run)
        }
        (_, (None, None)) => return None,
    })
}
