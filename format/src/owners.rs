//! Who owns the blocks of a volume: files by inode and offset, metadata by what it is, or nobody.
//!
//! ```no_run
//! # fn f<B: paxfs_format::blocks::Blocks>(volume: &paxfs_format::volume::Volume<B>) {
//! use paxfs_format::owners::{Source, owners};
//! for owned in owners(volume, 81920..81921, Source::best(volume)) {
//!     println!("{owned:?}");
//! }
//! # }
//! ```
//!
//! The answer comes out of the reverse map in O(log n + answers), group by group, in the order of the blocks. A block in
//! a metadata cluster says itself what it is. What nobody owns must be in the free-space tree: if it is not, it is lost,
//! and said to be *unknown*. On a volume without reverse map all files are searched ([`Source::Files`]).
//!
//! Every block of the range comes out at least once: as a run of one role, or for data as a run with one set of owners,
//! once for each of them. Broken structures come out as faults between the runs, and what they would have said as
//! *unknown*.
//!
//! The path of a node, or of any other block in a cluster, is `block[B]`: its ordinal would take a walk.

mod metadata;
mod scan;

pub use scan::inodes;

use crate::blocks::Blocks;
use crate::free::Free;
use crate::geometry::BLOCK_BYTES;
use crate::group::{GroupHeader, GroupTree};
use crate::path::{TargetError, group_header};
use crate::record::Record;
use crate::rmap::{Owner, Rmap};
use crate::superblock::ReadOnlyCompatible;
use crate::tree::TreeError;
use crate::volume::{StructureFault, Volume};
use core::iter::Peekable;
use core::ops::Range;
use std::collections::VecDeque;

/// A run of blocks and its owner, or one of its owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// First block, on the volume.
    pub start: u64,
    /// Blocks.
    pub length: u64,
    /// The owner.
    pub role: Role,
}

/// What owns a run of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A file, for its contents.
    Data(Data),
    /// Metadata.
    Metadata(Metadata),
    /// A metadata cluster, which has no use for it at present.
    Unused,
    /// Nobody: it is free.
    Free,
    /// Nobody is known, and it is not free either: lost, or the structure that would say it is broken.
    Unknown,
    /// Past the end of the volume.
    Outside,
}

/// A run of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The file.
    pub inode: u64,
    /// Where the run begins in the file, in bytes.
    pub offset: u64,
    /// Allocated, but reads as zeros.
    pub unwritten: bool,
    /// How many own the run, this one included.
    pub shared: u64,
}

/// A run of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is: `superblock`, `rmap tree`, `directory`, …
    pub what: &'static str,
    /// Its path ([`crate::path`]).
    pub at: String,
    /// Inodes in use that it holds or belongs to.
    pub inodes: Vec<u64>,
}

impl Role {
    /// Its name: `data`, `free`, or what the metadata is.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Data(_) => "data",
            Role::Metadata(metadata) => metadata.what,
            Role::Unused => "unused",
            Role::Free => "free",
            Role::Unknown => "unknown",
            Role::Outside => "outside",
        }
    }
}

/// Where ownership of data is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The reverse map.
    ReverseMap,
    /// The extents of all files: for a volume without reverse map, or to do without it.
    Files,
}

impl Source {
    /// The reverse map if the volume has it.
    pub fn best<B>(volume: &Volume<B>) -> Self {
        if volume.superblock.has(ReadOnlyCompatible::RMAP) { Source::ReverseMap } else { Source::Files }
    }
}

/// A structure that could not be read on the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnersFault {
    /// The header of a group and its copy.
    #[error("group {group}: {fault}")]
    Group {
        /// The group.
        group: u32,
        /// What is wrong.
        fault: TargetError,
    },
    /// A node of a group's tree.
    #[error("{tree}[{group}]: {fault}", tree = tree.name())]
    Tree {
        /// The group.
        group: u32,
        /// The tree.
        tree: GroupTree,
        /// What is wrong.
        fault: TreeError,
    },
    /// An inode, when files are searched.
    #[error("inode[{inode}]: {fault}")]
    Inode {
        /// The inode.
        inode: u64,
        /// What is wrong.
        fault: StructureFault,
    },
    /// Extents of a file, when files are searched.
    #[error("inode[{inode}].extents: {fault}")]
    Extents {
        /// The inode.
        inode: u64,
        /// What is wrong.
        fault: crate::fork::ForkFault,
    },
}

/// The owners of the blocks in `range`.
pub fn owners<B: Blocks>(volume: &Volume<B>, range: Range<u64>, source: Source) -> Owners<'_, B> {
    let mut queue = VecDeque::new();
    let end = range.end.min(volume.geometry.blocks);
    let files = match source {
        Source::ReverseMap => None,
        Source::Files => Some(scan::files(volume, range.start..end, &mut queue)),
    };
    let outside = range.start.max(volume.geometry.blocks)..range.end;
    Owners { volume, rest: range.start..end, outside, files, sweep: None, queue }
}

/// The records that say who owns a group's blocks, in order.
type Records<'v> = Box<dyn Iterator<Item = Result<Rmap, OwnersFault>> + 'v>;

/// Owners of a range of blocks. Made by [`owners`].
pub struct Owners<'v, B> {
    volume: &'v Volume<B>,
    /// What is still to be told of the volume.
    rest: Range<u64>,
    /// What of the range the volume does not have.
    outside: Range<u64>,
    /// Records made of the files' extents, with the group of each.
    files: Option<Vec<(u32, Rmap)>>,
    sweep: Option<Sweep<'v>>,
    queue: VecDeque<Result<Owned, OwnersFault>>,
}

/// The part of the range in one group. Numbers are the group's own.
struct Sweep<'v> {
    group: u32,
    header: Option<&'v GroupHeader>,
    records: Peekable<Records<'v>>,
    /// Records over `position`.
    active: Vec<Rmap>,
    position: u64,
    end: u64,
    /// A run of clusters, still to be looked into.
    clusters: Range<u64>,
}

impl<B: Blocks> Iterator for Owners<'_, B> {
    type Item = Result<Owned, OwnersFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.queue.pop_front() {
                return Some(next);
            }
            match self.sweep.take() {
                Some(sweep) => self.sweep = self.step(sweep),
                None if self.rest.is_empty() => {
                    let Range { start, end } = core::mem::take(&mut self.outside);
                    let length = end.checked_sub(start).filter(|length| *length > 0)?;
                    return Some(Ok(Owned { start, length, role: Role::Outside }));
                }
                None => self.sweep = self.next_group(),
            }
        }
    }
}

impl<'v, B: Blocks> Owners<'v, B> {
    /// Begins with the group that the rest begins in.
    fn next_group(&mut self) -> Option<Sweep<'v>> {
        let geometry = &self.volume.geometry;
        let place = geometry.locate(self.rest.start);
        let Some(place) = place else {
            self.rest = 0..0;
            return None;
        };
        let start = geometry.group_start(place.group);
        let end = self.rest.end.min(start.saturating_add(geometry.group_len(place.group)));
        self.rest.start = end;
        let range = u64::from(place.block)..end.saturating_sub(start);
        let header = group_header(self.volume, place.group).map(|(header, _)| header);
        let header = header.map_err(|fault| {
            self.queue.push_back(Err(OwnersFault::Group { group: place.group, fault }));
        });
        let records = self.records(place.group, header.ok(), range.clone());
        Some(Sweep {
            group: place.group,
            header: header.ok(),
            records: records.peekable(),
            active: Vec::new(),
            position: range.start,
            end: range.end,
            clusters: 0..0,
        })
    }

    fn records(&mut self, group: u32, header: Option<&'v GroupHeader>, range: Range<u64>) -> Records<'v> {
        let volume = self.volume;
        let Some(header) = header else { return Box::new(core::iter::empty()) };
        if let Some(files) = &self.files {
            return Box::new(scan::group_records(volume, files, group, header, range).into_iter());
        }
        let tree = volume.group_tree::<Rmap>(group, header, GroupTree::Rmap);
        Box::new(tree.overlapping(&volume.blocks, range).map(move |at| match at {
            Ok(at) => Ok(at.record),
            Err(fault) => Err(OwnersFault::Tree { group, tree: GroupTree::Rmap, fault }),
        }))
    }

    /// Tells of the next run, on which nothing changes; `None` at the end of the group.
    fn step(&mut self, mut sweep: Sweep<'v>) -> Option<Sweep<'v>> {
        if !sweep.clusters.is_empty() {
            self.next_cluster(&mut sweep);
            return Some(sweep);
        }
        if sweep.position >= sweep.end {
            return None;
        }
        sweep.active.retain(|record| record.end() > sweep.position);
        while let Some(next) = sweep.records.next_if(|next| match next {
            Ok(record) => u64::from(record.start.get()) <= sweep.position,
            Err(_) => true,
        }) {
            match next {
                Ok(record) if record.end() > sweep.position => sweep.active.push(record),
                Ok(_) => {}
                Err(fault) => self.queue.push_back(Err(fault)),
            }
        }
        let next = sweep.records.peek().and_then(|next| next.as_ref().ok());
        let fixed = self.volume.geometry.fixed_blocks(sweep.group);
        let bounds = sweep.active.iter().map(Record::end).chain(next.map(|next| next.start.get().into()));
        let end = bounds.chain([fixed]).filter(|end| *end > sweep.position).fold(sweep.end, u64::min);
        let run = sweep.position..end;
        sweep.position = end;
        self.tell(&mut sweep, run, fixed);
        Some(sweep)
    }

    /// Tells all owners of a run.
    fn tell(&mut self, sweep: &mut Sweep<'v>, run: Range<u64>, fixed: u64) {
        let is_fixed = run.start < fixed;
        if is_fixed {
            for (part, metadata) in metadata::fixed(&self.volume.geometry, sweep.group, run.clone()) {
                self.push(sweep.group, part, Role::Metadata(metadata));
            }
        } else if sweep.active.is_empty() {
            self.tell_gap(sweep, run.clone());
        }
        let shared = sweep.active.iter().filter(|record| record.owner.is_inode()).count();
        let shared = u64::try_from(shared).unwrap_or(u64::MAX);
        for record in &sweep.active {
            let role = match record.owner {
                owner if owner.is_inode() => {
                    let blocks = run.start.saturating_sub(record.start.get().into());
                    let offset = record.offset.get().saturating_add(blocks).saturating_mul(BLOCK_BYTES);
                    let unwritten = record.flags.is_unwritten();
                    Role::Data(Data { inode: owner.get(), offset, unwritten, shared })
                }
                // What lies at fixed places was told, whatever the record makes of it.
                _ if is_fixed => continue,
                Owner::CLUSTER => {
                    sweep.clusters = run.clone();
                    continue;
                }
                owner => {
                    let block = self.volume.geometry.group_start(sweep.group).saturating_add(run.start);
                    let what = metadata::misplaced(owner);
                    Role::Metadata(Metadata { what, at: format!("block[{block}]"), inodes: Vec::new() })
                }
            };
            self.push(sweep.group, run.clone(), role);
        }
    }

    /// Tells what of a run that nobody owns is free.
    fn tell_gap(&mut self, sweep: &Sweep<'v>, run: Range<u64>) {
        let group = sweep.group;
        let mut position = run.start;
        if let Some(header) = sweep.header {
            let tree = self.volume.group_tree::<Free>(group, header, GroupTree::Free);
            for at in tree.overlapping(&self.volume.blocks, run.clone()) {
                match at {
                    Ok(at) => {
                        let start = u64::from(at.record.start.get()).clamp(position, run.end);
                        let end = at.record.end().clamp(start, run.end);
                        self.push(group, position..start, Role::Unknown);
                        self.push(group, start..end, Role::Free);
                        position = end;
                    }
                    Err(fault) => {
                        let tree = GroupTree::Free;
                        self.queue.push_back(Err(OwnersFault::Tree { group, tree, fault }));
                    }
                }
            }
        }
        self.push(group, position..run.end, Role::Unknown);
    }

    /// Tells what is in the first cluster of a run of clusters.
    fn next_cluster(&mut self, sweep: &mut Sweep<'v>) {
        let (volume, group) = (self.volume, sweep.group);
        let cluster_blocks = volume.geometry.cluster_blocks;
        let cluster = sweep.clusters.start - sweep.clusters.start % cluster_blocks;
        let end = cluster.saturating_add(cluster_blocks).min(sweep.clusters.end);
        let run = sweep.clusters.start..end;
        sweep.clusters.start = end;
        let found = metadata::cluster(volume, group, sweep.header, cluster);
        let found = found.unwrap_or_else(|fault| {
            self.queue.push_back(Err(OwnersFault::Tree { group, tree: GroupTree::Clusters, fault }));
            None
        });
        let mut unused = run.start..run.start;
        for block in run {
            let index = u32::try_from(block - cluster).unwrap_or(u32::MAX);
            let role = metadata::in_cluster(
                volume,
                group,
                sweep.header,
                block,
                found.map(|found| found.is_used(index)),
            );
            match role {
                Role::Unused => unused.end = block + 1,
                role => {
                    self.push(group, core::mem::replace(&mut unused, block + 1..block + 1), Role::Unused);
                    self.push(group, block..block + 1, role);
                }
            }
        }
        self.push(group, unused, Role::Unused);
    }

    /// Tells of a run of a group's blocks, unless it is empty.
    fn push(&mut self, group: u32, run: Range<u64>, role: Role) {
        if !run.is_empty() {
            let start = self.volume.geometry.group_start(group).saturating_add(run.start);
            self.queue.push_back(Ok(Owned { start, length: run.end - run.start, role }));
        }
    }
}
