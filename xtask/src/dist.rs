//! Everything as it is installed: tools under their dotted names, man pages, completions, documents.

use crate::cargo::Workspace;
use crate::tools::TOOLS;
use crate::{completions, man};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where to write.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory for the layout (`sbin`, `share/…`) [default: `dist` in cargo's target directory]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Documents that are installed with the tools.
const DOCUMENTS: [&str; 3] = ["README.md", "CHANGELOG.md", "docs/FORMAT.md"];

/// Lays it out.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let out = arguments.out.clone().unwrap_or_else(|| workspace.target.join("dist"));
    lay_out(&workspace, &out)?;
    println!("{}", out.display());
    Ok(())
}

/// Builds the tools for release and lays everything out below `prefix`.
pub fn lay_out(workspace: &Workspace, prefix: &Path) -> Result<()> {
    let built = workspace.build_tools()?;
    for tool in &TOOLS {
        copy(&built.join(tool.binary), &prefix.join("sbin").join(tool.name), 0o755)?;
    }
    let share = prefix.join("share");
    man::write(&share.join("man/man8"))?;
    completions::write(&share)?;
    for document in DOCUMENTS {
        let from = workspace.root.join(document);
        let name = from.file_name().context("a document without a name")?;
        copy(&from, &share.join("doc/paxfs").join(name), 0o644)?;
    }
    Ok(())
}

/// Copies a file into its place in one step, so that a program that is running can be replaced.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let directory = to.parent().context("a file without a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    let new =
        tempfile::NamedTempFile::new_in(directory).with_context(|| format!("{}", directory.display()))?;
    fs::copy(from, new.path()).with_context(|| format!("{}", from.display()))?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(mode))?;
    new.persist(to).with_context(|| format!("{}", to.display()))?;
    Ok(())
}
