//! The process that stays: it is this program, started once more, so that no process of many threads is ever divided.
//!
//! The one that was called waits until the other has said on its standard output that the mount stands, or has ended; what
//! went wrong the other has said on the standard error that both share.

use crate::cli::EXIT_FAILED;
use crate::log::{self, complain};
use rustix::process::setsid;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};

/// What is said when the mount stands.
const STANDS: &[u8] = b"mounted\n";

/// Starts the process that stays, and waits until the mount stands.
pub(crate) fn start(arguments: &[OsString]) -> ExitCode {
    let failed = |error: std::io::Error| {
        complain(format_args!("the process that serves the volume cannot be started: {error}"));
        ExitCode::from(EXIT_FAILED)
    };
    let child = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.arg("--daemon").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()
    });
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return failed(error),
    };
    let mut said = Vec::new();
    let heard = child.stdout.take().map(|mut output| output.read_to_end(&mut said));
    if let Some(before) = said.strip_suffix(STANDS) {
        // It is said for who asked for it; that he does not listen is no failure.
        let _ = std::io::stdout().write_all(before);
        return ExitCode::SUCCESS;
    }
    if let Some(Err(error)) = heard {
        complain(format_args!("nothing was heard of the process that serves the volume: {error}"));
    }
    match child.wait() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
            if status.code().is_none() {
                complain(format_args!("the process that serves the volume ended: {status}"));
            }
            ExitCode::from(code.unwrap_or(EXIT_FAILED))
        }
        Err(error) => failed(error),
    }
}

/// Leaves the session of who called, so that the end of his terminal is not the end of the mount.
pub(crate) fn settle() {
    // It fails in a process that leads one already, which is as good.
    let _ = setsid();
}

/// Says that the mount stands, and lets go of everything of who called.
pub(crate) fn stands() -> std::io::Result<()> {
    // Opened first: then nothing can go wrong after the word is given.
    let nothing: File = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    let mut output = std::io::stdout().lock();
    output.write_all(STANDS)?;
    output.flush()?;
    log::to_system();
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}
