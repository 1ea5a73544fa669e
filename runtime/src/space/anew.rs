//! Trees of a group that are made anew, because a part of them is lost: from what is in memory, or from the reverse map.

use super::settle::GroupNodes;
use super::{Context, Group, Places, SpaceError, overlaid};
use crate::edit::TreeMut;
use crate::pages::Pages;
use paxfs_format::geometry::{HEAD_BLOCKS, INODES_PER_BLOCK};
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::record::Key;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::{ExtentFlags, Owner, Rmap};
use zerocopy::FromZeros;

impl Group {
    /// Empties a tree whose records are in memory, and says all of them again. Its old nodes are the caller's to free.
    pub fn say_again(&mut self, tree: GroupTree) {
        *self.header.root_mut(tree) = TreeRoot::new_zeroed();
        self.changed = true;
        match tree {
            GroupTree::Free => self.free.iter().for_each(|(start, _)| self.free_log.say(start, ())),
            GroupTree::Bad => self.bad.iter().for_each(|(start, _)| self.bad_log.say(start, ())),
            GroupTree::Inodes => self.chunk_log.extend(self.chunks.keys()),
            GroupTree::Clusters => self.clusters.say_again(),
            // These are not in memory.
            GroupTree::Rmap | GroupTree::Refcount => {}
        }
    }

    /// Empties the reverse map and says what it is to be.
    pub fn say_rmap(&mut self, records: Vec<Rmap>) {
        self.say_again(GroupTree::Rmap);
        drop(self.rmap_log.take());
        records.into_iter().for_each(|record| self.log_rmap(record, true));
    }

    /// The records of the reverse map for all that is not file data.
    pub fn roles(&self, context: &Context) -> Vec<Rmap> {
        let geometry = &context.geometry;
        let head = (0, super::block_u32(HEAD_BLOCKS), Owner::HEAD);
        let journal = geometry.journal();
        let journal = (self.number == 0).then(|| {
            let length = journal.end.saturating_sub(journal.start);
            (super::block_u32(journal.start), super::block_u32(length), Owner::JOURNAL)
        });
        let clusters =
            self.clusters.runs().into_iter().map(|(start, length)| (start, length, Owner::CLUSTER));
        let record = |(start, length, owner): (u32, u32, Owner)| Rmap {
            start: start.into(),
            length: length.into(),
            owner,
            offset: 0.into(),
            flags: ExtentFlags::new(0),
        };
        core::iter::once(head).chain(journal).chain(clusters).map(record).collect()
    }

    /// Shows each record of the reverse map that is of an inode. All is settled.
    pub fn each_owned(
        &self,
        inode: u64,
        pages: &Pages,
        context: &Context,
        mut see: impl FnMut(&Rmap),
    ) -> Result<(), SpaceError> {
        self.each::<Rmap>(GroupTree::Rmap, pages, context, |record| {
            if record.owner.get() == inode {
                see(record);
            }
            true
        })
    }

    /// Start and length of each record of file data in the reverse map. All is settled.
    pub fn data_runs(&self, pages: &Pages, context: &Context) -> Result<Vec<(u32, u32)>, SpaceError> {
        let mut runs = Vec::new();
        self.each::<Rmap>(GroupTree::Rmap, pages, context, |record| {
            if record.owner.is_inode() {
                runs.push((record.start.get(), record.length.get()));
            }
            true
        })?;
        Ok(runs)
    }

    /// Nodes that counting so many records of file data can need.
    pub fn needed_for_counts(&self, records: usize) -> u64 {
        records as u64 / 64 + 4
    }

    /// Puts the counts of these runs, one for each owner, in the place of the refcount tree, whose old nodes are the caller's
    /// to free.
    pub fn count_anew(
        &mut self,
        pages: &Pages,
        context: &Context,
        runs: &[(u32, u32)],
    ) -> Result<(), SpaceError> {
        let counted = overlaid(runs.iter().copied()).into_iter().filter(|run| run.count > 1);
        let records: Vec<Refcount> = counted
            .map(|run| Refcount {
                start: run.start.into(),
                length: run.length.into(),
                count: run.count.into(),
            })
            .collect();
        self.say_again(GroupTree::Refcount);
        let (root, owner) = (TreeRoot::new_zeroed(), self.number.into());
        let mut nodes = GroupNodes::new(self, pages, context, GroupTree::Refcount);
        let mut tree = TreeMut::new(GroupTree::Refcount.kind(), owner, context.generation, root, &mut nodes);
        tree.splice(Key::MIN..=Key::MAX, &records)?;
        let root = tree.root();
        *self.header.root_mut(GroupTree::Refcount) = root;
        Ok(())
    }

    /// Takes an owner from blocks of data whose counts could not be read then, and are right now: frees those that are in
    /// none of the runs that somebody owns.
    pub fn release_late(&mut self, mut places: Places, owned: &[(u32, u32)]) -> Result<(), SpaceError> {
        // Whose they were on the medium is not known any more.
        places.iter().for_each(|(start, length)| self.loosened.cover(start, length));
        owned.iter().for_each(|(start, length)| places.uncover(*start, *length));
        self.free.iter().for_each(|(start, length)| places.uncover(start, length));
        places.iter().try_for_each(|(start, length)| self.release(start, length))
    }

    /// The blocks of a run that are in clusters and in use.
    pub fn used_metadata(&self, start: u32, length: u32) -> Vec<u32> {
        self.clusters.used_in(start, length)
    }

    /// Which of a block's slots hold inodes in use, bit i for slot i; `None` when it is no block of a chunk.
    pub fn slots_of(&self, block: u32) -> Option<u8> {
        let (start, chunk) = self.chunks.range(..=block).next_back()?;
        let slots = u64::from(block - start).checked_mul(INODES_PER_BLOCK).filter(|first| *first < 64)?;
        u8::try_from(chunk.used >> slots & 0xff).ok()
    }

    /// Numbers of all inodes in use.
    pub fn inodes(&self, context: &Context) -> Vec<u64> {
        let first =
            |start: u32| context.geometry.volume_block(self.number, start).saturating_mul(INODES_PER_BLOCK);
        let of = |(start, used): (u32, u64)| {
            (0..64)
                .filter(move |slot| used >> slot & 1 != 0)
                .map(move |slot| first(start).saturating_add(slot))
        };
        self.chunks.iter().flat_map(|(start, chunk)| of((*start, chunk.used))).collect()
    }
}
