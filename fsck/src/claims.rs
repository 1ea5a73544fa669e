//! A volume without reverse map: who claims which blocks is kept in bitmaps, and compared with free space and checksums.

use crate::bitmap::Bitmap;
use crate::context::{Check, Env, Group, locked};
use crate::finding::Finding;
use crate::inodes::Subject;
use crate::multiset::Multiset;
use crate::problem::Problem;
use crate::runs::Run;
use crate::space::expected_roles;
use crate::sums::{Owned, part};
use crate::trees::{TreeName, tree};
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::record::Record;
use std::sync::atomic::Ordering;

/// Without reverse map: the blocks of metadata are claimed before any file's.
pub(crate) fn claim_roles(check: &Check<'_>) {
    for group in &check.groups {
        let bitmap = Bitmap::new(check.volume.geometry.group_len(group.number));
        for role in expected_roles(check, group) {
            bitmap.claim(role.range());
        }
        let _ = group.claimed.set(bitmap);
        let _ = group.summed.set(Bitmap::new(check.volume.geometry.group_len(group.number)));
    }
}

/// Without reverse map: nobody else may have these blocks.
/// Nothing is claimed past the file's size, `limit` in blocks: that is told of.
pub(crate) fn claim(
    env: &Env<'_>,
    subject: &Subject<'_>,
    extent: &Extent,
    limit: u64,
    at: impl FnOnce() -> String,
) {
    let check = env.check;
    if check.rmap() || !env.marking {
        return;
    }
    let geometry = check.volume.geometry;
    let Some(place) = geometry.locate(extent.start.get()) else { return };
    let Some(group) = check.group(place.group) else { return };
    let (Some(claimed), Some(summed)) = (group.claimed.get(), group.summed.get()) else { return };
    let start = u64::from(place.block);
    let mut length = u64::from(extent.length.get());
    if !extent.flags.is_unwritten() && extent.end() > limit {
        length = limit.saturating_sub(extent.offset.get());
        check.doubts.claims.store(true, Ordering::Relaxed);
    }
    let blocks = start..start.saturating_add(length);
    let taken = claimed.claim(blocks.clone());
    if let Some(taken) = &taken {
        let base = geometry.group_start(place.group);
        let clash = base.saturating_add(taken.start)..base.saturating_add(taken.end);
        locked(&check.clashes).push((clash, subject.number, at()));
    }
    if extent.flags.is_unwritten() {
        return;
    }
    let taken = taken.unwrap_or(blocks.end..blocks.end);
    for range in [blocks.start..taken.start, taken.end..blocks.end] {
        match Owned::by(subject.inode.flags.get()) {
            Owned::SUMMED => {
                summed.claim(range);
            }
            Owned::UNSUMMED => {}
            // The table may be right.
            _ => range.filter(|block| crate::sums::is_in_use(check, group, *block)).for_each(|block| {
                summed.claim(block..block.saturating_add(1));
            }),
        }
    }
}

/// Without reverse map: what owns each block of a part of a group, as far as checksums care. Where claims and free space
/// disagree, which is told, nobody knows.
pub(crate) fn owned(check: &Check<'_>, group: &Group, window: &Range<u64>) -> Vec<Owned> {
    let (Some(claimed), Some(summed)) = (group.claimed.get(), group.summed.get()) else { return Vec::new() };
    let mut owners: Vec<Owned> = window
        .clone()
        .map(|block| match (claimed.has(block), summed.has(block)) {
            (_, true) => Owned::SUMMED,
            (true, false) => Owned::UNSUMMED,
            (false, false) => Owned::EITHER,
        })
        .collect();
    let start = check.volume.geometry.group_start(group.number);
    for (blocks, ..) in locked(&check.clashes).iter() {
        let inside = |block: u64| part(window, block.saturating_sub(start));
        owners.get_mut(inside(blocks.start)..inside(blocks.end)).unwrap_or_default().fill(Owned::EITHER);
    }
    let Some(header) = group.header else { return owners };
    let name = TreeName::Group(GroupTree::Free, group.number);
    let free = tree::<Free>(check, name, header.root(GroupTree::Free));
    for at in free.overlapping(&check.volume.blocks, window.clone()).flatten() {
        let range = part(window, at.record.key().start)..part(window, at.record.end());
        for owner in owners.get_mut(range).unwrap_or_default() {
            *owner = if *owner == Owned::EITHER { Owned::default() } else { Owned::EITHER };
        }
    }
    owners
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
