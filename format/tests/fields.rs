//! What follows from a declaration: printing, paths, setting, damage, difference.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use paxfs_format::declare::{FieldType, Kind, Layout, OnDisk, Style};
use paxfs_format::entry::AttributeEntry;
use paxfs_format::extent::Extent;
use paxfs_format::field::diff::diff;
use paxfs_format::field::doc::{self, LAYOUTS};
use paxfs_format::field::edit::{SetError, Verb, set};
use paxfs_format::field::path::{FieldRef, Index, PathError, Segment, parse, resolve};
use paxfs_format::field::value::{Fields, Value, rows};
use paxfs_format::group::GroupHeader;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::inode::{Inode, Mode};
use paxfs_format::rmap::Rmap;
use paxfs_format::superblock::{State, Superblock};
use paxfs_format::units::{Count16, Crc, Seconds, Text, Uuid};
use proptest::prelude::*;
use serde_json::json;
use zerocopy::IntoBytes;

/// Every field that has no parts.
fn leaves(field: &FieldRef) -> Vec<FieldRef> {
    let children = field.children();
    if children.is_empty() { vec![field.clone()] } else { children.iter().flat_map(leaves).collect() }
}

fn find(layout: &'static Layout, path: &str) -> Result<FieldRef, PathError> {
    resolve(layout, &parse(path)?)
}

fn refusal(layout: &'static Layout, path: &str) -> String {
    find(layout, path).unwrap_err().to_string()
}

/// A layout, and bytes for it: random ones, zeros, ones, and mixtures.
fn structure() -> impl Strategy<Value = (&'static Layout, Vec<u8>)> {
    let byte =
        prop_oneof![Just(0u8), Just(0xff), any::<u8>(), prop::char::range(' ', '~').prop_map(|c| c as u8)];
    (0..LAYOUTS.len()).prop_flat_map(move |i| {
        let layout = LAYOUTS[i];
        (Just(layout), prop::collection::vec(byte.clone(), layout.size))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_can_be_set((layout, bytes) in structure()) {
        let mut other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        for leaf in leaves(&FieldRef::whole(layout)) {
            let text = leaf.value(&bytes).unwrap().to_string();
            let part = leaf.bytes_mut(&mut other).unwrap();
            set(&leaf.kind, part, &text).map_err(|e| TestCaseError::fail(format!("{}: {e}", leaf.name)))?;
        }
        prop_assert_eq!(other, bytes);
    }

    #[test]
    fn rows_cover_all_but_reserved_zeros((layout, bytes) in structure()) {
        let mut seen = vec![false; layout.size];
        for row in rows(layout, &bytes) {
            let field = find(layout, &row.path).unwrap();
            prop_assert_eq!((field.offset, field.kind.size()), (row.offset, row.size));
            prop_assert!(!row.doc.is_empty() && !row.doc.contains('\n'));
            seen[row.offset..row.offset + row.size].fill(true);
        }
        for leaf in leaves(&FieldRef::whole(layout)) {
            let hidden = matches!(leaf.kind, Kind::Reserved(_)) && leaf.bytes(&bytes).unwrap().iter().all(|&b| b == 0);
            prop_assert!(hidden || seen[leaf.offset..leaf.offset + leaf.kind.size()].iter().all(|&seen| seen));
        }
    }

    #[test]
    fn serializes_whatever_the_bytes((layout, bytes) in structure()) {
        let json = serde_json::to_value(Fields::new(layout, &bytes).unwrap()).unwrap();
        let reserved = |kind: &Kind| matches!(kind, Kind::Reserved(_));
        for field in layout.fields.iter().filter(|field| !reserved(&field.kind)) {
            prop_assert!(json.get(field.name).is_some(), "{}", field.name);
        }
    }

    #[test]
    fn differences_are_what_differs((layout, left) in structure(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        prop_assert_eq!(diff(layout, &left, &left), []);
        let mut right = left.clone();
        let at = at.index(right.len());
        right[at] ^= flip;
        let found = diff(layout, &left, &right);
        prop_assert_eq!(found.len(), 1);
        let field = find(layout, &found[0].path).unwrap();
        prop_assert!((field.offset..field.offset + field.kind.size()).contains(&at));
        prop_assert_eq!(&found[0].left, &field.value(&left).unwrap().to_string());
        prop_assert_eq!(&found[0].right, &field.value(&right).unwrap().to_string());
    }

    #[test]
    fn setting_fails_or_changes_that_field_alone((layout, bytes) in structure(), text in "\\PC{0,40}|[0-9a-fx|\"]{0,40}") {
        for leaf in leaves(&FieldRef::whole(layout)) {
            let mut after = bytes.clone();
            let range = leaf.offset..leaf.offset + leaf.kind.size();
            if set(&leaf.kind, &mut after[range.clone()], &text).is_err() {
                prop_assert_eq!(&after[range], &bytes[leaf.offset..leaf.offset + leaf.kind.size()]);
            }
        }
    }

    #[test]
    fn parsing_never_fails_badly(text in "\\PC*|[a-z.\\[\\]0-9/\\\\x]{0,60}") {
        if let Ok(segments) = parse(&text) {
            let printed = segments.iter().map(Segment::to_string).collect::<Vec<_>>().join(".");
            prop_assert_eq!(parse(&printed).unwrap(), segments.clone());
            for layout in LAYOUTS {
                let _ = resolve(layout, &segments);
            }
        }
    }

    #[test]
    fn any_file_path_can_be_an_index(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut path = b"/".to_vec();
        path.extend(bytes);
        let segment = Segment { name: "inode".into(), indices: vec![Index::Path(path)] };
        prop_assert_eq!(parse(&segment.to_string()).unwrap(), vec![segment]);
    }

    #[test]
    fn verbs_say_whether_they_changed((layout, bytes) in structure(), seed: u64) {
        for leaf in leaves(&FieldRef::whole(layout)) {
            for verb in Verb::ALL.into_iter().chain([Verb::Random(seed)]) {
                let before = leaf.bytes(&bytes).unwrap();
                let mut after = before.to_vec();
                let changed = verb.apply(&leaf.kind, &mut after);
                prop_assert_eq!(changed, after != before);
                let idle = match verb {
                    Verb::Zeroes => before.iter().all(|&byte| byte == 0),
                    Verb::Ones => before.iter().all(|&byte| byte == 0xff),
                    _ => false,
                };
                prop_assert_eq!(changed, !idle, "{} on {}", verb, leaf.name);
            }
        }
    }
}

#[test]
fn layouts_have_no_gaps_and_unique_names() {
    for (i, layout) in LAYOUTS.iter().enumerate() {
        let mut end = 0;
        for field in layout.fields {
            assert_eq!(field.offset, end, "{}.{}", layout.name, field.name);
            end += field.kind.size();
        }
        assert_eq!(end, layout.size, "{}", layout.name);
        assert!(LAYOUTS[..i].iter().all(|other| other.name != layout.name));
        assert_eq!(doc::layout(layout.name), Some(*layout));
    }
}

#[test]
fn every_structure_that_a_declared_one_holds_is_declared() {
    fn inner(kind: &Kind) -> Option<&'static Layout> {
        match kind {
            Kind::Struct(layout) => Some(layout),
            Kind::Array(element, _) => inner(element),
            _ => None,
        }
    }
    for field in LAYOUTS.iter().flat_map(|layout| layout.fields) {
        assert!(
            inner(&field.kind).is_none_or(|layout| doc::layout(layout.name) == Some(layout)),
            "{}",
            field.name
        );
    }
}

#[test]
fn every_field_is_found_by_its_own_path() {
    for layout in LAYOUTS {
        for leaf in leaves(&FieldRef::whole(layout)) {
            assert_eq!(find(layout, &leaf.name), Ok(leaf));
        }
    }
}

#[test]
fn paths_lead_to_offsets() {
    let superblock = &Superblock::LAYOUT;
    assert_eq!(find(superblock, "header.crc").unwrap().offset, 4);
    let field = find(superblock, "devices[3].blocks").unwrap();
    assert_eq!(
        (field.offset, field.kind.size(), field.name.as_str()),
        (256 + 3 * 32 + 16, 8, "devices[3].blocks")
    );
    let field = find(superblock, "devices[1..16]").unwrap();
    assert_eq!((field.offset, field.kind.size()), (256 + 32, 15 * 32));
    let field = find(&Inode::LAYOUT, "payload[16..24]").unwrap();
    assert_eq!((field.offset, field.kind), (232 + 16, Kind::Bytes(8)));
    let field = find(&Inode::LAYOUT, "payload[279]").unwrap();
    assert_eq!((field.offset, field.kind), (511, Kind::Integer { size: 1, style: Style::Hex }));
    assert_eq!(resolve(superblock, &[]).unwrap().kind, Kind::Struct(superblock));
}

#[test]
fn wrong_paths_say_what_there_is() {
    let group = &GroupHeader::LAYOUT;
    assert_eq!(
        refusal(group, "rmap.foo"),
        "no field `foo` in TreeRoot; it has: block, height, nodes, records"
    );
    assert!(
        refusal(group, "foo")
            .starts_with("no field `foo` in GroupHeader; it has: header, group, reserved, start")
    );
    assert_eq!(refusal(group, "start.x"), "`start` has no fields, so no `x`");
    assert_eq!(refusal(group, "start[0]"), "`start` has no elements to index");
    let superblock = &Superblock::LAYOUT;
    assert_eq!(refusal(superblock, "devices[16]"), "`devices` has elements 0 to 15, so no [16]");
    assert_eq!(refusal(superblock, "devices[3..3]"), "`devices` has elements 0 to 15, so no [3..3]");
    assert_eq!(refusal(superblock, "devices[/a]"), "`devices` has elements 0 to 15, so no [/a]");
    for (path, at, expected) in [
        ("", 0, "a name"),
        ("A", 0, "a name"),
        ("a.", 2, "a name"),
        ("a[", 2, "a number below 2^64"),
        ("a[18446744073709551616]", 2, "a number below 2^64"),
        ("a[1", 3, "`]`"),
        ("a[1..]", 5, "a number below 2^64"),
        ("a[/x", 2, "a path and `]` (escapes: \\] \\\\ \\xNN)"),
        ("a[/x\\y]", 2, "a path and `]` (escapes: \\] \\\\ \\xNN)"),
        ("a[1]b", 4, "`.`, `[` or the end"),
    ] {
        assert_eq!(parse(path), Err(PathError::Syntax { at, expected }), "{path}");
    }
    assert_eq!(parse(&"a".repeat(20_001)), Err(PathError::TooLong));
    assert_eq!(parse(&["a"; 17].join(".")), Err(PathError::TooDeep));
    assert_eq!(parse(&format!("a{}", "[0]".repeat(17))), Err(PathError::TooDeep));
}

#[test]
fn the_outer_path_language_is_segments() {
    let segment = |name: &str, indices: &[Index]| Segment { name: name.into(), indices: indices.to_vec() };
    assert_eq!(
        parse("rmap[0].leaf[3].rec[17].owner").unwrap(),
        [
            segment("rmap", &[Index::Number(0)]),
            segment("leaf", &[Index::Number(3)]),
            segment("rec", &[Index::Number(17)]),
            segment("owner", &[]),
        ]
    );
    assert_eq!(
        parse("inode[/a/b\\]\\xff.c].data.count").unwrap(),
        [
            segment("inode", &[Index::Path(b"/a/b]\xff.c".to_vec())]),
            segment("data", &[]),
            segment("count", &[])
        ]
    );
}

fn stored<F: FieldType>(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0xaa; F::KIND.size()];
    set(&F::KIND, &mut bytes, text).map(|()| bytes).map_err(|error| error.to_string())
}

#[test]
fn numbers_are_set() {
    assert_eq!(stored::<Count16>("258"), Ok(vec![2, 1]));
    assert_eq!(stored::<Count16>("0x102"), Ok(vec![2, 1]));
    assert_eq!(stored::<Count16>("0o402"), Ok(vec![2, 1]));
    assert_eq!(stored::<Count16>("65536"), Err("65536 does not fit: the field holds 0 to 65535".into()));
    assert_eq!(stored::<Count16>("-1"), Err("-1 does not fit: the field holds 0 to 65535".into()));
    let huge = "9".repeat(100);
    assert_eq!(stored::<Count16>(&huge), Err(format!("{huge} does not fit: the field holds 0 to 65535")));
    assert_eq!(stored::<Count16>("x"), Err("`x` is no number (decimal, 0x… hexadecimal, 0o… octal)".into()));
    for no_number in ["", "-", "+1", "0x", "1_0", "１"] {
        assert!(stored::<Count16>(no_number).is_err(), "{no_number}");
    }
    assert_eq!(stored::<Seconds>("-2"), Ok(vec![0xfe, 255, 255, 255, 255, 255, 255, 255]));
    assert_eq!(stored::<Seconds>("-9223372036854775808"), Ok(vec![0, 0, 0, 0, 0, 0, 0, 0x80]));
    assert!(stored::<Seconds>("9223372036854775808").is_err());
    assert_eq!(stored::<Crc>("0xffffffff"), Ok(vec![255; 4]));
    assert_eq!(stored::<Mode>("100644"), Ok(0o100_644u32.to_le_bytes().to_vec()));
    assert_eq!(stored::<Mode>("0100644"), Ok(0o100_644u32.to_le_bytes().to_vec()));
    assert!(stored::<Mode>("8").unwrap_err().contains("octal"));
}

#[test]
fn names_and_flags_are_set() {
    assert_eq!(stored::<BlockKind>("directory index"), Ok(vec![10, 0]));
    assert_eq!(stored::<BlockKind>("99"), Ok(vec![99, 0]));
    let error = stored::<BlockKind>("inod").unwrap_err();
    assert!(error.starts_with("`inod` is neither a number nor one of: superblock, group, free"), "{error}");
    assert_eq!(stored::<State>("clean | errors|0x80"), Ok(vec![0x83, 0, 0, 0]));
    assert_eq!(stored::<State>("0"), Ok(vec![0; 4]));
    assert_eq!(
        stored::<State>("clean|dirty"),
        Err("`dirty` is neither a number nor one of: clean, errors (several with `|` between them)".into())
    );
}

#[test]
fn texts_uuids_and_bytes_are_set() {
    assert_eq!(stored::<Text<6>>("été"), Ok("été\0".as_bytes().to_vec()));
    assert_eq!(stored::<Text<6>>(r#"" a\"\xff ""#), Ok(b" a\"\xff \0".to_vec()));
    assert_eq!(stored::<Text<4>>("abcde"), Err("5 bytes do not fit: the field holds 4".into()));
    assert!(stored::<Text<4>>("\"a").is_err() && stored::<Text<4>>("\"a\"b").is_err());
    let dashed = "00112233-4455-6677-8899-aabbccddeeff";
    let bytes = stored::<Uuid>(dashed).unwrap();
    assert_eq!(Value::read(&Kind::Uuid, &bytes).unwrap().to_string(), dashed);
    assert_eq!(stored::<Uuid>(&dashed.replace('-', "")), Ok(bytes));
    for no_uuid in ["", "0011-2233", "001122334-455-6677-8899-aabbccddeeff", "é"] {
        assert!(stored::<Uuid>(no_uuid).is_err(), "{no_uuid}");
    }
    let magic = Header::LAYOUT.field("magic").unwrap();
    let mut bytes = [0; 4];
    set(&magic.kind, &mut bytes, "\"PAXF\"").unwrap();
    assert_eq!(&bytes, b"PAXF");
    assert_eq!(set(&magic.kind, &mut bytes, "5041584"), Err(SetError::Hex { digits: 8 }));
    set(&magic.kind, &mut bytes, "00ff00FF").unwrap();
    assert_eq!(bytes, [0, 255, 0, 255]);
    assert_eq!(set(&magic.kind, &mut bytes[..3], "0"), Err(SetError::Size { size: 4, given: 3 }));
    assert_eq!(set(&Header::KIND, &mut [0; 40], "0"), Err(SetError::Several));
}

#[test]
fn verbs_do_what_they_say() {
    let number = Kind::Integer { size: 4, style: Style::Decimal("") };
    let byte = Kind::Integer { size: 1, style: Style::Hex };
    let text = Kind::Bytes(12);
    let apply = |verb: &str, kind: &Kind, start: u8| {
        let mut bytes = vec![0; kind.size()];
        bytes[0] = start;
        verb.parse::<Verb>().unwrap().apply(kind, &mut bytes);
        bytes
    };
    assert_eq!(apply("zeroes", &number, 7), [0; 4]);
    assert_eq!(apply("ones", &number, 7), [255; 4]);
    assert_eq!(apply("firstbit", &number, 7), [7, 0, 0, 0x80]);
    assert_eq!(apply("middlebit", &number, 7), [7, 0x80, 0, 0]);
    assert_eq!(apply("lastbit", &number, 7), [6, 0, 0, 0]);
    assert_eq!(apply("add", &number, 1), 2018u32.to_le_bytes());
    assert_eq!(apply("sub", &number, 1), (1u32.wrapping_sub(2017)).to_le_bytes());
    assert_eq!(apply("middlebit", &byte, 0), [8]);
    assert_eq!(apply("add", &byte, 0), [0xe1]);
    assert_eq!(apply("firstbit", &text, 7), [0x87, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(apply("middlebit", &text, 7), [7, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0]);
    assert_eq!(apply("lastbit", &text, 7), [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(apply("sub", &text, 0), [0x1f, 0xf8, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    // The random bytes are part of what fixtures rely on.
    assert_eq!(apply("random", &number, 0), [0xaf, 0xcd, 0x1d, 0x7b]);
    assert_ne!(apply("random:1", &number, 0), apply("random:2", &number, 0));
    for verb in Verb::ALL.into_iter().chain([Verb::Random(5)]) {
        assert_eq!(verb.to_string().parse(), Ok(verb));
    }
    let error = "random:x".parse::<Verb>().unwrap_err().to_string();
    assert!(error.starts_with("`random:x` is none of: zeroes, ones"), "{error}");
    assert!(Verb::ALL.iter().all(|verb| error.contains(verb.name())));
}

#[test]
fn structures_serialize_by_field() {
    let rmap = Rmap {
        start: 5.into(),
        length: 2.into(),
        owner: (u64::MAX - 1).into(),
        flags: 9.into(),
        ..Rmap::zeroed()
    };
    let inode = Rmap { owner: 4096.into(), flags: 1.into(), ..rmap };
    assert_eq!(
        serde_json::to_value([Fields::of(&rmap), Fields::of(&inode)]).unwrap(),
        json!([
            {"start": 5, "length": 2, "owner": "journal", "offset": 0, "flags": ["unwritten", 8]},
            {"start": 5, "length": 2, "owner": 4096, "offset": 0, "flags": ["unwritten"]},
        ])
    );
    let mut superblock = Superblock::zeroed();
    superblock.header = Header::new(BlockKind::SUPERBLOCK, 0, 0, u64::MAX);
    superblock.label = Text::new("tank").unwrap();
    superblock.uuid = Uuid([0x11; 16]);
    superblock.made.seconds = (-1).into();
    let json = serde_json::to_value(Fields::of(&superblock)).unwrap();
    assert_eq!(json["header"]["kind"], "superblock");
    assert_eq!(json["header"]["magic"], "50415846");
    assert_eq!(json["header"]["generation"], u64::MAX);
    assert_eq!((&json["label"], &json["made"]["seconds"]), (&json!("tank"), &json!(-1)));
    assert_eq!(json["uuid"], "11111111-1111-1111-1111-111111111111");
    assert_eq!(json["devices"].as_array().unwrap().len(), 16);
    assert_eq!((&json["state"], json.get("reserved")), (&json!([]), None));
    let mut bytes = superblock.as_bytes().to_vec();
    let reserved = find(&Superblock::LAYOUT, "reserved").unwrap();
    reserved.bytes_mut(&mut bytes).unwrap()[1] = 0xab;
    bytes[find(&Superblock::LAYOUT, "label").unwrap().offset] = 0xff;
    let json = serde_json::to_value(Fields::new(&Superblock::LAYOUT, &bytes).unwrap()).unwrap();
    assert_eq!(
        (&json["reserved"], &json["label"]),
        (&json!("00ab00000000000000000000"), &json!("\u{fffd}ank"))
    );
    assert_eq!(Fields::new(&Superblock::LAYOUT, &bytes[..4095]), None);
}

#[test]
fn rows_are_for_people() {
    let mut superblock = Superblock::zeroed();
    superblock.devices[0].role = 1.into();
    superblock.state = 1.into();
    let rows = rows(&Superblock::LAYOUT, superblock.as_bytes());
    let row = |path: &str| rows.iter().find(|row| row.path == path).unwrap();
    assert_eq!(
        (row("state").value.as_str(), row("state").doc.as_str()),
        ("clean", "What the last user left.")
    );
    assert_eq!((row("devices[0].role").value.as_str(), row("devices[0].role").offset), ("data", 280));
    assert_eq!((row("devices[1..16]").value.as_str(), row("devices[1..16]").size), ("zeros", 480));
    assert_eq!(row("label").value, "\"\"");
    assert!(rows.iter().all(|row| !row.path.contains("reserved")));
}

#[test]
fn differences_of_long_bytes_are_runs() {
    let mut left = Inode::zeroed();
    left.mode = 0o100_644.into();
    let mut right = left;
    right.mode = 0o100_600.into();
    right.payload.0[16..20].copy_from_slice(&[1, 2, 3, 4]);
    right.payload.0[22] = 5;
    right.payload.0[100] = 6;
    let found = diff(&Inode::LAYOUT, left.as_bytes(), right.as_bytes());
    let found: Vec<_> = found.iter().map(|d| (d.path.as_str(), d.left.as_str(), d.right.as_str())).collect();
    assert_eq!(
        found,
        [
            ("mode", "0100644", "0100600"),
            ("payload[16..23]", "00000000000000", "01020304000005"),
            ("payload[100..101]", "00", "06"),
        ]
    );
    assert_eq!(diff(&Inode::LAYOUT, left.as_bytes(), &[]), []);
}

#[test]
fn tables_tell_types_values_and_flags() {
    let table = doc::table(&Extent::LAYOUT);
    assert!(table.starts_with("**Extent**, 24 bytes. A run of a file's blocks"), "{table}");
    assert!(table.contains("| 8 | 8 | `start` | u64, block | First block on the volume."), "{table}");
    assert!(table.ends_with("\n* `flags` flags: 1 unwritten.\n"), "{table}");
    assert!(
        doc::table(&AttributeEntry::LAYOUT)
            .contains("* `kind` values: 0 dead, 1 inline, 2 blocks, 3 parent.\n")
    );
    assert!(doc::table(&Superblock::LAYOUT).contains("| `devices` | DeviceEntry × 16 | The devices. |"));
    assert_eq!(doc::layout("Nothing"), None);
}
