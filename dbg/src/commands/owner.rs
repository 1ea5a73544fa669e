//! `owner`: who owns a block, a range of blocks, a byte, or the blocks of a list of media errors: one that is given, or the
//! volume's own record of bad ranges.

use crate::PROGRAM;
use crate::error::CommandError;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use clap::Args;
use paxfs_format::bad::Bad;
use paxfs_format::badblocks;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::GroupTree;
use paxfs_format::owners::{Data, Metadata, Owned, Role, Source, owners};
use paxfs_format::path::group_header;
use paxfs_format::record::Key;
use paxfs_format::volume::Volume;
use paxfs_format::words::number;
use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Arguments of `owner`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A block, a range A..B of blocks without B, or with an @ before it a byte or a range of bytes; decimal or 0x…
    #[arg(value_name = "BLOCK|A..B|@BYTE", required_unless_present_any = ["badblocks", "recorded"])]
    pub ranges: Vec<String>,

    /// Ask for the blocks in a list of media errors ("sector length" in units of 512 bytes as in sysfs badblocks, or
    /// the JSON of ndctl list -M); - is standard input
    #[arg(short = 'B', long, value_name = "FILE")]
    pub badblocks: Option<PathBuf>,

    /// Ask for the bad ranges that the volume has recorded: media errors that are not healed
    #[arg(short, long)]
    pub recorded: bool,

    /// Read the extents of all files instead of the reverse map
    #[arg(short, long)]
    pub scan: bool,
}

/// Paths of an inode that are printed for people.
const PATHS_SHOWN: usize = 4;
/// Inodes whose paths are kept in memory.
const PATHS_KEPT: usize = 1 << 16;

const COLUMNS: &[&str] = &["#start", "#length", "role", "#inode", "#offset", "#shared", "flags", "path"];

/// One owner of a run.
#[derive(Debug, Serialize)]
struct Row {
    start: u64,
    length: u64,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unwritten: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Rc<[String]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inodes: Option<Vec<InodeRow>>,
}

/// An inode in a block of inodes.
#[derive(Debug, Serialize)]
struct InodeRow {
    inode: u64,
    paths: Rc<[String]>,
}

/// Prints the owners.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let mut ranges = arguments.ranges.iter().map(|text| parse_range(text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(list) = &arguments.badblocks {
        ranges.extend(read_list(list, session.device().path())?);
    }
    let volume = session.volume();
    let mut faults = 0u64;
    if arguments.recorded {
        faults = recorded(&volume, &mut ranges);
    }
    let source = match Source::best(&volume) {
        _ if arguments.scan => Source::Files,
        Source::Files => {
            eprintln!("{PROGRAM}: the volume has no reverse map: searching the extents of all files");
            Source::Files
        }
        Source::ReverseMap => Source::ReverseMap,
    };
    let mut rows = Rows::start(format, "owners", COLUMNS)?;
    let mut paths = Paths { volume: &volume, known: HashMap::new() };
    'all: for range in ranges {
        for owned in owners(&volume, range, source) {
            match owned {
                Ok(owned) => {
                    let row = paths.row(owned);
                    if !rows.row(&row, || cells(&row))? {
                        break 'all;
                    }
                }
                Err(fault) => {
                    faults += 1;
                    eprintln!("{PROGRAM}: {fault}");
                }
            }
        }
    }
    let failure = (faults > 0).then(|| {
        format!("{faults} structures could not be read, so owners may be missing (-s asks all files instead)")
    });
    rows.end(Output::new().failure(failure))
}

/// Adds the bad ranges of all groups; returns how many structures could not be read.
fn recorded<B: Blocks>(volume: &Volume<B>, ranges: &mut Vec<Range<u64>>) -> u64 {
    let mut faults = 0;
    for group in volume.geometry.group_numbers() {
        let header = match group_header(volume, group) {
            Ok((header, _)) => header,
            Err(fault) => {
                faults += 1;
                eprintln!("{PROGRAM}: group[{group}]: {fault}");
                continue;
            }
        };
        let tree = volume.group_tree::<Bad>(group, header, GroupTree::Bad);
        for at in tree.range(&volume.blocks, Key::MIN) {
            match at {
                Ok(at) => {
                    let start = volume.geometry.volume_block(group, at.record.start.get());
                    ranges.push(start..start.saturating_add(at.record.length.get().into()));
                }
                Err(fault) => {
                    faults += 1;
                    eprintln!("{PROGRAM}: bad[{group}]: {fault}");
                }
            }
        }
    }
    faults
}

/// Paths of inodes, each looked up once.
struct Paths<'v, B> {
    volume: &'v Volume<B>,
    known: HashMap<u64, Rc<[String]>>,
}

impl<B: Blocks> Paths<'_, B> {
    fn of(&mut self, inode: u64) -> Rc<[String]> {
        if let Some(paths) = self.known.get(&inode) {
            return Rc::clone(paths);
        }
        if self.known.len() >= PATHS_KEPT {
            self.known.clear();
        }
        let paths: Rc<[String]> = self.volume.paths(inode).iter().map(ToString::to_string).collect();
        self.known.insert(inode, Rc::clone(&paths));
        paths
    }

    fn row(&mut self, owned: Owned) -> Row {
        let role = owned.role.name();
        let Owned { start, length, .. } = owned;
        let row = Row {
            start,
            length,
            role,
            inode: None,
            offset: None,
            shared: None,
            unwritten: None,
            paths: None,
            at: None,
            inodes: None,
        };
        match owned.role {
            Role::Data(Data { inode, offset, unwritten, shared }) => Row {
                inode: Some(inode),
                offset: Some(offset),
                shared: Some(shared),
                unwritten: Some(unwritten),
                paths: Some(self.of(inode)),
                ..row
            },
            Role::Metadata(Metadata { at, inodes, what: "inodes" }) => {
                let inodes = inodes.into_iter().map(|inode| InodeRow { inode, paths: self.of(inode) });
                Row { at: Some(at), inodes: Some(inodes.collect()), ..row }
            }
            Role::Metadata(Metadata { at, inodes, .. }) => {
                let inode = inodes.first().copied();
                Row { at: Some(at), inode, paths: inode.map(|inode| self.of(inode)), ..row }
            }
            Role::Unused | Role::Free | Role::Unknown | Role::Outside => row,
        }
    }
}

fn cells(row: &Row) -> Vec<String> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let shown = |paths: &[String]| {
        let mut text = paths.iter().take(PATHS_SHOWN).map(String::as_str).collect::<Vec<_>>().join("  ");
        if let Some(more @ 1..) = paths.len().checked_sub(PATHS_SHOWN) {
            text.push_str(&format!("  and {more} more"));
        }
        text
    };
    let paths = match (&row.paths, &row.inodes) {
        (Some(paths), _) => shown(paths),
        (None, Some(inodes)) => {
            let each = inodes.iter().map(|inode| format!("{} {}", inode.inode, shown(&inode.paths)));
            each.collect::<Vec<_>>().join("  ")
        }
        (None, None) => String::new(),
    };
    let place = match &row.at {
        Some(at) if paths.is_empty() => at.clone(),
        Some(at) => format!("{at}  {paths}"),
        None => paths,
    };
    vec![
        row.start.to_string(),
        row.length.to_string(),
        row.role.to_owned(),
        number(row.inode),
        number(row.offset),
        number(row.shared.filter(|shared| *shared > 1)),
        if row.unwritten == Some(true) { "unwritten".to_owned() } else { String::new() },
        place,
    ]
}

/// A range of blocks as it is written on the command line.
fn parse_range(text: &str) -> Result<Range<u64>, CommandError> {
    let usage = || {
        CommandError::Usage(format!(
            "`{text}`: a block, a range A..B of blocks, or with an @ before it a byte or range of bytes expected"
        ))
    };
    let (bytes, numbers) = text.strip_prefix('@').map_or((false, text), |numbers| (true, numbers));
    let (first, end) = match numbers.split_once("..") {
        Some((first, end)) => (number(first).ok_or_else(usage)?, number(end).ok_or_else(usage)?),
        None => {
            let first = number(numbers).ok_or_else(usage)?;
            (first, first.checked_add(1).ok_or_else(usage)?)
        }
    };
    if first >= end {
        return Err(CommandError::Usage(format!("`{text}`: the range is empty")));
    }
    Ok(if bytes { first / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) } else { first..end })
}

/// Most bytes of a list of media errors that are read: the kernel keeps a page of them, ndctl prints some hundred bytes for
/// each.
const LIST_MAX: u64 = 64 << 20;

/// The blocks that a list of media errors names for a device.
fn read_list(list: &Path, device: &Path) -> Result<Vec<Range<u64>>, CommandError> {
    let io = |error| CommandError::Io { what: list.display().to_string(), error };
    let mut text = String::new();
    if list == Path::new("-") {
        std::io::stdin().take(LIST_MAX).read_to_string(&mut text).map_err(io)?;
    } else {
        File::open(list).map_err(io)?.take(LIST_MAX).read_to_string(&mut text).map_err(io)?;
    }
    let found = badblocks::parse(&text, device)
        .map_err(|why| CommandError::Usage(format!("{}: {why}", list.display())))?;
    if found.of_region {
        eprintln!(
            "{PROGRAM}: the list counts from the start of a region; it is taken as if the device began there"
        );
    }
    Ok(found.blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blocks_and_bytes() {
        let range = |text| parse_range(text).ok();
        assert_eq!(range("81920"), Some(81920..81921));
        assert_eq!(range("0x10..0x12"), Some(16..18));
        assert_eq!(range("@4095"), Some(0..1));
        assert_eq!(range("@4096"), Some(1..2));
        assert_eq!(range("@4095..4097"), Some(0..2));
        for wrong in ["", "a", "1..1", "2..1", "..", "1..", "@", "-1", "+1", "0x+1", "18446744073709551615"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
