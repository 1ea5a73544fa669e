//! Who looks on while inodes are scanned: first to prove that sets are equal, then to tell where they differ.

use crate::context::Proofs;
use crate::extents::ExtentItem;
use crate::multiset::Key;
use paxfs_format::tree::RecordPlace;

/// Where an extent is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtentPlace {
    /// Ordinal of the leaf, or [`ExtentPlace::INLINE`].
    pub leaf: u32,
    pub index: u32,
}

impl ExtentPlace {
    /// In the inode's payload.
    pub const INLINE: u32 = u32::MAX;

    /// A place in a tree. More leaves than 2^32 are more blocks than a group's tree or a file's can have.
    pub fn of(at: &RecordPlace) -> Self {
        let leaf = u32::try_from(at.node.ordinal).unwrap_or(u32::MAX);
        ExtentPlace { leaf, index: u32::try_from(at.index).unwrap_or(u32::MAX) }
    }

    /// The path of the record in a file's extents.
    pub fn of_extent(self, inode: u64) -> String {
        match self.leaf {
            Self::INLINE => format!("inode[{inode}].extents.rec[{}]", self.index),
            leaf => format!("inode[{inode}].extents.leaf[{leaf}].rec[{}]", self.index),
        }
    }
}

/// Where an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryPlace {
    /// Ordinal of the body, or [`EntryPlace::INLINE`].
    pub body: u64,
    pub index: u32,
}

impl EntryPlace {
    /// In the inode's payload.
    pub const INLINE: u64 = u64::MAX;

    /// The path of the entry; `fork` is `directory` or `attributes`.
    pub fn path(self, inode: u64, fork: &str) -> String {
        match self.body {
            Self::INLINE => format!("inode[{inode}].{fork}.entry[{}]", self.index),
            body => format!("inode[{inode}].{fork}.block[{body}].entry[{}]", self.index),
        }
    }
}

/// A name, as a directory entry or a parent pointer has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'n> {
    pub parent: u64,
    pub child: u64,
    pub generation: u32,
    pub kind: u8,
    pub name: &'n [u8],
    pub place: EntryPlace,
    /// Something is wrong with the entry by itself; that has been reported.
    pub doubtful: bool,
}

/// Longest name, and the numbers before it.
const LINK_BYTES: usize = 21 + 255;

impl Link<'_> {
    /// The hash of what both sides must agree about.
    pub fn hash(&self, key: Key) -> u128 {
        let mut bytes = [0u8; LINK_BYTES];
        let parts: [&[u8]; 5] = [
            &self.parent.to_le_bytes(),
            &self.child.to_le_bytes(),
            &self.generation.to_le_bytes(),
            &[self.kind],
            self.name,
        ];
        let mut length = 0;
        for part in parts {
            if let Some(to) = bytes.get_mut(length..length + part.len()) {
                to.copy_from_slice(part);
                length += part.len();
            }
        }
        key.hash(bytes.get(..length).unwrap_or_default())
    }
}

/// Is told of everything that is compared with something elsewhere.
pub(crate) trait Observer {
    /// An extent of a file.
    fn extent(&mut self, key: Key, item: ExtentItem, place: ExtentPlace);
    /// An extent that is wrong by itself.
    fn doubtful_extent(&mut self, _item: ExtentItem, _place: ExtentPlace) {}
    /// A directory entry.
    fn entry(&mut self, key: Key, link: &Link<'_>);
    /// A parent pointer.
    fn pointer(&mut self, key: Key, link: &Link<'_>);
}

/// Sums up.
impl Observer for Proofs {
    #[inline]
    fn extent(&mut self, key: Key, item: ExtentItem, _place: ExtentPlace) {
        self.extents.add(key.hash(&item));
    }

    #[inline]
    fn entry(&mut self, key: Key, link: &Link<'_>) {
        self.entries.add(link.hash(key));
    }

    #[inline]
    fn pointer(&mut self, key: Key, link: &Link<'_>) {
        self.pointers.add(link.hash(key));
    }
}

impl Proofs {
    /// Adds what another thread summed up.
    pub fn merge(&mut self, other: &Self) {
        self.extents.merge(&other.extents);
        self.rmap.merge(&other.rmap);
        self.entries.merge(&other.entries);
        self.pointers.merge(&other.pointers);
    }
}
