//! Entries of a fork packed into as few bodies as they fit, in the order of their cookies. Pure.

use crate::entry::{BODY_SIZE, Head, entry_size, push_entry};

/// Entries in the order of their cookies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// All of them, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each body but the first begins, and the lowest cookie in it.
    pub cuts: Vec<(usize, u64)>,
    /// How many.
    pub count: u64,
}

impl Packed {
    /// Adds an entry. Its cookie must be above those before it.
    pub fn push<H: Head>(&mut self, head: &H, name: &[u8], value: &[u8]) {
        let begin = self.cuts.last().map_or(0, |cut| cut.0);
        let size = entry_size(size_of::<H>(), name.len(), value.len());
        if self.bytes.len() + size - begin > BODY_SIZE {
            self.cuts.push((self.bytes.len(), head.cookie()));
        }
        push_entry(&mut self.bytes, head, name, value);
        self.count += 1;
    }

    /// Bodies it fills.
    pub fn bodies(&self) -> usize {
        if self.bytes.is_empty() { 0 } else { self.cuts.len() + 1 }
    }

    /// The bodies, each with the lowest cookie that belongs in it.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = core::iter::once((0, 0)).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().map(|cut| cut.0).chain([self.bytes.len()]);
        starts.zip(ends).filter_map(|((start, cookie), end)| Some((cookie, self.bytes.get(start..end)?)))
    }
}
