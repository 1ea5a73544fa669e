//! A volume that can be read: a medium, the superblock that describes it, and what follows from it.
//!
//! Two strictnesses: [`find`] takes the best superblock there is, for tools that must read a broken volume;
//! [`Superblock::understood`] is what an engine asks before it believes one.

use crate::blocks::Blocks;
use crate::device::MediumError;
use crate::geometry::{BLOCK_BYTES, Geometry, GeometryError, HUGE_BLOCKS, MIN_GROUP_BLOCKS};
use crate::group::{GroupHeader, GroupTree};
use crate::hash::NameHash;
use crate::header::{BlockKind, Expected, Header, HeaderFault, Seed};
use crate::inode::Inode;
use crate::record::Record;
use crate::superblock::{Incompatible, ReadOnlyCompatible, Superblock, VERSION};
use crate::tree::Tree;
use zerocopy::FromBytes;

/// What is wrong with a structure that has a fixed place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StructureFault {
    /// Past the end of the device.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The medium failed there.
    #[error("the medium failed at block {block}")]
    Failed {
        /// The block.
        block: u64,
    },
    /// Not what it should be.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A superblock that contradicts itself.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A version of the format that this crate does not know.
    #[error("format version {0} is not known to this release (it knows version {VERSION})")]
    Version(u32),
    /// The number of an inode that cannot exist on this volume.
    #[error("no inode can have that number")]
    NoInode,
}

/// Why an engine or a checker refuses a superblock that is intact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Incompatible features nobody here knows.
    #[error("the volume has incompatible features {0:#x} that this release does not know")]
    Incompatible(u64),
    /// Read-only-compatible features nobody here knows.
    #[error("the volume has features {0:#x} that this release does not know: it may be read, not written")]
    ReadOnly(u64),
    /// Reflink without rmap.
    #[error(
        "reflink needs the reverse map: the volume has reflink without rmap (mkfs.paxfs -O rmap,reflink makes both)"
    )]
    ReflinkWithoutRmap,
}

impl Superblock {
    /// Whether this release understands all of the volume's features.
    pub fn understood(&self) -> Result<(), Refusal> {
        let incompatible = self.incompatible.get() & !Incompatible::KNOWN;
        if incompatible != 0 {
            return Err(Refusal::Incompatible(incompatible));
        }
        if self.has(ReadOnlyCompatible::REFLINK) && !self.has(ReadOnlyCompatible::RMAP) {
            return Err(Refusal::ReflinkWithoutRmap);
        }
        match self.read_only_compatible.get() & !ReadOnlyCompatible::KNOWN {
            0 => Ok(()),
            unknown => Err(Refusal::ReadOnly(unknown)),
        }
    }
}

/// A superblock and where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The superblock.
    pub superblock: Superblock,
    /// What it describes.
    pub geometry: Geometry,
    /// The block it was read from.
    pub block: u64,
    /// What is wrong with block 0, when a copy had to do.
    pub primary_fault: Option<StructureFault>,
}

/// No superblock was found anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no paxfs superblock in block 0 ({primary}), nor a copy at any multiple of 2 MiB")]
pub struct NoSuperblock {
    /// What is wrong with block 0.
    pub primary: StructureFault,
}

/// Reads the superblock, or the copy, in a block.
pub fn read_superblock<B: Blocks>(blocks: &B, block: u64) -> Result<(Superblock, Geometry), StructureFault> {
    let bytes = blocks.block(block)?;
    if blocks.failed(block) {
        return Err(StructureFault::Failed { block });
    }
    let superblock = Superblock::ref_from_bytes(bytes).map_err(|_| HeaderFault::Magic([0; 4]))?;
    let seed = Seed::new(&superblock.uuid);
    let expected = Expected { kind: BlockKind::SUPERBLOCK, place: block, owner: 0 };
    expected.check(seed.verify(bytes)?)?;
    if superblock.version.get() != VERSION {
        return Err(StructureFault::Version(superblock.version.get()));
    }
    let geometry = Geometry::of(superblock)?;
    Ok((*superblock, geometry))
}

/// The superblock of a volume: block 0 if it is intact, else the newest copy.
pub fn find<B: Blocks>(blocks: &B) -> Result<Found, NoSuperblock> {
    match read_superblock(blocks, 0) {
        Ok((superblock, geometry)) => Ok(Found { superblock, geometry, block: 0, primary_fault: None }),
        Err(primary) => match newest_copy(blocks) {
            Some(found) => Ok(Found { primary_fault: Some(primary), ..found }),
            None => Err(NoSuperblock { primary }),
        },
    }
}

/// The copy of the superblock in a given group of a volume whose other superblocks are not to be believed.
pub fn find_in_group<B: Blocks>(blocks: &B, group: u32) -> Option<Found> {
    copies(blocks).find(|found| found.geometry.superblock(group) == found.block)
}

fn newest_copy<B: Blocks>(blocks: &B) -> Option<Found> {
    let first = copies(blocks).next()?;
    // The first copy says where the others are.
    let others =
        first.geometry.group_numbers().filter_map(|group| copy_at(blocks, first.geometry.superblock(group)));
    let mut best = first.clone();
    for other in others.filter(|other| other.superblock.uuid == first.superblock.uuid) {
        if other.superblock.header.generation.get() > best.superblock.header.generation.get() {
            best = other;
        }
    }
    Some(best)
}

/// Every intact superblock at the places where a volume on this device may have one: first where a new volume of this
/// size has its copies, then every multiple of 2 MiB.
fn copies<B: Blocks>(blocks: &B) -> impl Iterator<Item = Found> {
    let bytes = blocks.blocks().saturating_mul(BLOCK_BYTES);
    let usual = Geometry::choose(bytes, None, false).ok();
    let usual = usual
        .into_iter()
        .flat_map(|geometry| geometry.group_numbers().skip(1).map(move |group| geometry.superblock(group)));
    let last = blocks.blocks().saturating_sub(MIN_GROUP_BLOCKS);
    let mut next = 0;
    // Only where there is something: reading the holes of a sparse file could fill them.
    let anywhere = core::iter::from_fn(move || {
        let data = blocks.next_data(next)?;
        let place = data - data % HUGE_BLOCKS;
        let place = if place < next { place.saturating_add(HUGE_BLOCKS) } else { place };
        next = place.saturating_add(HUGE_BLOCKS);
        (place <= last).then_some(place)
    });
    usual.chain(anywhere).filter_map(|block| copy_at(blocks, block))
}

fn copy_at<B: Blocks>(blocks: &B, block: u64) -> Option<Found> {
    let (superblock, geometry) = read_superblock(blocks, block).ok()?;
    (geometry.locate(block)?.block == 0).then_some(Found { superblock, geometry, block, primary_fault: None })
}

/// A volume that can be read.
#[derive(Debug)]
pub struct Volume<B> {
    /// The medium.
    pub blocks: B,
    /// The superblock in use.
    pub superblock: Superblock,
    /// Where things are.
    pub geometry: Geometry,
    /// The start of its checksums.
    pub seed: Seed,
    /// The hash of its names.
    pub hash: NameHash,
}

impl<B: Blocks> Volume<B> {
    /// The volume that `superblock` describes.
    pub fn new(blocks: B, superblock: Superblock, geometry: Geometry) -> Self {
        let (seed, hash) = (Seed::new(&superblock.uuid), NameHash::new(&superblock.uuid));
        Volume { blocks, superblock, geometry, seed, hash }
    }

    /// A verified block of a known kind.
    pub fn structure(&self, expected: Expected) -> Result<&[u8; 4096], StructureFault> {
        let bytes = self.blocks.block(expected.place)?;
        let header = match self.blocks.verified(expected.place) {
            true => Header::of(bytes).ok_or(HeaderFault::Magic([0; 4])),
            false => self.seed.verify(bytes),
        };
        match header.and_then(|header| expected.check(header)) {
            Ok(()) => Ok(bytes),
            Err(_) if self.blocks.failed(expected.place) => {
                Err(StructureFault::Failed { block: expected.place })
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Header of a group.
    pub fn group(&self, group: u32) -> Result<&GroupHeader, StructureFault> {
        self.group_at(group, self.geometry.group_header(group))
    }

    /// Copy of the header of a group.
    pub fn group_copy(&self, group: u32) -> Result<&GroupHeader, StructureFault> {
        self.group_at(group, self.geometry.group_copy(group))
    }

    fn group_at(&self, group: u32, place: u64) -> Result<&GroupHeader, StructureFault> {
        let expected = Expected { kind: BlockKind::GROUP, place, owner: group.into() };
        let bytes = self.structure(expected)?;
        GroupHeader::ref_from_bytes(bytes).map_err(|_| HeaderFault::Magic([0; 4]).into())
    }

    /// One of a group's trees; `R` is its record.
    pub fn group_tree<R: Record>(&self, group: u32, header: &GroupHeader, tree: GroupTree) -> Tree<R> {
        Tree::new(tree.kind(), group.into(), header.root(tree), self.geometry.group_space(group), self.seed)
    }

    /// An inode, in use or free, verified. A slot that was never used fails with [`HeaderFault::Magic`].
    pub fn inode(&self, number: u64) -> Result<&Inode, StructureFault> {
        let inode = self.inode_unverified(number)?;
        let owner =
            self.geometry.locate(number / crate::geometry::INODES_PER_BLOCK).map_or(0, |at| at.group.into());
        let expected = Expected { kind: BlockKind::INODE, place: number, owner };
        let verified =
            self.seed.verify(zerocopy::IntoBytes::as_bytes(inode)).and_then(|header| expected.check(header));
        match verified {
            Ok(()) => Ok(inode),
            Err(fault) => {
                let block = number / crate::geometry::INODES_PER_BLOCK;
                Err(if self.blocks.failed(block) { StructureFault::Failed { block } } else { fault.into() })
            }
        }
    }

    /// The 512 bytes where an inode is, whatever they hold.
    pub fn inode_unverified(&self, number: u64) -> Result<&Inode, StructureFault> {
        let (block, slot) = self.geometry.inode_place(number).ok_or(StructureFault::NoInode)?;
        let bytes = self.blocks.block(block)?;
        let slots = <[Inode]>::ref_from_bytes(bytes).ok();
        slots.and_then(|slots| slots.get(slot)).ok_or(StructureFault::NoInode)
    }
}
