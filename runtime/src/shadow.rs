//! Transactions larger than a journal slot: nodes of trees change their place instead of being logged where they are.
//!
//! A changed node goes to a block that nothing on the medium leads to, and so does each node above it; what is logged is
//! the root, in a group header or an inode. Cluster trees stay where they are: they say which blocks are in use, take one
//! small record for hundreds of nodes, and would have to follow themselves.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::inodes::Cell;
use crate::space::{Context, verified_node};
use crate::trees::TreeName;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::header::Header;
use paxfs_format::inode::{ForkFormat, Which};
use paxfs_format::node::{MAX_HEIGHT, Node};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use zerocopy::FromBytes;

/// Trees in which fewer nodes changed than this are logged.
const WORTH: u64 = 4;

impl Core {
    /// Moves changed nodes until what is left to log should fit half a slot. The gate is held alone and all groups are
    /// settled; they are again afterwards. `inodes` are those that the transaction changed.
    pub(crate) fn shadow(&self, inodes: &[Arc<Cell>], context: &Context) -> Result<()> {
        let trees = self.changed_trees();
        // Moving needs blocks, whose clusters may be new: the trees that describe those change first.
        let mut needed: BTreeMap<u32, u64> = BTreeMap::new();
        for (tree, nodes) in &trees {
            let group = self.group_of(*tree);
            *needed.entry(group).or_default() += nodes + nodes / 8 + u64::from(MAX_HEIGHT);
        }
        for (group, blocks) in needed {
            let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
            // What does not fit here goes to the next group that has room.
            let _ = self.group(group)?.reserve_metadata(blocks, context);
        }
        self.settle(context)?;
        for tree in trees.keys() {
            match *tree {
                TreeName::Group(number, which) => {
                    let root = *self.group(number)?.header.root(which);
                    let header =
                        Header::new(which.kind(), root.block.get(), number.into(), context.generation);
                    let block = self.shadow_tree(&root, header, number, context)?;
                    let mut group = self.group(number)?;
                    group.header.root_mut(which).block = block.into();
                    group.changed = true;
                }
                TreeName::Fork(number, which) => self.shadow_fork(number, which, inodes, context)?,
            }
        }
        self.settle(context)
    }

    fn group_of(&self, tree: TreeName) -> u32 {
        match tree {
            TreeName::Group(number, _) => number,
            TreeName::Fork(inode, _) => self.home(inode),
        }
    }

    /// The trees to move, with the number of their nodes that would be logged: those with the most of them, until what is
    /// left fits half a slot.
    fn changed_trees(&self) -> BTreeMap<TreeName, u64> {
        let mut counts: BTreeMap<TreeName, u64> = BTreeMap::new();
        let mut left = 0;
        // SAFETY: a commit holds the gate alone, so nobody else touches any page.
        #[allow(unsafe_code)]
        unsafe {
            self.pages().each_changed(|changed, page| {
                if !changed.fresh {
                    left += BLOCK_BYTES;
                    if let Some(tree) = tree_of(page) {
                        *counts.entry(tree).or_default() += 1;
                    }
                }
            });
        }
        let mut counts: Vec<(TreeName, u64)> =
            counts.into_iter().filter(|(_, count)| *count >= WORTH).collect();
        counts.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        let mut chosen = BTreeMap::new();
        for (tree, count) in counts {
            if left <= self.slot_bytes() / 2 {
                break;
            }
            left = left.saturating_sub(count * BLOCK_BYTES);
            chosen.insert(tree, count);
        }
        chosen
    }

    fn shadow_fork(&self, number: u64, which: Which, inodes: &[Arc<Cell>], context: &Context) -> Result<()> {
        // A tree of an inode changes with its inode.
        let Some(cell) = inodes.iter().find(|cell| cell.number == number) else { return Ok(()) };
        let (root, kind) = {
            let state = cell.read();
            let fork = state.inode.fork(which);
            if fork.format != ForkFormat::TREE {
                return Ok(());
            }
            (fork.tree, which.node_kind(state.inode.file_type()))
        };
        let header = Header::new(kind, root.block.get(), number, context.generation);
        let block = self.shadow_tree(&root, header, self.home(number), context)?;
        crate::fork::fork_mut(&mut cell.write().inode, which).tree.block = block.into();
        self.seal_inode(cell, context.generation);
        Ok(())
    }

    /// Moves the changed nodes of a tree, whose headers are like that one, and those above them; returns the block of the
    /// root.
    fn shadow_tree(&self, root: &TreeRoot, header: Header, near: u32, context: &Context) -> Result<u64> {
        let mut shadowing = Shadowing { core: self, header, near, context, seen: HashSet::new() };
        match root.height.get().checked_sub(1) {
            Some(level) if level < MAX_HEIGHT => shadowing.below(root.block.get(), level),
            _ => Ok(root.block.get()),
        }
    }

    #[allow(unsafe_code, clippy::mut_from_ref)]
    fn node_mut(&self, block: u64) -> Result<&mut Node> {
        // SAFETY: a commit holds the gate alone, so nobody else touches any page, and no borrow outlives its statement.
        let bytes = unsafe { self.pages().page_mut(block) };
        Node::mut_from_bytes(bytes).map_err(|_| Error::damaged(format_args!("block {block}"), "no node"))
    }
}

/// The moving of one tree's nodes.
struct Shadowing<'c> {
    core: &'c Core,
    /// What their headers have in common.
    header: Header,
    /// The group where new ones are put.
    near: u32,
    context: &'c Context,
    /// Branch nodes that were visited: in a tree none is met twice.
    seen: HashSet<u64>,
}

impl Shadowing<'_> {
    /// Moves a node if it changed, and those below it; returns its block.
    fn below(&mut self, block: u64, level: u32) -> Result<u64> {
        let core = self.core;
        if let Some(below) = level.checked_sub(1) {
            let mut expected = self.header;
            expected.level = u16::try_from(level).unwrap_or(u16::MAX).into();
            let node = verified_node(core.pages(), block, &expected).filter(|_| self.seen.insert(block));
            let broken = || Error::damaged(format_args!("tree node in block {block}"), "not what it must be");
            let branches = node.and_then(Node::branches).ok_or_else(broken)?;
            let children: Vec<u64> = branches.iter().map(|branch| branch.child.get()).collect();
            for (index, child) in children.into_iter().enumerate() {
                let moved = self.below(child, below)?;
                if moved != child
                    && let Some(entry) =
                        core.node_mut(block)?.branches_mut().and_then(|all| all.get_mut(index))
                {
                    entry.child = moved.into();
                }
            }
        }
        if !core.pages().is_logged(block) {
            return Ok(block);
        }
        let new = core.allocate_page(self.near, self.context)?;
        let bytes = *core.node_mut(block)?;
        let moved = core.node_mut(new)?;
        *moved = bytes;
        moved.header.place = new.into();
        core.free_page(block)?;
        Ok(new)
    }
}

/// The tree that a block is a node of, when its nodes may change their place.
fn tree_of(block: &[u8; 4096]) -> Option<TreeName> {
    TreeName::of(Header::of(block)?).filter(|tree| !matches!(tree, TreeName::Group(_, GroupTree::Clusters)))
}
