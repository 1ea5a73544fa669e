//! Names: from a path to an inode through directories, and from an inode to its paths through parent pointers.

use crate::blocks::Blocks;
use crate::entry::{AttributeEntry, AttributeKind, DirectoryEntry, Entry, Head};
use crate::fork::ForkFault;
use crate::hash::DISAMBIGUATOR;
use crate::inode::{FileType, Inode, Which};
use crate::volume::{StructureFault, Volume};
use std::collections::HashSet;

/// Most directories above a file that are followed; a volume can have deeper ones, whose paths come out cut.
pub const MAX_DEPTH: usize = 4096;

/// Why a path does not lead to an inode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such name.
    #[error("{name:?} does not exist in directory inode {directory}")]
    NotFound {
        /// The directory.
        directory: u64,
        /// The name.
        name: String,
    },
    /// A name in the middle is no directory.
    #[error("inode {0} is not a directory")]
    NotADirectory(u64),
    /// An inode on the way cannot be read.
    #[error("inode {inode}: {fault}")]
    Inode {
        /// The inode.
        inode: u64,
        /// What is wrong with it.
        fault: StructureFault,
    },
    /// A directory on the way cannot be read where the name would be.
    #[error("directory inode {directory}: {fault}")]
    Directory {
        /// The directory.
        directory: u64,
        /// What is wrong with it.
        fault: ForkFault,
    },
}

/// A path of an inode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Its bytes, from `/`; or from `<inode N>` when it does not lead to the root.
    pub bytes: Vec<u8>,
    /// Whether it leads to the root.
    pub whole: bool,
}

impl core::fmt::Display for Path {
    /// Bytes that are no UTF-8, and control characters, as `\xNN`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&printable(&self.bytes))
    }
}

/// Bytes as text: control characters, backslashes and what is no UTF-8 as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                let mut buffer = [0; 4];
                text.extend(c.encode_utf8(&mut buffer).bytes().map(|byte| format!("\\x{byte:02x}")));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A parent pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent<'a> {
    /// The directory.
    pub directory: u64,
    /// The name there.
    pub name: &'a [u8],
}

impl<'a> Parent<'a> {
    /// The parent pointer in an attribute entry; `None` when the entry is another or its value is malformed.
    pub fn of(entry: &Entry<'a, AttributeEntry>) -> Option<Self> {
        let directory = <[u8; 8]>::try_from(entry.value).ok()?;
        (entry.head.kind == AttributeKind::PARENT)
            .then_some(Parent { directory: u64::from_le_bytes(directory), name: entry.name })
    }
}

impl<B: Blocks> Volume<B> {
    /// The live entries of a directory, in no order within a block. Goes on past what it cannot read.
    pub fn directory<'v>(
        &'v self,
        inode: &'v Inode,
    ) -> impl Iterator<Item = Result<Entry<'v, DirectoryEntry>, ForkFault>> + 'v {
        self.live_entries(inode, Which::Data)
    }

    /// The live attribute entries of an inode, parent pointers among them. Goes on past what it cannot read.
    pub fn attributes<'v>(
        &'v self,
        inode: &'v Inode,
    ) -> impl Iterator<Item = Result<Entry<'v, AttributeEntry>, ForkFault>> + 'v {
        self.live_entries(inode, Which::Attributes)
    }

    fn live_entries<'v, H: Head>(
        &'v self,
        inode: &'v Inode,
        which: Which,
    ) -> impl Iterator<Item = Result<Entry<'v, H>, ForkFault>> + 'v {
        self.bodies(inode, which, 0).flat_map(|body| match body {
            Ok(body) => {
                let entries = body.entries::<H>().map(|entry| entry.map_err(ForkFault::from));
                Box::new(entries.filter(|entry| !matches!(entry, Ok(entry) if !entry.head.is_live())))
                    as Box<dyn Iterator<Item = _>>
            }
            Err(fault) => Box::new(core::iter::once(Err(fault))),
        })
    }

    /// The value of an extended attribute.
    pub fn attribute_value(
        &self,
        inode: &Inode,
        entry: &Entry<'_, AttributeEntry>,
    ) -> Result<Vec<u8>, ForkFault> {
        match entry.head.kind {
            AttributeKind::BLOCKS => self.value(inode, entry.value, entry.head.value_length.get().into()),
            _ => Ok(entry.value.to_vec()),
        }
    }

    /// The extended attribute of that name.
    pub fn attribute<'v>(
        &'v self,
        inode: &'v Inode,
        name: &[u8],
    ) -> Result<Option<Entry<'v, AttributeEntry>>, ForkFault> {
        let cookie = self.hash.attribute(AttributeKind::INLINE, None, name);
        self.find(inode, Which::Attributes, cookie, |entry: &Entry<'_, AttributeEntry>| {
            entry.head.kind != AttributeKind::PARENT && entry.name == name
        })
    }

    /// The entry of that name in a directory.
    pub fn lookup<'v>(
        &'v self,
        directory: &'v Inode,
        name: &[u8],
    ) -> Result<Option<Entry<'v, DirectoryEntry>>, ForkFault> {
        let cookie = self.hash.directory(name);
        self.find(directory, Which::Data, cookie, |entry: &Entry<'_, DirectoryEntry>| entry.name == name)
    }

    /// The live entry that `is` tells apart, `cookie` being the lowest that it can have.
    fn find<'v, H: Head>(
        &'v self,
        inode: &'v Inode,
        which: Which,
        cookie: u64,
        is: impl Fn(&Entry<'_, H>) -> bool,
    ) -> Result<Option<Entry<'v, H>>, ForkFault> {
        for body in self.bodies(inode, which, cookie) {
            let body = body?;
            if body.low > cookie | DISAMBIGUATOR {
                break;
            }
            for entry in body.entries::<H>() {
                let entry = entry?;
                if entry.head.is_live() && entry.head.cookie() & !DISAMBIGUATOR == cookie && is(&entry) {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }

    /// The inode that a path leads to, from the root. Symlinks are not followed; `.` and empty names are passed over,
    /// `..` is a name like any other.
    pub fn resolve(&self, path: &[u8]) -> Result<u64, ResolveError> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        let mut number = self.superblock.root.get();
        for name in names {
            let directory = number;
            let inode =
                self.inode(directory).map_err(|fault| ResolveError::Inode { inode: directory, fault })?;
            if inode.file_type() != Some(FileType::Directory) {
                return Err(ResolveError::NotADirectory(directory));
            }
            let entry =
                self.lookup(inode, name).map_err(|fault| ResolveError::Directory { directory, fault })?;
            let missing = || ResolveError::NotFound { directory, name: printable(name) };
            number = entry.ok_or_else(missing)?.head.inode.get();
        }
        Ok(number)
    }

    /// The parent pointers of an inode, those that can be read.
    pub fn parents<'v>(&'v self, inode: &'v Inode) -> impl Iterator<Item = Parent<'v>> + 'v {
        self.attributes(inode).filter_map(|entry| Parent::of(&entry.ok()?))
    }

    /// Every path of an inode: one for each of its names, by parent pointers, in O(depth) each. An inode without a
    /// readable name has one path that is not whole.
    pub fn paths(&self, number: u64) -> Vec<Path> {
        self.paths_up_to(number, usize::MAX)
    }

    /// The first `most` of an inode's paths.
    pub fn paths_up_to(&self, number: u64, most: usize) -> Vec<Path> {
        let paths: Vec<Path> = match self.inode(number) {
            Ok(_) if number == self.superblock.root.get() => {
                return vec![Path { bytes: b"/".to_vec(), whole: true }];
            }
            Ok(inode) => self.parents(inode).take(most).map(|parent| self.path_through(parent)).collect(),
            Err(_) => Vec::new(),
        };
        if paths.is_empty() {
            return vec![Path { bytes: format!("<inode {number}>").into_bytes(), whole: false }];
        }
        paths
    }

    fn path_through(&self, parent: Parent<'_>) -> Path {
        let mut names = vec![parent.name.to_vec()];
        let mut directory = parent.directory;
        let root = self.superblock.root.get();
        let mut seen = HashSet::new();
        // A directory that is below itself has no path.
        while directory != root && names.len() < MAX_DEPTH && seen.insert(directory) {
            let above = self.inode(directory).ok().and_then(|inode| {
                self.parents(inode).next().map(|parent| (parent.directory, parent.name.to_vec()))
            });
            let Some((next, name)) = above else { break };
            names.push(name);
            directory = next;
        }
        let whole = directory == root;
        let mut bytes = if whole { Vec::new() } else { format!("<inode {directory}>").into_bytes() };
        for name in names.iter().rev() {
            bytes.push(b'/');
            bytes.extend_from_slice(name);
        }
        Path { bytes, whole }
    }
}
