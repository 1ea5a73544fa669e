//! Entries of a directory or of an attribute fork, sorted by cookie and packed. Pure.

use crate::error::Error;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, DirectoryEntry, EntryType, INLINE_VALUE_MAX, value_blocks,
};
use paxfs_format::hash::{DISAMBIGUATOR, NameHash};
use paxfs_format::packed::Packed;
use paxfs_format::units::Reserved;

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode.
    pub inode: u64,
    /// Its generation.
    pub generation: u32,
    /// Its type's number.
    pub kind: u8,
}

/// Gives cookies to things that are sorted by hash and then by name: equal hashes are told apart in that order.
fn disambiguate<T>(sorted: &mut [(u64, T)], inode: u64) -> Result<(), Error> {
    let (mut base, mut next) = (None, 0);
    for (cookie, _) in sorted {
        next = if base == Some(*cookie) { next + 1 } else { 0 };
        base = Some(*cookie);
        if next > DISAMBIGUATOR {
            return Err(Error::Collisions { inode });
        }
        *cookie |= next;
    }
    Ok(())
}

/// The entries of directory `inode`.
///
/// # Errors
///
/// [`Error::Collisions`].
pub fn directory<'a>(
    hash: &NameHash,
    inode: u64,
    names: impl Iterator<Item = Name<'a>>,
) -> Result<Packed, Error> {
    let mut sorted: Vec<(u64, Name<'a>)> = names.map(|name| (hash.directory(name.name), name)).collect();
    sorted.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.name.cmp(y.name)));
    disambiguate(&mut sorted, inode)?;
    let mut packed = Packed::default();
    for (cookie, name) in sorted {
        let head = DirectoryEntry {
            cookie: cookie.into(),
            inode: name.inode.into(),
            generation: name.generation.into(),
            name_length: u8::try_from(name.name.len()).unwrap_or(u8::MAX),
            kind: EntryType(name.kind),
            reserved: Reserved::ZERO,
        };
        packed.push(&head, name.name, &[]);
    }
    Ok(packed)
}

/// An extended attribute or a parent pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Extended attribute: its name, with the namespace. Parent pointer: the entry's name.
    pub name: Vec<u8>,
    /// What it is, with what follows the name.
    pub value: Value,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The value of an extended attribute.
    Bytes(Vec<u8>),
    /// The directory of a parent pointer.
    Parent(u64),
    /// A value that is in these blocks already, and how long it is.
    Blocks(Vec<u64>, u32),
}

impl Attribute {
    /// The parent pointer of the name `name` in directory `inode`.
    pub fn parent(name: &[u8], inode: u64) -> Self {
        Attribute { name: name.to_vec(), value: Value::Parent(inode) }
    }

    /// Blocks that its value has to have.
    pub fn blocks_needed(&self) -> usize {
        match &self.value {
            Value::Bytes(bytes) if bytes.len() > INLINE_VALUE_MAX => {
                value_blocks(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            _ => 0,
        }
    }

    fn hash(&self, hash: &NameHash) -> u64 {
        match self.value {
            Value::Parent(inode) => hash.attribute(AttributeKind::PARENT, Some(inode), &self.name),
            _ => hash.attribute(AttributeKind::INLINE, None, &self.name),
        }
    }

    /// Kind, length as the head says it, bytes as stored.
    fn stored(&self) -> (AttributeKind, usize, Vec<u8>) {
        match &self.value {
            Value::Bytes(bytes) => (AttributeKind::INLINE, bytes.len(), bytes.clone()),
            Value::Parent(inode) => (AttributeKind::PARENT, 8, inode.to_le_bytes().to_vec()),
            Value::Blocks(blocks, length) => {
                let pointers = blocks.iter().flat_map(|block| block.to_le_bytes()).collect();
                (AttributeKind::BLOCKS, usize::try_from(*length).unwrap_or(usize::MAX), pointers)
            }
        }
    }
}

/// The attribute entries of `inode`. Values too long for their entry must be in blocks already.
///
/// # Errors
///
/// [`Error::Collisions`].
pub fn attributes(hash: &NameHash, inode: u64, attributes: &[Attribute]) -> Result<Packed, Error> {
    let mut sorted: Vec<(u64, &Attribute)> = attributes.iter().map(|one| (one.hash(hash), one)).collect();
    sorted.sort_unstable_by(|(a, x), (b, y)| {
        let order = |one: &Attribute| matches!(one.value, Value::Parent(_));
        a.cmp(b).then_with(|| order(x).cmp(&order(y))).then_with(|| x.name.cmp(&y.name))
    });
    disambiguate(&mut sorted, inode)?;
    let mut packed = Packed::default();
    for (cookie, attribute) in sorted {
        let (kind, length, stored) = attribute.stored();
        let head = AttributeEntry {
            cookie: cookie.into(),
            value_length: u32::try_from(length).unwrap_or(u32::MAX).into(),
            kind,
            name_length: u8::try_from(attribute.name.len()).unwrap_or(u8::MAX),
            reserved: Reserved::ZERO,
        };
        packed.push(&head, &attribute.name, &stored);
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxfs_format::entry::{BODY_SIZE, Head, entries};
    use paxfs_format::units::Uuid;

    #[test]
    fn bodies_hold_what_their_cookies_say() {
        let hash = NameHash::new(&Uuid([7; 16]));
        let names: Vec<String> = (0..1000).map(|i| format!("name-{i}")).collect();
        let names = (1..).zip(&names).map(|(inode, name)| Name {
            name: name.as_bytes(),
            inode,
            generation: 1,
            kind: 8,
        });
        let packed = directory(&hash, 64, names).unwrap();
        assert_eq!(packed.count, 1000);
        assert_eq!(packed.bodies(), packed.iter().count());
        let mut last = None;
        for (low, body) in packed.iter() {
            assert!(body.len() <= BODY_SIZE);
            for entry in entries::<DirectoryEntry>(body) {
                let entry = entry.unwrap();
                assert!(entry.head.cookie() >= low && Some(entry.head.cookie()) > last);
                assert_eq!(entry.head.cookie() & !DISAMBIGUATOR, hash.directory(entry.name));
                last = Some(entry.head.cookie());
            }
        }
    }

    #[test]
    fn equal_hashes_are_told_apart_in_order() {
        let mut list: Vec<(u64, ())> = vec![(256, ()), (512, ()), (512, ()), (768, ())];
        disambiguate(&mut list, 1).unwrap();
        assert_eq!(list.iter().map(|one| one.0).collect::<Vec<_>>(), [256, 512, 513, 768]);
        let mut many = vec![(0, ()); 257];
        assert!(matches!(disambiguate(&mut many, 9), Err(Error::Collisions { inode: 9 })));
    }
}
