//! What metadata is: by its place where that is fixed, else by its own header.

use super::{Metadata, Role};
use crate::blocks::Blocks;
use crate::chunk::{CHUNK_INODES, Chunk};
use crate::cluster::Cluster;
use crate::geometry::{Geometry, INODES_PER_BLOCK};
use crate::group::{GroupHeader, GroupTree};
use crate::header::{BlockKind, Header};
use crate::journal::SLOTS;
use crate::path::header_in;
use crate::record::{Key, Record};
use crate::rmap::Owner;
use crate::sums::SUMS_PER_BLOCK;
use crate::tree::TreeError;
use crate::volume::Volume;
use core::ops::Range;

/// What lies in a run of the blocks at a group's start.
pub(super) fn fixed(geometry: &Geometry, group: u32, run: Range<u64>) -> Vec<(Range<u64>, Metadata)> {
    let start = geometry.group_start(group);
    let relative = |range: Range<u64>| range.start.saturating_sub(start)..range.end.saturating_sub(start);
    let before = match group.checked_sub(1) {
        Some(before) => before,
        None => u32::try_from(geometry.groups().saturating_sub(1)).unwrap_or(u32::MAX),
    };
    let superblock = if group == 0 { "sb".to_owned() } else { format!("sb[{group}]") };
    let mut parts = vec![
        (0..1, "superblock", superblock),
        (1..2, "group", format!("group[{group}]")),
        (2..3, "group copy", format!("group_copy[{before}]")),
    ];
    let table = relative(geometry.table(group));
    let first = run.start.max(table.start).saturating_sub(table.start).saturating_mul(SUMS_PER_BLOCK);
    parts.push((table, "checksums", format!("sum[{}]", start.saturating_add(first))));
    if group == 0 {
        let journal = geometry.journal();
        let half = geometry.journal_blocks / SLOTS;
        let middle = journal.start.saturating_add(half);
        parts.push((journal.start..middle, "journal", "journal.slot[0]".to_owned()));
        parts.push((middle..journal.end, "journal", "journal.slot[1]".to_owned()));
    }
    let clipped = parts.into_iter().map(|(part, what, at)| {
        let part = part.start.max(run.start)..part.end.min(run.end);
        (part, Metadata { what, at, inodes: Vec::new() })
    });
    clipped.filter(|(part, _)| !part.is_empty()).collect()
}

/// What a record calls its run that has an owner for fixed places, and is not there.
pub(super) fn misplaced(owner: Owner) -> &'static str {
    match owner {
        Owner::HEAD => "head",
        Owner::JOURNAL => "journal",
        Owner::CHECKSUMS => "checksums",
        _ => "metadata",
    }
}

/// The record of the cluster that begins at a group's block.
pub(super) fn cluster<B: Blocks>(
    volume: &Volume<B>,
    group: u32,
    header: Option<&GroupHeader>,
    start: u64,
) -> Result<Option<Cluster>, TreeError> {
    let Some(header) = header else { return Ok(None) };
    let tree = volume.group_tree::<Cluster>(group, header, GroupTree::Clusters);
    let at = tree.last_at_or_before(&volume.blocks, Key::at(start))?;
    Ok(at.map(|at| at.record).filter(|cluster| u64::from(cluster.start.get()) == start))
}

/// What a block of a cluster is, given whether the cluster's record, if there is one, says that it is in use.
pub(super) fn in_cluster<B: Blocks>(
    volume: &Volume<B>,
    group: u32,
    header: Option<&GroupHeader>,
    block: u64,
    used: Option<bool>,
) -> Role {
    let number = volume.geometry.group_start(group).saturating_add(block);
    let at = format!("block[{number}]");
    if used == Some(false) {
        return Role::Unused;
    }
    let found = volume.blocks.block(number).ok().and_then(|bytes| header_in(volume, number, bytes));
    // A chunk's block whose inodes were never used says nothing itself.
    let chunk = if found.is_none_or(|found| found.kind == BlockKind::INODE) {
        header.and_then(|header| chunk_over(volume, group, header, block))
    } else {
        None
    };
    match (found, chunk) {
        (_, Some(chunk)) => {
            let inodes = used_inodes(&chunk, number, block);
            Role::Metadata(Metadata { what: "inodes", at, inodes })
        }
        (Some(found), None) => {
            let inodes = of_inode(found.kind).then(|| found.owner.get()).into_iter().collect();
            Role::Metadata(Metadata { what: name(&found), at, inodes })
        }
        (None, None) if used.is_none() => Role::Unknown,
        (None, None) => Role::Metadata(Metadata { what: "metadata", at, inodes: Vec::new() }),
    }
}

/// What a header says its block is.
fn name(header: &Header) -> &'static str {
    match header.kind {
        BlockKind::FREE => "free tree",
        BlockKind::REFCOUNT => "refcount tree",
        BlockKind::RMAP => "rmap tree",
        BlockKind::INODES => "inode tree",
        BlockKind::CLUSTERS => "cluster tree",
        BlockKind::BAD => "bad tree",
        BlockKind::EXTENTS => "extent tree",
        BlockKind::INODE => "inodes",
        kind => kind.name().unwrap_or("metadata"),
    }
}

/// Whether such blocks belong to an inode.
fn of_inode(kind: BlockKind) -> bool {
    matches!(
        kind,
        BlockKind::EXTENTS
            | BlockKind::DIRECTORY_INDEX
            | BlockKind::ATTRIBUTE_INDEX
            | BlockKind::DIRECTORY
            | BlockKind::ATTRIBUTES
            | BlockKind::VALUE
    )
}

fn chunk_over<B: Blocks>(volume: &Volume<B>, group: u32, header: &GroupHeader, block: u64) -> Option<Chunk> {
    let tree = volume.group_tree::<Chunk>(group, header, GroupTree::Inodes);
    let at = tree.last_at_or_before(&volume.blocks, Key::at(block)).ok().flatten()?;
    (at.record.end() > block).then_some(at.record)
}

/// The inodes in use in a block of a chunk.
fn used_inodes(chunk: &Chunk, number: u64, block: u64) -> Vec<u64> {
    let before = block.saturating_sub(chunk.start.get().into()).saturating_mul(INODES_PER_BLOCK);
    let before = u32::try_from(before).unwrap_or(u32::MAX).min(CHUNK_INODES - 1);
    let used = chunk.used.get() >> before;
    (0..INODES_PER_BLOCK)
        .filter(|slot| used >> slot & 1 != 0)
        .map(|slot| Geometry::inode_number(number, slot))
        .collect()
}
