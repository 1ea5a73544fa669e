//! What is known of an inode, in the engine's words and in the kernel's; and setting it.

use crate::fault::Answer;
use crate::volume::Volume;
use core::time::Duration;
use fuser::{FileAttr, INodeNo, TimeOrNow};
use paxfs_format::inode;
use paxfs_format::time::Timestamp;
use paxfs_runtime::file::{Attributes, Open, Set};
use std::time::{SystemTime, UNIX_EPOCH};

/// Blocks in units of `stat`.
const SECTORS: u64 = 8;

/// As the kernel has them.
pub(crate) fn to_kernel(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size,
        blocks: attributes.blocks.saturating_mul(SECTORS),
        atime: time_to_kernel(attributes.accessed),
        mtime: time_to_kernel(attributes.modified),
        ctime: time_to_kernel(attributes.changed),
        crtime: time_to_kernel(attributes.born),
        kind: kind_to_kernel(attributes.kind),
        perm: u16::try_from(attributes.permissions).unwrap_or(0),
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: device_to_kernel(attributes.device),
        blksize: 4096,
        flags: 0,
    }
}

/// The type of a file.
pub(crate) fn kind_to_kernel(kind: inode::FileType) -> fuser::FileType {
    match kind {
        inode::FileType::Fifo => fuser::FileType::NamedPipe,
        inode::FileType::Character => fuser::FileType::CharDevice,
        inode::FileType::Directory => fuser::FileType::Directory,
        inode::FileType::Block => fuser::FileType::BlockDevice,
        inode::FileType::Regular => fuser::FileType::RegularFile,
        inode::FileType::Symlink => fuser::FileType::Symlink,
        inode::FileType::Socket => fuser::FileType::Socket,
    }
}

/// The numbers of a device as the kernel encodes them: 12 bits of the major one amid 20 of the minor one.
fn device_to_kernel((major, minor): (u32, u32)) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// The numbers of a device.
pub(crate) fn device_from_kernel(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

fn time_to_kernel(time: Timestamp) -> SystemTime {
    let (seconds, nanoseconds) = (time.seconds.get(), time.nanoseconds.get().min(999_999_999));
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let time = second.and_then(|second| second.checked_add(Duration::from_nanos(nanoseconds.into())));
    time.unwrap_or(UNIX_EPOCH)
}

/// A time as `fuser` hands it over.
///
/// Before 1970 it takes the nanoseconds off, which the kernel counts from the second on: so here they are what is missing
/// to a second as it came, not what `SystemTime` says.
fn time_from_kernel(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Timestamp::new(seconds, before.subsec_nanos())
        }
    }
}

fn now() -> Timestamp {
    time_from_kernel(SystemTime::now())
}

/// What is to be set of an inode.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<TimeOrNow>,
    pub modified: Option<TimeOrNow>,
}

impl Volume {
    /// What is known of an inode.
    pub(crate) fn attributes(&self, inode: u64) -> Answer<FileAttr> {
        Ok(to_kernel(&self.engine.attributes(inode)?))
    }

    /// Sets attributes of an inode for a user.
    pub(crate) fn set(&self, inode: u64, change: &Change, user: u32) -> Answer<FileAttr> {
        if let Some(size) = change.size {
            // The kernel says for a file that somebody has open whether he may; then this is one more handle of it.
            self.engine.open_file(inode, Open::WRITE)?.truncate(size)?;
            self.drop_privileges(inode, user != 0)?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            self.drop_privileges(inode, true)?;
        }
        let time = |time: &TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => time_from_kernel(*time),
            TimeOrNow::Now => now(),
        };
        let set = Set {
            permissions: change.permissions.map(|permissions| permissions & 0o7777),
            uid: change.uid,
            gid: change.gid,
            accessed: change.accessed.as_ref().map(time),
            modified: change.modified.as_ref().map(time),
            flags: None,
        };
        // With nothing to set it is the time of the change that is asked for.
        if set != Set::default() || change.size.is_none() {
            self.engine.set_attributes(inode, &set)?;
        }
        if let Some(permissions) = set.permissions {
            self.follow_permissions(inode, permissions)?;
        }
        self.attributes(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices_are_the_kernels() {
        let cases =
            [((0, 0), 0), ((8, 1), 0x801), ((259, 300), 0x0011_032c), ((4095, 0xf_ffff), 0xffff_ffff)];
        for (numbers, encoded) in cases {
            assert_eq!(device_to_kernel(numbers), encoded);
            assert_eq!(device_from_kernel(encoded), numbers);
        }
    }

    #[test]
    fn times_before_1970_come_as_they_are() {
        // What `fuser` makes of -2 s + 800 ms.
        let handed = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(time_from_kernel(handed), Timestamp::new(-2, 800_000_000));
        let after = UNIX_EPOCH + Duration::new(5, 7);
        assert_eq!(time_from_kernel(after), Timestamp::new(5, 7));
        assert_eq!(
            time_to_kernel(Timestamp::new(-2, 800_000_000)),
            UNIX_EPOCH - Duration::new(1, 200_000_000)
        );
        assert_eq!(time_to_kernel(Timestamp::new(5, 7)), after);
    }
}
