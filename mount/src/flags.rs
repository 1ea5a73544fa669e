//! Flags of inodes as `lsattr`, `chattr` and `xfs_io` know them: immutable, append only, DAX.

use crate::fault::{Answer, Fault};
use crate::volume::Volume;
use fuser::Errno;
use paxfs_format::inode::InodeFlags;
use paxfs_runtime::file::Set;

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`, with 32 bits.
const GET: u32 = 0x8008_6601;
const SET: u32 = 0x4008_6602;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`, with a `struct fsxattr` of seven words, the first of them the flags. The
/// kernel asks for it before it sets any.
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;

/// Bytes of a `struct fsxattr`.
const EXTENDED_SIZE: usize = 28;

/// Each flag, and the kernel's in both languages: `FS_IMMUTABLE_FL`, `FS_XFLAG_IMMUTABLE` and so on.
const FLAGS: [(u32, u32, u32); 3] = [
    (InodeFlags::IMMUTABLE, 0x10, 0x8),
    (InodeFlags::APPEND, 0x20, 0x10),
    (InodeFlags::DAX, 0x0200_0000, 0x8000),
];

/// Flags in one of the kernel's languages: of each of [`FLAGS`], ours and theirs.
struct Language(fn((u32, u32, u32)) -> u32);

const SHORT: Language = Language(|(_, short, _)| short);
const EXTENDED: Language = Language(|(_, _, extended)| extended);

impl Language {
    fn to_kernel(&self, flags: u32) -> u32 {
        FLAGS.iter().filter(|flag| flags & flag.0 != 0).fold(0, |all, flag| all | self.0(*flag))
    }

    /// Flags with those that the kernel speaks of changed; `None` when it speaks of others.
    fn changed(&self, before: u32, asked: u32) -> Option<u32> {
        let known = FLAGS.iter().fold(0, |all, flag| all | self.0(*flag));
        let changed = FLAGS.iter().fold(before, |flags, flag| {
            if asked & self.0(*flag) != 0 { flags | flag.0 } else { flags & !flag.0 }
        });
        (asked & !known == 0).then_some(changed)
    }
}

impl Volume {
    /// Answers `ioctl`.
    pub(crate) fn control(&self, inode: u64, command: u32, argument: &[u8]) -> Answer<Vec<u8>> {
        let before = self.engine.attributes(inode)?.flags;
        let (language, size) = match command {
            GET | SET => (SHORT, 4),
            GET_EXTENDED | SET_EXTENDED => (EXTENDED, EXTENDED_SIZE),
            _ => return Err(Fault(Errno::ENOTTY)),
        };
        if matches!(command, GET | GET_EXTENDED) {
            let mut bytes = language.to_kernel(before).to_ne_bytes().to_vec();
            bytes.resize(size, 0);
            return Ok(bytes);
        }
        let asked = argument.first_chunk().ok_or(Fault(Errno::EINVAL))?;
        let flags = language.changed(before, u32::from_ne_bytes(*asked));
        let flags = flags.ok_or(Fault(Errno::EOPNOTSUPP))?;
        self.engine.set_attributes(inode, &Set { flags: Some(flags), ..Set::default() })?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_flags_stay() {
        let before = InodeFlags::NOCSUM | InodeFlags::APPEND;
        assert_eq!((SHORT.to_kernel(before), EXTENDED.to_kernel(before)), (0x20, 0x10));
        assert_eq!(SHORT.changed(before, 0x10), Some(InodeFlags::NOCSUM | InodeFlags::IMMUTABLE));
        assert_eq!(EXTENDED.changed(before, 0x10), Some(before));
        assert_eq!(SHORT.changed(before, 0x40), None);
    }
}
