//! The check of a volume, pass after pass.
//!
//! 1. superblock, journal, group headers, each with copies
//! 2. per group: clusters, inode index, and the trees of space, summed up
//! 3. inodes
//! 4. large directories; names; that every directory leads to the root
//! 5. checksums of data; what the proofs left open, named; what hangs on all before: bitmaps and counters
//!
//! Passes 2 and 3 share one queue of jobs: the sweep over a large reverse map would keep a single thread busy alone.

use crate::context::{Check, Env, Group, PASSES, Proofs, locked};
use crate::doubts::Doubts;
use crate::error::Error;
use crate::finding::{AffectedFile, Finding};
use crate::groups::{self, Dispute};
use crate::inodes::Scan;
use crate::multiset::Key;
use crate::naming;
use crate::pool::Pool;
use crate::problem::Problem;
use crate::summary::Summary;
use crate::usage::{Clock, Stretch};
use paxfs_format::blocks::Blocks;
use paxfs_format::device::Device;
use paxfs_format::geometry::Geometry;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::superblock::Superblock;
use paxfs_format::volume::{Found, Volume};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;

/// How far a pass is: pass from 1, done, of how many.
pub type Progress<'a> = &'a (dyn Fn(u32, u64, u64) + Sync);

/// How to check.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Threads; as many as there are processors when none.
    pub threads: Option<NonZeroUsize>,
    /// Take the superblock from the copy in this group.
    pub superblock_group: Option<u32>,
    /// Ends the check when it becomes true.
    pub cancel: Option<&'a AtomicBool>,
    /// Told how far the check is.
    pub progress: Option<Progress<'a>>,
}

/// Most threads that are of use.
const MAX_THREADS: usize = 64;
/// Names of one file that a finding shows.
const NAMES_SHOWN: usize = 3;

/// Checks the volume on a device. Nothing is changed; what waits in the journal is applied in memory.
///
/// ```
/// # use paxfs_format::device::Device;
/// let device = Device::memory(vec![0; 4 << 20]);
/// let mut findings = Vec::new();
/// let outcome = paxfs_fsck::check(&device, &Default::default(), &mut |finding| findings.push(finding));
/// assert!(outcome.is_err(), "this is no paxfs volume");
/// ```
///
/// # Errors
///
/// When there is no superblock, or the check was interrupted. What is wrong with the volume are findings.
pub fn check(
    device: &Device,
    options: &Options<'_>,
    on_finding: &mut dyn FnMut(Finding),
) -> Result<Summary, Error> {
    check_image(Image::new(device), options, on_finding)
}

/// Checks the volume on a device with some of its blocks replaced.
///
/// # Errors
///
/// As [`check`].
pub fn check_image(
    image: Image<'_>,
    options: &Options<'_>,
    on_finding: &mut dyn FnMut(Finding),
) -> Result<Summary, Error> {
    Ok(check_settled(image, options, false, on_finding)?.summary)
}

/// What a check leaves to those who go on with the volume.
pub(crate) struct Checked<'d> {
    pub summary: Summary,
    /// The volume, with the journal applied.
    pub image: Image<'d>,
    /// The superblock that was believed.
    pub found: Found,
    /// The last transaction.
    pub newest: u64,
}

/// Checks the volume on a device with some of its blocks replaced. `settled`: the journal has been dealt with.
pub(crate) fn check_settled<'d>(
    mut image: Image<'d>,
    options: &Options<'_>,
    settled: bool,
    on_finding: &mut dyn FnMut(Finding),
) -> Result<Checked<'d>, Error> {
    let stretch = Stretch::begin();
    let mut findings = Vec::new();
    let (found, newest) = superblock(&mut image, options, settled, &mut findings)?;
    let mut summary = Summary::new(&found);
    let volume = Volume::new(image, found.superblock, found.geometry);
    if crate::superblocks::check_features(&found, &mut findings).is_err() {
        summary.refused = true;
        findings.into_iter().for_each(|finding| deliver_one(&volume, &mut summary, on_finding, finding));
        return Ok(Checked { summary, image: volume.blocks, found, newest });
    }
    let (groups, disputes) = groups::open(&volume, newest, &mut findings);
    let mut check = new_check(&volume, groups);
    check.newest = newest;
    let check = check;
    groups::check_unexpected(&check, &mut findings);
    let threads = options.threads.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let pool = Pool { threads: threads.min(MAX_THREADS), cancel: options.cancel };
    let mut run = Run {
        check: &check,
        pool,
        progress: options.progress,
        disputes,
        reported: HashSet::new(),
        clocks: [Clock::default(); PASSES],
        summary: &mut summary,
        on_finding,
    };
    run.charge(0, stretch);
    run.deliver(findings);
    run.all()?;
    drop(check);
    Ok(Checked { summary, image: volume.blocks, found, newest })
}

/// The superblock to believe, with the journal applied.
fn superblock(
    image: &mut Image<'_>,
    options: &Options<'_>,
    settled: bool,
    findings: &mut Vec<Finding>,
) -> Result<(Found, u64), Error> {
    let group = options.superblock_group;
    let found = crate::superblocks::open(image, group)?;
    let device = image.device();
    let fits =
        |superblock: &Superblock, geometry: Geometry| crate::misfit::misfit(device, superblock, geometry);
    let mut found = crate::superblocks::elect(image, found, group.is_some(), &fits, findings);
    let (blocks, device_blocks) = (found.geometry.blocks, image.blocks());
    if blocks > device_blocks {
        findings.push(Finding::new("sb.blocks", Problem::DeviceShort { blocks, device_blocks }));
    }
    let mut newest = found.superblock.header.generation.get();
    if found.superblock.understood().is_ok() && !settled {
        newest = crate::journal::check(image, &found.superblock, &found.geometry, findings);
        // A transaction may have changed the superblock too.
        if let Ok((superblock, geometry)) = paxfs_format::volume::read_superblock(image, found.block)
            && image.changed().next().is_some()
        {
            (found.superblock, found.geometry) = (superblock, geometry);
        }
    }
    crate::superblocks::check_fields(&found, findings);
    Ok((found, newest))
}

/// A check of a volume, before anything is known.
pub(crate) fn new_check<'c>(volume: &'c Volume<Image<'c>>, groups: Vec<Group>) -> Check<'c> {
    Check {
        volume,
        key: Key::random(),
        doubts: Doubts::default(),
        newest: u64::MAX,
        counts: Default::default(),
        blocks: Default::default(),
        late: Default::default(),
        detours: groups::detours(volume, &groups).into(),
        large: Default::default(),
        links: Default::default(),
        clashes: Default::default(),
        proofs: Default::default(),
        groups,
    }
}

/// A check on its way.
struct Run<'r, 'c> {
    check: &'c Check<'c>,
    pool: Pool<'r>,
    progress: Option<Progress<'r>>,
    disputes: Vec<Dispute>,
    /// Paths of findings about group headers and roots, while there are disputes about those.
    reported: HashSet<String>,
    clocks: [Clock; PASSES],
    summary: &'r mut Summary,
    on_finding: &'r mut dyn FnMut(Finding),
}

/// A job of passes 2 and 3.
enum Job {
    Space(u32, GroupTree),
    Inodes(u32, usize, usize),
}

impl<'c> Run<'_, 'c> {
    fn all(&mut self) -> Result<(), Error> {
        let check = self.check;
        self.index()?;
        if !check.rmap() {
            crate::claims::claim_roles(check);
        }
        self.space_and_inodes()?;
        self.directories()?;
        self.contents()?;
        self.open_ends()?;
        for (usage, clock) in self.summary.passes.iter_mut().zip(&self.clocks) {
            *usage = clock.usage(usage.anonymous_bytes);
        }
        self.summary.unchecked.append(&mut check.unchecked());
        Ok(())
    }

    /// The indexes of all groups: where metadata and inodes are.
    fn index(&mut self) -> Result<(), Error> {
        let check = self.check;
        let states = self.run(
            check.groups.len(),
            1,
            |env, job| {
                if let Some(group) = check.groups.get(job) {
                    groups::index(env, group);
                }
                1
            },
            |env| env,
            || Env::new(check, true),
        )?;
        // A group's nodes may lie in the clusters of a group that was not known yet.
        let reached: Vec<u64> = states.into_iter().flat_map(|env| env.reached).collect();
        self.run(
            1,
            1,
            |env: &mut Env<'_>, _| {
                env.reached.extend(&reached);
                groups::mark_reached(env);
                env.reached.clear();
                1
            },
            |env| env,
            || Env::new(check, true),
        )?;
        Ok(())
    }

    /// Runs jobs, each of which says which pass it is of (from 0), and gives the threads' states back.
    fn run<S: Send>(
        &mut self,
        jobs: usize,
        pass: u32,
        work: impl Fn(&mut S, usize) -> usize + Sync,
        env: impl for<'s> Fn(&'s mut S) -> &'s mut Env<'c> + Sync,
        state: impl Fn() -> S + Sync,
    ) -> Result<Vec<S>, Error> {
        let work = |state: &mut S, job| {
            let stretch = Stretch::begin();
            let pass = work(state, job);
            let env = env(state);
            env.charge(pass, stretch);
            core::mem::take(&mut env.findings)
        };
        let pool = self.pool;
        let mut states = pool.run(jobs, state, work, &mut |done, found| {
            self.tell(pass, done as u64, jobs as u64);
            self.deliver(found);
        });
        for state in &mut states {
            self.merge(env(state));
        }
        self.measure(pass);
        if pool.cancelled() { Err(Error::Cancelled) } else { Ok(states) }
    }

    fn merge(&mut self, env: &Env<'_>) {
        for (mine, theirs) in self.clocks.iter_mut().zip(&env.clocks) {
            mine.merge(theirs);
        }
    }

    /// Does something by this thread alone.
    fn alone(&mut self, pass: usize, work: impl FnOnce(&mut Env<'c>)) {
        let mut env = Env::new(self.check, true);
        let stretch = Stretch::begin();
        work(&mut env);
        env.charge(pass, stretch);
        self.merge(&env);
        self.deliver(env.findings);
    }

    fn charge(&mut self, pass: usize, stretch: Stretch) {
        if let Some(clock) = self.clocks.get_mut(pass) {
            clock.add(stretch);
        }
        self.tell(u32::try_from(pass).unwrap_or(0), 1, 1);
        self.measure(u32::try_from(pass).unwrap_or(0));
    }

    /// Notes the memory in use at the end of a pass.
    fn measure(&mut self, pass: u32) {
        let bytes = crate::usage::anonymous_bytes();
        if let Some(usage) = usize::try_from(pass).ok().and_then(|pass| self.summary.passes.get_mut(pass)) {
            usage.anonymous_bytes = usage.anonymous_bytes.max(bytes);
        }
    }

    fn tell(&self, pass: u32, done: u64, of: u64) {
        if let Some(progress) = self.progress {
            progress(pass.saturating_add(1), done, of);
        }
    }

    fn deliver(&mut self, findings: Vec<Finding>) {
        let detours = locked(&self.check.detours).clone();
        for mut finding in findings {
            if let Some(root) = detours.iter().find_map(|detour| detour.path(&finding.at)) {
                finding.at = root.to_owned();
            }
            if !self.disputes.is_empty()
                && (finding.at.starts_with("group[") || finding.at.contains("].root"))
            {
                self.reported.insert(finding.at.clone());
            }
            deliver_one(self.check.volume, self.summary, self.on_finding, finding);
        }
    }

    fn space_and_inodes(&mut self) -> Result<(), Error> {
        let check = self.check;
        let mut sweeps = Vec::new();
        for group in &check.groups {
            let trees = [GroupTree::Rmap, GroupTree::Refcount, GroupTree::Free, GroupTree::Bad];
            sweeps.extend(trees.into_iter().filter_map(|tree| {
                let records = group.header?.root(tree).records.get();
                Some((core::cmp::Reverse(records), Job::Space(group.number, tree)))
            }));
        }
        // The longest first, so that no thread is left with one at the end. The order is that of the findings, too.
        sweeps.sort_by_key(|(records, _)| *records);
        let mut jobs: Vec<Job> = sweeps.into_iter().map(|(_, job)| job).collect();
        jobs.extend(naming::jobs(check).into_iter().map(|(group, from, to)| Job::Inodes(group, from, to)));
        let scans = self.run(
            jobs.len(),
            2,
            |scan: &mut Scan<'c, Proofs>, job| match jobs.get(job) {
                Some(Job::Space(group, tree)) => {
                    if let Some(group) = check.group(*group) {
                        crate::space::check(&mut scan.env, group, *tree);
                    }
                    1
                }
                Some(Job::Inodes(group, from, to)) => {
                    if let Some(group) = check.group(*group) {
                        scan.chunks(group, *from, *to);
                    }
                    2
                }
                None => 2,
            },
            |scan| &mut scan.env,
            || Scan::new(Env::new(check, true), Proofs::default()),
        )?;
        self.count(&scans);
        Ok(())
    }

    fn count(&mut self, scans: &[Scan<'_, Proofs>]) {
        for scan in scans {
            locked(&self.check.proofs).merge(&scan.observer);
            let summary = &mut self.summary;
            summary.inodes = summary.inodes.saturating_add(scan.inodes);
            summary.directories = summary.directories.saturating_add(scan.directories);
            summary.entries = summary.entries.saturating_add(scan.entries);
            summary.extents = summary.extents.saturating_add(scan.extents);
        }
    }

    fn directories(&mut self) -> Result<(), Error> {
        let check = self.check;
        let mut large = locked(&check.large).clone();
        large.sort_unstable();
        let total = large.len() as u64;
        for (done, number) in (0u64..).zip(large) {
            self.tell(3, done, total.saturating_add(1));
            let pool = self.pool;
            let scan = || Scan::new(Env::new(check, true), Proofs::default());
            let scans =
                crate::directories::large(check, &pool, number, &scan, &mut |_, found| self.deliver(found));
            for scan in &scans {
                self.merge(&scan.env);
            }
            self.count(&scans);
            if pool.cancelled() {
                return Err(Error::Cancelled);
            }
        }
        self.alone(3, crate::directories::connect);
        let pool = self.pool;
        let mut unchecked = Vec::new();
        self.alone(3, |env| env.findings = crate::names_naming::names(check, &pool, &mut unchecked));
        self.summary.unchecked.append(&mut unchecked);
        self.tell(3, total.saturating_add(1), total.saturating_add(1));
        self.measure(3);
        if pool.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn contents(&mut self) -> Result<(), Error> {
        let check = self.check;
        if !check.csum() {
            return Ok(());
        }
        let proofs = *locked(&check.proofs);
        let proven = match check.rmap() {
            true => proofs.extents == proofs.rmap,
            false => check.knows_all_extents(),
        };
        let mut jobs = Vec::new();
        for group in &check.groups {
            let blocks = check.volume.geometry.group_len(group.number);
            let windows = (0..blocks.div_ceil(crate::sums::WINDOW)).map(|i| i * crate::sums::WINDOW);
            jobs.extend(windows.map(|from| (group.number, from..blocks.min(from + crate::sums::WINDOW))));
        }
        self.run(
            jobs.len(),
            4,
            |env, job| {
                if let Some((number, window)) = jobs.get(job)
                    && let Some(group) = check.group(*number)
                {
                    let space = *locked(&group.space);
                    let faulty = space.rmap_doubtful || space.rmap_faulty;
                    let known = proven && !faulty && group.header.is_some();
                    crate::sums::check(env, group, window.clone(), known);
                }
                4
            },
            |env| env,
            || Env::new(check, true),
        )?;
        Ok(())
    }

    /// What could only be told when all else was known.
    fn open_ends(&mut self) -> Result<(), Error> {
        let check = self.check;
        let pool = self.pool;
        if !check.rmap() {
            crate::claims::sum_claims(check);
        }
        let mut unchecked = Vec::new();
        let mut clusters = HashSet::new();
        self.alone(4, |env| {
            env.findings = naming::space(check, &pool, &mut unchecked);
            for finding in &env.findings {
                if let Problem::ClusterWrong { .. } = finding.problem {
                    clusters.insert(finding.at.clone());
                }
            }
            if !check.rmap() {
                env.findings.extend(crate::claims::clashes(check));
            }
        });
        self.summary.unchecked.append(&mut unchecked);
        self.alone(4, |env| {
            for group in &check.groups {
                groups::check_clusters(env, group, &clusters);
                groups::check_inode_counts(env, group);
            }
        });
        let settled = groups::settle(&self.disputes, &self.reported);
        self.deliver(settled);
        self.tell(4, 1, 1);
        self.measure(4);
        if pool.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Completes a finding with paths, counts it, and hands it on.
fn deliver_one(
    volume: &Volume<Image<'_>>,
    summary: &mut Summary,
    on_finding: &mut dyn FnMut(Finding),
    mut finding: Finding,
) {
    let mut files = Vec::new();
    for file in core::mem::take(&mut finding.files.first) {
        let names = volume.paths_up_to(file.inode, NAMES_SHOWN.saturating_add(1));
        let shown = if finding.files.more > 0 || !files.is_empty() { 1 } else { NAMES_SHOWN };
        let (shown, rest) = names.split_at(names.len().min(shown));
        let links = volume.inode_unverified(file.inode).map_or(0, |inode| u64::from(inode.links.get()));
        let unshown = if rest.is_empty() { 0 } else { links.saturating_sub(shown.len() as u64).max(1) };
        finding.files.more = finding.files.more.saturating_add(unshown);
        files.extend(shown.iter().map(|path| AffectedFile { path: path.to_string(), ..file.clone() }));
    }
    finding.files.first = files;
    summary.count(&finding);
    on_finding(finding);
}
