//! The trees of groups, from the geometry, the clusters, the chunks and the extents of all files: what each must hold, and
//! those that do not hold it written anew.

use super::census::{Census, Claim, Scope};
use super::cross::Chunks;
use super::room::{Full, Sink};
use super::source::{Gathered, gather};
use paxfs_format::bad::Bad;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::Chunk;
use paxfs_format::cluster::Cluster;
use paxfs_format::device::MediumError;
use paxfs_format::free::Free;
use paxfs_format::group::{GroupHeader, GroupTree, TreeRoot};
use paxfs_format::image::Image;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::superblock::ReadOnlyCompatible;
use paxfs_format::tree::{BulkLoader, Tree, nodes_needed};
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromZeros, IntoBytes};

/// The tree of a group, of records of one kind.
pub(super) fn tree<R: Record>(
    volume: &Volume<Image<'_>>,
    group: u32,
    which: GroupTree,
) -> Option<(Tree<R>, TreeRoot)> {
    let header = volume.group(group).ok()?;
    Some((volume.group_tree::<R>(group, header, which), *header.root(which)))
}

pub(super) fn nodes(volume: &Volume<Image<'_>>, group: u32, which: GroupTree) -> Option<Vec<u64>> {
    fn of<R: Record>(volume: &Volume<Image<'_>>, group: u32, which: GroupTree) -> Option<Vec<u64>> {
        let (tree, root) = tree::<R>(volume, group, which)?;
        let gathered = gather(volume, &tree);
        sound(&gathered, &root).then_some(gathered.nodes)
    }
    match which {
        GroupTree::Free => of::<Free>(volume, group, which),
        GroupTree::Refcount => of::<Refcount>(volume, group, which),
        GroupTree::Rmap => of::<Rmap>(volume, group, which),
        GroupTree::Inodes => of::<Chunk>(volume, group, which),
        GroupTree::Clusters => of::<Cluster>(volume, group, which),
        GroupTree::Bad => of::<Bad>(volume, group, which),
    }
}

/// Whether nothing is wrong with a tree by itself.
fn sound<R>(gathered: &Gathered<R>, root: &TreeRoot) -> bool {
    gathered.faults == 0
        && gathered.doubtful.is_empty()
        && gathered.nodes.len() as u64 == u64::from(root.nodes.get())
        && gathered.sound.len() as u64 == root.records.get()
}

/// A tree that was written anew.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub group: u32,
    pub tree: GroupTree,
    pub records: u64,
    pub nodes: u64,
    /// Whether its records were others before; else only its nodes changed their places.
    pub differs: bool,
}

/// Why trees cannot be written.
#[derive(Debug)]
pub(super) enum SpaceError {
    Full(Full),
    Medium(MediumError),
}

impl From<Full> for SpaceError {
    fn from(full: Full) -> Self {
        SpaceError::Full(full)
    }
}

impl From<MediumError> for SpaceError {
    fn from(error: MediumError) -> Self {
        SpaceError::Medium(error)
    }
}

/// The records that the trees of a group must hold.
struct Desired {
    free: Vec<Free>,
    refcount: Vec<Refcount>,
    rmap: Vec<Rmap>,
    chunks: Vec<Chunk>,
    clusters: Vec<Cluster>,
    bad: Vec<Bad>,
}

fn run32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// What the trees of a group must hold.
fn desired(volume: &Volume<Image<'_>>, census: &Census, chunks: &Chunks, group: u32, space: bool) -> Desired {
    let geometry = &volume.geometry;
    let start = geometry.group_start(group);
    let unit = run32(geometry.cluster_blocks);
    let clusters = census.clusters(group);
    let chunks = usize::try_from(group).ok().and_then(|group| chunks.get(group));
    let chunks = chunks.map(|chunks| chunks.values().copied().collect()).unwrap_or_default();
    let bad = census.bad.get(&group).into_iter().flatten();
    let bad = bad
        .map(|run| Bad { start: run32(run.start).into(), length: run32(run.end - run.start).into() })
        .collect();
    let mut wanted =
        Desired { free: Vec::new(), refcount: Vec::new(), rmap: Vec::new(), chunks, clusters, bad };
    if !space {
        return wanted;
    }
    wanted.free = census
        .free(group)
        .into_iter()
        .map(|run| Free { start: run32(run.start).into(), length: run32(run.end - run.start).into() })
        .collect();
    let claims = census.claims.get(&group).map(Vec::as_slice).unwrap_or_default();
    if volume.superblock.has(ReadOnlyCompatible::RMAP) {
        wanted.rmap = roles(volume, group);
        let mut last = None::<Rmap>;
        for cluster in &wanted.clusters {
            let one = role(cluster.start.get(), unit, Owner::CLUSTER);
            last = match last {
                Some(before) => match before.merged(&one) {
                    Some(joined) => Some(joined),
                    None => {
                        wanted.rmap.push(before);
                        Some(one)
                    }
                },
                None => Some(one),
            };
        }
        wanted.rmap.extend(last);
        wanted.rmap.extend(claims.iter().map(|claim| Rmap {
            start: run32(claim.extent.start.get().saturating_sub(start)).into(),
            length: claim.extent.length,
            owner: Owner::new(claim.inode),
            offset: claim.extent.offset,
            flags: claim.extent.flags,
        }));
        wanted.rmap.sort_by_key(Record::key);
    }
    if volume.superblock.has(ReadOnlyCompatible::REFLINK) {
        wanted.refcount = counts(claims, start);
    }
    wanted
}

fn role(start: u32, length: u32, owner: Owner) -> Rmap {
    Rmap { start: start.into(), length: length.into(), owner, offset: 0.into(), flags: 0.into() }
}

/// The fixed blocks of a group, as the reverse map has them.
fn roles(volume: &Volume<Image<'_>>, group: u32) -> Vec<Rmap> {
    let geometry = &volume.geometry;
    let head = u32::try_from(paxfs_format::geometry::HEAD_BLOCKS).unwrap_or(0);
    let table = run32(geometry.table_blocks(group));
    let mut roles = vec![role(0, head, Owner::HEAD)];
    if table > 0 {
        roles.push(role(head, table, Owner::CHECKSUMS));
    }
    if group == 0 {
        roles.push(role(head.saturating_add(table), run32(geometry.journal_blocks), Owner::JOURNAL));
    }
    roles
}

/// Runs with two owners or more, in maximal form.
fn counts(claims: &[Claim], group_start: u64) -> Vec<Refcount> {
    let mut edges: BTreeMap<u64, i64> = BTreeMap::new();
    for Claim { extent, .. } in claims {
        let from = extent.start.get().saturating_sub(group_start);
        *edges.entry(from).or_default() += 1;
        *edges.entry(from.saturating_add(extent.length.get().into())).or_default() -= 1;
    }
    let mut list = Vec::new();
    let (mut count, mut since) = (0i64, 0u64);
    for (at, change) in edges.into_iter().filter(|(_, change)| *change != 0) {
        if count >= 2 {
            list.push(Refcount {
                start: run32(since).into(),
                length: run32(at.saturating_sub(since)).into(),
                count: u32::try_from(count).unwrap_or(u32::MAX).into(),
            });
        }
        count += change;
        since = at;
    }
    list
}

/// Writes the trees anew that do not hold what they must, and the headers of their groups.
pub(super) fn rebuild(
    volume: &mut Volume<Image<'_>>,
    census: &mut Census,
    scope: &Scope<'_>,
    generation: u64,
) -> Result<Vec<Rebuilt>, SpaceError> {
    // What new nodes take changes the bitmaps of clusters, and nothing else that trees must hold.
    let mut goals: Vec<Goal> =
        volume.geometry.group_numbers().map(|group| Goal::new(volume, census, scope, group)).collect();
    // Trees that change, with the blocks set aside for them.
    let mut aside: BTreeMap<(u32, GroupTree), Vec<u64>> = BTreeMap::new();
    let mut differing: BTreeSet<(u32, GroupTree)> = BTreeSet::new();
    let mut moving = core::mem::take(&mut census.moving);
    loop {
        let mut stable = true;
        for goal in &mut goals {
            let group = goal.group;
            goal.wanted.clusters = census.clusters(group);
            for which in GroupTree::ALL {
                let place = (group, which);
                let (needed, alike) = match goal.trees.get(&which) {
                    Some(known) => *known,
                    None if which == GroupTree::Clusters => {
                        compare(volume, group, which, &goal.wanted.clusters)
                    }
                    None => continue,
                };
                if !alike {
                    differing.insert(place);
                }
                if alike && !moving.contains(&place) && !aside.contains_key(&place) {
                    continue;
                }
                if moving.insert(place) {
                    stable = false;
                }
                if let Some(nodes) = census.nodes.remove(&place) {
                    census.release(&nodes);
                    stable = false;
                }
                let have = aside.entry(place).or_default();
                while (have.len() as u64) < needed {
                    have.push(census.room.allocate(group)?);
                    stable = false;
                }
                let surplus = have.split_off(have.len().min(usize::try_from(needed).unwrap_or(usize::MAX)));
                stable &= surplus.is_empty();
                census.release(&surplus);
            }
        }
        if stable {
            break;
        }
    }
    goals.iter_mut().for_each(|goal| goal.wanted.clusters = census.clusters(goal.group));
    write(volume, census, &goals, generation, aside, &differing)
}

/// What the trees of a group must hold, and how far they do.
struct Goal {
    group: u32,
    /// The trees of space are among them.
    space: bool,
    wanted: Desired,
    /// Of each tree but that of clusters: the nodes that it needs, and whether it holds just what it must.
    trees: BTreeMap<GroupTree, (u64, bool)>,
}

impl Goal {
    fn new(volume: &Volume<Image<'_>>, census: &Census, scope: &Scope<'_>, group: u32) -> Self {
        let space = scope.wanted.contains(&group);
        let wanted = desired(volume, census, scope.chunks, group, space);
        let mut trees = BTreeMap::new();
        for which in GroupTree::ALL {
            let known = match which {
                GroupTree::Free if space => compare(volume, group, which, &wanted.free),
                GroupTree::Refcount if space => compare(volume, group, which, &wanted.refcount),
                GroupTree::Rmap if space => compare(volume, group, which, &wanted.rmap),
                GroupTree::Inodes => compare(volume, group, which, &wanted.chunks),
                GroupTree::Bad => compare(volume, group, which, &wanted.bad),
                _ => continue,
            };
            trees.insert(which, known);
        }
        Goal { group, space, wanted, trees }
    }
}

/// Nodes that records need, and whether the tree holds just these.
fn compare<R: Record + PartialEq>(
    volume: &Volume<Image<'_>>,
    group: u32,
    which: GroupTree,
    records: &[R],
) -> (u64, bool) {
    let needed = nodes_needed(records.len() as u64, Tree::<R>::PER_LEAF);
    let alike = tree::<R>(volume, group, which).is_some_and(|(tree, root)| {
        let gathered = gather(volume, &tree);
        sound(&gathered, &root) && gathered.sound == records
    });
    (needed, alike)
}

fn load<R: Record>(
    volume: &mut Volume<Image<'_>>,
    census: &mut Census,
    place: (u32, GroupTree),
    records: &[R],
    mut blocks: Vec<u64>,
    generation: u64,
) -> Result<TreeRoot, Full> {
    let (group, which) = place;
    blocks.reverse();
    let mut loader = BulkLoader::new(which.kind(), group.into(), generation, volume.seed);
    let mut sink = Sink { image: &mut volume.blocks, room: &mut census.room, group, aside: blocks };
    for record in records {
        loader.push(&mut sink, *record)?;
    }
    loader.finish(&mut sink)
}

fn write(
    volume: &mut Volume<Image<'_>>,
    census: &mut Census,
    goals: &[Goal],
    generation: u64,
    mut aside: BTreeMap<(u32, GroupTree), Vec<u64>>,
    differing: &BTreeSet<(u32, GroupTree)>,
) -> Result<Vec<Rebuilt>, SpaceError> {
    let mut rebuilt = Vec::new();
    for Goal { group, space, wanted, .. } in goals {
        let group = *group;
        let Ok(mut header) = volume.group(group).copied() else { continue };
        for which in GroupTree::ALL {
            let place = (group, which);
            let Some(blocks) = aside.remove(&place) else { continue };
            let root = match which {
                GroupTree::Free => load(volume, census, place, &wanted.free, blocks, generation),
                GroupTree::Refcount => load(volume, census, place, &wanted.refcount, blocks, generation),
                GroupTree::Rmap => load(volume, census, place, &wanted.rmap, blocks, generation),
                GroupTree::Inodes => load(volume, census, place, &wanted.chunks, blocks, generation),
                GroupTree::Clusters => load(volume, census, place, &wanted.clusters, blocks, generation),
                GroupTree::Bad => load(volume, census, place, &wanted.bad, blocks, generation),
            }?;
            *header.root_mut(which) = root;
            let (records, nodes) = (root.records.get(), root.nodes.get().into());
            let differs = differing.contains(&place);
            rebuilt.push(Rebuilt { group, tree: which, records, nodes, differs });
        }
        counters(&mut header, wanted, volume.geometry.cluster_blocks, *space);
        put_header(volume, group, header, generation)?;
    }
    Ok(rebuilt)
}

/// The counters of a group's header.
fn counters(header: &mut GroupHeader, wanted: &Desired, unit: u64, space: bool) {
    if space {
        header.free_blocks = wanted.free.iter().map(|run| u64::from(run.length.get())).sum::<u64>().into();
    }
    let unused = |cluster: &Cluster| unit.saturating_sub(cluster.used.get().into());
    header.cluster_free = wanted.clusters.iter().map(unused).sum::<u64>().into();
    let count = |bits: fn(&Chunk) -> u64| -> u64 {
        wanted.chunks.iter().map(|chunk| u64::from(bits(chunk).count_ones())).sum()
    };
    header.inodes_used = count(|chunk| chunk.used.get()).into();
    header.orphans = count(|chunk| chunk.orphans.get()).into();
}

/// Puts a group's header and its copy, if that changes anything.
pub(super) fn put_header(
    volume: &mut Volume<Image<'_>>,
    group: u32,
    mut header: GroupHeader,
    generation: u64,
) -> Result<(), MediumError> {
    let same = volume.group(group).is_ok_and(|stored| {
        let mut like = header;
        like.header = stored.header;
        like.as_bytes() == stored.as_bytes()
    });
    if !same {
        header.header.generation = generation.into();
    }
    for place in [volume.geometry.group_header(group), volume.geometry.group_copy(group)] {
        header.header.place = place.into();
        volume.seed.seal(header.as_mut_bytes());
        if volume.blocks.block(place)?.as_slice() != header.as_bytes() {
            volume.blocks.put(place, Box::new(zerocopy::transmute!(header)));
        }
    }
    Ok(())
}

/// A header of a group that has no trees yet.
pub(super) fn empty_header(volume: &Volume<Image<'_>>, group: u32, generation: u64) -> GroupHeader {
    use paxfs_format::header::{BlockKind, Header};
    let mut header = GroupHeader::new_zeroed();
    let place = volume.geometry.group_header(group);
    header.header = Header::new(BlockKind::GROUP, place, group.into(), generation);
    header.group = group.into();
    header.start = volume.geometry.group_start(group).into();
    header.blocks = volume.geometry.group_len(group).into();
    header
}
