//! How a file is named on the command line: by its path from `/`, or by its inode number.

use crate::error::CommandError;
use paxfs_format::blocks::Blocks;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::names::ResolveError;
use paxfs_format::volume::Volume;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A file found.
#[derive(Debug, Clone, Copy)]
pub struct Target<'v> {
    /// Its inode number.
    pub number: u64,
    /// Its inode, verified.
    pub inode: &'v Inode,
}

impl<'v> Target<'v> {
    /// The file that `name` names.
    pub fn find<B: Blocks>(volume: &'v Volume<B>, name: &OsStr) -> Result<Self, CommandError> {
        let number = number(volume, name)?;
        let inode = volume
            .inode(number)
            .map_err(|fault| CommandError::Structure { what: format!("inode {number}"), fault })?;
        if inode.is_free() {
            return Err(CommandError::Failed(format!("inode {number} is free")));
        }
        Ok(Target { number, inode })
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.inode.file_type() == Some(FileType::Directory)
    }

    /// The target, if it is a regular file.
    pub fn regular(self) -> Result<Self, CommandError> {
        match self.inode.file_type() {
            Some(FileType::Regular) => Ok(self),
            found => {
                let found = found.map_or("of no type", file_type_name);
                Err(CommandError::Failed(format!("inode {} is {found}, not a regular file", self.number)))
            }
        }
    }
}

/// The inode number that `name` names, whether or not the inode can be read.
pub fn number<B: Blocks>(volume: &Volume<B>, name: &OsStr) -> Result<u64, CommandError> {
    let bytes = name.as_bytes();
    if !bytes.starts_with(b"/") {
        let number = name.to_str().and_then(|text| text.parse().ok());
        let usage = || format!("{}: a path beginning with `/` or an inode number expected", name.display());
        return number.ok_or_else(|| CommandError::Usage(usage()));
    }
    match (volume.resolve(bytes), unescaped(bytes)) {
        // A path as we print it.
        (Err(ResolveError::NotFound { .. }), Some(plain)) => Ok(volume.resolve(&plain)?),
        (answer, _) => Ok(answer?),
    }
}

/// What `\xNN` stand for; `None` when there are none.
fn unescaped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = rest.strip_prefix(br"\x").and_then(|escape| escape.split_at_checked(2));
        let escaped = escaped.filter(|(digits, _)| digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|(digits, after)| {
            Some((u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((first, after));
        plain.push(byte);
        rest = after;
    }
    (plain.len() < bytes.len()).then_some(plain)
}

/// A type of file in words.
pub fn file_type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "a FIFO",
        FileType::Character => "a character device",
        FileType::Directory => "a directory",
        FileType::Block => "a block device",
        FileType::Regular => "a regular file",
        FileType::Symlink => "a symlink",
        FileType::Socket => "a socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_printed_are_taken_back() {
        assert_eq!(unescaped(b"/a b"), None);
        assert_eq!(unescaped(br"/a\x0ab\x5cn\xzz\x"), Some(b"/a\nb\\n\\xzz\\x".to_vec()));
    }
}
