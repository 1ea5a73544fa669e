//! `inode`: an inode field by field, and what it holds itself.

use crate::decode;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::target::number;
use clap::Args;
use paxfs_format::path::resolve;
use std::ffi::OsString;

/// Arguments of `inode`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A path from `/`, or an inode number
    #[arg(value_name = "PATH|NUMBER")]
    pub inode: OsString,
}

/// Shows it, whatever its bytes are.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let number = number(&volume, &arguments.inode)?;
    let target = resolve(&volume, &format!("inode[{number}]"))?;
    let fault = volume.inode(number).err().map(|fault| fault.to_string());
    let paths: Vec<_> = volume.paths(number).iter().map(ToString::to_string).collect();
    let output = decode::show(&volume, &target).data("paths", &paths);
    let output = if fault.is_none() { output.text(format!("\n{}", paths.join("\n"))) } else { output };
    Ok(output.fault(fault))
}
