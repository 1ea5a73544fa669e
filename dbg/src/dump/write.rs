//! The stream, from selected blocks.

use super::select::Selected;
use super::{BLOCKS, DumpChunk, DumpHeader, END, LOST, MAGIC, MAX_CHUNK, VERSION};
use paxfs_format::blocks::Blocks;
use paxfs_format::journal::{JournalRecord, LINE_SIZE};
use paxfs_format::units::{Crc, Opaque, Reserved, Uuid};
use serde::Serialize;
use std::io::{self, Write};
use zerocopy::IntoBytes;

/// What a dump holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dumped {
    /// Blocks that are not all zeros.
    pub blocks: u64,
    /// Blocks that the medium did not give.
    pub lost: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Writes all of `selected`, each block as `look` sees it (`None` leaves it out).
pub fn write<B: Blocks>(
    blocks: &B,
    uuid: Uuid,
    flags: u64,
    device_bytes: u64,
    selected: &Selected,
    mut look: impl FnMut(u64, &mut [u8; 4096]) -> bool,
    out: &mut impl Write,
) -> io::Result<Dumped> {
    let mut header = DumpHeader {
        magic: MAGIC,
        version: VERSION.into(),
        crc: Crc::new(0),
        flags: flags.into(),
        uuid,
        device_bytes: device_bytes.into(),
        reserved: Reserved::ZERO,
    };
    header.crc = header.sum().into();
    let mut stream = Stream { out, body: Vec::new(), records: 0, dumped: Dumped::default() };
    stream.put(header.as_bytes())?;
    let mut lost = Vec::new();
    for block in selected.blocks() {
        let Ok(bytes) = blocks.block(block) else { continue };
        let mut bytes = *bytes;
        if blocks.failed(block) {
            lost.push(block);
        } else if look(block, &mut bytes) {
            stream.block(block, &bytes)?;
        }
    }
    stream.chunk(BLOCKS)?;
    for block in lost {
        stream.dumped.lost += 1;
        stream.record(LOST, &block.to_le_bytes())?;
    }
    stream.chunk(LOST)?;
    let count = stream.dumped.blocks;
    stream.record(END, &count.to_le_bytes())?;
    stream.chunk(END)?;
    stream.out.flush()?;
    Ok(stream.dumped)
}

struct Stream<'o, W> {
    out: &'o mut W,
    body: Vec<u8>,
    records: u32,
    dumped: Dumped,
}

impl<W: Write> Stream<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.dumped.bytes = self.dumped.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        self.out.write_all(bytes)
    }

    /// The lines of a block that are not zeros.
    fn block(&mut self, block: u64, bytes: &[u8; 4096]) -> io::Result<()> {
        let mut lines = 0u64;
        let mut record = [0; size_of::<JournalRecord>()].to_vec();
        for (number, line) in bytes.chunks_exact(LINE_SIZE).enumerate() {
            if line.iter().any(|&byte| byte != 0) {
                lines |= 1 << number;
                record.extend_from_slice(line);
            }
        }
        if lines == 0 {
            return Ok(());
        }
        let head = JournalRecord { block: block.into(), lines: lines.into() };
        if let Some(place) = record.get_mut(..size_of::<JournalRecord>()) {
            place.copy_from_slice(head.as_bytes());
        }
        self.dumped.blocks += 1;
        self.record(BLOCKS, &record)
    }

    fn record(&mut self, kind: Opaque<4>, record: &[u8]) -> io::Result<()> {
        if self.body.len() + record.len() > MAX_CHUNK {
            self.chunk(kind)?;
        }
        self.body.extend_from_slice(record);
        self.records += 1;
        Ok(())
    }

    /// Ends a chunk, unless it is empty.
    fn chunk(&mut self, kind: Opaque<4>) -> io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let body = std::mem::take(&mut self.body);
        let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut head =
            DumpChunk { kind, crc: Crc::new(0), records: self.records.into(), bytes: bytes.into() };
        head.crc = head.sum(&body).into();
        self.put(head.as_bytes())?;
        self.put(&body)?;
        self.records = 0;
        self.body = body;
        self.body.clear();
        Ok(())
    }
}
