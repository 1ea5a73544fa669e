//! Pass 4: large directories by several threads, and whether every directory leads to the root.

use crate::body::Directory;
use crate::context::{Check, Env, locked};
use crate::entries::{Chain, Found, Totals, index, settle_directory};
use crate::finding::Finding;
use crate::inodes::{Scan, Subject};
use crate::observe::Observer;
use crate::pool::Pool;
use crate::problem::Problem;
use crate::trees::{TreeName, check_counts};
use paxfs_format::chunk::CHUNK_INODES;
use paxfs_format::inode::{FileType, Which};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Blocks of entries that are one job.
const JOB_BLOCKS: usize = 32;

/// Checks the entries of one large directory. Gives the threads' states back.
pub(crate) fn large<'c, O: Observer + Send>(
    check: &'c Check<'c>,
    pool: &Pool<'_>,
    number: u64,
    scan: &(impl Fn() -> Scan<'c, O> + Sync),
    deliver: &mut dyn FnMut(usize, Vec<Finding>),
) -> Vec<Scan<'c, O>> {
    let Ok(inode) = check.volume.inode(number) else { return Vec::new() };
    let subject = Subject { number, inode };
    let mut first = scan();
    let (name, root) = (TreeName::Directory(number), inode.data.tree);
    let mut blocks: Vec<Found> = Vec::new();
    let outcome = index(&mut first.env, name, &root, |found| blocks.push(found));
    check_counts(&mut first.env, name, &root, &outcome);
    deliver(0, core::mem::take(&mut first.env.findings));

    let totals = Mutex::new(Totals { whole: outcome.walked.complete, ..Totals::NONE });
    let jobs: Vec<&[Found]> = blocks.chunks(JOB_BLOCKS).collect();
    let mut scans = pool.run(
        jobs.len(),
        scan,
        |scan: &mut Scan<'c, O>, job| {
            let stretch = crate::usage::Stretch::begin();
            let of = |job: Option<usize>| job.and_then(|job| jobs.get(job)).copied().unwrap_or_default();
            let (before, found, after) = (of(job.checked_sub(1)), of(Some(job)), of(job.checked_add(1)));
            let mut chain = Chain::<Directory>::behind(&scan.env, &subject, Which::Data, before.last());
            for found in found {
                chain.block(scan, &subject, Which::Data, *found);
            }
            chain.end(&mut scan.env, &subject, Which::Data, after.first());
            locked(&totals).merge(&chain.totals);
            scan.env.charge(3, stretch);
            core::mem::take(&mut scan.env.findings)
        },
        deliver,
    );
    let totals = *locked(&totals);
    settle_directory(&mut first.env, &subject, &totals);
    deliver(0, core::mem::take(&mut first.env.findings));
    scans.push(first);
    scans
}

/// How far up a directory was followed.
enum End {
    /// To the root, or to where nobody knows.
    Rooted,
    /// Into itself, after so many levels.
    Cycle(u64),
}

/// Follows every directory up by its parent pointers, each part of a way once.
pub(crate) fn connect(env: &mut Env<'_>) {
    let check = env.check;
    let root = check.volume.superblock.root.get();
    check_root(env, root);
    let mut way = Vec::new();
    for group in &check.groups {
        let Some(index) = group.index.get() else { continue };
        let start = check.volume.geometry.group_start(group.number);
        for chunk in &index.chunks {
            let directories = chunk.directories.load(Ordering::Relaxed);
            for slot in (0..CHUNK_INODES).filter(|slot| directories >> slot & 1 != 0) {
                let number = chunk.inode(start, slot);
                if let End::Cycle(length) = follow(check, number, root, &mut way) {
                    let finding =
                        Finding::new(format!("inode[{number}]"), Problem::Cycle { inode: number, length });
                    env.findings.push(finding.of_file(number));
                }
            }
        }
    }
}

fn check_root(env: &mut Env<'_>, root: u64) {
    let check = env.check;
    let mut damaged = locked(&check.doubts.inodes).clone();
    damaged.sort_unstable();
    if check.is_unknown(root, &damaged) {
        return;
    }
    let fault = match check.volume.inode(root) {
        // A damaged inode has been reported as one.
        Err(_) if check.is_used(root) => return,
        Err(fault) => fault.to_string(),
        Ok(inode) if inode.file_type() == Some(FileType::Directory) && check.is_used(root) => return,
        Ok(inode) if inode.is_free() => "is not in use".to_owned(),
        Ok(_) => "is no directory".to_owned(),
    };
    env.find("sb.root", Problem::Root { inode: root, fault });
}

/// Goes up from a directory to the first that is known to be rooted. All on the way are rooted then. The way is kept on
/// the heap: its length is the depth.
fn follow(check: &Check<'_>, from: u64, root: u64, way: &mut Vec<u64>) -> End {
    way.clear();
    let mut number = from;
    // Two walkers: the second goes every other step and meets the first in a cycle (Floyd).
    let (mut slow, mut slow_at) = (from, 0usize);
    let end = loop {
        if number == root || !check.is_directory(number) || is_rooted(check, number) {
            break End::Rooted;
        }
        way.push(number);
        let Some(parent) = parent(check, number) else { break End::Rooted };
        number = parent;
        if way.len().is_multiple_of(2) {
            slow_at = slow_at.saturating_add(1);
            slow = way.get(slow_at).copied().unwrap_or(slow);
        }
        if number == slow {
            let first = way.iter().rposition(|one| *one == number).unwrap_or(0);
            break End::Cycle(way.len().saturating_sub(first) as u64);
        }
    };
    // Also those of a cycle: it is told once.
    for number in way.iter() {
        set_rooted(check, *number);
    }
    end
}

fn parent(check: &Check<'_>, number: u64) -> Option<u64> {
    let inode = check.volume.inode(number).ok()?;
    check.volume.parents(inode).next().map(|parent| parent.directory)
}

fn is_rooted(check: &Check<'_>, number: u64) -> bool {
    check.chunk_of(number).is_none_or(|(chunk, slot)| chunk.rooted.load(Ordering::Relaxed) >> slot & 1 != 0)
}

fn set_rooted(check: &Check<'_>, number: u64) {
    if let Some((chunk, slot)) = check.chunk_of(number) {
        chunk.rooted.fetch_or(1 << slot, Ordering::Relaxed);
    }
}
