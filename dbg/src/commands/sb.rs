//! `sb`: the superblock, or a copy of it.

use crate::error::CommandError;
use crate::output::{Output, Table};
use crate::session::Session;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::OnDisk;
use paxfs_format::field::value::{Fields, rows};
use paxfs_format::superblock::Superblock;
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
    let bytes = volume.blocks.block(block)?;
    let fault = read_superblock(&volume.blocks, block).err().map(|fault| fault.to_string());
    let mut table = Table::new(&["field", "value", "meaning"]);
    for row in rows(&Superblock::LAYOUT, bytes) {
        table.row([row.path, row.value, row.doc]);
    }
    let mut output = Output::new().data("block", &block).data("fault", &fault);
    if let Some(fields) = Fields::new(&Superblock::LAYOUT, bytes) {
        output = output.data("superblock", &fields);
    }
    if let Some(fault) = &fault {
        output = output.text(format!("block {block}: {fault}"));
    }
    Ok(output.table(table))
}
