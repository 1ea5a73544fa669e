//! What is in a directory, in the order of cookies, which are the offsets that the kernel knows.

use crate::attributes::{kind_to_kernel, to_kernel};
use crate::fault::Answer;
use crate::names::Entry;
use crate::volume::Volume;
use fuser::{FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Where to go on behind `.`, and behind `..`.
const SELF: u64 = 1;
const PARENT: u64 = 2;
/// The lowest place behind a name. Names of lower cookies have hashes of zero: nobody meets them.
const NAMES: u64 = 3;

/// Names that are read at a time.
const BATCH: usize = 64;

/// One thing in a directory.
struct Item<'a> {
    /// Where to go on behind it.
    offset: u64,
    inode: u64,
    kind: FileType,
    name: &'a [u8],
}

impl Volume {
    /// Gives what is in a directory behind an offset to `take`, until that says that it has no room.
    fn read(&self, directory: u64, offset: u64, mut take: impl FnMut(&Item<'_>) -> bool) -> Answer<()> {
        let kind = FileType::Directory;
        if offset < SELF && take(&Item { offset: SELF, inode: directory, kind, name: b"." }) {
            return Ok(());
        }
        if offset < PARENT {
            let inode = self.engine.parent(directory)?;
            if take(&Item { offset: PARENT, inode, kind, name: b".." }) {
                return Ok(());
            }
        }
        let mut after = if offset < NAMES { 0 } else { offset };
        loop {
            let names = self.engine.read_directory(directory, after, BATCH)?;
            for name in &names {
                let offset = name.cookie.max(NAMES);
                let kind = kind_to_kernel(name.kind);
                if take(&Item { offset, inode: name.inode, kind, name: &name.name }) {
                    return Ok(());
                }
                after = offset;
            }
            if names.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// The names.
    pub(crate) fn list(&self, directory: u64, offset: u64, reply: &mut ReplyDirectory) -> Answer<()> {
        self.read(directory, offset, |item| {
            reply.add(INodeNo(item.inode), item.offset, item.kind, OsStr::from_bytes(item.name))
        })
    }

    /// The names, and what they lead to, of which the kernel knows from then on.
    pub(crate) fn list_plus(
        &self,
        directory: u64,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Answer<()> {
        let own = self.engine.attributes(directory)?;
        self.read(directory, offset, |item| {
            let name = OsStr::from_bytes(item.name);
            let mut add = |entry: &Entry| {
                let (attributes, generation) = (&entry.attributes, entry.generation);
                reply.add(attributes.ino, item.offset, name, &crate::server::TTL, attributes, generation)
            };
            if matches!(item.name, b"." | b"..") {
                let attributes = fuser::FileAttr { ino: INodeNo(item.inode), ..to_kernel(&own) };
                return add(&Entry { attributes, generation: fuser::Generation(0) });
            }
            match self.tell(item.inode) {
                Ok(entry) => {
                    let is_full = add(&entry);
                    if is_full {
                        self.lookups.forget(item.inode, 1);
                    }
                    is_full
                }
                // Who asks for it by name is told what is wrong with it.
                Err(_) => false,
            }
        })
    }
}
