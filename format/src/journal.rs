//! The journal: two slots that take turns, each one transaction; and its replay, a pure function over bytes.
//!
//! A transaction is a list of cache lines of metadata blocks with their new contents. The writer
//!
//! 1. writes slot `n mod 2`: head line and body; fence;
//! 2. stores the commit word, the transaction's number; fence: the transaction is durable;
//! 3. stores the lines to their homes; flushes them.
//!
//! It starts on transaction `n` only when those of `n - 2` are durable in their homes. So at any time at most the two
//! last transactions live in the journal, and a block that transaction `n` freed, given to a file after `n` is durable,
//! can be hit by no later replay: `n` itself writes no line of it, and `n - 1` is gone from its slot before `n + 1`, the
//! first that can point to the block, is durable.
//!
//! A body may also lie elsewhere: in blocks of a group that are free both before and after the transaction. So one can be
//! as large as a repair needs. As soon as it is home its blocks are anybody's: from then on nobody looks at the body.
//!
//! Must not depend on anything that reads a device.

use crate::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use crate::header::{BlockKind, Expected, Header, HeaderFault, Seed};
use crate::on_disk;
use crate::units::{Bits64, BlockNo, Bytes64, Crc, Generation, Reserved};
use core::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a cache line, the unit of journal records.
pub const LINE_SIZE: usize = 64;
/// Slots of the journal.
pub const SLOTS: u64 = 2;

on_disk! {
    /// Head of a journal slot. The header's checksum covers the first 64 bytes: the first cache line.
    pub struct JournalSlot = 128 {
        /// Kind journal, place the slot's first block, owner 0; count the records; generation the transaction's number.
        pub header: Header,
        /// Bytes of the body.
        pub bytes: Bytes64,
        /// CRC-32C of the volume's uuid and then the body.
        pub body_crc: Crc,
        /// Zero.
        pub reserved: Reserved<4>,
        /// Where the body is: 0 right behind this head, else the first of the blocks that have it.
        pub body: BlockNo,
        /// The transaction's number once it is durable; anything else before.
        pub commit: Generation,
        /// Zero.
        pub reserved_2: Reserved<56>,
    }
}

on_disk! {
    /// New contents of some cache lines of one block; the lines follow in ascending order, 64 bytes each.
    pub struct JournalRecord = 16 {
        /// The block; neither a superblock or its copy, nor in the journal, nor one that the body is in.
        pub block: BlockNo,
        /// Bit i: line i of the block follows.
        pub lines: Bits64,
    }
}

impl JournalSlot {
    /// From where to where, in bytes of the device, the body of a slot may lie: the slot begins at byte `slot` and has
    /// `length`, the device has `device`.
    pub(crate) fn body_room(&self, slot: u64, length: u64, device: u64) -> (u64, u64) {
        match self.body.get() {
            0 => (slot.saturating_add(size_of::<JournalSlot>() as u64), slot.saturating_add(length)),
            body => (body.saturating_mul(BLOCK_BYTES).min(device), device),
        }
    }

    /// Where the body begins, and its length as far as there is room for it.
    pub(crate) fn body_bytes(&self, slot: u64, length: u64, device: u64) -> (u64, usize) {
        let (start, end) = self.body_room(slot, length, device);
        let used = self.bytes.get().min(end.saturating_sub(start));
        (start, usize::try_from(used).unwrap_or(usize::MAX))
    }
}

/// Bytes of the slot's head that its header's checksum covers.
pub const SEALED_HEAD: usize = LINE_SIZE;

/// New contents of some lines of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// The block.
    pub block: u64,
    /// Bit i: line i.
    pub lines: u64,
    /// The lines, ascending, 64 bytes each.
    pub data: &'a [u8],
}

impl Write<'_> {
    /// Stores the lines into the block's bytes.
    pub fn apply(&self, block: &mut [u8; BLOCK_SIZE]) {
        let mut data = self.data.chunks_exact(LINE_SIZE);
        for (line, home) in block.chunks_exact_mut(LINE_SIZE).enumerate() {
            if self.lines >> line & 1 != 0
                && let Some(new) = data.next()
            {
                home.copy_from_slice(new);
            }
        }
    }
}

/// A transaction that is whole in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// Its number.
    pub sequence: u64,
    /// Which slot holds it.
    pub slot: u64,
    /// Its writes, in order.
    pub writes: Vec<Write<'a>>,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot<'a> {
    /// Never used.
    Empty,
    /// A transaction that was never committed: a crash came first. It never happened.
    Torn {
        /// Why it is not whole.
        reason: &'static str,
    },
    /// A whole transaction.
    Committed(Transaction<'a>),
    /// A transaction that is in its homes, and had its body elsewhere: those blocks may be anybody's by now.
    Done {
        /// Its number.
        sequence: u64,
    },
    /// Committed, but no longer whole.
    Broken {
        /// Its number.
        sequence: u64,
        /// What is wrong.
        fault: SlotFault,
    },
}

/// What is wrong with a committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// The body is longer than the slot.
    #[error("body of {bytes} bytes does not fit the slot")]
    Length {
        /// As stored.
        bytes: u64,
    },
    /// The body lies where none may.
    #[error("body of {bytes} bytes in block {body}: not within the blocks of one group that can be free")]
    Place {
        /// Its first block, as stored.
        body: u64,
        /// As stored.
        bytes: u64,
    },
    /// The blocks of the body cannot be read.
    #[error("body of {bytes} bytes in block {body} cannot be read")]
    Unreadable {
        /// Its first block.
        body: u64,
        /// Its length.
        bytes: u64,
    },
    /// The checksum does not fit the body.
    #[error("body checksum is {stored:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// As stored.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A record is cut short, has no lines, or bytes follow the last.
    #[error("record {0} is malformed")]
    Record(u32),
    /// A record writes where no transaction may.
    #[error(
        "record {record} writes block {block}: outside the volume, a superblock, in the journal, or in its own body"
    )]
    Target {
        /// The record.
        record: u32,
        /// Its block.
        block: u64,
    },
    /// Reserved bytes, or a level, that are not zero.
    #[error("reserved bytes of the head, or its level, are not zero")]
    Reserved,
    /// The other live transaction writes to its body, or it to the other's.
    #[error("one of the two live transactions writes to the body of the other")]
    Crossed,
}

/// What the journal says must be done before the volume's homes can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<'a> {
    /// What each slot holds.
    pub slots: [Slot<'a>; 2],
    /// Transactions to apply, in this order. Empty after a clean end. With a fault: what is left of them to apply.
    pub live: Vec<Transaction<'a>>,
    /// Why something that was committed cannot be replayed.
    pub fault: Option<ReplayFault>,
}

impl Replay<'_> {
    /// Slots that are neither empty nor whole, when the journal can be replayed: what they held never happened, or is in its
    /// homes. A volume that is closed clean has none.
    pub fn leftovers(&self) -> impl Iterator<Item = u64> {
        let left = |slot: &Slot<'_>| matches!(slot, Slot::Torn { .. } | Slot::Broken { .. });
        (0..).zip(&self.slots).filter(move |(_, slot)| left(slot)).map(|(number, _)| number)
    }
}

/// Why a journal cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayFault {
    /// The last committed transaction is damaged.
    #[error("slot {slot}: committed transaction {sequence} is damaged: {fault}")]
    Broken {
        /// Which slot.
        slot: u64,
        /// The transaction's number.
        sequence: u64,
        /// What is wrong.
        fault: SlotFault,
    },
    /// Both slots hold transactions that do not follow each other.
    #[error("slots hold transactions {0} and {1}, which do not follow each other")]
    Gap(u64, u64),
    /// The journal is not where the superblock says, or cannot be read.
    #[error("the journal cannot be read")]
    Unreadable,
}

/// The blocks that have the bodies of transactions, by slot, where a replay needs one that is not in its slot. They are
/// within the volume; the device may end before.
pub fn bodies_elsewhere(
    journal: &[u8],
    geometry: &Geometry,
    seed: Seed,
    generation: u64,
) -> [Option<Range<u64>>; 2] {
    let run = |(bytes, slot, place)| match read_head(bytes, slot, place, seed, generation) {
        Head::Whole { head, .. } => body_run(head, geometry).ok().flatten(),
        Head::Slot(_) => None,
    };
    halves(journal, geometry).map(run)
}

/// Reads the journal of a volume whose superblock has `generation`: what is committed there and newer is to be applied.
///
/// `journal` is the journal's bytes, all of them; `elsewhere` the bytes of the blocks that [`bodies_elsewhere`] asks for,
/// none where they cannot be read.
///
/// What is damaged is told, and what of the rest is to be applied is given all the same, for who repairs. The highest
/// number `n` that was ever committed is known even when its transaction is broken. Then `n - 2` is home, and so are all
/// before: of `n - 1` and `n` those that are whole are to be applied, and no others.
pub fn replay<'a>(
    journal: &'a [u8],
    elsewhere: [Option<&'a [u8]>; 2],
    geometry: &Geometry,
    seed: Seed,
    generation: u64,
) -> Replay<'a> {
    let [first, second] = halves(journal, geometry);
    let [first_body, second_body] = elsewhere;
    let read = |(bytes, slot, place), elsewhere| {
        let (head, rest) = match read_head(bytes, slot, place, seed, generation) {
            Head::Slot(held) => return held,
            Head::Whole { head, rest } => (head, rest),
        };
        let sequence = head.header.generation.get();
        match read_body(head, rest, elsewhere, geometry, seed) {
            Ok(writes) => Slot::Committed(Transaction { sequence, slot, writes }),
            Err(fault) => Slot::Broken { sequence, fault },
        }
    };
    let slots = [read(first, first_body), read(second, second_body)];
    let bodies = bodies_elsewhere(journal, geometry, seed, generation);
    let (live, fault) = live(&slots, &bodies, generation);
    Replay { slots, live, fault }
}

/// Bytes, number and first block of both slots.
fn halves<'a>(journal: &'a [u8], geometry: &Geometry) -> [(&'a [u8], u64, u64); 2] {
    let (first, second) = journal.split_at(journal.len() / 2);
    [(first, 0, geometry.journal_slot(0)), (second, 1, geometry.journal_slot(1))]
}

fn live<'a>(
    slots: &[Slot<'a>; 2],
    bodies: &[Option<Range<u64>>; 2],
    generation: u64,
) -> (Vec<Transaction<'a>>, Option<ReplayFault>) {
    let newer = |sequence: u64| sequence > generation;
    let mut live: Vec<Transaction<'a>> = slots
        .iter()
        .filter_map(|slot| match slot {
            Slot::Committed(transaction) if newer(transaction.sequence) => Some(transaction.clone()),
            _ => None,
        })
        .collect();
    live.sort_by_key(|transaction| transaction.sequence);
    let mut last = live.last().map_or(generation, |transaction| transaction.sequence);
    let mut fault = None;
    for (number, slot) in (0..).zip(slots) {
        if let Slot::Broken { sequence, fault: why } = slot
            && newer(*sequence)
        {
            // A transaction whose successor is whole may be under overwriting by the one after: its homes are durable.
            if !live.iter().any(|live| sequence.checked_add(1) == Some(live.sequence)) {
                fault = fault.or(Some(ReplayFault::Broken {
                    slot: number,
                    sequence: *sequence,
                    fault: why.clone(),
                }));
            }
            last = last.max(*sequence);
        }
    }
    if let [older, newer] = live.as_slice()
        && older.sequence.checked_add(1) != Some(newer.sequence)
    {
        fault = fault.or(Some(ReplayFault::Gap(older.sequence, newer.sequence)));
    }
    // What is older is home, and what came after it too: it would be put back over newer contents.
    live.retain(|transaction| transaction.sequence >= last.saturating_sub(1));
    if let [older, newer] = live.as_slice()
        && (writes_to(older, bodies, newer.slot) || writes_to(newer, bodies, older.slot))
    {
        let (slot, sequence) = (newer.slot, newer.sequence);
        fault = fault.or(Some(ReplayFault::Broken { slot, sequence, fault: SlotFault::Crossed }));
        live.pop();
    }
    (live, fault)
}

/// Whether a transaction writes to the body of that in a slot.
fn writes_to(transaction: &Transaction<'_>, bodies: &[Option<Range<u64>>; 2], slot: u64) -> bool {
    let body = (0..).zip(bodies).find(|(number, _)| *number == slot).and_then(|(_, body)| body.as_ref());
    body.is_some_and(|body| transaction.writes.iter().any(|write| body.contains(&write.block)))
}

/// What the head of a slot says.
enum Head<'a> {
    /// All that there is to say.
    Slot(Slot<'a>),
    /// That the transaction is committed, and its body is needed.
    Whole { head: &'a JournalSlot, rest: &'a [u8] },
}

fn read_head(bytes: &[u8], slot: u64, place: u64, seed: Seed, generation: u64) -> Head<'_> {
    let torn = |reason| Head::Slot(Slot::Torn { reason });
    let Ok((head, rest)) = JournalSlot::ref_from_prefix(bytes) else {
        return torn("the slot is too short");
    };
    if head.as_bytes().iter().all(|&byte| byte == 0) {
        return Head::Slot(Slot::Empty);
    }
    let sealed = head.as_bytes().split_at(SEALED_HEAD).0;
    let expected = Expected { kind: BlockKind::JOURNAL, place, owner: 0 };
    let header = match seed.verify(sealed).and_then(|header| expected.check(header).map(|()| header)) {
        Ok(header) => header,
        Err(HeaderFault::Magic(_)) => return torn("no head"),
        Err(HeaderFault::Crc { .. }) => return torn("the head's checksum does not fit"),
        Err(_) => return torn("the head is of another place or kind"),
    };
    let sequence = header.generation.get();
    if sequence % SLOTS != slot {
        return torn("the transaction belongs in the other slot");
    }
    if head.commit.get() != sequence {
        return torn("not committed");
    }
    if header.level.get() != 0 || head.reserved != Reserved::ZERO || head.reserved_2 != Reserved::ZERO {
        return Head::Slot(Slot::Broken { sequence, fault: SlotFault::Reserved });
    }
    if head.body.get() != 0 && sequence <= generation {
        return Head::Slot(Slot::Done { sequence });
    }
    Head::Whole { head, rest }
}

/// The blocks that have the body, when it is not behind its head.
fn body_run(head: &JournalSlot, geometry: &Geometry) -> Result<Option<Range<u64>>, SlotFault> {
    let (body, bytes) = (head.body.get(), head.bytes.get());
    if body == 0 {
        return Ok(None);
    }
    let fault = SlotFault::Place { body, bytes };
    let place = geometry.locate(body).ok_or(fault.clone())?;
    let end = u64::from(place.block).saturating_add(bytes.div_ceil(BLOCK_BYTES));
    let is_fine = u64::from(place.block) >= geometry.fixed_blocks(place.group)
        && bytes > 0
        && end <= geometry.group_len(place.group);
    if !is_fine {
        return Err(fault);
    }
    let start = geometry.group_start(place.group);
    Ok(Some(body..start.saturating_add(end)))
}

fn read_body<'a>(
    head: &JournalSlot,
    rest: &'a [u8],
    elsewhere: Option<&'a [u8]>,
    geometry: &Geometry,
    seed: Seed,
) -> Result<Vec<Write<'a>>, SlotFault> {
    let bytes = head.bytes.get();
    let run = body_run(head, geometry)?;
    let room = match &run {
        None => rest,
        Some(run) => elsewhere.ok_or(SlotFault::Unreadable { body: run.start, bytes })?,
    };
    let body = usize::try_from(bytes).ok().and_then(|bytes| room.get(..bytes));
    let mut body = body.ok_or(SlotFault::Length { bytes })?;
    let run = run.unwrap_or_default();
    let (stored, computed) = (head.body_crc.get(), seed.plain(body));
    if stored != computed {
        return Err(SlotFault::Crc { stored, computed });
    }
    let mut writes = Vec::new();
    for number in 0..head.header.count.get() {
        let malformed = SlotFault::Record(number);
        let (record, after) = JournalRecord::ref_from_prefix(body).map_err(|_| malformed.clone())?;
        let (block, lines) = (record.block.get(), record.lines.get());
        let length = usize::try_from(lines.count_ones()).unwrap_or(0) * LINE_SIZE;
        let (data, after) = after.split_at_checked(length).filter(|_| length > 0).ok_or(malformed)?;
        // A superblock carries the number that says which transactions are done: none may change it by the way.
        let superblock = geometry.locate(block).is_none_or(|place| place.block == 0);
        if superblock || geometry.journal().contains(&block) || run.contains(&block) {
            return Err(SlotFault::Target { record: number, block });
        }
        writes.push(Write { block, lines, data });
        body = after;
    }
    if body.is_empty() { Ok(writes) } else { Err(SlotFault::Record(head.header.count.get())) }
}

/// The body of a transaction that is being put together: its records, one behind the other.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    records: u32,
}

impl Body {
    /// Forgets all records, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    /// Whether it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its bytes, as the slot stores them behind its head.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push_record(&mut self, block: u64, lines: u64) {
        let record = JournalRecord { block: block.into(), lines: lines.into() };
        self.bytes.extend_from_slice(record.as_bytes());
        self.records = self.records.saturating_add(1);
    }

    /// Adds a write; says whether its data fits its lines.
    #[must_use]
    pub fn push(&mut self, write: &Write<'_>) -> bool {
        let lines = usize::try_from(write.lines.count_ones()).unwrap_or(usize::MAX);
        if write.data.len() != lines.saturating_mul(LINE_SIZE) {
            return false;
        }
        self.push_record(write.block, write.lines);
        self.bytes.extend_from_slice(write.data);
        true
    }

    /// Adds lines of a block, if there are any: bit i of `lines` for line i.
    pub fn push_lines(&mut self, block: u64, lines: u64, bytes: &[u8; BLOCK_SIZE]) {
        if lines == 0 {
            return;
        }
        self.push_record(block, lines);
        for (line, bytes) in bytes.as_chunks::<LINE_SIZE>().0.iter().enumerate() {
            if lines >> line & 1 != 0 {
                self.bytes.extend_from_slice(bytes);
            }
        }
    }

    /// Its writes, in order.
    pub fn writes(&self) -> impl Iterator<Item = Write<'_>> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            let (record, after) = JournalRecord::ref_from_prefix(rest).ok()?;
            let lines = usize::try_from(record.lines.get().count_ones()).unwrap_or(0);
            let (data, after) = after.split_at_checked(lines * LINE_SIZE)?;
            rest = after;
            Some(Write { block: record.block.get(), lines: record.lines.get(), data })
        })
    }

    /// The head of a slot that holds it, all but the commit word: that is stored once head and body are durable.
    #[must_use]
    pub fn head(&self, seed: Seed, place: u64, sequence: u64) -> JournalSlot {
        let mut header = Header::new(BlockKind::JOURNAL, place, 0, sequence);
        header.count = self.records.into();
        let mut head = JournalSlot {
            header,
            bytes: (self.bytes.len() as u64).into(),
            body_crc: seed.plain(&self.bytes).into(),
            reserved: Reserved::ZERO,
            body: BlockNo::new(0),
            commit: Generation::new(0),
            reserved_2: Reserved::ZERO,
        };
        seed.seal(head.as_mut_bytes().split_at_mut(SEALED_HEAD).0);
        head
    }

    /// The same for a body that is stored elsewhere, from block `body` on.
    #[must_use]
    pub fn head_elsewhere(&self, seed: Seed, place: u64, sequence: u64, body: u64) -> JournalSlot {
        let mut head = JournalSlot { body: body.into(), ..self.head(seed, place, sequence) };
        seed.seal(head.as_mut_bytes().split_at_mut(SEALED_HEAD).0);
        head
    }
}

/// A transaction as its slot stores it, all but the commit word: that is stored once these bytes are durable.
///
/// `None` when a write's data does not fit its lines.
pub fn encode(seed: Seed, place: u64, sequence: u64, writes: &[Write<'_>]) -> Option<(JournalSlot, Vec<u8>)> {
    let mut body = Body::default();
    writes.iter().all(|write| body.push(write)).then(|| (body.head(seed, place, sequence), body.bytes))
}
