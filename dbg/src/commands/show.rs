//! `show`: what a path names.

use crate::decode;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::path::resolve;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The path of a structure, record or field.
    #[arg(help = "A path such as rmap[0].leaf[3].rec[17].owner, inode[/a/b].size, sb.label or block[8000]")]
    pub path: String,
}

/// Shows it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let target = resolve(&volume, &arguments.path)?;
    Ok(decode::show(&volume, &target))
}
