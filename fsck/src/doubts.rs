//! What could not be read, and so what each side of a comparison does not know.
//!
//! Whatever is stored twice is compared, and of each of its two sides a part may be unreadable. The rule is one for all
//! of them: **what is on one side alone is wrong only where the other side is known.** So each side keeps the range of
//! what it does not know, as narrow as what is left of its structure tells:
//!
//! | side | is not known |
//! |---|---|
//! | records of a tree | those between two keys, with ends up to a limit ([`Missing`]): so says the branch above a lost node, or the sound records around those in doubt |
//! | extents of a file | those file blocks; all of them when its inode cannot be used |
//! | entries of a directory | those between two cookies |
//! | parent pointers of an inode | all of them |
//! | owners of a block | when neither the reverse map there nor all extents and clusters are known ([`Check::unknown_owners`]) |
//! | metadata in use | any block that is not plainly empty, when a pointer may be lost ([`Check::may_be_in_use`]) |
//!
//! What is known of owners is a lower bound then: there may be more owners, never fewer.

use crate::context::{Check, Group, locked};
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::CHUNK_BLOCKS;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Header, MAGIC};
use paxfs_format::record::{Key, Record};
use paxfs_format::tree::Missing;
use paxfs_format::words::counted;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What could not be read, but for the trees of space, of which each group knows.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Inodes that cannot be used.
    pub inodes: Mutex<Vec<u64>>,
    /// Ranges of file blocks of inodes whose extents are not known: (inode, range).
    pub extents: Mutex<Vec<(u64, Range<u64>)>>,
    /// Cookies of directories whose entries are not known: (directory, lowest, highest).
    pub entries: Mutex<Vec<(u64, u64, u64)>>,
    /// Inodes whose parent pointers are not all known.
    pub pointers: Mutex<Vec<u64>>,
    /// Extents are in doubt: blocks may belong to files that nobody claims.
    pub claims: AtomicBool,
    /// Metadata blocks may be in use that nothing leads to.
    pub blocks: AtomicBool,
    /// Too much is in doubt to be listed.
    pub overflow: AtomicBool,
}

/// Most things of one kind in [`Doubts`].
const MAX_DOUBTS: usize = 1 << 18;

impl Doubts {
    /// Notes one, unless there are too many.
    pub fn note<T>(&self, list: &Mutex<Vec<T>>, doubt: T) {
        let mut list = locked(list);
        if list.len() < MAX_DOUBTS {
            list.push(doubt);
        } else {
            self.overflow.store(true, Ordering::Relaxed);
        }
    }
}

/// Finds out what records in doubt leave unknown: all between those before and behind them that are sound.
#[derive(Debug)]
pub(crate) struct Between {
    last: Key,
    open: bool,
}

impl Between {
    /// At a tree's begin.
    pub fn new() -> Self {
        Between { last: Key::MIN, open: false }
    }

    /// A sound record; gives what is not known before it.
    #[inline]
    pub fn sound<R: Record>(&mut self, record: &R) -> Option<Missing> {
        let key = record.key();
        let low = core::mem::replace(&mut self.last, key);
        let high = if R::OVERLAPS { u64::MAX } else { key.start };
        core::mem::take(&mut self.open).then_some(Missing { low, bound: key, high })
    }

    /// A record in doubt.
    pub fn doubtful(&mut self) {
        self.open = true;
    }

    /// No more records; gives what is not known behind the last.
    pub fn end(self) -> Option<Missing> {
        self.open.then_some(Missing { low: self.last, ..Missing::ANY })
    }
}

impl<'c> Check<'c> {
    /// Whether all extents of all files are known.
    pub fn knows_all_extents(&self) -> bool {
        let doubts = &self.doubts;
        let lost = self.groups.iter().any(|group| {
            let index = group.index.get();
            index.is_none_or(|index| index.clusters_lost || !index.chunks_lost.is_empty())
        });
        !lost
            && !doubts.claims.load(Ordering::Relaxed)
            && locked(&self.clashes).is_empty()
            && locked(&doubts.inodes).is_empty()
            && locked(&doubts.extents).is_empty()
    }

    /// Whether an inode may be in use without being known.
    pub fn is_unknown(&self, inode: u64, damaged: &[u64]) -> bool {
        if damaged.binary_search(&inode).is_ok() {
            return true;
        }
        let Some(place) = self.volume.geometry.locate(inode / INODES_PER_BLOCK) else { return false };
        let Some(group) = self.group(place.group) else { return true };
        match group.index.get() {
            Some(index) => {
                index.chunks_lost.iter().any(|lost| lost.contains(&place.block))
                    || locked(&group.hidden).iter().any(|hidden| hidden.contains(&place.block))
            }
            None => true,
        }
    }

    /// Blocks of a group whose owners are not all known: the reverse map cannot be read there, or there is none, and
    /// somebody who may own them cannot be read either.
    pub fn unknown_owners(&self, group: &Group) -> Vec<Range<u64>> {
        if self.knows_all_extents() {
            return Vec::new();
        }
        if !self.rmap() {
            return vec![Missing::ANY.positions()];
        }
        locked(&group.missing.rmap).iter().map(Missing::positions).collect()
    }

    /// Whether something that cannot be read may use a block of metadata that nothing was found to use. It does not when
    /// all of the block is zeros, unless the block is one of inodes that were never used: then some next to it were.
    pub fn may_be_in_use(&self, block: u64) -> bool {
        let blocks = &self.volume.blocks;
        let Ok(bytes) = blocks.block(block) else { return true };
        if blocks.failed(block) || bytes.iter().any(|&byte| byte != 0) {
            return true;
        }
        let chunk = block - block % u64::from(CHUNK_BLOCKS);
        (chunk..chunk.saturating_add(CHUNK_BLOCKS.into())).any(|block| {
            let header = blocks.block(block).ok().and_then(|bytes| Header::of(bytes));
            header.is_some_and(|header| header.magic == MAGIC && header.kind == BlockKind::INODE)
        })
    }

    /// What could not be compared, in words.
    pub fn unchecked(&self) -> Vec<String> {
        let doubts = &self.doubts;
        let mut unchecked = Vec::new();
        let rmap = self.groups.iter().map(|group| locked(&group.missing.rmap).len()).sum();
        let lists: [(usize, &str, &str); 5] = [
            (locked(&doubts.inodes).len(), "inode", "that cannot be used: names and contents"),
            (
                locked(&doubts.extents).len(),
                "part",
                "of extent maps that cannot be read: whether the reverse map fits",
            ),
            (rmap, "part", "of reverse maps that cannot be read: whether the extents fit"),
            (
                locked(&doubts.entries).len(),
                "part",
                "of directories that cannot be read: whether parent pointers fit",
            ),
            (
                locked(&doubts.pointers).len(),
                "inode",
                "of which not all parent pointers can be read: names and links",
            ),
        ];
        for (count, thing, what) in lists {
            if count > 0 {
                unchecked.push(format!("{} {what}", counted(count, thing)));
            }
        }
        if doubts.blocks.load(Ordering::Relaxed) {
            unchecked.push("whether all blocks marked in use as metadata are in use".to_owned());
        }
        if doubts.overflow.load(Ordering::Relaxed) {
            unchecked.push("more than can be listed: some findings may follow from others".to_owned());
        }
        unchecked
    }
}
