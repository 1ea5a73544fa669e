#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
//! The tree editor against a `BTreeMap`: same records, and a tree that a full walk finds nothing wrong with.

use paxfs_format::cluster::Cluster;
use paxfs_format::device::Device;
use paxfs_format::group::TreeRoot;
use paxfs_format::header::{BlockKind, Header, Seed};
use paxfs_format::node::Node;
use paxfs_format::record::{Key, Record, Space};
use paxfs_format::tree::{RecordPlace, Tree, TreeFault, Visitor};
use paxfs_format::units::{Bits64, Uuid};
use paxfs_runtime::edit::{Nodes, TreeMut};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use zerocopy::IntoBytes;

/// Nodes in memory.
#[derive(Default)]
struct Memory {
    nodes: HashMap<u64, Box<Node>>,
    free: Vec<u64>,
    next: u64,
}

impl Nodes for Memory {
    type Error = u64;

    fn node(&self, block: u64, header: &Header) -> Result<&Node, u64> {
        let node = self.nodes.get(&block).ok_or(block)?;
        assert_eq!((node.header.kind, node.header.level), (header.kind, header.level));
        Ok(node)
    }

    fn node_mut(&mut self, block: u64, _bytes: core::ops::Range<usize>) -> Result<&mut Node, u64> {
        self.nodes.get_mut(&block).map(|node| &mut **node).ok_or(block)
    }

    fn reserve(&mut self, _blocks: u32) -> Result<(), u64> {
        Ok(())
    }

    fn allocate(&mut self) -> Result<u64, u64> {
        let block = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.nodes.insert(block, Box::new(paxfs_format::declare::OnDisk::zeroed()));
        Ok(block)
    }

    fn free(&mut self, block: u64) -> Result<(), u64> {
        assert!(self.nodes.remove(&block).is_some(), "block {block} freed twice");
        self.free.push(block);
        Ok(())
    }

    fn broken(&self, block: u64) -> u64 {
        block
    }
}

const SEED_UUID: Uuid = Uuid([7; 16]);
const SPACE: Space = Space { blocks: 1 << 31, group_blocks: 1 << 31, cluster_blocks: 16 };

/// A record with the smallest fan-out there is, so that trees grow high.
fn record(index: u32) -> Cluster {
    Cluster { start: (index * 16).into(), used: 0.into(), bitmap: [Bits64::new(0); 8] }
}

fn key(index: u32) -> Key {
    record(index).key()
}

#[derive(Default)]
struct Collect {
    records: Vec<Cluster>,
    faults: Vec<TreeFault>,
}

impl Visitor<Cluster> for Collect {
    fn record(&mut self, _at: &RecordPlace, record: &Cluster) {
        self.records.push(*record);
    }
    fn fault(&mut self, fault: TreeFault) {
        self.faults.push(fault);
    }
}

/// Seals all nodes onto a device and walks the tree there.
fn check(memory: &mut Memory, root: &TreeRoot, model: &BTreeMap<u32, ()>) {
    let seed = Seed::new(&SEED_UUID);
    let mut device = Device::memory(vec![0; (memory.next as usize + 2) * 4096]);
    for (block, node) in &mut memory.nodes {
        seed.seal(node.as_mut_bytes());
        device.bytes_mut(block * 4096, 4096).unwrap().copy_from_slice(node.as_bytes());
    }
    let tree = Tree::<Cluster>::new(BlockKind::CLUSTERS, 3, root, SPACE, seed);
    let mut collect = Collect::default();
    let walked = tree.walk(&device, &mut collect);
    assert!(collect.faults.is_empty(), "{:?}", collect.faults);
    let found: Vec<u32> = collect.records.iter().map(|record| record.start.get() / 16).collect();
    assert!(found.iter().eq(model.keys()), "records differ");
    assert_eq!(walked.records, root.records.get());
    assert_eq!(walked.nodes, u64::from(root.nodes.get()));
    assert_eq!(memory.nodes.len() as u64, walked.nodes, "nodes leaked");
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32),
    Remove(u32),
    RemoveRange(u32, u32),
    /// In the place of a range, every `step`-th record of it.
    Splice(u32, u32, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..20_000u32;
    prop_oneof![
        4 => index.clone().prop_map(Op::Insert),
        3 => index.clone().prop_map(Op::Remove),
        1 => (index.clone(), 0..6000u32).prop_map(|(from, length)| Op::RemoveRange(from, from + length)),
        1 => (index, 0..9000u32, 1..5u32).prop_map(|(from, length, step)| Op::Splice(from, from + length, step)),
    ]
}

fn apply(memory: &mut Memory, root: &mut TreeRoot, model: &mut BTreeMap<u32, ()>, op: &Op) {
    let mut tree = TreeMut::<Cluster, _>::new(BlockKind::CLUSTERS, 3, 1, *root, memory);
    match *op {
        Op::Insert(index) => {
            if model.insert(index, ()).is_none() {
                tree.insert(record(index)).unwrap();
            }
        }
        Op::Remove(index) => {
            model.remove(&index);
            tree.remove(key(index)).unwrap();
        }
        Op::RemoveRange(from, to) => {
            model.retain(|index, ()| !(from..=to).contains(index));
            tree.splice(key(from)..=key(to), &[]).unwrap();
        }
        Op::Splice(from, to, step) => {
            model.retain(|index, ()| !(from..=to).contains(index));
            let new: Vec<u32> = (from..=to).step_by(step as usize).collect();
            model.extend(new.iter().map(|index| (*index, ())));
            let records: Vec<Cluster> = new.iter().map(|index| record(*index)).collect();
            tree.splice(key(from)..=key(to), &records).unwrap();
        }
    }
    *root = tree.root();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn splices_agree_with_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        let (mut memory, mut root, mut model) = (Memory::default(), TreeRoot::new_zeroed_root(), BTreeMap::new());
        for op in &ops {
            apply(&mut memory, &mut root, &mut model, op);
        }
        check(&mut memory, &root, &model);
    }
}

trait Zeroed {
    fn new_zeroed_root() -> Self;
}

impl Zeroed for TreeRoot {
    fn new_zeroed_root() -> Self {
        paxfs_format::declare::OnDisk::zeroed()
    }
}

#[test]
fn records_in_order_fill_their_leaves() {
    let (mut memory, mut root, mut model) = (Memory::default(), TreeRoot::new_zeroed_root(), BTreeMap::new());
    for index in 0..12_000 {
        apply(&mut memory, &mut root, &mut model, &Op::Insert(index));
    }
    check(&mut memory, &root, &model);
    assert_eq!(root.height.get(), 3);
    assert!(root.nodes.get() < 12_000 / 56 + 10, "{} nodes for 12,000 records", root.nodes.get());
}

#[test]
fn a_tree_emptied_one_by_one_gives_its_height_back() {
    for backwards in [false, true] {
        let (mut memory, mut root, mut model) =
            (Memory::default(), TreeRoot::new_zeroed_root(), BTreeMap::new());
        apply(&mut memory, &mut root, &mut model, &Op::Splice(0, 12_000, 1));
        assert_eq!(root.height.get(), 3);
        let mut heights = Vec::new();
        for step in 0..=12_000 {
            let index = if backwards { 12_000 - step } else { step };
            apply(&mut memory, &mut root, &mut model, &Op::Remove(index));
            heights.push(root.height.get());
            if step % 1000 == 0 {
                check(&mut memory, &root, &model);
            }
        }
        assert!(heights.is_sorted_by(|a, b| a >= b));
        assert_eq!((root.block.get(), root.height.get(), root.nodes.get()), (0, 0, 0));
        assert!(memory.nodes.is_empty());
    }
}

#[test]
fn sparse_nodes_are_joined() {
    let (mut memory, mut root, mut model) = (Memory::default(), TreeRoot::new_zeroed_root(), BTreeMap::new());
    apply(&mut memory, &mut root, &mut model, &Op::Splice(0, 12_000, 1));
    for index in (0..=12_000).filter(|index| index % 16 != 0) {
        apply(&mut memory, &mut root, &mut model, &Op::Remove(index));
    }
    check(&mut memory, &root, &model);
    let packed = 12_000 / 16 / 56;
    assert!(root.nodes.get() < packed * 5, "{} nodes for {} full leaves", root.nodes.get(), packed);
}
