//! A volume without reverse map: who claims which blocks is kept in bitmaps, and compared with free space.

use crate::bitmap::Bitmap;
use crate::context::{Check, locked};
use crate::finding::Finding;
use crate::multiset::Multiset;
use crate::problem::Problem;
use crate::space::{Run, expected_roles};
use paxfs_format::owners::{Role, Source, owners};

/// Without reverse map: the blocks of metadata are claimed before any file's.
pub(crate) fn claim_roles(check: &Check<'_>) {
    for group in &check.groups {
        let bitmap = Bitmap::new(check.volume.geometry.group_len(group.number));
        for role in expected_roles(check, group) {
            bitmap.claim(role.range());
        }
        let _ = group.claimed.set(bitmap);
    }
}

/// Without reverse map: what nobody has claimed must be the free-space tree.
pub(crate) fn sum_claims(check: &Check<'_>) {
    for group in &check.groups {
        let Some(bitmap) = group.claimed.get() else { continue };
        let mut sum = Multiset::default();
        bitmap.free(|start, end| sum.add(check.key.hash(&Run { start, end, what: 0 })));
        locked(&group.space).free_swept = sum;
    }
}

/// Without reverse map: blocks that two have claimed.
pub(crate) fn clashes(check: &Check<'_>) -> Vec<Finding> {
    let mut list = core::mem::take(&mut *locked(&check.clashes));
    list.sort_by(|one, other| (one.0.start, one.1, &one.2).cmp(&(other.0.start, other.1, &other.2)));
    let mut findings = Vec::new();
    for (range, inode, at) in list {
        let (block, blocks) = (range.start, range.end.saturating_sub(range.start));
        let place = check.volume.geometry.locate(block);
        let role = place.and_then(|place| {
            let group = check.group(place.group)?;
            let inside = u64::from(place.block);
            expected_roles(check, group).into_iter().find(|role| role.range().contains(&inside))
        });
        let problem = match role {
            Some(_) => Problem::DataCrossed { block, blocks, inode },
            None => Problem::DataTwice { block, blocks, inode, other: other_owner(check, block, inode) },
        };
        findings.push(Finding::new(at, problem).of_file(inode));
    }
    findings
}

/// Another inode that owns a block, found by asking all files.
fn other_owner(check: &Check<'_>, block: u64, inode: u64) -> u64 {
    let all = owners(check.volume, block..block.saturating_add(1), Source::Files);
    let data = all.flatten().filter_map(|owned| match owned.role {
        Role::Data(data) => Some(data.inode),
        _ => None,
    });
    data.into_iter().find(|other| *other != inode).unwrap_or(inode)
}
