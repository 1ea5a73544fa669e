//! Proof that two big sets are the same, in a few bytes of memory.
//!
//! Each element is hashed to 128 bits with a key drawn anew for every run, and the hashes are added modulo 2^128. The
//! sum does not depend on the order of the elements. Equal sums of different multisets would take a coincidence of
//! probability 2^-128 (Clarke et al., *Incremental Multiset Hash Functions*, 2003: MSet-Add-Hash); nobody who writes an
//! image can prepare one, because the key is not known before.

use std::hash::{BuildHasher, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_128_with_seed;
use zerocopy::{Immutable, IntoBytes};

/// Hashes elements, with the key of this run.
#[derive(Debug, Clone, Copy)]
pub struct Key(u64);

impl Key {
    /// A key that nobody can foretell.
    pub fn random() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The hash of an element.
    #[inline]
    pub fn hash<T: IntoBytes + Immutable + ?Sized>(self, element: &T) -> u128 {
        xxh3_128_with_seed(element.as_bytes(), self.0)
    }
}

/// The sum over a multiset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Multiset {
    sum: u128,
    count: u64,
}

impl Multiset {
    /// Adds an element by its hash.
    #[inline]
    pub fn add(&mut self, hash: u128) {
        self.sum = self.sum.wrapping_add(hash);
        self.count = self.count.wrapping_add(1);
    }

    /// Adds all elements of another multiset.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count = self.count.wrapping_add(other.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(key: Key, elements: &[u64]) -> Multiset {
        let mut set = Multiset::default();
        elements.iter().for_each(|element| set.add(key.hash(element)));
        set
    }

    #[test]
    fn order_does_not_matter_and_number_does() {
        let key = Key::random();
        assert_eq!(sum(key, &[1, 2, 3, 3]), sum(key, &[3, 1, 3, 2]));
        assert_ne!(sum(key, &[1, 2, 3]), sum(key, &[1, 2, 3, 3]));
        assert_ne!(sum(key, &[1, 2]), sum(key, &[1, 3]));
        assert_eq!(sum(key, &[]), Multiset::default());
    }

    #[test]
    fn parts_add_up() {
        let key = Key::random();
        let mut parts = sum(key, &[1, 2]);
        parts.merge(&sum(key, &[3]));
        assert_eq!(parts, sum(key, &[3, 2, 1]));
    }
}
