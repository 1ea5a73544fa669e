//! `block`: a block in hexadecimal, and as what it is.

use crate::decode;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::path::{TargetError, resolve};
use std::fmt::Write;

/// Arguments of `block`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The block's number
    pub block: u64,

    /// Leave out the hexadecimal dump
    #[arg(short, long)]
    pub decoded: bool,
}

/// Shows it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let number = arguments.block;
    let bytes = volume.blocks.block(number)?;
    let path = format!("block[{number}]");
    let output = match resolve(&volume, &path) {
        Ok(target) => decode::show(&volume, &target),
        // A block of inodes has no fields of its own.
        Err(TargetError::Unknown { expected, .. }) if expected.iter().any(|name| name == "inode") => {
            decode::inodes(&volume, &path)
        }
        Err(error) => return Err(error.into()),
    };
    // Asked last: the dump is what reads all of the block.
    let dump = dump(bytes);
    let failed = volume.blocks.failed(number).then(|| format!("the medium failed at block {number}"));
    let output = output.data("bytes", &hex(bytes)).failure(failed);
    Ok(if arguments.decoded { output } else { output.text(format!("\n{dump}")) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sixteen bytes a line, lines like the one before as `*`.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    for (line, offset) in bytes.chunks(16).zip((0u32..).step_by(16)) {
        if before == Some(line) {
            if !starred {
                text.push_str("*\n");
            }
            starred = true;
            continue;
        }
        (before, starred) = (Some(line), false);
        let shown =
            |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let (first, second) = line.split_at(line.len().min(8));
        let words = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let ascii: String = line.iter().map(shown).collect();
        let _ = writeln!(text, "{offset:03x}  {:23}  {:23}  {ascii}", words(first), words(second));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lines_are_one() {
        let mut bytes = [0; 64];
        bytes[48] = b'A';
        let lines: Vec<_> = dump(&bytes).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], "*");
        assert_eq!(lines[2], "030  41 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  A...............");
    }
}
