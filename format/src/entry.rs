//! Entries: the names of a directory, and the attributes and parent pointers of an inode.
//!
//! Both forks hold them alike: packed one behind the other, each padded to 8 bytes, in the inode's payload, in one
//! block, or in many blocks under an index. The order within one place is free; between blocks the cookie decides. An
//! entry's *cookie* is the hash of what it is found by ([`crate::hash`]), made unique, and never changes while the entry
//! lives, so that a reader of the directory can go on from it. A dead entry keeps its length and waits for reuse.

use crate::declare::{Style, integer};
use crate::header::Header;
use crate::on_disk;
use crate::units::{Bytes32, Cookie, Count32, InodeNo, Opaque, Reserved};
use zerocopy::FromBytes;

/// Longest name of a directory entry or attribute.
pub const MAX_NAME: usize = 255;
/// Longest value of an extended attribute.
pub const MAX_VALUE: u32 = 65536;
/// Longest value that a writer keeps in its entry, so that three of the longest fit a block. Readers take any.
pub const INLINE_VALUE_MAX: usize = 1024;
/// Bytes of entries or of a value in one block.
pub const BODY_SIZE: usize = 4056;

/// [`FileType`](crate::inode::FileType) number in a directory entry.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct EntryType(pub u8);

impl crate::declare::FieldType for EntryType {
    const KIND: crate::declare::Kind = crate::declare::Kind::Integer {
        size: 1,
        style: Style::Names(&[
            (0, "dead"),
            (1, "fifo"),
            (2, "character"),
            (4, "directory"),
            (6, "block"),
            (8, "regular"),
            (10, "symlink"),
            (12, "socket"),
        ]),
    };
}

/// What an attribute entry is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct AttributeKind(pub u8);

impl AttributeKind {
    /// Waits for reuse.
    pub const DEAD: Self = Self(0);
    /// An extended attribute; the value follows the name.
    pub const INLINE: Self = Self(1);
    /// An extended attribute; the numbers of the value's blocks follow the name.
    pub const BLOCKS: Self = Self(2);
    /// A parent pointer: the name is the entry's, the value the number of the directory that holds it.
    pub const PARENT: Self = Self(3);
}

impl crate::declare::FieldType for AttributeKind {
    const KIND: crate::declare::Kind = crate::declare::Kind::Integer {
        size: 1,
        style: Style::Names(&[(0, "dead"), (1, "inline"), (2, "blocks"), (3, "parent")]),
    };
}

integer! {
    /// Length of what follows an entry's name.
    ValueLength(U32, u32) Style::Decimal("bytes");
}

on_disk! {
    /// Head of a directory entry; the name follows.
    pub struct DirectoryEntry = 24 {
        /// Place of the entry in the directory's order.
        pub cookie: Cookie,
        /// The inode it names; 0 when dead.
        pub inode: InodeNo,
        /// That inode's generation.
        pub generation: Count32,
        /// Bytes of the name, 1 to 255.
        pub name_length: u8,
        /// That inode's type; 0 when dead.
        pub kind: EntryType,
        /// Zero.
        pub reserved: Reserved<2>,
    }
}

on_disk! {
    /// Head of an attribute entry; the name and then the value follow.
    pub struct AttributeEntry = 16 {
        /// Place of the entry in the fork's order.
        pub cookie: Cookie,
        /// Bytes of the value.
        pub value_length: Bytes32,
        /// What it is.
        pub kind: AttributeKind,
        /// Bytes of the name, 1 to 255.
        pub name_length: u8,
        /// Zero.
        pub reserved: Reserved<2>,
    }
}

on_disk! {
    /// A block of entries or of a value.
    pub struct BodyBlock = 4096 {
        /// Kind directory, attributes or value; owner the inode; count the bytes of the body in use; for a value, level
        /// its ordinal among the value's blocks.
        pub header: Header,
        /// The bytes; zeros behind those in use.
        pub body: Opaque<4056>,
    }
}

/// What follows an entry's head.
pub trait Head: crate::declare::OnDisk {
    /// Bytes of the name.
    fn name_length(&self) -> usize;
    /// Bytes stored behind the name; `None` when impossible.
    fn stored_value(&self) -> Option<usize>;
    /// Its cookie.
    fn cookie(&self) -> u64;
    /// Whether it is in use.
    fn is_live(&self) -> bool;
}

impl Head for DirectoryEntry {
    fn name_length(&self) -> usize {
        self.name_length.into()
    }
    fn stored_value(&self) -> Option<usize> {
        Some(0)
    }
    fn cookie(&self) -> u64 {
        self.cookie.get()
    }
    fn is_live(&self) -> bool {
        self.inode.get() != 0
    }
}

impl Head for AttributeEntry {
    fn name_length(&self) -> usize {
        self.name_length.into()
    }
    fn stored_value(&self) -> Option<usize> {
        let length = self.value_length.get();
        match self.kind {
            _ if length > MAX_VALUE => None,
            AttributeKind::BLOCKS => Some(value_blocks(length.into()) * size_of::<u64>()),
            _ => usize::try_from(length).ok(),
        }
    }
    fn cookie(&self) -> u64 {
        self.cookie.get()
    }
    fn is_live(&self) -> bool {
        self.kind != AttributeKind::DEAD
    }
}

/// Blocks that a value of so many bytes fills (at most 65536, else the answer saturates).
pub fn value_blocks(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(BODY_SIZE as u64)).unwrap_or(usize::MAX)
}

/// Bytes that an entry takes, padding included.
#[inline]
pub const fn entry_size(head: usize, name: usize, value: usize) -> usize {
    (head + name + value).next_multiple_of(8)
}

/// An entry where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a, H> {
    /// Offset of the head in the place that was read.
    pub offset: usize,
    /// The head.
    pub head: &'a H,
    /// The name.
    pub name: &'a [u8],
    /// What follows the name.
    pub value: &'a [u8],
}

impl<H> Entry<'_, H> {
    /// Bytes it takes, padding included.
    pub fn size(&self) -> usize {
        entry_size(size_of::<H>(), self.name.len(), self.value.len())
    }
}

/// An entry whose lengths do not fit where it lies; what follows it there cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry at byte {offset} reaches past the end")]
pub struct BadEntry {
    /// Offset of its head.
    pub offset: usize,
}

/// The entries packed in `bytes`, dead ones included. Ends after the first that does not fit.
pub fn entries<H: Head>(bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_, H>, BadEntry>> {
    let mut offset = 0;
    core::iter::from_fn(move || {
        let rest = bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let entry = parse::<H>(rest).map(|(head, name, value)| Entry { offset, head, name, value });
        let answer = entry.ok_or(BadEntry { offset });
        offset = answer.as_ref().map_or(bytes.len(), |entry| offset + entry.size());
        Some(answer)
    })
}

#[inline]
fn parse<H: Head>(bytes: &[u8]) -> Option<(&H, &[u8], &[u8])> {
    let (head, rest) = H::ref_from_prefix(bytes).ok()?;
    let (name, rest) = rest.split_at_checked(head.name_length())?;
    let value = rest.get(..head.stored_value()?)?;
    // The padding must be there too.
    (entry_size(size_of::<H>(), name.len(), value.len()) <= bytes.len()).then_some((head, name, value))
}

/// Appends an entry to `to`, padded.
pub fn push_entry<H: Head>(to: &mut Vec<u8>, head: &H, name: &[u8], value: &[u8]) {
    let end = to.len() + entry_size(size_of::<H>(), name.len(), value.len());
    to.extend_from_slice(zerocopy::IntoBytes::as_bytes(head));
    to.extend_from_slice(name);
    to.extend_from_slice(value);
    to.resize(end, 0);
}
