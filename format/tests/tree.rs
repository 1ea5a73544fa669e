//! The tree against models, and against one damage at a time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use paxfs_format::blocks::Blocks;
use paxfs_format::device::MediumError;
use paxfs_format::extent::Extent;
use paxfs_format::free::Free;
use paxfs_format::group::TreeRoot;
use paxfs_format::header::{BlockKind, HeaderFault, Seed};
use paxfs_format::node::{Branch, MAX_BRANCHES, Node};
use paxfs_format::record::{Key, Record, RecordFault, Space};
use paxfs_format::rmap::Rmap;
use paxfs_format::tree::{
    BulkLoader, Defect, Missing, NodeFault, NodeSink, RecordPlace, Tree, TreeFault, Visitor, Walked,
    nodes_needed,
};
use paxfs_format::units::Uuid;
use proptest::prelude::*;
use std::collections::BTreeMap;
use zerocopy::{FromBytes, IntoBytes};

const OWNER: u64 = 7;
const KIND: BlockKind = BlockKind::RMAP;
const SPACE: Space = Space { blocks: 1 << 30, group_blocks: 1 << 20, cluster_blocks: 512 };

/// A volume in memory.
struct Disk {
    blocks: Vec<[u8; 4096]>,
    failed: Option<u64>,
}

impl Blocks for Disk {
    fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn block(&self, block: u64) -> Result<&[u8; 4096], MediumError> {
        let outside = MediumError::OutOfRange { offset: block, length: 4096, device: self.blocks() };
        self.blocks.get(block as usize).ok_or(outside)
    }

    fn failed(&self, block: u64) -> bool {
        self.failed == Some(block)
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        (block < self.blocks()).then_some(block)
    }
}

impl NodeSink for Disk {
    type Error = std::convert::Infallible;

    fn allocate(&mut self) -> Result<u64, Self::Error> {
        self.blocks.push([0; 4096]);
        Ok(self.blocks() - 1)
    }

    fn write(&mut self, block: u64, node: &[u8; 4096]) -> Result<(), Self::Error> {
        self.blocks[block as usize] = *node;
        Ok(())
    }
}

/// A volume with one tree.
struct Rig<R: Record> {
    disk: Disk,
    tree: Tree<R>,
    root: TreeRoot,
}

impl<R: Record> Rig<R> {
    fn new(records: impl IntoIterator<Item = R>) -> Self {
        let seed = Seed::new(&Uuid([3; 16]));
        let mut disk = Disk { blocks: vec![[0; 4096]], failed: None };
        let mut loader = BulkLoader::new(KIND, OWNER, 1, seed);
        for record in records {
            loader.push(&mut disk, record).unwrap();
        }
        let root = loader.finish(&mut disk).unwrap();
        Rig { tree: Tree::new(KIND, OWNER, &root, SPACE, seed), disk, root }
    }

    fn walk(&self) -> (Collect<R>, Walked) {
        let mut collect =
            Collect { records: Vec::new(), doubtful: Vec::new(), missing: Vec::new(), faults: Vec::new() };
        let walked = self.tree.walk(&self.disk, &mut collect);
        (collect, walked)
    }

    fn block(&self, level: u32, ordinal: u64) -> u64 {
        self.tree.locate(&self.disk, level, ordinal).unwrap()
    }

    /// Changes a node and seals it again.
    fn edit(&mut self, level: u32, ordinal: u64, change: impl FnOnce(&mut Node)) {
        let block = self.block(level, ordinal);
        let bytes = &mut self.disk.blocks[block as usize];
        change(Node::mut_from_bytes(bytes).unwrap());
        self.tree.seed.seal(bytes);
    }

    /// Changes the branch entries of a node, any of them.
    fn edit_entries(&mut self, level: u32, ordinal: u64, change: impl FnOnce(&mut [Branch])) {
        self.edit(level, ordinal, |node| {
            change(<[Branch]>::mut_from_prefix_with_elems(&mut node.body.0, MAX_BRANCHES).unwrap().0);
        });
    }

    /// Changes the records of a leaf, any of them.
    fn edit_records(&mut self, ordinal: u64, change: impl FnOnce(&mut [R])) {
        self.edit(0, ordinal, |node| {
            change(<[R]>::mut_from_prefix_with_elems(&mut node.body.0, Tree::<R>::PER_LEAF).unwrap().0);
        });
    }

    /// The only finding of a walk, as people see it.
    #[track_caller]
    fn finding(&self) -> String {
        let (seen, walked) = self.walk();
        let [fault] = seen.faults.as_slice() else { panic!("not one fault: {:#?}", seen.faults) };
        let all = walked.complete && walked.records == self.root.records.get();
        let has_all = self.root.records.get() == seen.records.len() as u64;
        assert_eq!(all, has_all, "complete, or not");
        fault.to_string()
    }
}

/// Notes all that a walk meets.
struct Collect<R> {
    records: Vec<R>,
    doubtful: Vec<R>,
    missing: Vec<Missing>,
    faults: Vec<TreeFault>,
}

impl<R: Record> Visitor<R> for Collect<R> {
    fn record(&mut self, _at: &RecordPlace, record: &R) {
        assert!(self.records.last().is_none_or(|last| last.key() < record.key()), "records ascend");
        self.records.push(*record);
    }

    fn doubtful(&mut self, _at: &RecordPlace, record: &R) {
        self.doubtful.push(*record);
    }

    fn missing(&mut self, missing: &Missing) {
        self.missing.push(*missing);
    }

    fn fault(&mut self, fault: TreeFault) {
        self.faults.push(fault);
    }
}

fn free(start: u64, length: u32) -> Free {
    Free { start: (start as u32).into(), length: length.into() }
}

fn rmap(start: u64, length: u64, owner: u64, offset: u64) -> Rmap {
    Rmap {
        start: (start as u32).into(),
        length: (length as u32).into(),
        owner: owner.into(),
        offset: offset.into(),
        flags: 0.into(),
    }
}

fn extent(offset: u64, start: u64, length: u32) -> Extent {
    Extent { offset: offset.into(), start: start.into(), length: length.into(), flags: 0.into() }
}

/// Extents of 8 blocks with holes of 2 between them.
fn extents(count: u64) -> impl Iterator<Item = Extent> {
    (0..count).map(|i| extent(10 * i, 100 + 16 * i, 8))
}

/// Three levels: 237 leaves of 169 records and 36 in the last, below branch nodes of 101, 101 and 36.
fn tall() -> Rig<Extent> {
    let rig = Rig::new(extents(40_000));
    assert_eq!((rig.root.height.get(), rig.root.nodes.get()), (3, 241));
    rig
}

// ---------------------------------------------------------------------------------------------------------- models

/// Sizes at which something changes: nothing, one, a full leaf, one more, full branches, one more, three levels.
fn sizes(per_leaf: u64) -> Vec<u64> {
    let branch = per_leaf * MAX_BRANCHES as u64;
    vec![0, 1, 2, per_leaf - 1, per_leaf, per_leaf + 1, 2 * per_leaf, branch, branch + 1, 40_000]
}

#[test]
fn bulk_load_then_walk_gives_the_records_back() {
    for count in sizes(169) {
        let rig = Rig::new(extents(count));
        let (seen, walked) = rig.walk();
        assert_eq!(seen.faults, []);
        assert!(seen.records.iter().copied().eq(extents(count)), "{count}");
        let nodes = rig.root.nodes.get().into();
        assert_eq!(walked, Walked { nodes, records: count, complete: true });
        assert_eq!(rig.root.records.get(), count);
        assert_eq!(nodes, nodes_needed(count, Tree::<Extent>::PER_LEAF), "{count}");
        assert_eq!(rig.disk.blocks() - 1, nodes);
    }
}

#[test]
fn range_and_lookup_agree_with_a_map() {
    for count in sizes(169) {
        let rig = Rig::new(extents(count));
        let map: BTreeMap<Key, Extent> = extents(count).map(|extent| (extent.key(), extent)).collect();
        for from in [0, 1, 9, 10, 11, 1689, 1690, 1691, 10 * count / 2, 10 * count, u64::MAX].map(Key::at) {
            let found = rig.tree.range(&rig.disk, from).map(|at| at.unwrap().record);
            assert!(found.eq(map.range(from..).map(|(_, extent)| *extent)), "{count} {from:?}");
            let found = rig.tree.last_at_or_before(&rig.disk, from).unwrap();
            let expected = map.range(..=from).next_back();
            assert_eq!(found.map(|at| at.record), expected.map(|(_, extent)| *extent));
        }
    }
}

#[test]
fn a_record_found_is_where_it_says() {
    let rig = tall();
    for at in rig.tree.range(&rig.disk, Key::MIN).step_by(97) {
        let at = at.unwrap();
        let leaf = rig.tree.node(&rig.disk, at.leaf, 0).unwrap();
        assert_eq!(leaf.records::<Extent>().unwrap()[at.index], at.record);
    }
}

#[test]
fn every_node_is_located_where_the_walk_met_it() {
    struct Nodes<'a>(&'a Rig<Extent>);
    impl Visitor<Extent> for Nodes<'_> {
        fn node(&mut self, at: &paxfs_format::tree::NodePlace, _node: &Node) {
            assert_eq!(self.0.tree.locate(&self.0.disk, at.level, at.ordinal), Some(at.block));
        }
        fn record(&mut self, _at: &RecordPlace, _record: &Extent) {}
        fn fault(&mut self, fault: TreeFault) {
            assert_eq!(fault.to_string(), "node[1][1]: holds no record");
        }
    }
    let mut rig = tall();
    assert_eq!(rig.tree.locate(&rig.disk, 0, 237), None);
    assert_eq!(rig.tree.locate(&rig.disk, 2, 1), None);
    assert_eq!(rig.tree.locate(&rig.disk, 3, 0), None);
    assert_eq!(rig.tree.walk(&rig.disk, &mut Nodes(&rig)).nodes, 241);
    // What is below a broken node is not counted, the node itself is.
    rig.edit(1, 1, |node| node.header.count = 0.into());
    assert_eq!(rig.tree.walk(&rig.disk, &mut Nodes(&rig)).nodes, 241 - 102);
    assert!(rig.tree.locate(&rig.disk, 1, 1).is_some());
    assert_eq!(rig.tree.locate(&rig.disk, 0, 136 + 1), None);
}

#[test]
fn extents_that_meet_at_a_groups_border_stay_apart() {
    let border = SPACE.group_blocks;
    let rig = Rig::new([extent(0, border - 8, 8), extent(8, border, 8)]);
    assert_eq!(rig.walk().0.faults, []);
    let rig = Rig::new([extent(0, border - 16, 8), extent(8, border - 8, 8)]);
    assert_eq!(rig.finding(), "leaf[0].rec[1]: should be one with the record before it");
}

#[test]
fn keys_at_the_very_end_are_found() {
    use paxfs_format::index::Index;
    let rig = Rig::new([
        Index { cookie: 0.into(), block: 1.into() },
        Index { cookie: u64::MAX.into(), block: 2.into() },
    ]);
    assert_eq!(rig.walk().0.faults, []);
    assert_eq!(rig.tree.range(&rig.disk, Key::at(1)).count(), 1);
    assert_eq!(rig.tree.last_at_or_before(&rig.disk, Key::MAX).unwrap().unwrap().record.block.get(), 2);
}

/// Distinct reverse-map records that overlap at random.
fn overlapping_records(most: usize) -> impl Strategy<Value = Vec<Rmap>> {
    let record = (0..200_000_u64, prop_oneof![9 => 1..40_u64, 1 => 1..150_000_u64], 1..5_u64, 0..8_u64);
    prop::collection::vec(record, 0..most).prop_map(|records| {
        let records = records
            .into_iter()
            .map(|(start, length, owner, offset)| rmap(start, length, owner, offset * 999));
        let map: BTreeMap<Key, Rmap> = records.map(|record| (record.key(), record)).collect();
        map.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn overlapping_agrees_with_a_list(
        records in overlapping_records(3000),
        ranges in prop::collection::vec((0..220_000_u64, 0..2000_u64), 20),
    ) {
        let rig = Rig::new(records.iter().copied());
        for (start, length) in ranges {
            let range = start..start + length;
            let expected = records.iter().filter(|r| r.key().start < range.end && r.end() > range.start);
            let found = rig.tree.overlapping(&rig.disk, range.clone()).map(|at| at.unwrap().record);
            prop_assert!(found.eq(expected.copied()));
        }
        let (seen, walked) = rig.walk();
        prop_assert!(walked.complete);
        prop_assert!(seen.faults.iter().all(|fault| fault.what == Defect::Mergeable));
        prop_assert_eq!(seen.records, records);
    }

    #[test]
    fn range_and_lookup_agree_with_a_list(
        records in overlapping_records(3000),
        keys in prop::collection::vec(0..210_000_u64, 20),
    ) {
        let rig = Rig::new(records.iter().copied());
        for key in keys.into_iter().map(Key::at) {
            let (below, above) = records.split_at(records.partition_point(|record| record.key() < key));
            let found: Vec<_> = rig.tree.range(&rig.disk, key).map(|at| at.unwrap().record).collect();
            prop_assert_eq!(found.as_slice(), above);
            let last = rig.tree.last_at_or_before(&rig.disk, key).unwrap();
            let equal = above.first().filter(|record| record.key() == key);
            prop_assert_eq!(last.map(|at| at.record), equal.or(below.last()).copied());
        }
    }

    /// Bytes flipped anywhere, checksums made to fit half of the time: nothing panics, nothing runs on, and what is handed
    /// over ascends (`Collect` asserts it).
    #[test]
    fn random_damage_is_survived(
        damage in prop::collection::vec((1..60_usize, prop_oneof![0..48_usize, 0..4096_usize], any::<u8>()), 1..12),
        seal in any::<bool>(),
    ) {
        let mut rig = Rig::new((0..8000).map(|i| rmap(i * 10, 8 + i % 40, 1 + i % 3, 0)));
        for (block, byte, value) in damage {
            let count = rig.disk.blocks.len();
            let bytes = &mut rig.disk.blocks[count - block % (count - 1) - 1];
            bytes[byte] = value;
            if seal {
                rig.tree.seed.seal(bytes);
            }
        }
        let (seen, walked) = rig.walk();
        prop_assert!(walked.records <= 2 * 8000);
        prop_assert!(!walked.complete || seen.doubtful.is_empty());
        prop_assert!(rig.tree.range(&rig.disk, Key::MIN).count() <= 4 * 8000);
        prop_assert!(rig.tree.overlapping(&rig.disk, 0..u64::MAX).count() <= 4 * 8000);
        let _ = rig.tree.last_at_or_before(&rig.disk, Key::at(40_000));
        let _ = rig.tree.locate(&rig.disk, 0, u64::MAX);
    }

    /// One wrong key, wherever and whatever it is, is one finding at most (none, if it still fits).
    #[test]
    fn one_wrong_key_is_one_finding(leaf in 0..20_u64, index in 0..169_usize, key in 0..40_000_u64, level in 0..2_u32) {
        let mut rig = Rig::new(extents(20 * 169));
        if level == 0 {
            rig.edit_records(leaf, |records| records[index].offset = key.into());
        } else {
            rig.edit_entries(1, 0, |entries| entries[leaf as usize].start = key.into());
        }
        let (seen, _) = rig.walk();
        prop_assert!(seen.faults.len() <= 1, "{:#?}", seen.faults);
        // Two records are in doubt for it at most; or, as a parent's word is taken for it, those of one leaf.
        prop_assert!(seen.doubtful.len() <= if level == 0 { 2 } else { 169 }, "{}", seen.doubtful.len());
    }

    /// One wrong byte of a record or a branch entry likewise, where records overlap.
    #[test]
    fn one_wrong_byte_is_one_finding(
        level in 0..3_u32,
        node in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut rig = Rig::new((0..20_000).map(|i| rmap(i / 3 * 10, 8 + i % 40, 1 + i % 3, i % 7 * 1000)));
        prop_assert_eq!(rig.walk().0.faults, []);
        let nodes = [20_000_usize.div_ceil(144), 2, 1][level as usize];
        rig.edit(level, node.index(nodes) as u64, |node| {
            let used = node.header.count.get() as usize * if level == 0 { 28 } else { 40 };
            node.body.0[byte.index(used)] = value;
        });
        prop_assert!(rig.walk().0.faults.len() <= 1, "{:#?}", rig.walk().0.faults);
    }

    /// One wrong length likewise.
    #[test]
    fn one_wrong_length_is_one_finding(leaf in 0..20_u64, index in 0..169_usize, length in 0..5000_u32) {
        let mut rig = Rig::new(extents(20 * 169));
        rig.edit_records(leaf, |records| records[index].length = length.into());
        prop_assert!(rig.walk().0.faults.len() <= 1, "{:#?}", rig.walk().0.faults);
    }
}

// ---------------------------------------------------------------------------------------------------------- damage

/// `name: damage => "the one finding"`, each on the tree of three levels.
macro_rules! damage {
    ($($name:ident: $damage:expr => $finding:literal)+) => {$(
        #[test]
        fn $name() {
            let mut rig = tall();
            let damage: fn(&mut Rig<Extent>) = $damage;
            damage(&mut rig);
            assert_eq!(rig.finding(), $finding);
        }
    )+};
}

damage! {
    magic: |rig| rig.edit(0, 5, |node| node.header.magic.0[0] = 0)
        => "leaf[5]: no paxfs structure here (magic [00, 41, 58, 46])"
    place: |rig| rig.edit(0, 5, |node| node.header.place = 99.into()) => "leaf[5]: belongs at 99"
    owner: |rig| rig.edit(1, 1, |node| node.header.owner = 8.into()) => "node[1][1]: belongs to 8, not 7"
    kind: |rig| rig.edit(0, 0, |node| node.header.kind = BlockKind::FREE)
        => "leaf[0]: is a 3 block where a 5 block belongs"
    level: |rig| rig.edit(0, 236, |node| node.header.level = 1.into())
        => "leaf[236]: is of level 1, expected 0"
    count_too_large: |rig| rig.edit(0, 5, |node| node.header.count = 170.into())
        => "leaf[5]: claims 170 records, 169 fit"
    count_huge: |rig| rig.edit(1, 0, |node| node.header.count = u32::MAX.into())
        => "node[1][0]: claims 4294967295 records, 101 fit"
    count_zero: |rig| rig.edit(2, 0, |node| node.header.count = 0.into()) => "node[2][0]: holds no record"
    tail_of_a_leaf: |rig| rig.edit(0, 236, |node| node.body.0[4055] = 1)
        => "leaf[236]: bytes after the last record are not zero"
    tail_of_a_branch: |rig| rig.edit(1, 2, |node| node.body.0[4055] = 1)
        => "node[1][2]: bytes after the last record are not zero"
    child_out_of_range: |rig| rig.edit_entries(1, 1, |entries| entries[3].child = (1 << 40).into())
        => "node[1][1].rec[3]: leads to block 1099511627776, past the end of the device"
    child_zero: |rig| rig.edit_entries(1, 1, |entries| entries[3].child = 0.into())
        => "leaf[104]: no paxfs structure here (magic [00, 00, 00, 00])"
    cycle: |rig| {
        let root = rig.tree.root;
        rig.edit_entries(1, 1, |entries| entries[3].child = root.into());
    } => "leaf[104]: is of level 2, expected 0"
    duplicate_leaf: |rig| rig.edit_entries(1, 1, |entries| entries[3].child = entries[2].child)
        => "leaf[104]: begins with key 174070, its parent says 175760"
    duplicate_branch: |rig| rig.edit_entries(2, 0, |entries| entries[2].child = entries[1].child)
        => "node[1][2]: begins with key 170690, its parent says 341380"
    duplicate_before_the_right_place: |rig| rig.edit_entries(2, 0, |entries| entries[0].child = entries[1].child)
        => "node[1][0]: begins with key 170690, its parent says 0"
    duplicate_entry: |rig| rig.edit_entries(2, 0, |entries| entries[2] = entries[1])
        => "node[2][0].rec[1]: key 170690 is out of order"
    duplicate_entry_of_a_leaf: |rig| rig.edit_entries(1, 1, |entries| entries[4] = entries[3])
        => "node[1][1].rec[3]: key 175760 is out of order"
    swapped_entries: |rig| rig.edit_entries(1, 1, |entries| entries.swap(4, 5))
        => "node[1][1].rec[4]: key 179140 is out of order"
    swapped_first_entries: |rig| rig.edit_entries(1, 1, |entries| entries.swap(0, 1))
        => "node[1][1]: begins with key 172380, its parent says 170690"
    key_too_large: |rig| rig.edit_records(7, |records| records[50].offset = 300_000.into())
        => "leaf[7].rec[50]: key 300000 is out of order"
    key_too_small: |rig| rig.edit_records(7, |records| records[50].offset = 3.into())
        => "leaf[7].rec[50]: key 3 is out of order"
    first_key: |rig| rig.edit_records(7, |records| records[0].offset = 3.into())
        => "leaf[7]: begins with key 3, its parent says 11830"
    last_key: |rig| rig.edit_records(7, |records| records[168].offset = 300_000.into())
        => "leaf[7].rec[168]: key 300000 is out of order"
    last_key_of_all: |rig| rig.edit_records(236, |records| records[115].offset = 1.into())
        => "leaf[236].rec[115]: key 1 is out of order"
    same_key_twice: |rig| rig.edit_records(7, |records| records[50].offset = records[49].offset)
        => "leaf[7].rec[49]: key 12320 is out of order"
    branch_key_too_large: |rig| rig.edit_entries(1, 1, |entries| entries[3].start = 176_000.into())
        => "leaf[104]: begins with key 175760, its parent says 176000"
    branch_key_too_small: |rig| rig.edit_entries(1, 1, |entries| entries[3].start = 175_000.into())
        => "leaf[104]: begins with key 175760, its parent says 175000"
    branch_key_far_too_large: |rig| rig.edit_entries(1, 1, |entries| entries[3].start = 999_999.into())
        => "node[1][1].rec[3]: key 999999 is out of order"
    branch_key_of_the_last: |rig| rig.edit_entries(1, 1, |entries| entries[100].start = 999_999.into())
        => "node[1][1].rec[100]: key 999999 is out of order"
    high_too_large: |rig| rig.edit_entries(1, 1, |entries| entries[3].high = 999_999.into())
        => "node[1][1].rec[3]: says that records below end at 999999, they end at 177448"
    high_too_small: |rig| rig.edit_entries(2, 0, |entries| entries[0].high = 3.into())
        => "node[2][0].rec[0]: says that records below end at 3, they end at 170688"
    record_empty: |rig| rig.edit_records(7, |records| records[50].length = 0.into())
        => "leaf[7].rec[50]: covers no block"
    record_zero: |rig| rig.edit_records(7, |records| records[0] = Extent::read_from_bytes(&[0; 24]).unwrap())
        => "leaf[7].rec[0]: covers no block"
    record_past_end: |rig| rig.edit_records(7, |records| records[168].start = (1 << 40).into())
        => "leaf[7].rec[168]: ends at 1099511627784, past 1073741824"
    record_flags: |rig| rig.edit_records(7, |records| records[50].flags = 6.into())
        => "leaf[7].rec[50]: has unknown flags 0x6"
    record_across_groups: |rig| rig.edit_records(7, |records| records[50].start = ((1 << 20) - 4).into())
        => "leaf[7].rec[50]: crosses a group's border"
    overlap: |rig| rig.edit_records(7, |records| records[50].length = 11.into())
        => "leaf[7].rec[51]: overlaps its neighbour: the first of both ends at 12341, the second starts at 12340"
    overlap_of_many: |rig| rig.edit_records(7, |records| records[50].length = 900.into())
        => "leaf[7].rec[50]: overlaps its neighbour: the first of both ends at 13230, the second starts at 12340"
    overlap_with_the_next_leaf: |rig| rig.edit_records(7, |records| records[168].length = 900.into())
        => "node[1][0].rec[7]: says that records below end at 13518, they end at 14410"
    mergeable: |rig| rig.edit_records(7, |records| {
        records[50].length = 10.into();
        records[51].start = (records[50].start.get() + 10).into();
    }) => "leaf[7].rec[51]: should be one with the record before it"
}

#[test]
fn a_wrong_checksum_is_one_finding() {
    let mut rig = tall();
    let block = rig.block(0, 9);
    rig.disk.blocks[block as usize][2000] ^= 1;
    let (seen, walked) = rig.walk();
    assert!(matches!(
        seen.faults[..],
        [TreeFault { what: Defect::Node(NodeFault::Header(HeaderFault::Crc { .. })), .. }]
    ));
    assert_eq!(seen.faults[0].at.to_string(), "leaf[9]");
    assert_eq!((walked.complete, walked.nodes, seen.records.len()), (false, 240, 40_000 - 169));
}

/// What a lost leaf held is known from its entry, and that of the next.
#[test]
fn what_is_missing_is_told_as_far_as_branch_nodes_know() {
    let mut rig = tall();
    let all = rig.walk().0.records;
    rig.edit(0, 9, |node| node.header.count = 0.into());
    let lost = &all[9 * 169..10 * 169];
    let (seen, _) = rig.walk();
    let [missing] = seen.missing[..] else { panic!("{:?}", seen.missing) };
    assert!(lost.iter().all(|record| missing.has(record.key())));
    assert!(seen.records.iter().all(|record| !missing.has(record.key())));
    assert_eq!(missing.positions(), lost[0].key().start..lost[168].end());
    // Of a root nothing is known.
    rig.tree.height = 0;
    assert_eq!(rig.walk().0.missing, [Missing::ANY]);
}

#[test]
fn a_medium_that_failed_is_told_from_a_wrong_checksum() {
    let mut rig = tall();
    let block = rig.block(0, 9);
    rig.disk.failed = Some(block);
    assert_eq!(rig.walk().0.faults, [], "it failed, but what was read is sound");
    rig.disk.blocks[block as usize] = [0; 4096];
    assert_eq!(rig.finding(), "leaf[9]: the medium failed");
}

/// Two entries that each lead to the other's child are two findings: each child is where it does not belong.
#[test]
fn swapped_children_are_a_finding_each_and_their_records_are_left_out() {
    let mut rig = tall();
    rig.edit_entries(1, 1, |entries| {
        let (one, other) = (entries[4].child, entries[5].child);
        (entries[4].child, entries[5].child) = (other, one);
    });
    let (seen, walked) = rig.walk();
    let findings: Vec<String> = seen.faults.iter().map(TreeFault::to_string).collect();
    assert_eq!(
        findings,
        [
            "leaf[105]: begins with key 179140, its parent says 177450",
            "leaf[106]: begins with key 177450, its parent says 179140",
        ]
    );
    assert!(!walked.complete);
    assert_eq!((seen.records.len(), seen.doubtful.len()), (40_000 - 338, 0));
}

/// A shared child fits both its parents only when its keys are split between them: then the keys are a finding too.
#[test]
fn a_shared_branch_node_is_walked_below_its_first_parent() {
    let mut rig = tall();
    rig.edit_entries(2, 0, |entries| {
        entries[2].child = entries[1].child;
        entries[2].start = 180_000.into();
    });
    let (seen, walked) = rig.walk();
    let findings: Vec<String> = seen.faults.iter().map(TreeFault::to_string).collect();
    assert_eq!(
        findings,
        ["node[1][1].rec[6]: key 180830 is out of order", "node[1][2]: is reached a second time"]
    );
    assert!(!walked.complete);
}

#[test]
fn a_key_past_the_start_of_a_lost_leaf_is_still_found() {
    let mut rig = tall();
    rig.edit_records(7, |records| records[168].offset = 13_525.into());
    rig.edit(0, 8, |node| node.header.count = 0.into());
    let findings: Vec<String> = rig.walk().0.faults.iter().map(TreeFault::to_string).collect();
    assert_eq!(findings, ["leaf[7].rec[168]: key 13525 is out of order", "leaf[8]: holds no record"]);
}

#[test]
fn a_web_of_shared_nodes_is_walked_once() {
    // 101 entries at each of 12 levels, all for the same child.
    let mut rig = Rig::new([extent(0, 100, 8)]);
    let mut block = rig.root.block.get();
    for level in 1..12_u16 {
        let (entry, place) = (Branch::new(Key::MIN, 8, block), rig.disk.allocate().unwrap());
        block = place;
        let mut bytes = [0; 4096];
        let node = Node::mut_from_bytes(&mut bytes).unwrap();
        node.header = paxfs_format::header::Header {
            level: level.into(),
            count: (MAX_BRANCHES as u32).into(),
            ..paxfs_format::header::Header::new(KIND, block, OWNER, 1)
        };
        for to in node.body.0.chunks_exact_mut(40) {
            to.copy_from_slice(entry.as_bytes());
        }
        rig.tree.seed.seal(&mut bytes);
        rig.disk.write(block, &bytes).unwrap();
    }
    (rig.tree.root, rig.tree.height) = (block, 12);
    let (seen, walked) = rig.walk();
    assert_eq!(walked.nodes, 11 + 101);
    assert_eq!(seen.records.len(), 1);
    assert!(rig.tree.range(&rig.disk, Key::MIN).count() < 5000);
    assert!(rig.tree.overlapping(&rig.disk, 0..9).count() < 5000);
    assert_eq!(rig.tree.locate(&rig.disk, 0, 5000), None);
    // Nor is a scan endless that finds nothing: all leaves lost, or passed by at the last moment.
    rig.disk.blocks[1] = [0; 4096];
    assert!(rig.tree.range(&rig.disk, Key::MIN).count() < 5000);
    let entries = &mut rig.disk.blocks[2];
    for entry in <[Branch]>::mut_from_bytes(&mut entries[40..40 + 40 * MAX_BRANCHES]).unwrap() {
        entry.high = 0.into();
    }
    rig.tree.seed.seal(entries);
    assert!(rig.tree.overlapping(&rig.disk, 0..9).count() < 5000);
    let _ = rig.walk();
}

#[test]
fn a_root_that_cannot_be_is_one_finding() {
    for (root, height) in [(0, 1), (1, 0), (1, 13), (1, u32::MAX)] {
        let mut rig = tall();
        (rig.tree.root, rig.tree.height) = (root, height);
        assert_eq!(rig.finding(), format!("root: the tree's root is block {root} at height {height}"));
        let errors: Vec<_> = rig.tree.range(&rig.disk, Key::MIN).collect();
        assert!(matches!(errors[..], [Err(_)]));
        assert!(rig.tree.last_at_or_before(&rig.disk, Key::MIN).is_err());
        assert_eq!(rig.tree.locate(&rig.disk, 0, 0), None);
    }
}

#[test]
fn cursors_go_on_past_a_lost_leaf() {
    let mut rig = tall();
    rig.edit(0, 5, |node| node.header.count = 0.into());
    let lost = rig.block(0, 5);
    let items: Vec<_> = rig.tree.range(&rig.disk, Key::MIN).collect();
    let errors: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
    assert_eq!(items.len(), 40_000 - 169 + 1);
    assert_eq!(errors[0].to_string(), format!("block {lost}, a tree node of level 0: holds no record"));
    assert_eq!(rig.tree.overlapping(&rig.disk, 0..400_000).filter(|item| item.is_err()).count(), 1);
}

#[test]
fn records_may_overlap_in_the_reverse_map_alone() {
    let rig = Rig::new([rmap(0, 10, 1, 0), rmap(5, 10, 1, 100), rmap(5, 10, 2, 0)]);
    assert_eq!(rig.walk().0.faults, []);
    let rig = Rig::new([free(0, 10), free(5, 10)]);
    assert!(matches!(
        rig.walk().0.faults[..],
        [TreeFault { what: Defect::Overlap { end: 10, start: 5 }, .. }]
    ));
    let rig = Rig::new([rmap(0, 10, 0, 0)]);
    assert!(matches!(
        rig.walk().0.faults[..],
        [TreeFault { what: Defect::Record(RecordFault::Owner(0)), .. }]
    ));
}
