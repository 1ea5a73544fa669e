//! Files with several names: their inode is stored when the last of them was met, for it holds a parent pointer for each.
//! Only files with a link count above one are remembered, and only until then.

use super::scan::{Entry, Id};
use crate::builder::{Builder, Contents};
use crate::entries::Attribute;
use crate::error::Error;
use crate::inode::Meta;
use std::collections::HashMap;

/// What is to be stored when all names are known.
#[derive(Debug)]
pub(super) struct Pending {
    pub meta: Meta,
    pub contents: Contents,
    pub attributes: Vec<Attribute>,
}

#[derive(Debug)]
struct Linked {
    number: u64,
    /// Names the source says it has; those outside of the directory are never met.
    expected: u32,
    parents: Vec<Attribute>,
    pending: Option<Box<Pending>>,
}

/// The files with several names that are not complete yet.
#[derive(Debug, Default)]
pub(super) struct Links {
    files: HashMap<Id, Linked>,
    complete: Vec<Id>,
}

impl Links {
    /// Notes a name. Returns the inode's number, and whether the name is its first: then `new` gave the number.
    pub(super) fn name(
        &mut self,
        entry: &Entry,
        parent: Attribute,
        new: impl FnOnce() -> Result<u64, Error>,
    ) -> Result<(u64, bool), Error> {
        let (first, linked) = match self.files.entry(entry.id) {
            std::collections::hash_map::Entry::Occupied(known) => (false, known.into_mut()),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let linked =
                    Linked { number: new()?, expected: entry.links, parents: Vec::new(), pending: None };
                (true, unknown.insert(linked))
            }
        };
        linked.parents.push(parent);
        if usize::try_from(linked.expected).is_ok_and(|expected| linked.parents.len() == expected) {
            self.complete.push(entry.id);
        }
        Ok((linked.number, first))
    }

    /// Keeps what the first name brought.
    pub(super) fn keep(&mut self, id: Id, pending: Pending) {
        if let Some(linked) = self.files.get_mut(&id) {
            linked.pending = Some(Box::new(pending));
        }
    }

    /// Stores those whose names were all met.
    pub(super) fn store_complete(&mut self, builder: &mut Builder<'_>) -> Result<(), Error> {
        for id in core::mem::take(&mut self.complete) {
            if let Some(linked) = self.files.remove(&id) {
                linked.store(builder)?;
            }
        }
        Ok(())
    }

    /// Stores all others, in the order of their numbers.
    pub(super) fn store_rest(self, builder: &mut Builder<'_>) -> Result<(), Error> {
        let mut rest: Vec<Linked> = self.files.into_values().collect();
        rest.sort_unstable_by_key(|linked| linked.number);
        rest.into_iter().try_for_each(|linked| linked.store(builder))
    }
}

impl Linked {
    fn store(self, builder: &mut Builder<'_>) -> Result<(), Error> {
        let Some(pending) = self.pending else { return Ok(()) };
        let links = u32::try_from(self.parents.len()).unwrap_or(u32::MAX);
        let attributes = pending.attributes.into_iter().chain(self.parents).collect();
        builder.store(self.number, &pending.meta, links, pending.contents, attributes)
    }
}
