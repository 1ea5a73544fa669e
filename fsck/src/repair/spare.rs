//! Room for a log: blocks that nobody has, neither before a repair nor after.

use super::source::gather;
use crate::runs::{union, without};
use core::ops::Range;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::owners::inodes;
use paxfs_format::record::Record;
use paxfs_format::volume::Volume;

/// Runs that are looked at: the largest.
const MOST: usize = 64;

/// The largest runs that are free after a repair, without what anybody had before, as far as that can be read.
pub(super) fn spare(before: &Volume<Image<'_>>, after: &Volume<Image<'_>>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for group in after.geometry.group_numbers() {
        let Ok(header) = after.group(group) else { continue };
        let start = after.geometry.group_start(group);
        let free = gather(after, &after.group_tree::<Free>(group, header, GroupTree::Free));
        let of = |run: &Free| start.saturating_add(run.key().start)..start.saturating_add(run.end());
        runs.extend(free.sound.iter().map(of));
        runs.sort_by_key(|run| core::cmp::Reverse(run.end.saturating_sub(run.start)));
        runs.truncate(MOST);
    }
    let mut had: Vec<Range<u64>> = Vec::new();
    let mut note = |run: Range<u64>| {
        if runs.iter().any(|free| run.start < free.end && free.start < run.end) {
            had.push(run);
        }
    };
    for number in inodes(before).flatten() {
        let Ok(inode) = before.inode(number) else { continue };
        if inode.file_type() == Some(FileType::Regular) {
            for extent in before.extents(inode).flatten() {
                let start = extent.start.get();
                note(start..start.saturating_add(extent.length.get().into()));
            }
        }
    }
    for group in before.geometry.group_numbers() {
        for start in super::clusters::known(before, group, true).into_keys() {
            let start = before.geometry.volume_block(group, start);
            note(start..start.saturating_add(before.geometry.cluster_blocks));
        }
    }
    let had = union(had);
    runs.into_iter().flat_map(|run| without(run, &had)).collect()
}
