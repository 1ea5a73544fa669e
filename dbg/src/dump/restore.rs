//! A device from a dump. The stream is not believed: everything is checked before it is used.

use super::{BLOCKS, DumpChunk, DumpHeader, END, LOST, MAGIC, MAX_CHUNK, VERSION};
use paxfs_format::device::{Device, DeviceError, MediumError};
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::journal::{JournalRecord, LINE_SIZE, Write};
use std::io::{self, Read};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Why a dump cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be read.
    #[error("the dump cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("the dump is cut short")]
    Short,
    /// It is something else.
    #[error("that is no paxfs dump")]
    Magic,
    /// A version of the stream that is not known here.
    #[error("a dump of version {0} is not known to this release (it knows version {VERSION})")]
    Version(u32),
    /// A checksum does not fit.
    #[error("the dump is damaged: the checksum of {0} does not fit")]
    Crc(&'static str),
    /// It says something that cannot be.
    #[error("the dump is damaged: {0}")]
    Malformed(&'static str),
    /// The device cannot be made or written.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device ends too early.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Length of the device.
    pub device_bytes: u64,
    /// Whether names are the volume's own.
    pub obfuscated: bool,
    /// Blocks written.
    pub blocks: u64,
    /// Blocks that the dump does not have because the medium failed; they are zeros.
    pub lost: u64,
}

/// The header of a dump.
pub fn header(source: &mut impl Read) -> Result<DumpHeader, RestoreError> {
    let mut header = DumpHeader::new_zeroed();
    fill(source, header.as_mut_bytes())?;
    if header.magic != MAGIC {
        return Err(RestoreError::Magic);
    }
    if header.crc.get() != header.sum() {
        return Err(RestoreError::Crc("its header"));
    }
    if header.version.get() != VERSION {
        return Err(RestoreError::Version(header.version.get()));
    }
    Ok(header)
}

/// Writes the blocks that follow the header onto a device, which reads as zeros.
pub fn blocks(
    source: &mut impl Read,
    header: &DumpHeader,
    device: &mut Device,
) -> Result<Restored, RestoreError> {
    let mut restored = Restored {
        device_bytes: header.device_bytes.get(),
        obfuscated: header.flags.get() & super::OBFUSCATED != 0,
        ..Restored::default()
    };
    let mut next = 0;
    loop {
        let mut head = DumpChunk::new_zeroed();
        fill(source, head.as_mut_bytes())?;
        let length = usize::try_from(head.bytes.get()).ok().filter(|length| *length <= MAX_CHUNK);
        let mut body = vec![0; length.ok_or(RestoreError::Malformed("a chunk is too long"))?];
        fill(source, &mut body)?;
        if head.crc.get() != head.sum(&body) {
            return Err(RestoreError::Crc("a chunk"));
        }
        match head.kind {
            BLOCKS => {
                let mut rest = body.as_slice();
                for _ in 0..head.records.get() {
                    rest = record(rest, device, &mut next)?;
                    restored.blocks += 1;
                }
                if !rest.is_empty() {
                    return Err(RestoreError::Malformed("a chunk has bytes behind its records"));
                }
            }
            LOST => restored.lost = restored.lost.saturating_add(head.records.get().into()),
            END if body == restored.blocks.to_le_bytes() => {
                return match source.read(&mut [0])? {
                    0 => Ok(restored),
                    _ => Err(RestoreError::Malformed("bytes follow its end")),
                };
            }
            END => return Err(RestoreError::Malformed("blocks are missing")),
            _ => return Err(RestoreError::Malformed("a chunk is of an unknown kind")),
        }
    }
}

/// Writes the first block in `bytes`; returns what follows it. `next` is the lowest block that may come.
fn record<'b>(bytes: &'b [u8], device: &mut Device, next: &mut u64) -> Result<&'b [u8], RestoreError> {
    let malformed = RestoreError::Malformed("a record does not fit its chunk");
    let Ok((head, rest)) = JournalRecord::ref_from_prefix(bytes) else { return Err(malformed) };
    let (block, lines) = (head.block.get(), head.lines.get());
    let length = usize::try_from(lines.count_ones()).unwrap_or(0) * LINE_SIZE;
    let (data, rest) = rest.split_at_checked(length).ok_or(malformed)?;
    if block < *next {
        return Err(RestoreError::Malformed("blocks are out of order"));
    }
    *next = block.saturating_add(1);
    let offset =
        block.checked_mul(BLOCK_BYTES).ok_or(RestoreError::Malformed("a block number is too high"))?;
    let home = device.bytes_mut(offset, BLOCK_SIZE)?;
    if let Ok(home) = home.try_into() {
        let home: &mut [u8; BLOCK_SIZE] = home;
        home.fill(0);
        Write { block, lines, data }.apply(home);
    }
    Ok(rest)
}

fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<(), RestoreError> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RestoreError::Short,
        _ => RestoreError::Io(error),
    })
}
