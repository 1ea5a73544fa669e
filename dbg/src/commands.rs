//! The commands: each in its own file, from its arguments to its output.

pub mod sb;

use crate::cli::Command;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// Runs a command.
pub fn run(session: &mut Session, command: &Command) -> Result<Output, CommandError> {
    match command {
        Command::Sb(arguments) => sb::run(session, arguments),
    }
}
