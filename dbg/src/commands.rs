//! The commands: each in its own file, from its arguments to its output.

pub mod block;
pub mod cat;
pub mod diff;
pub mod dump;
pub mod export;
pub mod extents;
pub mod freesp;
pub mod fuzz;
pub mod group;
pub mod huge;
pub mod inode;
pub mod journal;
pub mod ls;
pub mod owner;
pub mod path;
pub mod restore;
pub mod sb;
pub mod set;
pub mod sharing;
pub mod show;
pub mod space;
pub mod tree;

use crate::cli::Command;
use crate::error::CommandError;
use crate::output::{Format, Output};
use crate::session::Session;

/// Runs a command. Those with rows without end print them themselves, in `format`.
pub fn run(session: &mut Session, command: &Command, format: Format) -> Result<Output, CommandError> {
    match command {
        Command::Sb(arguments) => sb::run(session, arguments),
        Command::Owner(arguments) => owner::run(session, arguments, format),
        Command::Show(arguments) => show::run(session, arguments),
        Command::Group(arguments) => group::run(session, arguments, format),
        Command::Tree(arguments) => tree::run(session, arguments, format),
        Command::Inode(arguments) => inode::run(session, arguments),
        Command::Block(arguments) => block::run(session, arguments),
        Command::Diff(arguments) => diff::run(session, arguments, format),
        Command::Set(arguments) => set::run(session, arguments),
        Command::Fuzz(arguments) => fuzz::run(session, arguments),
        Command::Ls(arguments) => ls::run(session, arguments, format),
        Command::Path(arguments) => path::run(session, arguments),
        Command::Cat(arguments) => cat::run(session, arguments),
        Command::Export(arguments) => export::run(session, arguments),
        Command::Extents(arguments) => extents::run(session, arguments, format),
        Command::Freesp(arguments) => freesp::run(session, arguments),
        Command::Journal(arguments) => journal::run(session, arguments),
        Command::Huge(arguments) => huge::run(session, arguments),
        Command::Sharing(arguments) => sharing::run(session, arguments),
        Command::Space(arguments) => space::run(session, arguments, format),
        Command::Dump(arguments) => dump::run(session, arguments),
        Command::Restore(arguments) => restore::run(session, arguments),
    }
}
