//! `journal`: its slots, and what a replay would do.

use crate::error::CommandError;
use crate::output::{Output, Table};
use crate::session::Session;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::Device;
use paxfs_format::header::{Header, MAGIC};
use paxfs_format::journal::{Replay, SLOTS, Slot, Transaction, Write};
use paxfs_format::words::{counted, transactions};
use serde::Serialize;

/// Arguments of `journal`.
#[derive(Debug, Args)]
pub struct Arguments {}

#[derive(Debug, Serialize)]
struct SlotRow {
    slot: usize,
    start: u64,
    blocks: u64,
    state: &'static str,
    transaction: Option<u64>,
    records: usize,
    detail: Option<String>,
    /// Whether a replay would apply it.
    live: bool,
}

#[derive(Debug, Serialize)]
struct RecordRow {
    transaction: u64,
    record: usize,
    at: String,
    kind: Option<&'static str>,
    owner: Option<u64>,
    lines: String,
    /// Lines that differ from what is in the block now.
    changed: u32,
    live: bool,
}

/// Shows it.
pub fn run(session: &Session, _arguments: &Arguments) -> Result<Output, CommandError> {
    let journal = session.journal().ok_or_else(|| {
        let journal = session.geometry().journal();
        CommandError::Failed(format!(
            "the journal, blocks {}..{}, lies past the end of the device",
            journal.start, journal.end
        ))
    })?;
    let replay = journal.replay();
    let slots = slot_rows(session, &replay);
    let records = record_rows(session.device(), &replay);
    let verdict = verdict(&replay);
    let mut table =
        Table::new(&["#slot", "#block", "#blocks", "state", "#transaction", "#records", "detail"]);
    for row in &slots {
        table.row([
            row.slot.to_string(),
            row.start.to_string(),
            row.blocks.to_string(),
            row.state.to_owned(),
            row.transaction.map(|number| number.to_string()).unwrap_or_default(),
            row.records.to_string(),
            row.detail.clone().unwrap_or_default(),
        ]);
    }
    let mut output = Output::new().table(table);
    if !records.is_empty() {
        let columns = ["#transaction", "#record", "at", "kind", "#owner", "#lines changed", "lines"];
        let mut table = Table::new(&columns);
        for row in &records {
            table.row([
                row.transaction.to_string(),
                row.record.to_string(),
                row.at.clone(),
                row.kind.unwrap_or_default().to_owned(),
                row.owner.map(|owner| owner.to_string()).unwrap_or_default(),
                row.changed.to_string(),
                row.lines.clone(),
            ]);
        }
        output = output.text("").table(table);
    }
    let fault = replay.fault.as_ref().map(ToString::to_string);
    let live: Vec<_> = replay.live.iter().map(|transaction| transaction.sequence).collect();
    Ok(output
        .text(&verdict)
        .data("slots", &slots)
        .data("records", &records)
        .data("generation", &session.chosen().superblock.header.generation.get())
        .data("live", &live)
        .data("fault", &fault)
        .data("verdict", &verdict))
}

fn slot_rows(session: &Session, replay: &Replay<'_>) -> Vec<SlotRow> {
    let geometry = session.geometry();
    let blocks = geometry.journal_blocks / SLOTS;
    let mut start = geometry.journal().start;
    let mut rows = Vec::new();
    for (slot, held) in replay.slots.iter().enumerate() {
        let (state, transaction, records, detail) = match held {
            Slot::Empty => ("empty", None, 0, None),
            Slot::Torn { reason } => ("torn", None, 0, Some((*reason).to_owned())),
            Slot::Committed(held) => ("committed", Some(held.sequence), held.writes.len(), None),
            Slot::Done { sequence } => {
                ("done", Some(*sequence), 0, Some("its body was elsewhere; it is in its homes".to_owned()))
            }
            Slot::Broken { sequence, fault } => ("broken", Some(*sequence), 0, Some(fault.to_string())),
        };
        let live = replay.live.iter().any(|live| Some(live.sequence) == transaction);
        rows.push(SlotRow { slot, start, blocks, state, transaction, records, detail, live });
        start = start.saturating_add(blocks);
    }
    rows
}

fn record_rows(device: &Device, replay: &Replay<'_>) -> Vec<RecordRow> {
    let mut transactions: Vec<&Transaction<'_>> = replay
        .slots
        .iter()
        .filter_map(|slot| match slot {
            Slot::Committed(transaction) => Some(transaction),
            _ => None,
        })
        .collect();
    transactions.sort_by_key(|transaction| transaction.sequence);
    let mut rows = Vec::new();
    for transaction in transactions {
        let live = replay.live.iter().any(|live| live.sequence == transaction.sequence);
        for (record, write) in transaction.writes.iter().enumerate() {
            rows.push(record_row(device, transaction.sequence, record, write, live));
        }
    }
    rows
}

fn record_row(device: &Device, transaction: u64, record: usize, write: &Write<'_>, live: bool) -> RecordRow {
    let old = Blocks::block(device, write.block).ok();
    let mut new = old.copied().unwrap_or([0; 4096]);
    write.apply(&mut new);
    let header = Header::of(&new).filter(|header| header.magic == MAGIC);
    let changed = old.map_or(write.lines.count_ones(), |old| {
        let lines = old.chunks_exact(64).zip(new.chunks_exact(64));
        u32::try_from(lines.filter(|(old, new)| old != new).count()).unwrap_or(u32::MAX)
    });
    RecordRow {
        transaction,
        record,
        at: format!("block[{}]", write.block),
        kind: header.and_then(|header| header.kind.name()),
        owner: header.map(|header| header.owner.get()),
        lines: ranges(write.lines),
        changed,
        live,
    }
}

/// The bits that are set, as `0,3-7`.
fn ranges(bits: u64) -> String {
    let mut parts = Vec::new();
    let mut next = 0;
    while let Some(rest) = bits.checked_shr(next).filter(|rest| *rest != 0) {
        let first = next + rest.trailing_zeros();
        let length = bits.checked_shr(first).map_or(0, u64::trailing_ones);
        let last = first + length.saturating_sub(1);
        parts.push(if length > 1 { format!("{first}-{last}") } else { first.to_string() });
        next = last + 1;
    }
    parts.join(",")
}

fn verdict(replay: &Replay<'_>) -> String {
    if let Some(fault) = &replay.fault {
        let left: Vec<u64> = replay.live.iter().map(|live| live.sequence).collect();
        if left.is_empty() {
            return format!("cannot be replayed: {fault}");
        }
        return format!("cannot be replayed: {fault}; a repair applies {}", transactions(&left));
    }
    let numbers: Vec<u64> = replay.live.iter().map(|live| live.sequence).collect();
    let writes = || replay.live.iter().flat_map(|live| &live.writes);
    let lines: u32 = writes().map(|write| write.lines.count_ones()).fold(0, u32::saturating_add);
    if numbers.is_empty() {
        return "nothing to replay".to_owned();
    }
    let (lines, records) = (counted(lines, "line"), counted(writes().count(), "record"));
    format!("a replay applies {}: {lines} of 64 bytes in {records}", transactions(&numbers))
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn bits_as_ranges() {
        assert_eq!(ranges(0), "");
        assert_eq!(ranges(1), "0");
        assert_eq!(ranges(0b1111_1001), "0,3-7");
        assert_eq!(ranges(u64::MAX), "0-63");
        assert_eq!(ranges(1 << 63), "63");
    }
}
