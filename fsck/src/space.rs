//! Pass 2: the space of a group. Each tree is walked once; both sides of each comparison are summed up.

use crate::context::{Check, Env, Group, SpaceProof, locked};
use crate::doubts::Between;
use crate::extents::ExtentItem;
use crate::finding::{AffectedFile, Finding};
use crate::multiset::{Key, Multiset};
use crate::problem::Problem;
use crate::runs::Run;
use crate::sweep::{Sweep, Swept};
use crate::trees::{Item, TreeName, check_counts, tree, walk};
use core::ops::Range;
use paxfs_format::bad::Bad;
use paxfs_format::free::Free;
use paxfs_format::geometry::{BLOCK_BYTES, HEAD_BLOCKS};
use paxfs_format::group::GroupTree;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::tree::Missing;
use std::sync::Mutex;

/// Sums up what a sweep gives.
struct Sums {
    key: Key,
    free: Multiset,
    shared: Multiset,
    roles: Multiset,
    reflink: bool,
    alarm: bool,
}

impl Swept for Sums {
    fn free(&mut self, start: u64, end: u64) {
        self.free.add(self.key.hash(&Run { start, end, what: 0 }));
    }
    fn shared(&mut self, start: u64, end: u64, count: u64) {
        self.shared.add(self.key.hash(&Run { start, end, what: count }));
    }
    fn role(&mut self, start: u64, end: u64, owner: Owner) {
        self.roles.add(self.key.hash(&Run { start, end, what: owner.get() }));
    }
    fn crossed(&mut self, _start: u64, _end: u64, _inode: u64) {
        self.alarm = true;
    }
    fn unwritten(&mut self, _start: u64, _end: u64, _inode: u64, _count: u64) {
        self.alarm = true;
    }
    fn twice(&mut self, _start: u64, _end: u64, _inode: u64, _other: u64) {
        self.alarm |= !self.reflink;
    }
}

/// The runs of metadata that a group must have, in order.
pub(crate) fn expected_roles(check: &Check<'_>, group: &Group) -> Vec<Run> {
    let geometry = &check.volume.geometry;
    let number = group.number;
    let start = geometry.group_start(number);
    let inside = |range: Range<u64>| range.start.saturating_sub(start)..range.end.saturating_sub(start);
    let mut roles = vec![Run { start: 0, end: HEAD_BLOCKS, what: Owner::HEAD.get() }];
    let table = inside(geometry.table(number));
    if !table.is_empty() {
        roles.push(Run { start: table.start, end: table.end, what: Owner::CHECKSUMS.get() });
    }
    if number == 0 {
        let journal = inside(geometry.journal());
        roles.push(Run { start: journal.start, end: journal.end, what: Owner::JOURNAL.get() });
    }
    let clusters = group.index.get().map(|index| index.clusters.as_slice()).unwrap_or_default();
    for cluster in clusters {
        let start = u64::from(cluster.start);
        let end = start.saturating_add(geometry.cluster_blocks);
        match roles.last_mut() {
            Some(last) if last.what == Owner::CLUSTER.get() && last.end == start => last.end = end,
            _ => roles.push(Run { start, end, what: Owner::CLUSTER.get() }),
        }
    }
    roles
}

/// Walks one of a group's trees of space.
pub(crate) fn check(env: &mut Env<'_>, group: &Group, which: GroupTree) {
    match which {
        GroupTree::Free => free(env, group),
        GroupTree::Refcount => refcount(env, group),
        GroupTree::Rmap => rmap(env, group),
        GroupTree::Bad => bad(env, group),
        GroupTree::Inodes | GroupTree::Clusters => {}
    }
}

fn with_proof(group: &Group, change: impl FnOnce(&mut SpaceProof)) {
    change(&mut locked(&group.space));
}

fn note(env: &Env<'_>, list: &Mutex<Vec<Missing>>, missing: Option<Missing>) {
    if let Some(missing) = missing {
        env.note(list, missing);
    }
}

fn free(env: &mut Env<'_>, group: &Group) {
    let Some(header) = group.header else { return };
    let (key, mut sum, mut blocks) = (env.check.key, Multiset::default(), 0u64);
    let mut between = Between::new();
    let (name, root) = (TreeName::Group(GroupTree::Free, group.number), header.root(GroupTree::Free));
    let outcome = walk::<Free>(env, name, root, |env, item| match item {
        Item::Sound(_, record) => {
            note(env, &group.missing.free, between.sound(record));
            sum.add(key.hash(&Run::of(record, 0)));
            blocks = blocks.saturating_add(record.length.get().into());
        }
        Item::Doubtful(..) => between.doubtful(),
        Item::Lost(missing) => env.note(&group.missing.free, missing),
    });
    note(env, &group.missing.free, between.end());
    check_counts(env, name, root, &outcome);
    with_proof(group, |proof| {
        (proof.free_tree, proof.free_blocks) = (sum, blocks);
        proof.free_doubtful = !outcome.walked.complete;
    });
}

fn refcount(env: &mut Env<'_>, group: &Group) {
    let Some(header) = group.header.filter(|_| env.check.reflink()) else { return };
    let (key, mut sum, mut between) = (env.check.key, Multiset::default(), Between::new());
    let (name, root) = (TreeName::Group(GroupTree::Refcount, group.number), header.root(GroupTree::Refcount));
    let outcome = walk::<Refcount>(env, name, root, |env, item| match item {
        Item::Sound(_, record) => {
            note(env, &group.missing.refcount, between.sound(record));
            sum.add(key.hash(&Run::of(record, record.count.get().into())));
        }
        Item::Doubtful(..) => between.doubtful(),
        Item::Lost(missing) => env.note(&group.missing.refcount, missing),
    });
    note(env, &group.missing.refcount, between.end());
    check_counts(env, name, root, &outcome);
    with_proof(group, |proof| proof.refcount_tree = sum);
}

fn rmap(env: &mut Env<'_>, group: &Group) {
    let Some(header) = group.header.filter(|_| env.check.rmap()) else { return };
    let (key, number) = (env.check.key, group.number);
    let start = env.check.volume.geometry.group_start(number);
    let (name, root) = (TreeName::Group(GroupTree::Rmap, number), header.root(GroupTree::Rmap));
    let sums = Sums {
        key,
        free: Multiset::default(),
        shared: Multiset::default(),
        roles: Multiset::default(),
        reflink: env.check.reflink(),
        alarm: false,
    };
    let (mut sweep, mut owned, mut between) = (Sweep::new(sums), Multiset::default(), Between::new());
    let outcome = walk::<Rmap>(env, name, root, |env, item| match item {
        Item::Sound(_, record) => {
            note(env, &group.missing.rmap, between.sound(record));
            if record.owner.is_inode() {
                owned.add(key.hash(&ExtentItem::of_rmap(record, start)));
            }
            sweep.record(record);
        }
        Item::Doubtful(..) => between.doubtful(),
        Item::Lost(missing) => env.note(&group.missing.rmap, missing),
    });
    note(env, &group.missing.rmap, between.end());
    check_counts(env, name, root, &outcome);
    let sums = sweep.finish(env.check.volume.geometry.group_len(number));
    let mut expected = Multiset::default();
    expected_roles(env.check, group).iter().for_each(|role| expected.add(key.hash(role)));
    with_proof(group, |proof| {
        (proof.free_swept, proof.refcount_swept) = (sums.free, sums.shared);
        (proof.roles_found, proof.roles_expected) = (sums.roles, expected);
        proof.alarm |= sums.alarm;
        proof.rmap_doubtful = !outcome.walked.complete;
        proof.rmap_faulty = outcome.faulty;
    });
    locked(&env.check.proofs).rmap.merge(&owned);
}

/// Ranges whose medium has failed, with the files that are hit.
fn bad(env: &mut Env<'_>, group: &Group) {
    let Some(header) = group.header else { return };
    let number = group.number;
    let geometry = env.check.volume.geometry;
    let (name, root) = (TreeName::Group(GroupTree::Bad, number), header.root(GroupTree::Bad));
    let mut found: Vec<(Range<u64>, Finding)> = Vec::new();
    let outcome = walk::<Bad>(env, name, root, |_, item| {
        let Item::Sound(at, record) = item else { return };
        let (block, blocks) =
            (geometry.volume_block(number, record.start.get()), u64::from(record.length.get()));
        let finding = Finding::new(format!("{name}.{at}"), Problem::BadFree { block, blocks });
        found.push((block..block.saturating_add(blocks), finding));
    });
    if env.check.rmap() {
        let base = geometry.group_start(number);
        let named = found.into_iter().map(|(range, finding)| {
            let blocks = range.start.saturating_sub(base)..range.end.saturating_sub(base);
            (range, with_owners(env, group, blocks, finding))
        });
        found = named.collect();
    } else {
        name_owners_by_scan(env, &mut found);
    }
    env.findings.extend(found.into_iter().map(|(range, finding)| match finding.files.first.is_empty() {
        true => finding,
        false => {
            let (block, blocks) = (range.start, range.end.saturating_sub(range.start));
            Finding { problem: Problem::BadOwned { block, blocks }, ..finding }
        }
    }));
    check_counts(env, name, root, &outcome);
}

/// How many owners a finding about blocks names.
const OWNERS_NAMED: usize = 8;
/// How many owners are counted at most.
const OWNERS_COUNTED: usize = 10_000;

/// A finding about blocks of a group, with the files that own them by the reverse map.
pub(crate) fn with_owners(env: &Env<'_>, group: &Group, blocks: Range<u64>, mut finding: Finding) -> Finding {
    let Some(header) = group.header.filter(|_| env.check.rmap()) else { return finding };
    let name = TreeName::Group(GroupTree::Rmap, group.number);
    let rmap = tree::<Rmap>(env.check, name, header.root(GroupTree::Rmap));
    let records = rmap.overlapping(&env.check.volume.blocks, blocks.clone()).flatten().map(|at| at.record);
    let data = records.filter(|record| record.owner.is_inode() && record.check(&rmap.space).is_ok());
    for record in data.take(OWNERS_COUNTED) {
        let skipped = blocks.start.saturating_sub(record.key().start);
        let offset = record.offset.get().saturating_add(skipped).saturating_mul(BLOCK_BYTES);
        name_owner(&mut finding, record.owner.get(), offset);
    }
    finding
}

/// Names the owners of ranges of volume blocks, ascending, on a volume without reverse map: all files are asked, once.
fn name_owners_by_scan(env: &Env<'_>, found: &mut [(Range<u64>, Finding)]) {
    let (Some((first, _)), Some((last, _))) = (found.first(), found.last()) else { return };
    for owned in owners(env.check.volume, first.start..last.end, Source::Files).flatten() {
        let Role::Data(data) = owned.role else { continue };
        let end = owned.start.saturating_add(owned.length);
        let from = found.partition_point(|(range, _)| range.end <= owned.start);
        let hit = found.iter_mut().skip(from).take_while(|(range, _)| range.start < end);
        for (range, finding) in hit {
            let skipped = range.start.saturating_sub(owned.start).saturating_mul(BLOCK_BYTES);
            name_owner(finding, data.inode, data.offset.saturating_add(skipped));
        }
    }
}

/// Adds a file, hit at a byte, to a finding: the first few are named, the others counted.
fn name_owner(finding: &mut Finding, inode: u64, offset: u64) {
    if finding.files.first.len() < OWNERS_NAMED {
        finding.files.first.push(AffectedFile { inode, offset: Some(offset), path: String::new() });
    } else {
        finding.files.more = finding.files.more.saturating_add(1);
    }
}
