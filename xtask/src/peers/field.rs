//! Where it all happens, and who is there.

use crate::cargo::Workspace;
use crate::peers::{mount, tree};
use crate::toolbox::{self, Toolbox};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use tempfile::TempDir;

/// A directory for images, and all that the contests need to know.
#[derive(Debug)]
pub struct Field<'a> {
    toolbox: &'a Toolbox,
    /// The workspace, for its recipes.
    pub workspace: &'a Workspace,
    directory: TempDir,
    /// Files of the large volume.
    pub files: u64,
    /// Rounds of work that takes seconds.
    pub rounds: usize,
}

/// An image of a peer, or why there is none.
pub type Peer = std::result::Result<PathBuf, String>;

impl<'a> Field<'a> {
    /// A new directory below `parent`.
    pub fn new(
        toolbox: &'a Toolbox,
        workspace: &'a Workspace,
        parent: &Path,
        files: u64,
        rounds: usize,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("paxfs-peers.").tempdir_in(parent);
        let directory = directory.with_context(|| format!("{}", parent.display()))?;
        Ok(Field { toolbox, workspace, directory, files, rounds })
    }

    /// Rounds of work that takes less than a second.
    pub fn rounds_short(&self) -> usize {
        self.rounds.saturating_mul(3)
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// One of our tools.
    pub fn ours(&self, name: &str) -> Command {
        self.toolbox.command(name)
    }

    /// A peer's tool, or why there is none.
    pub fn peer(&self, name: &str) -> std::result::Result<Command, String> {
        toolbox::find(name).map(Command::new).ok_or_else(|| format!("{name} is not installed"))
    }

    /// The directory of many files; made when it is asked for first.
    pub fn tree(&self) -> Result<PathBuf> {
        let path = self.path("tree");
        if !path.exists() {
            eprintln!("making {} files", self.files);
            tree::make(&path, self.files)?;
        }
        Ok(path)
    }

    /// Bytes for an image that holds the tree: sparse, so generous.
    pub fn tree_image_bytes(&self) -> u64 {
        (self.files * 16 * 1024).next_multiple_of(1 << 30).max(1 << 30)
    }

    /// Removes the tree: the images are enough from here on.
    pub fn forget_tree(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.path("tree"))?)
    }

    /// Removes all.
    pub fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(self.directory.path())? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
        Ok(())
    }

    /// An XFS image filled while it is mounted, or why there is none.
    pub fn xfs(&self, name: &str, bytes: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Peer {
        if let Some(why) = mount::obstacle() {
            return Err(format!("XFS has to be mounted to be filled, and {why}"));
        }
        let mut make = self.peer("mkfs.xfs")?;
        let image = self.path(name);
        let point = self.path(&format!("{name}.mounted"));
        eprintln!("filling {name}");
        let filled = (|| {
            fs::File::create(&image)?.set_len(bytes)?;
            mount::run(make.args(["-q", "-m", "rmapbt=1,reflink=1"]).arg(&image))?;
            let mounted = mount::Mount::new(&image, &point)?;
            fill(mounted.point())?;
            mounted.unmount()?;
            fs::remove_dir(&point).context("mount point")
        })();
        filled.map(|()| image).map_err(|error: anyhow::Error| format!("XFS could not be filled: {error:#}"))
    }

    /// What was measured where, in a sentence.
    pub fn describe(&self) -> String {
        let cores = available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
        let versions = [("mkfs.xfs", "-V"), ("mke2fs", "-V"), ("mkfs.btrfs", "--version")];
        let peers: Vec<String> =
            versions.iter().filter_map(|(name, flag)| self.version(name, flag)).collect();
        format!(
            "{cores} cores, Linux {}, images on tmpfs, {} rounds in turn ({} where a run takes less than a second); {}.",
            kernel.join("."),
            self.rounds,
            self.rounds_short(),
            peers.join("; ")
        )
    }

    fn version(&self, name: &str, flag: &str) -> Option<String> {
        let output = self.peer(name).ok()?.arg(flag).output().ok()?;
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        let line = String::from_utf8_lossy(&said).lines().next()?.trim().to_owned();
        Some(
            line.split(" (")
                .next()
                .unwrap_or(&line)
                .replace("mkfs.btrfs, part of ", "")
                .replace(" version", ""),
        )
    }
}
