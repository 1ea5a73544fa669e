//! Cookies: how a name finds its entry.
//!
//! SipHash-2-4 with the volume's uuid as key (bytes 0 to 7 and 8 to 15 as little-endian words). The hash is cut to 55
//! bits; the lowest 8 bits of a cookie tell names of equal hash apart, in the order in which they came; the highest bit
//! is 0, so that a cookie fits a signed file offset.

use crate::entry::AttributeKind;
use crate::units::Uuid;
use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// Bits of a cookie that tell names of equal hash apart.
pub const DISAMBIGUATOR: u64 = 0xff;

/// Hashes names for one volume.
#[derive(Debug, Clone, Copy)]
pub struct NameHash {
    hasher: SipHasher24,
}

impl NameHash {
    /// The hash of the volume with that uuid.
    pub fn new(uuid: &Uuid) -> Self {
        NameHash { hasher: SipHasher24::new_with_key(&uuid.0) }
    }

    /// Lowest cookie of a directory entry of that name.
    pub fn directory(&self, name: &[u8]) -> u64 {
        self.cookie(&[name])
    }

    /// Lowest cookie of an attribute entry: the hash of its kind's number (an attribute in value blocks counts as
    /// inline), for a parent pointer of the directory's number in 8 bytes, and then of its name.
    pub fn attribute(&self, kind: AttributeKind, parent: Option<u64>, name: &[u8]) -> u64 {
        let kind = if kind == AttributeKind::BLOCKS { AttributeKind::INLINE } else { kind };
        match parent {
            Some(parent) => self.cookie(&[&[kind.0], &parent.to_le_bytes(), name]),
            None => self.cookie(&[&[kind.0], name]),
        }
    }

    fn cookie(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher;
        for part in parts {
            hasher.write(part);
        }
        (hasher.finish() >> 1) & !DISAMBIGUATOR
    }
}
