//! Making a tree of records that come in order.
//!
//! Leaves are filled and written one after the other; of each level only the node that is being filled is held. A node
//! gets its block when it is written, so children come before their parents, and the root last.

use crate::declare::OnDisk;
use crate::group::TreeRoot;
use crate::header::{BlockKind, Header, Seed};
use crate::node::{Branch, MAX_BRANCHES, NODE_BODY, Node};
use crate::record::{Key, Record};
use core::marker::PhantomData;
use zerocopy::IntoBytes;

/// Where the nodes of a new tree go.
pub trait NodeSink {
    /// Why a node cannot be placed or written.
    type Error;

    /// A block for the next node.
    fn allocate(&mut self) -> Result<u64, Self::Error>;

    /// Writes a node, sealed, to the block that it was allocated.
    fn write(&mut self, block: u64, node: &[u8; 4096]) -> Result<(), Self::Error>;
}

/// Nodes, of all levels, of the tree that a [`BulkLoader`] makes of so many records.
pub fn nodes_needed(records: u64, per_leaf: usize) -> u64 {
    let parts = |things: u64, per_node: usize| things.div_ceil(u64::try_from(per_node).unwrap_or(1).max(1));
    let leaves = parts(records, per_leaf);
    let levels =
        std::iter::successors(Some(leaves), |&nodes| (nodes > 1).then(|| parts(nodes, MAX_BRANCHES)));
    levels.fold(0, u64::saturating_add)
}

/// Makes a tree of records pushed in ascending order. After an error of the sink the tree cannot be finished.
#[derive(Debug)]
pub struct BulkLoader<R> {
    kind: BlockKind,
    owner: u64,
    generation: u64,
    seed: Seed,
    /// The node being filled at each level, leaves first. A level begins with the second node of the one below it.
    levels: Vec<Filling>,
    nodes: u32,
    records: u64,
    record: PhantomData<R>,
}

/// A node being filled.
#[derive(Debug)]
struct Filling {
    node: Box<Node>,
    count: u32,
    /// Bytes of `body` in use.
    used: usize,
    /// Key of its first record.
    first: Key,
    /// Highest end of its records.
    high: u64,
}

impl Filling {
    fn new() -> Self {
        Filling { node: Box::new(Node::zeroed()), count: 0, used: 0, first: Key::MIN, high: 0 }
    }

    fn has_room<T>(&self) -> bool {
        self.used + size_of::<T>() <= NODE_BODY
    }

    fn push<T: OnDisk>(&mut self, entry: &T, key: Key, high: u64) {
        let bytes = entry.as_bytes();
        if let Some(to) = self.node.body.0.get_mut(self.used..self.used + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        if self.count == 0 {
            self.first = key;
        }
        self.high = self.high.max(high);
        self.used += bytes.len();
        self.count += 1;
    }
}

impl<R: Record> BulkLoader<R> {
    /// A loader for a tree whose nodes are of that kind and owner, written by transaction `generation`.
    pub fn new(kind: BlockKind, owner: u64, generation: u64, seed: Seed) -> Self {
        let (levels, record) = (Vec::new(), PhantomData);
        BulkLoader { kind, owner, generation, seed, levels, nodes: 0, records: 0, record }
    }

    /// Adds a record. Its key must be above those before it.
    pub fn push<S: NodeSink>(&mut self, sink: &mut S, record: R) -> Result<(), S::Error> {
        if self.levels.first().is_some_and(|leaf| !leaf.has_room::<R>()) {
            self.make_room(sink, 0)?;
        }
        self.fill(0, &record, record.key(), record.end());
        self.records += 1;
        Ok(())
    }

    /// Writes the nodes still held, and returns the root.
    pub fn finish<S: NodeSink>(mut self, sink: &mut S) -> Result<TreeRoot, S::Error> {
        let (mut block, mut height) = (0, 0);
        while height < self.levels.len() {
            let entry = self.write(sink, height)?;
            block = entry.child.get();
            height += 1;
            if height < self.levels.len() {
                self.add(sink, height, entry)?;
            }
        }
        Ok(TreeRoot {
            block: block.into(),
            height: u32::try_from(height).unwrap_or(u32::MAX).into(),
            nodes: self.nodes.into(),
            records: self.records.into(),
        })
    }

    /// Adds the entry of a node that was written to the level above it.
    fn add<S: NodeSink>(&mut self, sink: &mut S, level: usize, entry: Branch) -> Result<(), S::Error> {
        if self.levels.get(level).is_some_and(|node| !node.has_room::<Branch>()) {
            self.make_room(sink, level)?;
        }
        self.fill(level, &entry, entry.key(), entry.high.get());
        Ok(())
    }

    /// Writes the full node of that level, after those above it that are full as well: they hold older entries only.
    fn make_room<S: NodeSink>(&mut self, sink: &mut S, level: usize) -> Result<(), S::Error> {
        let above = self.levels.iter().skip(level + 1).take_while(|node| !node.has_room::<Branch>()).count();
        for full in (level..=level + above).rev() {
            let entry = self.write(sink, full)?;
            self.fill(full + 1, &entry, entry.key(), entry.high.get());
        }
        Ok(())
    }

    /// Puts a record or entry into the node of a level that has room.
    fn fill<T: OnDisk>(&mut self, level: usize, entry: &T, key: Key, high: u64) {
        if level == self.levels.len() {
            self.levels.push(Filling::new());
        }
        if let Some(node) = self.levels.get_mut(level) {
            node.push(entry, key, high);
        }
    }

    /// Writes the node of a level, starts the next, and returns the entry that its parent is to have.
    fn write<S: NodeSink>(&mut self, sink: &mut S, level: usize) -> Result<Branch, S::Error> {
        let block = sink.allocate()?;
        let next = Filling::new();
        let Some(mut full) = self.levels.get_mut(level).map(|node| core::mem::replace(node, next)) else {
            return Ok(Branch::new(Key::MIN, 0, block));
        };
        full.node.header = Header {
            level: u16::try_from(level).unwrap_or(u16::MAX).into(),
            count: full.count.into(),
            ..Header::new(self.kind, block, self.owner, self.generation)
        };
        self.seed.seal(full.node.as_mut_bytes());
        sink.write(block, zerocopy::transmute_ref!(&*full.node))?;
        self.nodes += 1;
        Ok(Branch::new(full.first, full.high, block))
    }
}
