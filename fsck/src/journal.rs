//! Pass 1: the journal. What waits there is applied in memory, so that everything else is checked as it will be.

use crate::finding::Finding;
use crate::problem::Problem;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::Geometry;
use paxfs_format::header::Header;
use paxfs_format::image::Image;
use paxfs_format::journal::{Replay, ReplayFault, Slot};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::Superblock;
use std::collections::BTreeSet;

/// Checks the journal, and applies to `image` what is committed there. Gives the number of the last transaction.
pub(crate) fn check(
    image: &mut Image<'_>,
    superblock: &Superblock,
    geometry: &Geometry,
    findings: &mut Vec<Finding>,
) -> u64 {
    let bytes = match JournalBytes::of_image(image, superblock, geometry) {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem = Problem::JournalDamaged { fault: error.to_string() };
            findings.push(Finding::new("sb.journal_start", problem));
            return superblock.header.generation.get();
        }
    };
    let replay = bytes.replay();
    if let Some(fault) = &replay.fault {
        let slot = match fault {
            ReplayFault::Broken { slot, .. } => *slot,
            ReplayFault::Gap(..) | ReplayFault::Unreadable => 0,
        };
        let problem = Problem::JournalDamaged { fault: fault.to_string() };
        findings.push(Finding::new(format!("journal.slot[{slot}]"), problem));
    }
    if let (Some(first), Some(last)) = (replay.live.first(), replay.live.last()) {
        let generation = superblock.header.generation.get();
        let at = format!("journal.slot[{}]", first.slot);
        findings.push(Finding::new(
            at,
            if superblock.is_clean() {
                Problem::JournalNotEmpty { transaction: last.sequence, generation }
            } else {
                let writes = replay.live.iter().flat_map(|transaction| &transaction.writes);
                let blocks: BTreeSet<u64> = writes.clone().map(|write| write.block).collect();
                Problem::JournalPending {
                    first: first.sequence,
                    last: last.sequence,
                    blocks: blocks.len() as u64,
                    lines: writes.map(|write| u64::from(write.lines.count_ones())).sum(),
                }
            },
        ));
        if let Err(error) = image.apply(&replay.live) {
            let problem = Problem::JournalDamaged { fault: error.to_string() };
            findings.push(Finding::new(format!("journal.slot[{}]", first.slot), problem));
        }
    } else if superblock.is_clean() && replay.fault.is_none() {
        leftovers(&replay, &*image, geometry, findings);
    } else if replay.fault.is_none() && superblock.state.get() == 0 {
        findings.push(Finding::new("sb.state", Problem::NotClosed { state: superblock.state.get() }));
    }
    let last = replay.live.last().map_or(0, |transaction| transaction.sequence);
    last.max(superblock.header.generation.get())
}

/// On a volume that was closed clean nothing half-written is left in the journal.
fn leftovers(replay: &Replay<'_>, image: &Image<'_>, geometry: &Geometry, findings: &mut Vec<Finding>) {
    for (number, slot) in (0..).zip(&replay.slots) {
        let fault = match slot {
            Slot::Empty => continue,
            Slot::Committed(_) | Slot::Done { .. } => {
                let level = image
                    .block(geometry.journal_slot(number))
                    .ok()
                    .and_then(|bytes| Header::of(bytes))
                    .map_or(0, |header| header.level.get());
                if level == 0 {
                    continue;
                }
                format!("its header has level {level}")
            }
            Slot::Torn { reason } => (*reason).to_owned(),
            Slot::Broken { fault, .. } => fault.to_string(),
        };
        let at = format!("journal.slot[{number}]");
        findings.push(Finding::new(at, Problem::JournalLeftover { slot: number, fault }));
    }
}
