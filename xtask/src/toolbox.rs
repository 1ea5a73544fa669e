//! The tools under the names that users type, in a directory that a search path can begin with.

use crate::cargo::Workspace;
use crate::tools::TOOLS;
use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A directory with the tools, that goes when this is dropped.
#[derive(Debug)]
pub struct Toolbox {
    directory: TempDir,
}

impl Toolbox {
    /// Builds the tools and links them by their dotted names.
    pub fn build(workspace: &Workspace) -> Result<Self> {
        let built = workspace.build_tools()?;
        let directory = tempfile::Builder::new().prefix("paxfs-tools.").tempdir()?;
        for tool in &TOOLS {
            let link = directory.path().join(tool.name);
            symlink(built.join(tool.binary), &link).with_context(|| format!("{}", link.display()))?;
        }
        Ok(Toolbox { directory })
    }

    /// A search path that finds these tools first, and those of the system's administrator too.
    pub fn search_path(&self) -> OsString {
        let mut path = self.directory.path().as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        path
    }

    /// Where one of the tools is.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// One of the tools, to be given arguments.
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.path_of(name))
    }
}

/// The program of that name that a shell of the system's administrator would find.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
