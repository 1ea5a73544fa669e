//! The reverse map as it should be: as it is on the volume, with changes in memory.

use crate::context::{Check, Env, Group, locked};
use crate::extents::ExtentItem;
use crate::trees::{Item, TreeName, walk};
use paxfs_format::group::GroupTree;
use paxfs_format::record::Record;
use paxfs_format::rmap::Rmap;
use std::collections::{HashMap, HashSet};

/// Changes to the reverse maps, in memory: what they should be as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Patch {
    remove: HashSet<(u32, ExtentItem)>,
    add: HashMap<u32, Vec<Rmap>>,
}

impl Patch {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    pub fn remove(&mut self, check: &Check<'_>, item: &ExtentItem) {
        if let Some(place) = check.volume.geometry.locate(item.start) {
            self.remove.insert((place.group, *item));
        }
    }

    pub fn add(&mut self, check: &Check<'_>, item: &ExtentItem) {
        if let Some(place) = check.volume.geometry.locate(item.start) {
            let record = Rmap {
                start: place.block.into(),
                length: item.length.into(),
                owner: item.inode.into(),
                offset: item.offset.into(),
                flags: item.flags.into(),
            };
            self.add.entry(place.group).or_default().push(record);
        }
    }

    pub fn sort(&mut self) {
        self.add.values_mut().for_each(|list| list.sort_unstable_by_key(Record::key));
    }

    pub fn touches(&self, group: u32) -> bool {
        self.add.contains_key(&group) || self.remove.iter().any(|(other, _)| *other == group)
    }
}

/// The reverse map of a group as it should be, in order: as it is, with the patch.
pub(crate) fn records<'c>(check: &'c Check<'c>, group: &Group, patch: &Patch, mut take: impl FnMut(&Rmap)) {
    let Some(header) = group.header else { return };
    let number = group.number;
    let start = check.volume.geometry.group_start(number);
    let mut env = Env::new(check, false);
    let (name, root) = (TreeName::Group(GroupTree::Rmap, number), header.root(GroupTree::Rmap));
    let space = check.volume.geometry.group_space(number);
    let stays = |record: &Rmap| {
        patch.remove.is_empty() || !patch.remove.contains(&(number, ExtentItem::of_rmap(record, start)))
    };
    let mut extra: Vec<Rmap> = patch.add.get(&number).cloned().unwrap_or_default();
    if locked(&group.space).rmap_doubtful {
        // Records out of order may be right all the same: those that no difference is about.
        walk::<Rmap>(&mut env, name, root, |_, item| {
            if let Item::Doubtful(_, record) = item
                && record.check(&space).is_ok()
                && stays(record)
            {
                extra.push(*record);
            }
        });
    }
    extra.sort_unstable_by_key(Record::key);
    let mut extra = extra.into_iter().peekable();
    walk::<Rmap>(&mut env, name, root, |_, item| {
        let Item::Sound(_, record) = item else { return };
        while let Some(before) = extra.next_if(|extra| extra.key() <= record.key()) {
            take(&before);
        }
        if stays(record) {
            take(record);
        }
    });
    extra.for_each(|rest| take(&rest));
}
