//! Extended attributes: values by name, of any inode.
//!
//! What they mean is for who sets them. POSIX ACLs (`system.posix_acl_access`, `system.posix_acl_default`) are attributes
//! like all others here: bytes that are kept as they are.

use crate::core::NAME_BLOCKS;
use crate::engine::Engine;
use crate::entries::Entries;
use crate::error::{Error, Result};
use crate::namespace::check_mutable;
use crate::values::Values;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, Entry, INLINE_VALUE_MAX, MAX_NAME, MAX_VALUE, value_blocks,
};
use paxfs_format::inode::{FileType, Inode, InodeFlags};
use paxfs_format::units::Reserved;

/// What [`Engine::set_attribute`] finds in place of the attribute, or refuses to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetAttribute {
    /// It is there or not.
    #[default]
    Any,
    /// It must not be there: `XATTR_CREATE`.
    Create,
    /// It must be there: `XATTR_REPLACE`.
    Replace,
}

/// What the names of attributes begin with.
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];

impl Engine {
    /// The value of an extended attribute; `name` has its namespace: `user.a`.
    ///
    /// # Errors
    ///
    /// [`Error::NoAttribute`]; [`Error::OutOfRange`] for a name that none can have.
    pub fn get_attribute(&self, inode: u64, name: &[u8]) -> Result<Vec<u8>> {
        check_length(name)?;
        let _look = self.core.look()?;
        let cell = self.core.inode(inode)?;
        let state = cell.read();
        check_in_use(&state.inode)?;
        let broken = |fault| Error::fork(inode, &fault);
        let entry = self.core.volume.attribute(&state.inode, name).map_err(broken)?;
        self.core.volume.attribute_value(&state.inode, &entry.ok_or(Error::NoAttribute)?).map_err(broken)
    }

    /// The names of an inode's extended attributes, in no order.
    pub fn list_attributes(&self, inode: u64) -> Result<Vec<Vec<u8>>> {
        let _look = self.core.look()?;
        let cell = self.core.inode(inode)?;
        let state = cell.read();
        check_in_use(&state.inode)?;
        let mut names = Vec::new();
        for entry in self.core.volume.attributes(&state.inode) {
            let entry = entry.map_err(|fault| Error::fork(inode, &fault))?;
            if entry.head.kind != AttributeKind::PARENT {
                names.push(entry.name.to_vec());
            }
        }
        Ok(names)
    }

    /// Sets an extended attribute. After a crash it has the old value or the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], [`Error::NoAttribute`] as `how` has it; [`Error::OutOfRange`] for a name that is empty or longer
    /// than 255 bytes; [`Error::NotSupported`] for one in no namespace; [`Error::ValueTooLong`] above 65536 bytes;
    /// [`Error::NotPermitted`] on what is immutable or may only grow, and for `user.` on what is neither a regular file
    /// nor a directory.
    pub fn set_attribute(&self, inode: u64, name: &[u8], value: &[u8], how: SetAttribute) -> Result<()> {
        check_length(name)?;
        check_namespace(name)?;
        let value_length = u32::try_from(value.len()).ok().filter(|length| *length <= MAX_VALUE);
        let value_length = value_length.ok_or(Error::ValueTooLong)?;
        let blocks = NAME_BLOCKS + value_blocks(value.len() as u64) as u64;
        let joined = self.core.join_adding(inode, blocks)?;
        let cell = self.core.inode(inode)?;
        let mut state = cell.write();
        check_changeable(&state.inode, name)?;
        let broken = |fault| Error::fork(inode, &fault);
        let old = self.core.volume.attribute(&state.inode, name).map_err(broken)?.map(|old| pointers(&old));
        match (how, &old) {
            (SetAttribute::Create, Some(_)) => return Err(Error::Exists),
            (SetAttribute::Replace, None) => return Err(Error::NoAttribute),
            _ => {}
        }
        let values = Values::new(&self.core, &joined, inode);
        let in_blocks = value.len() > INLINE_VALUE_MAX;
        let stored = if in_blocks { values.store(value)? } else { value.to_vec() };
        let head = AttributeEntry {
            cookie: 0.into(),
            value_length: value_length.into(),
            kind: if in_blocks { AttributeKind::BLOCKS } else { AttributeKind::INLINE },
            name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
            reserved: Reserved::ZERO,
        };
        let entries = Entries::new(&self.core, &joined);
        let lowest = self.core.volume.hash.attribute(AttributeKind::INLINE, None, name);
        match &old {
            Some(_) => entries.replace(&mut state.inode, lowest, |old| is(old, name), head, name, &stored)?,
            None => entries.insert(&mut state.inode, lowest, head, name, &stored)?,
        }
        values.free(&old.unwrap_or_default())?;
        joined.changed(&cell, &mut state);
        Ok(())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    ///
    /// [`Error::NoAttribute`], and as for [`Engine::set_attribute`].
    pub fn remove_attribute(&self, inode: u64, name: &[u8]) -> Result<()> {
        check_length(name)?;
        let joined = self.core.join()?;
        let cell = self.core.inode(inode)?;
        let mut state = cell.write();
        check_changeable(&state.inode, name)?;
        let broken = |fault| Error::fork(inode, &fault);
        let old = self.core.volume.attribute(&state.inode, name).map_err(broken)?;
        let old = pointers(&old.ok_or(Error::NoAttribute)?);
        let lowest = self.core.volume.hash.attribute(AttributeKind::INLINE, None, name);
        Entries::new(&self.core, &joined)
            .remove::<AttributeEntry>(&mut state.inode, lowest, |old| is(old, name))?;
        Values::new(&self.core, &joined, inode).free(&old)?;
        joined.changed(&cell, &mut state);
        Ok(())
    }
}

fn is(entry: &Entry<'_, AttributeEntry>, name: &[u8]) -> bool {
    entry.head.kind != AttributeKind::PARENT && entry.name == name
}

/// The block numbers of a value, as they are stored; none when it is in its entry.
fn pointers(entry: &Entry<'_, AttributeEntry>) -> Vec<u8> {
    if entry.head.kind == AttributeKind::BLOCKS { entry.value.to_vec() } else { Vec::new() }
}

fn check_length(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        Err(Error::OutOfRange("names of attributes have 1 to 255 bytes"))
    } else if name.contains(&0) {
        Err(Error::Invalid("the name has a NUL"))
    } else {
        Ok(())
    }
}

fn check_namespace(name: &[u8]) -> Result<()> {
    match NAMESPACES.iter().find_map(|namespace| name.strip_prefix(*namespace)) {
        None => {
            Err(Error::NotSupported("names of attributes begin with user., trusted., security. or system."))
        }
        Some(b"") => Err(Error::Invalid("the name ends with its namespace")),
        Some(_) => Ok(()),
    }
}

fn check_in_use(inode: &Inode) -> Result<()> {
    if inode.is_free() { Err(Error::Stale) } else { Ok(()) }
}

/// Whether that attribute of an inode may change.
fn check_changeable(inode: &Inode, name: &[u8]) -> Result<()> {
    check_in_use(inode)?;
    check_mutable(inode)?;
    let has_user = matches!(inode.file_type(), Some(FileType::Regular | FileType::Directory));
    if inode.flags.get() & InodeFlags::APPEND != 0 {
        Err(Error::NotPermitted("the file may only grow"))
    } else if name.starts_with(b"user.") && !has_user {
        Err(Error::NotPermitted("user attributes are for files and directories"))
    } else {
        Ok(())
    }
}
