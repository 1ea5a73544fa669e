//! What a device is, and how long: the difference between a file, a block device and devdax, in one place.
//!
//! Nothing here reads a device: a devdax device has neither `read` nor a size in `stat`, so it is asked through
//! sysfs.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::DeviceError;

/// The alignment of a devdax device that does not tell: the size of a PMD, which is the kernel's default.
const DEVDAX_ALIGN_DEFAULT: u64 = 2 << 20;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// A devdax character device: mapped in its own large units, never read or written.
    Devdax,
    /// Plain memory of this process, for tests and fuzzers.
    Memory,
}

impl DeviceKind {
    /// The kind of what `path` names.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NotADevice`] for anything that is neither file, block device nor devdax.
    pub(super) fn of(path: &Path, metadata: &Metadata) -> Result<Self, DeviceError> {
        let kind = metadata.file_type();
        let found = if kind.is_file() {
            return Ok(Self::File);
        } else if kind.is_block_device() {
            return Ok(Self::Block);
        } else if kind.is_char_device() {
            if is_devdax(&sysfs_of(metadata)) {
                return Ok(Self::Devdax);
            }
            "character device other than devdax"
        } else if kind.is_dir() {
            "directory"
        } else if kind.is_fifo() {
            "FIFO"
        } else if kind.is_socket() {
            "socket"
        } else {
            "file of a kind that holds no data"
        };
        Err(DeviceError::NotADevice { path: path.to_path_buf(), found })
    }
}

/// The size of a device and of the pieces it can be mapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Usable length in bytes.
    pub bytes: u64,
    /// The smallest piece of a mapping that can be replaced, in bytes: a power of two, at least a page.
    pub unit: usize,
}

impl Extent {
    /// The extent of the device `file`, which is of kind `kind`.
    ///
    /// # Errors
    ///
    /// Any [`DeviceError`] of the questions asked to the kernel; [`DeviceError::TooSmall`] for a devdax device that
    /// does not hold one unit.
    pub(super) fn measure(path: &Path, kind: DeviceKind, mut file: &File) -> Result<Self, DeviceError> {
        let page = rustix::param::page_size();
        let metadata = file.metadata().map_err(|error| DeviceError::from_io("stat it", path, error))?;
        let bytes = match kind {
            DeviceKind::File | DeviceKind::Memory => metadata.len(),
            DeviceKind::Block => file
                .seek(SeekFrom::End(0))
                .map_err(|error| DeviceError::from_io("find its end", path, error))?,
            DeviceKind::Devdax => return Self::of_devdax(path, &sysfs_of(&metadata), page),
        };
        Ok(Self { bytes, unit: page })
    }

    /// The extent of the devdax device `path` that sysfs describes in the directory `sysfs`.
    fn of_devdax(path: &Path, sysfs: &Path, page: usize) -> Result<Self, DeviceError> {
        let size = sysfs.join("size");
        let bytes = number(&size).map_err(|error| DeviceError::from_io("read its size in", &size, error))?;
        // The attribute has moved between kernels; without it the default holds.
        let align = ["align", "device/align"].iter().find_map(|name| number(&sysfs.join(name)).ok());
        let align = align.filter(|align| align.is_power_of_two()).unwrap_or(DEVDAX_ALIGN_DEFAULT);
        let whole = bytes - bytes % align;
        if whole == 0 {
            return Err(DeviceError::TooSmall { path: path.to_path_buf(), bytes, least: align });
        }
        Ok(Self { bytes: whole, unit: usize::try_from(align).unwrap_or(page).max(page) })
    }
}

/// Where sysfs describes a character device.
fn sysfs_of(metadata: &Metadata) -> PathBuf {
    let device = metadata.rdev();
    format!("/sys/dev/char/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)).into()
}

/// Whether the character device described in `sysfs` belongs to the kernel's dax subsystem.
fn is_devdax(sysfs: &Path) -> bool {
    fs::read_link(sysfs.join("subsystem")).is_ok_and(|subsystem| subsystem.ends_with("dax"))
}

/// The decimal number an attribute of sysfs holds.
fn number(attribute: &Path) -> io::Result<u64> {
    fs::read_to_string(attribute)?.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A devdax device as sysfs would describe it.
    fn sysfs(attributes: &[(&str, &str)]) -> tempfile::TempDir {
        let sysfs = tempfile::tempdir().unwrap();
        fs::create_dir(sysfs.path().join("device")).unwrap();
        std::os::unix::fs::symlink("../../../../../bus/dax", sysfs.path().join("subsystem")).unwrap();
        for (name, value) in attributes {
            fs::write(sysfs.path().join(name), value).unwrap();
        }
        sysfs
    }

    fn extent(attributes: &[(&str, &str)]) -> Result<Extent, DeviceError> {
        Extent::of_devdax(Path::new("/dev/dax0.0"), sysfs(attributes).path(), 4096)
    }

    #[test]
    fn devdax_is_found_by_its_subsystem() {
        assert!(is_devdax(sysfs(&[]).path()));
        assert!(!is_devdax(Path::new("/sys/dev/char/1:3")));
    }

    #[test]
    fn devdax_is_sized_in_whole_units() {
        let two_mib = 2 << 20;
        assert_eq!(extent(&[("size", "4194304\n")]).unwrap(), Extent { bytes: 4 << 20, unit: two_mib });
        assert_eq!(extent(&[("size", "4198400\n")]).unwrap(), Extent { bytes: 4 << 20, unit: two_mib });
        let small = [("size", "12288\n"), ("device/align", "4096\n")];
        assert_eq!(extent(&small).unwrap(), Extent { bytes: 12288, unit: 4096 });
        let huge = [("size", "2147483648\n"), ("align", "1073741824\n")];
        assert_eq!(extent(&huge).unwrap(), Extent { bytes: 2 << 30, unit: 1 << 30 });
    }

    #[test]
    fn devdax_without_a_unit_or_a_size_is_refused() {
        assert!(matches!(extent(&[("size", "4096\n")]), Err(DeviceError::TooSmall { least: 2097152, .. })));
        assert!(matches!(extent(&[("size", "many\n")]), Err(DeviceError::Io { .. })));
        assert!(matches!(extent(&[]), Err(DeviceError::NotFound { .. })));
    }
}
