//! Commands shown as a user would type them, with what they really print.

use crate::toolbox::Toolbox;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A shell in a directory, with the tools on its search path.
#[derive(Debug)]
pub struct Shell<'t> {
    toolbox: &'t Toolbox,
    directory: PathBuf,
}

impl<'t> Shell<'t> {
    /// A shell in `directory`.
    pub fn new(toolbox: &'t Toolbox, directory: &Path) -> Self {
        Shell { toolbox, directory: directory.to_path_buf() }
    }

    /// Says what comes next.
    pub fn say(&self, text: &str) {
        println!("\n# {text}");
    }

    /// Shows a command and all that it prints, which is returned too; fails unless it exits with `status`.
    pub fn show(&self, line: &str, status: i32) -> Result<String> {
        println!("$ {line}");
        // One stream, so that results and diagnostics come in the order in which they were written.
        let output = self.command(&format!("exec 2>&1; {line}")).output().context("sh")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        let found = output.status.code();
        if status != 0 {
            println!("(exit status {})", found.map_or_else(|| "none".to_owned(), |code| code.to_string()));
        }
        ensure!(found == Some(status), "`{line}`: {}, not exit status {status}", output.status);
        Ok(text)
    }

    /// Runs a command without showing it; its standard output.
    pub fn ask(&self, line: &str) -> Result<String> {
        let output = self.command(line).stderr(Stdio::inherit()).output().context("sh")?;
        ensure!(output.status.success(), "`{line}`: {}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.directory).stdin(Stdio::null());
        command.env("PATH", self.toolbox.search_path()).env("NO_COLOR", "1").env("LC_ALL", "C.UTF-8");
        command
    }
}
