//! The path language over a small volume: what is printed can be resolved, to the bytes it was printed for.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{MANY, PIECES, features, sample, volume};
use paxfs_format::bad::Bad;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::Chunk;
use paxfs_format::cluster::Cluster;
use paxfs_format::declare::Kind;
use paxfs_format::device::Device;
use paxfs_format::extent::Extent;
use paxfs_format::field::value::{Value, rows};
use paxfs_format::fork::BodyPlace;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::index::Index;
use paxfs_format::inode::Which;
use paxfs_format::node::Node;
use paxfs_format::path::{ROOTS, Seal, TargetError, group_header, resolve};
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Rmap;
use paxfs_format::tree::{NodePlace, RecordPlace, Tree, TreeFault, Visitor};
use paxfs_format::volume::Volume;
use proptest::prelude::*;
use std::sync::LazyLock;
use zerocopy::IntoBytes;

static SAMPLE: LazyLock<(Device, common::Truth)> = LazyLock::new(|| {
    let (bytes, truth) = sample(features("rmap,reflink,csum"));
    (Device::memory(bytes), truth)
});

fn number(path: &str) -> u64 {
    let volume = volume(&SAMPLE.0);
    let bytes = resolve(&volume, path).unwrap().read(&volume.blocks).unwrap();
    u64::from_str_radix(&bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>(), 16)
        .unwrap()
}

fn text(path: &str) -> String {
    let volume = volume(&SAMPLE.0);
    let target = resolve(&volume, path).unwrap();
    let bytes = target.read(&volume.blocks).unwrap();
    Value::read(&target.kind, &bytes).unwrap().to_string()
}

/// Resolves the place of all that a walk meets.
struct Places<'v, B> {
    volume: &'v Volume<B>,
    tree: String,
    records: u64,
    nodes: u64,
}

impl<B: Blocks, R: Record> Visitor<R> for Places<'_, B> {
    fn node(&mut self, at: &NodePlace, _node: &Node) {
        self.nodes += 1;
        let target = resolve(self.volume, &format!("{}.{at}", self.tree)).unwrap();
        assert_eq!(target.offset, at.block * 4096, "{}.{at}", self.tree);
        let crc = resolve(self.volume, &format!("{}.{at}.header.crc", self.tree)).unwrap();
        assert_eq!(crc.offset, at.block * 4096 + 4);
        assert_eq!(crc.seal, Seal::Header { offset: at.block * 4096, length: 4096 });
        let (stored, computed) = crc.seal.check(&self.volume.blocks, self.volume.seed).unwrap().unwrap();
        assert_eq!(stored, computed);
    }

    fn record(&mut self, at: &RecordPlace, record: &R) {
        self.records += 1;
        let target = resolve(self.volume, &format!("{}.{at}", self.tree)).unwrap();
        assert_eq!(target.read(&self.volume.blocks).unwrap(), record.as_bytes());
        assert_eq!(resolve(self.volume, &target.text).unwrap(), target);
    }

    fn fault(&mut self, fault: TreeFault) {
        panic!("{fault}");
    }
}

fn walk<R: Record>(tree: &Tree<R>, name: String) -> (u64, u64) {
    let volume = volume(&SAMPLE.0);
    let mut places = Places { volume: &volume, tree: name, records: 0, nodes: 0 };
    tree.walk(&volume.blocks, &mut places);
    (places.nodes, places.records)
}

#[test]
fn every_record_of_every_tree() {
    let volume = volume(&SAMPLE.0);
    for group in volume.geometry.group_numbers() {
        let (header, _) = group_header(&volume, group).unwrap();
        for tree in GroupTree::ALL {
            let name = format!("{}[{group}]", tree.name());
            let (nodes, records) = match tree {
                GroupTree::Free => walk(&volume.group_tree::<Free>(group, header, tree), name.clone()),
                GroupTree::Refcount => {
                    walk(&volume.group_tree::<Refcount>(group, header, tree), name.clone())
                }
                GroupTree::Rmap => walk(&volume.group_tree::<Rmap>(group, header, tree), name.clone()),
                GroupTree::Inodes => walk(&volume.group_tree::<Chunk>(group, header, tree), name.clone()),
                GroupTree::Clusters => walk(&volume.group_tree::<Cluster>(group, header, tree), name.clone()),
                GroupTree::Bad => walk(&volume.group_tree::<Bad>(group, header, tree), name.clone()),
            };
            assert_eq!(number(&format!("{name}.root.records")), records);
            assert_eq!(number(&format!("{name}.root.nodes")), nodes);
            assert_eq!(number(&format!("group[{group}].{}.records", tree.name())), records);
        }
    }
}

#[test]
fn the_extents_of_files() {
    let (device, truth) = &*SAMPLE;
    let volume = volume(device);
    let inode = truth.inodes["pieces"];
    let tree = volume.fork_tree::<Extent>(volume.inode(inode).unwrap(), Which::Data).unwrap();
    let (nodes, records) = walk(&tree, format!("inode[{inode}].extents"));
    assert_eq!((records, nodes), (PIECES, 4));
    assert_eq!(number("inode[/pieces].extents.root.records"), PIECES);
    assert_eq!(number("inode[/pieces].extents.root.header.count"), 3);
    assert_eq!(number("inode[/pieces].extents.node[1][0].rec[0].child"), {
        resolve(&volume, "inode[/pieces].extents.leaf[0]").unwrap().offset / 4096
    });
    for (index, extent) in truth.files[&truth.inodes["clone"]].iter().enumerate() {
        let target = resolve(&volume, &format!("inode[/clone].extents.rec[{index}]")).unwrap();
        assert_eq!(target.read(&volume.blocks).unwrap(), extent.as_bytes());
    }
    assert_eq!(text("inode[/unwritten].extents.rec[0].flags"), "unwritten");
    let error = resolve(&volume, "inode[/pieces].extents.rec[0]").unwrap_err();
    assert!(error.to_string().contains("leaf[0].rec[0]"), "{error}");
}

#[test]
fn every_entry() {
    let (device, truth) = &*SAMPLE;
    let volume = volume(device);
    for (name, which, fork) in [
        ("many", Which::Data, "directory"),
        ("/", Which::Data, "directory"),
        ("attributed", Which::Attributes, "attributes"),
        ("many-attributes", Which::Attributes, "attributes"),
        ("greeting", Which::Attributes, "attributes"),
    ] {
        let number = truth.inodes[name];
        let inode = volume.inode(number).unwrap();
        let mut entries = 0;
        for body in volume.bodies(inode, which, 0) {
            let body = body.unwrap();
            let at = match body.place {
                BodyPlace::Inline => format!("inode[{number}].{fork}"),
                BodyPlace::Block { ordinal, block } => {
                    let at = format!("inode[{number}].{fork}.block[{ordinal}]");
                    assert_eq!(resolve(&volume, &at).unwrap().offset, block * 4096);
                    assert_eq!(
                        resolve(&volume, &format!("{at}.header.crc")).unwrap().offset,
                        block * 4096 + 4
                    );
                    let first = resolve(&volume, &format!("{at}.entry[0]")).unwrap();
                    assert_eq!(
                        first.offset,
                        resolve(&volume, &format!("block[{block}].entry[0]")).unwrap().offset
                    );
                    at
                }
            };
            let names: Vec<Vec<u8>> = match which {
                Which::Data => body
                    .entries()
                    .map(|e| {
                        e.map(|e: paxfs_format::entry::Entry<'_, paxfs_format::entry::DirectoryEntry>| {
                            e.name.to_vec()
                        })
                        .unwrap()
                    })
                    .collect(),
                Which::Attributes => body
                    .entries()
                    .map(|e| {
                        e.map(|e: paxfs_format::entry::Entry<'_, paxfs_format::entry::AttributeEntry>| {
                            e.name.to_vec()
                        })
                        .unwrap()
                    })
                    .collect(),
            };
            for (index, name) in names.iter().enumerate() {
                let target = resolve(&volume, &format!("{at}.entry[{index}].name")).unwrap();
                assert_eq!(&target.read(&volume.blocks).unwrap(), name);
                assert_eq!(resolve(&volume, &target.text).unwrap(), target);
                entries += 1;
            }
            resolve(&volume, &format!("{at}.entry[{}]", names.len())).unwrap_err();
        }
        assert!(entries > 0);
        if name == "many" {
            assert_eq!(entries, MANY);
            let tree = volume.fork_tree::<Index>(inode, which).unwrap();
            walk(&tree, format!("inode[{number}].{fork}.index"));
        }
    }
}

#[test]
fn values_in_blocks_and_inodes() {
    let (device, truth) = &*SAMPLE;
    let volume = volume(device);
    assert_eq!(text("inode[/short-link].target"), "\"greeting\"");
    let error = resolve(&volume, "inode[/long-link].target").unwrap_err();
    assert!(error.to_string().contains("value[K]"), "{error}");
    assert_eq!(text("inode[/long-link].value[0].header.kind"), "value");
    assert_eq!(text("inode[/long-link].value[0].body[0..2]"), "2f78");
    resolve(&volume, "inode[/long-link].value[1]").unwrap_err();
    let at = (0..4)
        .map(|index| format!("inode[/attributed].attributes.entry[{index}]"))
        .find(|at| text(&format!("{at}.kind")) == "blocks")
        .unwrap();
    assert_eq!(text(&format!("{at}.name")), "\"user.long\"");
    assert_eq!(number(&format!("{at}.value_length")), 9000);
    for block in 0..3 {
        assert_eq!(number(&format!("{at}.block[{block}].header.level")), block);
        assert_eq!(number(&format!("{at}.block[{block}].header.owner")), truth.inodes["attributed"]);
    }
    resolve(&volume, &format!("{at}.block[3]")).unwrap_err();
    let root = truth.inodes["/"];
    let parent = (0..4)
        .map(|index| format!("inode[/attributed].attributes.entry[{index}]"))
        .find(|at| text(&format!("{at}.kind")) == "parent")
        .unwrap();
    assert_eq!(number(&format!("{parent}.value")), root);
    // The fork's own fields have the same name.
    assert_eq!(text("inode[/attributed].attributes.format"), "inline");
}

#[test]
fn fixed_places() {
    let volume = volume(&SAMPLE.0);
    assert_eq!(text("sb.header.kind"), "superblock");
    assert_eq!(number("sb[1].header.place"), volume.geometry.group_blocks);
    assert_eq!(number("group[1].group"), 1);
    assert_eq!(number("group_copy[1].header.place"), volume.geometry.group_copy(1));
    assert_eq!(text("sum[900].state"), "none");
    let second = resolve(&volume, "journal.slot[1].commit").unwrap();
    assert_eq!(second.seal, Seal::None);
    let slot = (volume.geometry.journal().start + volume.geometry.journal_blocks / 2) * 4096;
    assert_eq!(second.offset, slot + 64);
    assert_eq!(
        resolve(&volume, "journal.slot[1].bytes").unwrap().seal,
        Seal::Header { offset: slot, length: 64 }
    );
    assert_eq!(resolve(&volume, "journal.slot[1].rec[0].block").unwrap().offset, slot + 128);
    for (block, name) in [(0, "Superblock"), (1, "GroupHeader"), (2, "GroupHeader")] {
        let target = resolve(&volume, &format!("block[{block}]")).unwrap();
        assert!(matches!(target.kind, Kind::Struct(layout) if layout.name == name));
        assert_eq!(target.offset, block * 4096);
    }
    assert_eq!(resolve(&volume, "block[5].raw[7]").unwrap().offset, 5 * 4096 + 7);
}

#[test]
fn every_field_of_every_metadata_block_is_found_by_the_path_of_its_row() {
    let volume = volume(&SAMPLE.0);
    let mut fields = 0;
    for block in 0..volume.geometry.blocks {
        let path = format!("block[{block}]");
        let Ok(target) = resolve(&volume, &path) else { continue };
        let Kind::Struct(layout) = target.kind else { panic!("{path}") };
        if layout.name == "Block" {
            continue;
        }
        let bytes = target.read(&volume.blocks).unwrap();
        for row in rows(layout, &bytes) {
            let field = resolve(&volume, &format!("{path}.{}", row.path)).unwrap();
            assert_eq!(field.text, format!("{path}.{}", row.path));
            assert_eq!((field.offset, field.length()), (block * 4096 + row.offset as u64, row.size));
            fields += 1;
        }
    }
    assert!(fields > 1000);
}

#[test]
fn errors_say_what_there_is() {
    let volume = volume(&SAMPLE.0);
    let error = |path: &str| resolve(&volume, path).unwrap_err().to_string();
    assert_eq!(
        error("nothing"),
        format!("a path cannot begin with `nothing`; there is: {}", ROOTS.join(", "))
    );
    assert_eq!(error("group[2].free"), "`group[2]` does not exist: there are 0 to 1");
    assert_eq!(error("rmap[0].twig"), "no `twig` in `rmap[0]`; there is: leaf, node, root");
    assert_eq!(
        error("rmap[0].leaf[0].rec[0].colour"),
        "no `colour` in `rmap[0].leaf[0].rec[0]`; there is: start, length, owner, offset, flags"
    );
    assert_eq!(error("group.free"), "`group`: a group's number, as in group[0], expected");
    assert_eq!(
        error("inode[/nothing]"),
        format!("\"nothing\" does not exist in directory inode {}", volume.superblock.root.get())
    );
    assert_eq!(
        error("rmap[0].leaf[9999].rec[0]"),
        "`rmap[0].leaf[9999]` is not there: the tree does not reach that far, or a branch node above is broken"
    );
    assert!(error("inode[/greeting].mode.x").contains("no fields"));
    assert!(
        error("inode[/greeting].attributes.entry[0].name[0]").contains("no index"),
        "{}",
        error("inode[/greeting].attributes.entry[0].name[0]")
    );
    assert!(
        matches!(resolve(&volume, "inode[/greeting]._"), Err(TargetError::Unknown { expected, .. }) if expected.contains(&"extents".to_owned()))
    );
}

/// Something like a path.
fn paths() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "sb",
        "group",
        "group_copy",
        "free",
        "refcount",
        "rmap",
        "inodes",
        "clusters",
        "bad",
        "inode",
        "block",
        "journal",
        "sum",
        "leaf",
        "node",
        "root",
        "rec",
        "header",
        "crc",
        "entry",
        "name",
        "value",
        "index",
        "target",
        "slot",
        "data",
        "directory",
        "attributes",
        "extents",
        "raw",
        "bytes",
        "body",
        "tree",
        "payload",
        "_",
    ]);
    let index = prop_oneof![
        3 => (0u64..4).prop_map(|n| format!("[{n}]")),
        2 => (0u64..7000).prop_map(|n| format!("[{n}]")),
        1 => any::<u64>().prop_map(|n| format!("[{n}]")),
        1 => (0u64..6000, 0u64..6000).prop_map(|(a, b)| format!("[{a}..{b}]")),
        1 => Just("[/greeting]".to_owned()),
        1 => Just("[/many]".to_owned()),
        1 => Just("[/long-link]".to_owned()),
    ];
    let segment = (name, prop::collection::vec(index, 0..3))
        .prop_map(|(name, indices)| name.to_owned() + &indices.concat());
    prop_oneof![
        4 => prop::collection::vec(segment, 1..7).prop_map(|segments| segments.join(".")),
        1 => "\\PC{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_path_panics(path in paths()) {
        let volume = volume(&SAMPLE.0);
        if let Ok(target) = resolve(&volume, &path) {
            // What is found is on the device, and is found again by its own text.
            target.read(&volume.blocks).unwrap();
            target.seal.check(&volume.blocks, volume.seed).unwrap();
            prop_assert_eq!(resolve(&volume, &target.text).unwrap(), target);
        }
    }

    #[test]
    fn no_path_panics_on_damaged_volumes(path in paths(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        thread_local! {
            static BYTES: Vec<u8> = SAMPLE.0.bytes(0, 24 << 20).unwrap().to_vec();
        }
        BYTES.with(|bytes| {
            let device = &SAMPLE.0;
            let good = volume(device);
            let mut image = Image::new(device);
            for (at, value) in &damage {
                // Where metadata is mostly: in the first MiB.
                let at = at.index(1 << 20);
                if bytes[at / 4096 * 4096..][..4096].iter().any(|&byte| byte != 0) {
                    let block = image.block_mut(u64::try_from(at / 4096).unwrap()).unwrap();
                    block[at % 4096] = *value;
                    // Checksums that fit let the damage through.
                    good.seed.seal(block);
                }
            }
            let volume = Volume::new(image, good.superblock, good.geometry);
            if let Ok(target) = resolve(&volume, &path) {
                target.read(&volume.blocks).unwrap();
            }
        });
    }
}
