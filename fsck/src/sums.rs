//! Pass 5: checksums of data. Each block is read once, however many share it.

use crate::context::{Check, Env, Group};
use crate::finding::Finding;
use crate::problem::Problem;
use crate::space::with_owners;
use crate::trees::{TreeName, tree};
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::GroupTree;
use paxfs_format::inode::InodeFlags;
use paxfs_format::record::Record;
use paxfs_format::rmap::Rmap;
use paxfs_format::sums::{SUMS_PER_BLOCK, Sum, SumState};
use zerocopy::FromBytes;

/// Blocks of a group that are one job: 64 MiB.
pub(crate) const WINDOW: u64 = 16384;

/// What owns a block, as far as checksums care: none, one, or both of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owned(u8);

impl Owned {
    /// A file whose written data has checksums.
    pub const SUMMED: Self = Self(1);
    /// A file whose data has none.
    pub const UNSUMMED: Self = Self(2);
    /// Nobody knows which.
    pub const EITHER: Self = Self(3);

    /// Written data of a file with these flags.
    pub fn by(flags: u32) -> Self {
        match flags {
            flags if flags & !InodeFlags::KNOWN != 0 => Self::EITHER,
            flags if flags & InodeFlags::NOCSUM != 0 => Self::UNSUMMED,
            _ => Self::SUMMED,
        }
    }

    /// Whether it may be that there is a checksum.
    fn may_be_summed(self) -> bool {
        self.0 & Self::SUMMED.0 != 0
    }
}

/// Whether the table has anything for a block of a group.
pub(crate) fn is_in_use(check: &Check<'_>, group: &Group, block: u64) -> bool {
    let volume = check.volume;
    let table = volume.geometry.table(group.number).start.saturating_add(block / SUMS_PER_BLOCK);
    let sums = volume.blocks.block(table).ok().and_then(|bytes| <[Sum]>::ref_from_bytes(bytes).ok());
    let at = usize::try_from(block % SUMS_PER_BLOCK).unwrap_or(usize::MAX);
    sums.and_then(|sums| sums.get(at)).is_some_and(|sum| sum.state != SumState::NONE)
}

/// A run of blocks that have the same problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Missing,
    Stray,
    Open,
    Medium,
}

/// Checks the checksums of a window of a group. `owners_known` says that what has no known owner has none.
pub(crate) fn check(env: &mut Env<'_>, group: &Group, window: Range<u64>, owners_known: bool) {
    let geometry = env.check.volume.geometry;
    let start = geometry.group_start(group.number);
    let owners = match (env.check.rmap(), owners_known) {
        (true, true) => owners(env, group, &window),
        (true, false) => Vec::new(),
        (false, _) => crate::claims::owned(env.check, group, &window),
    };
    let mut runs = Runs { run: None, done: Vec::new() };
    let mut from = window.start;
    while from < window.end {
        // One block of the table at a time.
        let to = window.end.min((from / SUMS_PER_BLOCK + 1) * SUMS_PER_BLOCK);
        let own = owners.get(part(&window, from)..part(&window, to)).unwrap_or_default();
        table_block(env, group, start, from..to, own, owners_known, &mut runs);
        from = to;
    }
    for (what, range) in runs.finish() {
        let (block, blocks) = (start.saturating_add(range.start), range.end.saturating_sub(range.start));
        let (at, problem) = match what {
            What::Missing => (format!("sum[{block}].state"), Problem::SumMissing { block, blocks }),
            What::Stray => (format!("sum[{block}].state"), Problem::SumStray { block, blocks }),
            What::Open => (format!("sum[{block}].state"), Problem::SumOpen { block, blocks }),
            What::Medium => (format!("block[{block}].raw"), Problem::Medium { block, blocks }),
        };
        let finding = with_owners(env, group, range, Finding::new(at, problem));
        env.findings.push(finding);
    }
}

/// Runs of neighbouring blocks with the same problem.
struct Runs {
    run: Option<(What, Range<u64>)>,
    done: Vec<(What, Range<u64>)>,
}

impl Runs {
    fn add(&mut self, what: What, block: u64) {
        match &mut self.run {
            Some((last, range)) if *last == what && range.end == block => range.end = block.saturating_add(1),
            _ => {
                self.done.extend(self.run.take());
                self.run = Some((what, block..block.saturating_add(1)));
            }
        }
    }

    fn finish(mut self) -> Vec<(What, Range<u64>)> {
        self.done.extend(self.run.take());
        self.done
    }
}

/// Where in a window a block is, or the end of the window that it is behind.
pub(crate) fn part(window: &Range<u64>, block: u64) -> usize {
    let at = block.clamp(window.start, window.end).saturating_sub(window.start);
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// What owns each block of a window.
fn owners(env: &Env<'_>, group: &Group, window: &Range<u64>) -> Vec<Owned> {
    let check = env.check;
    let length = usize::try_from(window.end.saturating_sub(window.start)).unwrap_or(0);
    let mut owners = vec![Owned::default(); length];
    let Some(header) = group.header else { return owners };
    let name = TreeName::Group(GroupTree::Rmap, group.number);
    let rmap = tree::<Rmap>(check, name, header.root(GroupTree::Rmap));
    let mut last = (0, Owned::default());
    for at in rmap.overlapping(&check.volume.blocks, window.clone()).flatten() {
        let record = at.record;
        if !record.owner.is_inode() || record.flags.is_unwritten() {
            continue;
        }
        let owner = record.owner.get();
        if last.0 != owner {
            let inode = check.volume.inode_unverified(owner);
            let flags = inode.map_or(u32::MAX, |inode| inode.flags.get());
            last = (owner, Owned::by(flags));
        }
        let range = part(window, record.key().start)..part(window, record.end());
        owners.get_mut(range).unwrap_or_default().iter_mut().for_each(|owner| owner.0 |= last.1.0);
    }
    owners
}

fn table_block(
    env: &mut Env<'_>,
    group: &Group,
    start: u64,
    range: Range<u64>,
    owners: &[Owned],
    owners_known: bool,
    runs: &mut Runs,
) {
    let volume = env.check.volume;
    let table = volume.geometry.table(group.number).start.saturating_add(range.start / SUMS_PER_BLOCK);
    let is_hole = volume.blocks.next_data(table).is_none_or(|next| next > table);
    if is_hole && !owners.iter().any(|owner| owner.may_be_summed()) {
        return;
    }
    env.read = env.read.saturating_add(BLOCK_BYTES);
    let Ok(bytes) = volume.blocks.block(table) else { return };
    let Ok(sums) = <[Sum]>::ref_from_bytes(bytes) else { return };
    if volume.blocks.failed(table) {
        let problem = Problem::Medium { block: table, blocks: 1 };
        return env.find(format!("block[{table}].raw"), problem);
    }
    let first = usize::try_from(range.start % SUMS_PER_BLOCK).unwrap_or(0);
    for (offset, (inside, sum)) in range.zip(sums.iter().skip(first)).enumerate() {
        let owner = owners.get(offset).copied().unwrap_or_default();
        one(env, group, start, inside, sum, owner, owners_known, runs);
    }
}

#[allow(clippy::too_many_arguments, reason = "a checksum is judged by all of these")]
fn one(
    env: &mut Env<'_>,
    group: &Group,
    start: u64,
    inside: u64,
    sum: &Sum,
    owner: Owned,
    owners_known: bool,
    runs: &mut Runs,
) {
    let block = start.saturating_add(inside);
    let (state, crc) = (sum.state, sum.crc.get());
    let known = [SumState::NONE, SumState::SEALED, SumState::OPEN].contains(&state);
    if !known || (state != SumState::SEALED && crc != 0) {
        let field = if known { "crc" } else { "state" };
        let problem = Problem::SumState { block, state: state.get().into(), crc: crc.into() };
        let finding = Finding::new(format!("sum[{block}].{field}"), problem);
        let finding = with_owners(env, group, inside..inside.saturating_add(1), finding);
        env.findings.push(finding);
        if state != SumState::OPEN {
            return;
        }
    }
    if state == SumState::NONE {
        if owner == Owned::SUMMED {
            runs.add(What::Missing, inside);
        }
        return;
    }
    if owners_known && !owner.may_be_summed() {
        return runs.add(What::Stray, inside);
    }
    if state == SumState::OPEN {
        return runs.add(What::Open, inside);
    }
    env.read = env.read.saturating_add(BLOCK_BYTES);
    let volume = env.check.volume;
    let Ok(bytes) = volume.blocks.block(block) else { return };
    let computed = volume.seed.plain(bytes);
    if computed == crc {
        return;
    }
    if volume.blocks.failed(block) {
        return runs.add(What::Medium, inside);
    }
    let problem = Problem::SumMismatch { block, stored: crc.into(), computed: computed.into() };
    let finding = Finding::new(format!("sum[{block}].crc"), problem);
    let finding = with_owners(env, group, inside..inside.saturating_add(1), finding);
    env.findings.push(finding);
}
