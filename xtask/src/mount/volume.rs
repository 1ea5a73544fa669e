//! A volume while programs use it: made, mounted, unmounted, checked.

use super::Place;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the process that serves a volume may take to close it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A volume that is mounted until this is dropped.
#[derive(Debug)]
pub struct Volume<'p> {
    place: &'p Place,
    image: PathBuf,
    point: PathBuf,
    mounted: bool,
}

impl<'p> Volume<'p> {
    /// Makes a volume and mounts it.
    pub fn new(place: &'p Place, name: &str, size: &str) -> Result<Self> {
        let image = place.path().join(format!("{name}.image"));
        let point = place.path().join(name);
        std::fs::create_dir_all(&point)?;
        let mut make = place.toolbox.command("mkfs.paxfs");
        succeed(make.args(["-q", "-f"]).arg(&image).arg(size))?;
        let mut volume = Volume { place, image, point, mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Mounts it.
    pub fn mount(&mut self) -> Result<()> {
        let mut mount = self.place.toolbox.command("mount.paxfs");
        succeed(mount.arg(&self.image).arg(&self.point))?;
        self.mounted = true;
        Ok(())
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// The volume.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Runs a shell script in it. The last line that it prints is returned.
    pub fn script(&self, script: &str) -> Result<String> {
        let output = self.shell(script).output().context("sh")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{}\n{}\n{}",
            output.status,
            tail(&text),
            tail(&String::from_utf8_lossy(&output.stderr))
        );
        Ok(text.lines().next_back().unwrap_or_default().to_owned())
    }

    /// A shell with a script in it: `$M` is the mount, `$W` a place of its own outside, `$S` the sources.
    pub fn shell(&self, script: &str) -> Command {
        let amounts = &self.place.amounts;
        let outside = self.image.with_extension("outside");
        // The script says it when it is not there.
        let _ = std::fs::create_dir_all(&outside);
        let mut path = self.place.crates.join("bin").into_os_string();
        path.push(":");
        path.push(self.place.toolbox.search_path());
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(&self.point).stdin(Stdio::null());
        command.env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("M", &self.point).env("W", outside).env("S", &self.place.workspace.root);
        command.env("SECONDS_EACH", amounts.seconds.to_string());
        command.env("OPERATIONS", amounts.operations.to_string());
        command
    }

    /// Unmounts it, and waits until the process that served it has let go of it.
    pub fn unmount(&mut self) -> Result<()> {
        succeed(Command::new("umount").arg(&self.point))?;
        self.mounted = false;
        self.wait()
    }

    /// Waits until nobody has the lock of the image.
    pub fn wait(&self) -> Result<()> {
        use rustix::fs::{FlockOperation, flock};
        let image = File::open(&self.image)?;
        let started = Instant::now();
        while flock(image.as_fd(), FlockOperation::NonBlockingLockShared).is_err() {
            ensure!(started.elapsed() < PATIENCE, "{}: still in use", self.image.display());
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Checks it: nothing is wrong, and the volume is clean.
    pub fn check(&self) -> Result<()> {
        let output = self.fsck(&["-n", "-f"])?;
        ensure!(output.status.code() == Some(0), "fsck.paxfs -n: {}\n{}", output.status, said(&output));
        Ok(())
    }

    /// Runs the checker.
    pub fn fsck(&self, options: &[&str]) -> Result<Output> {
        let mut fsck = self.place.toolbox.command("fsck.paxfs");
        fsck.args(options).arg(&self.image).stdin(Stdio::null()).output().context("fsck.paxfs")
    }

    /// Unmounts it, checks it, and removes it.
    pub fn end(mut self) -> Result<()> {
        self.unmount()?;
        self.check()
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        if self.mounted {
            // Something failed before, and that is what is reported.
            let _ = Command::new("umount").arg("-l").arg(&self.point).stderr(Stdio::null()).status();
            let _ = self.wait();
        }
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir_all(self.image.with_extension("outside"));
    }
}

/// Runs a command that has to succeed.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// All that a command printed.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| tail(&String::from_utf8_lossy(bytes))).join("\n")
}

/// The end of a text, which says most of what went wrong.
fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}
