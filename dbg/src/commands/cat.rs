//! `cat`: contents of a file, as bytes.

use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::target::Target;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::inode::Inode;
use paxfs_format::volume::Volume;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};

/// Arguments of `cat`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A path from `/`, or an inode number
    pub file: OsString,
}

/// Bytes read at once.
const PIECE: usize = 256 * BLOCK_SIZE;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Prints them on standard output.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let target = Target::find(&volume, &arguments.file)?.regular()?;
    let mut out = std::io::stdout().lock();
    let printed = print(&volume, session.device(), target.inode, &mut out);
    match printed.and_then(|()| out.flush().map_err(CommandError::io("standard output"))) {
        Err(CommandError::Io { error, .. }) if error.kind() == ErrorKind::BrokenPipe => Ok(Output::new()),
        other => other.map(|()| Output::new()),
    }
}

/// Writes a file's contents to `out`, up to the first byte that cannot be read.
pub fn print<B: Blocks>(
    volume: &Volume<B>,
    device: &paxfs_format::device::Device,
    inode: &Inode,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let number = inode.header.place.get();
    let size = inode.size.get();
    let mut printer = Printer { device, out, number, at: 0 };
    for extent in volume.extents(inode) {
        let extent: Extent = extent.map_err(|fault| CommandError::Fork { inode: number, fault })?;
        let start = extent.offset.get().saturating_mul(BLOCK_BYTES).min(size);
        let end = extent.offset.get().saturating_add(extent.length.get().into()).saturating_mul(BLOCK_BYTES);
        // Extents of a damaged tree may overlap: what was printed stays printed.
        printer.zeros_to(start)?;
        if extent.flags.is_unwritten() {
            printer.zeros_to(end.min(size))?;
        } else {
            let skipped = printer.at.saturating_sub(start);
            let from = extent.start.get().saturating_mul(BLOCK_BYTES).saturating_add(skipped);
            printer.data_to(end.min(size), from)?;
        }
    }
    printer.zeros_to(size)
}

struct Printer<'d, W> {
    device: &'d paxfs_format::device::Device,
    out: &'d mut W,
    number: u64,
    at: u64,
}

impl<W: Write> Printer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.out.write_all(bytes).map_err(CommandError::io("standard output"))?;
        self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        Ok(())
    }

    fn zeros_to(&mut self, end: u64) -> Result<(), CommandError> {
        while self.at < end {
            let length = usize::try_from(end - self.at).unwrap_or(PIECE).min(PIECE);
            self.write(ZEROS.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Writes up to file offset `end` the bytes of the device at `from` and on.
    fn data_to(&mut self, end: u64, mut from: u64) -> Result<(), CommandError> {
        let mut buffer = Vec::new();
        while self.at < end {
            // Up to a whole block of the device, so that a failed one is alone.
            let length = usize::try_from(end - self.at).unwrap_or(PIECE).min(PIECE);
            buffer.clear();
            buffer.extend_from_slice(self.device.bytes(from, length)?);
            if self.device.faulted(from, length) {
                self.up_to_fault(&buffer, from)?;
            }
            self.write(&buffer)?;
            from = from.saturating_add(u64::try_from(length).unwrap_or(0));
        }
        Ok(())
    }

    /// Writes the blocks before the first that failed, and fails.
    fn up_to_fault(&mut self, buffer: &[u8], from: u64) -> Result<(), CommandError> {
        let mut place = from;
        for block in buffer.chunks(BLOCK_SIZE) {
            if self.device.faulted(place, block.len()) {
                break;
            }
            self.write(block)?;
            place = place.saturating_add(BLOCK_BYTES);
        }
        Err(CommandError::Failed(format!(
            "inode {}: the medium failed at byte {} of the file (block {})",
            self.number,
            self.at,
            place / BLOCK_BYTES
        )))
    }
}
