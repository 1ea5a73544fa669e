//! The Debian package.

use crate::cargo::{Workspace, cargo};
use crate::dist;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to build it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory or file for the package [default: `debian` in cargo's target directory]
    #[arg(short, long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Builds it from what is installed, as the metadata in `xtask/Cargo.toml` says.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    // cargo-deb knows this directory, wherever cargo's target directory is.
    let layout = workspace.target.join("release/dist");
    if layout.exists() {
        fs::remove_dir_all(&layout)?;
    }
    dist::lay_out(&workspace, &layout)?;
    compress(&layout.join("share/man/man8"))?;
    let mut command = cargo();
    command.current_dir(&workspace.root).args(["deb", "--package", "xtask", "--no-build"]);
    if let Some(out) = &arguments.out {
        command.arg("--output").arg(out);
    }
    let status = command.status().context("cargo cannot be run")?;
    ensure!(status.success(), "cargo deb failed (`cargo install cargo-deb` if there is no such command)");
    Ok(())
}

/// Debian wants pages compressed, and cargo-deb takes what is in the target directory as it is.
fn compress(pages: &Path) -> Result<()> {
    let mut command = Command::new("gzip");
    command.args(["-9", "--no-name"]);
    for page in fs::read_dir(pages)? {
        command.arg(page?.path());
    }
    let status = command.status().context("gzip cannot be run")?;
    ensure!(status.success(), "gzip: {status}");
    Ok(())
}
