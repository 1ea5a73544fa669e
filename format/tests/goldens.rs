//! What must not change by accident: the shape of every structure, where things are on a volume, and the tables of
//! `docs/FORMAT.md`, which are these shapes in words.
//!
//! A change that is meant: `INSTA_UPDATE=always` for the snapshots, `PAXFS_BLESS=1` for `docs/FORMAT.md`; and then a
//! word in its version history.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use paxfs_format::declare::OnDisk;
use paxfs_format::entry::AttributeKind;
use paxfs_format::field::doc::{self, LAYOUTS};
use paxfs_format::free::Free;
use paxfs_format::geometry::{
    BLOCK_BYTES, Geometry, GeometryError, HUGE_BLOCKS, InGroup, MAX_BLOCKS, MIN_BLOCKS, MIN_GROUP_BLOCKS,
};
use paxfs_format::hash::NameHash;
use paxfs_format::header::{BlockKind, Header, Seed};
use paxfs_format::inode::FileType;
use paxfs_format::node::Node;
use paxfs_format::superblock::{ReadOnlyCompatible, Superblock};
use paxfs_format::units::Uuid;
use proptest::prelude::*;
use std::fmt::Write;
use std::path::Path;
use zerocopy::IntoBytes;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

#[test]
fn shapes() {
    let mut text = String::new();
    for layout in LAYOUTS {
        writeln!(text, "{} {}", layout.name, layout.size).unwrap();
        for field in layout.fields {
            let (offset, size, kind) = (field.offset, field.kind.size(), doc::type_name(&field.kind));
            writeln!(text, "  {offset:>4} {size:>4} {} ({kind})", field.name).unwrap();
        }
    }
    insta::assert_snapshot!(text);
}

/// One volume as text.
fn describe(geometry: &Geometry) -> String {
    let Geometry { blocks, group_blocks, cluster_blocks, journal_blocks, csum } = geometry;
    let (groups, journal) = (geometry.groups(), geometry.journal());
    let mut text = format!(
        "blocks {blocks}, group_blocks {group_blocks}, groups {groups}, cluster_blocks {cluster_blocks}, \
         journal {journal:?} ({journal_blocks}), csum {csum}\n"
    );
    let last = geometry.group_numbers().end - 1;
    for group in if last == 0 { vec![0] } else { vec![0, last] } {
        let (start, length, table) =
            (geometry.group_start(group), geometry.group_len(group), geometry.table(group));
        let (header, copy, fixed) =
            (geometry.group_header(group), geometry.group_copy(group), geometry.fixed_blocks(group));
        writeln!(
            text,
            "    group {group}: {start}..{}, {length} blocks, header {header}, its copy {copy}, table {table:?}, \
             fixed {fixed}",
            start + length
        )
        .unwrap();
    }
    text
}

#[test]
fn geometries() {
    let sizes = [
        ("less than 4 MiB", 4 * MIB - 1),
        ("4 MiB", 4 * MIB),
        ("4 MiB + 1 block", 4 * MIB + 4096),
        ("5 MiB", 5 * MIB),
        ("63 MiB + 54321", 63 * MIB + 54321),
        ("64 MiB", 64 * MIB),
        ("1 GiB - 1", GIB - 1),
        ("1 GiB", GIB),
        ("100 GiB + 12345", 100 * GIB + 12345),
        ("1 TiB", TIB),
        ("16 TiB", 16 * TIB),
        ("1 PiB", 1024 * TIB),
        ("8 EiB", 1 << 63),
        ("more than 8 EiB", (1 << 63) + 4096),
    ];
    let mut text = String::new();
    for (name, bytes) in sizes {
        writeln!(text, "{name}: {bytes} bytes").unwrap();
        for (csum, groups) in
            [false, true].into_iter().flat_map(|c| [None, Some(1), Some(2), Some(7)].map(|g| (c, g)))
        {
            let asked = groups.map_or("default".into(), |groups: u64| format!("-g {groups}"));
            match Geometry::choose(bytes, groups, csum) {
                Ok(geometry) => write!(text, "  {asked}: {}", describe(&geometry)).unwrap(),
                Err(error) => writeln!(text, "  {asked}, csum {csum}: {error}").unwrap(),
            }
        }
    }
    insta::assert_snapshot!(text);
}

/// A superblock that describes a geometry.
fn superblock(geometry: &Geometry) -> Superblock {
    let mut superblock = Superblock::zeroed();
    superblock.block_size = 4096.into();
    superblock.blocks = geometry.blocks.into();
    superblock.group_blocks = geometry.group_blocks.into();
    superblock.groups = u32::try_from(geometry.groups()).unwrap().into();
    superblock.cluster_blocks = u32::try_from(geometry.cluster_blocks).unwrap().into();
    superblock.journal_start = geometry.journal().start.into();
    superblock.journal_blocks = geometry.journal_blocks.into();
    superblock.root = Geometry::inode_number(geometry.fixed_blocks(0), 0).into();
    superblock.read_only_compatible = if geometry.csum { ReadOnlyCompatible::CSUM } else { 0 }.into();
    superblock
}

/// Any geometry that mkfs can choose.
fn geometry() -> impl Strategy<Value = Geometry> {
    let bytes =
        (22u32..=63).prop_flat_map(|bits| 1u64 << bits..=(1u64 << bits).saturating_mul(2).min(1 << 63));
    let groups =
        prop_oneof![3 => Just(None), 2 => (1u64..64).prop_map(Some), 1 => (1u64..1 << 24).prop_map(Some)];
    (bytes, groups, any::<bool>())
        .prop_filter_map("no such volume", |(bytes, groups, csum)| Geometry::choose(bytes, groups, csum).ok())
}

proptest! {
    #[test]
    fn groups_tile_the_volume(geometry in geometry(), pick: u32) {
        let groups = geometry.group_numbers().end;
        prop_assert!(groups > 0);
        prop_assert!(geometry.group_len(groups - 1) >= MIN_GROUP_BLOCKS);
        prop_assert_eq!(geometry.group_start(groups - 1) + geometry.group_len(groups - 1), geometry.blocks);
        prop_assert_eq!((geometry.group_start(0), geometry.group_len(groups)), (0, 0));
        let group = pick % groups;
        prop_assert!(geometry.group_start(group).is_multiple_of(HUGE_BLOCKS));
        if group + 1 < groups {
            prop_assert_eq!(geometry.group_start(group) + geometry.group_len(group), geometry.group_start(group + 1));
        }
    }

    #[test]
    fn the_volume_fits_its_device(bits in 22u32..=63, odd in 0u64..1 << 22, groups in prop::option::of(1u64..64)) {
        let bytes = (1u64 << bits).saturating_add(odd);
        match Geometry::choose(bytes, groups, false) {
            Ok(geometry) => {
                let blocks = bytes / BLOCK_BYTES;
                prop_assert!(geometry.blocks <= blocks && blocks - geometry.blocks < MIN_GROUP_BLOCKS);
                prop_assert!((MIN_BLOCKS..=MAX_BLOCKS).contains(&geometry.blocks));
            }
            Err(error) => prop_assert!(groups.is_some() || bytes / BLOCK_BYTES > MAX_BLOCKS, "{}", error),
        }
    }

    #[test]
    fn fixed_ranges_are_disjoint_and_inside(geometry in geometry(), pick: u32) {
        let group = pick % geometry.group_numbers().end;
        let start = geometry.group_start(group);
        let mut ranges = vec![start..start + 3, geometry.table(group)];
        if group == 0 {
            ranges.push(geometry.journal());
        }
        // One behind the other from the group's start, up to what `fixed_blocks` says, with room for more.
        let end = ranges.iter().fold(start, |end, range| {
            assert!(range.start == end && range.end >= end, "{range:?} behind {end}");
            range.end
        });
        prop_assert_eq!(end, start + geometry.fixed_blocks(group));
        prop_assert!(geometry.fixed_blocks(group) < geometry.group_len(group));
        prop_assert_eq!(geometry.superblock(group), start);
        prop_assert_eq!(geometry.group_header(group), start + 1);
        let keeper = if group + 1 == geometry.group_numbers().end { 0 } else { group + 1 };
        prop_assert_eq!(geometry.group_copy(group), geometry.group_start(keeper) + 2);
        let entries = geometry.table(group).end - geometry.table(group).start;
        prop_assert!(!geometry.csum || entries * 512 >= geometry.group_len(group));
    }

    #[test]
    fn locating_is_the_inverse_of_numbering(geometry in geometry(), pick: u64) {
        let block = pick % geometry.blocks;
        let place = geometry.locate(block).unwrap();
        prop_assert_eq!(geometry.volume_block(place.group, place.block), block);
        prop_assert!(u64::from(place.block) < geometry.group_len(place.group));
        prop_assert_eq!(geometry.locate(geometry.blocks), None);
        let start = geometry.group_start(place.group);
        prop_assert_eq!(geometry.locate(start), Some(InGroup { group: place.group, block: 0 }));
        match geometry.sum_offset(block) {
            Some(offset) => {
                prop_assert!(geometry.csum && geometry.table(place.group).contains(&(offset / BLOCK_BYTES)));
                prop_assert_eq!(offset % 8, 0);
            }
            None => prop_assert!(!geometry.csum),
        }
        if let Some((inode_block, slot)) = geometry.inode_place(pick % (geometry.blocks * 8)) {
            let slot = u64::try_from(slot).unwrap();
            prop_assert_eq!(Geometry::inode_number(inode_block, slot), pick % (geometry.blocks * 8));
        }
    }

    #[test]
    fn a_superblock_gives_its_geometry_back(geometry in geometry()) {
        prop_assert_eq!(Geometry::of(&superblock(&geometry)), Ok(geometry));
    }

    #[test]
    fn a_wrong_field_is_named(geometry in geometry(), which in 0usize..8) {
        let mut broken = superblock(&geometry);
        let (field, value) = match which {
            0 => { broken.block_size = 512.into(); ("block_size", 512) }
            1 => { broken.group_blocks = 511.into(); ("group_blocks", 511) }
            2 => { broken.blocks = (MAX_BLOCKS + 1).into(); ("blocks", MAX_BLOCKS + 1) }
            3 => { broken.cluster_blocks = 24.into(); ("cluster_blocks", 24) }
            4 => { broken.groups = 0.into(); ("groups", 0) }
            5 => { broken.journal_blocks = 33.into(); ("journal_blocks", 33) }
            6 => { broken.journal_start = 2.into(); ("journal_start", 2) }
            _ => { broken.root = 7.into(); ("root", 7) }
        };
        prop_assert_eq!(Geometry::of(&broken), Err(GeometryError::Field { field, value }));
    }
}

/// The uuid of the examples.
const UUID: Uuid =
    Uuid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);

/// A node with its checksum: the example of FORMAT.md.
fn example_node() -> Vec<u8> {
    let mut node = Node::zeroed();
    node.header = Header::new(BlockKind::FREE, 48, 0, 1);
    node.header.count = 1.into();
    let record = Free { start: 600.into(), length: 424.into() };
    node.body.0[..8].copy_from_slice(record.as_bytes());
    let mut bytes = node.as_bytes().to_vec();
    Seed::new(&UUID).seal(&mut bytes);
    bytes
}

fn crc_example() -> String {
    let seed = Seed::new(&UUID);
    let bytes = example_node();
    assert!(seed.verify(&bytes).is_ok());
    let mut zeroed = bytes.clone();
    zeroed[4..8].fill(0);
    // The rule as the document words it, by other means than the crate's.
    let whole: Vec<u8> = UUID.0.iter().chain(&zeroed).copied().collect();
    assert_eq!(crc32c_bitwise(&whole), seed.checksum(&bytes));
    let mut text = format!(
        "```text\nvolume uuid          00112233-4455-6677-8899-aabbccddeeff\nCRC of the uuid      {:#010x}\n\
         CRC of the node      {:#010x}\nthe node, 4096 bytes, zeros from byte 48 on:\n",
        crc32c_bitwise(&UUID.0),
        seed.checksum(&bytes)
    );
    for (i, line) in bytes[..48].chunks(16).enumerate() {
        let line: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "  {:04x}  {}", 16 * i, line.join(" ")).unwrap();
    }
    text + "```\n"
}

/// CRC-32C bit by bit.
fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

fn cookie_example() -> String {
    let hash = NameHash::new(&UUID);
    let mut text = String::from("| of | is hashed | lowest cookie |\n|---|---|---|\n");
    let mut row = |of: &str, hashed: &[u8], cookie: u64| {
        let hashed: Vec<String> = hashed.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "| {of} | `{}` | `{cookie:#018x}` |", hashed.join(" ")).unwrap();
    };
    row("directory entry `hello`", b"hello", hash.directory(b"hello"));
    let user = b"user.a";
    let mut inline = vec![1];
    inline.extend(user);
    row(
        "attribute `user.a`, inline or in blocks",
        &inline,
        hash.attribute(AttributeKind::INLINE, None, user),
    );
    assert_eq!(
        hash.attribute(AttributeKind::INLINE, None, user),
        hash.attribute(AttributeKind::BLOCKS, None, user)
    );
    let mut parent = vec![3];
    parent.extend(4096u64.to_le_bytes());
    parent.extend(b"hello");
    row(
        "parent pointer: `hello` in directory 4096",
        &parent,
        hash.attribute(AttributeKind::PARENT, Some(4096), b"hello"),
    );
    text
}

fn types_table() -> String {
    let mut text = String::from("| number | type | mode |\n|--:|---|---|\n");
    for kind in FileType::ALL {
        writeln!(text, "| {} | {kind:?} | 0{:o} |", kind.number(), kind.mode()).unwrap();
    }
    text
}

/// What belongs between a marker and `<!-- end -->`.
fn generated(what: &str, name: &str) -> Option<String> {
    match (what, name) {
        ("layout", name) => doc::layout(name).map(doc::table),
        ("example", "crc") => Some(crc_example()),
        ("example", "cookie") => Some(cookie_example()),
        ("example", "types") => Some(types_table()),
        _ => None,
    }
}

#[test]
fn format_md_has_the_generated_parts() {
    const END: &str = "<!-- end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let old = std::fs::read_to_string(&path).unwrap();
    let mut new = String::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = old.as_str();
    while let Some((before, after)) = rest.split_once("<!-- ") {
        let (marker, after) = after.split_once(" -->\n").expect("a marker ends its line");
        let (what, name) = marker.split_once(' ').unwrap_or((marker, ""));
        let part =
            generated(what, name).unwrap_or_else(|| panic!("FORMAT.md: nothing makes <!-- {marker} -->"));
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("FORMAT.md: {marker} has no {END}"));
        write!(new, "{before}<!-- {marker} -->\n{part}{END}").unwrap();
        if what == "layout" {
            seen.push(name);
        }
        rest = after;
    }
    new.push_str(rest);
    for layout in LAYOUTS {
        let times = seen.iter().filter(|name| **name == layout.name).count();
        assert_eq!(times, 1, "FORMAT.md has <!-- layout {} --> so many times", layout.name);
    }
    if new == old {
        return;
    }
    if std::env::var_os("PAXFS_BLESS").is_some() {
        std::fs::write(&path, new).unwrap();
    } else {
        let line = new.lines().zip(old.lines()).find(|(new, old)| new != old);
        panic!(
            "docs/FORMAT.md differs from the declarations (first: {line:?});\n\
             if the declarations are right: PAXFS_BLESS=1 cargo test -p paxfs-format --test goldens"
        );
    }
}
