//! Building with cargo, and where cargo puts things.

use crate::tools::TOOLS;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Where the workspace is, and what cargo makes of it.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Its root.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// What cargo writes to.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub fn find() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let output = command.output().context("cargo cannot be run")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("cargo metadata")
    }

    /// Builds the tools for release; the directory with them.
    pub fn build_tools(&self) -> Result<PathBuf> {
        let mut command = cargo();
        command.current_dir(&self.root).args(["build", "--quiet", "--release", "--bins"]);
        for tool in &TOOLS {
            command.args(["--package", tool.package]);
        }
        let status = command.status().context("cargo cannot be run")?;
        ensure!(status.success(), "the tools could not be built");
        Ok(self.target.join("release"))
    }

    /// Builds an example for release; where it is.
    pub fn build_example(&self, package: &str, example: &str) -> Result<PathBuf> {
        let mut command = cargo();
        command.current_dir(&self.root).args(["build", "--quiet", "--release"]);
        let status = command.args(["--package", package, "--example", example]).status();
        ensure!(status.context("cargo cannot be run")?.success(), "{example} could not be built");
        Ok(self.target.join("release/examples").join(example))
    }
}

/// The cargo that runs this program, or the one on the path.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
