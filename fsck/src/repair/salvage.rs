//! What can still be read of damaged entries. A cookie is the hash of its entry's name, so each entry proves itself: one
//! that fits is believed wherever it lies, and after one that does not the next is looked for.

use paxfs_format::entry::{
    AttributeEntry, AttributeKind, DirectoryEntry, Entry, Head, INLINE_VALUE_MAX, entries, entry_size,
};
use paxfs_format::hash::{DISAMBIGUATOR, NameHash};

/// An entry that was read.
#[derive(Debug, Clone)]
pub(super) struct Salvaged<H> {
    pub head: H,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    /// Its cookie fits its name.
    pub sure: bool,
}

/// An entry whose cookie proves it.
pub(super) trait Proven: Head + Copy {
    /// Whether the cookie fits the name, and the lengths are right therefore.
    fn fits(hash: &NameHash, entry: &Entry<'_, Self>) -> bool;
    /// Whether it is one at all.
    fn is_one(entry: &Entry<'_, Self>) -> bool;
    /// The entry at the start of `bytes` if another length, or kind, makes its cookie fit; and the bytes that it takes.
    fn otherwise(hash: &NameHash, bytes: &[u8]) -> Option<(Salvaged<Self>, usize)>;
}

impl Proven for DirectoryEntry {
    fn fits(hash: &NameHash, entry: &Entry<'_, Self>) -> bool {
        is_name(entry.name) && hash.directory(entry.name) == entry.head.cookie.get() & !DISAMBIGUATOR
    }

    fn is_one(entry: &Entry<'_, Self>) -> bool {
        entry.head.inode.get() != 0 || entry.head.kind.0 != 0
    }

    fn otherwise(hash: &NameHash, bytes: &[u8]) -> Option<(Salvaged<Self>, usize)> {
        let (head, rest) = DirectoryEntry::ref_from_prefix_of(bytes)?;
        let wanted = head.cookie.get() & !DISAMBIGUATOR;
        let name = (1..=255).filter_map(|length| rest.get(..length));
        let name = name.take_while(|name| is_name(name)).find(|name| hash.directory(name) == wanted)?;
        let size = entry_size(size_of::<Self>(), name.len(), 0);
        Some((Salvaged { head: *head, name: name.to_vec(), value: Vec::new(), sure: true }, size))
    }
}

impl Proven for AttributeEntry {
    fn fits(hash: &NameHash, entry: &Entry<'_, Self>) -> bool {
        let wanted = entry.head.cookie.get() & !DISAMBIGUATOR;
        let found = match entry.head.kind {
            AttributeKind::INLINE | AttributeKind::BLOCKS => {
                hash.attribute(AttributeKind::INLINE, None, entry.name)
            }
            AttributeKind::PARENT => match <[u8; 8]>::try_from(entry.value) {
                Ok(parent) => {
                    hash.attribute(AttributeKind::PARENT, Some(u64::from_le_bytes(parent)), entry.name)
                }
                Err(_) => return false,
            },
            _ => return false,
        };
        !entry.name.is_empty() && found == wanted
    }

    fn is_one(entry: &Entry<'_, Self>) -> bool {
        Head::is_live(entry.head)
    }

    fn otherwise(hash: &NameHash, bytes: &[u8]) -> Option<(Salvaged<Self>, usize)> {
        let (head, rest) = AttributeEntry::ref_from_prefix_of(bytes)?;
        let wanted = head.cookie.get() & !DISAMBIGUATOR;
        for name in (1..=255).filter_map(|length| rest.get(..length)) {
            let behind = rest.get(name.len()..).unwrap_or_default();
            let parent = behind.first_chunk::<8>().map(|parent| u64::from_le_bytes(*parent));
            let mut found = *head;
            found.name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            if parent
                .is_some_and(|parent| hash.attribute(AttributeKind::PARENT, Some(parent), name) == wanted)
            {
                found.kind = AttributeKind::PARENT;
                found.value_length = 8.into();
            } else if hash.attribute(AttributeKind::INLINE, None, name) == wanted {
                let length = usize::try_from(found.value_length.get()).unwrap_or(usize::MAX);
                if ![AttributeKind::INLINE, AttributeKind::BLOCKS].contains(&found.kind) {
                    let long = length > INLINE_VALUE_MAX;
                    found.kind = if long { AttributeKind::BLOCKS } else { AttributeKind::INLINE };
                }
                let stored = Head::stored_value(&found).unwrap_or(usize::MAX);
                let size = entry_size(size_of::<Self>(), name.len(), 0).saturating_add(stored);
                if stored > behind.len() || !starts_well(hash, bytes, size.next_multiple_of(8)) {
                    // The length is what is wrong: the value ends where the next entry, or nothing, begins.
                    let from = entry_size(size_of::<Self>(), name.len(), 0);
                    let end = (from..=bytes.len()).step_by(8).find(|end| starts_well(hash, bytes, *end))?;
                    let most = end.saturating_sub(size_of::<Self>()).saturating_sub(name.len());
                    found.value_length = u32::try_from(most).unwrap_or(0).into();
                }
            } else {
                continue;
            }
            let value = behind.get(..Head::stored_value(&found)?)?.to_vec();
            let size = entry_size(size_of::<Self>(), name.len(), value.len());
            return Some((Salvaged { head: found, name: name.to_vec(), value, sure: true }, size));
        }
        None
    }
}

/// Whether at `offset` of attribute entries another begins, or zeros to the end.
fn starts_well(hash: &NameHash, bytes: &[u8], offset: usize) -> bool {
    let Some(rest) = bytes.get(offset..) else { return offset >= bytes.len() };
    rest.iter().all(|&byte| byte == 0) || fitting::<AttributeEntry>(hash, rest).is_some()
}

/// A head at the start of bytes.
trait RefFromPrefix: Sized {
    fn ref_from_prefix_of(bytes: &[u8]) -> Option<(&Self, &[u8])>;
}

impl<H: Head> RefFromPrefix for H {
    fn ref_from_prefix_of(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        H::ref_from_prefix(bytes).ok()
    }
}

/// Whether a file can have that name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| *byte == b'/' || *byte == 0)
}

fn first<H: Head>(bytes: &[u8]) -> Option<Entry<'_, H>> {
    entries::<H>(bytes).next()?.ok()
}

fn fitting<'b, H: Proven>(hash: &NameHash, bytes: &'b [u8]) -> Option<Entry<'b, H>> {
    first::<H>(bytes).filter(|entry| H::fits(hash, entry))
}

/// All entries that can be read of `bytes`, and whether every byte was accounted for.
pub(super) fn salvage<H: Proven>(hash: &NameHash, bytes: &[u8]) -> (Vec<Salvaged<H>>, bool) {
    let (mut found, mut whole, mut offset) = (Vec::new(), true, 0);
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let take = |entry: &Entry<'_, H>, sure| Salvaged {
            head: *entry.head,
            name: entry.name.to_vec(),
            value: entry.value.to_vec(),
            sure,
        };
        if let Some(entry) = fitting::<H>(hash, rest) {
            found.push(take(&entry, true));
            offset += entry.size();
            continue;
        }
        let plain = first::<H>(rest);
        if let Some(entry) = plain.filter(|entry| !H::is_one(entry) && entry.head.cookie() == 0) {
            offset += entry.size();
            continue;
        }
        whole = false;
        if let Some((entry, size)) = H::otherwise(hash, rest) {
            found.push(entry);
            offset += size;
            continue;
        }
        let after = plain.map(|entry| entry.size());
        let lengths_fit = after.is_some_and(|after| {
            let behind = rest.get(after..).unwrap_or_default();
            behind.is_empty() || fitting::<H>(hash, behind).is_some()
        });
        match plain {
            Some(entry) if lengths_fit => {
                if H::is_one(&entry) {
                    found.push(take(&entry, false));
                }
                offset += entry.size();
            }
            _ => offset += 8,
        }
    }
    (found, whole)
}
