//! A second opinion on what mkfs makes: everything is read back through the format's own readers, and the invariants are
//! proved in the plainest way, in memory. (`fsck.paxfs` proves them too; this does not depend on it.)
#![allow(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use paxfs_format::chunk::Chunk;
use paxfs_format::cluster::Cluster;
use paxfs_format::device::{Access, Device};
use paxfs_format::entry::{AttributeKind, DirectoryEntry};
use paxfs_format::extent::Extent;
use paxfs_format::fork::BodyPlace;
use paxfs_format::free::Free;
use paxfs_format::geometry::Geometry;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::image::Image;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, Inode, PAYLOAD_SIZE, Which};
use paxfs_format::node::Node;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::sums::{Sum, SumState};
use paxfs_format::superblock::{ReadOnlyCompatible, Superblock};
use paxfs_format::tree::{NodePlace, RecordPlace, Tree, TreeFault, Visitor, Walked};
use paxfs_format::volume::{Volume, find, read_superblock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use zerocopy::FromBytes;

/// What a walk met.
struct Collected<R> {
    records: Vec<R>,
    nodes: Vec<u64>,
    faults: Vec<TreeFault>,
}

impl<R: Copy> Visitor<R> for Collected<R> {
    fn node(&mut self, at: &NodePlace, _node: &Node) {
        self.nodes.push(at.block);
    }

    fn record(&mut self, _at: &RecordPlace, record: &R) {
        self.records.push(*record);
    }

    fn fault(&mut self, fault: TreeFault) {
        self.faults.push(fault);
    }
}

/// A volume that was found to be right.
pub struct Verified {
    /// Path of every name, with its inode.
    pub names: BTreeMap<Vec<u8>, u64>,
    /// Extents of every inode.
    pub extents: BTreeMap<u64, Vec<Extent>>,
    /// Inodes without a name.
    pub orphans: BTreeSet<u64>,
    /// Blocks in free space.
    pub free: u64,
}

struct Checker<'d> {
    volume: Volume<Image<'d>>,
    /// Blocks of clusters that something is in, with what.
    used: BTreeMap<u64, String>,
    /// Data records: volume block, length, owner, offset, flags.
    data: BTreeSet<(u64, u32, u64, u64, u32)>,
}

fn walk<R: Record>(checker: &mut Checker<'_>, tree: &Tree<R>, root: &TreeRoot, what: &str) -> Vec<R> {
    let mut collected = Collected { records: Vec::new(), nodes: Vec::new(), faults: Vec::new() };
    let walked = tree.walk(&checker.volume.blocks, &mut collected);
    assert!(collected.faults.is_empty(), "{what}: {:?}", collected.faults);
    let nodes = u64::from(root.nodes.get());
    assert_eq!(walked, Walked { nodes, records: root.records.get(), complete: true }, "{what}");
    for block in collected.nodes {
        checker.take(block, what);
    }
    collected.records
}

/// Proves every invariant of the volume on a device.
pub fn verify(device: &Device) -> Verified {
    let found = find(device).expect("a superblock");
    assert!(found.primary_fault.is_none(), "{:?}", found.primary_fault);
    found.superblock.understood().unwrap();
    let (superblock, geometry) = (found.superblock, found.geometry);
    for group in geometry.group_numbers().skip(1) {
        let (copy, _) = read_superblock(device, geometry.superblock(group)).unwrap();
        assert_eq!(Superblock { header: superblock.header, ..copy }, superblock);
    }
    let volume = Volume::new(Image::new(device), superblock, geometry);
    let mut checker = Checker { volume, used: BTreeMap::new(), data: BTreeSet::new() };
    let mut inodes = BTreeSet::new();
    let mut orphans = BTreeSet::new();
    let mut clusters = BTreeMap::new();
    let mut free = 0;
    for group in geometry.group_numbers() {
        free += checker.group(&geometry, group, &mut inodes, &mut orphans, &mut clusters);
    }
    let (names, extents) = checker.inodes(&inodes, &orphans);
    // Every block in use of a cluster is reached once (`take` says twice), and every block reached is in use.
    let marked: BTreeSet<u64> =
        clusters.into_iter().filter(|(_, used)| *used).map(|(block, _)| block).collect();
    let reached: BTreeSet<u64> = checker.used.keys().copied().collect();
    let difference: Vec<_> = marked.symmetric_difference(&reached).take(5).collect();
    assert!(difference.is_empty(), "marked or reached, not both: {difference:?}");
    checker.sums(&geometry, &extents);
    Verified { names, extents, orphans, free }
}

impl Checker<'_> {
    fn take(&mut self, block: u64, what: &str) {
        if let Some(before) = self.used.insert(block, what.to_owned()) {
            panic!("block {block} is {before} and {what}");
        }
    }

    fn group(
        &mut self,
        geometry: &Geometry,
        group: u32,
        inodes: &mut BTreeSet<u64>,
        orphans: &mut BTreeSet<u64>,
        clusters: &mut BTreeMap<u64, bool>,
    ) -> u64 {
        let header = *self.volume.group(group).unwrap();
        let copy = *self.volume.group_copy(group).unwrap();
        assert_eq!(copy.rmap, header.rmap);
        assert_eq!(
            (header.start.get(), header.blocks.get()),
            (geometry.group_start(group), geometry.group_len(group))
        );
        let name = |tree: GroupTree| format!("{} of group {group}", tree.name());
        macro_rules! records {
            ($record:ty, $tree:expr) => {{
                let tree = self.volume.group_tree::<$record>(group, &header, $tree);
                walk(self, &tree, header.root($tree), &name($tree))
            }};
        }
        let free: Vec<Free> = records!(Free, GroupTree::Free);
        let counts: Vec<Refcount> = records!(Refcount, GroupTree::Refcount);
        let rmap: Vec<Rmap> = records!(Rmap, GroupTree::Rmap);
        let chunks: Vec<Chunk> = records!(Chunk, GroupTree::Inodes);
        let records: Vec<Cluster> = records!(Cluster, GroupTree::Clusters);
        let _bad: Vec<paxfs_format::bad::Bad> = records!(paxfs_format::bad::Bad, GroupTree::Bad);

        let start = geometry.group_start(group);
        for cluster in &records {
            for index in 0..u32::try_from(geometry.cluster_blocks).unwrap() {
                clusters.insert(start + u64::from(cluster.start.get() + index), cluster.is_used(index));
            }
        }
        let unused: u64 = records.iter().map(|one| geometry.cluster_blocks - u64::from(one.used.get())).sum();
        assert_eq!(unused, header.cluster_free.get());
        let mut used = 0;
        for chunk in &chunks {
            for block in 0..8 {
                self.take(start + u64::from(chunk.start.get()) + block, "an inode chunk");
            }
            for bit in 0..64 {
                let number = (start + u64::from(chunk.start.get())) * 8 + bit;
                if chunk.used.get() >> bit & 1 != 0 {
                    inodes.insert(number);
                    used += 1;
                } else {
                    let slot = self.volume.inode_unverified(number).unwrap();
                    let bytes = zerocopy::IntoBytes::as_bytes(slot);
                    assert!(
                        bytes.iter().all(|byte| *byte == 0) || self.volume.inode(number).unwrap().is_free()
                    );
                }
                if chunk.orphans.get() >> bit & 1 != 0 {
                    orphans.insert(number);
                }
            }
        }
        assert_eq!(used, header.inodes_used.get());

        let length = usize::try_from(geometry.group_len(group)).unwrap();
        let free_blocks: u64 = free.iter().map(|run| u64::from(run.length.get())).sum();
        assert_eq!(free_blocks, header.free_blocks.get());
        if self.volume.superblock.has(ReadOnlyCompatible::RMAP) {
            let mut owners = vec![0u32; length];
            let mut special = vec![false; length];
            for record in &rmap {
                let range = record.start.get() as usize..record.end() as usize;
                owners[range.clone()].iter_mut().for_each(|count| *count += 1);
                if record.owner.is_inode() {
                    self.data.insert((
                        start + u64::from(record.start.get()),
                        record.length.get(),
                        record.owner.get(),
                        record.offset.get(),
                        record.flags.get(),
                    ));
                } else {
                    assert!(special[range.clone()].iter().all(|special| !special));
                    special[range].fill(true);
                }
            }
            assert!((0..length).all(|block| !special[block] || owners[block] == 1), "metadata is shared");
            let fixed = usize::try_from(geometry.fixed_blocks(group)).unwrap();
            assert!(special[..fixed].iter().all(|special| *special));
            for (block, clustered) in
                clusters.range(start..start + length as u64).map(|(block, _)| (*block, true))
            {
                assert_eq!(special[usize::try_from(block - start).unwrap()], clustered);
            }
            let mut is_free = vec![false; length];
            free.iter().for_each(|run| is_free[run.start.get() as usize..run.end() as usize].fill(true));
            let mut shared = vec![1u32; length];
            counts
                .iter()
                .for_each(|run| shared[run.start.get() as usize..run.end() as usize].fill(run.count.get()));
            let reflink = self.volume.superblock.has(ReadOnlyCompatible::REFLINK);
            for block in 0..length {
                assert_eq!(is_free[block], owners[block] == 0, "block {block} of group {group}");
                let expected = if reflink { owners[block].max(1) } else { 1 };
                assert_eq!(shared[block], expected, "count of block {block} of group {group}");
            }
        } else {
            assert!(rmap.is_empty());
        }
        free_blocks
    }

    #[allow(clippy::type_complexity)]
    fn inodes(
        &mut self,
        numbers: &BTreeSet<u64>,
        orphans: &BTreeSet<u64>,
    ) -> (BTreeMap<Vec<u8>, u64>, BTreeMap<u64, Vec<Extent>>) {
        let root = self.volume.superblock.root.get();
        let mut extents = BTreeMap::new();
        let mut entries = BTreeSet::new();
        let mut parents = BTreeSet::new();
        for &number in numbers {
            let inode = *self.volume.inode(number).unwrap_or_else(|fault| panic!("inode {number}: {fault}"));
            let kind = inode.file_type().expect("a type");
            let listed = self.one(&inode, kind, &mut entries, &mut parents);
            if kind == FileType::Regular {
                extents.insert(number, listed);
            }
        }
        let named: BTreeSet<_> =
            entries.iter().map(|(parent, name, inode)| (*inode, *parent, name.clone())).collect();
        assert_eq!(named, parents, "entries and parent pointers");
        for &number in numbers {
            let inode = self.volume.inode(number).unwrap();
            let links = named.range((number, 0, Vec::new())..(number + 1, 0, Vec::new())).count();
            let expected = if number == root { 1 } else { links };
            assert_eq!(inode.links.get() as usize, expected, "links of {number}");
            assert_eq!(links == 0 && number != root, orphans.contains(&number));
        }
        // Every name, from the root down: no inode is visited as a directory twice, so there is no cycle.
        let mut below: BTreeMap<u64, Vec<(Vec<u8>, u64)>> = BTreeMap::new();
        for (parent, name, inode) in entries {
            below.entry(parent).or_default().push((name, inode));
        }
        let mut names = BTreeMap::new();
        let mut stack = vec![(root, Vec::new())];
        while let Some((directory, path)) = stack.pop() {
            for (name, inode) in below.remove(&directory).unwrap_or_default() {
                let path = [path.as_slice(), b"/", &name].concat();
                if self.volume.inode(inode).unwrap().file_type() == Some(FileType::Directory) {
                    stack.push((inode, path.clone()));
                }
                names.insert(path, inode);
            }
        }
        assert!(below.is_empty(), "not reached from the root: {below:?}");
        if self.volume.superblock.has(ReadOnlyCompatible::RMAP) {
            let of_files: BTreeSet<_> = extents
                .iter()
                .flat_map(|(&owner, list)| {
                    list.iter().map(move |one: &Extent| {
                        (one.start.get(), one.length.get(), owner, one.offset.get(), one.flags.get())
                    })
                })
                .collect();
            assert_eq!(of_files, self.data, "extents and reverse map");
        }
        (names, extents)
    }

    fn one(
        &mut self,
        inode: &Inode,
        kind: FileType,
        entries: &mut BTreeSet<(u64, Vec<u8>, u64)>,
        parents: &mut BTreeSet<(u64, u64, Vec<u8>)>,
    ) -> Vec<Extent> {
        let number = inode.header.place.get();
        let inline =
            usize::from(inode.data.inline_bytes.get()) + usize::from(inode.attributes.inline_bytes.get());
        assert!(inode.payload.0[inline..PAYLOAD_SIZE].iter().all(|byte| *byte == 0));
        self.bodies(inode, Which::Attributes);
        let mut count = 0;
        let attributes: Vec<_> = self.volume.attributes(inode).map(Result::unwrap).collect();
        let mut values = Vec::new();
        for entry in &attributes {
            count += 1;
            if entry.head.kind == AttributeKind::PARENT {
                let parent = u64::from_le_bytes(entry.value.try_into().unwrap());
                parents.insert((number, parent, entry.name.to_vec()));
                let cookie = self.volume.hash.attribute(entry.head.kind, Some(parent), entry.name);
                assert_eq!(entry.head.cookie.get() & !DISAMBIGUATOR, cookie);
            } else {
                let cookie = self.volume.hash.attribute(entry.head.kind, None, entry.name);
                assert_eq!(entry.head.cookie.get() & !DISAMBIGUATOR, cookie);
            }
            if entry.head.kind == AttributeKind::BLOCKS {
                values.extend(entry.value.chunks(8).map(|at| u64::from_le_bytes(at.try_into().unwrap())));
            }
            self.volume.attribute_value(inode, entry).unwrap();
        }
        assert_eq!(inode.attributes.count.get(), count);
        values.into_iter().for_each(|block| self.take(block, "an attribute's value"));
        match kind {
            FileType::Directory => {
                self.bodies(inode, Which::Data);
                let (mut count, mut bytes) = (0, 0);
                let list: Vec<_> = self.volume.directory(inode).map(Result::unwrap).collect();
                for entry in list {
                    count += 1;
                    bytes += entry.size() as u64;
                    entries.insert((number, entry.name.to_vec(), entry.head.inode.get()));
                    let target = self.volume.inode(entry.head.inode.get()).unwrap();
                    assert_eq!(Some(entry.head.kind.0), target.file_type().map(FileType::number));
                    assert_eq!(entry.head.generation, target.generation);
                    let found = self.volume.lookup(inode, entry.name).unwrap().unwrap();
                    assert_eq!(found.head, entry.head);
                }
                assert_eq!((inode.data.count.get(), inode.size.get()), (count, bytes));
                Vec::new()
            }
            FileType::Symlink => {
                assert_eq!(self.volume.target(inode).unwrap().len() as u64, inode.size.get());
                if inode.data.format == ForkFormat::VALUES {
                    let pointers = inode.inline(Which::Data).unwrap().to_vec();
                    for at in pointers.chunks(8) {
                        self.take(u64::from_le_bytes(at.try_into().unwrap()), "a symlink's target");
                    }
                }
                Vec::new()
            }
            FileType::Regular => {
                let list = match self.volume.fork_tree::<Extent>(inode, Which::Data) {
                    Some(tree) => walk(self, &tree, &inode.data.tree, &format!("extents of {number}")),
                    None => self.volume.extents(inode).map(Result::unwrap).collect(),
                };
                let space = self.volume.geometry.volume_space();
                list.iter().for_each(|one| one.check(&space).unwrap());
                for pair in list.windows(2) {
                    assert!(pair[0].end() <= pair[1].offset.get());
                    let both = pair[0].merged(&pair[1]);
                    assert!(both.is_none_or(|both| both.check(&space).is_err()), "{pair:?} of {number}");
                }
                assert_eq!(inode.data.count.get(), list.len() as u64);
                assert_eq!(
                    inode.blocks.get(),
                    list.iter().map(|one| u64::from(one.length.get())).sum::<u64>()
                );
                list
            }
            _ => {
                assert_eq!(inode.data.format, ForkFormat::EMPTY);
                Vec::new()
            }
        }
    }

    /// The blocks of a fork of entries.
    fn bodies(&mut self, inode: &Inode, which: Which) {
        if let Some(tree) = self.volume.fork_tree::<Index>(inode, which) {
            walk(self, &tree, &inode.fork(which).tree, which.name());
        }
        let bodies: Vec<_> = self.volume.bodies(inode, which, 0).map(Result::unwrap).collect();
        let mut blocks = Vec::new();
        for body in bodies {
            if let BodyPlace::Block { block, .. } = body.place {
                blocks.push(block);
            }
            if which == Which::Data {
                for entry in body.entries::<DirectoryEntry>() {
                    let cookie = entry.unwrap().head.cookie.get();
                    assert!((body.low..=body.high).contains(&cookie));
                }
            }
        }
        blocks.into_iter().for_each(|block| self.take(block, "a block of entries"));
    }

    /// Checksums: sealed for written data of files with checksums, and right; none for the rest.
    fn sums(&self, geometry: &Geometry, extents: &BTreeMap<u64, Vec<Extent>>) {
        if !geometry.csum {
            return;
        }
        let mut sealed = BTreeSet::new();
        for (number, list) in extents {
            let inode = self.volume.inode(*number).unwrap();
            if inode.flags.get() & 8 != 0 {
                continue;
            }
            for one in list.iter().filter(|one| !one.flags.is_unwritten()) {
                sealed.extend(one.start.get()..one.start.get() + u64::from(one.length.get()));
            }
        }
        let device = self.volume.blocks.device();
        for block in 0..geometry.blocks {
            let bytes = device.bytes(geometry.sum_offset(block).unwrap(), 8).unwrap();
            let sum = Sum::read_from_bytes(bytes).unwrap();
            if sealed.contains(&block) && sum.state != SumState::OPEN {
                assert_eq!(sum.state, SumState::SEALED, "block {block}");
                assert_eq!(sum.crc.get(), self.volume.seed.plain(device.block(block).unwrap()));
            } else {
                assert_eq!(sum.crc.get(), 0);
            }
        }
    }
}

impl Verified {
    /// Contents of a regular file.
    pub fn read(&self, device: &Device, path: &[u8]) -> Vec<u8> {
        let found = find(device).unwrap();
        let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
        let number = self.names[path];
        let inode = volume.inode(number).unwrap();
        let mut bytes = vec![0; usize::try_from(inode.size.get()).unwrap()];
        for one in self.extents[&number].iter().filter(|one| !one.flags.is_unwritten()) {
            for i in 0..u64::from(one.length.get()) {
                let at = usize::try_from((one.offset.get() + i) * 4096).unwrap();
                let end = bytes.len().min(at + 4096);
                let block = device.block(one.start.get() + i).unwrap();
                bytes[at..end].copy_from_slice(&block[..end - at]);
                assert!(block[end - at..].iter().all(|byte| *byte == 0), "not zero behind the end");
            }
        }
        bytes
    }

    /// An inode.
    pub fn inode(&self, device: &Device, path: &[u8]) -> Inode {
        let found = find(device).unwrap();
        *Volume::new(Image::new(device), found.superblock, found.geometry).inode(self.names[path]).unwrap()
    }

    /// Extended attributes, by name.
    pub fn xattrs(&self, device: &Device, path: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let found = find(device).unwrap();
        let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
        let inode = volume.inode(self.names[path]).unwrap();
        let list = volume.attributes(inode).map(Result::unwrap);
        let list = list.filter(|entry| entry.head.kind != AttributeKind::PARENT);
        list.map(|entry| (entry.name.to_vec(), volume.attribute_value(inode, &entry).unwrap())).collect()
    }

    /// Target of a symlink.
    pub fn target(&self, device: &Device, path: &[u8]) -> Vec<u8> {
        let found = find(device).unwrap();
        let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
        volume.target(volume.inode(self.names[path]).unwrap()).unwrap()
    }
}

/// Opens an image and proves it right.
pub fn verify_file(path: &Path) -> (Device, Verified) {
    let device = Device::open(path, Access::ReadOnly).unwrap();
    let verified = verify(&device);
    (device, verified)
}

/// Whether `owner` is metadata.
pub fn is_metadata(owner: Owner) -> bool {
    !owner.is_inode()
}
