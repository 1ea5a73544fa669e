//! The entries that lie together in one body, checked one by one, past those that are broken.
//!
//! An entry says how long it is, so a wrong length hides what follows. After an entry that is wrong the next is looked
//! for: where its lengths say, or else at the first place from which an entry fits its own cookie.

use crate::context::Env;
use crate::entries::{Seen, Totals};
use crate::finding::Finding;
use crate::inodes::{Scan, Subject};
use crate::observe::{EntryPlace, Link, Observer};
use crate::problem::Problem;
use crate::trees::TreeName;
use crate::values::{Place, value};
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, DirectoryEntry, Entry, Head, MAX_NAME, entries, entry_size,
};
use paxfs_format::hash::{DISAMBIGUATOR, NameHash};
use paxfs_format::inode::Which;
use paxfs_format::names::{Parent, printable};
use paxfs_format::units::Reserved;
use std::sync::atomic::Ordering;

/// Entries that lie together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'c> {
    /// Ordinal among the fork's bodies, or [`EntryPlace::INLINE`].
    pub place: u64,
    pub bytes: &'c [u8],
    /// Lowest cookie that belongs here.
    pub low: u64,
    /// Highest cookie that belongs here.
    pub high: u64,
}

/// What the scan of a body gives: totals, the entries of the lowest and highest cookie, and those of cookies that do not
/// belong there.
#[derive(Debug)]
pub(crate) struct Scanned<'c> {
    pub totals: Totals,
    pub first: Option<Seen<'c>>,
    pub last: Option<Seen<'c>>,
    pub too_low: Vec<Seen<'c>>,
    pub too_high: Vec<Seen<'c>>,
}

/// What is wrong with an entry by itself.
pub(crate) struct Local {
    problem: Problem,
    /// The field, with its dot.
    field: &'static str,
    /// What the entry says cannot be believed.
    doubtful: bool,
    /// Its length cannot be believed.
    length: bool,
}

/// The two kinds of entries.
pub(crate) trait Kind: Sized {
    /// The head of an entry.
    type Head: Head;
    /// The fork in paths.
    const FORK: &'static str;
    /// The fork.
    const WHICH: Which;
    /// Whether something follows the names.
    const HAS_VALUES: bool;
    /// The index of the fork.
    fn tree(inode: u64) -> TreeName;
    /// Whether the entry is one at all, and not one that waits for reuse.
    fn is_live(entry: &Entry<'_, Self::Head>) -> bool;
    /// Lowest cookie that it can have.
    fn hash(hash: &NameHash, entry: &Entry<'_, Self::Head>) -> u64;
    /// What is wrong with it.
    fn fault(inode: u64, hash: &NameHash, entry: &Entry<'_, Self::Head>) -> Option<Local>;
    /// What else must be equal for two entries to be alike.
    fn also(entry: &Entry<'_, Self::Head>) -> u64;
    /// Notes that entries of these cookies are not known.
    fn unknown(env: &Env<'_>, inode: u64, low: u64, high: u64);
    /// An entry of which the contents cannot be believed has been counted.
    fn doubtful(env: &Env<'_>, inode: u64, totals: &mut Totals);
    /// Looks at what only this kind has, and tells the observer.
    fn observe<O: Observer>(
        env: &mut Env<'_>,
        observer: &mut O,
        subject: &Subject<'_>,
        entry: &Entry<'_, Self::Head>,
        place: EntryPlace,
        doubtful: bool,
        totals: &mut Totals,
    );
}

/// Directory entries.
pub(crate) struct Directory;
/// Attributes and parent pointers.
pub(crate) struct Attributes;

/// Whether a file can have that name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| *byte == b'/' || *byte == 0)
}

/// The faults of a name and its cookie.
fn name_fault(inode: u64, name: &[u8], fine: bool, cookie: u64, expected: u64) -> Option<Local> {
    if !fine {
        let problem = Problem::EntryName { inode, name: printable(name) };
        return Some(Local { problem, field: ".name", doubtful: true, length: true });
    }
    (cookie & !DISAMBIGUATOR != expected).then(|| {
        let problem = Problem::EntryCookie { inode, name: printable(name), found: cookie, expected };
        Local { problem, field: ".cookie", doubtful: true, length: true }
    })
}

/// The fault of reserved bytes.
fn reserved_fault(inode: u64, reserved: Reserved<2>) -> Option<Local> {
    (reserved != Reserved::ZERO).then(|| {
        let problem = Problem::EntryReserved { inode, fault: "its reserved bytes are not zero".to_owned() };
        Local { problem, field: ".reserved", doubtful: false, length: false }
    })
}

impl Kind for Directory {
    type Head = DirectoryEntry;
    const FORK: &'static str = "directory";
    const WHICH: Which = Which::Data;
    const HAS_VALUES: bool = false;

    fn tree(inode: u64) -> TreeName {
        TreeName::Directory(inode)
    }

    /// One that has a type but names inode 0 is not dead but wrong: the comparison with parent pointers tells.
    fn is_live(entry: &Entry<'_, DirectoryEntry>) -> bool {
        entry.head.is_live() || entry.head.kind.0 != 0
    }

    fn hash(hash: &NameHash, entry: &Entry<'_, DirectoryEntry>) -> u64 {
        hash.directory(entry.name)
    }

    fn fault(inode: u64, hash: &NameHash, entry: &Entry<'_, DirectoryEntry>) -> Option<Local> {
        let fine = is_name(entry.name);
        let expected = if fine { hash.directory(entry.name) } else { 0 };
        name_fault(inode, entry.name, fine, entry.head.cookie(), expected)
            .or_else(|| reserved_fault(inode, entry.head.reserved))
    }

    fn also(_entry: &Entry<'_, DirectoryEntry>) -> u64 {
        0
    }

    fn unknown(env: &Env<'_>, inode: u64, low: u64, high: u64) {
        env.note(&env.check.doubts.entries, (inode, low, high));
    }

    /// The comparison with parent pointers finds out which one it is.
    fn doubtful(_env: &Env<'_>, _inode: u64, _totals: &mut Totals) {}

    #[inline]
    fn observe<O: Observer>(
        env: &mut Env<'_>,
        observer: &mut O,
        subject: &Subject<'_>,
        entry: &Entry<'_, DirectoryEntry>,
        place: EntryPlace,
        doubtful: bool,
        _totals: &mut Totals,
    ) {
        let link = Link {
            parent: subject.number,
            child: entry.head.inode.get(),
            generation: entry.head.generation.get(),
            kind: entry.head.kind.0,
            name: entry.name,
            place,
            doubtful,
        };
        observer.entry(env.check.key, &link);
    }
}

impl Kind for Attributes {
    type Head = AttributeEntry;
    const FORK: &'static str = "attributes";
    const WHICH: Which = Which::Attributes;
    const HAS_VALUES: bool = true;

    fn tree(inode: u64) -> TreeName {
        TreeName::Attributes(inode)
    }

    fn is_live(entry: &Entry<'_, AttributeEntry>) -> bool {
        entry.head.is_live()
    }

    fn hash(hash: &NameHash, entry: &Entry<'_, AttributeEntry>) -> u64 {
        let parent = Parent::of(entry).map(|parent| parent.directory);
        hash.attribute(entry.head.kind, parent, entry.name)
    }

    fn fault(inode: u64, hash: &NameHash, entry: &Entry<'_, AttributeEntry>) -> Option<Local> {
        let kind = entry.head.kind;
        let parent = kind == AttributeKind::PARENT;
        if !parent && kind != AttributeKind::INLINE && kind != AttributeKind::BLOCKS {
            let problem = Problem::AttributeKind { inode, kind: kind.0.into() };
            return Some(Local { problem, field: ".kind", doubtful: true, length: true });
        }
        if parent && entry.value.len() != size_of::<u64>() {
            let problem = Problem::ParentValue { inode, name: printable(entry.name) };
            return Some(Local { problem, field: ".value_length", doubtful: true, length: true });
        }
        let fine = match parent {
            true => is_name(entry.name),
            false => !entry.name.is_empty() && !entry.name.contains(&0),
        };
        let expected = if fine { Self::hash(hash, entry) } else { 0 };
        name_fault(inode, entry.name, fine, entry.head.cookie(), expected)
            .or_else(|| reserved_fault(inode, entry.head.reserved))
    }

    fn also(entry: &Entry<'_, AttributeEntry>) -> u64 {
        Parent::of(entry).map_or(0, |parent| parent.directory)
    }

    fn unknown(env: &Env<'_>, inode: u64, _low: u64, _high: u64) {
        env.note(&env.check.doubts.pointers, inode);
        env.check.doubts.blocks.store(true, Ordering::Relaxed);
    }

    /// It may have been a parent pointer.
    fn doubtful(env: &Env<'_>, inode: u64, totals: &mut Totals) {
        totals.whole = false;
        Self::unknown(env, inode, 0, u64::MAX);
    }

    fn observe<O: Observer>(
        env: &mut Env<'_>,
        observer: &mut O,
        subject: &Subject<'_>,
        entry: &Entry<'_, AttributeEntry>,
        place: EntryPlace,
        doubtful: bool,
        totals: &mut Totals,
    ) {
        let Subject { number, inode } = *subject;
        if let Some(parent) = Parent::of(entry) {
            totals.pointers = totals.pointers.saturating_add(1);
            let kind = u8::try_from(inode.mode.get() >> 12).unwrap_or(u8::MAX);
            let generation = inode.generation.get();
            // That has been told of the inode.
            let doubtful = doubtful || generation == 0;
            let (parent, name) = (parent.directory, parent.name);
            observer.pointer(
                env.check.key,
                &Link { parent, child: number, generation, kind, name, place, doubtful },
            );
        } else if entry.head.kind == AttributeKind::BLOCKS && !doubtful {
            let at = place.path(number, Self::FORK);
            let length = entry.head.value_length.get().into();
            // Its lengths fit each other, else the entry could not have been read; its blocks speak for themselves.
            let _ = value(env, subject, entry.value, length, &Place::Attribute(&at, entry.name));
        }
    }
}

/// Scans a body.
pub(crate) fn scan<'c, K: Kind, O: Observer>(
    scan: &mut Scan<'c, O>,
    subject: &Subject<'c>,
    body: &Body<'c>,
) -> Scanned<'c> {
    let number = subject.number;
    let hash = scan.env.check.volume.hash;
    let mut totals = Totals { bytes: body.bytes.len() as u64, ..Totals::NONE };
    let (mut offset, mut index) = (0usize, 0u32);
    scan.seen.clear();
    let mut ascending = true;
    while offset < body.bytes.len() {
        let place = EntryPlace { body: body.place, index };
        index = index.saturating_add(1);
        let rest = body.bytes.get(offset..).unwrap_or_default();
        let Some(Ok(mut entry)) = entries::<K::Head>(rest).next() else {
            let at = match (rest.len() < size_of::<K::Head>(), body.place) {
                (false, _) => place.path(number, K::FORK),
                // Too little for any entry: the end is wrong.
                (true, EntryPlace::INLINE) => format!("inode[{number}].{}.inline_bytes", K::WHICH.name()),
                (true, block) => format!("inode[{number}].{}.block[{block}].header.count", K::FORK),
            };
            let problem = Problem::EntryLength { inode: number, offset: offset as u64 };
            scan.env.findings.push(Finding::new(at, problem).of_file(number));
            totals.count = totals.count.saturating_add(1);
            totals.whole = false;
            K::unknown(&scan.env, number, body.low, body.high);
            offset = resume::<K>(number, &hash, body.bytes, offset, None);
            continue;
        };
        let live = K::is_live(&entry);
        let mut local = if live { K::fault(number, &hash, &entry) } else { never_was(number, &entry) };
        if live
            && local.as_ref().is_some_and(|local| local.length)
            && let Some(name) = right_name::<K>(&hash, rest, &entry)
        {
            let found = entry.name.len() as u64;
            let expected = name.len() as u64;
            let problem = Problem::EntryNameLength { inode: number, name: printable(name), found, expected };
            local = Some(Local { problem, field: ".name_length", doubtful: false, length: false });
            let start = size_of::<K::Head>() + name.len();
            entry.name = name;
            entry.value = rest.get(start..start.saturating_add(entry.value.len())).unwrap_or_default();
        }
        let natural = offset.saturating_add(entry.size());
        let padding = rest.get(size_of::<K::Head>() + entry.name.len() + entry.value.len()..entry.size());
        let padded = padding.is_none_or(|padding| padding.iter().all(|&byte| byte == 0));
        if live && local.is_none() && !padded {
            let fault = "its padding is not zero".to_owned();
            let problem = Problem::EntryReserved { inode: number, fault };
            // The length of a value may be what is wrong.
            local = Some(Local { problem, field: "", doubtful: K::HAS_VALUES, length: true });
        }
        let (doubtful, length) =
            local.as_ref().map_or((false, false), |local| (local.doubtful, local.length));
        if let Some(local) = local {
            let at = format!("{}{}", place.path(number, K::FORK), local.field);
            scan.env.findings.push(Finding::new(at, local.problem).of_file(number));
        }
        if live {
            totals.count = totals.count.saturating_add(1);
            K::observe(&mut scan.env, &mut scan.observer, subject, &entry, place, doubtful, &mut totals);
            if doubtful {
                // What it should say may belong anywhere in here.
                K::doubtful(&scan.env, number, &mut totals);
            } else {
                let cookie = entry.head.cookie();
                ascending &= scan
                    .seen
                    .last()
                    .is_none_or(|last| last.cookie & !DISAMBIGUATOR < cookie & !DISAMBIGUATOR);
                scan.seen.push(Seen { cookie, index: place.index, name: entry.name, also: K::also(&entry) });
            }
        }
        offset = if length {
            let next = resume::<K>(number, &hash, body.bytes, offset, Some(natural));
            if next == body.bytes.len() && natural != next {
                totals.whole = false;
                K::unknown(&scan.env, number, body.low, body.high);
            }
            next
        } else {
            natural
        };
    }
    scan.entries = scan.entries.saturating_add(totals.count);
    if !ascending {
        alike::<K, O>(scan, number, body.place);
    }
    let seen = scan.seen.as_slice();
    let (too_low, rest) = seen.split_at(seen.partition_point(|seen| seen.cookie < body.low));
    let (_, too_high) = rest.split_at(rest.partition_point(|seen| seen.cookie <= body.high));
    let (too_low, too_high) = (too_low.to_vec(), too_high.to_vec());
    Scanned { totals, first: seen.first().copied(), last: seen.last().copied(), too_low, too_high }
}

/// Zeros are no entry, not even a dead one: that keeps its cookie.
fn never_was<H: Head>(inode: u64, entry: &Entry<'_, H>) -> Option<Local> {
    entry.head.as_bytes().iter().all(|&byte| byte == 0).then(|| {
        let problem = Problem::EntryReserved { inode, fault: "zeros where an entry must be".to_owned() };
        Local { problem, field: "", doubtful: false, length: true }
    })
}

/// The name that fits the entry's cookie, if its length is what is wrong.
fn right_name<'c, K: Kind>(hash: &NameHash, rest: &'c [u8], entry: &Entry<'_, K::Head>) -> Option<&'c [u8]> {
    let cookie = entry.head.cookie() & !DISAMBIGUATOR;
    let start = size_of::<K::Head>();
    (1..=MAX_NAME).filter(|length| *length != entry.name.len()).find_map(|length| {
        let name = rest.get(start..start.saturating_add(length))?;
        let value = rest.get(start + length..(start + length).saturating_add(entry.value.len()))?;
        let fits = entry_size(start, length, value.len()) <= rest.len();
        let other = Entry { name, value, ..*entry };
        (fits && is_name(name) && K::hash(hash, &other) == cookie).then_some(name)
    })
}

/// Whether bytes are entries from end to end, none of them wrong by itself.
pub(crate) fn is_sound<K: Kind>(inode: u64, hash: &NameHash, bytes: &[u8]) -> bool {
    entries::<K::Head>(bytes).all(|entry| {
        entry.is_ok_and(|entry| match K::is_live(&entry) {
            true => K::fault(inode, hash, &entry).is_none(),
            false => never_was(inode, &entry).is_none(),
        })
    })
}

/// Whether a body has entries, none of which belongs between these cookies, and not because `low` is wrong: then they
/// would still lie between the cookie before and the highest.
pub(crate) fn is_stranger<K: Kind>(bytes: &[u8], low: u64, high: u64, before: Option<u64>) -> bool {
    let Some((first, last)) = cookies::<K>(bytes) else { return false };
    let between = before.is_none_or(|before| before < first) && last <= high;
    let mut live = entries::<K::Head>(bytes).flatten().filter(K::is_live);
    !between && live.all(|entry| !(low..=high).contains(&entry.head.cookie()))
}

/// The lowest and the highest cookie of a body.
pub(crate) fn cookies<K: Kind>(bytes: &[u8]) -> Option<(u64, u64)> {
    let live = entries::<K::Head>(bytes).flatten().filter(K::is_live).map(|entry| entry.head.cookie());
    live.map(|cookie| (cookie, cookie)).reduce(|(low, high), (cookie, _)| (low.min(cookie), high.max(cookie)))
}

/// Where the next entry is after one that is wrong: where its lengths say, if there is one or the end, else the first
/// place with an entry that fits its cookie, else the end.
fn resume<K: Kind>(
    inode: u64,
    hash: &NameHash,
    bytes: &[u8],
    offset: usize,
    natural: Option<usize>,
) -> usize {
    let is_good = |at: usize| {
        let entry = bytes.get(at..).and_then(|rest| entries::<K::Head>(rest).next());
        entry.is_some_and(|entry| {
            entry.is_ok_and(|entry| K::is_live(&entry) && K::fault(inode, hash, &entry).is_none())
        })
    };
    if let Some(natural) = natural.filter(|natural| *natural == bytes.len() || is_good(*natural)) {
        return natural;
    }
    let first = offset.saturating_add(size_of::<K::Head>()).next_multiple_of(8);
    (first..bytes.len()).step_by(8).find(|at| is_good(*at)).unwrap_or(bytes.len())
}

/// Entries of a body that have the same cookie or the same name, told.
fn alike<K: Kind, O: Observer>(scan: &mut Scan<'_, O>, inode: u64, body: u64) {
    scan.seen.sort_unstable_by_key(|seen| (seen.cookie, seen.index));
    let hash = |seen: &Seen<'_>| seen.cookie & !DISAMBIGUATOR;
    for group in scan.seen.chunk_by(|one, next| hash(one) == hash(next)) {
        for (position, later) in group.iter().enumerate() {
            let earlier = group.iter().take(position);
            let same = |one: &&Seen<'_>| {
                one.cookie == later.cookie || (one.name, one.also) == (later.name, later.also)
            };
            if let Some(one) = earlier.into_iter().find(same) {
                let at = EntryPlace { body, index: later.index }.path(inode, K::FORK);
                twice(&mut scan.env, inode, later, one, at);
            }
        }
    }
}

/// Two entries that must not both be.
pub(crate) fn twice(env: &mut Env<'_>, inode: u64, later: &Seen<'_>, earlier: &Seen<'_>, at: String) {
    let name = printable(later.name);
    let (field, problem) = if (later.name, later.also) == (earlier.name, earlier.also) {
        ("", Problem::EntryTwice { inode, name })
    } else {
        (".cookie", Problem::EntryCookieTwice { inode, name, cookie: later.cookie })
    };
    env.findings.push(Finding::new(format!("{at}{field}"), problem).of_file(inode));
}
