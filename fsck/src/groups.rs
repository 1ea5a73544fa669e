//! Pass 1: group headers and their copies. Pass 2: the indexes of clusters and inodes. The end: counters.

use crate::context::{
    Check, ChunkState, ClusterState, Detour, Env, Group, HeaderView, Index, Marked, locked,
};
use crate::finding::Finding;
use crate::problem::Problem;
use crate::structures::structure_field;
use crate::trees::{Item, TreeName, check_counts, other_height, walk};
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, Chunk};
use paxfs_format::cluster::Cluster;
use paxfs_format::declare::OnDisk;
use paxfs_format::field::diff::{Difference, diff};
use paxfs_format::group::{GroupHeader, GroupTree, TreeRoot};
use paxfs_format::header::{Expected, Header};
use paxfs_format::image::Image;
use paxfs_format::superblock::ReadOnlyCompatible;
use paxfs_format::volume::{StructureFault, Volume};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use zerocopy::IntoBytes;

/// A field in which a group's header and its copy differ: told unless the header's turns out to be wrong.
#[derive(Debug, Clone)]
pub(crate) struct Dispute {
    pub group: u32,
    pub difference: Difference,
}

/// Reads the headers of all groups. What header and copy disagree about comes back for later.
pub(crate) fn open(
    volume: &Volume<Image<'_>>,
    newest: u64,
    findings: &mut Vec<Finding>,
) -> (Vec<Group>, Vec<Dispute>) {
    let (mut groups, mut disputes) = (Vec::new(), Vec::new());
    for number in volume.geometry.group_numbers() {
        if volume.geometry.group_start(number) >= volume.blocks.blocks() {
            // The device ends before; that has been reported.
            break;
        }
        let header = header(volume, number, findings, &mut disputes);
        if let Ok(group) = volume.group(number)
            && !(1..=newest).contains(&group.header.generation.get())
        {
            let found = group.header.generation.get();
            let at = format!("group[{number}].header.generation");
            findings.push(Finding::new(at, Problem::Generation { found, newest }));
        }
        groups.push(Group::new(number, header));
    }
    (groups, disputes)
}

impl Group {
    pub fn new(number: u32, header: Option<HeaderView>) -> Self {
        Group {
            number,
            header,
            index: Default::default(),
            space: Default::default(),
            missing: Default::default(),
            claimed: Default::default(),
            summed: Default::default(),
            hidden: Default::default(),
            lost_chunks: Default::default(),
            outside: Default::default(),
        }
    }
}

/// The field of a header that a fault is about; a copy's place lies in another group.
fn faulty(name: &str, group: u32, fault: &StructureFault) -> String {
    format!("{name}[{group}]{}", structure_field(fault))
}

fn header(
    volume: &Volume<Image<'_>>,
    group: u32,
    findings: &mut Vec<Finding>,
    disputes: &mut Vec<Dispute>,
) -> Option<HeaderView> {
    let mut view = either_header(volume, group, findings, disputes)?;
    heights(volume, group, &mut view, findings);
    Some(view)
}

fn either_header(
    volume: &Volume<Image<'_>>,
    group: u32,
    findings: &mut Vec<Finding>,
    disputes: &mut Vec<Dispute>,
) -> Option<HeaderView> {
    let copy_missing = volume.geometry.group_copy(group) >= volume.blocks.blocks();
    match (volume.group(group), volume.group_copy(group)) {
        (Ok(header), Ok(copy)) => {
            constants(volume, group, "group", header, findings);
            let mut view = HeaderView::of(header);
            compare(volume, group, header, copy, disputes, findings);
            roots(volume, group, &mut view, copy, findings);
            Some(view)
        }
        (Ok(header), Err(fault)) => {
            if !copy_missing {
                let problem = Problem::GroupCopyDamaged { group, fault: fault.to_string() };
                findings.push(Finding::new(faulty("group_copy", group, &fault), problem));
            }
            constants(volume, group, "group", header, findings);
            Some(HeaderView::of(header))
        }
        (Err(fault), Ok(copy)) => {
            let problem = Problem::GroupDamaged { group, fault: fault.to_string() };
            findings.push(Finding::new(faulty("group", group, &fault), problem));
            constants(volume, group, "group_copy", copy, findings);
            Some(HeaderView::of(copy))
        }
        (Err(fault), Err(copy_fault)) => {
            let (fault, copy_fault) = (fault.to_string(), copy_fault.to_string());
            let problem = Problem::GroupLost { group, fault, copy_fault };
            findings.push(Finding::new(format!("group[{group}]"), problem));
            None
        }
    }
}

/// Fields of a header that follow from the geometry or are zero.
fn constants(
    volume: &Volume<Image<'_>>,
    group: u32,
    name: &str,
    header: &GroupHeader,
    findings: &mut Vec<Finding>,
) {
    let geometry = &volume.geometry;
    let fields = [
        ("group", u64::from(header.group.get()), u64::from(group)),
        ("start", header.start.get(), geometry.group_start(group)),
        ("blocks", header.blocks.get(), geometry.group_len(group)),
        ("header.level", header.header.level.get().into(), 0),
        ("header.count", header.header.count.get().into(), 0),
    ];
    let mut report = |field: &str, found: String, expected: String| {
        let problem = Problem::GroupField { field: field.to_owned(), found, expected };
        findings.push(Finding::new(format!("{name}[{group}].{field}"), problem));
    };
    for (field, found, expected) in fields {
        if found != expected {
            report(field, found.to_string(), expected.to_string());
        }
    }
    if let Some(field) = GroupHeader::LAYOUT.reserved_not_zero(header.as_bytes()) {
        report(&field, "not zero".to_owned(), "zero".to_owned());
    }
}

fn compare(
    volume: &Volume<Image<'_>>,
    group: u32,
    header: &GroupHeader,
    copy: &GroupHeader,
    disputes: &mut Vec<Dispute>,
    findings: &mut Vec<Finding>,
) {
    let (theirs, ours) = (copy.header.generation.get(), header.header.generation.get());
    if theirs > ours && ours > 0 {
        let at = format!("group_copy[{group}].header.generation");
        findings.push(Finding::new(at, Problem::GroupCopyNewer { group, found: theirs, expected: ours }));
    } else if volume.superblock.is_clean() {
        let mut differences = diff(&GroupHeader::LAYOUT, copy.as_bytes(), header.as_bytes());
        differences.retain(|one| one.path != "header.place" && one.path != "header.crc");
        disputes.extend(differences.into_iter().map(|difference| Dispute { group, difference }));
    }
}

/// Takes a root from the copy where the header's leads nowhere and the copy's does.
fn roots(
    volume: &Volume<Image<'_>>,
    group: u32,
    view: &mut HeaderView,
    copy: &GroupHeader,
    findings: &mut Vec<Finding>,
) {
    for tree in GroupTree::ALL {
        let (mine, theirs) = (*view.root(tree), *copy.root(tree));
        if mine.block == theirs.block {
            continue;
        }
        if fitness(volume, group, tree, &theirs) > fitness(volume, group, tree, &mine) {
            let (found, expected) = (mine.block.get(), theirs.block.get());
            let at = format!("{}.root.block", TreeName::Group(tree, group));
            findings.push(Finding::new(at, Problem::TreeRootWrong { found, expected }));
            view.set_root(tree, TreeRoot { block: theirs.block, ..mine });
        }
    }
}

/// Gives roots the height that their nodes have, so that a wrong height is one finding and the tree is read all the same.
fn heights(volume: &Volume<Image<'_>>, group: u32, view: &mut HeaderView, findings: &mut Vec<Finding>) {
    for tree in GroupTree::ALL {
        let root = *view.root(tree);
        if let Some(height) = other_height(volume, tree.kind(), group.into(), &root) {
            let at = format!("{}.root.height", TreeName::Group(tree, group));
            let problem = Problem::TreeHeight { found: root.height.get().into(), expected: height.into() };
            findings.push(Finding::new(at, problem));
            view.set_root(tree, TreeRoot { height: height.into(), ..root });
        }
    }
}

/// Trees of groups that are not read from where their roots lead.
pub(crate) fn detours(volume: &Volume<Image<'_>>, groups: &[Group]) -> Vec<Detour> {
    let mut detours = Vec::new();
    for group in groups {
        let number = group.number;
        let stored = volume.group(number).or_else(|_| volume.group_copy(number));
        let (Some(header), Ok(stored)) = (group.header, stored) else { continue };
        for tree in GroupTree::ALL {
            let (read, stored) = (header.root(tree), stored.root(tree));
            let field = match (read.block == stored.block, read.height == stored.height) {
                (false, _) => "block",
                (true, false) => "height",
                (true, true) => continue,
            };
            let prefix = format!("{}.", TreeName::Group(tree, number));
            detours.push(Detour { prefix, root: format!("group[{number}].{}.{field}", tree.name()) });
        }
    }
    detours
}

/// How well a root fits what it leads to: not at all, to a node of the tree, to one of the right level.
fn fitness(volume: &Volume<Image<'_>>, group: u32, tree: GroupTree, root: &TreeRoot) -> u8 {
    let place = root.block.get();
    if place == 0 {
        return if *root == TreeRoot::zeroed() { 2 } else { 0 };
    }
    let node = volume.structure(Expected { kind: tree.kind(), place, owner: group.into() });
    match node.ok().and_then(|bytes| Header::of(bytes)) {
        Some(header) if u32::from(header.level.get()).checked_add(1) == Some(root.height.get()) => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// Tells of those disputes in which the header has not been found wrong.
pub(crate) fn settle(disputes: &[Dispute], reported: &HashSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Dispute { group, difference } in disputes {
        let Difference { path, left, right } = difference.clone();
        let of_root = path.split_once('.').filter(|(tree, _)| GroupTree::named(tree).is_some());
        let field = path.split('[').next().unwrap_or(&path);
        let wrong = reported.contains(&format!("group[{group}].{field}"))
            || of_root.is_some_and(|(tree, field)| {
                reported.contains(&format!("{tree}[{group}].root.{field}"))
                    || reported.contains(&format!("{tree}[{group}].root"))
            });
        if !wrong {
            let at = format!("group_copy[{group}].{path}");
            findings
                .push(Finding::new(at, Problem::GroupDiffers { field: path, found: left, expected: right }));
        }
    }
    findings
}

/// Reads the clusters and inode chunks of a group.
pub(crate) fn index(env: &mut Env<'_>, group: &Group) {
    let Some(header) = group.header else { return };
    let number = group.number;
    let mut index = Index::default();
    let (mut clusters, mut chunks) = (Vec::new(), Vec::new());

    let (name, root) = (TreeName::Group(GroupTree::Clusters, number), header.root(GroupTree::Clusters));
    let outcome = walk::<Cluster>(env, name, root, |_, item| match item {
        Item::Sound(_, cluster) => clusters.push((cluster.start.get(), true)),
        Item::Doubtful(_, cluster) => clusters.push((cluster.start.get(), false)),
        Item::Lost(_) => {}
    });
    check_counts(env, name, root, &outcome);
    let cluster_blocks = env.check.volume.geometry.cluster_blocks;
    let blocks = env.check.volume.geometry.group_len(number);
    let fits = |start: u32| {
        u64::from(start).is_multiple_of(cluster_blocks)
            && u64::from(start).saturating_add(cluster_blocks) <= blocks
    };
    let (known, doubtful) = in_order(&clusters, cluster_blocks, fits);
    index.clusters_lost = outcome.lost || doubtful;
    index.clusters = known
        .into_iter()
        .map(|start| ClusterState { start, reached: [const { AtomicU64::new(0) }; 8] })
        .collect();

    let (name, root) = (TreeName::Group(GroupTree::Inodes, number), header.root(GroupTree::Inodes));
    let outcome = walk::<Chunk>(env, name, root, |_, item| match item {
        Item::Sound(_, chunk) => chunks.push((*chunk, true)),
        Item::Doubtful(_, chunk) => chunks.push((*chunk, false)),
        Item::Lost(_) => {}
    });
    check_counts(env, name, root, &outcome);
    let limit = u32::try_from(blocks).unwrap_or(u32::MAX);
    let starts: Vec<_> = chunks.iter().map(|(chunk, sound)| (chunk.start.get(), *sound)).collect();
    let fits = |start: u32| {
        start.is_multiple_of(CHUNK_BLOCKS) && u64::from(start).saturating_add(CHUNK_BLOCKS.into()) <= blocks
    };
    let (known, doubtful) = in_order(&starts, CHUNK_BLOCKS.into(), fits);
    let chunk_faults = doubtful || outcome.lost;
    let mut known = known.into_iter().peekable();
    for (chunk, sound) in &chunks {
        if known.next_if_eq(&chunk.start.get()).is_some() {
            let (used, orphans) = (chunk.used.get(), chunk.orphans.get() & chunk.used.get());
            index.chunks.push(ChunkState::new(chunk.start.get(), used, orphans, !sound));
        }
    }
    if chunk_faults {
        // Anything between two chunks that are known may hold one that is not.
        let ends = core::iter::once(0)
            .chain(index.chunks.iter().map(|chunk| chunk.start.saturating_add(CHUNK_BLOCKS)));
        let starts = index.chunks.iter().map(|chunk| chunk.start).chain([limit]);
        index.chunks_lost =
            ends.zip(starts).filter(|(end, start)| end < start).map(|(end, start)| end..start).collect();
        env.check.doubts.blocks.store(true, Ordering::Relaxed);
    }
    let _ = group.index.set(index);
    mark_late(env, group);
}

/// Marks blocks that were met before their clusters were known. Those of groups that are not known yet stay.
pub(crate) fn mark_reached(env: &mut Env<'_>) {
    for block in core::mem::take(&mut env.reached) {
        env.read = env.read.saturating_sub(4096);
        env.mark(block, || format!("block[{block}]"), None);
    }
}

/// Marks the blocks that were met before the clusters were known, and those of the chunks.
fn mark_late(env: &mut Env<'_>, group: &Group) {
    let geometry = env.check.volume.geometry;
    mark_reached(env);
    let Some(index) = group.index.get().filter(|_| env.marking) else { return };
    for chunk in &index.chunks {
        let marks =
            (0..CHUNK_BLOCKS).map(|i| index.mark(chunk.start.saturating_add(i), geometry.cluster_blocks));
        let marks: Vec<Marked> = marks.collect();
        let block = geometry.volume_block(group.number, chunk.start);
        if marks.contains(&Marked::Outside) {
            env.check.note_outside(block, String::new());
        } else if marks.contains(&Marked::Twice) {
            let at = crate::inodes::chunk_path(env.check, group, chunk.start);
            env.find(format!("{at}.start"), Problem::BlockTwice { block });
        }
    }
}

/// The starts that can be believed, ascending, and whether some cannot.
fn in_order(starts: &[(u32, bool)], length: u64, fits: impl Fn(u32) -> bool) -> (Vec<u32>, bool) {
    let mut known: Vec<u32> = Vec::new();
    let mut doubtful = false;
    for (position, &(start, sound)) in starts.iter().enumerate() {
        let after = starts.iter().skip(position + 1).find(|(_, sound)| *sound).map(|(start, _)| *start);
        let clear_before =
            known.last().is_none_or(|last| u64::from(*last).saturating_add(length) <= start.into());
        let clear_after = after.is_none_or(|after| u64::from(start).saturating_add(length) <= after.into());
        if clear_before && fits(start) && (sound || clear_after) {
            known.push(start);
        } else {
            doubtful = true;
        }
    }
    (known, doubtful)
}

/// Trees that the volume's features do not have.
pub(crate) fn check_unexpected(check: &Check<'_>, findings: &mut Vec<Finding>) {
    let features = [
        (GroupTree::Rmap, ReadOnlyCompatible::RMAP, "rmap"),
        (GroupTree::Refcount, ReadOnlyCompatible::REFLINK, "reflink"),
    ];
    for group in &check.groups {
        let Some(header) = group.header else { continue };
        for (tree, bit, feature) in features {
            if !check.has(bit) && *header.root(tree) != TreeRoot::zeroed() {
                let at = format!("{}.root", TreeName::Group(tree, group.number));
                let (tree, feature) = (tree.name().to_owned(), feature.to_owned());
                findings.push(Finding::new(at, Problem::TreeUnexpected { tree, feature }));
            }
        }
    }
}

/// The bitmap of each cluster against the blocks that were reached, and the header's number of free ones.
pub(crate) fn check_clusters(env: &mut Env<'_>, group: &Group, wrong: &HashSet<String>) {
    let (Some(header), Some(index)) = (group.header, group.index.get()) else { return };
    let number = group.number;
    let geometry = env.check.volume.geometry;
    let (name, root) = (TreeName::Group(GroupTree::Clusters, number), header.root(GroupTree::Clusters));
    let unknown = env.check.doubts.blocks.load(Ordering::Relaxed);
    let (mut free, mut free_sound, mut free_right, mut explained) = (0u64, 0u64, 0u64, false);
    let mut found = Vec::new();
    // The tree was checked before: what is wrong with it is known.
    let before = env.findings.len();
    let outcome = walk::<Cluster>(env, name, root, |env, item| {
        let (at, cluster, sound) = match item {
            Item::Sound(at, cluster) => (at, cluster, true),
            Item::Doubtful(at, cluster) => (at, cluster, false),
            Item::Lost(_) => return,
        };
        let start = cluster.start.get();
        let unused = geometry.cluster_blocks.saturating_sub(cluster.used.get().into());
        free = free.saturating_add(unused);
        free_sound = free_sound.saturating_add(if sound { unused } else { 0 });
        let Some(state) = index.cluster_of(start, 1) else { return };
        let mut used = 0u64;
        let (mut unmarked, mut unused) = ((0u64, 0u64), (0u64, 0u64));
        for (word, (reached, recorded)) in (0u32..).zip(state.reached.iter().zip(&cluster.bitmap)) {
            let (reached, recorded) = (reached.load(Ordering::Relaxed), recorded.get());
            let first = geometry.volume_block(number, start.saturating_add(word * 64));
            // What nothing was found to use may be used by what cannot be read.
            let may_be_used = |bit: &u32| env.check.may_be_in_use(first.saturating_add((*bit).into()));
            let unreached = recorded & !reached;
            let idle = match unknown {
                true => bits(unreached).filter(|bit| !may_be_used(bit)).fold(0, |all, bit| all | 1 << bit),
                false => unreached,
            };
            used = used.saturating_add(((reached | recorded) & !idle).count_ones().into());
            for (bits, tally) in [(reached & !recorded, &mut unmarked), (idle, &mut unused)] {
                if bits != 0 && tally.1 == 0 {
                    tally.0 = first.saturating_add(bits.trailing_zeros().into());
                }
                tally.1 = tally.1.saturating_add(bits.count_ones().into());
            }
        }
        free_right = free_right.saturating_add(geometry.cluster_blocks.saturating_sub(used));
        if !sound || wrong.contains(&format!("{name}.{at}.start")) {
            explained = true;
            return;
        }
        let word = |block: u64| {
            let place = geometry.locate(block).map_or(0, |place| place.block);
            format!("{name}.{at}.bitmap[{}]", place.saturating_sub(start) / 64)
        };
        if unmarked.1 > 0 {
            let (block, blocks) = unmarked;
            found.push(Finding::new(word(block), Problem::ClusterUsed { block, blocks }));
        }
        if unused.1 > 0 {
            let (block, blocks) = unused;
            found.push(Finding::new(word(block), Problem::ClusterUnused { block, blocks }));
        }
    });
    env.findings.truncate(before);
    let differs = !found.is_empty() || explained || unknown;
    env.findings.append(&mut found);
    let agrees = header.cluster_free == free
        || header.cluster_free == free_sound
        || (differs && header.cluster_free == free_right);
    if !outcome.lost && !agrees {
        count(env, number, "cluster_free", header.cluster_free, free);
    }
}

/// The bits that are set, from the lowest.
fn bits(word: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| word >> bit & 1 != 0)
}

/// Numbers of inodes in a group's header against the chunks.
pub(crate) fn check_inode_counts(env: &mut Env<'_>, group: &Group) {
    let (Some(header), Some(index)) = (group.header, group.index.get()) else { return };
    if !index.chunks_lost.is_empty() {
        return;
    }
    let sum = |bits: &dyn Fn(&ChunkState) -> u64| -> u64 {
        index.chunks.iter().map(|chunk| u64::from(bits(chunk).count_ones())).sum()
    };
    let used = sum(&|chunk| chunk.used.load(Ordering::Relaxed));
    let orphans = sum(&|chunk| chunk.nameless.load(Ordering::Relaxed));
    // Where the index and the inodes disagree, that has been told; the header may agree with either.
    if ![used, sum(&|chunk| chunk.marked)].contains(&header.inodes_used) {
        count(env, group.number, "inodes_used", header.inodes_used, used);
    }
    if ![orphans, sum(&|chunk| chunk.orphans)].contains(&header.orphans) {
        count(env, group.number, "orphans", header.orphans, orphans);
    }
}

/// The number of free blocks in a group's header. On a damaged volume it may be that of the tree or that of the sweep.
pub(crate) fn check_free_count(env: &mut Env<'_>, group: &Group, swept: Option<u64>) {
    let Some(header) = group.header else { return };
    let proof = *locked(&group.space);
    if proof.free_doubtful || header.free_blocks == proof.free_blocks || Some(header.free_blocks) == swept {
        return;
    }
    count(env, group.number, "free_blocks", header.free_blocks, proof.free_blocks);
}

fn count(env: &mut Env<'_>, group: u32, field: &str, found: u64, expected: u64) {
    let problem = Problem::GroupCount { field: field.to_owned(), found, expected };
    env.find(format!("group[{group}].{field}"), problem);
}
