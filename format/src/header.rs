//! The header that begins every metadata block and every inode, and the checksum that guards it.
//!
//! A structure says what it is, where it belongs and whose it is, so that a misplaced, stale or foreign block is told
//! from a damaged one. The checksum is CRC-32C over the volume's uuid followed by the structure with its `crc` as zero:
//! a block left over from another volume fails it.

use crate::declare::{Style, integer};
use crate::on_disk;
use crate::units::{Count16, Count32, Crc, Generation, KeyPart, Opaque, Uuid};
use zerocopy::FromBytes;

/// `magic` of every metadata block and inode.
pub const MAGIC: Opaque<4> = Opaque(*b"PAXF");

integer! {
    /// What a metadata block or inode is.
    BlockKind(U16, u16) Style::Names(&[
        (1, "superblock"), (2, "group"), (3, "free"), (4, "refcount"), (5, "rmap"), (6, "inodes"), (7, "clusters"),
        (8, "bad"), (9, "extents"), (10, "directory index"), (11, "attribute index"), (12, "directory"),
        (13, "attributes"), (14, "value"), (15, "inode"), (16, "journal"),
    ]);
}

impl BlockKind {
    /// The superblock or one of its copies.
    pub const SUPERBLOCK: Self = Self::new(1);
    /// A group header or its copy.
    pub const GROUP: Self = Self::new(2);
    /// Node of a group's free-space tree.
    pub const FREE: Self = Self::new(3);
    /// Node of a group's refcount tree.
    pub const REFCOUNT: Self = Self::new(4);
    /// Node of a group's reverse-map tree.
    pub const RMAP: Self = Self::new(5);
    /// Node of a group's inode index.
    pub const INODES: Self = Self::new(6);
    /// Node of a group's cluster tree.
    pub const CLUSTERS: Self = Self::new(7);
    /// Node of a group's tree of bad ranges.
    pub const BAD: Self = Self::new(8);
    /// Node of an inode's extent tree.
    pub const EXTENTS: Self = Self::new(9);
    /// Node of a directory's index.
    pub const DIRECTORY_INDEX: Self = Self::new(10);
    /// Node of the index of an attribute fork.
    pub const ATTRIBUTE_INDEX: Self = Self::new(11);
    /// Block of directory entries.
    pub const DIRECTORY: Self = Self::new(12);
    /// Block of attribute entries.
    pub const ATTRIBUTES: Self = Self::new(13);
    /// Block of a long symlink target or attribute value.
    pub const VALUE: Self = Self::new(14);
    /// An inode.
    pub const INODE: Self = Self::new(15);
    /// Head of a journal slot.
    pub const JOURNAL: Self = Self::new(16);

    /// The kind's name, or `None` for a number that is none.
    pub fn name(self) -> Option<&'static str> {
        let Style::Names(names) = Self::STYLE else { return None };
        names.iter().find(|(value, _)| *value == u64::from(self.get())).map(|(_, name)| *name)
    }
}

on_disk! {
    /// Begins every metadata block and every inode.
    pub struct Header = 40 {
        /// `PAXF`.
        pub magic: Opaque<4>,
        /// CRC-32C of the volume's uuid and then the structure, this field taken as zero.
        pub crc: Crc,
        /// What the structure is.
        pub kind: BlockKind,
        /// Level of a tree node, 0 for a leaf; ordinal of a value block; else 0.
        pub level: Count16,
        /// Records of a node; bytes used in a block of entries or values; records of a journal slot; else 0.
        pub count: Count32,
        /// Where it belongs: its volume block number, or its inode number.
        pub place: KeyPart,
        /// Whose it is: the group's number, or the inode's; 0 for the superblock and the journal.
        pub owner: KeyPart,
        /// Transaction that last wrote it.
        pub generation: Generation,
    }
}

impl Header {
    /// A header with no checksum yet.
    pub fn new(kind: BlockKind, place: u64, owner: u64, generation: u64) -> Self {
        Header {
            magic: MAGIC,
            crc: Crc::new(0),
            kind,
            level: Count16::new(0),
            count: Count32::new(0),
            place: KeyPart::new(place),
            owner: KeyPart::new(owner),
            generation: Generation::new(generation),
        }
    }

    /// The header at the start of `bytes`; `None` when they are fewer than it has.
    pub fn of(bytes: &[u8]) -> Option<&Header> {
        Header::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }
}

/// What a structure's header must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its kind.
    pub kind: BlockKind,
    /// Where it was read.
    pub place: u64,
    /// Whose it must be.
    pub owner: u64,
}

/// What is wrong with a structure by itself; where it is, the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Does not begin with the magic: never written, or overwritten.
    #[error("no paxfs structure here (magic {0:02x?})")]
    Magic([u8; 4]),
    /// The checksum does not fit the bytes.
    #[error("checksum is {stored:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// As stored.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Intact, but something else.
    #[error("is a {found} block where a {expected} block belongs")]
    Kind {
        /// As stored.
        found: u16,
        /// As its parent says.
        expected: u16,
    },
    /// Intact, but written for another place.
    #[error("belongs at {found}")]
    Place {
        /// As stored.
        found: u64,
    },
    /// Intact, but of another owner.
    #[error("belongs to {found}, not {expected}")]
    Owner {
        /// As stored.
        found: u64,
        /// As its parent says.
        expected: u64,
    },
    /// Reserved bytes are not zero.
    #[error("reserved bytes of {0} are not zero")]
    Reserved(String),
}

/// The start of every checksum of one volume: CRC-32C of its uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

/// Offset of `crc` in every structure that has one.
pub const CRC_OFFSET: usize = 4;

impl Seed {
    /// The seed of the volume with that uuid.
    pub fn new(uuid: &Uuid) -> Self {
        Seed(crc32c::crc32c(&uuid.0))
    }

    /// Checksum of a structure that begins with a [`Header`], its `crc` field taken as zero.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        let mut start = [0; 8];
        let (head, rest) = bytes.split_at(bytes.len().min(start.len()));
        for (to, from) in start.iter_mut().zip(head.iter().take(CRC_OFFSET)) {
            *to = *from;
        }
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &start), rest)
    }

    /// Checksum of bytes that have no header: the uuid, then all of them.
    pub fn plain(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// The start of the checksum of what follows these bytes: for bytes that are not in one piece.
    #[must_use]
    pub fn after(self, bytes: &[u8]) -> Seed {
        Seed(crc32c::crc32c_append(self.0, bytes))
    }

    /// Writes the checksum into `bytes`, a structure that begins with a [`Header`].
    pub fn seal(self, bytes: &mut [u8]) {
        let crc = self.checksum(bytes);
        if let Some(field) = bytes.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Magic and checksum of a structure.
    pub fn verify(self, bytes: &[u8]) -> Result<&Header, HeaderFault> {
        let header = Header::of(bytes).ok_or(HeaderFault::Magic([0; 4]))?;
        if header.magic != MAGIC {
            return Err(HeaderFault::Magic(header.magic.0));
        }
        let (stored, computed) = (header.crc.get(), self.checksum(bytes));
        if stored != computed {
            return Err(HeaderFault::Crc { stored, computed });
        }
        Ok(header)
    }
}

impl Expected {
    /// Whether `header` says what it must.
    pub fn check(&self, header: &Header) -> Result<(), HeaderFault> {
        if header.kind != self.kind {
            return Err(HeaderFault::Kind { found: header.kind.get(), expected: self.kind.get() });
        }
        if header.place.get() != self.place {
            return Err(HeaderFault::Place { found: header.place.get() });
        }
        if header.owner.get() != self.owner {
            return Err(HeaderFault::Owner { found: header.owner.get(), expected: self.owner });
        }
        Ok(())
    }
}
