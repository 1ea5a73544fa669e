//! `freesp`: how free space is cut up.

use crate::error::CommandError;
use crate::faults::Faults;
use crate::files;
use crate::output::{Output, Table};
use crate::session::Session;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::free::Free;
use paxfs_format::geometry::HUGE_BLOCKS;
use paxfs_format::group::GroupTree;
use paxfs_format::path::group_header;
use paxfs_format::record::Key;
use paxfs_format::volume::Volume;
use paxfs_format::words::counted;
use serde::Serialize;

/// Arguments of `freesp`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One group only
    pub group: Option<u32>,
}

/// Runs of `from` to `to` blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Fewest blocks.
    pub from: u64,
    /// Most blocks.
    pub to: u64,
    /// Runs.
    pub runs: u64,
    /// Their blocks.
    pub blocks: u64,
}

/// Free space of a volume or group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FreeSpace {
    /// Runs.
    pub runs: u64,
    /// Their blocks.
    pub blocks: u64,
    /// Blocks of the longest.
    pub longest: u64,
    /// Aligned runs of 2 MiB in them.
    pub huge_runs: u64,
    /// Blocks of those.
    pub huge_blocks: u64,
    /// What the group headers say is free.
    pub header_blocks: u64,
    /// By powers of two; those without a run are left out.
    pub buckets: Vec<Bucket>,
}

impl FreeSpace {
    /// Free space of one group, or of all.
    pub fn of<B: Blocks>(volume: &Volume<B>, group: Option<u32>, faults: &mut Faults) -> Self {
        let mut space = FreeSpace::default();
        let mut buckets = [Bucket::default(); 64];
        for (power, bucket) in (0..).zip(&mut buckets) {
            bucket.from = 1u64.checked_shl(power).unwrap_or(u64::MAX);
            bucket.to = bucket.from.saturating_mul(2).saturating_sub(1);
        }
        for group in files::groups(volume).filter(|number| group.is_none_or(|one| one == *number)) {
            space.add_group(volume, group, &mut buckets, faults);
        }
        space.buckets = buckets.into_iter().filter(|bucket| bucket.runs > 0).collect();
        space
    }

    fn add_group<B: Blocks>(
        &mut self,
        volume: &Volume<B>,
        group: u32,
        buckets: &mut [Bucket; 64],
        faults: &mut Faults,
    ) {
        let header = match group_header(volume, group) {
            Ok((header, _)) => header,
            Err(fault) => return faults.note(format!("group[{group}]: {fault}")),
        };
        self.header_blocks = self.header_blocks.saturating_add(header.free_blocks.get());
        let tree = volume.group_tree::<Free>(group, header, GroupTree::Free);
        for at in tree.range(&volume.blocks, Key::MIN) {
            let (start, length) = match at {
                Ok(at) => (at.record.start.get(), u64::from(at.record.length.get())),
                Err(error) => {
                    faults.note(format!("free[{group}]: {error}"));
                    continue;
                }
            };
            let bucket = length.checked_ilog2().and_then(|power| usize::try_from(power).ok());
            if let Some(bucket) = bucket.and_then(|power| buckets.get_mut(power)) {
                bucket.runs += 1;
                bucket.blocks = bucket.blocks.saturating_add(length);
            }
            let start = volume.geometry.volume_block(group, start);
            let huge = whole_huge(start, start.saturating_add(length));
            self.runs += 1;
            self.blocks = self.blocks.saturating_add(length);
            self.longest = self.longest.max(length);
            self.huge_runs = self.huge_runs.saturating_add(huge);
            self.huge_blocks = self.huge_blocks.saturating_add(huge * HUGE_BLOCKS);
        }
    }

    /// Part of the free blocks in aligned runs of 2 MiB, in per cent.
    pub fn huge_share(&self) -> f64 {
        per_cent(self.huge_blocks, self.blocks)
    }
}

/// How many aligned runs of 2 MiB lie in `start..end`.
pub fn whole_huge(start: u64, end: u64) -> u64 {
    (end / HUGE_BLOCKS).saturating_sub(start.div_ceil(HUGE_BLOCKS))
}

/// A part of a whole in per cent.
pub fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Counts it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    if let Some(group) = arguments.group
        && u64::from(group) >= volume.geometry.groups()
    {
        let groups = volume.geometry.groups();
        return Err(CommandError::Usage(format!("the volume has groups 0 to {}", groups.saturating_sub(1))));
    }
    let mut faults = Faults::default();
    let space = FreeSpace::of(&volume, arguments.group, &mut faults);
    let mut table = Table::new(&["#from", "#to", "#runs", "#blocks", "#%"]);
    for bucket in &space.buckets {
        let share = format!("{:.2}", per_cent(bucket.blocks, space.blocks));
        let Bucket { from, to, runs, blocks } = bucket;
        table.row([from.to_string(), to.to_string(), runs.to_string(), blocks.to_string(), share]);
    }
    let mut text = format!(
        "{} free blocks in {} runs, the longest of {}; {} aligned runs of 2 MiB hold {:.2} % of them",
        space.blocks,
        space.runs,
        space.longest,
        space.huge_runs,
        space.huge_share()
    );
    if space.header_blocks != space.blocks {
        text += &format!("\nfree by the group headers: {}", counted(space.header_blocks, "block"));
    }
    Ok(Output::new().table(table).text(text).data("free", &space).failure(faults.failure()))
}

#[cfg(test)]
mod tests {
    use super::whole_huge;

    #[test]
    fn aligned_runs() {
        assert_eq!(whole_huge(0, 512), 1);
        assert_eq!(whole_huge(1, 1024), 1);
        assert_eq!(whole_huge(1, 1023), 0);
        assert_eq!(whole_huge(100, 200), 0);
        assert_eq!(whole_huge(512, 2048), 3);
    }
}
