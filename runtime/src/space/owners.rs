//! Who owns blocks of a group: the reverse map as the running transaction has it.

use super::{Context, Group, SpaceError};
use crate::pages::Pages;
use paxfs_format::group::GroupTree;
use paxfs_format::record::{Key, Record};
use paxfs_format::rmap::Rmap;
use std::collections::BTreeMap;

impl Group {
    /// The records of the reverse map that have some of blocks `start..start + length`; `None` when they are more than
    /// `most`.
    pub fn owners(
        &mut self,
        pages: &Pages,
        context: &Context,
        start: u32,
        length: u32,
        most: usize,
    ) -> Result<Option<Vec<Rmap>>, SpaceError> {
        let end = start.saturating_add(length);
        let overlaps = |record: &Rmap| record.start.get() < end && u64::from(start) < record.end();
        let mut found: BTreeMap<Key, Rmap> = BTreeMap::new();
        let tree = self.tree::<Rmap>(GroupTree::Rmap, context);
        if tree.height > 0 {
            for at in tree.overlapping(pages, start.into()..end.into()) {
                let record =
                    at.map_err(|error| SpaceError::node(self.number, GroupTree::Rmap, &error))?.record;
                found.insert(record.key(), record);
                // The log may take away as many as it has.
                if found.len() > most + self.rmap_log.len() {
                    return Ok(None);
                }
            }
        }
        // What the tree has yet to follow: the last word on a key counts.
        self.looked_through = self.looked_through.saturating_add(self.rmap_log.len() as u64);
        for (key, record) in self.rmap_log.said() {
            match record.filter(|record| overlaps(record)) {
                Some(record) => found.insert(*key, record),
                None => found.remove(key),
            };
        }
        Ok((found.len() <= most).then(|| found.into_values().collect()))
    }
}
