//! Small intact volumes, each made of a recipe in `fuzz/samples` when it is asked for first.

use paxfs_format::device::Device;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::header::Seed;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::owners::inodes;
use paxfs_format::path::{Target, resolve};
use paxfs_format::volume::{Volume, find};
use paxfs_mkfs::recipe::Recipe;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The recipes, by name.
pub const RECIPES: [(&str, &str); 6] = [
    ("everything", include_str!("../samples/everything.yaml")),
    ("shared", include_str!("../samples/shared.yaml")),
    ("names", include_str!("../samples/names.yaml")),
    ("checksums", include_str!("../samples/checksums.yaml")),
    ("plain", include_str!("../samples/plain.yaml")),
    ("crashed", include_str!("../samples/crashed.yaml")),
];

/// A small intact volume.
#[derive(Debug)]
pub struct Sample {
    /// Its recipe's name.
    pub name: &'static str,
    /// The start of its checksums.
    pub seed: Seed,
    /// Blocks that are not all zeros, ascending.
    pub used: Vec<u64>,
    /// Every structure on it that has a path, by kind: those whose paths differ in numbers alone.
    pub structures: Vec<Vec<Target>>,
    /// Its bytes.
    bytes: Vec<u8>,
}

/// All of them.
pub fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| RECIPES.iter().filter_map(|(name, recipe)| Sample::make(name, recipe)).collect())
}

impl Sample {
    fn make(name: &'static str, recipe: &str) -> Option<Self> {
        let recipe: Recipe = recipe.parse().ok()?;
        let (device, _) = recipe.image().ok()?;
        let found = find(&device).ok()?;
        let volume = Volume::new(Image::new(&device), found.superblock, found.geometry);
        let structures = by_kind(structures(&volume));
        let blocks = device.len() / BLOCK_BYTES;
        let used =
            (0..blocks).filter(|&block| device.block(block).is_ok_and(|bytes| *bytes != [0; 4096])).collect();
        let bytes = device.bytes(0, usize::try_from(device.len()).ok()?).ok()?.to_vec();
        Some(Sample { name, seed: volume.seed, used, structures, bytes })
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// A device like it, cut off at `length`. Only what is not zero is copied: most of it never becomes memory.
    pub fn device(&self, length: u64) -> Device {
        let length = usize::try_from(length.min(self.length())).unwrap_or(0);
        let mut bytes = vec![0; length];
        for &block in &self.used {
            let start = usize::try_from(block * BLOCK_BYTES).unwrap_or(usize::MAX);
            let end = start.saturating_add(4096).min(length);
            if let (Some(to), Some(from)) = (bytes.get_mut(start..end), self.bytes.get(start..end)) {
                to.copy_from_slice(from);
            }
        }
        Device::memory(bytes)
    }

    /// The journal's bytes.
    pub fn journal(&self) -> Option<&[u8]> {
        let found = find(&self.device(self.length())).ok()?;
        let range = found.geometry.journal();
        let place = |block: u64| usize::try_from(block * BLOCK_BYTES).ok();
        self.bytes.get(place(range.start)?..place(range.end)?)
    }
}

/// Groups structures, so that the kinds that there are many of do not hide the others.
fn by_kind(structures: Vec<Target>) -> Vec<Vec<Target>> {
    let mut kinds: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for structure in structures {
        let kind = structure.text.chars().filter(|c| !c.is_ascii_digit()).collect();
        kinds.entry(kind).or_default().push(structure);
    }
    kinds.into_values().collect()
}

/// Every structure that a path leads to: the paths of all places, and of records and entries as far as there are any.
fn structures(volume: &Volume<Image<'_>>) -> Vec<Target> {
    let mut found = Vec::new();
    for group in volume.geometry.group_numbers() {
        one(volume, &mut found, &format!("sb[{group}]"));
        one(volume, &mut found, &format!("group[{group}]"));
        one(volume, &mut found, &format!("group_copy[{group}]"));
        for tree in ["free", "refcount", "rmap", "inodes", "clusters", "bad"] {
            nodes(volume, &mut found, &format!("{tree}[{group}]"));
        }
    }
    for slot in 0..2 {
        one(volume, &mut found, &format!("journal.slot[{slot}]"));
        let records = value_at(volume, &format!("journal.slot[{slot}].header.count"));
        each(volume, &mut found, &format!("journal.slot[{slot}].rec"), records);
    }
    for number in inodes(volume).flatten() {
        inode(volume, &mut found, number);
    }
    for block in 0..volume.geometry.blocks {
        one(volume, &mut found, &format!("sum[{block}]"));
    }
    found
}

fn inode(volume: &Volume<Image<'_>>, found: &mut Vec<Target>, number: u64) {
    let at = format!("inode[{number}]");
    one(volume, found, &at);
    match volume.inode(number).ok().and_then(|inode| inode.file_type()) {
        Some(FileType::Regular) => {
            each(volume, found, &format!("{at}.extents.rec"), value_at(volume, &format!("{at}.data.count")));
            nodes(volume, found, &format!("{at}.extents"));
        }
        Some(FileType::Directory) => entries(volume, found, &format!("{at}.directory")),
        Some(FileType::Symlink) => {
            one(volume, found, &format!("{at}.target"));
            each(volume, found, &format!("{at}.value"), u64::MAX);
        }
        _ => (),
    }
    entries(volume, found, &format!("{at}.attributes"));
}

/// Entries, inline and in blocks, and the index over them.
fn entries(volume: &Volume<Image<'_>>, found: &mut Vec<Target>, at: &str) {
    each(volume, found, &format!("{at}.entry"), u64::MAX);
    for block in 0.. {
        let path = format!("{at}.block[{block}]");
        if !one(volume, found, &path) {
            break;
        }
        each(volume, found, &format!("{path}.entry"), u64::MAX);
    }
    nodes(volume, found, &format!("{at}.index"));
}

/// The root of a tree, its nodes and their records.
fn nodes(volume: &Volume<Image<'_>>, found: &mut Vec<Target>, tree: &str) {
    one(volume, found, &format!("{tree}.root"));
    for level in 0.. {
        let path = if level == 0 { format!("{tree}.leaf") } else { format!("{tree}.node[{level}]") };
        let mut nodes = 0;
        while one(volume, found, &format!("{path}[{nodes}].header")) {
            let at = format!("{path}[{nodes}]");
            each(volume, found, &format!("{at}.rec"), value_at(volume, &format!("{at}.header.count")));
            nodes += 1;
        }
        if nodes == 0 {
            break;
        }
    }
}

/// The structures `path[0]`, `path[1]`, … up to `limit`, and the parts of entries that have paths of their own.
fn each(volume: &Volume<Image<'_>>, found: &mut Vec<Target>, path: &str, limit: u64) {
    for number in 0..limit {
        let at = format!("{path}[{number}]");
        if !one(volume, found, &at) {
            break;
        }
        for part in ["name", "value", "data"] {
            one(volume, found, &format!("{at}.{part}"));
        }
    }
}

/// The number in a field; 0 when there is none.
fn value_at(volume: &Volume<Image<'_>>, path: &str) -> u64 {
    let bytes = resolve(volume, path).ok().and_then(|target| target.read(&volume.blocks).ok());
    bytes.unwrap_or_default().iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn one(volume: &Volume<Image<'_>>, found: &mut Vec<Target>, path: &str) -> bool {
    match resolve(volume, path) {
        Ok(target) => {
            found.push(target);
            true
        }
        Err(_) => false,
    }
}

/// Journals worth changing: those of the samples, and what [`crate::journal_replay`] takes before them.
pub fn journals() -> Vec<Vec<u8>> {
    // Both slots' checksums made to fit, committed, generation 1.
    let heads: [[u8; 2]; 2] = [[0b1111, 1], [0, 1]];
    let journals = samples().iter().filter_map(Sample::journal);
    let written = journals.filter(|journal| journal.iter().any(|byte| *byte != 0));
    written.flat_map(|journal| heads.map(|head| [&head, journal].concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recipes_make_samples() {
        let names: Vec<&str> = samples().iter().map(|sample| sample.name).collect();
        assert_eq!(names, RECIPES.map(|(name, _)| name));
    }

    #[test]
    fn samples_have_structures_of_every_kind() {
        let has = |sample: usize, part: &str| {
            let sample = &samples()[sample];
            assert!(
                sample.structures.iter().flatten().any(|target| target.text.contains(part)),
                "{}: {part}",
                sample.name
            );
        };
        for part in
            ["sb[1]", "group_copy[0]", "rmap[0].", ".extents.", ".value", ".attributes.", ".directory."]
        {
            has(0, part);
        }
        has(1, "rmap[0].node[1]");
        has(1, ".extents.node[1]");
        has(2, ".index");
        has(3, "sum[");
        has(5, "journal.slot[1].rec[0]");
    }

    #[test]
    fn there_are_journals() {
        assert!(!journals().is_empty());
    }
}
