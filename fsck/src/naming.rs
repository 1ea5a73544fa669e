//! The differences of extents and reverse map, free space, refcounts and roles, named: only asked when a proof failed.
//!
//! Extents and reverse map tell the same twice. Where they disagree, free space and refcounts decide which of them is
//! right: they are compared with what the reverse map would be if it were right, and if the extent were. Only what
//! remains then is told of free space and refcounts, so that one wrong record is one finding.

use crate::context::{Check, Env, locked};
use crate::differences::{Side, Take, differences};
use crate::extents::ExtentItem;
use crate::finding::Finding;
use crate::inodes::{JOB_CHUNKS, Scan};
use crate::judge::{Held, Pair, inside, is_role, judge, patch, silence};
use crate::multiset::Key;
use crate::observe::{ExtentPlace, Link, Observer};
use crate::pool::Pool;
use crate::problem::Problem;
use crate::space::expected_roles;
use crate::space_naming::name_group;
use crate::trees::{Blamed, Item, TreeName, record_path, walk};
use core::ops::Range;
use paxfs_format::cluster::Cluster;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::GroupTree;
use paxfs_format::rmap::{Owner, Rmap};
use std::collections::HashSet;

/// Hands extents on, and nothing else.
struct Extents<'t> {
    take: Take<'t, Held>,
    key: Key,
}

impl Observer for Extents<'_> {
    fn extent(&mut self, key: Key, item: ExtentItem, place: ExtentPlace) {
        (self.take)(Side::Left, key.hash(&item), Held { item, place, doubtful: false });
    }
    fn doubtful_extent(&mut self, item: ExtentItem, place: ExtentPlace) {
        (self.take)(Side::Left, self.key.hash(&item), Held { item, place, doubtful: true });
    }
    fn entry(&mut self, _key: Key, _link: &Link<'_>) {}
    fn pointer(&mut self, _key: Key, _link: &Link<'_>) {}
}

/// Scans all inodes again for an observer, without marks and without findings.
pub(crate) fn rescan<'c, O: Observer + Send>(
    check: &'c Check<'c>,
    pool: &Pool<'_>,
    observer: impl Fn() -> O + Sync,
) {
    let jobs = jobs(check);
    let scan = || Scan::new(Env::new(check, false), observer());
    pool.run(
        jobs.len(),
        scan,
        |scan, job| {
            if let Some((group, from, to)) = jobs.get(job)
                && let Some(group) = check.group(*group)
            {
                scan.chunks(group, *from, *to);
            }
            scan.env.findings.clear();
            Vec::new()
        },
        &mut |_, _| (),
    );
    let large = locked(&check.large).clone();
    for number in large {
        crate::directories::large(check, pool, number, &scan, &mut |_, _| ());
    }
}

/// The chunks of all groups, cut into jobs: group, first chunk, one past the last.
pub(crate) fn jobs(check: &Check<'_>) -> Vec<(u32, usize, usize)> {
    let mut jobs = Vec::new();
    for group in &check.groups {
        let chunks = group.index.get().map_or(0, |index| index.chunks.len());
        let starts = (0..chunks).step_by(JOB_CHUNKS);
        jobs.extend(starts.map(|from| (group.number, from, chunks.min(from.saturating_add(JOB_CHUNKS)))));
    }
    jobs
}

/// Walks the reverse maps of all groups.
fn reverse_maps<'c>(check: &'c Check<'c>, take: Take<'_, Held>) {
    for group in &check.groups {
        let Some(header) = group.header else { continue };
        let start = check.volume.geometry.group_start(group.number);
        let name = TreeName::Group(GroupTree::Rmap, group.number);
        let mut env = Env::new(check, false);
        walk::<Rmap>(&mut env, name, header.root(GroupTree::Rmap), |_, item| {
            let (at, record, doubtful) = match item {
                Item::Sound(at, record) => (at, record, false),
                Item::Doubtful(at, record) => (at, record, true),
                Item::Lost(_) => return,
            };
            let item = ExtentItem::of_rmap(record, start);
            take(Side::Right, check.key.hash(&item), Held { item, place: ExtentPlace::of(&at), doubtful });
        });
    }
}

/// The runs of metadata that follow from the geometry and the clusters.
fn roles<'c>(check: &'c Check<'c>, take: Take<'_, Held>) {
    for group in check.groups.iter().filter(|group| group.header.is_some()) {
        let start = check.volume.geometry.group_start(group.number);
        for role in expected_roles(check, group) {
            let item = ExtentItem::of_role(&role, start);
            let place = ExtentPlace { leaf: 0, index: 0 };
            take(Side::Left, check.key.hash(&item), Held { item, place, doubtful: false });
        }
    }
}

/// Names everything that is wrong with space. `unchecked` is told what could not be.
pub(crate) fn space<'c>(check: &'c Check<'c>, pool: &Pool<'_>, unchecked: &mut Vec<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut pairs = Vec::new();
    let proofs = *locked(&check.proofs);
    let roles_differ = check.groups.iter().any(|group| {
        let proof = locked(&group.space);
        proof.roles_found != proof.roles_expected
    });
    if check.rmap() && (proofs.extents != proofs.rmap || roles_differ) {
        let found = differences(|take: Take<'_, Held>| {
            rescan(check, pool, || Extents { take, key: check.key });
            roles(check, take);
            reverse_maps(check, take);
        });
        if found.cut {
            unchecked.push("not all differences of extents and reverse map are listed".to_owned());
        }
        let (cut, left, right) = uncut(check, found.left, found.right);
        pairs = pair(left, right);
        silence(check, &mut pairs);
        findings.extend(cut.iter().filter_map(|held| mergeable(check, held)));
        judge(check, &mut pairs);
        findings.extend(pairs.iter().filter(|pair| !pair.silent).filter_map(|pair| told(check, pair)));
    }
    let patch = patch(check, &pairs, |pair| pair.blame_rmap);
    let mut blamed = blamed(check, &pairs);
    for group in &check.groups {
        let clusters = pairs.iter().filter(|pair| pair.blame_clusters).filter_map(|pair| pair.rmap);
        let clusters: Vec<Range<u64>> =
            clusters.filter_map(|held| inside(check, group, &held.item)).collect();
        findings.extend(name_group(check, group, &patch, &clusters, &mut blamed, unchecked));
    }
    let mut late = core::mem::take(&mut *locked(&check.late));
    late.retain(|late| !late.follows(&blamed));
    late.sort_by(|one, other| one.finding.at.cmp(&other.finding.at));
    findings.extend(late.into_iter().map(|late| late.finding));
    findings.extend(blocks(check, &pairs));
    findings
}

/// The records that the pairs blame.
fn blamed(check: &Check<'_>, pairs: &[Pair]) -> Vec<Blamed> {
    let mut blamed = Vec::new();
    // What is wrong by itself has been told, and explains nothing else.
    for pair in pairs.iter().filter(|pair| !pair.silent) {
        for group in check.groups.iter().filter(|_| pair.blame_rmap) {
            let range = |held: &Option<Held>| held.and_then(|held| inside(check, group, &held.item));
            let (Some(wrong), right) = (range(&pair.rmap), range(&pair.file)) else { continue };
            let tree = TreeName::Group(GroupTree::Rmap, group.number);
            blamed.push(Blamed { tree, right: right.unwrap_or(wrong.clone()), wrong });
        }
        if let Some(file) = pair.file.filter(|_| !pair.blame_rmap) {
            let range = |item: &ExtentItem| item.offset..item.offset.saturating_add(item.length.into());
            let wrong = range(&file.item);
            let right = pair.rmap.map_or(wrong.clone(), |rmap| range(&rmap.item));
            blamed.push(Blamed { tree: TreeName::Extents(file.item.inode), wrong, right });
        }
    }
    blamed
}

/// Numbers of blocks that are wrong: told unless an extent of the inode is, which is told then.
fn blocks(check: &Check<'_>, pairs: &[Pair]) -> Vec<Finding> {
    let mut doubts = core::mem::take(&mut *locked(&check.blocks));
    doubts.sort_unstable();
    let explained = |inode: u64| {
        let of = |held: &Option<Held>| held.is_some_and(|held| held.item.inode == inode);
        pairs.iter().any(|pair| !pair.silent && !pair.blame_rmap && (of(&pair.file) || of(&pair.rmap)))
    };
    let told = |&(inode, found, expected): &(u64, u64, u64)| {
        let problem = Problem::InodeBlocks { inode, found, expected };
        (!explained(inode)).then(|| Finding::new(format!("inode[{inode}].blocks"), problem).of_file(inode))
    };
    doubts.iter().filter_map(told).collect()
}

/// Takes away what is the same on both sides but for how it is cut into records. That it is cut is another finding, and
/// these are the records of the reverse map that should be one with another.
fn uncut(check: &Check<'_>, left: Vec<Held>, right: Vec<Held>) -> (Vec<Held>, Vec<Held>, Vec<Held>) {
    let (left, right) = (joined(check, left), joined(check, right));
    let whole =
        |side: &[Vec<Held>]| -> HashSet<ExtentItem> { side.iter().filter_map(|row| one_of(row)).collect() };
    let (of_left, of_right) = (whole(&left), whole(&right));
    let is_same =
        |row: &[Held], others: &HashSet<ExtentItem>| one_of(row).is_some_and(|item| others.contains(&item));
    let cut = right
        .iter()
        .filter(|row| is_same(row, &of_left))
        .flat_map(|row| row.iter().skip(1).copied())
        .collect();
    let rest = |side: Vec<Vec<Held>>, others: &HashSet<ExtentItem>| -> Vec<Held> {
        side.into_iter().filter(|row| !is_same(row, others)).flatten().collect()
    };
    (cut, rest(left, &of_right), rest(right, &of_left))
}

/// Records in rows, each of which could be one record.
fn joined(check: &Check<'_>, mut list: Vec<Held>) -> Vec<Vec<Held>> {
    list.sort_unstable_by_key(|held| (held.item.inode, held.item.offset, held.item.start));
    let mut rows: Vec<Vec<Held>> = Vec::new();
    let group = |item: &ExtentItem| check.volume.geometry.locate(item.start).map(|place| place.group);
    let goes_on = |one: &Held, next: &Held| {
        let is_data = Owner::new(one.item.inode).is_inode();
        let offset = if is_data { one.item.offset.saturating_add(one.item.length.into()) } else { 0 };
        let alike = (one.item.inode, one.item.flags) == (next.item.inode, next.item.flags);
        alike
            && !one.doubtful
            && !next.doubtful
            && (offset, one.item.end()) == (next.item.offset, next.item.start)
            && group(&one.item) == group(&next.item)
    };
    for held in list {
        match rows.last_mut() {
            Some(row) if row.last().is_some_and(|last| goes_on(last, &held)) => row.push(held),
            _ => rows.push(vec![held]),
        }
    }
    rows
}

/// The record that a row could be.
fn one_of(row: &[Held]) -> Option<ExtentItem> {
    let (first, last) = (row.first()?, row.last()?);
    let length = u32::try_from(last.item.end().checked_sub(first.item.start)?).ok()?;
    Some(ExtentItem { length, ..first.item })
}

/// A record of the reverse map that should be one with another: told unless a walk met them side by side.
fn mergeable(check: &Check<'_>, held: &Held) -> Option<Finding> {
    let at = rmap_path(check, held);
    let is_told = locked(&check.late).iter().any(|late| late.finding.at == at);
    let fault = "should be one with another before it".to_owned();
    (!is_told).then(|| Finding::new(at, Problem::RecordMergeable { fault }))
}

/// The path of a record of the reverse map.
fn rmap_path(check: &Check<'_>, held: &Held) -> String {
    let group = check.volume.geometry.locate(held.item.start).map_or(0, |place| place.group);
    let ExtentPlace { leaf, index } = held.place;
    format!("rmap[{group}].leaf[{leaf}].rec[{index}]")
}

/// Puts records together that mean the same extent.
fn pair(left: Vec<Held>, right: Vec<Held>) -> Vec<Pair> {
    let mut left: Vec<Option<Held>> = left.into_iter().map(Some).collect();
    let mut right: Vec<Option<Held>> = right.into_iter().map(Some).collect();
    left.sort_unstable_by_key(|held| held.map(|held| held.item));
    right.sort_unstable_by_key(|held| held.map(|held| held.item));
    let mut pairs = Vec::new();
    // From the closest likeness to the loosest.
    type Likeness = fn(&ExtentItem) -> (u64, u64, u64);
    let likenesses: [Likeness; 6] = [
        |item| (item.inode, item.offset, item.start),
        |item| (item.inode, item.offset, 0),
        |item| (item.inode, item.start, u64::MAX),
        |item| (item.offset, item.start, item.length.into()),
        |item| (item.start, item.length.into(), u64::MAX),
        |item| (item.inode, u64::from(item.length), item.end()),
    ];
    for likeness in likenesses {
        join(&mut left, &mut right, likeness, &mut pairs);
    }
    pairs.extend(left.into_iter().flatten().map(|held| Pair::new(Some(held), None)));
    pairs.extend(right.into_iter().flatten().map(|held| Pair::new(None, Some(held))));
    pairs
}

fn join<K: Ord>(
    left: &mut [Option<Held>],
    right: &mut [Option<Held>],
    likeness: impl Fn(&ExtentItem) -> K,
    pairs: &mut Vec<Pair>,
) {
    let order = |list: &[Option<Held>]| {
        let mut order: Vec<(K, usize)> = list
            .iter()
            .enumerate()
            .filter_map(|(i, held)| Some((likeness(&held.as_ref()?.item), i)))
            .collect();
        order.sort_unstable();
        order.into_iter()
    };
    let (mut one, mut other) = (order(left).peekable(), order(right).peekable());
    while let (Some((a, i)), Some((b, j))) = (one.peek(), other.peek()) {
        match a.cmp(b) {
            core::cmp::Ordering::Less => drop(one.next()),
            core::cmp::Ordering::Greater => drop(other.next()),
            core::cmp::Ordering::Equal => {
                let file = left.get_mut(*i).and_then(Option::take);
                let rmap = right.get_mut(*j).and_then(Option::take);
                pairs.push(Pair::new(file, rmap));
                one.next();
                other.next();
            }
        }
    }
}

fn told(check: &Check<'_>, pair: &Pair) -> Option<Finding> {
    let of_rmap = |held: &Held| rmap_path(check, held);
    let offset = |item: &ExtentItem| item.offset.saturating_mul(BLOCK_BYTES);
    let missing = |item: &ExtentItem| {
        // Where it would have to be: the group's tree as a whole.
        check
            .volume
            .geometry
            .locate(item.start)
            .map_or("rmap[0]".to_owned(), |place| format!("rmap[{}].root", place.group))
    };
    if pair.blame_clusters || is_role(&pair.file) || (is_role(&pair.rmap) && pair.file.is_none()) {
        let shown =
            |held: &Option<Held>| held.map_or("nothing there".to_owned(), |held| held.item.to_string());
        let (found, expected) = (shown(&pair.rmap), shown(&pair.file));
        if pair.blame_clusters {
            let at = wrong_cluster(check, pair);
            return Some(Finding::new(at, Problem::ClusterWrong { found: expected, expected: found }));
        }
        let at = match (&pair.file, &pair.rmap) {
            (Some(file), Some(rmap)) => {
                let field = differing(&file.item, &rmap.item);
                format!("{}.{}", of_rmap(rmap), if field == "inode" { "owner" } else { field })
            }
            (None, Some(rmap)) => of_rmap(rmap),
            (file, None) => file.map_or_else(|| "rmap[0].root".to_owned(), |file| missing(&file.item)),
        };
        return Some(Finding::new(at, Problem::RmapRole { found, expected }));
    }
    Some(match (&pair.file, &pair.rmap, pair.blame_rmap) {
        (Some(file), Some(rmap), blame_rmap) => {
            let (extent, record) = (file.place.of_extent(file.item.inode), of_rmap(rmap));
            let field = differing(&file.item, &rmap.item);
            if blame_rmap {
                let (found, expected) = (rmap.item.to_string(), file.item.to_string());
                let field = if field == "inode" { "owner" } else { field };
                let at = format!("{record}.{field}");
                Finding::new(at, Problem::RmapWrong { found, expected, extent })
            } else {
                let (found, expected) = (file.item.to_string(), rmap.item.to_string());
                let at = if field == "inode" { extent } else { format!("{extent}.{field}") };
                Finding::new(at, Problem::ExtentWrong { found, expected, rmap: record })
            }
            .of_file_at(file.item.inode, offset(&file.item))
        }
        (Some(file), None, blame_rmap) => {
            let ExtentItem { inode, offset: at, start: block, length, .. } = file.item;
            let (blocks, place) = (length.into(), file.place.of_extent(inode));
            if blame_rmap {
                Finding::new(missing(&file.item), Problem::RmapMissing { block, blocks, inode, offset: at })
            } else {
                Finding::new(place, Problem::ExtentExtra { block, blocks, inode, offset: at })
            }
            .of_file_at(inode, offset(&file.item))
        }
        (None, Some(rmap), blame_rmap) => {
            let ExtentItem { inode, offset: at, start: block, length, .. } = rmap.item;
            let blocks = length.into();
            if blame_rmap || !check.is_used(inode) {
                Finding::new(of_rmap(rmap), Problem::RmapExtra { block, blocks, inode, offset: at })
            } else {
                Finding::new(of_rmap(rmap), Problem::ExtentMissing { block, blocks, inode, offset: at })
                    .of_file_at(inode, offset(&rmap.item))
            }
        }
        (None, None, _) => return None,
    })
}

/// The path of the cluster that is in the tree and not where the reverse map has it.
fn wrong_cluster(check: &Check<'_>, pair: &Pair) -> String {
    let at = pair.rmap.or(pair.file).and_then(|held| check.volume.geometry.locate(held.item.start));
    let Some(group) = at.and_then(|place| check.group(place.group)) else {
        return "clusters[0].root".to_owned();
    };
    let range = |held: &Option<Held>| held.and_then(|held| inside(check, group, &held.item)).unwrap_or(0..0);
    let (file, rmap) = (range(&pair.file), range(&pair.rmap));
    let path = record_path::<Cluster>(check, group, GroupTree::Clusters, |cluster| {
        let start = u64::from(cluster.start.get());
        file.contains(&start) && !rmap.contains(&start)
    });
    if path.ends_with("root") { path } else { format!("{path}.start") }
}

/// The first field in which both differ.
fn differing(one: &ExtentItem, other: &ExtentItem) -> &'static str {
    if one.inode != other.inode {
        "inode"
    } else if one.offset != other.offset {
        "offset"
    } else if one.start != other.start {
        "start"
    } else if one.length != other.length {
        "length"
    } else {
        "flags"
    }
}
