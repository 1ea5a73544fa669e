//! `export`: the whole tree, out into a directory.

use crate::PROGRAM;
use crate::error::CommandError;
use crate::export::{Exported, Exporter};
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::words::counted;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Kept: all types of files, hard links, holes, numeric owners, modes, extended attributes and ACLs, times of \
                  access and contents to the nanosecond. Unwritten extents become holes; inode flags, birth times and what is \
                  allocated past a file's end are not kept.\n\nNever follows a symlink, never leaves DIR. What is damaged is \
                  listed and left out, or cut, and the exit status is 1; what only root may set (owners, some extended \
                  attributes) is counted."
)]
pub struct Arguments {
    /// Where to: made if it is not there, else it must be empty
    pub directory: PathBuf,
}

/// Brings the tree out, and says what did not come.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let path = &arguments.directory;
    let failed = |error: Errno| CommandError::Io { what: path.display().to_string(), error: error.into() };
    let directory = open_empty(path).map_err(|error| match error {
        Errno::NOTEMPTY => CommandError::Failed(format!(
            "{}: not empty; name a directory that is, or a new one",
            path.display()
        )),
        error => failed(error),
    })?;
    let volume = session.volume();
    let exported = Exporter::new(&volume, session.device()).run(directory.as_fd()).map_err(failed)?;
    Ok(output(&exported))
}

/// The directory, which is empty.
fn open_empty(path: &Path) -> Result<rustix::fd::OwnedFd, Errno> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Err(Errno::NOTEMPTY);
        }
    }
    Ok(directory)
}

fn output(exported: &Exported) -> Output {
    let Exported { directories, files, symlinks, special, hard_links, bytes, failures, denied } = exported;
    for failure in failures {
        eprintln!("{PROGRAM}: {}: {}", failure.path, failure.error);
    }
    if denied.owners > 0 {
        eprintln!("{PROGRAM}: only root may set the owners of {}", counted(denied.owners, "file"));
    }
    if denied.xattrs > 0 {
        eprintln!("{PROGRAM}: only root may set {} of the extended attributes", denied.xattrs);
    }
    let text = format!(
        "{}, {} of {}, {}, {special} devices, FIFOs and sockets, {}",
        counted(*directories, "directory"),
        counted(*files, "file"),
        counted(*bytes, "byte"),
        counted(*symlinks, "symlink"),
        counted(*hard_links, "further name")
    );
    let failure = (!failures.is_empty()).then(|| format!("not whole: {}", counted(failures.len(), "thing")));
    Output::new().text(text).data("exported", exported).failure(failure)
}
