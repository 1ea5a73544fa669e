//! The prompt: commands line by line, with history and completion on a terminal.
//!
//! A line is a command as on the command line; words with spaces go in quotes. `help` lists the commands, `quit` or the
//! end of input ends. When standard input is no terminal, lines are read from it, empty ones and those that begin with
//! `#` are passed over, and the program fails at the end if one of them did.

mod complete;

use crate::PROGRAM;
use crate::cli::Line;
use crate::error::CommandError;
use crate::output::{Format, print_bytes};
use crate::session::Session;
use clap::Parser;
use complete::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Lines of history that are kept.
const HISTORY: usize = 1000;

/// Runs commands until the end of input.
pub fn run(session: &mut Session, format: Format) -> Result<(), CommandError> {
    if std::io::stdin().is_terminal() { interactive(session, format) } else { script(session, format) }
}

/// What a line did.
enum Done {
    Printed,
    Quit,
}

fn script(session: &mut Session, format: Format) -> Result<(), CommandError> {
    let mut failed = 0u64;
    for (line, number) in std::io::stdin().lines().zip(1u64..) {
        let line = line.map_err(CommandError::io("standard input"))?;
        match run_line(session, format, &line) {
            Ok(Done::Printed) => {}
            Ok(Done::Quit) => break,
            Err(error) => {
                failed += 1;
                eprintln!("{PROGRAM}: line {number}: {error}");
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CommandError::Failed(format!("{failed} commands failed"))),
    }
}

fn interactive(session: &mut Session, format: Format) -> Result<(), CommandError> {
    let failed = |error: ReadlineError| CommandError::Failed(format!("the terminal: {error}"));
    // Completion looks at the volume between two commands, as the last one left it.
    let session = RefCell::new(session);
    let config = Config::builder().max_history_size(HISTORY).map_err(failed)?.auto_add_history(true).build();
    let mut editor = Editor::<Completer<'_, '_>, FileHistory>::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Completer::new(&session)));
    let history = history();
    if let Some(history) = &history {
        // There is none the first time.
        let _ = editor.load_history(history);
    }
    loop {
        match editor.readline("paxfs> ") {
            Ok(line) => match run_line(&mut session.borrow_mut(), format, &line) {
                Ok(Done::Printed) => {}
                Ok(Done::Quit) => break,
                Err(error) => eprintln!("{PROGRAM}: {error}"),
            },
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    if let Some(history) = &history {
        // Losing it loses no work.
        let _ = history.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(history);
    }
    Ok(())
}

/// Where the history is kept, as the XDG base directories have it.
fn history() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    Some(state.or_else(home)?.join("paxfs/dbg_history"))
}

/// Runs one line.
fn run_line(session: &mut Session, format: Format, line: &str) -> Result<Done, CommandError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Done::Printed);
    }
    if matches!(line, "quit" | "exit" | "q") {
        return Ok(Done::Quit);
    }
    let words = shlex::split(line).ok_or_else(|| CommandError::Usage("quotes do not match".to_owned()))?;
    match Line::try_parse_from(words) {
        Ok(line) => {
            let format = match line.format.chosen() {
                Format::Text => format,
                chosen => chosen,
            };
            crate::commands::run(session, &line.command, format)?.print(format)?;
        }
        Err(error) if !error.use_stderr() => print_bytes(error.to_string().as_bytes())?,
        Err(error) => {
            let message = error.to_string();
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            return Err(CommandError::Usage(message.trim_end().to_owned()));
        }
    }
    Ok(Done::Printed)
}
