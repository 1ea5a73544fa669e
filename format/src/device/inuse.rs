//! Who else uses a device: a mount, swap, a loop device, another block device on top of it, a locked handle.
//!
//! All of it is read from `/proc` and `/sys`; nothing is opened, so that asking never disturbs. Where they are not
//! mounted (a minimal chroot) nothing is found, and the lock and `O_EXCL` of an exclusive open remain the guard.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::DeviceError;
use super::lock::Holder;

/// A use of a device that speaks against changing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// It is mounted.
    Mounted {
        /// The mount point.
        at: PathBuf,
    },
    /// It is active swap space.
    Swap,
    /// It backs a loop device.
    Loop {
        /// The loop device.
        device: PathBuf,
        /// Where that is mounted, if it is.
        mounted_at: Option<PathBuf>,
    },
    /// Another block device (device mapper, RAID) is built on it.
    Held {
        /// That block device.
        by: PathBuf,
    },
    /// Another process has it open for itself.
    Locked {
        /// That process.
        holder: Holder,
    },
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { at } => write!(f, "mounted at {}", at.display()),
            Self::Swap => write!(f, "active swap space"),
            Self::Loop { device, mounted_at: None } => write!(f, "attached to {}", device.display()),
            Self::Loop { device, mounted_at: Some(at) } => {
                write!(f, "attached to {}, which is mounted at {}", device.display(), at.display())
            }
            Self::Held { by } => write!(f, "part of {}", by.display()),
            Self::Locked { holder } => write!(f, "locked by {holder}"),
        }
    }
}

impl InUse {
    /// The first use found of the device `path` by anyone but this process, the most telling first.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, DeviceError> {
        let metadata = fs::metadata(path).map_err(|error| DeviceError::from_io("stat it", path, error))?;
        let device = Identity::of(&metadata);
        let mounts = Mount::all()?;
        if let Some(mount) = mounts.iter().find(|mount| mount.holds(device)) {
            return Ok(Some(Self::Mounted { at: mount.at.clone() }));
        }
        if swaps()?.iter().any(|swap| Identity::of_path(swap) == Some(device)) {
            return Ok(Some(Self::Swap));
        }
        if let Some((device, number)) = loop_over(device) {
            let mount = mounts.iter().find(|mount| mount.device == number);
            return Ok(Some(Self::Loop { device, mounted_at: mount.map(|mount| mount.at.clone()) }));
        }
        if let Some(by) = device.holder() {
            return Ok(Some(Self::Held { by }));
        }
        let other = Holder::of(&metadata).filter(|holder| holder.pid != std::process::id());
        Ok(other.map(|holder| Self::Locked { holder }))
    }
}

/// What makes two names the same device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// A block device, by its number.
    Block(u64),
    /// Anything else, by the file system and inode of its name.
    Inode(u64, u64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        if metadata.file_type().is_block_device() {
            Self::Block(metadata.rdev())
        } else {
            Self::Inode(metadata.dev(), metadata.ino())
        }
    }

    fn of_path(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// The block device built on this one, if any.
    fn holder(self) -> Option<PathBuf> {
        let Self::Block(number) = self else { return None };
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let mut holders = fs::read_dir(format!("/sys/dev/block/{major}:{minor}/holders")).ok()?;
        Some(Path::new("/dev").join(holders.next()?.ok()?.file_name()))
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The device number of the mounted file system.
    device: u64,
    /// The mount point.
    at: PathBuf,
    /// What was mounted: a path for those on a device, any word for others.
    source: PathBuf,
}

impl Mount {
    fn all() -> Result<Vec<Self>, DeviceError> {
        Ok(lines("/proc/self/mountinfo")?.iter().filter_map(|line| Self::parse(line)).collect())
    }

    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: the fields before the dash vary in number.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = device_number(fields.nth(2)?)?;
        let at = unescape(fields.nth(1)?);
        let source = unescape(fields.skip_while(|field| *field != b"-").nth(2)?);
        Some(Self { device, at, source })
    }

    /// Whether this is a mount of `device`: by number, or by source for file systems that have a number of their
    /// own (FUSE, btrfs).
    fn holds(&self, device: Identity) -> bool {
        device == Identity::Block(self.device)
            || (self.source.is_absolute() && Identity::of_path(&self.source) == Some(device))
    }
}

/// The files and devices swapped to: the first word of each line of `/proc/swaps` but its first.
fn swaps() -> Result<Vec<PathBuf>, DeviceError> {
    let lines = lines("/proc/swaps")?;
    Ok(lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split(u8::is_ascii_whitespace).next())
        .map(unescape)
        .collect())
}

/// The loop device that `device` backs, and its number.
fn loop_over(device: Identity) -> Option<(PathBuf, u64)> {
    let blocks = fs::read_dir("/sys/block").ok()?;
    blocks.filter_map(Result::ok).find_map(|block| {
        // Only a loop device that is attached has this attribute.
        let mut backing = fs::read(block.path().join("loop/backing_file")).ok()?;
        backing.pop_if(|last| *last == b'\n');
        if Identity::of_path(Path::new(&OsString::from_vec(backing))) != Some(device) {
            return None;
        }
        let number = device_number(fs::read(block.path().join("dev")).ok()?.trim_ascii())?;
        Some((Path::new("/dev").join(block.file_name()), number))
    })
}

/// The lines of a file of procfs, as bytes; none where there is no such file.
fn lines(path: &str) -> Result<Vec<Vec<u8>>, DeviceError> {
    match fs::read(path) {
        Ok(text) => Ok(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(DeviceError::from_io("read it", Path::new(path), error)),
    }
}

/// `major:minor` in decimal.
fn device_number(text: &[u8]) -> Option<u64> {
    let (major, minor) = str::from_utf8(text).ok()?.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// A name as procfs writes it: white space and backslashes as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| *byte == b'\\');
        let decoded = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        name.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    std::ffi::OsStr::from_bytes(&name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_with_any_number_of_optional_fields() {
        let mount = |device, at: &str, source: &str| {
            Some(Mount { device, at: PathBuf::from(at), source: PathBuf::from(source) })
        };
        let line =
            b"36 35 98:7 / /mnt\\040two rw,noatime master:1 shared:2 - ext4 /dev/a\\134b rw,errors=continue";
        assert_eq!(Mount::parse(line), mount(rustix::fs::makedev(98, 7), "/mnt two", "/dev/a\\b"));
        assert_eq!(
            Mount::parse(b"22 1 0:21 / /proc rw - proc proc rw"),
            mount(rustix::fs::makedev(0, 21), "/proc", "proc")
        );
        assert_eq!(Mount::parse(b"22 1 0:21 / /proc rw"), None);
        assert_eq!(Mount::parse(b""), None);
    }

    #[test]
    fn a_broken_escape_stands_for_itself() {
        assert_eq!(unescape(b"a\\04"), PathBuf::from("a\\04"));
        assert_eq!(unescape(b"a\\999b"), PathBuf::from("a\\999b"));
        assert_eq!(unescape(b"\\011"), PathBuf::from("\t"));
    }

    #[test]
    fn what_carries_this_root_is_mounted() {
        let mounts = Mount::all().unwrap();
        let root = mounts.iter().find(|mount| mount.at == Path::new("/")).unwrap();
        assert!(root.holds(Identity::Block(root.device)));
    }
}
