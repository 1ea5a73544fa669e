//! Changing a tree: one operation, [`TreeMut::splice`], puts records in the place of a range of keys.
//!
//! Insertion is a splice of an empty range, removal one of no records. The work goes down to the leaves and comes back
//! with what stands in a node's place: nothing, the node itself, or the node and new ones beside it. So splits, merges
//! and a growing or shrinking height are one rule, applied at each level.
//!
//! Invariants: those of [`paxfs_format::tree`], after each splice that succeeds. A splice that fails for lack of a block
//! fails before it has changed a node: the blocks it can need are reserved first.
//!
//! Must not know where nodes live ([`Nodes`]) nor what a record means.

use core::marker::PhantomData;
use core::ops::{Range, RangeInclusive};
use paxfs_format::group::TreeRoot;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::node::{Branch, MAX_BRANCHES, MAX_HEIGHT, Node};
use paxfs_format::record::{Key, Record};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, Unaligned};

/// Where the nodes of trees live while they change.
pub trait Nodes {
    /// Why a node cannot be had.
    type Error;

    /// A node of the tree that `header` describes (kind, owner and level), verified when it came from the medium.
    fn node(&self, block: u64, header: &Header) -> Result<&Node, Self::Error>;

    /// A node of which these bytes, and the header, are to change. It was read with [`Nodes::node`] before, or allocated.
    fn node_mut(&mut self, block: u64, bytes: Range<usize>) -> Result<&mut Node, Self::Error>;

    /// Makes sure that so many calls of [`Nodes::allocate`] will not fail for lack of space.
    fn reserve(&mut self, blocks: u32) -> Result<(), Self::Error>;

    /// A block for a new node of zeros.
    fn allocate(&mut self) -> Result<u64, Self::Error>;

    /// Gives back the block of a node that is no longer in its tree.
    fn free(&mut self, block: u64) -> Result<(), Self::Error>;

    /// Another block for a node that is about to change, when it may not change where it is; the node is there already,
    /// and the old block given back.
    fn relocate(&mut self, block: u64) -> Result<u64, Self::Error> {
        Ok(block)
    }

    /// What a tree that contradicts itself is reported as.
    fn broken(&self, block: u64) -> Self::Error;
}

/// A tree to change. Its root is the caller's to store.
#[derive(Debug)]
pub struct TreeMut<'n, R, N> {
    kind: BlockKind,
    owner: u64,
    generation: u64,
    root: TreeRoot,
    nodes: &'n mut N,
    record: PhantomData<R>,
}

/// What stands in the place of one child after a splice below it.
#[derive(Debug, Default)]
struct Children {
    first: Option<Branch>,
    more: Vec<Branch>,
}

impl Children {
    fn push(&mut self, entry: Branch) {
        match self.first {
            None => self.first = Some(entry),
            Some(_) => self.more.push(entry),
        }
    }

    fn extend(&mut self, other: Children) {
        for entry in other.first.into_iter().chain(other.more) {
            self.push(entry);
        }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    fn into_vec(self) -> Vec<Branch> {
        self.first.into_iter().chain(self.more).collect()
    }
}

/// An entry of a node at any level: a record, or a child.
trait Item: Copy + FromBytes + IntoBytes + Immutable + Unaligned {
    /// Whether the last has the highest end.
    const ENDS_ASCEND: bool;
    fn first_key(&self) -> Key;
    fn high(&self) -> u64;
}

/// A record as an [`Item`].
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, Unaligned)]
#[repr(transparent)]
struct Leaf<R>(R);

impl<R: Record> Item for Leaf<R> {
    const ENDS_ASCEND: bool = !R::OVERLAPS;
    fn first_key(&self) -> Key {
        self.0.key()
    }
    fn high(&self) -> u64 {
        self.0.end()
    }
}

impl Item for Branch {
    const ENDS_ASCEND: bool = false;
    fn first_key(&self) -> Key {
        self.key()
    }
    fn high(&self) -> u64 {
        self.high.get()
    }
}

/// Most entries of a node.
const fn capacity<T>() -> usize {
    paxfs_format::node::max_records::<T>()
}

/// Below so many entries a node is joined with a neighbour that has room.
const fn sparse<T>() -> usize {
    capacity::<T>() / 4
}

fn items<T: Item>(node: &Node) -> &[T] {
    let count = usize::try_from(node.header.count.get()).unwrap_or(0).min(capacity::<T>());
    <[T]>::ref_from_prefix_with_elems(&node.body.0, count).map(|(items, _)| items).unwrap_or_default()
}

/// Puts `new` in the place of `range` of the entries of a node that has `count`. The caller has seen that they fit.
fn replace<'n, T: Item, N: Nodes>(
    nodes: &'n mut N,
    block: u64,
    count: usize,
    range: Range<usize>,
    new: &[T],
) -> Result<&'n Node, N::Error> {
    let size = size_of::<T>();
    let after = range.start + new.len();
    let end = count - range.len() + new.len();
    // Those behind move, unless there are as many as before.
    let last = if end == count { after } else { end.max(count) };
    let body = size_of::<Header>();
    let node = nodes.node_mut(block, body + range.start * size..body + last * size)?;
    node.body.0.copy_within(range.end * size..count * size, after * size);
    if let Some(gap) = node.body.0.get_mut(range.start * size..after * size) {
        gap.copy_from_slice(new.as_bytes());
    }
    if let Some(tail) = node.body.0.get_mut(end * size..(count * size).max(end * size)) {
        tail.fill(0);
    }
    node.header.count = u32::try_from(end).unwrap_or(u32::MAX).into();
    Ok(node)
}

fn branch_of<T: Item>(items: &[T], block: u64) -> Option<Branch> {
    let high = match T::ENDS_ASCEND {
        true => items.last()?.high(),
        false => items.iter().map(Item::high).max()?,
    };
    Some(Branch::new(items.first()?.first_key(), high, block))
}

impl<'n, R: Record, N: Nodes> TreeMut<'n, R, N> {
    /// The tree at `root`, whose new nodes are of that kind, owner and generation.
    pub fn new(kind: BlockKind, owner: u64, generation: u64, root: TreeRoot, nodes: &'n mut N) -> Self {
        TreeMut { kind, owner, generation, root, nodes, record: PhantomData }
    }

    /// The root as it is now.
    pub fn root(&self) -> TreeRoot {
        self.root
    }

    /// Adds a record whose key is not in the tree.
    pub fn insert(&mut self, record: R) -> Result<(), N::Error> {
        self.splice(record.key()..=record.key(), core::slice::from_ref(&record))
    }

    /// Removes the record with that key, if there is one.
    pub fn remove(&mut self, key: Key) -> Result<(), N::Error> {
        self.splice(key..=key, &[])
    }

    /// Puts `new`, in ascending order, in the place of all records with a key in `keys`. Their keys must lie between
    /// those of the records that stay on either side.
    pub fn splice(&mut self, keys: RangeInclusive<Key>, new: &[R]) -> Result<(), N::Error> {
        let height = self.root.height.get();
        if height > MAX_HEIGHT {
            return Err(self.nodes.broken(self.root.block.get()));
        }
        // A split at each level and a new root, besides the leaves that the records fill themselves; once more for the
        // second edge of the range.
        let leaves = u32::try_from(new.len() / capacity::<R>().max(1)).unwrap_or(u32::MAX);
        let branches = leaves / u32::try_from(MAX_BRANCHES / 2).unwrap_or(1);
        let needed = leaves.saturating_add(branches).saturating_add(branches).saturating_add(2 * height + 2);
        if let Err(error) = self.nodes.reserve(needed)
            && !self.fits_a_leaf(&keys, new.len())?
        {
            return Err(error);
        }
        let mut level = height;
        let mut top = match height.checked_sub(1) {
            Some(top) => self.splice_below(self.root.block.get(), top, &keys, new)?,
            None => {
                level = 1;
                let mut leaves = Children::default();
                self.add_nodes(0, as_leaves(new), &mut leaves)?;
                leaves
            }
        };
        // Grow until one root is left.
        while top.len() > 1 {
            let children = top.into_vec();
            top = Children::default();
            self.add_nodes(level, &children, &mut top)?;
            level += 1;
        }
        let Some(entry) = top.first else {
            self.root = TreeRoot::new_zeroed();
            return Ok(());
        };
        let mut block = entry.child.get();
        // Give height back.
        while level > 1 {
            let only = match items::<Branch>(self.node(block, level - 1)?) {
                [only] => only.child.get(),
                _ => break,
            };
            self.free(block)?;
            (block, level) = (only, level - 1);
        }
        self.root.block = block.into();
        self.root.height = level.into();
        Ok(())
    }

    /// Whether a splice changes one leaf alone, and needs no new node.
    fn fits_a_leaf(&self, keys: &RangeInclusive<Key>, new: usize) -> Result<bool, N::Error> {
        let Some(mut level) = self.root.height.get().checked_sub(1) else { return Ok(new == 0) };
        let mut block = self.root.block.get();
        while level > 0 {
            let entries = items::<Branch>(self.node(block, level)?);
            let child = |key: &Key| entries.partition_point(|entry| entry.key() <= *key).saturating_sub(1);
            if child(keys.start()) != child(keys.end()) {
                return Ok(false);
            }
            let Some(entry) = entries.get(child(keys.start())) else { return Ok(false) };
            (block, level) = (entry.child.get(), level - 1);
        }
        let records = items::<Leaf<R>>(self.node(block, 0)?);
        let removed = records.iter().filter(|record| keys.contains(&record.0.key())).count();
        Ok(records.len() - removed + new <= capacity::<R>())
    }

    fn splice_below(
        &mut self,
        block: u64,
        level: u32,
        keys: &RangeInclusive<Key>,
        new: &[R],
    ) -> Result<Children, N::Error> {
        if level == 0 {
            self.splice_leaf(block, keys, new)
        } else {
            self.splice_branch(block, level, keys, new)
        }
    }

    fn splice_leaf(
        &mut self,
        block: u64,
        keys: &RangeInclusive<Key>,
        new: &[R],
    ) -> Result<Children, N::Error> {
        let records = items::<Leaf<R>>(self.node(block, 0)?);
        let start = records.partition_point(|record| record.0.key() < *keys.start());
        let end = records.partition_point(|record| record.0.key() <= *keys.end()).max(start);
        let removed = u64::try_from(end - start).unwrap_or(0);
        let added = u64::try_from(new.len()).unwrap_or(0);
        let children = self.replace_in(block, 0, start..end, as_leaves(new))?;
        self.root.records = (self.root.records.get() + added).saturating_sub(removed).into();
        Ok(children)
    }

    fn splice_branch(
        &mut self,
        block: u64,
        level: u32,
        keys: &RangeInclusive<Key>,
        new: &[R],
    ) -> Result<Children, N::Error> {
        let entries = items::<Branch>(self.node(block, level)?);
        // The first child takes what comes before its key, too.
        let first = entries.partition_point(|entry| entry.key() <= *keys.start()).saturating_sub(1);
        let last = entries.partition_point(|entry| entry.key() <= *keys.end()).saturating_sub(1).max(first);
        let affected: Vec<Branch> = match entries.get(first..=last) {
            Some(affected) if !affected.is_empty() => affected.to_vec(),
            _ => return Err(self.nodes.broken(block)),
        };
        let mut children = Children::default();
        for (index, child) in affected.iter().enumerate() {
            let child_block = child.child.get();
            if index > 0 && index + 1 < affected.len() {
                self.free_below(child_block, level - 1)?;
            } else {
                let new = if index == 0 { new } else { &[] };
                children.extend(self.splice_below(child_block, level - 1, keys, new)?);
            }
        }
        let mut range = first..last + 1;
        self.join_sparse(block, level, &mut range, &mut children)?;
        if let ([old], Some(entry), []) = (affected.as_slice(), children.first, children.more.as_slice())
            && *old == entry
            && range.len() == 1
        {
            // Nothing above changes either.
            return self.unchanged(block, level);
        }
        self.replace_in(block, level, range, &children.into_vec())
    }

    /// The node as its parent sees it.
    fn unchanged(&self, block: u64, level: u32) -> Result<Children, N::Error> {
        let entries = items::<Branch>(self.node(block, level)?);
        Ok(Children { first: branch_of(entries, block), more: Vec::new() })
    }

    /// Joins the last of `children` with the entry beside it in the parent when it has become sparse and both fit one
    /// node; `range` grows by that entry.
    fn join_sparse(
        &mut self,
        parent: u64,
        level: u32,
        range: &mut Range<usize>,
        children: &mut Children,
    ) -> Result<(), N::Error> {
        if level == 1 {
            self.join::<Leaf<R>>(parent, level, range, children)
        } else {
            self.join::<Branch>(parent, level, range, children)
        }
    }

    fn join<T: Item>(
        &mut self,
        parent: u64,
        level: u32,
        range: &mut Range<usize>,
        children: &mut Children,
    ) -> Result<(), N::Error> {
        let Some(child) = children.more.last().or(children.first.as_ref()).copied() else { return Ok(()) };
        let count = items::<T>(self.node(child.child.get(), level - 1)?).len();
        if count >= sparse::<T>() {
            return Ok(());
        }
        let siblings = items::<Branch>(self.node(parent, level)?);
        let after = siblings.get(range.end).copied();
        let before = range.start.checked_sub(1).and_then(|index| siblings.get(index)).copied();
        // The neighbour before is no neighbour of the last child when there are two.
        let before = if children.len() == 1 { before } else { None };
        let pairs = [after.map(|after| (child, after, true)), before.map(|before| (before, child, false))];
        let mut fitting = None;
        for (left, right, is_after) in pairs.into_iter().flatten() {
            let other = if is_after { right } else { left };
            let together = count + items::<T>(self.node(other.child.get(), level - 1)?).len();
            if fitting.is_none() && together <= capacity::<T>() {
                fitting = Some((left, right, is_after));
            }
        }
        let Some((left, right, is_after)) = fitting else { return Ok(()) };
        let moved = items::<T>(self.node(right.child.get(), level - 1)?).to_vec();
        let stays = items::<T>(self.node(left.child.get(), level - 1)?).len();
        let left_block = self.nodes.relocate(left.child.get())?;
        replace(self.nodes, left_block, stays, stays..stays, &moved)?;
        self.free(right.child.get())?;
        let joined = Branch::new(left.key(), left.high.get().max(right.high.get()), left_block);
        match children.more.last_mut() {
            Some(last) => *last = joined,
            None => children.first = Some(joined),
        }
        if is_after {
            range.end += 1;
        } else {
            range.start -= 1;
        }
        Ok(())
    }

    /// Puts `new` in the place of a range of a node's entries: in place when they fit, else in new nodes beside it.
    fn replace_in<T: Item>(
        &mut self,
        block: u64,
        level: u32,
        range: Range<usize>,
        new: &[T],
    ) -> Result<Children, N::Error> {
        let old = items::<T>(self.node(block, level)?);
        let old_count = old.len();
        let count = old_count - range.len() + new.len();
        let mut children = Children::default();
        if count == 0 {
            self.free(block)?;
        } else if count <= capacity::<T>() {
            let block = self.nodes.relocate(block)?;
            let node = replace(self.nodes, block, old_count, range, new)?;
            children.first = branch_of(items::<T>(node), block);
        } else {
            let at_end = range.end == old.len();
            let (before, after) = (old.get(..range.start), old.get(range.end..));
            let all: Vec<T> = [before, Some(new), after].into_iter().flatten().flatten().copied().collect();
            // What grows at its end stays packed; else both halves get room.
            let nodes = all.len().div_ceil(capacity::<T>());
            let first = if at_end { capacity::<T>() } else { all.len().div_ceil(nodes) };
            let (stays, moves) = all.split_at(first);
            let block = self.nodes.relocate(block)?;
            replace(self.nodes, block, old_count, 0..old_count, stays)?;
            children.first = branch_of(stays, block);
            self.add_nodes(level, moves, &mut children)?;
        }
        Ok(children)
    }

    /// Makes nodes of `items`, evenly filled, and adds them to `children`.
    fn add_nodes<T: Item>(
        &mut self,
        level: u32,
        items: &[T],
        children: &mut Children,
    ) -> Result<(), N::Error> {
        let nodes = items.len().div_ceil(capacity::<T>());
        if nodes == 0 {
            return Ok(());
        }
        for part in items.chunks(items.len().div_ceil(nodes)) {
            let block = self.nodes.allocate()?;
            let header = self.header(block, level);
            self.nodes.node_mut(block, 0..0)?.header = header;
            replace(self.nodes, block, 0, 0..0, part)?;
            self.root.nodes = (self.root.nodes.get() + 1).into();
            if let Some(entry) = branch_of(part, block) {
                children.push(entry);
            }
        }
        // Records of a tree that was empty.
        if level == 0 && self.root.height.get() == 0 {
            self.root.records = u64::try_from(items.len()).unwrap_or(0).into();
        }
        Ok(())
    }

    /// Frees a subtree, all of whose records go.
    fn free_below(&mut self, block: u64, level: u32) -> Result<(), N::Error> {
        let node = self.node(block, level)?;
        if level == 0 {
            let records = u64::from(node.header.count.get());
            self.root.records = self.root.records.get().saturating_sub(records).into();
        } else {
            let children: Vec<u64> = items::<Branch>(node).iter().map(|entry| entry.child.get()).collect();
            for child in children {
                self.free_below(child, level - 1)?;
            }
        }
        self.free(block)
    }

    fn free(&mut self, block: u64) -> Result<(), N::Error> {
        self.root.nodes = self.root.nodes.get().saturating_sub(1).into();
        self.nodes.free(block)
    }

    fn node(&self, block: u64, level: u32) -> Result<&Node, N::Error> {
        self.nodes.node(block, &self.header(block, level))
    }

    fn header(&self, block: u64, level: u32) -> Header {
        let mut header = Header::new(self.kind, block, self.owner, self.generation);
        header.level = u16::try_from(level).unwrap_or(u16::MAX).into();
        header
    }
}

fn as_leaves<R: Record>(records: &[R]) -> &[Leaf<R>] {
    let count = records.len();
    <[Leaf<R>]>::ref_from_bytes_with_elems(records.as_bytes(), count).unwrap_or_default()
}
