//! Metadata that is lost with its block, made anew from what says the same.
//!
//! | lost | made from |
//! |---|---|
//! | free space, clusters, inode index, bad ranges of a group | what is in memory |
//! | reverse map | the extent maps of all files |
//! | reference counts | the reverse map |
//! | extent map of a file | the reverse map |
//! | entries, attributes, values, inodes | nothing: that file is hit |
//!
//! A tree is made anew as a whole. Its old nodes are found by what each block in use says of itself.

use super::notice::Round;
use crate::core::{Core, lock};
use crate::error::{Error, Result};
use crate::fork::{edit_tree, fork_mut, inline_room, set_inline};
use crate::map::overlapping;
use crate::space::{Places, verified_node};
use crate::trees::TreeName;
use paxfs_format::extent::Extent;
use paxfs_format::fork::ForkFault;
use paxfs_format::geometry::MAX_FILE_BLOCKS;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::header::Header;
use paxfs_format::inode::{FileType, ForkFormat, Inode, Which};
use paxfs_format::node::Node;
use paxfs_format::record::Key;
use paxfs_format::superblock::ReadOnlyCompatible;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromZeros, IntoBytes};

/// The lost blocks, and to which tree each of those belongs of which that was found out.
struct Search<'l> {
    lost: &'l BTreeSet<u64>,
    trees: BTreeMap<u64, TreeName>,
    /// Lost blocks of files that nothing can replace.
    others: BTreeSet<u64>,
    /// Whether there is something whose blocks are not known.
    is_blind: bool,
}

impl Round<'_> {
    /// Makes anew what lost blocks belong to, and the trees that an operation left half changed for want of them.
    ///
    /// # Errors
    ///
    /// Something that the volume needs cannot be made anew.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        let core = self.core;
        let mut broken = core::mem::take(&mut *lock(&core.media.torn));
        if self.lost.is_empty() && broken.is_empty() {
            return Ok(());
        }
        let rebuilt = self.rebuild_with(&mut broken);
        rebuilt.inspect_err(|_| broken.into_iter().for_each(|tree| core.media.tear(tree)))
    }

    /// Makes anew what lost blocks belong to, and all that is in `broken`.
    fn rebuild_with(&mut self, broken: &mut BTreeSet<TreeName>) -> Result<()> {
        let core = self.core;
        let lost = core::mem::take(&mut self.lost);
        let mut search =
            Search { lost: &lost, trees: BTreeMap::new(), others: BTreeSet::new(), is_blind: false };
        for group in core.volume.geometry.group_numbers() {
            for which in GroupTree::ALL {
                let root = *core.group(group)?.header.root(which);
                let header = Header::new(which.kind(), 0, group.into(), 0);
                if search.leads_to(core, TreeName::Group(group, which), &root, &header) {
                    broken.insert(TreeName::Group(group, which));
                }
            }
        }
        // Files, too, unless all is found.
        if search.trees.len() < lost.len() {
            core.each_inode(|inode| {
                let Ok(inode) = inode else {
                    search.is_blind = true;
                    return Ok(());
                };
                let number = inode.header.place.get();
                if search.is_extent_map_hit(core, &inode) {
                    broken.insert(TreeName::Fork(number, Which::Data));
                }
                if search.is_rest_hit(core, &inode) {
                    self.tell_metadata(number);
                }
                Ok(())
            })?;
        }
        // What failed meanwhile was not seen.
        self.check_steady()?;
        let mut old = self.nodes_of(broken)?;
        for (block, tree) in &search.trees {
            old.entry(*tree).or_default().push(*block);
        }
        // What nothing leads to was below a node that is lost, too.
        let found = |block: &u64| search.trees.contains_key(block) || search.others.contains(block);
        let is_all_seen = search.others.is_empty() && !search.is_blind;
        let rest = lost.iter().filter(|block| !found(block)).copied().filter(|_| is_all_seen);
        self.check_steady()?;
        for block in old.into_values().flatten().chain(rest) {
            core.free_page(block)?;
        }
        self.rebuild_trees(broken)
    }

    fn rebuild_trees(&self, broken: &BTreeSet<TreeName>) -> Result<()> {
        let core = self.core;
        for tree in broken {
            match tree {
                TreeName::Group(_, GroupTree::Refcount) | TreeName::Fork(..) => {}
                TreeName::Group(group, GroupTree::Rmap) => {
                    let records = core.reverse_map(*group)?;
                    core.group(*group)?.say_rmap(records);
                }
                TreeName::Group(group, which) => core.group(*group)?.say_again(*which),
            }
        }
        core.settle(&self.joined.context)?;
        for tree in broken {
            match tree {
                TreeName::Group(group, GroupTree::Refcount) => self.rebuild_refcounts(*group)?,
                TreeName::Group(..) => {}
                TreeName::Fork(inode, _) => self.rebuild_extents(*inode)?,
            }
        }
        Ok(())
    }

    /// The nodes of trees, by what the blocks in use of all clusters say of themselves.
    fn nodes_of(&self, trees: &BTreeSet<TreeName>) -> Result<BTreeMap<TreeName, Vec<u64>>> {
        let core = self.core;
        let mut nodes: BTreeMap<TreeName, Vec<u64>> = BTreeMap::new();
        for group in core.volume.geometry.group_numbers() {
            let used = core.group(group)?.used_metadata(0, u32::MAX);
            for block in used.into_iter().map(|block| core.volume.geometry.volume_block(group, block)) {
                // SAFETY: the gate is held alone, so nobody else touches any page.
                #[allow(unsafe_code)]
                let bytes = unsafe { core.pages().peek(block) };
                let header = bytes.as_ref().and_then(|bytes| Header::of(bytes));
                let tree = header.filter(|header| header.place.get() == block).and_then(TreeName::of);
                if let Some(tree) = tree.filter(|tree| trees.contains(tree)) {
                    nodes.entry(tree).or_default().push(block);
                }
            }
        }
        Ok(nodes)
    }

    /// Counts a group's owners anew, and frees what was to be freed when the counts could not be read.
    fn rebuild_refcounts(&self, group: u32) -> Result<()> {
        let core = self.core;
        let context = &self.joined.context;
        let runs = core.group(group)?.data_runs(core.pages(), context)?;
        let needed = core.group(group)?.needed_for_counts(runs.len());
        core.stock(group, needed, context)?;
        let mut group = core.group(group)?;
        group.count_anew(core.pages(), context, &runs)?;
        let mut unreleased = Places::default();
        let number = group.number;
        lock(&core.media.unreleased).retain(|(of, start, length)| {
            if *of == number {
                unreleased.cover(*start, *length);
            }
            *of != number
        });
        Ok(group.release_late(unreleased, &runs)?)
    }

    /// Makes the extent map of a file anew.
    fn rebuild_extents(&self, number: u64) -> Result<()> {
        let core = self.core;
        let geometry = &core.volume.geometry;
        let mut extents: Vec<Extent> = Vec::new();
        for group in geometry.group_numbers() {
            core.group(group)?.each_owned(number, core.pages(), &self.joined.context, |record| {
                extents.push(Extent {
                    offset: record.offset,
                    start: geometry.volume_block(group, record.start.get()).into(),
                    length: record.length,
                    flags: record.flags,
                });
            })?;
        }
        extents.sort_by_key(|extent| extent.offset.get());
        let cell = core.inode(number)?;
        let mut state = cell.write();
        let mut inode = state.inode;
        let inode = &mut inode;
        set_inline(inode, Which::Data, &[]);
        inode.data.format = ForkFormat::EMPTY;
        inode.data.tree = TreeRoot::new_zeroed();
        if size_of_val(extents.as_slice()) <= inline_room(inode, Which::Data) {
            set_inline(inode, Which::Data, extents.as_bytes());
            inode.data.format = if extents.is_empty() { ForkFormat::EMPTY } else { ForkFormat::INLINE };
        } else {
            edit_tree::<Extent>(core, self.joined, inode, Which::Data, |tree| {
                tree.splice(Key::MIN..=Key::MAX, &extents)
            })?;
        }
        fork_mut(inode, Which::Data).count = (extents.len() as u64).into();
        state.inode = *inode;
        core.inodes.set_dirty(&cell, &mut state);
        Ok(())
    }
}

impl Search<'_> {
    /// Whether a tree has lost nodes, as far as branch nodes tell.
    fn leads_to(&mut self, core: &Core, tree: TreeName, root: &TreeRoot, header: &Header) -> bool {
        let top = root.height.get().checked_sub(1);
        let mut todo: Vec<(u64, u32)> = top.map(|top| (root.block.get(), top)).into_iter().collect();
        let mut is_hit = false;
        while let Some((block, level)) = todo.pop() {
            if self.lost.contains(&block) {
                self.trees.insert(block, tree);
                is_hit = true;
                continue;
            }
            let Some(below) = level.checked_sub(1) else { continue };
            let expected = Header { level: u16::try_from(level).unwrap_or(u16::MAX).into(), ..*header };
            match verified_node(core.pages(), block, &expected).and_then(Node::branches) {
                Some(branches) => todo.extend(branches.iter().map(|branch| (branch.child.get(), below))),
                None => is_hit = true,
            }
        }
        is_hit
    }

    fn is_extent_map_hit(&mut self, core: &Core, inode: &Inode) -> bool {
        let is_tree = inode.file_type() == Some(FileType::Regular) && inode.data.format == ForkFormat::TREE;
        if !is_tree || !core.volume.superblock.has(ReadOnlyCompatible::RMAP) {
            return false;
        }
        let number = inode.header.place.get();
        let header = Header::new(Which::Data.node_kind(inode.file_type()), 0, number, 0);
        self.leads_to(core, TreeName::Fork(number, Which::Data), &inode.data.tree, &header)
    }

    /// Whether something of an inode is lost that nothing else tells.
    fn is_rest_hit(&mut self, core: &Core, inode: &Inode) -> bool {
        let mut faults: Vec<ForkFault> = Vec::new();
        match inode.file_type() {
            Some(FileType::Directory) => {
                faults
                    .extend(core.volume.bodies(inode, Which::Data, 0).filter_map(core::result::Result::err));
            }
            Some(FileType::Symlink) => faults.extend(core.volume.target(inode).err()),
            // Without a reverse map nothing tells the extents either.
            Some(FileType::Regular) if !core.volume.superblock.has(ReadOnlyCompatible::RMAP) => {
                faults.extend(core.volume.extents(inode).filter_map(core::result::Result::err));
            }
            _ => {}
        }
        for entry in core.volume.attributes(inode) {
            faults.extend(entry.and_then(|entry| core.volume.attribute_value(inode, &entry)).err());
        }
        let lost = faults.iter().filter_map(block_of).filter(|block| self.lost.contains(block));
        let before = self.others.len();
        self.others.extend(lost);
        self.is_blind |= !faults.is_empty();
        self.others.len() > before
    }
}

/// The block that could not be read.
fn block_of(fault: &ForkFault) -> Option<u64> {
    match fault {
        ForkFault::Tree(error) => Some(error.block),
        ForkFault::Block { block, .. } => Some(*block),
        _ => None,
    }
}

impl Core {
    /// The reverse map of a group as the extent maps of all files have it.
    fn reverse_map(&self, group: u32) -> Result<Vec<paxfs_format::rmap::Rmap>> {
        let mut records = self.group(group)?.roles(&self.context());
        // All of them, or none is made.
        self.each_inode(|inode| {
            let inode = inode?;
            let owner = inode.header.place.get();
            if inode.file_type() != Some(FileType::Regular) {
                return Ok(());
            }
            for extent in overlapping(self, &inode, &(0..MAX_FILE_BLOCKS))? {
                let place = self.volume.geometry.locate(extent.start.get());
                let place =
                    place.ok_or_else(|| Error::damaged(format_args!("inode {owner}"), "an extent"))?;
                if place.group == group {
                    records.push(crate::map::rmap_of(&extent, owner, place.block));
                }
            }
            Ok(())
        })?;
        Ok(records)
    }
}
