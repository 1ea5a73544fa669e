//! Geometry: where things are on the volume. The only place of offset arithmetic.
//!
//! ```text
//!  group 0                                             group 1 … last
//!  ┌────────────┬────────┬────────┬──────┬─────────┬───┬────────────┬────────┬────────┬──────┬───
//!  │ superblock │ header │ copy   │ csum │ journal │ … │ superblock │ header │ copy   │ csum │ …
//!  │            │ of 0   │ of last│ table│         │   │ copy       │ of 1   │ of 0   │ table│
//!  └────────────┴────────┴────────┴──────┴─────────┴───┴────────────┴────────┴────────┴──────┴───
//! ```
//!
//! Groups start at multiples of 2 MiB; clusters at multiples of their size. A volume drops a tail of less than
//! [`MIN_GROUP_BLOCKS`]. Must not depend on anything that reads a device.

use crate::cluster::{MAX_CLUSTER_BLOCKS, MIN_CLUSTER_BLOCKS};
use crate::journal::SLOTS;
use crate::record::Space;
use crate::sums::SUMS_PER_BLOCK;
use crate::superblock::{ReadOnlyCompatible, Superblock};
use core::ops::Range;

/// Bytes of a block.
pub const BLOCK_SIZE: usize = 4096;
/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 4096;
/// Blocks that a 2 MiB mapping covers.
pub const HUGE_BLOCKS: u64 = 512;
/// Inodes in a block.
pub const INODES_PER_BLOCK: u64 = 8;
/// Blocks at the start of each group: superblock or copy, header, copy of the previous group's header.
pub const HEAD_BLOCKS: u64 = 3;
/// Fewest blocks of a group.
pub const MIN_GROUP_BLOCKS: u64 = 256;
/// Most blocks of a group (8 TiB): a run within it fits 32 bits.
pub const MAX_GROUP_BLOCKS: u64 = 1 << 31;
/// Fewest blocks of a volume (4 MiB).
pub const MIN_BLOCKS: u64 = 1024;
/// Most blocks of a volume (8 EiB).
pub const MAX_BLOCKS: u64 = 1 << 51;
/// Most groups of a volume.
pub const MAX_GROUPS: u64 = 1 << 24;
/// Most blocks of a file: its size fits a signed 64-bit offset.
pub const MAX_FILE_BLOCKS: u64 = 1 << 51;

/// Where things are on one volume. Every value fits the others: it is made by [`Geometry::choose`] or checked by
/// [`Geometry::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the volume.
    pub blocks: u64,
    /// Blocks of each group but the last.
    pub group_blocks: u64,
    /// Blocks of a metadata cluster.
    pub cluster_blocks: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// Whether groups have a table of data checksums.
    pub csum: bool,
}

/// A geometry that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Too small.
    #[error("{0} bytes is too small: paxfs needs 4 MiB (4194304 bytes) at least")]
    TooSmall(u64),
    /// Too large.
    #[error("{0} blocks is too large: a volume has at most 2^51 blocks (8 EiB)")]
    TooLarge(u64),
    /// Too many groups, or groups too small.
    #[error("{groups} groups do not fit {blocks} blocks: a group has 256 (1 MiB) to 2^31 blocks (8 TiB)")]
    Groups {
        /// As asked.
        groups: u64,
        /// Of the volume.
        blocks: u64,
    },
    /// A superblock's field contradicts the others.
    #[error("superblock field {field} is {value}, which cannot be")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// A block of a group, or more exactly a position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InGroup {
    /// The group.
    pub group: u32,
    /// The block, from the group's start.
    pub block: u32,
}

impl Geometry {
    /// Geometry of a new volume on a device of `bytes`, in about `groups` groups if that is asked.
    ///
    /// Without it: 2 below 1 GiB, 4 below 64 GiB, 16 above, and as many as keep a group within 8 TiB.
    pub fn choose(bytes: u64, groups: Option<u64>, csum: bool) -> Result<Self, GeometryError> {
        let blocks = bytes / BLOCK_BYTES;
        if blocks < MIN_BLOCKS {
            return Err(GeometryError::TooSmall(bytes));
        }
        if blocks > MAX_BLOCKS {
            return Err(GeometryError::TooLarge(blocks));
        }
        let wanted = match groups {
            Some(groups) => groups,
            None if blocks < 1 << 18 => 2,
            None if blocks < 1 << 24 => 4,
            None => blocks.div_ceil(MAX_GROUP_BLOCKS).max(16),
        };
        let impossible = GeometryError::Groups { groups: wanted, blocks };
        if wanted == 0 || wanted > MAX_GROUPS || blocks / wanted < MIN_GROUP_BLOCKS {
            return Err(impossible);
        }
        let group_blocks = Self::choose_group_blocks(blocks, wanted);
        if group_blocks > MAX_GROUP_BLOCKS {
            return Err(impossible);
        }
        let tail = blocks % group_blocks;
        let blocks = if tail < MIN_GROUP_BLOCKS { blocks - tail } else { blocks };
        let cluster = (blocks / 2048).max(1);
        let cluster_blocks =
            (1 << cluster.ilog2()).clamp(u64::from(MIN_CLUSTER_BLOCKS), u64::from(MAX_CLUSTER_BLOCKS));
        let journal_blocks = (blocks / 256).clamp(32, 16384).next_multiple_of(2);
        let geometry = Geometry { blocks, group_blocks, cluster_blocks, journal_blocks, csum };
        if geometry.fixed_blocks(0) + 4 * cluster_blocks > geometry.group_len(0)
            || geometry.groups() > MAX_GROUPS
        {
            return Err(impossible);
        }
        Ok(geometry)
    }

    /// Blocks of a group, a multiple of 2 MiB: rounded up when the last group stays large enough, else down.
    fn choose_group_blocks(blocks: u64, groups: u64) -> u64 {
        let up = blocks.div_ceil(groups).next_multiple_of(HUGE_BLOCKS);
        let before_last = up.saturating_mul(groups - 1);
        if blocks.checked_sub(before_last).is_some_and(|last| last >= MIN_GROUP_BLOCKS) {
            up
        } else {
            (blocks / groups / HUGE_BLOCKS).max(1) * HUGE_BLOCKS
        }
    }

    /// Geometry that a superblock describes, checked field by field.
    pub fn of(superblock: &Superblock) -> Result<Self, GeometryError> {
        let field = |field, value, fine: bool| {
            if fine { Ok(value) } else { Err(GeometryError::Field { field, value }) }
        };
        let block_size = u64::from(superblock.block_size.get());
        field("block_size", block_size, block_size == BLOCK_BYTES)?;
        let value = superblock.group_blocks.get();
        let fine = (HUGE_BLOCKS..=MAX_GROUP_BLOCKS).contains(&value) && value.is_multiple_of(HUGE_BLOCKS);
        let group_blocks = field("group_blocks", value, fine)?;
        let value = superblock.blocks.get();
        let tail = value % group_blocks;
        let fine = (MIN_BLOCKS..=MAX_BLOCKS).contains(&value) && (tail == 0 || tail >= MIN_GROUP_BLOCKS);
        let blocks = field("blocks", value, fine)?;
        let value = u64::from(superblock.cluster_blocks.get());
        let range = u64::from(MIN_CLUSTER_BLOCKS)..=u64::from(MAX_CLUSTER_BLOCKS);
        let cluster_blocks =
            field("cluster_blocks", value, value.is_power_of_two() && range.contains(&value))?;
        let csum = superblock.has(ReadOnlyCompatible::CSUM);
        let journal_blocks = superblock.journal_blocks.get();
        let geometry = Geometry { blocks, group_blocks, cluster_blocks, journal_blocks, csum };
        let groups = u64::from(superblock.groups.get());
        field("groups", groups, groups == geometry.groups() && groups <= MAX_GROUPS)?;
        let fine = journal_blocks >= 2
            && journal_blocks.is_multiple_of(2)
            && journal_blocks <= geometry.group_len(0) - geometry.head_blocks(0);
        field("journal_blocks", journal_blocks, fine)?;
        let journal_start = superblock.journal_start.get();
        field("journal_start", journal_start, journal_start == geometry.journal().start)?;
        let root = superblock.root.get();
        field("root", root, geometry.inode_place(root).is_some())?;
        Ok(geometry)
    }

    /// Number of groups.
    pub fn groups(&self) -> u64 {
        self.blocks.div_ceil(self.group_blocks)
    }

    /// Numbers of all groups.
    pub fn group_numbers(&self) -> Range<u32> {
        0..u32::try_from(self.groups()).unwrap_or(u32::MAX)
    }

    /// First block of a group.
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(group).saturating_mul(self.group_blocks)
    }

    /// Blocks of a group; 0 for one that does not exist.
    pub fn group_len(&self, group: u32) -> u64 {
        self.blocks.saturating_sub(self.group_start(group)).min(self.group_blocks)
    }

    /// Group of a volume block, and the block's place in it; `None` past the end.
    pub fn locate(&self, block: u64) -> Option<InGroup> {
        if block >= self.blocks {
            return None;
        }
        let group = u32::try_from(block / self.group_blocks).ok()?;
        let block = u32::try_from(block % self.group_blocks).ok()?;
        Some(InGroup { group, block })
    }

    /// Volume block of a group's block.
    pub fn volume_block(&self, group: u32, block: u32) -> u64 {
        self.group_start(group).saturating_add(block.into())
    }

    /// Block of a group's superblock or copy.
    pub fn superblock(&self, group: u32) -> u64 {
        self.group_start(group)
    }

    /// Block of a group's header.
    pub fn group_header(&self, group: u32) -> u64 {
        self.group_start(group).saturating_add(1)
    }

    /// Block of the copy of a group's header: in the next group, in group 0 for the last.
    pub fn group_copy(&self, group: u32) -> u64 {
        let next = if u64::from(group) + 1 < self.groups() { group.saturating_add(1) } else { 0 };
        self.group_start(next).saturating_add(2)
    }

    /// Blocks of a group's table of data checksums.
    pub fn table_blocks(&self, group: u32) -> u64 {
        if self.csum { self.group_len(group).div_ceil(SUMS_PER_BLOCK) } else { 0 }
    }

    /// Blocks of a group's table of data checksums.
    pub fn table(&self, group: u32) -> Range<u64> {
        let start = self.group_start(group).saturating_add(HEAD_BLOCKS);
        start..start.saturating_add(self.table_blocks(group))
    }

    /// Byte offset on the volume of a block's entry in the table of data checksums.
    pub fn sum_offset(&self, block: u64) -> Option<u64> {
        let place = self.locate(block).filter(|_| self.csum)?;
        let table = self.table(place.group).start.checked_mul(BLOCK_BYTES)?;
        table.checked_add(u64::from(place.block).checked_mul(8)?)
    }

    /// Blocks of a group before its journal: head and table.
    fn head_blocks(&self, group: u32) -> u64 {
        HEAD_BLOCKS + self.table_blocks(group)
    }

    /// Blocks of the journal.
    pub fn journal(&self) -> Range<u64> {
        let start = self.head_blocks(0);
        start..start.saturating_add(self.journal_blocks)
    }

    /// First block of a slot of the journal.
    pub fn journal_slot(&self, slot: u64) -> u64 {
        self.journal().start.saturating_add(slot.saturating_mul(self.journal_blocks / SLOTS))
    }

    /// Blocks at a group's start that are neither clusters nor data nor ever free.
    pub fn fixed_blocks(&self, group: u32) -> u64 {
        self.head_blocks(group).saturating_add(if group == 0 { self.journal_blocks } else { 0 })
    }

    /// Block and slot of an inode; `None` for a number past the end, or below the first group's head.
    pub fn inode_place(&self, inode: u64) -> Option<(u64, usize)> {
        let block = inode / INODES_PER_BLOCK;
        let slot = usize::try_from(inode % INODES_PER_BLOCK).ok()?;
        let place = self.locate(block)?;
        (u64::from(place.block) >= self.fixed_blocks(place.group)).then_some((block, slot))
    }

    /// Number of the inode in a slot of a block.
    pub fn inode_number(block: u64, slot: u64) -> u64 {
        block.saturating_mul(INODES_PER_BLOCK).saturating_add(slot)
    }

    /// Start of the cluster that a group's block would be in.
    pub fn cluster_start(&self, block: u32) -> u32 {
        block - block % u32::try_from(self.cluster_blocks).unwrap_or(1).max(1)
    }

    /// The space of the records of a group's trees.
    pub fn group_space(&self, group: u32) -> Space {
        Space {
            blocks: self.group_len(group),
            group_blocks: self.group_blocks,
            cluster_blocks: self.cluster_blocks,
        }
    }

    /// The space of the records of an inode's trees.
    pub fn volume_space(&self) -> Space {
        Space { blocks: self.blocks, group_blocks: self.group_blocks, cluster_blocks: self.cluster_blocks }
    }
}
