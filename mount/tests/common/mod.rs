#![allow(dead_code)] // Each test uses a part.
//! A volume that is mounted, by the program itself.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether file systems can be mounted here; says so if not.
pub fn can_mount() -> bool {
    let answer = paxfs_mount::fuse::check();
    if let Err(why) = &answer {
        println!("skipped: {why}");
    }
    answer.is_ok()
}

/// A place with an image and a mount point.
pub struct Place {
    directory: TempDir,
}

impl Place {
    /// With a volume of so many bytes, as `mkfs.paxfs` has them.
    pub fn new(size: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let place = Place { directory: directory.unwrap() };
        std::fs::create_dir(place.point()).unwrap();
        let image = place.image().into_os_string();
        let arguments = ["mkfs.paxfs", "-q"].map(Into::into).into_iter().chain([image, size.into()]);
        assert_eq!(
            format!("{:?}", paxfs_mkfs::run::main(arguments)),
            format!("{:?}", std::process::ExitCode::SUCCESS)
        );
        place
    }

    pub fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    pub fn point(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Mounts in the foreground of a process of its own.
    pub fn mount(&self, options: &str) -> Mount {
        let mut command = self.command(options);
        let child = command.arg("-F").stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut mount = Mount { point: self.point(), image: self.image(), child };
        let started = Instant::now();
        while !is_mounted(&mount.point) {
            if mount.child.try_wait().unwrap().is_some() {
                panic!("not mounted: {}", mount.said());
            }
            assert!(started.elapsed() < PATIENCE, "not mounted after a minute");
            sleep(Duration::from_millis(2));
        }
        mount
    }

    /// The program, as mount(8) calls it.
    pub fn command(&self, options: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mount-paxfs"));
        command.arg(self.image()).arg(self.point());
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        command
    }

    /// That it is refused, with which words.
    pub fn refused(&self, options: &str) -> String {
        let output = self.command(options).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(32), "{said}");
        assert!(!is_mounted(&self.point()));
        said.trim_end().to_owned()
    }

    /// A check that finds nothing.
    pub fn check(&self) {
        assert_eq!(self.fsck("-n", "-f"), 0);
    }

    /// The exit status of a check.
    pub fn fsck(&self, option: &str, other: &str) -> u8 {
        let image = self.image().into_os_string();
        let arguments = ["fsck.paxfs", option, other].map(Into::into).into_iter().chain([image]);
        paxfs_fsck::run::run(arguments).code()
    }
}

/// Whether something is mounted there.
pub fn is_mounted(point: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}

/// A volume that is mounted, until this is dropped.
pub struct Mount {
    pub point: PathBuf,
    image: PathBuf,
    child: Child,
}

impl Mount {
    pub fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// Unmounts it; the process has to end well.
    pub fn end(mut self) {
        succeed(Command::new("umount").arg(&self.point));
        self.ends_with(0);
    }

    /// Waits for the end of the process.
    pub fn ends_with(&mut self, code: i32) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.said());
        assert!(!is_mounted(&self.point));
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the process said, which has ended.
    pub fn said(&mut self) -> String {
        let mut said = String::new();
        if let Some(errors) = self.child.stderr.as_mut() {
            errors.read_to_string(&mut said).unwrap();
        }
        said
    }

    /// Waits until the process has let go of the image, killed or not.
    pub fn wait(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            let _ = Command::new("umount").arg("-l").arg(&self.point).status();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until nobody has the lock of an image.
pub fn wait_for(image: &Path) {
    let file = File::open(image).unwrap();
    let started = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(started.elapsed() < PATIENCE, "still locked after a minute");
        sleep(Duration::from_millis(2));
    }
}

/// Runs a command that has to succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
