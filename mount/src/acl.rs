//! POSIX access control lists: what they say of a file's permissions, what permissions say of them, and what a new file
//! gets of its directory's. Whether somebody may do something the kernel finds out from them.
//!
//! A list that says no more than permissions do is not kept: then the permissions are all there is.

use crate::fault::{Answer, Fault};
use crate::volume::Volume;
use fuser::Errno;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::Set;

/// The list that says who may use a file.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The list that files made in a directory begin with.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// Who, what, and which user or group: as the kernel has it in the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct List(Vec<Entry>);

impl List {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let entry = |&[a, b, c, d, e, f, g, h]: &[u8; 8]| Entry {
            tag: u16::from_le_bytes([a, b]),
            permissions: u16::from_le_bytes([c, d]),
            id: u32::from_le_bytes([e, f, g, h]),
        };
        Some(List(entries.iter().map(entry).collect()))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    fn has(&self, tag: u16) -> bool {
        self.0.iter().any(|entry| entry.tag == tag)
    }

    /// Whether permissions say as much.
    fn is_minimal(&self) -> bool {
        self.0.iter().all(|entry| [OWNER, GROUP, OTHERS].contains(&entry.tag))
    }

    /// The entry that stands for the group in permissions.
    fn class(&self) -> u16 {
        if self.has(MASK) { MASK } else { GROUP }
    }

    fn of(&self, tag: u16) -> u32 {
        self.0.iter().find(|entry| entry.tag == tag).map_or(0, |entry| u32::from(entry.permissions & 7))
    }

    /// The permissions that it comes to.
    fn permissions(&self) -> u32 {
        self.of(OWNER) << 6 | self.of(self.class()) << 3 | self.of(OTHERS)
    }

    /// Changes each of the three entries that permissions speak of.
    fn change(&mut self, permissions: u32, change: impl Fn(u16, u16) -> u16) {
        let class = self.class();
        for (tag, shift) in [(OWNER, 6), (class, 3), (OTHERS, 0)] {
            let bits = u16::try_from(permissions >> shift & 7).unwrap_or(0);
            for entry in self.0.iter_mut().filter(|entry| entry.tag == tag) {
                entry.permissions = change(entry.permissions, bits);
            }
        }
    }
}

/// What a new file begins with.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Its permissions, with those bits that no list speaks of.
    pub permissions: u32,
    /// Its lists, by the names of their attributes.
    pub lists: Vec<(&'static [u8], Vec<u8>)>,
}

impl Volume {
    fn acl(&self, inode: u64, name: &[u8]) -> Answer<Option<List>> {
        match self.engine.get_attribute(inode, name) {
            Ok(bytes) => Ok(List::parse(&bytes)),
            Err(Error::NoAttribute) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a file made in a directory begins with, when that much is asked for.
    pub(crate) fn inherit(
        &self,
        directory: u64,
        mode: u32,
        umask: u32,
        is_directory: bool,
    ) -> Answer<Inherited> {
        let Some(default) = self.acl(directory, DEFAULT)? else {
            return Ok(Inherited { permissions: mode & !umask & 0o7777, lists: Vec::new() });
        };
        let mut lists = Vec::new();
        let mut access = default.clone();
        access.change(mode, |there, asked| there & asked);
        if !access.is_minimal() {
            lists.push((ACCESS, access.bytes()));
        }
        if is_directory {
            lists.push((DEFAULT, default.bytes()));
        }
        Ok(Inherited { permissions: mode & 0o7000 | access.permissions(), lists })
    }

    /// Sets one of the two lists of a file for a user and a group of his.
    pub(crate) fn set_list(&self, inode: u64, name: &[u8], bytes: &[u8], user: (u32, u32)) -> Answer<()> {
        let list = List::parse(bytes).ok_or(Fault(Errno::EINVAL))?;
        if name != ACCESS {
            return Ok(self.engine.set_attribute(inode, name, bytes, SetAttribute::Any)?);
        }
        let found = self.engine.attributes(inode)?;
        let mut permissions = found.permissions & 0o7000 | list.permissions();
        if user.0 != 0 && user.1 != found.gid {
            // Who is not of the group must not give its rights away. Of his other groups nothing is known here.
            permissions &= !0o2000;
        }
        if list.is_minimal() {
            self.remove_list(inode, ACCESS)?;
        } else {
            self.engine.set_attribute(inode, ACCESS, bytes, SetAttribute::Any)?;
        }
        Ok(self.engine.set_attributes(inode, &Set { permissions: Some(permissions), ..Set::default() })?)
    }

    /// Removes a list; that there is none is as good.
    pub(crate) fn remove_list(&self, inode: u64, name: &[u8]) -> Answer<()> {
        match self.engine.remove_attribute(inode, name) {
            Err(Error::NoAttribute) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the list of a file say what its permissions do since they were changed.
    pub(crate) fn follow_permissions(&self, inode: u64, permissions: u32) -> Answer<()> {
        let Some(mut list) = self.acl(inode, ACCESS)? else { return Ok(()) };
        list.change(permissions, |_, set| set);
        Ok(self.engine.set_attribute(inode, ACCESS, &list.bytes(), SetAttribute::Any)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> List {
        List(
            entries
                .iter()
                .map(|(tag, permissions)| Entry { tag: *tag, permissions: *permissions, id: 9 })
                .collect(),
        )
    }

    #[test]
    fn the_mask_stands_for_the_group() {
        let full = list(&[(OWNER, 7), (0x02, 6), (GROUP, 1), (MASK, 5), (OTHERS, 4)]);
        assert_eq!((full.permissions(), full.is_minimal()), (0o754, false));
        let minimal = list(&[(OWNER, 7), (GROUP, 1), (OTHERS, 4)]);
        assert_eq!((minimal.permissions(), minimal.is_minimal()), (0o714, true));
        assert_eq!(List::parse(&full.bytes()), Some(full));
        assert_eq!(List::parse(&[2, 0, 0, 0, 1]), None);
        assert_eq!(List::parse(&[1, 0, 0, 0]), None);
    }

    #[test]
    fn permissions_change_the_three_entries() {
        let mut changed = list(&[(OWNER, 7), (0x02, 6), (GROUP, 1), (MASK, 5), (OTHERS, 4)]);
        changed.change(0o640, |_, set| set);
        assert_eq!(changed, list(&[(OWNER, 6), (0x02, 6), (GROUP, 1), (MASK, 4), (OTHERS, 0)]));
        changed.change(0o477, |there, asked| there & asked);
        assert_eq!(changed, list(&[(OWNER, 4), (0x02, 6), (GROUP, 1), (MASK, 4), (OTHERS, 0)]));
    }
}
