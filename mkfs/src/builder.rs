//! The builder: makes a volume in a device, piece by piece; the group trees and the superblock come at the end, in
//! `finish`.
//!
//! ```
//! use paxfs_format::{device::Device, geometry::Geometry, time::Timestamp, units::Uuid};
//! use paxfs_mkfs::builder::{Builder, Contents};
//! use paxfs_mkfs::entries::{Attribute, Name};
//! use paxfs_mkfs::inode::Meta;
//! use paxfs_mkfs::options::{Features, Options};
//!
//! let mut device = Device::memory(vec![0; 4 << 20]);
//! let now = Timestamp::new(1_700_000_000, 0);
//! let geometry = Geometry::choose(device.len(), None, false)?;
//! let options = Options::new(geometry, Features::default(), Uuid([1; 16]), now);
//!
//! let mut builder = Builder::new(&mut device, options, true)?;
//! let root = builder.inode()?; // the first inode is the root
//! let file = builder.inode()?;
//! let extents = builder.allocate(0, 1)?;
//! builder.block_mut(extents[0].start.get())?[..5].copy_from_slice(b"hello");
//! let meta = Meta { size: 5, ..Meta::new(0o100_644, now) };
//! builder.store(file, &meta, 1, Contents::Extents(extents), vec![Attribute::parent(b"greeting", root)])?;
//! let name = Name { name: b"greeting", inode: file, generation: 1, kind: 8 };
//! let entries = builder.directory(root, [name].into_iter())?;
//! builder.store(root, &Meta::new(0o040_755, now), 1, Contents::Entries(entries), vec![])?;
//! let summary = builder.finish(root)?;
//! assert_eq!(summary.totals.files, 1);
//! # Ok::<(), paxfs_mkfs::error::Error>(())
//! ```
//!
//! Nothing on the device looks like a file system before [`Builder::finish`] ends.

use crate::entries::{self, Attribute, Name, Value};
use crate::error::Error;
use crate::inode::{self, ForkImage, Meta, Place};
use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::space::Space;
use crate::summary::Totals;
use paxfs_format::declare::OnDisk;
use paxfs_format::device::Device;
use paxfs_format::entry::{BODY_SIZE, BodyBlock};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry, HUGE_BLOCKS, INODES_PER_BLOCK};
use paxfs_format::group::TreeRoot;
use paxfs_format::hash::NameHash;
use paxfs_format::header::{BlockKind, Header, Seed};
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, INODE_SIZE, Inode, PAYLOAD_SIZE, Which};
use paxfs_format::node::max_records;
use paxfs_format::packed::Packed;
use paxfs_format::record::Record;
use paxfs_format::rmap::{ExtentFlags, Rmap};
use paxfs_format::sums::{Sum, SumState};
use paxfs_format::tree::{BulkLoader, NodeSink, nodes_needed};
use zerocopy::IntoBytes;

/// What the data fork of an inode holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing: FIFOs, sockets, devices.
    None,
    /// Extents of a regular file, by offset.
    Extents(Vec<Extent>),
    /// Entries of a directory.
    Entries(Packed),
    /// Target of a symlink.
    Target(Vec<u8>),
}

/// Makes a volume in a device.
#[derive(Debug)]
pub struct Builder<'d> {
    pub(crate) device: &'d mut Device,
    /// What the volume is to be.
    pub options: Options,
    pub(crate) seed: Seed,
    pub(crate) hash: NameHash,
    /// Who gets which blocks.
    pub space: Space,
    /// What was stored so far.
    pub totals: Totals,
    /// Whether what was never written reads as zeros.
    zeroed: bool,
    /// Whether somebody wants it to stop.
    pub interrupt: Interrupt,
    /// Transactions to leave in the journal.
    pub journal: Vec<crate::recipe::Transaction>,
}

/// Nodes of a tree, to blocks that were chosen before.
struct Sink<'a> {
    device: &'a mut Device,
    blocks: std::vec::IntoIter<u64>,
}

impl NodeSink for Sink<'_> {
    type Error = Error;

    fn allocate(&mut self) -> Result<u64, Error> {
        self.blocks.next().ok_or_else(|| Error::Full { what: "the nodes of a tree".to_owned() })
    }

    fn write(&mut self, block: u64, node: &[u8; BLOCK_SIZE]) -> Result<(), Error> {
        self.device.bytes_mut(offset_of(block), BLOCK_SIZE)?.copy_from_slice(node);
        Ok(())
    }
}

/// Byte offset of a block.
pub(crate) fn offset_of(block: u64) -> u64 {
    block.saturating_mul(BLOCK_BYTES)
}

/// Extents of a file, ascending, in maximal form: merged but over a group's border.
pub fn merged(geometry: &Geometry, extents: Vec<Extent>) -> Vec<Extent> {
    let border = |next: &Extent| geometry.locate(next.start.get()).is_none_or(|place| place.block == 0);
    let mut list: Vec<Extent> = Vec::with_capacity(extents.len());
    for next in extents {
        match list.last_mut() {
            Some(last) if !border(&next) => match last.merged(&next) {
                Some(both) => *last = both,
                None => list.push(next),
            },
            _ => list.push(next),
        }
    }
    list
}

impl<'d> Builder<'d> {
    /// Begins a volume in a device; `zeroed` says that the device reads as zeros all over.
    ///
    /// # Errors
    ///
    /// Those of the options, or when the device is smaller than the geometry.
    pub fn new(device: &'d mut Device, options: Options, zeroed: bool) -> Result<Self, Error> {
        options.features.check()?;
        let geometry = options.geometry;
        let builder = Builder {
            seed: Seed::new(&options.uuid),
            hash: NameHash::new(&options.uuid),
            space: Space::new(geometry),
            totals: Totals::default(),
            interrupt: Interrupt::default(),
            journal: Vec::new(),
            device,
            options,
            zeroed,
        };
        if builder.device.len() / BLOCK_BYTES < geometry.blocks {
            return Err(Error::DeviceTooSmall {
                path: builder.device.path().to_path_buf(),
                bytes: builder.device.len(),
                wanted: offset_of(geometry.blocks),
            });
        }
        if !zeroed {
            // What is read although nobody may ever write it: block 0 until the end, the tables, the journal.
            builder.device.zero_range(0, BLOCK_BYTES)?;
            let tables = geometry.group_numbers().map(|group| geometry.table(group));
            for blocks in tables.chain([geometry.journal()]).filter(|blocks| !blocks.is_empty()) {
                builder.device.zero_range(offset_of(blocks.start), offset_of(blocks.end - blocks.start))?;
            }
        }
        Ok(builder)
    }

    /// Whether what was never written reads as zeros.
    pub fn is_zeroed(&self) -> bool {
        self.zeroed
    }

    /// The volume's geometry.
    pub fn geometry(&self) -> Geometry {
        self.options.geometry
    }

    /// The number of a new inode; the first is to be the root.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn inode(&mut self) -> Result<u64, Error> {
        let number = self.space.inode()?;
        if !self.zeroed && number.is_multiple_of(u64::from(paxfs_format::chunk::CHUNK_INODES)) {
            let chunk = offset_of(u64::from(paxfs_format::chunk::CHUNK_BLOCKS));
            self.device.zero_range(offset_of(number / INODES_PER_BLOCK), chunk)?;
        }
        Ok(number)
    }

    /// Blocks for `blocks` of a file from block `offset` on, as extents. What they hold is for the caller to write.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn allocate(&mut self, offset: u64, blocks: u64) -> Result<Vec<Extent>, Error> {
        let pieces = self.space.data(offset, blocks)?;
        Ok(pieces.iter().map(|piece| extent(piece.offset, piece.start, piece.blocks)).collect())
    }

    /// Bytes of the device, to write.
    ///
    /// # Errors
    ///
    /// When they do not lie within the device.
    pub fn bytes_mut(&mut self, offset: u64, length: usize) -> Result<&mut [u8], Error> {
        Ok(self.device.bytes_mut(offset, length)?)
    }

    /// A block, to write.
    ///
    /// # Errors
    ///
    /// When it does not lie within the device.
    pub fn block_mut(&mut self, block: u64) -> Result<&mut [u8], Error> {
        self.bytes_mut(offset_of(block), BLOCK_SIZE)
    }

    /// Entries of a directory, packed.
    ///
    /// # Errors
    ///
    /// [`Error::Collisions`].
    pub fn directory<'a>(&self, inode: u64, names: impl Iterator<Item = Name<'a>>) -> Result<Packed, Error> {
        entries::directory(&self.hash, inode, names)
    }

    /// An inode's group.
    pub(crate) fn place(&self, number: u64) -> Place {
        let place = self.geometry().locate(number / INODES_PER_BLOCK);
        Place { number, group: place.map_or(0, |place| place.group) }
    }

    /// Stores an inode with all that hangs on it, and takes note of its blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Collisions`], [`Error::Unfit`].
    pub fn store(
        &mut self,
        number: u64,
        meta: &Meta,
        links: u32,
        contents: Contents,
        mut attributes: Vec<Attribute>,
    ) -> Result<(), Error> {
        for attribute in &mut attributes {
            self.move_value_out(number, attribute)?;
        }
        let packed = entries::attributes(&self.hash, number, &attributes)?;
        let contents = match contents {
            Contents::Extents(extents) => Contents::Extents(merged(&self.geometry(), extents)),
            other => other,
        };
        let (data_stays, mut attributes_stay) = inode::stay(payload_bytes(&contents), packed.bytes.len());
        let (mut meta, mut blocks) = (*meta, 0);
        let data = match contents {
            Contents::None => ForkImage::empty(),
            Contents::Extents(extents) => {
                blocks = self.own(number, &extents);
                if data_stays { inline_extents(&extents) } else { self.extent_tree(number, extents)? }
            }
            Contents::Entries(entries) => {
                meta.size = u64::try_from(entries.bytes.len()).unwrap_or(u64::MAX);
                self.entries(number, &meta, Which::Data, entries, data_stays)?
            }
            Contents::Target(target) => {
                meta.size = u64::try_from(target.len()).unwrap_or(u64::MAX);
                if data_stays {
                    ForkImage::inline(target, 0)
                } else {
                    let pointers = self.values(number, &target)?;
                    let inline: Vec<u8> = pointers.iter().flat_map(|block| block.to_le_bytes()).collect();
                    attributes_stay = inline.len() + packed.bytes.len() <= PAYLOAD_SIZE;
                    ForkImage { format: ForkFormat::VALUES, ..ForkImage::inline(inline, 0) }
                }
            }
        };
        let attributes = self.entries(number, &meta, Which::Attributes, packed, attributes_stay)?;
        let inode = inode::encode(self.seed, self.place(number), &meta, links, blocks, &data, &attributes);
        self.totals.count(&meta);
        self.put_inode(number, &inode, links == 0)
    }

    /// Stores an inode slot that was in use before and is free again.
    ///
    /// # Errors
    ///
    /// When the slot does not lie within the device.
    pub fn store_freed(&mut self, number: u64, generation: u32) -> Result<(), Error> {
        let inode = inode::freed(self.seed, self.place(number), generation);
        self.bytes_mut(number.saturating_mul(INODE_SIZE as u64), INODE_SIZE)?
            .copy_from_slice(inode.as_bytes());
        Ok(())
    }

    fn put_inode(&mut self, number: u64, inode: &Inode, orphan: bool) -> Result<(), Error> {
        self.bytes_mut(number.saturating_mul(INODE_SIZE as u64), INODE_SIZE)?
            .copy_from_slice(inode.as_bytes());
        self.space.use_inode(number, orphan);
        Ok(())
    }

    /// Takes note of who owns the blocks of extents (in maximal form); returns how many blocks they are.
    pub(crate) fn own(&mut self, number: u64, extents: &[Extent]) -> u64 {
        let mut blocks = 0;
        for extent in extents {
            let length = u64::from(extent.length.get());
            blocks += length;
            self.totals.extents += 1;
            self.totals.blocks += length;
            self.totals.huge_blocks += huge_blocks(extent);
            if let Some(place) = self.geometry().locate(extent.start.get()) {
                self.space.group(place.group).owners.push(Rmap {
                    start: place.block.into(),
                    length: extent.length,
                    owner: number.into(),
                    offset: extent.offset,
                    flags: extent.flags,
                });
            }
        }
        blocks
    }

    fn extent_tree(&mut self, number: u64, extents: Vec<Extent>) -> Result<ForkImage, Error> {
        let count = u64::try_from(extents.len()).unwrap_or(u64::MAX);
        let blocks = self.space.nodes(nodes_needed(count, max_records::<Extent>()))?;
        let root = self.load(BlockKind::EXTENTS, number, blocks, extents.into_iter())?;
        Ok(ForkImage::tree(root, count))
    }

    /// Loads a tree into blocks that were chosen for it, exactly as many as it needs.
    pub(crate) fn load<R: Record>(
        &mut self,
        kind: BlockKind,
        owner: u64,
        blocks: Vec<u64>,
        records: impl Iterator<Item = R>,
    ) -> Result<TreeRoot, Error> {
        let mut sink = Sink { device: self.device, blocks: blocks.into_iter() };
        let mut loader = BulkLoader::new(kind, owner, 1, self.seed);
        for record in records {
            loader.push(&mut sink, record)?;
        }
        loader.finish(&mut sink)
    }

    /// A fork of entries, in the payload if they stay there, else in a block, else in blocks under an index.
    fn entries(
        &mut self,
        number: u64,
        meta: &Meta,
        which: Which,
        packed: Packed,
        stays: bool,
    ) -> Result<ForkImage, Error> {
        let count = packed.count;
        if stays || count == 0 {
            return Ok(ForkImage::inline(packed.bytes, count));
        }
        let bodies = u64::try_from(packed.bodies()).unwrap_or(u64::MAX);
        let blocks = self.space.nodes(bodies)?;
        let mut index = Vec::with_capacity(blocks.len());
        for (&block, (cookie, bytes)) in blocks.iter().zip(packed.iter()) {
            self.body(which.entry_kind(), block, number, 0, bytes)?;
            index.push(Index { cookie: cookie.into(), block: block.into() });
        }
        if let [only] = index.as_slice() {
            return Ok(ForkImage::block(only.block.get(), count));
        }
        let nodes = self.space.nodes(nodes_needed(bodies, max_records::<Index>()))?;
        let kind = which.node_kind(FileType::from_mode(meta.mode));
        Ok(ForkImage::tree(self.load(kind, number, nodes, index.into_iter())?, count))
    }

    /// Writes a block of entries or of a value.
    fn body(
        &mut self,
        kind: BlockKind,
        block: u64,
        owner: u64,
        ordinal: u16,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let mut body = BodyBlock::zeroed();
        body.header = Header {
            level: ordinal.into(),
            count: u32::try_from(bytes.len()).unwrap_or(u32::MAX).into(),
            ..Header::new(kind, block, owner, 1)
        };
        body.body.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.seed.seal(body.as_mut_bytes());
        self.block_mut(block)?.copy_from_slice(body.as_bytes());
        Ok(())
    }

    /// Blocks of a value, written.
    fn values(&mut self, number: u64, value: &[u8]) -> Result<Vec<u64>, Error> {
        let mut blocks = Vec::new();
        for (ordinal, bytes) in (0..).zip(value.chunks(BODY_SIZE)) {
            let block = self.space.node()?;
            self.body(BlockKind::VALUE, block, number, ordinal, bytes)?;
            blocks.push(block);
        }
        Ok(blocks)
    }

    fn move_value_out(&mut self, number: u64, attribute: &mut Attribute) -> Result<(), Error> {
        if attribute.blocks_needed() > 0
            && let Value::Bytes(value) = &attribute.value
        {
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            attribute.value = Value::Blocks(self.values(number, value)?, length);
        }
        Ok(())
    }

    /// Sets the checksum entry of a block.
    ///
    /// # Errors
    ///
    /// When the block does not lie within the device.
    pub fn set_sum(&mut self, block: u64, sum: Sum) -> Result<(), Error> {
        if let Some(offset) = self.geometry().sum_offset(block) {
            self.bytes_mut(offset, size_of::<Sum>())?.copy_from_slice(sum.as_bytes());
        }
        Ok(())
    }
}

/// The checksum entries of blocks, into the bytes of the table that belong to them.
pub(crate) fn seal_blocks(seed: Seed, blocks: &[u8], sums: &mut [u8]) {
    for (block, entry) in blocks.chunks_exact(BLOCK_SIZE).zip(sums.chunks_exact_mut(size_of::<Sum>())) {
        let sum = Sum { crc: seed.plain(block).into(), state: SumState::SEALED };
        entry.copy_from_slice(sum.as_bytes());
    }
}

/// A written extent.
pub fn extent(offset: u64, start: u64, blocks: u32) -> Extent {
    Extent { offset: offset.into(), start: start.into(), length: blocks.into(), flags: ExtentFlags::new(0) }
}

/// Blocks of an extent that a 2 MiB mapping reaches: whole frames, congruent with their place in the file.
pub fn huge_blocks(extent: &Extent) -> u64 {
    let (offset, start) = (extent.offset.get(), extent.start.get());
    if offset % HUGE_BLOCKS != start % HUGE_BLOCKS {
        return 0;
    }
    let end = start.saturating_add(extent.length.get().into());
    let frames = (end / HUGE_BLOCKS).saturating_sub(start.div_ceil(HUGE_BLOCKS));
    frames * HUGE_BLOCKS
}

fn inline_extents(extents: &[Extent]) -> ForkImage {
    ForkImage::inline(extents.as_bytes().to_vec(), u64::try_from(extents.len()).unwrap_or(u64::MAX))
}

fn payload_bytes(contents: &Contents) -> usize {
    match contents {
        Contents::None => 0,
        Contents::Extents(extents) => size_of::<Extent>() * extents.len(),
        Contents::Entries(entries) => entries.bytes.len(),
        Contents::Target(target) => target.len(),
    }
}

/// An inode of which everything fits the payload, for workers that have no builder; `None` when it does not.
///
/// # Errors
///
/// [`Error::Collisions`].
pub(crate) fn whole_inode(
    (seed, hash): (Seed, &NameHash),
    place: Place,
    meta: &Meta,
    extents: &[Extent],
    attributes: &[Attribute],
) -> Result<Option<Inode>, Error> {
    if attributes.iter().any(|attribute| attribute.blocks_needed() > 0) {
        return Ok(None);
    }
    let packed = entries::attributes(hash, place.number, attributes)?;
    let size = size_of_val(extents);
    if inode::stay(size, packed.bytes.len()) != (true, true) {
        return Ok(None);
    }
    let blocks = extents.iter().map(|extent| u64::from(extent.length.get())).sum();
    let (data, fork) = (inline_extents(extents), ForkImage::inline(packed.bytes, packed.count));
    Ok(Some(inode::encode(seed, place, meta, 1, blocks, &data, &fork)))
}
