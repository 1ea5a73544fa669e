//! Pass 3: the extents of a regular file.

use crate::claims::claim;
use crate::context::Env;
use crate::doubts::Between;
use crate::finding::Finding;
use crate::inodes::{Scan, Subject};
use crate::observe::{ExtentPlace, Observer};
use crate::problem::Problem;
use crate::runs::Run;
use crate::trees::{Item, Late, TreeName, check_counts, walk};
use core::fmt;
use paxfs_format::declare::FieldType;
use paxfs_format::extent::Extent;
use paxfs_format::field::value::Value;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::inode::{ForkFormat, Inode, Which};
use paxfs_format::record::Record;
use paxfs_format::rmap::{Owner, Rmap};
use paxfs_format::tree::Missing;
use paxfs_format::words::counted;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An extent of a file, as both the file and the reverse map have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ExtentItem {
    pub inode: u64,
    pub offset: u64,
    /// Block of the volume.
    pub start: u64,
    pub length: u32,
    pub flags: u32,
}

impl ExtentItem {
    pub fn of_extent(extent: &Extent, inode: u64) -> Self {
        ExtentItem {
            inode,
            offset: extent.offset.get(),
            start: extent.start.get(),
            length: extent.length.get(),
            flags: extent.flags.get(),
        }
    }

    pub fn of_rmap(record: &Rmap, group_start: u64) -> Self {
        ExtentItem {
            inode: record.owner.get(),
            offset: record.offset.get(),
            start: group_start.saturating_add(record.start.get().into()),
            length: record.length.get(),
            flags: record.flags.get(),
        }
    }

    /// A run of metadata of a group.
    pub fn of_role(run: &Run, group_start: u64) -> Self {
        ExtentItem {
            inode: run.what,
            offset: 0,
            start: group_start.saturating_add(run.start),
            length: u32::try_from(run.blocks()).unwrap_or(u32::MAX),
            flags: 0,
        }
    }

    /// The role of metadata that the owner is, if it is no inode.
    pub fn role(&self) -> Option<String> {
        let owner = Owner::new(self.inode);
        let value = Value::read(&<Owner as FieldType>::KIND, owner.as_bytes());
        (!owner.is_inode()).then(|| value.map(|value| value.to_string()).unwrap_or_default())
    }

    /// One past its last block on the volume.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length.into())
    }
}

impl fmt::Display for ExtentItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExtentItem { inode, offset, start, length, flags } = self;
        let blocks = counted(*length, "block");
        match self.role() {
            Some(role) => write!(f, "{role}: {blocks} from block {start} on")?,
            None => write!(f, "inode {inode} at file block {offset}: {blocks} from block {start} on")?,
        }
        match flags {
            0 => Ok(()),
            1 => f.write_str(", unwritten"),
            flags => write!(f, ", flags {flags:#x}"),
        }
    }
}

/// What the extents of a file add up to.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    blocks: u64,
    limit: u64,
    /// The first written extent that reaches past that limit: its place, and the end of the last one, in file blocks.
    past: Option<(String, u64)>,
    /// The length of some extent is in doubt.
    vague: bool,
}

impl Tally {
    fn add(&mut self, extent: &Extent, at: impl FnOnce() -> String) {
        self.count = self.count.saturating_add(1);
        self.blocks = self.blocks.saturating_add(extent.length.get().into());
        if !extent.flags.is_unwritten() && extent.end() > self.limit {
            let (_, end) = self.past.get_or_insert_with(|| (at(), 0));
            *end = extent.end().max(*end);
        }
    }

    fn doubtful(&mut self) {
        self.count = self.count.saturating_add(1);
        self.vague = true;
    }
}

/// Checks the data fork of a regular file.
pub(crate) fn check<O: Observer>(scan: &mut Scan<'_, O>, subject: &Subject<'_>) {
    let inode = subject.inode;
    let limit = inode.size.get().div_ceil(BLOCK_BYTES);
    let mut tally = Tally { limit, ..Tally::default() };
    let whole = match inode.data.format {
        ForkFormat::TREE => in_tree(scan, subject, &mut tally),
        _ => inline(scan, subject, &mut tally),
    };
    if whole {
        settle(&mut scan.env, subject, &tally);
    }
    // Told later, unless it is because of an extent that is wrong, which is told then.
    if let Some((at, end)) = tally.past {
        let (inode, size) = (subject.number, inode.size.get());
        let finding = Finding::new(at, Problem::ExtentPastSize { inode, end, size }).of_file(inode);
        let late = Late { tree: TreeName::Extents(inode), finding, ends: vec![end] };
        scan.env.note(&scan.env.check.late, late);
    }
}

/// Extents in the payload.
fn inline<O: Observer>(scan: &mut Scan<'_, O>, subject: &Subject<'_>, tally: &mut Tally) -> bool {
    let number = subject.number;
    let bytes = subject.inode.inline(Which::Data).unwrap_or_default();
    let Ok(extents) = <[Extent]>::ref_from_bytes(bytes) else {
        let fault = format!("{} bytes of extents are no whole number of them", bytes.len());
        subject.find(&mut scan.env, ".data.inline_bytes", Problem::InodePayload { inode: number, fault });
        scan.env.note(&scan.env.check.doubts.extents, (number, 0..u64::MAX));
        return false;
    };
    let (faults, doubtful) = match is_sound(&scan.env, extents) {
        true => (Vec::new(), Vec::new()),
        false => inline_faults(scan, number, tally.limit, extents),
    };
    let doubtful = doubtful.into_iter().chain(core::iter::repeat(false));
    let mut between = Between::new();
    for ((index, extent), doubtful) in (0u32..).zip(extents).zip(doubtful) {
        let at = || format!("inode[{number}].extents.rec[{index}]");
        let place = ExtentPlace { leaf: ExtentPlace::INLINE, index };
        if doubtful {
            scan.observer.doubtful_extent(ExtentItem::of_extent(extent, number), place);
            scan.env.check.doubts.claims.store(true, Ordering::Relaxed);
            tally.doubtful();
            between.doubtful();
        } else {
            note(&scan.env, number, between.sound(extent));
            one(scan, subject, extent, place, tally, at);
        }
    }
    note(&scan.env, number, between.end());
    for (index, problem) in faults {
        let at = format!("inode[{number}].extents.rec[{index}]");
        scan.env.findings.push(Finding::new(at, problem).of_file(number));
    }
    true
}

/// Notes that extents of a file are not known.
fn note(env: &Env<'_>, inode: u64, missing: Option<Missing>) {
    if let Some(missing) = missing {
        env.note(&env.check.doubts.extents, (inode, missing.low.start..missing.bound.start));
    }
}

/// Whether nothing is wrong with the extents in a payload, as nearly always.
fn is_sound(env: &Env<'_>, extents: &[Extent]) -> bool {
    let space = env.check.volume.geometry.volume_space();
    let mut pairs = extents.iter().zip(extents.iter().skip(1));
    extents.iter().all(|extent| extent.check(&space).is_ok())
        && pairs.all(|(one, next)| one.end() <= next.offset.get() && one.merged(next).is_none())
}

/// What is wrong with the extents in a payload, and which of them are in doubt: the fewest whose removal leaves the
/// others in order, and both of a pair that overlaps. Those past the size of the file are told of elsewhere.
fn inline_faults<O: Observer>(
    scan: &Scan<'_, O>,
    inode: u64,
    limit: u64,
    extents: &[Extent],
) -> (Vec<(usize, Problem)>, Vec<bool>) {
    let env = &scan.env;
    let space = env.check.volume.geometry.volume_space();
    let mut faults = Vec::new();
    let mut doubtful: Vec<bool> = extents.iter().map(|extent| extent.check(&space).is_err()).collect();
    for (index, extent) in extents.iter().enumerate() {
        if let Err(fault) = extent.check(&space) {
            faults.push((index, Problem::Record { fault: fault.to_string() }));
        }
    }
    let is_past =
        |index: usize| extents.get(index).is_some_and(|e| !e.flags.is_unwritten() && e.end() > limit);
    let sound: Vec<usize> =
        (0..extents.len()).filter(|i| doubtful.get(*i) == Some(&false) && !is_past(*i)).collect();
    let offset = |index: usize| extents.get(index).map_or(0, |extent| extent.offset.get());
    let line = ascending(&sound, offset);
    for index in sound.iter().filter(|index| !line.contains(index)) {
        faults.push((*index, Problem::KeyOrder { fault: format!("key {} is out of order", offset(*index)) }));
        doubtful.get_mut(*index).into_iter().for_each(|doubtful| *doubtful = true);
        // Of two that contradict each other, nobody knows which is wrong.
        let contradicts = |other: &&usize| (*other < index) != (offset(**other) < offset(*index));
        let mut others = line.iter().filter(contradicts);
        if let (Some(other), None) = (others.next(), others.next()) {
            doubtful.get_mut(*other).into_iter().for_each(|doubtful| *doubtful = true);
        }
    }
    for (one, next) in line.iter().zip(line.iter().skip(1)) {
        let (Some(before), Some(after)) = (extents.get(*one), extents.get(*next)) else { continue };
        let (end, start) = (before.end(), after.offset.get());
        if start < end {
            faults.push((*next, Problem::RecordOverlap { end, start }));
            for index in [*one, *next] {
                doubtful.get_mut(index).into_iter().for_each(|doubtful| *doubtful = true);
            }
        } else if before.merged(after).is_some_and(|merged| merged.check(&space).is_ok()) {
            let fault = "should be one with the record before it".to_owned();
            let at = format!("inode[{inode}].extents.rec[{next}]");
            let finding = Finding::new(at, Problem::RecordMergeable { fault }).of_file(inode);
            let (tree, ends) = (TreeName::Extents(inode), vec![after.offset.get()]);
            env.note(&env.check.late, Late { tree, finding, ends });
        }
    }
    (faults, doubtful)
}

/// A longest part of `list` whose keys ascend. There are few: a payload holds 11 extents.
fn ascending(list: &[usize], key: impl Fn(usize) -> u64) -> Vec<usize> {
    // Of equally long ones the first: what came before is believed.
    fn longest<'l>(lines: impl Iterator<Item = &'l Vec<usize>>) -> Vec<usize> {
        let first = lines.reduce(|best, line| if line.len() > best.len() { line } else { best });
        first.cloned().unwrap_or_default()
    }
    let mut best: Vec<Vec<usize>> = Vec::new();
    for index in list {
        let before = best.iter().filter(|line| line.last().is_some_and(|last| key(*last) < key(*index)));
        let mut line = longest(before);
        line.push(*index);
        best.push(line);
    }
    longest(best.iter())
}

/// Extents in a tree.
fn in_tree<O: Observer>(scan: &mut Scan<'_, O>, subject: &Subject<'_>, tally: &mut Tally) -> bool {
    let number = subject.number;
    let (name, root) = (TreeName::Extents(number), &subject.inode.data.tree);
    let Scan { env, observer, extents, .. } = scan;
    let mut between = Between::new();
    let outcome = walk::<Extent>(env, name, root, |env, item| match item {
        Item::Sound(at, extent) => {
            note(env, number, between.sound(extent));
            let place = ExtentPlace::of(&at);
            tally.add(extent, || format!("{name}.{at}"));
            *extents = extents.saturating_add(1);
            claim(env, subject, extent, tally.limit, || format!("{name}.{at}"));
            observer.extent(env.check.key, ExtentItem::of_extent(extent, number), place);
        }
        Item::Doubtful(at, extent) => {
            let place = ExtentPlace::of(&at);
            tally.doubtful();
            between.doubtful();
            env.check.doubts.claims.store(true, Ordering::Relaxed);
            observer.doubtful_extent(ExtentItem::of_extent(extent, number), place);
        }
        Item::Lost(missing) => note(env, number, Some(missing)),
    });
    note(env, number, between.end());
    check_counts(env, name, root, &outcome);
    !outcome.lost
}

fn one<O: Observer>(
    scan: &mut Scan<'_, O>,
    subject: &Subject<'_>,
    extent: &Extent,
    place: ExtentPlace,
    tally: &mut Tally,
    at: impl Fn() -> String,
) {
    tally.add(extent, &at);
    scan.extents = scan.extents.saturating_add(1);
    claim(&scan.env, subject, extent, tally.limit, at);
    scan.observer.extent(scan.env.check.key, ExtentItem::of_extent(extent, subject.number), place);
}

/// What the inode says of its extents against what they add up to.
fn settle(env: &mut Env<'_>, subject: &Subject<'_>, tally: &Tally) {
    let (number, inode): (u64, &Inode) = (subject.number, subject.inode);
    if inode.data.count.get() != tally.count {
        let problem =
            Problem::ForkCount { inode: number, found: inode.data.count.get(), expected: tally.count };
        subject.find(env, ".data.count", problem);
    }
    // Without reverse map nothing else says whether an extent past the size is wrong, or the size.
    let vague = tally.vague || (tally.past.is_some() && !env.check.rmap());
    if inode.blocks.get() != tally.blocks && !vague {
        // Told later, unless it is because of an extent that is wrong, which is told then.
        env.note(&env.check.blocks, (number, inode.blocks.get(), tally.blocks));
        if inode.blocks.get() > tally.blocks {
            env.check.doubts.claims.store(true, Ordering::Relaxed);
        }
    }
}
