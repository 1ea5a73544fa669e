//! The trees of a group follow what is in memory: once for each commit, in order.

use super::{Context, Group, SpaceError};
use crate::edit::{Nodes, TreeMut};
use crate::pages::Pages;
use core::ops::Range;
use paxfs_format::bad::Bad;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::header::{Expected, Header};
use paxfs_format::node::Node;
use paxfs_format::record::{Key, Record};
use paxfs_format::tree::Tree;
use paxfs_format::units::{Bits64, Reserved};
use zerocopy::FromBytes;

/// Nodes of one of a group's trees, or of an inode's trees that lie in the group.
pub(crate) struct GroupNodes<'g> {
    group: &'g mut Group,
    pages: &'g Pages,
    context: &'g Context,
    tree: GroupTree,
}

impl<'g> GroupNodes<'g> {
    pub(crate) fn new(group: &'g mut Group, pages: &'g Pages, context: &'g Context, tree: GroupTree) -> Self {
        GroupNodes { group, pages, context, tree }
    }
}

impl Nodes for GroupNodes<'_> {
    type Error = SpaceError;

    fn node(&self, block: u64, header: &Header) -> Result<&Node, SpaceError> {
        verified_node(self.pages, block, header).ok_or_else(|| self.broken(block))
    }

    #[allow(unsafe_code)]
    fn node_mut(&mut self, block: u64, bytes: Range<usize>) -> Result<&mut Node, SpaceError> {
        // SAFETY: `group` is borrowed alone, and with it all nodes of its trees.
        let page = unsafe { self.pages.page_mut_in(block, bytes) };
        Node::mut_from_bytes(page).map_err(|_| SpaceError::Full)
    }

    fn reserve(&mut self, blocks: u32) -> Result<(), SpaceError> {
        let stock = u32::try_from(self.group.stock.len()).unwrap_or(u32::MAX);
        self.group.reserve_metadata(blocks.saturating_sub(stock), self.context)
    }

    fn allocate(&mut self) -> Result<u64, SpaceError> {
        match self.group.allocate_metadata(1, self.context) {
            Ok(block) => {
                self.group.new_page(self.pages, self.context, block);
                Ok(self.context.geometry.volume_block(self.group.number, block))
            }
            Err(error) => self.group.stock.pop().ok_or(error),
        }
    }

    fn free(&mut self, block: u64) -> Result<(), SpaceError> {
        match self.context.geometry.locate(block) {
            Some(place) if place.group == self.group.number => self.group.free_metadata(place.block)?,
            Some(_) => self.group.foreign.push(block),
            None => return Err(self.broken(block)),
        }
        self.pages.forget(block);
        Ok(())
    }

    fn broken(&self, block: u64) -> SpaceError {
        let (group, tree) = (self.group.number, self.tree.name());
        match self.pages.failed(block) {
            true => SpaceError::Lost { group, tree, block },
            false => SpaceError::Broken { group, tree, block },
        }
    }
}

/// A node whose checksum fitted when it was read and that says of itself what it must.
pub(crate) fn verified_node<'p>(pages: &'p Pages, block: u64, header: &Header) -> Option<&'p Node> {
    let expected = Expected { kind: header.kind, place: block, owner: header.owner.get() };
    let bytes = pages.block(block).ok()?;
    let node = Node::of(bytes).filter(|_| pages.verified(block))?;
    let fits = expected.check(&node.header).is_ok() && node.header.level == header.level;
    fits.then_some(node)
}

impl Group {
    /// Brings the group's trees and header to what is in memory. Afterwards all of the transaction is in pages and in
    /// `header`.
    pub fn settle(&mut self, pages: &Pages, context: &Context) -> Result<(), SpaceError> {
        self.remove_empty_chunks(pages, context)?;
        self.balance_clusters(context)?;
        // Each round may take nodes for its tree, and so change clusters, and rarely free space and reverse map again.
        while self.follow_space(pages, context)?
            || self.follow_chunks(pages, context)?
            || self.follow_clusters(pages, context)?
        {}
        self.header.free_blocks = self.free.blocks().into();
        self.header.cluster_free = u64::from(self.clusters.free_blocks()).into();
        Ok(())
    }

    /// The reverse map, the free-space tree and that of bad ranges; says whether there was anything to do.
    fn follow_space(&mut self, pages: &Pages, context: &Context) -> Result<bool, SpaceError> {
        let rmap = self.rmap_log.take();
        let free = self.free_log.take();
        let bad = self.bad_log.take();
        if rmap.is_empty() && free.is_empty() && bad.is_empty() {
            return Ok(false);
        }
        if context.rmap {
            self.follow(GroupTree::Rmap, pages, context, &rmap)?;
        }
        let record = |start: u32| {
            self.free.starting_at(start).map(|length| Free { start: start.into(), length: length.into() })
        };
        let free: Vec<(Key, Option<Free>)> =
            free.into_iter().map(|(start, ())| (Key::at(start.into()), record(start))).collect();
        self.follow(GroupTree::Free, pages, context, &free)?;
        let record = |start: u32| {
            self.bad.starting_at(start).map(|length| Bad { start: start.into(), length: length.into() })
        };
        let bad: Vec<(Key, Option<Bad>)> =
            bad.into_iter().map(|(start, ())| (Key::at(start.into()), record(start))).collect();
        self.follow(GroupTree::Bad, pages, context, &bad)?;
        Ok(true)
    }

    /// The inode index; says whether there was anything to do.
    fn follow_chunks(&mut self, pages: &Pages, context: &Context) -> Result<bool, SpaceError> {
        let record = |start: u32| {
            self.chunks.get(&start).map(|chunk| chunk::Chunk {
                start: start.into(),
                reserved: Reserved::ZERO,
                used: Bits64::new(chunk.used),
                orphans: Bits64::new(chunk.orphans),
            })
        };
        let log = core::mem::take(&mut self.chunk_log).into_iter();
        let log: Vec<(Key, Option<chunk::Chunk>)> =
            log.map(|start| (Key::at(start.into()), record(start))).collect();
        self.follow(GroupTree::Inodes, pages, context, &log)?;
        Ok(!log.is_empty())
    }

    /// The cluster tree; says whether there was anything to do.
    fn follow_clusters(&mut self, pages: &Pages, context: &Context) -> Result<bool, SpaceError> {
        let log = self.clusters.take_changed().into_iter();
        let log: Vec<_> = log.map(|(start, record)| (Key::at(start.into()), record)).collect();
        self.follow(GroupTree::Clusters, pages, context, &log)?;
        Ok(!log.is_empty())
    }

    /// Makes one tree hold each record of `log`, or none with its key. `log` is ascending.
    fn follow<R: Record>(
        &mut self,
        which: GroupTree,
        pages: &Pages,
        context: &Context,
        mut log: &[(Key, Option<R>)],
    ) -> Result<(), SpaceError> {
        if log.is_empty() {
            return Ok(());
        }
        // What goes in together may need nodes anew while the old ones are still there.
        let nodes = u64::from(self.header.root(which).nodes.get()).min(log.len() as u64);
        let room = self.has_room_beside(nodes, log.len(), context);
        let most = if room { usize::MAX } else { 1 };
        while let Some((&(first, _), _)) = log.split_first() {
            let (last, records) = self.merge(which, pages, context, &mut log, most)?;
            let root = *self.header.root(which);
            let owner = self.number.into();
            let mut nodes = GroupNodes::new(self, pages, context, which);
            let mut tree = TreeMut::new(which.kind(), owner, context.generation, root, &mut nodes);
            tree.splice(first..=last, &records)?;
            *self.header.root_mut(which) = tree.root();
        }
        Ok(())
    }

    /// Whether so many nodes of a tree can be made anew, with so many more records, while the old ones are still there.
    pub(super) fn has_room_beside(&mut self, nodes: u64, records: usize, context: &Context) -> bool {
        let blocks = nodes + records as u64 / 32;
        self.missing(blocks, context) == 0
    }

    /// Takes from the start of `log` at most so many words that go into a tree as one splice, because few records lie
    /// between. Returns the last of its keys, and what is to be in the tree from the first to that.
    fn merge<R: Record>(
        &self,
        which: GroupTree,
        pages: &Pages,
        context: &Context,
        log: &mut &[(Key, Option<R>)],
        most: usize,
    ) -> Result<(Key, Vec<R>), SpaceError> {
        /// Records between two words that make it worth another splice.
        const BETWEEN: usize = 8;
        let Some(((first, record), rest)) = log.split_first() else { return Ok((Key::MIN, Vec::new())) };
        let mut records: Vec<R> = record.iter().copied().collect();
        // The last key that was said, and how many records there were then.
        let (mut last, mut said) = (*first, records.len());
        *log = rest;
        let tree: Tree<R> = self.tree(which, context);
        if rest.is_empty() || most == 1 {
            return Ok((last, records));
        }
        let mut there = tree.range(pages, *first);
        while !log.is_empty() {
            let found = there.next().transpose();
            let found = found.map_err(|error| SpaceError::node(self.number, which, &error))?;
            let found = found.map(|at| at.record);
            let key = found.as_ref().map(Record::key);
            while let Some(((next, record), rest)) = log.split_first()
                && key.is_none_or(|key| *next <= key)
            {
                records.extend(*record);
                (last, said, *log) = (*next, records.len(), rest);
            }
            // What was said of its key counts.
            if let Some(found) = found.filter(|_| key > Some(last)) {
                if records.len() - said == BETWEEN {
                    break;
                }
                records.push(found);
            }
        }
        records.truncate(said);
        Ok((last, records))
    }
}
