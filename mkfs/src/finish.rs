//! The end of a volume: the trees of every group, then headers and copies, then the superblock, in this order.
//!
//! Trees are made of the sorted owners of each group's blocks: free space is their gaps, reference counts are one sweep
//! over them. The nodes of three of the trees (free, rmap, clusters) lie in clusters that these trees describe. So the
//! number of nodes is settled first: each cluster that is added changes the counts by a few records, and adding goes on
//! until no group needs another node. Only then anything is written.

use crate::builder::{Builder, offset_of};
use crate::error::Error;
use crate::space::group::GroupSpace;
use crate::summary::Summary;
use crate::sweep::{gaps, merge, refcounts, sort, specials};
use paxfs_format::bad::Bad;
use paxfs_format::chunk::{CHUNK_BLOCKS, Chunk};
use paxfs_format::cluster::Cluster;
use paxfs_format::declare::OnDisk;
use paxfs_format::free::Free;
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::node::max_records;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Rmap;
use paxfs_format::superblock::{DeviceEntry, DeviceRole, Superblock, VERSION};
use paxfs_format::tree::nodes_needed;
use std::collections::BTreeMap;

/// Blocks that the trees of a group get.
#[derive(Debug, Default)]
struct Nodes {
    refcount: Vec<u64>,
    inodes: Vec<u64>,
    bad: Vec<u64>,
    /// For free, rmap and clusters, in this order.
    last: Vec<u64>,
}

/// Nodes that the trees of free space, owners and clusters need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    free: u64,
    rmap: u64,
    clusters: u64,
}

impl Need {
    fn all(self) -> usize {
        usize::try_from(self.free + self.rmap + self.clusters).unwrap_or(usize::MAX)
    }
}

fn count<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}

fn sorted_clusters(space: &GroupSpace) -> Vec<Cluster> {
    let mut clusters = space.clusters.clone();
    clusters.sort_unstable_by_key(|cluster| cluster.start.get());
    clusters
}

impl Builder<'_> {
    /// Writes the trees of every group, the headers with their copies, and the superblock last.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when the trees have no room, and those of the device. Then there is no superblock.
    pub fn finish(mut self, root: u64) -> Result<Summary, Error> {
        let geometry = self.geometry();
        let mut plans = self.settle()?;
        let mut headers = Vec::new();
        for group in geometry.group_numbers() {
            self.interrupt.check()?;
            let nodes = plans.remove(&group).unwrap_or_default();
            headers.push(self.trees(group, nodes)?);
        }
        self.totals.free_blocks = headers.iter().map(|header| header.free_blocks.get()).sum();
        self.totals.cluster_free = headers.iter().map(|header| header.cluster_free.get()).sum();
        for header in headers {
            let group = header.group.get();
            for place in [geometry.group_header(group), geometry.group_copy(group)] {
                let header =
                    GroupHeader { header: Header::new(BlockKind::GROUP, place, group.into(), 1), ..header };
                self.put_sealed(place, header)?;
            }
        }
        // Copies first, the superblock when all else is durable: what has one is whole.
        let superblock = self.superblock(root);
        for group in geometry.group_numbers().skip(1) {
            self.put_superblock(geometry.superblock(group), superblock)?;
        }
        self.device.sync()?;
        self.interrupt.check()?;
        self.put_superblock(0, superblock)?;
        self.put_journal()?;
        self.device.sync()?;
        Ok(Summary::new(&self.options, root, self.totals))
    }

    /// Chooses the blocks of all nodes of all groups' trees.
    fn settle(&mut self) -> Result<BTreeMap<u32, Nodes>, Error> {
        let features = self.options.features;
        let mut plans: BTreeMap<u32, Nodes> = BTreeMap::new();
        for group in self.geometry().group_numbers() {
            self.interrupt.check()?;
            let space = self.space.group(group);
            sort(&mut space.owners);
            let shared =
                if features.reflink { refcounts(&space.owners).fold(0, |count, _| count + 1) } else { 0 };
            let (chunks, bad) = (count(&space.chunks), count(&space.bad));
            let mut nodes = Nodes::default();
            for (list, needed) in [
                (&mut nodes.refcount, nodes_needed(shared, max_records::<Refcount>())),
                (&mut nodes.inodes, nodes_needed(chunks, max_records::<Chunk>())),
                (&mut nodes.bad, nodes_needed(bad, max_records::<Bad>())),
            ] {
                for _ in 0..needed {
                    list.push(self.space.node_near(group)?);
                }
            }
            plans.insert(group, nodes);
        }
        // A node given to one group may come from a cluster of another, which then needs more itself.
        let mut known: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        loop {
            let mut changed = false;
            for (&group, nodes) in &mut plans {
                loop {
                    let clusters = self.space.group(group).clusters.len();
                    let need = match known.get(&group) {
                        Some(&(at, need)) if at == clusters => need,
                        _ => self.need(group).all(),
                    };
                    known.insert(group, (clusters, need));
                    if nodes.last.len() >= need {
                        break;
                    }
                    while nodes.last.len() < need {
                        nodes.last.push(self.space.node_near(group)?);
                    }
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        // A cluster that fills a gap exactly takes a free run away, so that there may be a node too many.
        for (&group, nodes) in &mut plans {
            let need = self.need(group).all();
            for block in nodes.last.drain(need.min(nodes.last.len())..) {
                self.space.release_node(block);
            }
        }
        Ok(plans)
    }

    fn need(&mut self, group: u32) -> Need {
        let (geometry, rmap) = (self.geometry(), self.options.features.rmap);
        let space = self.space.group(group);
        let clusters = sorted_clusters(space);
        let specials = specials(&geometry, group, &clusters);
        let length = u32::try_from(geometry.group_len(group)).unwrap_or(u32::MAX);
        let free = gaps(merge(&specials, &space.owners), length).fold(0, |count, _| count + 1);
        let owners = if rmap { count(&specials) + count(&space.owners) } else { 0 };
        Need {
            free: nodes_needed(free, max_records::<Free>()),
            rmap: nodes_needed(owners, max_records::<Rmap>()),
            clusters: nodes_needed(count(&clusters), max_records::<Cluster>()),
        }
    }

    /// Writes the trees of a group; returns its header, without its place.
    fn trees(&mut self, group: u32, nodes: Nodes) -> Result<GroupHeader, Error> {
        let (geometry, features, owner) = (self.geometry(), self.options.features, u64::from(group));
        let need = self.need(group);
        let space = self.space.finish_group(group);
        let clusters = sorted_clusters(&space);
        let specials = specials(&geometry, group, &clusters);
        let length = u32::try_from(geometry.group_len(group)).unwrap_or(u32::MAX);
        let mut chunks = space.chunks;
        chunks.sort_unstable_by_key(|chunk| chunk.start.get());
        let mut bad = space.bad;
        bad.sort_unstable_by_key(|bad| bad.start.get());

        let (mut free_nodes, mut rest) = (nodes.last, Vec::new());
        split(&mut free_nodes, &mut rest, need.free);
        let (mut rmap_nodes, mut cluster_nodes) = (rest, Vec::new());
        split(&mut rmap_nodes, &mut cluster_nodes, need.rmap);

        let mut free_blocks = 0;
        let free = gaps(merge(&specials, &space.owners), length)
            .inspect(|run| free_blocks += u64::from(run.length.get()));
        let free = self.load(BlockKind::FREE, owner, free_nodes, free)?;
        let mut header = GroupHeader {
            group: group.into(),
            start: geometry.group_start(group).into(),
            blocks: geometry.group_len(group).into(),
            free_blocks: free_blocks.into(),
            cluster_free: clusters
                .iter()
                .map(|cluster| geometry.cluster_blocks.saturating_sub(cluster.used.get().into()))
                .sum::<u64>()
                .into(),
            inodes_used: chunks
                .iter()
                .map(|chunk| u64::from(chunk.used.get().count_ones()))
                .sum::<u64>()
                .into(),
            orphans: chunks
                .iter()
                .map(|chunk| u64::from(chunk.orphans.get().count_ones()))
                .sum::<u64>()
                .into(),
            free,
            ..GroupHeader::zeroed()
        };
        self.totals.clusters += count(&clusters);
        self.totals.chunk_blocks += count(&chunks) * u64::from(CHUNK_BLOCKS);
        if features.reflink {
            let shared = refcounts(&space.owners);
            *header.root_mut(GroupTree::Refcount) =
                self.load(BlockKind::REFCOUNT, owner, nodes.refcount, shared)?;
        }
        if features.rmap {
            let owners = merge(&specials, &space.owners).copied();
            *header.root_mut(GroupTree::Rmap) = self.load(BlockKind::RMAP, owner, rmap_nodes, owners)?;
        }
        header.inodes = self.load(BlockKind::INODES, owner, nodes.inodes, chunks.into_iter())?;
        header.clusters = self.load(BlockKind::CLUSTERS, owner, cluster_nodes, clusters.into_iter())?;
        header.bad = self.load(BlockKind::BAD, owner, nodes.bad, bad.into_iter())?;
        Ok(header)
    }

    fn superblock(&self, root: u64) -> Superblock {
        let (options, geometry) = (&self.options, self.geometry());
        let mut superblock = Superblock {
            version: VERSION.into(),
            block_size: u32::try_from(BLOCK_SIZE).unwrap_or(0).into(),
            uuid: options.uuid,
            label: options.label,
            blocks: geometry.blocks.into(),
            group_blocks: geometry.group_blocks.into(),
            groups: geometry.group_numbers().end.into(),
            cluster_blocks: u32::try_from(geometry.cluster_blocks).unwrap_or(0).into(),
            journal_start: geometry.journal().start.into(),
            journal_blocks: geometry.journal_blocks.into(),
            root: root.into(),
            read_only_compatible: options.features.bits().into(),
            state: options.state.into(),
            device_count: 1.into(),
            made: options.now,
            written: options.now,
            checked: options.now.seconds,
            ..Superblock::zeroed()
        };
        if let Some(entry) = superblock.devices.first_mut() {
            *entry = DeviceEntry {
                uuid: options.device_uuid,
                blocks: geometry.blocks.into(),
                role: DeviceRole::DATA,
                ..DeviceEntry::zeroed()
            };
        }
        superblock
    }

    fn put_superblock(&mut self, place: u64, superblock: Superblock) -> Result<(), Error> {
        self.put_sealed(
            place,
            Superblock { header: Header::new(BlockKind::SUPERBLOCK, place, 0, 1), ..superblock },
        )
    }

    fn put_sealed<S: OnDisk>(&mut self, place: u64, mut structure: S) -> Result<(), Error> {
        self.seed.seal(structure.as_mut_bytes());
        self.device.bytes_mut(offset_of(place), size_of::<S>())?.copy_from_slice(structure.as_bytes());
        Ok(())
    }
}

/// Leaves `first` elements in `list`, and moves the others to `rest`.
fn split(list: &mut Vec<u64>, rest: &mut Vec<u64>, first: u64) {
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(list.len());
    *rest = list.split_off(first);
}
