//! Programs of the guest, shown as a user would type them, with what they really print.

use crate::report::say;
use crate::target::Result;
use std::process::{Command, ExitStatus};

/// Runs a command and shows it; fails unless it exits with `status`.
pub fn show(line: &str, status: i32) -> Result<()> {
    say(&format!("$ {line}"));
    let (text, ended) = output(line)?;
    text.lines().for_each(say);
    check(line, ended, status)
}

/// Runs a command; fails unless it exits with `status`.
pub fn run(line: &str, status: i32) -> Result<()> {
    let (text, ended) = output(line)?;
    check(line, ended, status).map_err(|error| format!("{error}: {}", text.trim_end()).into())
}

/// What a command prints, and how it ends.
fn output(line: &str) -> Result<(String, ExitStatus)> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8_lossy(&text).into_owned(), output.status))
}

fn check(line: &str, ended: ExitStatus, status: i32) -> Result<()> {
    if ended.code() == Some(status) {
        Ok(())
    } else {
        Err(format!("{line}: {ended}, not exit status {status}").into())
    }
}
