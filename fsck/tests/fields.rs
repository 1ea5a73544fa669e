//! Every field of every structure, damaged in every way: it is found, or no value of it is wrong.
//!
//! By default one verb of each field is tried, a different one each, so that a run is short. `PAXFS_FIELDS=all` tries
//! all, `PAXFS_FIELDS=report` also prints what was found of each.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

use paxfs_format::declare::Kind;
use paxfs_format::device::Device;
use paxfs_format::field::edit::Verb;
use paxfs_format::group::GroupTree;
use paxfs_format::header::Seed;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::path::{Change, Csum, edit, resolve};
use paxfs_format::volume::{Volume, find};
use paxfs_fsck::{Finding, Options, check};
use paxfs_mkfs::recipe::Recipe;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

fn image(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images").join(name);
    let recipe: Recipe = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap().to_vec()
}

fn findings(device: &Device) -> Result<Vec<Finding>, paxfs_fsck::Error> {
    let mut found = Vec::new();
    let options = Options { threads: NonZeroUsize::new(1), ..Options::default() };
    check(device, &options, &mut |finding| found.push(finding)).map(|_| found)
}

fn volume(device: &Device) -> Volume<Image<'_>> {
    let found = find(device).unwrap();
    Volume::new(Image::new(device), found.superblock, found.geometry)
}

/// Paths of the first, second and last of the elements that exist.
fn some(volume: &Volume<Image<'_>>, path: impl Fn(u64) -> String, to: &mut Vec<String>) -> u64 {
    let exists = |i: u64| resolve(volume, &path(i)).is_ok();
    let count = (0..4000).take_while(|i| exists(*i)).count() as u64;
    for i in [0, 1, count.saturating_sub(1)] {
        if i < count && !to.contains(&path(i)) {
            to.push(path(i));
        }
    }
    count
}

fn nodes(volume: &Volume<Image<'_>>, tree: &str, to: &mut Vec<String>) {
    if resolve(volume, &format!("{tree}.root")).is_ok() {
        to.push(format!("{tree}.root"));
    }
    for level in 0..3 {
        let node = |o: u64| match level {
            0 => format!("{tree}.leaf[{o}]"),
            _ => format!("{tree}.node[{level}][{o}]"),
        };
        let mut list = Vec::new();
        some(volume, |o| format!("{}.header", node(o)), &mut list);
        for header in list {
            let node = header.trim_end_matches(".header").to_owned();
            some(volume, |i| format!("{node}.rec[{i}]"), to);
            to.push(header);
        }
    }
}

/// Paths of structures: all forms, a few of each.
fn structures(volume: &Volume<Image<'_>>) -> Vec<String> {
    let mut to =
        vec!["sb".to_owned(), "sb[1]".to_owned(), "journal.slot[0]".to_owned(), "journal.slot[1]".to_owned()];
    for group in volume.geometry.group_numbers() {
        to.push(format!("group[{group}]"));
        to.push(format!("group_copy[{group}]"));
        for tree in GroupTree::ALL {
            nodes(volume, &format!("{}[{group}]", tree.name()), &mut to);
        }
    }
    for number in paxfs_format::owners::inodes(volume).flatten() {
        let inode = format!("inode[{number}]");
        to.push(inode.clone());
        let kind = volume.inode(number).unwrap().file_type();
        if kind == Some(FileType::Regular) {
            let count = volume.inode(number).unwrap().data.count.get();
            to.extend((0..count.min(3)).map(|i| format!("{inode}.extents.rec[{i}]")));
            nodes(volume, &format!("{inode}.extents"), &mut to);
        }
        for fork in ["directory", "attributes"] {
            if fork == "directory" && kind != Some(FileType::Directory) {
                continue;
            }
            some(volume, |i| format!("{inode}.{fork}.entry[{i}]"), &mut to);
            nodes(volume, &format!("{inode}.{fork}.index"), &mut to);
            let mut blocks = Vec::new();
            some(volume, |o| format!("{inode}.{fork}.block[{o}].header"), &mut blocks);
            for header in blocks {
                let block = header.trim_end_matches(".header").to_owned();
                some(volume, |i| format!("{block}.entry[{i}]"), &mut to);
                to.push(header);
            }
        }
        some(volume, |i| format!("{inode}.value[{i}].header"), &mut to);
    }
    for block in 0..volume.geometry.blocks {
        let sum = format!("sum[{block}]");
        if resolve(volume, &sum)
            .is_ok_and(|target| target.read(&volume.blocks).is_ok_and(|bytes| bytes != [0; 8]))
        {
            to.push(sum);
        }
    }
    to
}

/// Paths of the fields of a structure that have no fields themselves.
fn leaves(volume: &Volume<Image<'_>>, path: String, to: &mut Vec<String>) {
    let Ok(target) = resolve(volume, &path) else { return };
    match target.kind {
        Kind::Struct(layout) => {
            layout.fields.iter().for_each(|field| leaves(volume, format!("{path}.{}", field.name), to));
        }
        Kind::Array(_, count) => {
            for i in [0, 1, count - 1] {
                if i < count {
                    leaves(volume, format!("{path}[{i}]"), to);
                }
            }
        }
        _ => to.push(path),
    }
}

/// The kind of a field: its path without numbers.
fn shape(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => {
                inside = true;
                out.push_str("[]");
            }
            ']' => inside = false,
            _ if inside => {}
            c => out.push(c),
        }
    }
    out
}

/// Fields of which more than one value is right, and why.
const ANY: &[(&str, &str)] = &[
    ("inode[].uid", "any owner is as good as another"),
    ("inode[].gid", "any group is as good as another"),
    ("inode[].mode", "permissions"),
    ("inode[].flags", "known flags"),
    ("inode[].changes", "a count that nothing repeats"),
    ("inode[].size", "a file may be smaller than its last block, or end in a hole"),
    ("inode[].generation", "of an inode without a name"),
    ("inode[].accessed.seconds", "any time"),
    ("inode[].modified.seconds", "any time"),
    ("inode[].changed.seconds", "any time"),
    ("inode[].born.seconds", "any time"),
    ("inode[].accessed.nanoseconds", "any time"),
    ("inode[].modified.nanoseconds", "any time"),
    ("inode[].changed.nanoseconds", "any time"),
    ("inode[].born.nanoseconds", "any time"),
    ("inode[].major", "any device"),
    ("inode[].minor", "any device"),
    ("value_length", "any value, and how long it is"),
    ("inode[].payload", "a symlink's target, an attribute's value"),
    ("bad[]", "a list that nothing repeats"),
    ("cookie", "the disambiguator of a hash that no other name has"),
    ("journal.slot[]", "a transaction that is done"),
];

fn run(name: &str, any: &[&str]) {
    let pristine = image(name);
    let device = Device::memory(pristine.clone());
    // Not by its path: that of something in a tree with a wrong root is the root's.
    let name_of = |finding: &Finding| (finding.code(), finding.problem.to_string());
    let base: Vec<_> = findings(&device).unwrap().iter().map(name_of).collect();
    let volume = volume(&device);
    let seed = Seed::new(&volume.superblock.uuid);
    let mut paths = Vec::new();
    for structure in structures(&volume) {
        leaves(&volume, structure, &mut paths);
    }
    let mode = std::env::var("PAXFS_FIELDS").unwrap_or_default();
    let only = std::env::var("PAXFS_FIELD").unwrap_or_default();
    let all = !mode.is_empty();
    let mut missed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut nowhere: BTreeMap<String, String> = BTreeMap::new();
    let (mut tried, mut one, mut many, mut exact) = (0u32, 0u32, 0u32, 0u32);
    for (number, path) in paths.iter().enumerate() {
        if !path.contains(&only) {
            continue;
        }
        for (turn, verb) in Verb::ALL.into_iter().enumerate() {
            if !all && (number + turn) % (3 * Verb::ALL.len()) != 0 {
                continue;
            }
            for csum in [Csum::Fix, Csum::Keep] {
                if csum == Csum::Keep && verb != Verb::Firstbit {
                    continue;
                }
                let target = resolve(&volume, path).unwrap();
                let mut device = Device::memory(pristine.clone());
                let edited = edit(&mut device, seed, &target, &Change::Do(verb), csum).unwrap();
                if edited.before == edited.after {
                    continue;
                }
                tried += 1;
                let found = match findings(&device) {
                    Ok(found) => found,
                    Err(error) => {
                        if mode == "report" {
                            println!("ERROR {path} {verb:?} {csum:?}: {error}");
                        }
                        continue;
                    }
                };
                for finding in &found {
                    let known = resolve(&volume, &finding.at).is_ok()
                        || find(&device).is_ok_and(|found| {
                            let damaged = Volume::new(Image::new(&device), found.superblock, found.geometry);
                            resolve(&damaged, &finding.at).is_ok()
                        });
                    if !known {
                        nowhere.insert(shape(&finding.at), format!("{path} {verb:?}: {}", finding.at));
                    }
                }
                let new: Vec<&Finding> =
                    found.iter().filter(|finding| !base.contains(&name_of(finding))).collect();
                match new.len() {
                    0 if found.len() != base.len() => one += 1,
                    0 => missed.entry(shape(path)).or_default().push(format!("{path} {verb:?} {csum:?}")),
                    1 => {
                        one += 1;
                        let same = new[0].at == *path;
                        exact += u32::from(same);
                        if mode == "report" && !same {
                            println!("ELSE {path} {verb:?} {csum:?}: {}", paxfs_fsck::report::line(new[0]));
                        }
                    }
                    _ => {
                        many += 1;
                        if mode == "report" {
                            println!("MANY {path} {verb:?} {csum:?}: {}", new.len());
                            for finding in new.iter().take(6) {
                                println!("    {}", paxfs_fsck::report::line(finding));
                            }
                        }
                    }
                }
            }
        }
    }
    println!(
        "{name}: {tried} damages, {one} of one finding, {exact} of them at the field itself, {many} of several"
    );
    assert!(nowhere.is_empty(), "paths that lead nowhere: {nowhere:#?}");
    let unexplained: Vec<_> = missed
        .iter()
        .filter(|(shape, _)| !ANY.iter().map(|(any, _)| any).chain(any).any(|any| shape.contains(any)))
        .collect();
    if mode == "report" {
        for (shape, list) in &missed {
            println!("MISSED {shape}: {} e.g. {}", list.len(), list[0]);
        }
    }
    assert!(unexplained.is_empty(), "not found: {unexplained:#?}");
}

#[test]
fn every_field_of_everything() {
    run("everything.yaml", &[]);
}

#[test]
fn every_field_without_reverse_map() {
    // A hole may be anywhere.
    run("no-rmap.yaml", &["extents.rec[].offset"]);
}

#[test]
fn every_field_of_shared_files() {
    run("sharing.yaml", &[]);
}
