//! `sb`: the superblock, or a copy of it.

use crate::decode;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::path::resolve;
use paxfs_format::volume::read_superblock;

/// Arguments of `sb`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The group whose copy is shown
    #[arg(default_value_t = 0)]
    pub group: u32,
}

/// Shows it, and what is wrong with it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let block = volume.geometry.superblock(arguments.group);
    let target = resolve(&volume, &format!("sb[{}]", arguments.group))?;
    let fault = read_superblock(&volume.blocks, block).err().map(|fault| fault.to_string());
    Ok(decode::show(&volume, &target).fault(fault))
}
