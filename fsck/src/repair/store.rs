//! A file written anew: both forks packed, every derived field computed.

use super::file::{File, Value};
use super::room::{Full, Room, Sink};
use paxfs_format::device::MediumError;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, BODY_SIZE, BodyBlock, DirectoryEntry, EntryType, INLINE_VALUE_MAX,
    MAX_VALUE,
};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_format::group::TreeRoot;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::image::Image;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, Fork, ForkFormat, Inode, InodeFlags, PAYLOAD_SIZE, Which};
use paxfs_format::packed::Packed;
use paxfs_format::record::Record;
use paxfs_format::time::Timestamp;
use paxfs_format::tree::{BulkLoader, NodeSink};
use paxfs_format::units::{Opaque, Reserved};
use paxfs_format::volume::Volume;
use std::collections::HashSet;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Why a file cannot be written.
#[derive(Debug)]
pub(super) enum StoreError {
    /// A cluster is needed.
    Full(Full),
    /// The device ends before it.
    Medium(MediumError),
}

impl From<Full> for StoreError {
    fn from(full: Full) -> Self {
        StoreError::Full(full)
    }
}

impl From<MediumError> for StoreError {
    fn from(error: MediumError) -> Self {
        StoreError::Medium(error)
    }
}

/// One fork, as it is stored.
struct Stored {
    fork: Fork,
    inline: Vec<u8>,
}

/// Writes a file, and gives the inode as it is now.
pub(super) fn store(
    volume: &mut Volume<Image<'_>>,
    room: &mut Room,
    file: &mut File,
    generation: u64,
) -> Result<Inode, StoreError> {
    let number = file.number;
    let group = volume.geometry.locate(number / INODES_PER_BLOCK).map_or(0, |place| place.group);
    let root = number == volume.superblock.root.get();
    let mut inode = file.inode;
    inode.header = Header::new(BlockKind::INODE, number, group.into(), generation);
    let Some(kind) = file.kind() else {
        let freed = Inode { header: inode.header, generation: inode.generation, ..Inode::new_zeroed() };
        return Ok(put(volume, number, freed)?);
    };
    fields(&mut inode, kind);
    let names = file.parents().count();
    inode.links = if root { 1 } else { u32::try_from(names).unwrap_or(u32::MAX) }.into();
    let mut writer = Writer { volume, room, group, number, generation };
    let mut attributes = writer.attributes(file)?;
    let room_left = |used: usize| PAYLOAD_SIZE.saturating_sub(used);
    let data = match kind {
        FileType::Regular => {
            let blocks = file.extents.iter().map(|extent| u64::from(extent.length.get())).sum::<u64>();
            inode.blocks = blocks.into();
            let end =
                file.extents.iter().filter(|extent| !extent.flags.is_unwritten()).map(Extent::end).max();
            let end = end.unwrap_or(0);
            if inode.size.get() > i64::MAX.unsigned_abs() || inode.size.get().div_ceil(BLOCK_BYTES) < end {
                inode.size = end.saturating_mul(BLOCK_BYTES).into();
                file.lost.insert("the exact size: it ends with its last block now".to_owned());
            }
            writer.extents(&file.extents)?
        }
        FileType::Directory => {
            let packed = writer.names(file);
            inode.size = (packed.bytes.len() as u64).into();
            let inline = packed.bytes.len() <= room_left(attributes.bytes.len()) || attributes.bodies() > 1;
            writer.entries(&packed, Which::Data, inline)?
        }
        FileType::Symlink => {
            // A symlink without a target cannot be: this one says what became of it.
            let target = file.target.clone().unwrap_or_else(|| {
                file.lost.insert("its target".to_owned());
                format!("target-lost-{number}").into_bytes()
            });
            inode.size = (target.len() as u64).into();
            let short = attributes.bytes.len().min(room_left(3 * 8));
            if target.len() <= room_left(short) {
                Stored { fork: inline_fork(ForkFormat::INLINE, target.len(), 0), inline: target }
            } else {
                let pointers = writer.values(&target)?;
                Stored { fork: inline_fork(ForkFormat::VALUES, pointers.len(), 0), inline: pointers }
            }
        }
        _ => Stored { fork: Fork::new_zeroed(), inline: Vec::new() },
    };
    let fits = attributes.bytes.len() <= room_left(data.inline.len());
    let attributes = writer.entries(&core::mem::take(&mut attributes), Which::Attributes, fits)?;
    inode.data = data.fork;
    inode.attributes = attributes.fork;
    inode.payload = Opaque([0; PAYLOAD_SIZE]);
    let bytes = data.inline.iter().chain(&attributes.inline);
    inode.payload.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(put(volume, number, inode)?)
}

/// Fields that stand by themselves.
fn fields(inode: &mut Inode, kind: FileType) {
    if inode.generation.get() == 0 {
        inode.generation = 1.into();
    }
    let mut flags = inode.flags.get() & InodeFlags::KNOWN;
    if !matches!(kind, FileType::Regular | FileType::Directory) {
        flags &= !InodeFlags::DAX;
    }
    inode.flags = flags.into();
    for time in [&mut inode.accessed, &mut inode.modified, &mut inode.changed, &mut inode.born] {
        if !time.is_valid() {
            *time = Timestamp { nanoseconds: 0.into(), ..*time };
        }
    }
    if !matches!(kind, FileType::Character | FileType::Block) {
        (inode.major, inode.minor) = (0.into(), 0.into());
    }
    if !matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink) {
        inode.size = 0.into();
    }
    if kind != FileType::Regular {
        inode.blocks = 0.into();
    }
    inode.reserved = Reserved::ZERO;
}

fn inline_fork(format: ForkFormat, bytes: usize, count: u64) -> Fork {
    let format = if bytes == 0 { ForkFormat::EMPTY } else { format };
    let inline_bytes = u16::try_from(bytes).unwrap_or(u16::MAX).into();
    Fork { format, inline_bytes, count: count.into(), ..Fork::new_zeroed() }
}

/// Seals an inode and puts it into its slot.
fn put(volume: &mut Volume<Image<'_>>, number: u64, mut inode: Inode) -> Result<Inode, MediumError> {
    volume.seed.seal(inode.as_mut_bytes());
    put_slot(volume, number, inode.as_bytes())?;
    Ok(inode)
}

/// Puts bytes into an inode's slot.
pub(super) fn put_slot(volume: &mut Volume<Image<'_>>, number: u64, bytes: &[u8]) -> Result<(), MediumError> {
    let Some((block, slot)) = volume.geometry.inode_place(number) else { return Ok(()) };
    let block = volume.blocks.block_mut(block)?;
    if let Ok(slots) = <[[u8; 512]]>::mut_from_bytes(block.as_mut_slice())
        && let Some(to) = slots.get_mut(slot)
    {
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }
    Ok(())
}

/// Writes what forks hold.
struct Writer<'w, 'd> {
    volume: &'w mut Volume<Image<'d>>,
    room: &'w mut Room,
    group: u32,
    number: u64,
    generation: u64,
}

impl<'d> Writer<'_, 'd> {
    fn sink(&mut self) -> Sink<'_, 'd> {
        Sink { image: &mut self.volume.blocks, room: self.room, group: self.group, aside: Vec::new() }
    }

    fn tree<R: Record>(&mut self, kind: BlockKind, records: &[R]) -> Result<TreeRoot, Full> {
        let mut loader = BulkLoader::new(kind, self.number, self.generation, self.volume.seed);
        let mut sink = self.sink();
        for record in records {
            loader.push(&mut sink, *record)?;
        }
        loader.finish(&mut sink)
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<Stored, Full> {
        let count = extents.len() as u64;
        // Parent pointers stay inline when they can.
        if size_of_val(extents) <= PAYLOAD_SIZE / 2 {
            let inline = extents.as_bytes().to_vec();
            return Ok(Stored { fork: inline_fork(ForkFormat::INLINE, inline.len(), count), inline });
        }
        let tree = self.tree(BlockKind::EXTENTS, extents)?;
        let fork = Fork { format: ForkFormat::TREE, count: count.into(), tree, ..Fork::new_zeroed() };
        Ok(Stored { fork, inline: Vec::new() })
    }

    /// A block of entries or of a value.
    fn body(&mut self, kind: BlockKind, ordinal: usize, bytes: &[u8]) -> Result<u64, Full> {
        let block = self.sink().allocate()?;
        let mut header = Header::new(kind, block, self.number, self.generation);
        header.count = u32::try_from(bytes.len()).unwrap_or(u32::MAX).into();
        header.level = u16::try_from(ordinal).unwrap_or(u16::MAX).into();
        let mut body = BodyBlock { header, body: Opaque([0; BODY_SIZE]) };
        body.body.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.volume.seed.seal(body.as_mut_bytes());
        self.volume.blocks.put(block, Box::new(zerocopy::transmute!(body)));
        Ok(block)
    }

    /// Writes a value into blocks; gives their numbers as they are stored.
    fn values(&mut self, value: &[u8]) -> Result<Vec<u8>, Full> {
        let mut pointers = Vec::new();
        for (ordinal, part) in value.chunks(BODY_SIZE).enumerate() {
            pointers.extend_from_slice(&self.body(BlockKind::VALUE, ordinal, part)?.to_le_bytes());
        }
        Ok(pointers)
    }

    fn entries(&mut self, packed: &Packed, which: Which, inline: bool) -> Result<Stored, Full> {
        let count = packed.count;
        if packed.bytes.is_empty() || (inline && packed.bytes.len() <= PAYLOAD_SIZE) {
            let bytes = packed.bytes.clone();
            return Ok(Stored { fork: inline_fork(ForkFormat::INLINE, bytes.len(), count), inline: bytes });
        }
        let mut records = Vec::new();
        for (cookie, bytes) in packed.iter() {
            let block = self.body(which.entry_kind(), 0, bytes)?;
            records.push(Index { cookie: cookie.into(), block: block.into() });
        }
        let (format, tree) = match records.as_slice() {
            [one] => (
                ForkFormat::BLOCK,
                TreeRoot { block: one.block, records: 1.into(), ..TreeRoot::new_zeroed() },
            ),
            _ => {
                let kind = which.node_kind(Some(FileType::Directory).filter(|_| which == Which::Data));
                (ForkFormat::TREE, self.tree(kind, &records)?)
            }
        };
        Ok(Stored {
            fork: Fork { format, count: count.into(), tree, ..Fork::new_zeroed() },
            inline: Vec::new(),
        })
    }

    fn names(&self, file: &mut File) -> Packed {
        let hash = &self.volume.hash;
        let wanted = file.names.iter().map(|name| (hash.directory(&name.name), name.cookie)).collect();
        let mut sorted: Vec<(u64, usize)> = cookies(wanted, &mut file.lost);
        sorted.sort_unstable();
        let mut packed = Packed::default();
        for (cookie, index) in sorted {
            let Some(name) = file.names.get(index) else { continue };
            let head = DirectoryEntry {
                cookie: cookie.into(),
                inode: name.inode.into(),
                generation: name.generation.into(),
                name_length: u8::try_from(name.name.len()).unwrap_or(u8::MAX),
                kind: EntryType(name.kind),
                reserved: Reserved::ZERO,
            };
            packed.push(&head, &name.name, &[]);
        }
        packed
    }

    fn attributes(&mut self, file: &mut File) -> Result<Packed, Full> {
        let hash = self.volume.hash;
        // Of two with one name the first is kept.
        let mut seen = HashSet::new();
        file.attributes.retain(|attribute| {
            let parent = match attribute.value {
                Value::Parent(directory) => Some(directory),
                Value::Bytes(_) => None,
            };
            !attribute.name.is_empty() && seen.insert((parent, attribute.name.clone()))
        });
        let lowest = |attribute: &super::file::Attribute| match attribute.value {
            Value::Parent(directory) => {
                hash.attribute(AttributeKind::PARENT, Some(directory), &attribute.name)
            }
            Value::Bytes(_) => hash.attribute(AttributeKind::INLINE, None, &attribute.name),
        };
        let wanted = file.attributes.iter().map(|attribute| (lowest(attribute), attribute.cookie)).collect();
        let mut sorted: Vec<(u64, usize)> = cookies(wanted, &mut file.lost);
        sorted.sort_unstable();
        let mut packed = Packed::default();
        for (cookie, index) in sorted {
            let Some(attribute) = file.attributes.get(index) else { continue };
            let (kind, length, stored) = match &attribute.value {
                Value::Parent(directory) => (AttributeKind::PARENT, 8, directory.to_le_bytes().to_vec()),
                Value::Bytes(bytes) if bytes.len() > INLINE_VALUE_MAX => {
                    let most = bytes.get(..bytes.len().min(usize::try_from(MAX_VALUE).unwrap_or(0)));
                    (AttributeKind::BLOCKS, bytes.len(), self.values(most.unwrap_or_default())?)
                }
                Value::Bytes(bytes) => (AttributeKind::INLINE, bytes.len(), bytes.clone()),
            };
            let head = AttributeEntry {
                cookie: cookie.into(),
                value_length: u32::try_from(length).unwrap_or(u32::MAX).into(),
                kind,
                name_length: u8::try_from(attribute.name.len()).unwrap_or(u8::MAX),
                reserved: Reserved::ZERO,
            };
            packed.push(&head, &attribute.name, &stored);
        }
        Ok(packed)
    }
}

/// A cookie for each of the entries that have a lowest one: the one that it has, where it can be, else the first free.
fn cookies(
    wanted: Vec<(u64, Option<u64>)>,
    lost: &mut std::collections::BTreeSet<String>,
) -> Vec<(u64, usize)> {
    let mut taken = HashSet::new();
    let mut given = Vec::new();
    let mut later = Vec::new();
    for (index, (lowest, cookie)) in wanted.into_iter().enumerate() {
        match cookie.filter(|cookie| cookie & !DISAMBIGUATOR == lowest && taken.insert(*cookie)) {
            Some(cookie) => given.push((cookie, index)),
            None => later.push((lowest, index)),
        }
    }
    for (lowest, index) in later {
        match (lowest..=lowest | DISAMBIGUATOR).find(|cookie| taken.insert(*cookie)) {
            Some(cookie) => given.push((cookie, index)),
            None => {
                lost.insert("a name whose hash 256 others have".to_owned());
            }
        }
    }
    given
}
