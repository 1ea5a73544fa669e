//! Who shares blocks with whom: one sweep over all that is held.
//!
//! A file's blocks are not summed run by run (a file that covers a thousand runs of a thousand sharers would make that
//! quadratic) but as differences of running totals between the place where it begins to hold and where it ends.

use crate::faults::Faults;
use crate::holders::{Fault, Held, Holder};
use crate::sweep::Sweep;
use paxfs_format::geometry::BLOCK_BYTES;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

/// Most sets of files that are told apart; blocks of further ones are counted together.
const MAX_SETS: usize = 1 << 16;
/// Most members of a set that are kept by name.
pub const MAX_MEMBERS: usize = 16;

/// Bytes of a file on the volume, each block counted once however often the file holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All.
    pub bytes: u64,
    /// Those that no other file holds: they are free when the file is gone.
    pub exclusive: u64,
    /// Those that others hold, too.
    pub shared: u64,
}

/// Blocks held by the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// How many files.
    pub files: usize,
    /// Bytes on the volume that they all hold, and no one else.
    pub bytes: u64,
    /// The lowest [`MAX_MEMBERS`] of their inodes.
    pub inodes: Vec<u64>,
}

/// What a volume, or some files of it, come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Bytes on the volume, each block once.
    pub bytes: u64,
    /// Bytes that are held more than once, each block once.
    pub shared: u64,
    /// Bytes as often as they are held: what it would take without sharing.
    pub referenced: u64,
    /// The difference.
    pub saved: u64,
    /// Bytes that nobody else holds, each block once: they are free when the files are gone.
    pub exclusive: u64,
}

/// Who shares what.
#[derive(Debug, Default)]
pub struct Sharing {
    /// By inode.
    pub files: HashMap<u64, Usage>,
    /// Sets of two files or more, the largest in bytes first.
    pub sets: Vec<Set>,
    /// Bytes of sets that were too many to be told apart.
    pub other_sets: u64,
    /// The sum over the files asked for.
    pub total: Total,
}

/// A file over the current place.
struct Over {
    /// How often it holds it.
    times: u64,
    /// Running totals where it began.
    all: u64,
    exclusive: u64,
}

impl Sharing {
    /// Sweeps over `held`, all of `blocks`. With `members` only they are told of, and only what they hold counts.
    pub fn of(
        held: impl Iterator<Item = Result<Held, Fault>>,
        blocks: u64,
        members: Option<&BTreeSet<u64>>,
        faults: &mut Faults,
    ) -> Self {
        let mut sharing = Sharing::default();
        let mut sweep = Sweep::new(held, 0..blocks);
        let mut over: BTreeMap<u64, Over> = BTreeMap::new();
        let is_member = |inode: &u64| members.is_none_or(|members| members.contains(inode));
        let hasher = RandomState::new();
        let (mut set, mut members_over, mut times, mut member_times) = (0u64, 0usize, 0u64, 0u64);
        let mut sets: HashMap<u64, Set> = HashMap::new();
        // Running totals of blocks: held by anyone, held by one file.
        let (mut all, mut exclusive) = (0u64, 0u64);
        loop {
            let run = sweep.next_run();
            for inode in sweep.left().iter().filter_map(inode) {
                times -= 1;
                member_times -= u64::from(is_member(&inode));
                let Some(file) = over.get_mut(&inode) else { continue };
                file.times -= 1;
                if file.times == 0 {
                    if is_member(&inode) {
                        members_over -= 1;
                        let usage = sharing.files.entry(inode).or_default();
                        usage.bytes = usage.bytes.saturating_add(bytes(all - file.all));
                        usage.exclusive = usage.exclusive.saturating_add(bytes(exclusive - file.exclusive));
                    }
                    over.remove(&inode);
                    set = set.wrapping_sub(hasher.hash_one(inode));
                }
            }
            for inode in sweep.entered().iter().filter_map(inode) {
                times += 1;
                member_times += u64::from(is_member(&inode));
                let file = over.entry(inode).or_insert_with(|| {
                    set = set.wrapping_add(hasher.hash_one(inode));
                    members_over += usize::from(is_member(&inode));
                    Over { times: 0, all, exclusive }
                });
                file.times += 1;
            }
            sweep.take_faults().into_iter().for_each(|fault| faults.note(fault));
            let Some(run) = run else { break };
            let length = run.end - run.start;
            if over.is_empty() {
                continue;
            }
            all += length;
            exclusive += if over.len() == 1 { length } else { 0 };
            if members_over == 0 {
                continue;
            }
            let total = &mut sharing.total;
            total.bytes = total.bytes.saturating_add(bytes(length));
            total.referenced = total.referenced.saturating_add(bytes(length.saturating_mul(member_times)));
            total.shared = total.shared.saturating_add(bytes(if times > 1 { length } else { 0 }));
            let own = if members_over == over.len() { length } else { 0 };
            total.exclusive = total.exclusive.saturating_add(bytes(own));
            if over.len() > 1 {
                let full = sets.len() >= MAX_SETS;
                match sets.entry(set) {
                    std::collections::hash_map::Entry::Vacant(_) if full => {
                        sharing.other_sets = sharing.other_sets.saturating_add(bytes(length));
                    }
                    entry => {
                        let inodes = || over.keys().copied().take(MAX_MEMBERS).collect();
                        let set =
                            entry.or_insert_with(|| Set { files: over.len(), bytes: 0, inodes: inodes() });
                        set.bytes = set.bytes.saturating_add(bytes(length));
                    }
                }
            }
        }
        for usage in sharing.files.values_mut() {
            usage.shared = usage.bytes.saturating_sub(usage.exclusive);
        }
        sharing.total.saved = sharing.total.referenced.saturating_sub(sharing.total.bytes);
        sharing.sets = sets.into_values().collect();
        sharing
            .sets
            .sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.inodes.cmp(&other.inodes)));
        sharing
    }
}

fn inode(held: &Held) -> Option<u64> {
    match held.by {
        Holder::Data { inode, .. } => Some(inode),
        Holder::Metadata | Holder::Free => None,
    }
}

fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(start: u64, end: u64, inode: u64) -> Result<Held, Fault> {
        Ok(Held { start, end, by: Holder::Data { inode, offset: 0, unwritten: false } })
    }

    fn usage(bytes: u64, exclusive: u64) -> Usage {
        let (bytes, exclusive) = (bytes * 4096, exclusive * 4096);
        Usage { bytes, exclusive, shared: bytes - exclusive }
    }

    fn source() -> Vec<Result<Held, Fault>> {
        // Inode 1 holds 10..20 twice, and 20..30 with inode 2, which goes on to 40 with inode 3.
        vec![held(0, 5, 3), held(10, 20, 1), held(10, 30, 1), held(20, 40, 2), held(30, 40, 3)]
    }

    #[test]
    fn sums() {
        let sharing = Sharing::of(source().into_iter(), 100, None, &mut Faults::default());
        let expected = HashMap::from([(1, usage(20, 10)), (2, usage(20, 0)), (3, usage(15, 5))]);
        assert_eq!(sharing.files, expected);
        let set = |inodes: &[u64]| Set { files: 2, bytes: 10 * 4096, inodes: inodes.to_vec() };
        assert_eq!(sharing.sets, [set(&[1, 2]), set(&[2, 3])]);
        let total = Total {
            bytes: 35 * 4096,
            shared: 30 * 4096,
            referenced: 65 * 4096,
            saved: 30 * 4096,
            exclusive: 35 * 4096,
        };
        assert_eq!(sharing.total, total);
    }

    #[test]
    fn some_files_only() {
        let members = BTreeSet::from([1, 2]);
        let sharing = Sharing::of(source().into_iter(), 100, Some(&members), &mut Faults::default());
        assert_eq!(sharing.files, HashMap::from([(1, usage(20, 10)), (2, usage(20, 0))]));
        assert_eq!(sharing.total.bytes, 30 * 4096);
        assert_eq!(sharing.total.exclusive, 20 * 4096);
        assert_eq!(sharing.total.referenced, 50 * 4096);
    }
}
