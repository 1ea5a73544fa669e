//! The lock that keeps two programs from changing one device: `flock`, exclusive, never waited for by more than a
//! moment, gone with the file handle.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::DeviceError;
use super::kind::DeviceKind;

/// How long a block device may be locked by others before that is an answer.
///
/// udev takes a shared lock on a disk while it probes it, which it does whenever someone closes the disk after
/// writing: without this wait `mkfs.paxfs DEV && fsck.paxfs DEV` would fail now and then.
const PROBING: Duration = Duration::from_millis(1000);

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process number.
    pub pid: u32,
    /// Its name, where the kernel tells.
    pub name: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

impl Holder {
    /// Who holds the exclusive lock on the file that `metadata` describes.
    ///
    /// None also when the kernel does not tell: from within another PID namespace, or on btrfs, whose `st_dev` is
    /// not the device number of its locks. So this explains a conflict; it does not decide one.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().find_map(|line| exclusive_holder(line, metadata.dev(), metadata.ino()))?;
        let name =
            fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned());
        Some(Self { pid, name })
    }
}

/// Locks `file` for this handle alone.
///
/// # Errors
///
/// [`DeviceError::Locked`] when another handle, of whatever process, has it.
pub(super) fn lock(path: &Path, kind: DeviceKind, file: &File) -> Result<(), DeviceError> {
    let patience = if kind == DeviceKind::Block { PROBING } else { Duration::ZERO };
    let begin = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begin.elapsed() < patience => sleep(Duration::from_millis(10)),
            Err(Errno::WOULDBLOCK) => {
                let holder = file.metadata().ok().and_then(|metadata| Holder::of(&metadata));
                return Err(DeviceError::Locked { path: path.to_path_buf(), holder });
            }
            Err(error) => return Err(DeviceError::from_io("lock it", path, error.into())),
        }
    }
}

/// Gives the lock on `file` back, if there is one.
///
/// Closing the file is not enough: a process that another thread is about to start has a copy of the handle until
/// it calls `exec`.
pub(super) fn unlock(file: &File) {
    // There is nothing it could fail with on an open file.
    let _ = flock(file, FlockOperation::Unlock);
}

/// The process in a line of `/proc/locks`, if the line is an exclusive `flock` of that inode:
/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`, device numbers in hex.
fn exclusive_holder(line: &str, device: u64, inode: u64) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    // A waiter has an arrow in front of its fields, and so does not match.
    if (fields.next()?, fields.next()?, fields.next()?) != ("FLOCK", "ADVISORY", "WRITE") {
        return None;
    }
    let pid = fields.next()?.parse().ok()?;
    let place = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    (fields.next()? == place && pid != 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exclusive_flock_of_that_inode_counts() {
        let device = rustix::fs::makedev(0xfe, 0x01);
        let holder = |line| exclusive_holder(line, device, 5678);
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF"), Some(1234));
        assert_eq!(holder("1: FLOCK  ADVISORY  READ 1234 fe:01:5678 0 EOF"), None);
        assert_eq!(holder("1: POSIX  ADVISORY  WRITE 1234 fe:01:5678 0 EOF"), None);
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 1234 fe:01:5679 0 EOF"), None);
        assert_eq!(holder("1: FLOCK  ADVISORY  WRITE 0 fe:01:5678 0 EOF"), None);
        assert_eq!(holder("1: -> FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF"), None);
        assert_eq!(holder(""), None);
    }
}
