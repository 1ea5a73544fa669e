//! Repair: from findings to an image of the volume in which there are none.
//!
//! A plan is made in rounds: the check says what is wrong, a `round` puts it right in memory, and the check looks again,
//! until it finds nothing that can be put right. Nothing is written: who has the plan can show it, or write what changed.

mod action;
mod belief;
mod census;
mod chunks;
mod clusters;
mod copies;
mod cross;
mod extents;
mod file;
mod heads;
mod kinds;
mod names;
mod room;
mod round;
mod salvage;
mod source;
mod space;
mod spare;
mod state;
mod store;
mod sums;
mod targets;

pub use action::Action;

use crate::check::{Options, Progress, check_settled};
use crate::error::Error;
use crate::finding::Finding;
use crate::problem::Problem;
use crate::summary::Summary;
use core::ops::Range;
use paxfs_format::device::Device;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::volume::{Found, Volume};
use round::Round;
use std::collections::{BTreeMap, HashMap, HashSet};
use targets::Targets;

/// Most rounds. Each must leave fewer findings, or others, than those before.
const MOST_ROUNDS: usize = 8;

/// Findings that no repair can put right: what was there is lost, and that is all that can be known of it.
const STAYS: [&str; 3] = ["PX-BAD-OWNED", "PX-DEVICE-SHORT", "PX-MEDIUM"];

/// What a repair would do, and the volume as it would be then.
#[derive(Debug)]
pub struct Plan {
    /// What was found.
    pub findings: Vec<Finding>,
    /// What the check came to.
    pub summary: Summary,
    /// What is done, in order.
    pub actions: Vec<Action>,
    /// What is still found then. Empty but for what no repair can put right, or the plan must not be carried out.
    pub left: Vec<Finding>,
    /// All blocks that differ from the device.
    pub changed: BTreeMap<u64, Box<[u8; 4096]>>,
    /// Runs of blocks that nobody has, neither before nor after: there is room for a log.
    pub spare: Vec<Range<u64>>,
    /// The superblock that was believed.
    pub found: Found,
}

impl Plan {
    /// Whether there is anything to be done.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether carrying it out leaves nothing that a repair could put right.
    pub fn succeeds(&self) -> bool {
        self.left.iter().all(stays)
    }

    /// Whether carrying it out leaves less than there was, and nothing new.
    pub fn helps(&self) -> bool {
        let before: HashSet<_> = self.findings.iter().map(what).collect();
        let known = self.left.iter().all(|finding| before.contains(&what(finding)));
        known && self.left.len() < to_repair(&self.findings).len()
    }

    /// Whether nothing is lost by it.
    pub fn keeps_all(&self) -> bool {
        !self.actions.iter().any(Action::loses)
    }
}

/// Who decides which of the things that were found are put right.
pub type Choose<'c> = &'c mut dyn FnMut(&[&Finding]) -> bool;

/// Plans a repair. The device is not changed.
///
/// `choose` is asked once for each structure that something is wrong with, with all that was found there.
///
/// # Errors
///
/// When there is no superblock, the check was interrupted, or there is no room for what has to be made anew.
pub fn plan(
    device: &Device,
    options: &Options<'_>,
    on_finding: &mut dyn FnMut(&Finding),
    choose: Choose<'_>,
) -> Result<Plan, Error> {
    let mut findings = Vec::new();
    let first = check_settled(Image::new(device), options, false, &mut |finding| {
        on_finding(&finding);
        findings.push(finding);
    })?;
    let mut plan = Plan {
        left: to_repair(&findings),
        actions: journal_actions(&findings),
        findings,
        summary: first.summary,
        changed: BTreeMap::new(),
        found: first.found.clone(),
        spare: Vec::new(),
    };
    if plan.summary.refused || plan.left.is_empty() {
        return Ok(plan);
    }
    let declined = declined(&plan.left, choose);
    let Found { superblock, geometry, block, .. } = first.found;
    let before = Volume::new(first.image.clone(), superblock, geometry);
    if !fits(&before) {
        return Err(Error::NothingFits { block });
    }
    // A superblock that lost the number of its transaction has it from the headers.
    let newest = if first.newest == 0 { last_of_headers(&before) } else { first.newest };
    let mut volume = Volume::new(first.image, superblock, geometry);
    let quiet = Options { progress: None::<Progress<'_>>, superblock_group: None, ..*options };
    for _ in 0..MOST_ROUNDS {
        let todo: Vec<Finding> =
            plan.left.iter().filter(|one| !declined.contains(&what(one))).cloned().collect();
        let round = Round { volume: &mut volume, newest, targets: Targets::default(), actions: Vec::new() };
        plan.actions.extend(round.run(&todo)?);
        let mut found = Vec::new();
        check_settled(volume.blocks.clone(), &quiet, true, &mut |finding| found.push(finding))?;
        let left = to_repair(&found);
        let stuck = left == plan.left;
        plan.left = left;
        if stuck || plan.left.iter().all(|one| stays(one) || declined.contains(&what(one))) {
            break;
        }
    }
    plan.spare = spare::spare(&before, &volume);
    plan.changed = volume.blocks.into_changed();
    // What waits in the journal goes home before a repair is written: its blocks are not as they are now by then.
    let waiting: HashSet<u64> = before.blocks.changed().map(|(block, _)| block).collect();
    plan.changed.retain(|block, bytes| {
        waiting.contains(block) || device.block(*block).map_or(true, |stored| stored != bytes.as_ref())
    });
    Ok(plan)
}

/// Whether anything on the volume is sound by its superblock's uuid.
fn fits(volume: &Volume<Image<'_>>) -> bool {
    let mut groups = volume.geometry.group_numbers();
    groups.any(|group| volume.group(group).is_ok() || volume.group_copy(group).is_ok())
        || volume.geometry.group_numbers().any(|group| !clusters::known(volume, group, true).is_empty())
}

/// The last transaction that wrote a group's header; 1 if none did.
fn last_of_headers(volume: &Volume<Image<'_>>) -> u64 {
    let headers = volume.geometry.group_numbers().filter_map(|group| volume.group(group).ok());
    headers.map(|header| header.header.generation.get()).max().unwrap_or(0).max(1)
}

fn to_repair(findings: &[Finding]) -> Vec<Finding> {
    findings.iter().filter(|finding| finding.severity().needs_repair()).cloned().collect()
}

/// Whether no repair can put it right.
fn stays(finding: &Finding) -> bool {
    STAYS.contains(&finding.code())
}

/// What tells a finding from others.
fn what(finding: &Finding) -> (&'static str, String) {
    (finding.code(), finding.at.clone())
}

/// The structure that a finding is about, as far as it can be repaired by itself: a file, a group with its trees, …
pub(crate) fn structure(at: &str) -> String {
    let first = at.split('.').next().unwrap_or_default();
    let (name, number) = first.split_once('[').unwrap_or((first, ""));
    let of_group = name == "group_copy" || GroupTree::named(name).is_some();
    if of_group { format!("group[{number}") } else { first.to_owned() }
}

/// Findings that are to stay, by who decides: structure by structure.
fn declined(findings: &[Finding], choose: Choose<'_>) -> HashSet<(&'static str, String)> {
    let mut causes: Vec<(String, Vec<&Finding>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for finding in findings.iter().filter(|finding| !stays(finding)) {
        let name = structure(&finding.at);
        let place = *places.entry(name.clone()).or_insert_with(|| {
            causes.push((name, Vec::new()));
            causes.len() - 1
        });
        if let Some((_, list)) = causes.get_mut(place) {
            list.push(finding);
        }
    }
    let mut declined = HashSet::new();
    for (_, list) in causes {
        if !choose(&list) {
            declined.extend(list.into_iter().map(what));
        }
    }
    declined
}

/// What becomes of the journal, and of what the last user left.
fn journal_actions(findings: &[Finding]) -> Vec<Action> {
    let mut actions = Vec::new();
    for finding in findings {
        let what = match &finding.problem {
            Problem::JournalPending { .. } | Problem::JournalNotEmpty { .. } => "replayed",
            Problem::JournalLeftover { .. } => "cleared",
            Problem::NotClosed { .. } | Problem::ErrorsNoted { .. } | Problem::StateUnknown { .. } => {
                "marked clean"
            }
            Problem::JournalDamaged { fault } => {
                let mut action = Action::new(finding.at.clone(), "cut where it is damaged, and cleared");
                action.lost.push(format!("what its last transaction changed: {fault}"));
                actions.push(action);
                continue;
            }
            _ => continue,
        };
        actions.push(Action::new(finding.at.clone(), what));
    }
    actions
}
