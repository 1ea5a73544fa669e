//! Repair: from findings to an image of the volume in which there are none.
//!
//! A plan is made in rounds: the check says what is wrong, a [`round`] puts it right in memory, and the check looks again,
//! until it finds nothing that can be put right. Nothing is written: who has the plan can show it, or write what changed.

mod action;
mod chunks;
mod clusters;
mod cross;
mod extents;
mod file;
mod heads;
mod names;
mod room;
mod round;
mod salvage;
mod space;
mod store;
mod sums;
mod targets;

pub use action::Action;

use crate::check::{Options, Progress, check_settled};
use crate::error::Error;
use crate::finding::Finding;
use crate::summary::Summary;
use paxfs_format::device::Device;
use paxfs_format::image::Image;
use paxfs_format::volume::{Found, Volume};
use round::Round;
use std::collections::BTreeMap;
use targets::Targets;

/// Most rounds. Each must leave fewer findings, or others, than those before.
const MOST_ROUNDS: usize = 8;

/// Findings that no repair can put right: what was there is lost, and that is all that can be known of it.
const STAYS: [&str; 2] = ["PX-BAD-OWNED", "PX-DEVICE-SHORT"];

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
        self.left.iter().all(|finding| STAYS.contains(&finding.code()))
    }

    /// Whether nothing is lost by it.
    pub fn keeps_all(&self) -> bool {
        !self.actions.iter().any(Action::loses)
    }
}

/// Plans a repair. The device is not changed.
///
/// # Errors
///
/// When there is no superblock, the check was interrupted, or there is no room for what has to be made anew.
pub fn plan(
    device: &Device,
    options: &Options<'_>,
    on_finding: &mut dyn FnMut(&Finding),
) -> Result<Plan, Error> {
    let mut findings = Vec::new();
    let first = check_settled(Image::new(device), options, false, &mut |finding| {
        on_finding(&finding);
        findings.push(finding);
    })?;
    let mut plan = Plan {
        left: to_repair(&findings),
        findings,
        summary: first.summary,
        actions: Vec::new(),
        changed: BTreeMap::new(),
        found: first.found.clone(),
    };
    if plan.summary.refused || plan.left.is_empty() {
        return Ok(plan);
    }
    let Found { superblock, geometry, .. } = first.found;
    let mut volume = Volume::new(first.image, superblock, geometry);
    let quiet = Options { progress: None::<Progress<'_>>, ..*options };
    for _ in 0..MOST_ROUNDS {
        let newest = first.newest;
        let round = Round { volume: &mut volume, newest, targets: Targets::default(), actions: Vec::new() };
        let actions = round.run(&plan.left)?;
        plan.actions.extend(actions);
        let mut found = Vec::new();
        check_settled(volume.blocks.clone(), &quiet, true, &mut |finding| found.push(finding))?;
        let left = to_repair(&found);
        let stuck = left == plan.left;
        plan.left = left;
        if plan.succeeds() || stuck {
            break;
        }
    }
    plan.changed = volume.blocks.into_changed();
    plan.changed.retain(|block, bytes| device.block(*block).map_or(true, |stored| stored != bytes.as_ref()));
    Ok(plan)
}

fn to_repair(findings: &[Finding]) -> Vec<Finding> {
    findings.iter().filter(|finding| finding.severity().needs_repair()).cloned().collect()
}
