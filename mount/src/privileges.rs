//! What a file loses when somebody changes it: set-user-ID, set-group-ID, and the capabilities that go with its contents.
//!
//! The kernel leaves that to who serves the file system (`FUSE_HANDLE_KILLPRIV_V2`), and in turn does not ask for the
//! capabilities before each write.

use crate::fault::Answer;
use crate::volume::Volume;
use fuser::INodeNo;
use paxfs_format::inode::FileType;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::Set;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The attribute with the capabilities of a program.
const CAPABILITIES: &[u8] = b"security.capability";

/// What is left of permissions. Without permission for the group to execute, set-group-ID is not a privilege.
fn without(permissions: u32) -> u32 {
    let left = permissions & !SET_USER_ID;
    if left & GROUP_EXECUTE == 0 { left } else { left & !SET_GROUP_ID }
}

impl Volume {
    /// Takes a file its capabilities away, and set-user-ID and set-group-ID when `modes`.
    pub(crate) fn drop_privileges(&self, inode: u64, modes: bool) -> Answer<()> {
        match self.engine.get_attribute(inode, CAPABILITIES) {
            Err(Error::NoAttribute) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => self.engine.remove_attribute(inode, CAPABILITIES)?,
        }
        if !modes {
            return Ok(());
        }
        let found = self.engine.attributes(inode)?;
        let left = without(found.permissions);
        if found.kind == FileType::Directory || left == found.permissions {
            return Ok(());
        }
        self.engine.set_attributes(inode, &Set { permissions: Some(left), ..Set::default() })?;
        self.tell_changed(inode);
        Ok(())
    }

    /// Tells the kernel that attributes of an inode are others than it believes.
    pub(crate) fn tell_changed(&self, inode: u64) {
        /// Attributes alone, no contents.
        const NO_CONTENTS: i64 = -1;
        if let Some(notifier) = self.notifier.get() {
            // That it knows the inode no longer is as good.
            let _ = notifier.inval_inode(INodeNo(inode), NO_CONTENTS, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_group_id_without_execute_stays() {
        assert_eq!(without(0o6755), 0o755);
        assert_eq!(without(0o6745), 0o2745);
        assert_eq!(without(0o1777), 0o1777);
    }
}
