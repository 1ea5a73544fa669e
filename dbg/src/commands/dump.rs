//! `dump`: all metadata of the volume, in one file.

use crate::PROGRAM;
use crate::dump::OBFUSCATED;
use crate::dump::obfuscate::Obfuscator;
use crate::dump::select::{Selected, select};
use crate::dump::write::{Dumped, write};
use crate::error::CommandError;
use crate::faults::Faults;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::image::Image;
use paxfs_format::volume::Volume;
use paxfs_format::words::counted;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Arguments of `dump`.
#[derive(Debug, Args)]
#[command(
    after_help = "Contents of files are not in it. What cannot be read is left out, listed, and the exit status is 1; damaged \
                  metadata is dumped as it is.\n\nObfuscated, the names of files and of user and trusted attributes, the \
                  contents of attributes but ACLs, the targets of symlinks and the label are replaced by others of the same \
                  length, the journal is applied and left out, and damaged blocks are blanked. Numbers, sizes, times, modes \
                  and owners stay, and so do names of one to three letters for which there is no other."
)]
pub struct Arguments {
    /// The file, which must not be there; - is standard output
    pub file: PathBuf,

    /// Replace names, attributes and targets of symlinks
    #[arg(long)]
    pub obfuscate: bool,
}

/// Writes it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let path = &arguments.file;
    let mut faults = Faults::default();
    if path == Path::new("-") {
        let mut out = BufWriter::new(std::io::stdout().lock());
        dump(session, arguments.obfuscate, &mut out, &mut faults)?;
        return Ok(Output::new().failure(faults.failure()));
    }
    let failed = || CommandError::io(path.display().to_string());
    let mut out = BufWriter::new(File::create_new(path).map_err(failed())?);
    let dumped = dump(session, arguments.obfuscate, &mut out, &mut faults).inspect_err(|_| {
        // Half a dump is none. It is the first error that counts.
        let _ = std::fs::remove_file(path);
    })?;
    let Dumped { blocks, lost, bytes } = dumped;
    let mut text = format!("{} of metadata in {bytes} bytes", counted(blocks, "block"));
    if lost > 0 {
        text += &format!("; the medium failed in {lost} more");
    }
    Ok(Output::new()
        .text(text)
        .data("dumped", &dumped)
        .data("faults", faults.kept())
        .failure(faults.failure()))
}

/// Writes all metadata of the session's volume to `out`.
pub fn dump(
    session: &Session,
    obfuscate: bool,
    out: &mut impl Write,
    faults: &mut Faults,
) -> Result<Dumped, CommandError> {
    let device = session.device();
    let length = device.len();
    let failed = CommandError::io("the dump cannot be written");
    if !obfuscate {
        let volume = session.volume();
        let uuid = volume.superblock.uuid;
        let selected = select(&volume, device, true, faults);
        return write(&volume.blocks, uuid, 0, length, &selected, |_, _| true, out).map_err(failed);
    }
    let volume = replayed(session, faults)?;
    let uuid = volume.superblock.uuid;
    let selected: Selected = select(&volume, device, false, faults);
    let mut obfuscator = Obfuscator::new(&volume, &selected);
    let look = |number, block: &mut [u8; 4096]| obfuscator.look(number, block);
    let dumped = write(&volume.blocks, uuid, OBFUSCATED, length, &selected, look, out).map_err(failed)?;
    if obfuscator.withheld > 0 {
        eprintln!("{PROGRAM}: left out: {} without a known header", counted(obfuscator.withheld, "block"));
    }
    Ok(dumped)
}

/// The volume as it is when its journal is applied.
fn replayed<'s>(session: &'s Session, faults: &mut Faults) -> Result<Volume<Image<'s>>, CommandError> {
    let mut image = Image::new(session.device());
    if let Some(journal) = session.journal() {
        let replay = journal.replay();
        if let Some(fault) = &replay.fault {
            let left = if replay.live.is_empty() { "left out" } else { "applied as far as it can be" };
            faults.note(format!("the journal cannot be replayed, and is {left}: {fault}"));
        }
        image.apply(&replay.live)?;
    }
    let chosen = session.chosen();
    Ok(Volume::new(image, chosen.superblock, chosen.geometry))
}
