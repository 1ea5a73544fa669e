//! Ownership without a reverse map: the extents of all files, brought into its form.

use super::{Owned, OwnersFault};
use crate::blocks::Blocks;
use crate::chunk::{CHUNK_INODES, Chunk};
use crate::cluster::Cluster;
use crate::extent::Extent;
use crate::geometry::{Geometry, INODES_PER_BLOCK};
use crate::group::{GroupHeader, GroupTree};
use crate::inode::FileType;
use crate::path::group_header;
use crate::record::{Key, Record};
use crate::rmap::{Owner, Rmap};
use crate::volume::Volume;
use core::ops::Range;
use std::collections::VecDeque;

type Faults = VecDeque<Result<Owned, OwnersFault>>;

/// Numbers of the inodes in use, group by group.
pub fn inodes<'v, B: Blocks>(volume: &'v Volume<B>) -> impl Iterator<Item = Result<u64, OwnersFault>> + 'v {
    volume.geometry.group_numbers().flat_map(move |group| {
        let header = group_header(volume, group).map_err(|fault| OwnersFault::Group { group, fault });
        match header {
            Ok((header, _)) => Box::new(group_inodes(volume, group, header)) as Box<dyn Iterator<Item = _>>,
            Err(fault) => Box::new(core::iter::once(Err(fault))),
        }
    })
}

fn group_inodes<'v, B: Blocks>(
    volume: &'v Volume<B>,
    group: u32,
    header: &'v GroupHeader,
) -> impl Iterator<Item = Result<u64, OwnersFault>> + 'v {
    let tree = volume.group_tree::<Chunk>(group, header, GroupTree::Inodes);
    tree.range(&volume.blocks, Key::MIN).flat_map(move |at| {
        let (first, used, fault) = match at {
            Ok(at) => {
                let block = volume.geometry.volume_block(group, at.record.start.get());
                (Geometry::inode_number(block, 0), at.record.used.get(), None)
            }
            Err(fault) => (0, 0, Some(OwnersFault::Tree { group, tree: GroupTree::Inodes, fault })),
        };
        let numbers = (0..CHUNK_INODES).filter(move |bit| used >> bit & 1 != 0);
        let numbers = numbers.map(move |bit| Ok(first.saturating_add(bit.into())));
        fault.map(Err).into_iter().chain(numbers)
    })
}

/// The extents of all files that lie in `range`, as reverse-map records with the group of each, sorted.
pub(super) fn files<B: Blocks>(
    volume: &Volume<B>,
    range: Range<u64>,
    faults: &mut Faults,
) -> Vec<(u32, Rmap)> {
    let mut records = Vec::new();
    for number in inodes(volume) {
        let inode = number.and_then(|number| {
            volume.inode(number).map_err(|fault| OwnersFault::Inode { inode: number, fault })
        });
        let inode = match inode {
            Ok(inode) => inode,
            Err(fault) => {
                faults.push_back(Err(fault));
                continue;
            }
        };
        if inode.file_type() != Some(FileType::Regular) {
            continue;
        }
        let number = inode.header.place.get();
        for extent in volume.extents(inode) {
            match extent {
                Ok(extent) => records.extend(record(&volume.geometry, number, &extent, &range)),
                Err(fault) => faults.push_back(Err(OwnersFault::Extents { inode: number, fault })),
            }
        }
    }
    records.sort_unstable_by_key(|(group, record)| (*group, record.key()));
    records
}

/// An extent as the reverse map would have it, if it lies in the range.
fn record(geometry: &Geometry, inode: u64, extent: &Extent, range: &Range<u64>) -> Option<(u32, Rmap)> {
    let start = extent.start.get();
    let end = start.saturating_add(extent.length.get().into());
    let place = geometry.locate(start).filter(|_| start < range.end && end > range.start)?;
    let record = Rmap {
        start: place.block.into(),
        length: extent.length,
        owner: Owner::new(inode),
        offset: extent.offset,
        flags: extent.flags,
    };
    Some((place.group, record))
}

/// The records over a group's range: those of the files and of its clusters.
pub(super) fn group_records<B: Blocks>(
    volume: &Volume<B>,
    files: &[(u32, Rmap)],
    group: u32,
    header: &GroupHeader,
    range: Range<u64>,
) -> Vec<Result<Rmap, OwnersFault>> {
    let first = files.partition_point(|(other, _)| *other < group);
    let own = files.get(first..).unwrap_or_default().iter().take_while(|(other, _)| *other == group);
    let mut records: Vec<Rmap> = own.map(|(_, record)| *record).collect();
    let mut all = Vec::new();
    let cluster_blocks = volume.geometry.cluster_blocks;
    let tree = volume.group_tree::<Cluster>(group, header, GroupTree::Clusters);
    // A cluster's record covers its first block only.
    let from = range.start - range.start % cluster_blocks;
    for at in tree.overlapping(&volume.blocks, from..range.end) {
        match at {
            Ok(at) => records.push(Rmap {
                start: at.record.start,
                length: u32::try_from(cluster_blocks).unwrap_or(u32::MAX).into(),
                owner: Owner::CLUSTER,
                offset: 0.into(),
                flags: 0.into(),
            }),
            Err(fault) => all.push(Err(OwnersFault::Tree { group, tree: GroupTree::Clusters, fault })),
        }
    }
    records.sort_unstable_by_key(Record::key);
    all.extend(records.into_iter().map(Ok));
    all
}

const _: () = assert!(CHUNK_INODES as u64 == INODES_PER_BLOCK * crate::chunk::CHUNK_BLOCKS as u64);
