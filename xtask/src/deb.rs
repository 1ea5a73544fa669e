//! The Debian package.

use crate::cargo::{Workspace, cargo};
use crate::dist;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

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
    dist::lay_out(&workspace, &workspace.target.join("release/dist"))?;
    let mut command = cargo();
    command.current_dir(&workspace.root).args(["deb", "--package", "xtask", "--no-build"]);
    if let Some(out) = &arguments.out {
        command.arg("--output").arg(out);
    }
    let status = command.status().context("cargo cannot be run")?;
    ensure!(status.success(), "cargo deb failed (`cargo install cargo-deb` if there is no such command)");
    Ok(())
}
