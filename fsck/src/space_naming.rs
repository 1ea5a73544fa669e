//! The differences of a group's free space, refcounts and roles, named.

use crate::context::{Check, Env, Group, SpaceProof, locked};
use crate::differences::{Side, Take, differences};
use crate::finding::Finding;
use crate::groups::check_free_count;
use crate::multiset::{Key, Multiset};
use crate::observe::ExtentPlace;
use crate::patch::{Patch, records};
use crate::problem::Problem;
use crate::space::{Run, with_owners};
use crate::sweep::{Sweep, Swept};
use crate::trees::{Blamed, Item, TreeName, walk};
use core::ops::Range;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Owner;
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

/// What must not be, as a sweep meets it.
#[derive(Default)]
struct Alarms {
    crossed: Vec<(Range<u64>, u64)>,
    unwritten: Vec<(Range<u64>, u64, u64)>,
    twice: Vec<(Range<u64>, u64, u64)>,
    free: Multiset,
    free_blocks: u64,
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
        self.free.add(0);
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
        Item::Lost => {}
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
            Item::Lost => {}
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

fn alarms<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch) -> Alarms {
    let mut sweep = Sweep::new(Alarms::default());
    records(check, group, patch, |record| sweep.record(record));
    let mut alarms = sweep.finish(check.volume.geometry.group_len(group.number));
    if check.reflink() {
        alarms.twice.clear();
    }
    alarms
}

/// Blocks of a group where free space or refcounts do not fit a reverse map with that patch: disjoint, ascending.
pub(crate) fn mismatches<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch) -> Vec<Range<u64>> {
    let found = differences(|take: Take<'_, Held>| enumerate(check, group, patch, take));
    let runs = found.left.iter().chain(&found.right);
    let mut ranges: Vec<Range<u64>> = runs.map(|held| held.run.range()).collect();
    let alarms = alarms(check, group, patch);
    ranges.extend(alarms.crossed.into_iter().map(|(range, _)| range));
    ranges.extend(alarms.unwritten.into_iter().map(|(range, ..)| range));
    ranges.extend(alarms.twice.into_iter().map(|(range, ..)| range));
    ranges.sort_unstable_by_key(|range| range.start);
    let mut disjoint: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match disjoint.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => disjoint.push(range),
        }
    }
    disjoint
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
    if !check.rmap() && !check.knows_all_extents() {
        unchecked.push(format!("whether all blocks of group {number} that belong to nobody are free"));
        free_and_claimed(&mut env, group);
        outside(&mut env, group, clusters);
        return env.findings;
    }
    let found = differences(|take: Take<'_, Held>| enumerate(check, group, patch, take));
    if found.cut {
        unchecked.push(format!("not all differences of space in group {number} are listed"));
    }
    let lost = lost_ranges(&mut env, group);
    for which in [Which::Free, Which::Refcount] {
        let of = |list: &[Held]| -> Vec<Held> {
            list.iter().filter(|held| held.which == which).copied().collect()
        };
        let hunks = pair(of(&found.left), of(&found.right));
        let gaps = match which {
            Which::Free => &lost.free,
            Which::Refcount => &lost.refcount,
        };
        let tree = match which {
            Which::Free => GroupTree::Free,
            Which::Refcount => GroupTree::Refcount,
        };
        for hunk in hunks {
            if let (Some(left), right) = hunk
                && !left.doubtful
            {
                let (tree, wrong) = (TreeName::Group(tree, number), left.run.range());
                blamed.push(Blamed {
                    tree,
                    right: right.map_or(wrong.clone(), |right| right.run.range()),
                    wrong,
                });
            }
            let covers =
                |held: &Held| gaps.iter().any(|gap| gap.start <= held.run.end && held.run.start <= gap.end);
            let follows = match hunk {
                (Some(left), _) if left.doubtful => true,
                (None, Some(right)) => covers(&right),
                _ => false,
            };
            if !follows {
                let finding = told(check, group, which, hunk);
                env.findings.extend(finding);
            }
        }
    }
    let alarms = alarms(check, group, patch);
    tell_alarms(&mut env, group, &alarms);
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

/// Without reverse map, and without some of the extents: free blocks that a file claims. Who owns the others is not known.
fn free_and_claimed(env: &mut Env<'_>, group: &Group) {
    let (Some(header), Some(claimed)) = (group.header, group.claimed.get()) else { return };
    let start = env.check.volume.geometry.group_start(group.number);
    let (name, root) = (TreeName::Group(GroupTree::Free, group.number), header.root(GroupTree::Free));
    let mut found = Vec::new();
    let before = env.findings.len();
    walk::<Free>(env, name, root, |_, item| {
        let Item::Sound(at, record) = item else { return };
        let blocks = claimed.claimed(record.key().start..record.end());
        if blocks > 0 {
            let block = start.saturating_add(record.key().start);
            found.push(Finding::new(format!("{name}.{at}"), Problem::FreeOwned { block, blocks }));
        }
    });
    env.findings.truncate(before);
    env.findings.append(&mut found);
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

/// Where records of the group's trees could not be read, by blocks.
#[derive(Debug, Default)]
struct Lost {
    free: Vec<Range<u64>>,
    refcount: Vec<Range<u64>>,
}

fn lost_ranges(env: &mut Env<'_>, group: &Group) -> Lost {
    let mut lost = Lost::default();
    let Some(header) = group.header else { return lost };
    fn of<'c, R: Record>(
        env: &mut Env<'c>,
        name: TreeName,
        root: &paxfs_format::group::TreeRoot,
    ) -> Vec<Range<u64>> {
        let (mut gap, mut list) = (crate::trees::Gap::default(), Vec::new());
        walk::<R>(env, name, root, |_, item| match item {
            Item::Sound(_, record) => list.extend(gap.seen(record.key().start, record.end())),
            Item::Doubtful(..) => {}
            Item::Lost => gap.lost(),
        });
        list.extend(gap.finish());
        list
    }
    let before = env.findings.len();
    let name = |tree| TreeName::Group(tree, group.number);
    lost.free = of::<Free>(env, name(GroupTree::Free), header.root(GroupTree::Free));
    if env.check.reflink() {
        lost.refcount = of::<Refcount>(env, name(GroupTree::Refcount), header.root(GroupTree::Refcount));
    }
    env.findings.truncate(before);
    lost
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

fn told(
    check: &Check<'_>,
    group: &Group,
    which: Which,
    hunk: (Option<Held>, Option<Held>),
) -> Option<Finding> {
    let number = group.number;
    let start = check.volume.geometry.group_start(number);
    let tree = match which {
        Which::Free => GroupTree::Free,
        Which::Refcount => GroupTree::Refcount,
    };
    let name = TreeName::Group(tree, number);
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
            let problem = Problem::FreeOwned { block: block(&left.run), blocks: left.run.blocks() };
            owned(Finding::new(at(&left), problem), &left.run)
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

fn tell_alarms(env: &mut Env<'_>, group: &Group, alarms: &Alarms) {
    let check = env.check;
    let start = check.volume.geometry.group_start(group.number);
    let parts =
        |range: &Range<u64>| (start.saturating_add(range.start), range.end.saturating_sub(range.start));
    let mut found = Vec::new();
    for (range, inode) in &alarms.crossed {
        let (block, blocks) = parts(range);
        let problem = Problem::RmapCrossed { block, blocks, inode: *inode };
        found.push((Finding::new(format!("block[{block}].raw"), problem), range));
    }
    for (range, inode, count) in &alarms.unwritten {
        let (block, blocks) = parts(range);
        let problem = Problem::SharedUnwritten { block, blocks, inode: *inode, count: *count };
        found.push((Finding::new(format!("block[{block}].raw"), problem), range));
    }
    for (range, inode, other) in &alarms.twice {
        let (block, blocks) = parts(range);
        let problem = Problem::DataTwice { block, blocks, inode: *inode, other: *other };
        found.push((Finding::new(format!("block[{block}].raw"), problem), range));
    }
    for (finding, range) in found {
        let finding = with_owners(env, group, range.clone(), finding);
        env.findings.push(finding);
    }
}
