//! The differences of directory entries and parent pointers, named; and link counts that do not fit.

use crate::context::{Check, CountDoubt, LinkDoubt, locked};
use crate::differences::{Side, Take, differences};
use crate::extents::ExtentItem;
use crate::finding::Finding;
use crate::multiset::Key;
use crate::naming::rescan;
use crate::observe::{EntryPlace, ExtentPlace, Link, Observer};
use crate::pool::Pool;
use crate::problem::Problem;
use paxfs_format::entry::{AttributeEntry, DirectoryEntry, Head};
use paxfs_format::fork::BodyPlace;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::inode::Which;
use paxfs_format::names::printable;
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// A name on one side, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    parent: u64,
    child: u64,
    generation: u32,
    kind: u8,
    /// Hash of the name.
    name: u64,
    place: EntryPlace,
    doubtful: bool,
}

struct Names<'t> {
    take: Take<'t, Held>,
}

impl Names<'_> {
    fn give(&self, side: Side, key: Key, link: &Link<'_>) {
        let Link { parent, child, generation, kind, name, place, doubtful } = *link;
        (self.take)(
            side,
            link.hash(key),
            Held { parent, child, generation, kind, name: xxh3_64(name), place, doubtful },
        );
    }
}

impl Observer for Names<'_> {
    fn extent(&mut self, _key: Key, _item: ExtentItem, _place: ExtentPlace) {}
    fn entry(&mut self, key: Key, link: &Link<'_>) {
        self.give(Side::Left, key, link);
    }
    fn pointer(&mut self, key: Key, link: &Link<'_>) {
        self.give(Side::Right, key, link);
    }
}

/// An entry and the parent pointer that belongs to it, or one of both alone.
type Pair = (Option<Held>, Option<Held>);

/// Names all differences of entries and parent pointers, and judges link counts.
pub(crate) fn names<'c>(check: &'c Check<'c>, pool: &Pool<'_>, unchecked: &mut Vec<String>) -> Vec<Finding> {
    let proofs = *locked(&check.proofs);
    let mut pairs = Vec::new();
    let (mut findings, mut silent) = (Vec::new(), Vec::new());
    if proofs.entries != proofs.pointers {
        let found = differences(|take: Take<'_, Held>| rescan(check, pool, || Names { take }));
        if found.cut {
            unchecked
                .push("not all differences of directory entries and parent pointers are listed".to_owned());
        }
        pairs = pair(found.left, found.right);
        let silence = Silence::of(check);
        pairs.retain(|pair| {
            let told = !silence.covers(check, pair);
            silent.extend((!told).then_some(*pair));
            told
        });
        let of_inode = of_inode(check, &pairs);
        let mut inodes_told = HashSet::new();
        for pair in &pairs {
            match pair.0.zip(pair.1).map(|(entry, _)| entry.child).filter(|child| of_inode.contains(child)) {
                Some(child) if !inodes_told.insert(child) => {}
                Some(_) => findings.extend(told(check, pair, true)),
                None => findings.extend(told(check, pair, false)),
            }
        }
    }
    findings.extend(counts(check, &pairs));
    // What is wrong by itself is no name; one whose partner cannot be read is one.
    silent.retain(|pair| pair.0.or(pair.1).is_some_and(|held| held.doubtful));
    pairs.append(&mut silent);
    findings.extend(links(check, &pairs));
    findings
}

/// Inodes with several names of which all entries disagree with them: then it is the inode that is wrong.
fn of_inode(check: &Check<'_>, pairs: &[Pair]) -> HashSet<u64> {
    let mut disagree: HashMap<u64, usize> = HashMap::new();
    for (entry, pointer) in pairs.iter().filter_map(|pair| pair.0.zip(pair.1)) {
        if (entry.parent, entry.child, entry.name) == (pointer.parent, pointer.child, pointer.name) {
            *disagree.entry(entry.child).or_default() += 1;
        }
    }
    let all = |inode: u64, count: usize| {
        let inode = check.volume.inode(inode);
        inode.is_ok_and(|inode| check.volume.parents(inode).take(count + 1).count() == count)
    };
    disagree
        .into_iter()
        .filter(|(inode, count)| *count > 1 && all(*inode, *count))
        .map(|(inode, _)| inode)
        .collect()
}

/// Numbers of entries that are wrong: told unless an entry that is missing, and told, explains them.
fn counts(check: &Check<'_>, pairs: &[Pair]) -> Vec<Finding> {
    let mut doubts = locked(&check.counts).clone();
    doubts.sort_unstable();
    let missing = |doubt: &CountDoubt| {
        let is_missing = |pair: &&Pair| match (doubt.which, pair) {
            (Which::Data, (None, Some(pointer))) => pointer.parent == doubt.inode,
            (Which::Attributes, (Some(entry), None)) => entry.child == doubt.inode,
            _ => false,
        };
        pairs.iter().filter(is_missing).count() as u64
    };
    let told = |doubt: &CountDoubt| {
        let CountDoubt { inode, which, found, expected } = *doubt;
        let at = format!("inode[{inode}].{}.count", which.name());
        let problem = Problem::ForkCount { inode, found, expected };
        (found != expected.saturating_add(missing(doubt))).then(|| Finding::new(at, problem).of_file(inode))
    };
    doubts.iter().filter_map(told).collect()
}

fn pair(left: Vec<Held>, right: Vec<Held>) -> Vec<Pair> {
    let mut left: Vec<Option<Held>> = left.into_iter().map(Some).collect();
    let mut right: Vec<Option<Held>> = right.into_iter().map(Some).collect();
    let order = |held: &Option<Held>| held.map(|held| (held.parent, held.child, held.name, held.generation));
    left.sort_unstable_by_key(order);
    right.sort_unstable_by_key(order);
    type Likeness = fn(&Held) -> (u64, u64, u64);
    let likenesses: [Likeness; 4] = [
        |held| (held.parent, held.child, held.name),
        |held| (held.parent, held.name, 0),
        |held| (held.parent, held.child, 0),
        |held| (held.child, held.name, 0),
    ];
    let mut pairs = Vec::new();
    for likeness in likenesses {
        let mut by_likeness: HashMap<(u64, u64, u64), Vec<usize>> = HashMap::new();
        for (i, held) in right.iter().enumerate().rev() {
            if let Some(held) = held {
                by_likeness.entry(likeness(held)).or_default().push(i);
            }
        }
        for slot in &mut left {
            let Some(held) = slot else { continue };
            let partner = by_likeness.get_mut(&likeness(held)).and_then(Vec::pop);
            if let Some(pointer) = partner.and_then(|i| right.get_mut(i)).and_then(Option::take) {
                pairs.push((slot.take(), Some(pointer)));
            }
        }
    }
    pairs.extend(left.into_iter().flatten().map(|held| (Some(held), None)));
    pairs.extend(right.into_iter().flatten().map(|held| (None, Some(held))));
    pairs.sort_unstable_by_key(|(entry, pointer)| {
        entry.or(*pointer).map(|held| (held.parent, held.child, held.name))
    });
    pairs
}

/// What could not be read, sorted.
struct Silence {
    inodes: Vec<u64>,
    pointers: Vec<u64>,
    /// Directory, lowest and highest cookie.
    entries: Vec<(u64, u64, u64)>,
}

impl Silence {
    fn of(check: &Check<'_>) -> Self {
        let mut inodes = locked(&check.doubts.inodes).clone();
        let mut pointers = locked(&check.doubts.pointers).clone();
        let mut entries = locked(&check.doubts.entries).clone();
        inodes.sort_unstable();
        pointers.sort_unstable();
        entries.sort_unstable();
        Silence { inodes, pointers, entries }
    }

    /// Whether a difference follows from what could not be read, or has been told.
    fn covers(&self, check: &Check<'_>, pair: &Pair) -> bool {
        match pair {
            (Some(entry), Some(pointer)) => entry.doubtful || pointer.doubtful,
            (Some(entry), None) => {
                entry.doubtful
                    || check.is_unknown(entry.child, &self.inodes)
                    || self.pointers.binary_search(&entry.child).is_ok()
            }
            (None, Some(pointer)) => {
                pointer.doubtful
                    || check.is_unknown(pointer.parent, &self.inodes)
                    || self.is_entry_lost(check, pointer)
            }
            (None, None) => true,
        }
    }

    fn is_entry_lost(&self, check: &Check<'_>, pointer: &Held) -> bool {
        let first = self.entries.partition_point(|(directory, ..)| *directory < pointer.parent);
        let mut ranges = self
            .entries
            .iter()
            .skip(first)
            .take_while(|(directory, ..)| *directory == pointer.parent)
            .peekable();
        if ranges.peek().is_none() {
            return false;
        }
        let name = name_at(check, pointer.child, Which::Attributes, pointer.place);
        let cookie = check.volume.hash.directory(&name);
        ranges.any(|(_, low, high)| cookie <= *high && cookie | DISAMBIGUATOR >= *low)
    }
}

/// The name of the entry at a place.
fn name_at(check: &Check<'_>, number: u64, which: Which, place: EntryPlace) -> Vec<u8> {
    fn nth<H: Head>(bytes: &[u8], index: u32) -> Option<Vec<u8>> {
        let index = usize::try_from(index).ok()?;
        let entry = paxfs_format::entry::entries::<H>(bytes).nth(index)?.ok()?;
        Some(entry.name.to_vec())
    }
    let find = || {
        let inode = check.volume.inode(number).ok()?;
        let body = check.volume.bodies(inode, which, 0).flatten().find(|body| match body.place {
            BodyPlace::Inline => place.body == EntryPlace::INLINE,
            BodyPlace::Block { ordinal, .. } => place.body == ordinal,
        })?;
        match which {
            Which::Data => nth::<DirectoryEntry>(body.bytes, place.index),
            Which::Attributes => nth::<AttributeEntry>(body.bytes, place.index),
        }
    };
    find().unwrap_or_default()
}

/// A difference; `of_inode` when all names of the inode have the same.
fn told(check: &Check<'_>, pair: &Pair, of_inode: bool) -> Option<Finding> {
    let entry_path = |entry: &Held| entry.place.path(entry.parent, "directory");
    let pointer_path = |pointer: &Held| pointer.place.path(pointer.child, "attributes");
    let entry_name = |entry: &Held| printable(&name_at(check, entry.parent, Which::Data, entry.place));
    let pointer_name =
        |pointer: &Held| printable(&name_at(check, pointer.child, Which::Attributes, pointer.place));
    Some(match pair {
        (Some(entry), Some(pointer)) => {
            let (directory, name, at) = (entry.parent, entry_name(entry), entry_path(entry));
            let inode = pointer.child;
            if entry.parent != pointer.parent {
                let problem = Problem::NameDirectory { directory, name, pointer: pointer.parent, inode };
                return Some(Finding::new(pointer_path(pointer), problem).of_file(inode));
            }
            let (field, problem) = if entry.child != inode {
                (".inode", Problem::NameInode { directory, name, found: entry.child, expected: inode })
            } else if entry.name != pointer.name {
                (
                    ".name",
                    Problem::NameDiffers { directory, name, pointer_name: pointer_name(pointer), inode },
                )
            } else if entry.generation != pointer.generation {
                let (found, expected) = (entry.generation.into(), pointer.generation.into());
                (".generation", Problem::NameGeneration { directory, name, inode, found, expected })
            } else {
                let (found, expected) = (entry.kind.into(), pointer.kind.into());
                (".kind", Problem::NameType { directory, name, inode, found, expected })
            };
            let at = match (of_inode, field) {
                (true, ".kind") => format!("inode[{inode}].mode"),
                (true, ".generation") => format!("inode[{inode}].generation"),
                _ => format!("{at}{field}"),
            };
            Finding::new(at, problem).of_file(inode)
        }
        (Some(entry), None) => {
            let (directory, name, inode) = (entry.parent, entry_name(entry), entry.child);
            if check.is_used(inode) {
                let problem = Problem::NameNoPointer { directory, name, inode };
                Finding::new(entry_path(entry), problem).of_file(inode)
            } else {
                let at = format!("{}.inode", entry_path(entry));
                Finding::new(at, Problem::NameDangling { directory, name, inode }).of_file(directory)
            }
        }
        (None, Some(pointer)) => {
            let (directory, name, inode) = (pointer.parent, pointer_name(pointer), pointer.child);
            Finding::new(pointer_path(pointer), Problem::NameNoEntry { directory, name, inode })
                .of_file(inode)
        }
        (None, None) => return None,
    })
}

/// Link counts that are not the number of parent pointers: told unless names that are missing, and told, explain them.
fn links(check: &Check<'_>, pairs: &[Pair]) -> Vec<Finding> {
    let mut doubts = locked(&check.links).clone();
    doubts.sort_unstable();
    let mut extra: HashMap<u64, (u64, u64)> = HashMap::new();
    for pair in pairs {
        match pair {
            (Some(entry), None) => extra.entry(entry.child).or_default().0 += 1,
            (None, Some(pointer)) => extra.entry(pointer.child).or_default().1 += 1,
            _ => {}
        }
    }
    let told = |doubt: &LinkDoubt| {
        let LinkDoubt { inode, links, pointers, .. } = *doubt;
        let (entries_only, pointers_only) = extra.get(&inode).copied().unwrap_or_default();
        let names = pointers.saturating_add(entries_only).saturating_sub(pointers_only);
        if names == links && (names != 0 || doubt.orphan) {
            return None;
        }
        let at = format!("inode[{inode}].links");
        let problem = if names == 0 && pointers == 0 && !doubt.orphan {
            Problem::Unreachable { inode }
        } else {
            Problem::Links { inode, found: links, expected: names }
        };
        Some(Finding::new(at, problem).of_file(inode))
    };
    doubts.iter().filter_map(told).collect()
}
