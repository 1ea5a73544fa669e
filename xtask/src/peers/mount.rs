//! A peer's file system, mounted for a while.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image mounted through a loop device, until this is dropped.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Mounts an image on a directory, which is made.
    pub fn new(image: &Path, point: &Path) -> Result<Self> {
        std::fs::create_dir_all(point)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(point))?;
        Ok(Mount { point: point.to_path_buf(), mounted: true })
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Unmounts it, and says when that fails.
    pub fn unmount(mut self) -> Result<()> {
        self.mounted = false;
        run(Command::new("umount").arg(&self.point))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // Something failed before, and that is what is reported.
            let _ = run(Command::new("umount").arg(&self.point));
        }
    }
}

/// Runs a command that has to succeed; what it prints is shown only if it does not.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, messages.trim_end());
    Ok(())
}

/// Why nothing can be mounted here, if so.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount".to_owned());
    }
    let loops = Path::new("/dev/loop-control").exists();
    (!loops).then(|| "no loop devices here".to_owned())
}
