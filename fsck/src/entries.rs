//! Passes 3 and 4: the entries of a directory or of an attribute fork, wherever they are stored.

use crate::body::{Attributes, Body, Directory, Kind, Scanned};
use crate::context::{CountDoubt, Env};
use crate::finding::Finding;
use crate::inodes::{Scan, Subject};
use crate::observe::{EntryPlace, Observer};
use crate::problem::Problem;
use crate::trees::{Item, TreeName, check_counts, walk};
use crate::values::body_fault;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, Which};
use paxfs_format::tree::RecordPlace;
use std::sync::atomic::Ordering;

/// Blocks of entries from which on a directory is worth several threads.
const LARGE: u64 = 128;

/// An entry of a body, to find those that are alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'c> {
    pub cookie: u64,
    pub index: u32,
    pub name: &'c [u8],
    /// What else tells entries of the same name apart: kind and parent of an attribute.
    pub also: u64,
}

/// What the entries of a fork add up to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    /// Live entries.
    pub count: u64,
    /// Bytes of all entries, dead ones too.
    pub bytes: u64,
    /// Parent pointers.
    pub pointers: u64,
    /// Nothing was left out.
    pub whole: bool,
}

impl Totals {
    pub const NONE: Self = Totals { count: 0, bytes: 0, pointers: 0, whole: true };

    /// Adds the totals of another part.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.pointers = self.pointers.saturating_add(other.pointers);
        self.whole &= other.whole;
    }
}

/// The entries of a directory; of a large one they are left for pass 4.
pub(crate) fn directory<'c, O: Observer>(scan: &mut Scan<'c, O>, subject: &Subject<'c>) {
    let fork = &subject.inode.data;
    if fork.format == ForkFormat::TREE && fork.tree.records.get() >= LARGE {
        return scan.env.note(&scan.env.check.large, subject.number);
    }
    let totals = bodies::<Directory, O>(scan, subject, Which::Data);
    settle_directory(&mut scan.env, subject, &totals);
}

/// What the inode of a directory says of its entries against what they add up to.
pub(crate) fn settle_directory(env: &mut Env<'_>, subject: &Subject<'_>, totals: &Totals) {
    let Subject { number, inode } = *subject;
    if !totals.whole {
        return;
    }
    count(env, number, Which::Data, inode.data.count.get(), totals.count);
    if inode.size.get() != totals.bytes {
        let problem = Problem::InodeSize { inode: number, size: inode.size.get(), expected: totals.bytes };
        subject.find(env, ".size", problem);
    }
}

/// The attributes and parent pointers of an inode.
pub(crate) fn attributes<'c, O: Observer>(
    scan: &mut Scan<'c, O>,
    subject: &Subject<'c>,
    _kind: FileType,
) -> Totals {
    let Subject { number, inode } = *subject;
    let totals = bodies::<Attributes, O>(scan, subject, Which::Attributes);
    if totals.whole {
        count(&scan.env, number, Which::Attributes, inode.attributes.count.get(), totals.count);
    }
    totals
}

/// A wrong number of entries is told later, unless it is because of one that is missing, which is told then.
fn count(env: &Env<'_>, inode: u64, which: Which, found: u64, expected: u64) {
    if found != expected {
        env.note(&env.check.counts, CountDoubt { inode, which, found, expected });
    }
}

/// All bodies of a fork.
fn bodies<'c, K: Kind, O: Observer>(scan: &mut Scan<'c, O>, subject: &Subject<'c>, which: Which) -> Totals {
    let inode = subject.inode;
    let fork = inode.fork(which);
    let mut chain = Chain::<K>::new();
    match fork.format {
        ForkFormat::INLINE => {
            let bytes = inode.inline(which).unwrap_or_default();
            let place = EntryPlace::INLINE;
            chain.body(scan, subject, Body { place, bytes, low: 0, high: u64::MAX }, None);
        }
        ForkFormat::BLOCK => {
            let found = Found {
                ordinal: 0,
                block: fork.tree.block.get(),
                low: 0,
                high: u64::MAX,
                record: None,
                doubtful: false,
            };
            chain.block(scan, subject, which, found);
        }
        ForkFormat::TREE => tree(scan, subject, which, &mut chain),
        _ => {}
    }
    chain.totals
}

/// A block of entries that an index leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub ordinal: u64,
    pub block: u64,
    pub low: u64,
    pub high: u64,
    /// Its record, if its cookie is to be believed.
    pub record: Option<RecordPlace>,
    /// Something has been told of the record: there need not be a block.
    pub doubtful: bool,
}

fn tree<'c, K: Kind, O: Observer>(
    scan: &mut Scan<'c, O>,
    subject: &Subject<'c>,
    which: Which,
    chain: &mut Chain<'c, K>,
) {
    // Findings of the tree and of the blocks below come in the order of the walk.
    let (name, root) = (K::tree(subject.number), subject.inode.fork(which).tree);
    let mut list: Vec<Found> = Vec::new();
    let outcome = index(&mut scan.env, name, &root, |found| list.push(found));
    check_counts(&mut scan.env, name, &root, &outcome);
    if !outcome.walked.complete {
        chain.totals.whole = false;
    }
    for found in list {
        chain.block(scan, subject, which, found);
    }
    chain.end(&mut scan.env, subject, which, None);
}

/// Walks an index, and gives the blocks it leads to. Missing parts are noted as unknown.
pub(crate) fn index(
    env: &mut Env<'_>,
    name: TreeName,
    root: &paxfs_format::group::TreeRoot,
    mut take: impl FnMut(Found),
) -> crate::trees::Outcome {
    let inode = name.inode().unwrap_or(0);
    let mut held: Option<Found> = None;
    let mut ordinal = 0;
    let note = |env: &Env<'_>, low: u64, high: u64| match name {
        TreeName::Directory(_) => env.note(&env.check.doubts.entries, (inode, low, high)),
        _ => env.note(&env.check.doubts.pointers, inode),
    };
    let outcome = walk::<Index>(env, name, root, |env, item| match item {
        Item::Sound(at, record) => {
            let low = record.cookie.get();
            if ordinal == 0 && low != 0 {
                let fault = format!("the first cookie is {low:#x}, it must be 0");
                let at = format!("{name}.{at}.cookie");
                env.findings.push(Finding::new(at, Problem::KeyFirst { fault }).of_file(inode));
            }
            if let Some(mut before) = held.take() {
                before.high = low.saturating_sub(1);
                take(before);
            }
            held = Some(Found {
                ordinal,
                block: record.block.get(),
                low,
                high: u64::MAX,
                record: Some(at),
                doubtful: false,
            });
            ordinal += 1;
        }
        Item::Doubtful(_, record) => {
            if record.block.get() < env.check.volume.geometry.blocks {
                // Its cookie may be wrong, its block need not.
                let block = record.block.get();
                take(Found { ordinal, block, low: 0, high: u64::MAX, record: None, doubtful: true });
            } else {
                note(env, 0, u64::MAX);
            }
            ordinal += 1;
        }
        Item::Lost(missing) => {
            let (low, high) = (missing.low.start, missing.bound.start.saturating_sub(1));
            if let Some(mut before) = held.take() {
                if low > before.low {
                    before.high = low.saturating_sub(1);
                }
                take(before);
            }
            note(env, low, high);
        }
    });
    if let Some(last) = held {
        take(last);
    }
    if !outcome.walked.complete {
        env.check.doubts.blocks.store(true, Ordering::Relaxed);
    }
    outcome
}

/// The bodies of a fork one after the other, in the order of their cookies.
pub(crate) struct Chain<'c, K> {
    pub totals: Totals,
    /// The entry of the highest cookie of the body before.
    last: Option<Seen<'c>>,
    /// The highest cookie of the body before.
    before: Option<u64>,
    /// Entries of the body before that belong behind it, its ordinal, and the cookies that belong in it.
    too_high: Vec<(Seen<'c>, u64, (u64, u64))>,
    kind: core::marker::PhantomData<K>,
}

impl<'c, K: Kind> Chain<'c, K> {
    pub fn new() -> Self {
        Chain {
            totals: Totals::NONE,
            last: None,
            before: None,
            too_high: Vec::new(),
            kind: core::marker::PhantomData,
        }
    }

    /// Reads a block and checks its entries.
    pub fn block<O: Observer>(
        &mut self,
        scan: &mut Scan<'c, O>,
        subject: &Subject<'c>,
        which: Which,
        found: Found,
    ) {
        let Subject { number, inode } = *subject;
        let Found { ordinal, block, low, high, record, .. } = found;
        let at = || format!("inode[{number}].{}.block[{ordinal}]", K::FORK);
        let volume = scan.env.check.volume;
        match volume.body_block(inode, which.entry_kind(), block, 0) {
            Ok(bytes) if record.is_some() && self.is_stranger(bytes, low, high) => {
                let at = format!(
                    "{}.{}.block",
                    K::tree(number),
                    record.map(|at| at.to_string()).unwrap_or_default()
                );
                let fault = "all of its entries belong in another".to_owned();
                let problem = Problem::BodyDamaged { inode: number, block, fault };
                scan.env.findings.push(Finding::new(at, problem).of_file(number));
                self.totals.whole = false;
                K::unknown(&scan.env, number, low, high);
                scan.env.check.doubts.blocks.store(true, Ordering::Relaxed);
            }
            Ok(bytes) => {
                scan.env.mark(block, at, Some(number));
                scan.env.block_generation(block, at, Some(number));
                self.body(scan, subject, Body { place: ordinal, bytes, low, high }, record);
            }
            Err(fault) => {
                scan.env.read = scan.env.read.saturating_add(BLOCK_BYTES);
                if scan.env.marking {
                    scan.env.check.mark_damaged(block, which.entry_kind());
                }
                if !found.doubtful {
                    let pointer = || match record {
                        Some(record) => format!("{}.{record}.block", K::tree(number)),
                        None => format!("inode[{number}].{}.tree.block", which.name()),
                    };
                    let (at, fault) = body_fault(&fault, at, pointer);
                    let problem = Problem::BodyDamaged { inode: number, block, fault };
                    scan.env.findings.push(Finding::new(at, problem).of_file(number));
                }
                self.totals.whole = false;
                K::unknown(&scan.env, number, low, high);
                // The pointer to it may be what is wrong.
                scan.env.check.doubts.blocks.store(true, Ordering::Relaxed);
            }
        }
    }

    fn is_stranger(&self, bytes: &[u8], low: u64, high: u64) -> bool {
        crate::body::is_stranger::<K>(bytes, low, high, self.before)
    }

    /// Checks the entries of one body.
    pub fn body<O: Observer>(
        &mut self,
        scan: &mut Scan<'c, O>,
        subject: &Subject<'c>,
        body: Body<'c>,
        record: Option<RecordPlace>,
    ) {
        let number = subject.number;
        let (low, high, place) = (body.low, body.high, body.place);
        let Scanned { totals, first, last, too_low, too_high } =
            crate::body::scan::<K, O>(scan, subject, &body);
        self.totals.merge(&totals);
        let (Some(first), Some(last)) = (first, last) else { return };
        let path = |seen: &Seen<'_>| EntryPlace { body: place, index: seen.index }.path(number, K::FORK);
        let before = self.last.take();
        let border = Border { low, first: first.cookie };
        let too_low = if record.is_some() { too_low } else { Vec::new() };
        if !self.is_moved(&mut scan.env, number, record, border, !too_low.is_empty()) {
            self.tell_too_high(&mut scan.env, number);
            too_low.iter().for_each(|seen| misplaced(&mut scan.env, number, seen, path(seen), (low, high)));
        }
        self.before = Some(last.cookie);
        self.too_high = too_high.into_iter().map(|seen| (seen, place, (low, high))).collect();
        if let Some(before) = &before {
            let same_hash = before.cookie & !DISAMBIGUATOR == first.cookie & !DISAMBIGUATOR;
            if same_hash && (before.name, before.also) == (first.name, first.also) {
                crate::body::twice(&mut scan.env, number, &first, before, path(&first));
            }
        }
        self.last = Some(last);
    }

    /// Whether not the entries at the border between two bodies are misplaced, but the border is: all entries of the
    /// body before have lower cookies than those of this one. Told then.
    fn is_moved(
        &mut self,
        env: &mut Env<'_>,
        inode: u64,
        record: Option<RecordPlace>,
        border: Border,
        too_low: bool,
    ) -> bool {
        let Border { low, first } = border;
        let is_over = !self.too_high.is_empty() && self.before.is_some_and(|before| before >= low);
        let Some(record) = record.filter(|_| too_low || is_over) else { return false };
        let moved = self.before.is_none_or(|before| before < first);
        if moved {
            self.too_high.clear();
            let at = format!("{}.{record}.cookie", K::tree(inode));
            let problem = Problem::IndexCookie { inode, found: low, lowest: first };
            env.findings.push(Finding::new(at, problem).of_file(inode));
        }
        moved
    }

    /// Tells of the entries that belong behind the body they lie in.
    fn tell_too_high(&mut self, env: &mut Env<'_>, inode: u64) {
        for (seen, body, span) in self.too_high.drain(..) {
            let at = EntryPlace { body, index: seen.index }.path(inode, K::FORK);
            misplaced(env, inode, &seen, at, span);
        }
    }

    /// Bodies that follow one that somebody else checks.
    pub fn behind(env: &Env<'_>, subject: &Subject<'_>, which: Which, before: Option<&Found>) -> Self {
        let cookies = before.and_then(|before| Self::cookies(env, subject, which, before));
        Chain { before: cookies.map(|(_, last)| last), ..Self::new() }
    }

    /// The next body is one that somebody else checks; or there is none.
    pub fn end(&mut self, env: &mut Env<'_>, subject: &Subject<'_>, which: Which, next: Option<&Found>) {
        let next = next.and_then(|next| Some((next, Self::cookies(env, subject, which, next)?)));
        if let Some((next, (first, _))) = next
            && self.is_moved(env, subject.number, next.record, Border { low: next.low, first }, false)
        {
            return;
        }
        self.tell_too_high(env, subject.number);
    }

    fn cookies(env: &Env<'_>, subject: &Subject<'_>, which: Which, found: &Found) -> Option<(u64, u64)> {
        let bytes = env.check.volume.body_block(subject.inode, which.entry_kind(), found.block, 0);
        crate::body::cookies::<K>(bytes.ok()?)
    }
}

/// Where a body begins: at the lowest cookie that its record says, and at the first that it has.
#[derive(Debug, Clone, Copy)]
struct Border {
    low: u64,
    first: u64,
}

fn misplaced(env: &mut Env<'_>, inode: u64, seen: &Seen<'_>, at: String, (low, high): (u64, u64)) {
    let name = paxfs_format::names::printable(seen.name);
    let problem = Problem::EntryPlace { inode, name, cookie: seen.cookie, low, high };
    env.findings.push(Finding::new(at, problem).of_file(inode));
}
