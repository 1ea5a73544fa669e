//! The prompt: commands line by line, with history and completion on a terminal.

use crate::cli::Line;
use crate::error::CommandError;
use crate::output::Format;
use crate::session::Session;
use clap::Parser;

/// Runs commands until the end of input.
pub fn run(session: &mut Session, format: Format) -> Result<(), CommandError> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(CommandError::io("standard input"))?;
        run_line(session, format, &line)?;
    }
    Ok(())
}

/// Runs one line.
pub fn run_line(session: &mut Session, format: Format, line: &str) -> Result<(), CommandError> {
    let words = shlex::split(line).ok_or_else(|| CommandError::Usage("quotes do not match".to_owned()))?;
    let line = Line::try_parse_from(words).map_err(|error| CommandError::Usage(error.to_string()))?;
    let chosen = if line.format.chosen() == Format::Text { format } else { line.format.chosen() };
    crate::commands::run(session, &line.command)?.print(chosen)
}
