//! Acceptance: real files into a volume and out again, with nothing lost; and all that is said of the volume is true.
//!
//! * [`files`]: the system's own files: image, check, export, compare, owners against bytes, an independent reader.
//! * [`kinds`]: one of everything that a directory can have, made here.
//! * [`utilities`]: under `mkfs -t paxfs` and `fsck -t paxfs` of util-linux.
//!
//! What a machine lacks is skipped with a word; as root nothing is.

mod files;
mod kinds;
mod utilities;

use crate::cargo::Workspace;
use crate::toolbox::{self, Toolbox};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Of what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A directory with many files [default: /usr/share, or /usr if that has fewer than 30000]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Where images and exported files go: three times what the source has
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Files that the issue asks for, at least.
const FILES_MIN: usize = 30_000;

/// A place to work in, and the tools.
#[derive(Debug)]
struct Place {
    workspace: Workspace,
    toolbox: Toolbox,
    directory: TempDir,
}

/// Goes through all of it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::build(&workspace)?;
    let directory = tempfile::Builder::new().prefix("paxfs-accept.").tempdir_in(&arguments.dir)?;
    let place = Place { workspace, toolbox, directory };
    let source = arguments.source.clone().unwrap_or_else(many_files);
    files::accept(&place, &source)?;
    kinds::accept(&place)?;
    utilities::accept(&place)?;
    println!("\nAccepted.");
    Ok(())
}

/// A directory of the system with enough files.
fn many_files() -> PathBuf {
    let share = PathBuf::from("/usr/share");
    if count(&share) >= FILES_MIN { share } else { PathBuf::from("/usr") }
}

/// Everything below a directory.
fn count(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let below = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => 1 + count(&entry.path()),
        _ => 1,
    };
    entries.flatten().map(below).sum()
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command, and shows it; fails unless it exits with `status`. What it printed.
    fn run(&self, command: &mut Command, status: i32) -> Result<String> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let words = std::iter::once(program)
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned());
        let line =
            words.collect::<Vec<_>>().join(" ").replace(&format!("{}/", self.directory.path().display()), "");
        println!("$ {line}");
        let output = command.env("NO_COLOR", "1").stdin(std::process::Stdio::null()).output()?;
        let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(
            output.status.code() == Some(status),
            "{line}: {}, not exit status {status}\n{text}{said}",
            output.status
        );
        Ok(text.into_owned())
    }

    /// A program of the system; says so when it is not there.
    fn system(&self, name: &str) -> Option<Command> {
        let found = toolbox::find(name).map(Command::new);
        if found.is_none() {
            println!("skipped: {name} is not installed");
        }
        found
    }

    /// Exports a volume and compares it with what it was made of: contents, and every attribute that this user may set.
    fn compare(&self, image: &Path, source: &Path) -> Result<()> {
        let out = self.path("out");
        self.run(self.toolbox.command("dbg.paxfs").arg(image).arg("export").arg(&out), 0)?;
        if let Some(mut rsync) = self.system("rsync") {
            let root = rustix::process::geteuid().is_root();
            // Owners, devices and some attributes are for root alone.
            rsync.arg(if root { "-aHAXn" } else { "-rlptHn" });
            rsync.args(["--itemize-changes", "--checksum", "--delete"]);
            let listed = self.run(rsync.arg(source.join("")).arg(out.join("")), 0)?;
            anyhow::ensure!(listed.is_empty(), "what was exported differs from its source:\n{listed}");
            let what = if root { "contents and every attribute" } else { "contents, types, modes and times" };
            println!("equal: {what}");
        }
        std::fs::remove_dir_all(&out)?;
        Ok(())
    }

    /// Has a reader that shares nothing with paxfs check the volume.
    fn read_independently(&self, image: &Path) -> Result<()> {
        if let Some(mut python) = self.system("python3") {
            let reader = self.workspace.root.join("docs/reader.py");
            print!("{}", self.run(python.arg(reader).arg(image), 0)?);
        }
        Ok(())
    }
}
