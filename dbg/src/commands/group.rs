//! `group`: the groups, or the header of one.

use crate::decode;
use crate::error::CommandError;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use clap::Args;
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::path::{group_header, resolve};
use paxfs_format::volume::StructureFault;
use serde::Serialize;

/// Arguments of `group`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The group whose header is shown field by field; without it a line for each group
    pub group: Option<u32>,

    /// Show the copy of the header
    #[arg(short, long, requires = "group")]
    pub copy: bool,
}

const COLUMNS: &[&str] =
    &["#group", "#start", "#blocks", "#free", "#cluster free", "#inodes", "#orphans", "#nodes", "fault"];

/// A group in a line.
#[derive(Debug, Serialize)]
struct Row {
    group: u32,
    start: u64,
    blocks: u64,
    free_blocks: u64,
    cluster_free: u64,
    inodes_used: u64,
    orphans: u64,
    nodes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Shows them.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let volume = session.volume();
    if let Some(group) = arguments.group {
        let target =
            resolve(&volume, &format!("{}[{group}]", if arguments.copy { "group_copy" } else { "group" }))?;
        let header = if arguments.copy { volume.group_copy(group) } else { volume.group(group) };
        return Ok(decode::show(&volume, &target).fault(header.err().map(|fault| fault.to_string())));
    }
    let mut rows = Rows::start(format, "groups", COLUMNS)?;
    let mut faults = 0;
    for group in volume.geometry.group_numbers() {
        let fault = volume.group(group).err();
        faults += usize::from(fault.is_some());
        // The header as it is, or its copy, still says most.
        let Ok((header, _)) = group_header(&volume, group) else { break };
        let row = row(group, header, fault);
        if !rows.row(&row, || cells(&row))? {
            break;
        }
    }
    rows.end(Output::new().failure((faults > 0).then(|| format!("{faults} group headers are broken"))))
}

fn row(group: u32, header: &GroupHeader, fault: Option<StructureFault>) -> Row {
    Row {
        group,
        start: header.start.get(),
        blocks: header.blocks.get(),
        free_blocks: header.free_blocks.get(),
        cluster_free: header.cluster_free.get(),
        inodes_used: header.inodes_used.get(),
        orphans: header.orphans.get(),
        nodes: GroupTree::ALL.iter().map(|tree| u64::from(header.root(*tree).nodes.get())).sum(),
        fault: fault.map(|fault| fault.to_string()),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let numbers = [
        row.group.into(),
        row.start,
        row.blocks,
        row.free_blocks,
        row.cluster_free,
        row.inodes_used,
        row.orphans,
        row.nodes,
    ];
    let numbers = numbers.iter().map(ToString::to_string);
    numbers.chain([row.fault.clone().unwrap_or_default()]).collect()
}
