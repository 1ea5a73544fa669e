//! `extents`: where the blocks of a file are.

use crate::error::CommandError;
use crate::faults::Faults;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use crate::target::Target;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::group::GroupTree;
use paxfs_format::path::group_header;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::superblock::ReadOnlyCompatible;
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::ffi::OsString;

/// Arguments of `extents`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A path from `/`, or an inode number
    pub file: OsString,
}

/// A part of an extent that has one reference count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Its first block.
    pub start: u64,
    /// Its blocks.
    pub length: u64,
    /// Whether it reads as zeros.
    pub unwritten: bool,
    /// How many own it, by the refcount tree.
    pub shared: u64,
    /// Whether file offset and block agree modulo 2 MiB.
    pub congruent: bool,
}

/// Lists them.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let volume = session.volume();
    let target = Target::find(&volume, &arguments.file)?.regular()?;
    let columns = &["#offset", "#block", "#blocks", "#shared", "2 MiB", "flags"];
    let mut rows = Rows::start(format, "extents", columns)?;
    let mut faults = Faults::default();
    'all: for extent in volume.extents(target.inode) {
        let parts = match extent {
            Ok(extent) => parts(&volume, &extent),
            Err(fault) => Err(format!("inode {}: {fault}", target.number)),
        };
        match parts {
            Ok(parts) => {
                for part in parts {
                    if !rows.row(&part, || cells(&part))? {
                        break 'all;
                    }
                }
            }
            Err(fault) => faults.note(fault),
        }
    }
    let rest = Output::new().data("inode", &target.number).data("size", &target.inode.size.get());
    rows.end(rest.failure(faults.failure()))
}

fn cells(part: &Part) -> Vec<String> {
    let Part { offset, start, length, unwritten, shared, congruent } = part;
    let flags = if *unwritten { "unwritten" } else { "" };
    vec![
        offset.to_string(),
        start.to_string(),
        length.to_string(),
        shared.to_string(),
        if *congruent { "congruent" } else { "" }.to_owned(),
        flags.to_owned(),
    ]
}

/// An extent, cut where its reference count changes.
pub fn parts<B: Blocks>(volume: &Volume<B>, extent: &Extent) -> Result<Vec<Part>, String> {
    let first = extent.start.get();
    let mut parts = Vec::new();
    let mut part = |from: u64, to: u64, shared: u64| {
        if from < to {
            let offset = extent.offset.get().saturating_add(from - first);
            parts.push(Part {
                offset: offset.saturating_mul(BLOCK_BYTES),
                start: from,
                length: to - from,
                unwritten: extent.flags.is_unwritten(),
                shared,
                congruent: is_congruent(offset, from),
            });
        }
    };
    let end = first.saturating_add(extent.length.get().into());
    let mut at = first;
    shares(volume, first..end, |start, to, count| {
        let (start, to) = (start.clamp(at, end), to.clamp(at, end));
        part(at, start, 1);
        part(start, to, count);
        at = to;
    })?;
    part(at, end, 1);
    Ok(parts)
}

/// Whether a file block and a volume block agree modulo 2 MiB.
pub fn is_congruent(offset: u64, block: u64) -> bool {
    offset % HUGE_BLOCKS == block % HUGE_BLOCKS
}

/// Tells the shared runs, and their counts, that overlap a run of volume blocks within one group.
pub fn shares<B: Blocks>(
    volume: &Volume<B>,
    range: std::ops::Range<u64>,
    mut tell: impl FnMut(u64, u64, u64),
) -> Result<(), String> {
    if !volume.superblock.has(ReadOnlyCompatible::REFLINK) {
        return Ok(());
    }
    let Some(place) = volume.geometry.locate(range.start) else {
        return Err(format!("block {} is past the end of the volume", range.start));
    };
    let group = place.group;
    let (header, _) = group_header(volume, group).map_err(|fault| format!("group[{group}]: {fault}"))?;
    let tree = volume.group_tree::<Refcount>(group, header, GroupTree::Refcount);
    let first = u64::from(place.block);
    let length = range.end.saturating_sub(range.start);
    let base = volume.geometry.group_start(group);
    for at in tree.overlapping(&volume.blocks, first..first.saturating_add(length)) {
        let record = at.map_err(|error| format!("refcount[{group}]: {error}"))?.record;
        let (start, end) = (u64::from(record.start.get()), record.end());
        tell(base.saturating_add(start), base.saturating_add(end), record.count.get().into());
    }
    Ok(())
}
