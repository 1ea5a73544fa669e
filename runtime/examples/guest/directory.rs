//! The kernel's XFS on persistent memory, by system calls.
#![allow(unsafe_code)]

use crate::report::say;
use crate::target::{Result, Target};
use crate::tools::{run, show};
use rustix::fs::{AtFlags, FallocateFlags, StatxFlags, fallocate, ioctl_ficlone, statvfs, statx, syncfs};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::fs::{File, OpenOptions, create_dir_all, read, remove_file};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `STATX_ATTR_DAX`: the file is mapped directly.
const DAX: u64 = 0x0020_0000;

/// A mounted XFS.
pub struct Directory {
    device: PathBuf,
    point: PathBuf,
    options: &'static CStr,
}

impl Directory {
    /// The XFS on a device, which is mounted with direct access.
    pub fn mounted(device: &Path) -> Self {
        Directory { device: device.to_owned(), point: PathBuf::from("/mnt"), options: c"dax=always" }
    }

    /// Makes an XFS on a device, and mounts it with direct access.
    pub fn make(device: &Path) -> Result<Self> {
        let mut directory = Self::mounted(device);
        create_dir_all(&directory.point)?;
        directory.format("reflink=1,rmapbt=1")?;
        if let Err(error) = directory.mount() {
            say(&format!(
                "XFS cannot be mounted with dax=always and reflink ({error}): it does without reflink"
            ));
            directory.format("reflink=0,rmapbt=1")?;
            directory.mount()?;
        }
        directory.write("probe", 0, b"probe")?;
        let probe = File::open(directory.point.join("probe"))?;
        let status = statx(&probe, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let direct = if status.stx_attributes.bits() & DAX != 0 { "are" } else { "ARE NOT" };
        say(&format!("{} is XFS with dax=always; its files {direct} mapped directly", device.display()));
        Ok(directory)
    }

    /// Mounts it with other options.
    pub fn mount_with(&mut self, options: &'static CStr) -> Result<()> {
        self.options = options;
        self.remount()
    }

    /// Makes it anew, when it is not mounted, and mounts it with direct access.
    pub fn renew(&mut self) -> Result<()> {
        self.options = c"dax=always";
        run(&format!("mkfs.xfs -q -f -m reflink=1,rmapbt=1 {}", self.device.display()), 0)?;
        self.mount()
    }

    /// What it lies on.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Where a file is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.point.join(file)
    }

    /// Unmounts it.
    pub fn unmount(&self) -> Result<()> {
        Ok(unmount(&self.point, UnmountFlags::empty())?)
    }

    fn format(&self, features: &str) -> Result<()> {
        show(&format!("mkfs.xfs -q -f -m {features} {}", self.device.display()), 0)
    }

    /// Mounts it.
    pub fn mount(&self) -> Result<()> {
        Ok(mount(&self.device, &self.point, "xfs", MountFlags::empty(), self.options)?)
    }

    fn open(&self, file: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        Ok(options.read(true).write(true).create(true).truncate(false).open(self.path(file))?)
    }
}

impl Target for Directory {
    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.open(file)?.write_all_at(bytes, offset)?)
    }

    fn store(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.open(file)?;
        let length = usize::try_from(file.metadata()?.len())?;
        let end = offset.checked_add(bytes.len() as u64).ok_or("the range overflows")?;
        if end > length as u64 {
            return Err("past the end of the file".into());
        }
        // SAFETY: a new mapping, where the kernel likes.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        // SAFETY: the range lies within the mapping, which is this function's own and ends here.
        let synced = unsafe {
            let at = base.cast::<u8>().add(usize::try_from(offset)?);
            at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            let synced = msync(base, length, MsyncFlags::SYNC);
            munmap(base, length)?;
            synced
        };
        Ok(synced?)
    }

    fn remove(&mut self, file: &str) -> Result<()> {
        Ok(remove_file(self.path(file))?)
    }

    fn read(&mut self, file: &str) -> Result<Vec<u8>> {
        Ok(read(self.path(file))?)
    }

    fn truncate(&mut self, file: &str, size: u64) -> Result<()> {
        Ok(self.open(file)?.set_len(size)?)
    }

    fn allocate(&mut self, file: &str, range: Range<u64>) -> Result<()> {
        let length = range.end - range.start;
        Ok(fallocate(self.open(file)?, FallocateFlags::empty(), range.start, length)?)
    }

    fn punch(&mut self, file: &str, range: Range<u64>) -> Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(self.open(file)?, how, range.start, range.end - range.start)?)
    }

    fn clone(&mut self, from: &str, to: &str) -> Result<()> {
        Ok(ioctl_ficlone(self.open(to)?, self.open(from)?)?)
    }

    fn dedupe(&mut self, from: &str, to: &str) -> Result<bool> {
        let (from, to) = (self.open(from)?, self.open(to)?);
        DedupeRange::new(from.metadata()?.len(), &to).ask(&from)
    }

    fn free(&mut self) -> Result<u64> {
        syncfs(File::open(&self.point)?)?;
        let status = statvfs(&self.point)?;
        Ok(status.f_bfree * status.f_frsize)
    }

    fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }
}

/// `struct file_dedupe_range` with one destination.
#[repr(C)]
struct DedupeRange {
    source_offset: u64,
    length: u64,
    count: u16,
    reserved: [u16; 3],
    destination: i64,
    offset: u64,
    deduped: u64,
    status: i32,
    reserved_too: u32,
}

impl DedupeRange {
    /// `FIDEDUPERANGE`, whose size is that of what comes before the destinations.
    const OPCODE: Opcode = 0xc018_9436;
    const SAME: i32 = 0;
    const DIFFERS: i32 = 1;

    /// So many bytes from the start of both.
    fn new(length: u64, to: &File) -> Self {
        DedupeRange {
            source_offset: 0,
            length,
            count: 1,
            reserved: [0; 3],
            destination: to.as_raw_fd().into(),
            offset: 0,
            deduped: 0,
            status: 0,
            reserved_too: 0,
        }
    }

    /// Whether they are the same.
    fn ask(mut self, from: impl AsFd) -> Result<bool> {
        // SAFETY: this is the structure that FIDEDUPERANGE reads and writes, with as many destinations as it says.
        unsafe { ioctl(from, Updater::<{ Self::OPCODE }, _>::new(&mut self))? };
        match self.status {
            Self::SAME => Ok(true),
            Self::DIFFERS => Ok(false),
            error => Err(Errno::from_raw_os_error(-error).into()),
        }
    }
}
