//! What findings are about: which files, groups, trees and blocks a repair has to look at.

use super::extents::Verdict;
use crate::extents::ExtentItem;
use crate::finding::Finding;
use crate::problem::Problem;
use core::ops::Range;
use paxfs_format::extent::Extent;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::path::resolve;
use paxfs_format::rmap::Rmap;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::FromBytes;

/// What findings are about.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Files to be read whole and written anew.
    pub files: BTreeSet<u64>,
    /// Files whose extents are to be compared with the reverse map.
    pub extents: BTreeSet<u64>,
    /// What the check decided about single extents.
    pub verdict: Verdict,
    /// Blocks that a file has and others have too: it gets copies.
    pub copies: BTreeMap<u64, Vec<Range<u64>>>,
    /// Blocks that are shared and unwritten: holes in that file.
    pub holes: BTreeMap<u64, Vec<Range<u64>>>,
    /// Directories that lie in themselves.
    pub circular: BTreeSet<u64>,
    /// Types that entries give to inodes which are of another.
    pub types: BTreeMap<u64, u8>,
    /// Free slots that hold what they should not.
    pub slots: BTreeSet<u64>,
    /// Groups with something wrong in clusters or chunks.
    pub doubted: BTreeSet<u32>,
    /// Groups whose space is to be looked at.
    pub groups: BTreeSet<u32>,
    /// Trees to be written anew though their records are right.
    pub forced: BTreeSet<(u32, GroupTree)>,
    /// Blocks whose checksums are to be made anew, and whether their contents are in doubt.
    pub sums: Vec<(Range<u64>, bool)>,
    /// Blocks at which the medium fails.
    pub failed: BTreeSet<u64>,
    /// The superblock, a group's header, or a copy is wrong.
    pub heads: bool,
    /// The root directory is not what the superblock says.
    pub root: bool,
}

/// The number in brackets at the start of a path, behind `name`.
fn number(at: &str, name: &str) -> Option<u64> {
    let rest = at.strip_prefix(name)?.strip_prefix('[')?;
    rest.split(']').next()?.parse().ok()
}

/// The path of the record that a path leads into.
fn record(at: &str) -> Option<&str> {
    let from = at.find(".rec[")?;
    let end = at.get(from..)?.find(']')?;
    at.get(..from + end + 1)
}

fn extent(volume: &Volume<Image<'_>>, at: &str) -> Option<ExtentItem> {
    let inode = number(at, "inode")?;
    let bytes = resolve(volume, record(at)?).ok()?.read(&volume.blocks).ok()?;
    Some(ExtentItem::of_extent(Extent::ref_from_bytes(&bytes).ok()?, inode))
}

fn rmap(volume: &Volume<Image<'_>>, at: &str) -> Option<ExtentItem> {
    let group = u32::try_from(number(at, "rmap")?).ok()?;
    let bytes = resolve(volume, record(at)?).ok()?.read(&volume.blocks).ok()?;
    Some(ExtentItem::of_rmap(Rmap::ref_from_bytes(&bytes).ok()?, volume.geometry.group_start(group)))
}

impl Targets {
    /// What these findings are about.
    pub fn of(volume: &Volume<Image<'_>>, findings: &[Finding]) -> Self {
        let mut targets = Targets::default();
        for finding in findings.iter().filter(|finding| finding.severity().needs_repair()) {
            targets.add(volume, finding);
        }
        targets
    }

    fn group_of(&mut self, volume: &Volume<Image<'_>>, block: u64) {
        if let Some(place) = volume.geometry.locate(block) {
            self.groups.insert(place.group);
        }
    }

    fn add(&mut self, volume: &Volume<Image<'_>>, finding: &Finding) {
        let at = finding.at.as_str();
        for tree in GroupTree::ALL {
            let Some(group) = number(at, tree.name()).and_then(|group| u32::try_from(group).ok()) else {
                continue;
            };
            self.groups.insert(group);
            if at.contains(".header") || matches!(finding.problem, Problem::Generation { .. }) {
                self.forced.insert((group, tree));
            }
            if matches!(tree, GroupTree::Clusters | GroupTree::Inodes) {
                self.doubted.insert(group);
            }
        }
        for name in ["group", "group_copy"] {
            if let Some(group) = number(at, name).and_then(|group| u32::try_from(group).ok()) {
                self.heads = true;
                self.groups.insert(group);
                self.doubted.insert(group);
            }
        }
        self.heads |= at.starts_with("sb") || at.starts_with("journal");
        if let Some(inode) = number(at, "inode") {
            self.inode(volume, inode, finding);
        }
        self.by_problem(volume, finding);
    }

    fn inode(&mut self, volume: &Volume<Image<'_>>, inode: u64, finding: &Finding) {
        if let Problem::InodeSlot { .. } = finding.problem {
            self.slots.insert(inode);
            return;
        }
        self.files.insert(inode);
        let place = volume.geometry.locate(inode / paxfs_format::geometry::INODES_PER_BLOCK);
        if let Problem::InodeMarked { .. } | Problem::InodeUnmarked { .. } = finding.problem {
            self.doubted.extend(place.map(|place| place.group));
        }
        let data = [".extents", ".data", ".blocks", ".size", ".mode"];
        let whole = matches!(finding.problem, Problem::InodeDamaged { .. });
        if whole || data.iter().any(|field| finding.at.contains(field)) {
            self.extents.insert(inode);
        }
    }

    fn by_problem(&mut self, volume: &Volume<Image<'_>>, finding: &Finding) {
        let at = finding.at.as_str();
        match &finding.problem {
            Problem::ExtentWrong { .. } => {
                self.verdict.wrong.extend(extent(volume, at));
            }
            Problem::ExtentExtra { block, inode, .. } => {
                self.verdict.wrong.extend(extent(volume, at));
                self.mend(*inode, true);
                self.group_of(volume, *block);
            }
            Problem::ExtentMissing { inode, block, .. } => {
                self.mend(*inode, true);
                self.group_of(volume, *block);
            }
            Problem::Record { .. } | Problem::RecordOverlap { .. } | Problem::KeyOrder { .. } => {
                self.verdict.wrong_rmaps.extend(rmap(volume, at));
            }
            Problem::RmapWrong { .. } | Problem::RmapExtra { .. } => {
                self.verdict.wrong_rmaps.extend(rmap(volume, at));
            }
            Problem::RmapCrossed { block, blocks, inode }
            | Problem::DataCrossed { block, blocks, inode }
            | Problem::DataTwice { block, blocks, inode, .. } => {
                self.mend(*inode, false);
                self.copies.entry(*inode).or_default().push(*block..block.saturating_add(*blocks));
                self.group_of(volume, *block);
            }
            Problem::SharedUnwritten { block, blocks, inode, .. } => {
                self.mend(*inode, true);
                self.holes.entry(*inode).or_default().push(*block..block.saturating_add(*blocks));
                self.group_of(volume, *block);
            }
            Problem::NameDangling { directory, inode, .. }
            | Problem::NameNoPointer { directory, inode, .. }
            | Problem::NameNoEntry { directory, inode, .. }
            | Problem::NameDiffers { directory, inode, .. }
            | Problem::NameGeneration { directory, inode, .. } => {
                self.mend(*directory, false);
                self.mend(*inode, false);
            }
            Problem::NameType { directory, inode, found, .. } => {
                self.mend(*directory, false);
                self.mend(*inode, false);
                self.types.extend(u8::try_from(*found).ok().map(|kind| (*inode, kind)));
            }
            Problem::NameInode { directory, found, expected, .. } => {
                self.mend(*directory, false);
                self.mend(*found, false);
                self.mend(*expected, false);
            }
            Problem::NameDirectory { directory, pointer, inode, .. } => {
                self.mend(*directory, false);
                self.mend(*pointer, false);
                self.mend(*inode, false);
            }
            Problem::DirectoryNames { inode, expected, .. } => {
                // That the root has a name may be because it is none.
                self.root |= *expected == 0;
                self.mend(*inode, false);
            }
            Problem::Links { inode, .. } | Problem::Unreachable { inode } => self.mend(*inode, false),
            Problem::Cycle { inode, .. } => {
                self.mend(*inode, false);
                self.circular.insert(*inode);
            }
            Problem::Root { inode, .. } => {
                self.root = true;
                self.heads = true;
                self.mend(*inode, false);
            }
            Problem::SumMismatch { block, .. } | Problem::SumState { block, .. } => {
                self.sums.push((*block..block.saturating_add(1), true));
            }
            Problem::SumMissing { block, blocks } | Problem::SumStray { block, blocks } => {
                self.sums.push((*block..block.saturating_add(*blocks), false));
            }
            Problem::Medium { block, blocks } => {
                self.failed.extend(*block..block.saturating_add(*blocks));
                self.group_of(volume, *block);
            }
            Problem::BlockOutside { block } | Problem::BlockTwice { block } => {
                self.group_of(volume, *block);
                self.doubted.extend(volume.geometry.locate(*block).map(|place| place.group));
            }
            Problem::ClusterUsed { block, .. } | Problem::ClusterUnused { block, .. } => {
                self.group_of(volume, *block);
            }
            Problem::FreeMissing { block, .. }
            | Problem::FreeOwned { block, .. }
            | Problem::FreeWrong { block, .. }
            | Problem::RefcountMissing { block, .. }
            | Problem::RefcountExtra { block, .. }
            | Problem::RefcountWrong { block, .. }
            | Problem::RmapMissing { block, .. }
            | Problem::ChunkOutside { block }
            | Problem::ChunkLost { block, .. } => {
                self.group_of(volume, *block);
            }
            Problem::NodeDamaged { block, .. } | Problem::BodyDamaged { block, .. } => {
                self.group_of(volume, *block);
            }
            Problem::InodeMarked { inode, .. } | Problem::OrphanMark { inode, .. } => {
                let place = volume.geometry.locate(*inode / paxfs_format::geometry::INODES_PER_BLOCK);
                self.doubted.extend(place.map(|place| place.group));
            }
            _ => {}
        }
    }

    fn mend(&mut self, inode: u64, extents: bool) {
        if inode != 0 {
            self.files.insert(inode);
            if extents {
                self.extents.insert(inode);
            }
        }
    }
}
