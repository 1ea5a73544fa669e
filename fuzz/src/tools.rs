//! What is asked of the tools about a device: everything that only reads.

use crate::draw::Draw;
use clap::Parser;
use paxfs_dbg::cli::Line;
use paxfs_dbg::commands;
use paxfs_dbg::session::Session;
use paxfs_format::device::Device;
use paxfs_fsck::repair::plan;
use paxfs_fsck::severity::Severity;
use paxfs_fsck::{Options, Repair, write};
use std::num::NonZeroUsize;

/// Commands of dbg that need no argument to find anything.
const COMMANDS: [&str; 20] = [
    "sb",
    "sb 1",
    "group",
    "journal",
    "freesp",
    "huge",
    "sharing",
    "space",
    "ls -lR /",
    "tree -n free",
    "tree refcount",
    "tree rmap",
    "tree inodes",
    "tree -n clusters",
    "tree bad",
    "show sb",
    "show group[1].free",
    "owner -s 0..2048",
    "dump -",
    "dump --obfuscate -",
];
/// Commands of dbg with the number of a block, which is chosen.
const OF_BLOCKS: [&str; 3] = ["block", "owner", "show block"];
/// Commands of dbg with the number of an inode, which is chosen.
const OF_INODES: [&str; 7] =
    ["inode", "path", "extents", "ls", "tree extents", "tree directory", "tree -n attributes"];
/// The inodes of small volumes are in the first clusters behind the journal.
const INODE_BLOCKS: core::ops::Range<u64> = 48..64;

/// Checks the device, plans its repair, and asks dbg three things that follow from `data`.
pub fn ask_all(device: Device, data: &[u8]) {
    if !check(&device, 1 + data.len() % 2).is_empty() {
        repair(&device);
    }
    let blocks = device.len() / 4096;
    let bytes = digest(data).to_le_bytes();
    let mut draw = Draw::new(&bytes);
    let Ok(mut session) = Session::on(device) else { return };
    let json = if draw.byte() & 1 == 0 { " -J" } else { "" };
    if let Some(line) = draw.pick(&COMMANDS) {
        ask(&mut session, &format!("{line}{json}"));
    }
    if let Some(command) = draw.pick(&OF_BLOCKS) {
        let block = draw.bytes(2).iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let block = block.checked_rem(blocks).unwrap_or(0);
        let line = if *command == "show block" {
            format!("show block[{block}]")
        } else {
            format!("{command} {block}")
        };
        ask(&mut session, &format!("{line}{json}"));
    }
    if let Some(command) = draw.pick(&OF_INODES) {
        let first = INODE_BLOCKS.start * 8;
        let inode = first + draw.below((INODE_BLOCKS.end - INODE_BLOCKS.start) * 8);
        ask(&mut session, &format!("{command} {inode}{json}"));
    }
}

/// Eight bytes that follow from all of the data (FNV-1a).
pub fn digest(data: &[u8]) -> u64 {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ hash >> 32
}

/// One line of dbg's prompt. What it says does not matter here, that it ends does.
pub fn ask(session: &mut Session, line: &str) {
    let words = line.split(' ');
    let Ok(line) = Line::try_parse_from(words) else { return };
    let format = line.format.chosen();
    if let Ok(output) = commands::run(session, &line.command, format) {
        let _ = output.print(format);
    }
}

/// Plans a repair, and carries it out in memory. If nothing is to be left by it, nothing is.
pub fn repair(device: &Device) {
    let options = Options { threads: NonZeroUsize::new(1), ..Options::default() };
    let Ok(plan) = plan(device, &options, &mut |_| {}, &mut |_| true) else { return };
    let _: Vec<String> = plan.actions.iter().map(|action| action.line()).collect();
    if !plan.left.is_empty() || plan.changed.is_empty() {
        return;
    }
    let Ok(bytes) = device.bytes(0, usize::try_from(device.len()).unwrap_or(0)) else { return };
    let mut repaired = Device::memory(bytes.to_vec());
    let room = Repair {
        superblock: &plan.found.superblock,
        geometry: &plan.found.geometry,
        blocks: &plan.changed,
        free: &plan.spare,
        now: paxfs_format::time::Timestamp::new(1_800_000_000, 0),
    };
    // Without room for its log, or the only superblock at stake, nothing is written.
    if write(&mut repaired, &room, None).is_ok() {
        let left = check(&repaired, 1);
        assert!(left.is_empty(), "left after a repair: {left:?}");
    }
}

/// Everything wrong that fsck finds, each as a line; `threads` work on that. What is worth a word, but not wrong, is left
/// out.
pub fn check(device: &Device, threads: usize) -> Vec<String> {
    let mut findings = Vec::new();
    let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
    let outcome = paxfs_fsck::check(device, &options, &mut |finding| {
        // Printed always: the words are made of disk data too.
        let line = finding.to_json().to_string();
        if finding.severity() != Severity::Info {
            findings.push(line);
        }
    });
    if let Err(error) = outcome {
        findings.push(error.to_string());
    }
    findings
}
