//! New names for the entries of directories.
//!
//! For each length that names of a directory have, names of that length are drawn, and given to an entry of the block
//! that their hash falls to, as long as one of that block waits. All blocks together are served in about n + b·ln b draws
//! for n entries in b blocks. What is left after many more draws keeps its old name: for names of one to three letters in
//! large directories there may be no other. (xfs_metadump keeps names below five letters.)
//!
//! The names drawn depend on the directory's number and on nothing that is secret.

use paxfs_format::blocks::Blocks;
use paxfs_format::entry::{AttributeKind, DirectoryEntry};
use paxfs_format::inode::{ForkFormat, Which};
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What names are made of.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// Draws for each entry, and for each block, before the rest keeps its names.
const PATIENCE: usize = 200;

/// New names by directory and hash of the old name.
#[derive(Debug, Default)]
pub(super) struct Names {
    new: HashMap<(u64, u64), Box<[u8]>>,
    /// Those that stay as they are.
    kept: HashSet<(u64, u64)>,
}

/// An entry that waits for a name.
struct Waiting<'v> {
    name: &'v [u8],
    hash: u64,
    inode: u64,
}

/// A directory whose entries get names.
struct Directory<'v> {
    /// First cookies of its blocks.
    lows: Vec<u64>,
    /// Hashes of all its names, old and new.
    taken: HashSet<u64>,
    /// By length of the name, and by block.
    waiting: BTreeMap<usize, BTreeMap<usize, Vec<Waiting<'v>>>>,
}

impl Names {
    /// The new name of an entry whose name has that hash.
    pub(super) fn of(&self, directory: u64, hash: u64) -> Option<&[u8]> {
        self.new.get(&(directory, hash)).map(AsRef::as_ref)
    }

    /// Whether an entry whose name has that hash keeps it.
    pub(super) fn keeps(&self, directory: u64, hash: u64) -> bool {
        self.kept.contains(&(directory, hash))
    }

    /// Chooses names for the entries of a directory.
    pub(super) fn choose<B: Blocks>(&mut self, volume: &Volume<B>, number: u64) {
        let Some(mut directory) = self.read(volume, number) else { return };
        for (length, mut blocks) in std::mem::take(&mut directory.waiting) {
            let mut left: usize = blocks.values().map(Vec::len).sum();
            let mut name = vec![0; length];
            let patience = left.saturating_add(blocks.len()).saturating_mul(PATIENCE);
            for step in 0..patience {
                if left == 0 {
                    break;
                }
                draw(number, u64::try_from(step).unwrap_or(0), &mut name);
                let hash = volume.hash.directory(&name);
                let Some(block) = directory.lows.partition_point(|low| *low <= hash).checked_sub(1) else {
                    continue;
                };
                let Some(waiting) = blocks.get_mut(&block) else { continue };
                if directory.taken.contains(&hash) {
                    continue;
                }
                let Some(entry) = waiting.pop_if(|entry| parent_fits(volume, number, entry, &name)) else {
                    continue;
                };
                if waiting.is_empty() {
                    blocks.remove(&block);
                }
                directory.taken.insert(hash);
                self.new.insert((number, entry.hash), name.as_slice().into());
                left -= 1;
            }
            self.kept.extend(blocks.into_values().flatten().map(|entry| (number, entry.hash)));
        }
    }

    /// Reads a directory; what keeps its name is noted at once.
    fn read<'v, B: Blocks>(&mut self, volume: &'v Volume<B>, number: u64) -> Option<Directory<'v>> {
        let inode = volume.inode(number).ok()?;
        let mut directory = Directory { lows: Vec::new(), taken: HashSet::new(), waiting: BTreeMap::new() };
        let mut twice = HashSet::new();
        for body in volume.bodies(inode, Which::Data, 0).flatten() {
            let block = directory.lows.len();
            directory.lows.push(body.low);
            let live = body.entries::<DirectoryEntry>().flatten().filter(|entry| entry.head.inode.get() != 0);
            for entry in live {
                let hash = volume.hash.directory(entry.name);
                if !directory.taken.insert(hash) {
                    twice.insert(hash);
                }
                if number == volume.superblock.root.get() && entry.name == b"lost+found" {
                    self.kept.insert((number, hash));
                } else {
                    let waiting = Waiting { name: entry.name, hash, inode: entry.head.inode.get() };
                    let of_length = directory.waiting.entry(entry.name.len()).or_default();
                    of_length.entry(block).or_default().push(waiting);
                }
            }
        }
        // Names of one hash: one name twice, on a damaged volume. Both stay.
        if !twice.is_empty() {
            for waiting in directory.waiting.values_mut().flat_map(BTreeMap::values_mut) {
                waiting.retain(|entry| !twice.contains(&entry.hash));
            }
            self.kept.extend(twice.into_iter().map(|hash| (number, hash)));
        }
        // A damaged index may be out of order: then no block can be told for a hash.
        directory.lows.is_sorted().then_some(directory)
    }
}

/// Whether the parent pointer, with the new name, stays in its block of the file's attributes.
fn parent_fits<B: Blocks>(volume: &Volume<B>, directory: u64, entry: &Waiting<'_>, new: &[u8]) -> bool {
    let Ok(inode) = volume.inode(entry.inode) else { return true };
    if inode.attributes.format != ForkFormat::TREE {
        return true;
    }
    let cookie = |name: &[u8]| volume.hash.attribute(AttributeKind::PARENT, Some(directory), name);
    match volume.bodies(inode, Which::Attributes, cookie(entry.name)).next() {
        Some(Ok(body)) => (body.low..=body.high).contains(&cookie(new)),
        _ => true,
    }
}

/// Fills `name` with the letters of one draw.
pub(super) fn draw(salt: u64, draw: u64, name: &mut [u8]) {
    let mut state = salt.rotate_left(32) ^ draw;
    for part in name.chunks_mut(10) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        for letter in part {
            let index = usize::try_from(word % 64).unwrap_or(0);
            *letter = LETTERS.get(index).copied().unwrap_or(b'x');
            word /= 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_are_the_same_again() {
        let name = |salt, step| {
            let mut name = [0; 25];
            draw(salt, step, &mut name);
            name
        };
        let names: HashSet<_> = (0..1000).map(|step| name(7, step)).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.contains(&name(7, 999)) && !names.contains(&name(8, 999)));
        assert!(names.iter().flatten().all(|letter| LETTERS.contains(letter)));
    }
}
