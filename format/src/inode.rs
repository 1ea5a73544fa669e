//! Inodes: 512 bytes each, eight to a block, found by their number alone.
//!
//! An inode has two *forks*. The data fork is the extent map of a regular file, the entries of a directory, or the
//! target of a symlink. The attribute fork holds extended attributes and parent pointers as entries. What is small
//! lies in the payload, the data fork's bytes first, the attribute fork's behind them.

use crate::declare::{Style, integer};
use crate::group::TreeRoot;
use crate::header::{BlockKind, Header};
use crate::on_disk;
use crate::time::Timestamp;
use crate::units::{BlockCount, Bytes16, Bytes64, Count32, Count64, Opaque, Reserved, UserNo};

/// Bytes of an inode.
pub const INODE_SIZE: usize = 512;
/// Bytes of an inode's payload.
pub const PAYLOAD_SIZE: usize = 280;
/// Longest symlink target.
pub const MAX_SYMLINK: u64 = 4095;

integer! {
    /// Type and permissions, as in `st_mode`.
    Mode(U32, u32) Style::Octal;
    /// Flags of an inode.
    InodeFlags(U32, u32) Style::Flags(&[
        (1, "immutable"), (2, "append"), (4, "dax"), (8, "nocsum"), (16, "snapshot"),
    ]);
    /// How a fork is stored.
    ForkFormat(U16, u16) Style::Names(&[
        (0, "empty"), (1, "inline"), (2, "block"), (3, "tree"), (4, "values"),
    ]);
}

impl InodeFlags {
    /// Neither contents nor attributes nor names may change.
    pub const IMMUTABLE: u32 = 1;
    /// May only grow.
    pub const APPEND: u32 = 2;
    /// Mapped by loads and stores to the medium; inherited from directories.
    pub const DAX: u32 = 4;
    /// Its data has no checksums; inherited from directories.
    pub const NOCSUM: u32 = 8;
    /// Belongs to a read-only snapshot.
    pub const SNAPSHOT: u32 = 16;
    /// All that are defined.
    pub const KNOWN: u32 = 31;
}

impl ForkFormat {
    /// Holds nothing.
    pub const EMPTY: Self = Self::new(0);
    /// In the payload: extent records, entries, or a symlink's target.
    pub const INLINE: Self = Self::new(1);
    /// Entries in the one block `tree.block`.
    pub const BLOCK: Self = Self::new(2);
    /// A tree of extents, or an index of blocks of entries, with its root in `tree`.
    pub const TREE: Self = Self::new(3);
    /// A long symlink's target, in the value blocks whose numbers are in the payload.
    pub const VALUES: Self = Self::new(4);
}

/// What an inode is: the upper bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    Character,
    /// A directory.
    Directory,
    /// A block device.
    Block,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
}

impl FileType {
    /// All types.
    pub const ALL: [Self; 7] = [
        Self::Fifo,
        Self::Character,
        Self::Directory,
        Self::Block,
        Self::Regular,
        Self::Symlink,
        Self::Socket,
    ];

    /// The type's number: bits 12 to 15 of a mode, and the `kind` of a directory entry.
    pub const fn number(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::Character => 2,
            Self::Directory => 4,
            Self::Block => 6,
            Self::Regular => 8,
            Self::Symlink => 10,
            Self::Socket => 12,
        }
    }

    /// The type's bits of a mode.
    pub const fn mode(self) -> u32 {
        (self.number() as u32) << 12
    }

    /// The type with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The type that a mode has; `None` for a number that is none, or bits above 16.
    pub fn from_mode(mode: u32) -> Option<Self> {
        u8::try_from(mode >> 12).ok().and_then(Self::from_number)
    }
}

on_disk! {
    /// One fork of an inode.
    pub struct Fork = 40 {
        /// How it is stored.
        pub format: ForkFormat,
        /// Its bytes in the payload.
        pub inline_bytes: Bytes16,
        /// Zero.
        pub reserved: Reserved<4>,
        /// Extents or entries of the fork.
        pub count: Count64,
        /// Root of its tree (formats tree and block; in the latter height and nodes are 0 and records is 1).
        pub tree: TreeRoot,
    }
}

on_disk! {
    /// An inode. A slot never used is all zeros; one that is free again keeps its generation and has mode 0.
    pub struct Inode = 512 {
        /// Kind inode, place its number, owner its group.
        pub header: Header,
        /// Tells the files that had this number apart: number and generation together never name two files. Not 0.
        pub generation: Count32,
        /// Type and permissions.
        pub mode: Mode,
        /// Owning user.
        pub uid: UserNo,
        /// Owning group.
        pub gid: UserNo,
        /// Directory entries that name it; 1 for the root directory, 0 for an orphan.
        pub links: Count32,
        /// Flags.
        pub flags: InodeFlags,
        /// Bytes of a file or of a symlink's target; bytes of a directory's entries, padding included.
        pub size: Bytes64,
        /// Blocks that its extents cover.
        pub blocks: BlockCount,
        /// Counts the changes to contents and attributes.
        pub changes: Count64,
        /// Last access.
        pub accessed: Timestamp,
        /// Last change of contents.
        pub modified: Timestamp,
        /// Last change of contents or attributes.
        pub changed: Timestamp,
        /// Creation.
        pub born: Timestamp,
        /// Major number of a device.
        pub major: Count32,
        /// Minor number of a device.
        pub minor: Count32,
        /// Extent map, entries or target.
        pub data: Fork,
        /// Extended attributes and parent pointers.
        pub attributes: Fork,
        /// Zero.
        pub reserved: Reserved<8>,
        /// Inline bytes of the data fork, then of the attribute fork, then zeros.
        pub payload: Opaque<280>,
    }
}

/// Which fork of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// Contents.
    Data,
    /// Attributes.
    Attributes,
}

impl Inode {
    /// What it is; `None` when free or when the mode names no type.
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode.get())
    }

    /// Whether the slot is free.
    pub fn is_free(&self) -> bool {
        self.mode.get() == 0
    }

    /// One of its forks.
    pub fn fork(&self, which: Which) -> &Fork {
        match which {
            Which::Data => &self.data,
            Which::Attributes => &self.attributes,
        }
    }

    /// Bytes of a fork in the payload; `None` when the lengths do not fit it.
    pub fn inline(&self, which: Which) -> Option<&[u8]> {
        let data = usize::from(self.data.inline_bytes.get());
        let attributes = usize::from(self.attributes.inline_bytes.get());
        match which {
            Which::Data => self.payload.0.get(..data),
            Which::Attributes => self.payload.0.get(data..data.checked_add(attributes)?),
        }
    }
}

impl Which {
    /// Kind of the nodes of a fork's tree, for an inode of that type.
    pub fn node_kind(self, file_type: Option<FileType>) -> BlockKind {
        match (self, file_type) {
            (Which::Attributes, _) => BlockKind::ATTRIBUTE_INDEX,
            (Which::Data, Some(FileType::Directory)) => BlockKind::DIRECTORY_INDEX,
            (Which::Data, _) => BlockKind::EXTENTS,
        }
    }

    /// Kind of the blocks of entries of a fork.
    pub fn entry_kind(self) -> BlockKind {
        match self {
            Which::Data => BlockKind::DIRECTORY,
            Which::Attributes => BlockKind::ATTRIBUTES,
        }
    }

    /// Its name in paths.
    pub const fn name(self) -> &'static str {
        match self {
            Which::Data => "data",
            Which::Attributes => "attributes",
        }
    }
}
