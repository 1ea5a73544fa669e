//! Programs of the guest, shown as a user would type them, with what they really print.

use crate::report::say;
use crate::target::Result;
use std::process::Command;

/// Runs a command; fails unless it exits with `status`.
pub fn show(line: &str, status: i32) -> Result<()> {
    say(&format!("$ {line}"));
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    for stream in [&output.stdout, &output.stderr] {
        String::from_utf8_lossy(stream).lines().for_each(say);
    }
    if output.status.code() == Some(status) {
        Ok(())
    } else {
        Err(format!("{line}: {}, not exit status {status}", output.status).into())
    }
}
