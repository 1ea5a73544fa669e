//! `fuzz`: damages a field.

use super::set::change;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::field::edit::Verb;
use paxfs_format::path::{Change, Csum};

/// Arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A field, as for show
    pub path: String,

    /// zeroes, ones, firstbit, middlebit, lastbit, add, sub, random or random:SEED
    pub verb: Verb,

    /// What becomes of the checksum over the field, as for set
    #[arg(short, long, value_name = "fix|keep|break", default_value_t)]
    pub csum: Csum,
}

/// Damages it.
pub fn run(session: &mut Session, arguments: &Arguments) -> Result<Output, CommandError> {
    change(session, &arguments.path, &Change::Do(arguments.verb), arguments.csum)
}
