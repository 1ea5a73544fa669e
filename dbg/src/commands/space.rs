//! `space`: every byte of the volume accounted for.
//!
//! The rows are those of `owner` over the whole volume, in the order of the blocks, without paths; neighbours of one kind
//! of metadata are one row. So each block is in exactly one row, or for data in one for each of its owners.

use crate::commands::freesp::per_cent;
use crate::error::CommandError;
use crate::faults::Faults;
use crate::holders::{Holder, held_and_free};
use crate::output::{Format, Output, Rows, Table};
use crate::session::Session;
use crate::sweep::Sweep;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::owners::{Data, Owned, Role, Source, owners};
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::collections::BTreeMap;

/// Arguments of `space`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rows are those of `owner`. Role unknown: no owner is known, and it is not free; missing: the device ends \
                  before the volume. Blocks that are claimed twice where they may not be are listed as conflicts."
)]
pub struct Arguments {
    /// The sums only
    #[arg(short)]
    pub summary: bool,
}

/// Most conflicts that are listed.
const MAX_CONFLICTS: usize = 1000;
const COLUMNS: &[&str] = &["#start", "#length", "role", "#inode", "#offset", "#shared", "flags", "at"];

/// A run of blocks and its owner, or one of its owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// First block.
    pub start: u64,
    /// Blocks.
    pub length: u64,
    /// `data`, `free`, or what the metadata is.
    pub role: &'static str,
    /// The file that it is data of, or that the metadata belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Where the run is in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many own it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// Whether it reads as zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<bool>,
    /// Path of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Blocks claimed twice where they may not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// First block.
    pub start: u64,
    /// Blocks.
    pub length: u64,
    /// By whom, as `free`, `metadata`, `data`.
    pub claims: Vec<&'static str>,
}

/// Bytes by role. A shared block counts once, as `shared data`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    bytes: BTreeMap<&'static str, u64>,
    /// One past the last block counted.
    end: u64,
}

impl Sums {
    fn add(&mut self, row: &Row) {
        // Further owners of a run that was counted.
        let start = row.start.max(self.end);
        let end = row.start.saturating_add(row.length).max(start);
        self.end = end;
        let role = if row.shared.is_some_and(|shared| shared > 1) { "shared data" } else { row.role };
        let bytes = self.bytes.entry(role).or_default();
        *bytes = bytes.saturating_add((end - start).saturating_mul(BLOCK_BYTES));
    }

    /// By role.
    pub fn bytes(&self) -> &BTreeMap<&'static str, u64> {
        &self.bytes
    }
}

impl Row {
    fn of(owned: Owned) -> Self {
        let Owned { start, length, role } = owned;
        let name = role.name();
        let row = Row {
            start,
            length,
            role: name,
            inode: None,
            offset: None,
            shared: None,
            unwritten: None,
            at: None,
        };
        match role {
            Role::Data(Data { inode, offset, unwritten, shared }) => Row {
                inode: Some(inode),
                offset: Some(offset),
                shared: Some(shared),
                unwritten: Some(unwritten),
                ..row
            },
            Role::Metadata(metadata) => {
                let inode = metadata.inodes.first().copied().filter(|_| name != "inodes");
                Row { inode, at: Some(metadata.at), ..row }
            }
            Role::Unused | Role::Free | Role::Unknown | Role::Outside => row,
        }
    }

    /// Takes in the row after it, if both are one kind of metadata, or nobody's.
    fn take_in(&mut self, next: &Row) -> bool {
        let follows = self.start.saturating_add(self.length) == next.start;
        // What has a place of its own keeps its row: its path is more than that of a block.
        let fits = |row: &Row| row.at.as_ref().is_none_or(|at| at.starts_with("block["));
        let same = self.role == next.role && self.inode == next.inode && self.shared.is_none();
        let joins = follows && same && next.shared.is_none() && fits(self) && fits(next);
        if joins {
            self.length = self.length.saturating_add(next.length);
        }
        joins
    }

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        vec![
            self.start.to_string(),
            self.length.to_string(),
            self.role.to_owned(),
            number(self.inode),
            number(self.offset),
            number(self.shared.filter(|shared| *shared > 1)),
            if self.unwritten == Some(true) { "unwritten".to_owned() } else { String::new() },
            self.at.clone().unwrap_or_default(),
        ]
    }
}

/// Tells the rows of a volume, until `tell` gives false.
pub fn rows<B: Blocks>(
    volume: &Volume<B>,
    faults: &mut Faults,
    mut tell: impl FnMut(&Row) -> Result<bool, CommandError>,
) -> Result<(), CommandError> {
    let blocks = volume.geometry.blocks;
    let reached = blocks.min(volume.blocks.blocks());
    let mut last: Option<Row> = None;
    for owned in owners(volume, 0..reached, Source::best(volume)) {
        match owned {
            Ok(owned) => {
                let row = Row::of(owned);
                if last.as_mut().is_some_and(|last| last.take_in(&row)) {
                    continue;
                }
                if let Some(last) = last.replace(row)
                    && !tell(&last)?
                {
                    return Ok(());
                }
            }
            Err(fault) => faults.note(fault),
        }
    }
    let missing = Owned { start: reached, length: blocks - reached, role: Role::Unknown };
    let missing = (missing.length > 0).then(|| Row { role: "missing", ..Row::of(missing) });
    for row in last.into_iter().chain(missing) {
        if !tell(&row)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Blocks that are free and not, metadata and data, or of two files on a volume that shares nothing. The first ones, and
/// how many there are.
pub fn conflicts<B: Blocks>(volume: &Volume<B>) -> (Vec<Conflict>, u64) {
    let shares = Source::best(volume) == Source::ReverseMap;
    let mut sweep = Sweep::new(held_and_free(volume), 0..volume.geometry.blocks);
    let (mut kept, mut count) = (Vec::new(), 0u64);
    while let Some(run) = sweep.next_run() {
        // Faults were met by whoever told the rows.
        sweep.take_faults();
        let only_data = || sweep.open().all(|held| matches!(held.by, Holder::Data { .. }));
        if sweep.depth() < 2 || (shares && only_data()) {
            continue;
        }
        count += 1;
        if kept.len() < MAX_CONFLICTS {
            let mut claims: Vec<_> = sweep.open().map(|held| claim(held.by)).collect();
            claims.sort_unstable();
            claims.truncate(16);
            kept.push(Conflict { start: run.start, length: run.end - run.start, claims });
        }
    }
    (kept, count)
}

fn claim(holder: Holder) -> &'static str {
    match holder {
        Holder::Data { .. } => "data",
        Holder::Metadata => "metadata",
        Holder::Free => "free",
    }
}

/// Prints all rows, then the sums.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let volume = session.volume();
    let mut faults = Faults::default();
    let mut sums = Sums::default();
    let rest = if arguments.summary {
        rows(&volume, &mut faults, |row| {
            sums.add(row);
            Ok(true)
        })?;
        None
    } else {
        let mut printed = Rows::start(format, "space", COLUMNS)?;
        rows(&volume, &mut faults, |row| {
            sums.add(row);
            printed.row(row, || row.cells())
        })?;
        Some(printed)
    };
    let (conflicts, count) = conflicts(&volume);
    let volume_bytes = volume.geometry.blocks.saturating_mul(BLOCK_BYTES);
    let tail = session.device().len().saturating_sub(volume_bytes);
    let mut table = Table::new(&["role", "#bytes", "#%"]);
    for (role, bytes) in sums.bytes() {
        table.row([(*role).to_owned(), bytes.to_string(), format!("{:.2}", per_cent(*bytes, volume_bytes))]);
    }
    table.row(["volume".to_owned(), volume_bytes.to_string(), String::new()]);
    if tail > 0 {
        table.row(["behind the volume".to_owned(), tail.to_string(), String::new()]);
    }
    let mut output = Output::new().text("\n").table(table);
    if !conflicts.is_empty() {
        let mut table = Table::new(&["#start", "#length", "claimed by"]);
        for Conflict { start, length, claims } in &conflicts {
            table.row([start.to_string(), length.to_string(), claims.join(" and ")]);
        }
        output = output.text(format!("\n{count} conflicts:\n")).table(table);
    }
    let output = output
        .data("bytes", sums.bytes())
        .data("volume_bytes", &volume_bytes)
        .data("tail_bytes", &tail)
        .data("conflicts", &conflicts)
        .data("conflicts_all", &count)
        .data("faults", faults.kept())
        .failure(faults.failure());
    match rest {
        Some(rows) => rows.end(output),
        None => Ok(output),
    }
}
