//! `path`: all paths of an inode.

use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::target;
use clap::Args;
use std::ffi::OsString;

/// Arguments of `path`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The inode number (or one of its paths, to see the others)
    pub inode: OsString,
}

/// Finds them through parent pointers.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let number = target::number(&volume, &arguments.inode)?;
    let paths = volume.paths(number);
    let lost = paths.iter().any(|path| !path.whole);
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let failure = lost.then(|| match volume.inode(number) {
        Ok(inode) if inode.is_free() => format!("inode {number} is free"),
        Ok(_) => format!("not every path of inode {number} leads to the root"),
        Err(fault) => format!("inode {number}: {fault}"),
    });
    Ok(Output::new().text(paths.join("\n")).data("inode", &number).data("paths", &paths).failure(failure))
}
