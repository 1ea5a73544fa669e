//! What is asked of the tools about a device: everything that only reads.

use crate::draw::Draw;
use clap::Parser;
use paxfs_dbg::cli::Line;
use paxfs_dbg::commands;
use paxfs_dbg::session::Session;
use paxfs_format::device::Device;
use paxfs_fsck::Options;
use paxfs_fsck::severity::Severity;
use std::num::NonZeroUsize;

/// Commands of dbg that need no argument to find anything.
const COMMANDS: [&str; 12] = [
    "sb", "sb 1", "group", "journal", "freesp", "huge", "sharing", "space", "ls -l /", "tree rmap 0", "tree refcount 1", "show sb",
];
/// Commands of dbg with a number, which is chosen.
const WITH_NUMBER: [&str; 6] = ["block", "inode", "owner", "path", "extents", "ls"];

/// Checks the device, and asks dbg two things that follow from `data`.
pub fn ask_all(device: Device, data: &[u8]) {
    check(&device, 1 + data.len() % 2);
    let blocks = device.len() / 4096;
    let mut hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 32;
    let bytes = hash.to_le_bytes();
    let mut draw = Draw::new(&bytes);
    let Ok(mut session) = Session::on(device) else { return };
    if let Some(line) = draw.pick(&COMMANDS) {
        ask(&mut session, line);
    }
    let number = draw.below(blocks);
    match draw.pick(&WITH_NUMBER) {
        Some(&"inode") => ask(&mut session, &format!("inode {}", number * 8)),
        Some(&"owner") => ask(&mut session, &format!("owner {number}..{blocks}")),
        Some(command) => ask(&mut session, &format!("{command} {number}")),
        None => (),
    }
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
