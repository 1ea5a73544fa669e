//! Flags of inodes as `lsattr` and `chattr` know them: immutable, append only, DAX.

use crate::fault::{Answer, Fault};
use crate::volume::Volume;
use fuser::Errno;
use paxfs_format::inode::InodeFlags;
use paxfs_runtime::file::Set;

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`.
const GET: u32 = 0x8008_6601;
const SET: u32 = 0x4008_6602;

/// Each flag, and the kernel's (`FS_IMMUTABLE_FL`, `FS_APPEND_FL`, `FS_DAX_FL`).
const FLAGS: [(u32, u32); 3] =
    [(InodeFlags::IMMUTABLE, 0x10), (InodeFlags::APPEND, 0x20), (InodeFlags::DAX, 0x0200_0000)];

fn to_kernel(flags: u32) -> u32 {
    FLAGS.iter().filter(|(ours, _)| flags & ours != 0).fold(0, |all, (_, theirs)| all | theirs)
}

/// Flags with those that the kernel speaks of changed; `None` when it speaks of others.
fn from_kernel(before: u32, asked: u32) -> Option<u32> {
    let known = FLAGS.iter().fold(0, |all, (_, theirs)| all | theirs);
    let changed = FLAGS.iter().fold(
        before,
        |flags, (ours, theirs)| {
            if asked & theirs != 0 { flags | ours } else { flags & !ours }
        },
    );
    (asked & !known == 0).then_some(changed)
}

impl Volume {
    /// Answers `ioctl`.
    pub(crate) fn control(&self, inode: u64, command: u32, argument: &[u8]) -> Answer<Vec<u8>> {
        let before = self.engine.attributes(inode)?.flags;
        match command {
            GET => Ok(to_kernel(before).to_ne_bytes().to_vec()),
            SET => {
                let asked = argument.first_chunk().ok_or(Fault(Errno::EINVAL))?;
                let flags = from_kernel(before, u32::from_ne_bytes(*asked));
                let flags = flags.ok_or(Fault(Errno::EOPNOTSUPP))?;
                self.engine.set_attributes(inode, &Set { flags: Some(flags), ..Set::default() })?;
                Ok(Vec::new())
            }
            _ => Err(Fault(Errno::ENOTTY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_flags_stay() {
        let before = InodeFlags::NOCSUM | InodeFlags::APPEND;
        assert_eq!(to_kernel(before), 0x20);
        assert_eq!(from_kernel(before, 0x10), Some(InodeFlags::NOCSUM | InodeFlags::IMMUTABLE));
        assert_eq!(from_kernel(before, 0x40), None);
    }
}
