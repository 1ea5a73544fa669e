//! A file in memory: all that can still be read of an inode and its forks, to be put right and written anew.

use super::belief::{is_believable, is_named};
use super::salvage::salvage;
use super::source::{Source, gather};
use paxfs_format::blocks::Blocks;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, BODY_SIZE, BodyBlock, DirectoryEntry, MAX_VALUE, value_blocks,
};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Expected, Header};
use paxfs_format::image::Image;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, Fork, ForkFormat, Inode, MAX_SYMLINK, PAYLOAD_SIZE, Which};
use paxfs_format::node::Node;
use paxfs_format::record::Record;
use paxfs_format::tree::Tree;
use paxfs_format::units::BlockNo;
use paxfs_format::volume::Volume;
use std::collections::BTreeSet;
use zerocopy::FromBytes;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// None when it has to get one.
    pub cookie: Option<u64>,
    pub name: Vec<u8>,
    pub inode: u64,
    pub generation: u32,
    pub kind: u8,
    /// Something was wrong with it by itself.
    pub doubtful: bool,
}

/// An attribute or a parent pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    /// None when it has to get one.
    pub cookie: Option<u64>,
    pub name: Vec<u8>,
    pub value: Value,
    pub doubtful: bool,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Of an extended attribute, wherever it is stored.
    Bytes(Vec<u8>),
    /// The directory of a parent pointer.
    Parent(u64),
}

/// A file in memory.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub number: u64,
    /// As stored. What the forks hold is below.
    pub inode: Inode,
    pub extents: Vec<Extent>,
    /// Extents that may be wrong.
    pub doubtful: Vec<Extent>,
    pub names: Vec<Name>,
    pub target: Option<Vec<u8>>,
    pub attributes: Vec<Attribute>,
    /// The inode is not what its slot should hold, so all its fields were made up.
    pub made_up: bool,
    /// The slot's checksum does not fit.
    pub unsealed: bool,
    /// Nothing was wrong with the data fork, or with the attribute fork.
    pub data_whole: bool,
    pub attributes_whole: bool,
    /// What is lost, in words.
    pub lost: BTreeSet<String>,
}

impl File {
    pub fn kind(&self) -> Option<FileType> {
        self.inode.file_type()
    }

    pub fn parents(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.attributes.iter().filter_map(|attribute| match attribute.value {
            Value::Parent(directory) => Some((directory, attribute.name.as_slice())),
            Value::Bytes(_) => None,
        })
    }

    pub fn has_parent(&self, directory: u64, name: &[u8]) -> bool {
        self.parents().any(|parent| parent == (directory, name))
    }
}

/// Reads a file, as much of it as there is.
pub(super) fn load(source: &Source<'_, '_>, number: u64) -> File {
    let volume = source.volume;
    let stored = volume.inode_unverified(number).copied().unwrap_or_else(|_| blank(volume, number));
    let fits = volume.inode(number);
    let unsealed = fits.is_err();
    let failed = volume.blocks.failed(number / INODES_PER_BLOCK);
    let empty: Fork = zerocopy::FromZeros::new_zeroed();
    let believable = !failed
        && match &fits {
            // One without a mode that somebody names lost its mode.
            Ok(inode) if inode.is_free() => {
                *inode.fork(Which::Attributes) != empty && is_named(volume, number, inode)
            }
            Ok(_) => true,
            Err(_) => is_believable(volume, number, &stored),
        };
    let mut file = File {
        number,
        inode: if believable { stored } else { blank(volume, number) },
        extents: Vec::new(),
        doubtful: Vec::new(),
        names: Vec::new(),
        target: None,
        attributes: Vec::new(),
        made_up: !believable,
        unsealed,
        data_whole: true,
        attributes_whole: true,
        lost: BTreeSet::new(),
    };
    if !believable {
        (file.data_whole, file.attributes_whole) = (false, false);
        read_attributes(source, &mut file, &[]);
        return file;
    }
    // Blocks of the forks say whose they are: the slot's number, whatever its header says.
    file.inode.header.place = number.into();
    contents(source, &mut file);
    file
}

/// Reads what the forks hold again, after the type became known.
pub(super) fn contents(source: &Source<'_, '_>, file: &mut File) {
    let volume = source.volume;
    let Some(kind) = file.kind() else {
        file.data_whole = false;
        return;
    };
    let (data, attributes) = parts(volume, &file.inode, kind);
    file.data_whole &= is_format(file.inode.data.format, kind);
    match kind {
        FileType::Regular => read_extents(source, file, &data),
        FileType::Directory => {
            let (bodies, whole) = bodies(source, file, Which::Data, &data);
            file.data_whole &= whole;
            file.names.clear();
            for (bytes, sealed) in bodies {
                let (entries, whole) = salvage::<DirectoryEntry>(&volume.hash, &bytes);
                file.data_whole &= whole && sealed;
                file.names.extend(entries.into_iter().map(|entry| Name {
                    cookie: entry.sure.then(|| entry.head.cookie.get()),
                    name: entry.name,
                    inode: entry.head.inode.get(),
                    generation: entry.head.generation.get(),
                    kind: entry.head.kind.0,
                    doubtful: !entry.sure || !sealed,
                }));
            }
        }
        FileType::Symlink => read_target(source, file, &data),
        _ => {}
    }
    read_attributes(source, file, &attributes);
}

fn read_attributes(source: &Source<'_, '_>, file: &mut File, inline: &[u8]) {
    let (bodies, whole) = bodies(source, file, Which::Attributes, inline);
    file.attributes_whole &= whole;
    file.attributes.clear();
    for (bytes, sealed) in bodies {
        let (entries, whole) = salvage::<AttributeEntry>(&source.volume.hash, &bytes);
        file.attributes_whole &= whole && sealed;
        for entry in entries {
            attribute(source, file, &entry.head, entry.name, &entry.value, entry.sure);
        }
    }
}

/// Whether the data fork of a file of that type can be stored so.
fn is_format(format: ForkFormat, kind: FileType) -> bool {
    format == ForkFormat::EMPTY
        || match kind {
            FileType::Regular => [ForkFormat::INLINE, ForkFormat::TREE].contains(&format),
            FileType::Directory => {
                [ForkFormat::INLINE, ForkFormat::BLOCK, ForkFormat::TREE].contains(&format)
            }
            FileType::Symlink => [ForkFormat::INLINE, ForkFormat::VALUES].contains(&format),
            _ => false,
        }
}

fn attribute(
    source: &Source<'_, '_>,
    file: &mut File,
    head: &AttributeEntry,
    name: Vec<u8>,
    stored: &[u8],
    sure: bool,
) {
    let cookie = sure.then(|| head.cookie.get());
    let value = match head.kind {
        AttributeKind::PARENT => {
            let Ok(directory) = <[u8; 8]>::try_from(stored) else {
                file.attributes_whole = false;
                return;
            };
            Value::Parent(u64::from_le_bytes(directory))
        }
        AttributeKind::BLOCKS => {
            let pointers = <[BlockNo]>::ref_from_bytes(stored).unwrap_or_default();
            let (bytes, whole) = value(source, &file.inode, pointers);
            let length = usize::try_from(head.value_length.get()).unwrap_or(usize::MAX);
            if !whole {
                let words = format!("a part of the value of \"{}\"", paxfs_format::names::printable(&name));
                file.lost.insert(words);
            }
            file.attributes_whole &= whole && bytes.len() == length;
            Value::Bytes(bytes)
        }
        AttributeKind::INLINE => Value::Bytes(stored.to_vec()),
        kind => {
            let words = format!("an attribute of unknown kind {}", kind.0);
            file.lost.insert(words);
            file.attributes_whole = false;
            return;
        }
    };
    let parent = matches!(value, Value::Parent(_));
    let fine = if parent { super::salvage::is_name(&name) } else { !name.is_empty() && !name.contains(&0) };
    if !fine && parent {
        return;
    }
    let name = match fine {
        true => name,
        // Its value is kept under a name that its cookie gives it.
        false => {
            file.lost.insert("the name of an attribute".to_owned());
            format!("user.lost.{:016x}", head.cookie.get()).into_bytes()
        }
    };
    file.attributes.push(Attribute { cookie: cookie.filter(|_| fine), name, value, doubtful: !sure });
}

/// The bytes of a value, zeros for what cannot be read but in the last block; and whether all could.
fn value(source: &Source<'_, '_>, inode: &Inode, pointers: &[BlockNo]) -> (Vec<u8>, bool) {
    let volume = source.volume;
    let owner = inode.header.place.get();
    let (mut bytes, mut whole) = (Vec::new(), true);
    let most = usize::try_from(MAX_VALUE).unwrap_or(0);
    for (index, pointer) in pointers.iter().enumerate().take(value_blocks(u64::from(MAX_VALUE))) {
        let last = index + 1 == pointers.len();
        let found = body(volume, owner, BlockKind::VALUE, pointer.get());
        // A block that no pointer leads to any more says itself which part of a value it is.
        let mut astray = || {
            let mut parts = source.strays(owner, BlockKind::VALUE).iter().filter(|block| {
                let header = volume.blocks.block(**block).ok().and_then(|bytes| Header::of(bytes));
                let ordinal = header.map(|header| usize::from(header.level.get()));
                ordinal == Some(index) && !source.is_value_of(inode, **block)
            });
            let only = parts.next().filter(|_| parts.next().is_none())?;
            whole = false;
            body(volume, owner, BlockKind::VALUE, *only)
        };
        let found = match found {
            Some(found) => Some(found),
            None => astray(),
        };
        match found {
            Some((part, sealed)) => {
                whole &= sealed && (last || part.len() == BODY_SIZE);
                bytes.extend_from_slice(&part);
                if !last {
                    bytes.resize((index + 1) * BODY_SIZE, 0);
                }
            }
            None => {
                whole = false;
                if !last {
                    bytes.resize((index + 1) * BODY_SIZE, 0);
                }
            }
        }
    }
    bytes.truncate(most);
    (bytes, whole)
}

/// The bytes in use of a block of entries or of a value, and whether its checksum fits. One that is damaged but says that
/// it is the one is read all the same: its entries prove themselves.
fn body(volume: &Volume<Image<'_>>, owner: u64, kind: BlockKind, block: u64) -> Option<(Vec<u8>, bool)> {
    let bytes = volume.blocks.block(block).ok().filter(|_| !volume.blocks.failed(block))?;
    let fault = volume.structure(Expected { kind, place: block, owner });
    let header = Header::of(bytes)?;
    let alike = [header.kind == kind, header.place.get() == block, header.owner.get() == owner];
    let alike = alike.into_iter().filter(|alike| *alike).count();
    match &fault {
        Ok(_) => {}
        // Intact, but another's.
        Err(_) if volume.seed.verify(bytes).is_ok() && header.place.get() != block && alike < 2 => {
            return None;
        }
        Err(_) if alike < 2 => return None,
        Err(_) => {}
    }
    let block = BodyBlock::ref_from_bytes(bytes).ok()?;
    let used = usize::try_from(header.count.get()).ok().and_then(|used| block.body.0.get(..used));
    let tail = used.and_then(|used| block.body.0.get(used.len()..));
    let fine = tail.is_some_and(|tail| tail.iter().all(|&byte| byte == 0));
    match used {
        Some(used) if fine => Some((used.to_vec(), fault.is_ok())),
        // Its length is wrong: it ends where zeros begin.
        _ => {
            let end = block.body.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let end = if kind == BlockKind::VALUE { end } else { end.next_multiple_of(8) };
            Some((block.body.0.get(..end)?.to_vec(), false))
        }
    }
}

/// An inode of which nothing is known.
fn blank(volume: &Volume<Image<'_>>, number: u64) -> Inode {
    let group = volume.geometry.locate(number / INODES_PER_BLOCK).map_or(0, |place| place.group);
    let mut inode: Inode = zerocopy::FromZeros::new_zeroed();
    inode.header = Header::new(BlockKind::INODE, number, group.into(), 1);
    inode
}

/// The bytes of both forks in the payload. Where the lengths do not fit what is there, what is there decides.
fn parts(volume: &Volume<Image<'_>>, inode: &Inode, kind: FileType) -> (Vec<u8>, Vec<u8>) {
    let payload = &inode.payload.0;
    let stored = usize::from(inode.data.inline_bytes.get());
    let by_contents = match kind {
        FileType::Regular => inode.data.count.get().saturating_mul(size_of::<Extent>() as u64),
        FileType::Symlink if inode.data.format == ForkFormat::VALUES => {
            (value_blocks(inode.size.get().min(MAX_SYMLINK)) as u64).saturating_mul(8)
        }
        FileType::Directory | FileType::Symlink => inode.size.get(),
        _ => 0,
    };
    let by_contents = usize::try_from(by_contents).unwrap_or(usize::MAX);
    let inline = [ForkFormat::INLINE, ForkFormat::VALUES].contains(&inode.data.format);
    let rooted = [ForkFormat::TREE, ForkFormat::BLOCK].contains(&inode.data.format);
    let mut candidates: Vec<usize> = match (inline, rooted) {
        (_, true) => vec![0, stored],
        _ => vec![stored, by_contents, 0],
    };
    candidates.extend((8..=PAYLOAD_SIZE).step_by(8));
    candidates.retain(|length| *length <= PAYLOAD_SIZE);
    let score = |length: &usize| {
        let (_, rest) = payload.split_at_checked(*length).unwrap_or((payload, &[]));
        let (entries, whole) = salvage::<AttributeEntry>(&volume.hash, rest);
        let sure = entries.iter().filter(|entry| entry.sure).count();
        let sound = match kind {
            FileType::Directory => {
                let (names, whole) =
                    salvage::<DirectoryEntry>(&volume.hash, payload.get(..*length).unwrap_or_default());
                names.iter().filter(|name| name.sure).count() + usize::from(whole)
            }
            _ => usize::from(*length == by_contents || *length == stored),
        };
        2 * sure + usize::from(whole) + 2 * sound
    };
    let mut best = candidates.first().copied().unwrap_or(0);
    let mut best_score = score(&best);
    let perfect = |length: usize| {
        let (_, rest) = payload.split_at_checked(length).unwrap_or((payload, &[]));
        length == stored && salvage::<AttributeEntry>(&volume.hash, rest).1
    };
    if !perfect(best) || !inline && best != 0 {
        for candidate in candidates {
            let found = score(&candidate);
            if found > best_score {
                (best, best_score) = (candidate, found);
            }
        }
    }
    let (data, rest) = payload.split_at_checked(best).unwrap_or((payload, &[]));
    let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| (last + 1).next_multiple_of(8));
    let length = usize::from(inode.attributes.inline_bytes.get());
    let length = if length >= used && length <= rest.len() { length } else { used.min(rest.len()) };
    (data.to_vec(), rest.get(..length).unwrap_or_default().to_vec())
}

/// The bodies of entries of a fork, each with whether its checksum fits; and whether none is missing.
fn bodies(source: &Source<'_, '_>, file: &File, which: Which, inline: &[u8]) -> (Vec<(Vec<u8>, bool)>, bool) {
    let (volume, inode) = (source.volume, &file.inode);
    let fork: &Fork = inode.fork(which);
    let number = inode.header.place.get();
    let kind = which.entry_kind();
    let root = fork.tree.block.get();
    let (mut all, mut whole) = (Vec::new(), !file.made_up);
    if !inline.is_empty() {
        all.push((inline.to_vec(), true));
    }
    let direct = (root != 0).then(|| body(volume, number, kind, root)).flatten();
    let format = fork.format;
    let is_tree = format == ForkFormat::TREE || (direct.is_none() && root != 0);
    if let Some(body) = direct.filter(|_| format != ForkFormat::TREE || fork.tree.height.get() == 0) {
        all.push(body);
    } else if is_tree {
        let node = which.node_kind(Some(FileType::Directory).filter(|_| which == Which::Data));
        let height = volume.blocks.block(root).ok().and_then(|bytes| Header::of(bytes));
        let height = height.filter(|header| header.kind == node).map(|header| header.level.get());
        let mut root = fork.tree;
        if let Some(level) = height {
            root.height = u32::from(level).saturating_add(1).into();
        }
        let tree = Tree::<Index>::new(node, number, &root, volume.geometry.volume_space(), volume.seed);
        let gathered = gather(volume, &tree);
        whole &= gathered.faults == 0;
        for record in gathered.sound.iter().chain(&gathered.doubtful) {
            match body(volume, number, kind, record.block.get()) {
                Some(body) => all.push(body),
                None => whole = false,
            }
        }
    } else if format == ForkFormat::BLOCK {
        whole = false;
    }
    // Blocks that no index leads to any more say themselves whose they are.
    if !whole {
        let known: BTreeSet<Vec<u8>> = all.iter().map(|(bytes, _)| bytes.clone()).collect();
        for &block in source.strays(number, kind) {
            let found = body(volume, number, kind, block);
            all.extend(found.filter(|(bytes, sealed)| *sealed && !known.contains(bytes)));
        }
    }
    (all, whole)
}

fn read_extents(source: &Source<'_, '_>, file: &mut File, inline: &[u8]) {
    let volume = source.volume;
    let number = file.number;
    let space = volume.geometry.volume_space();
    let fork = &file.inode.data;
    let (mut sound, mut doubtful) = (Vec::new(), Vec::new());
    let units = inline.len() / size_of::<Extent>() * size_of::<Extent>();
    let list = <[Extent]>::ref_from_bytes(inline.get(..units).unwrap_or_default()).unwrap_or_default();
    for extent in list {
        if extent.check(&space).is_ok() { sound.push(*extent) } else { doubtful.push(*extent) }
    }
    file.data_whole &= doubtful.is_empty() && units == inline.len();
    let (mut missing, mut known) = (file.made_up, BTreeSet::new());
    if fork.tree.block.get() != 0 {
        let bytes = volume.blocks.block(fork.tree.block.get()).ok();
        let header = bytes.and_then(|bytes| Header::of(bytes));
        let level =
            header.filter(|header| header.kind == BlockKind::EXTENTS).map(|header| header.level.get());
        let mut root = fork.tree;
        if let Some(level) = level {
            root.height = u32::from(level).saturating_add(1).into();
        }
        let tree = Tree::<Extent>::new(BlockKind::EXTENTS, number, &root, space, volume.seed);
        let gathered = gather(volume, &tree);
        file.data_whole &= gathered.faults == 0;
        sound.extend(gathered.sound);
        doubtful.extend(gathered.doubtful);
        missing = !gathered.missing.is_empty();
        known.extend(gathered.nodes);
    }
    // Leaves that no branch leads to any more.
    let strays = if missing { source.strays(number, BlockKind::EXTENTS) } else { &[] };
    for block in strays.iter().filter(|block| !known.contains(block)) {
        let node = volume.blocks.block(*block).ok().and_then(Node::of);
        let records = node.and_then(|node| node.records::<Extent>()).unwrap_or_default();
        doubtful.extend(records.iter().filter(|extent| extent.check(&space).is_ok()));
    }
    // In order, and apart: of two that overlap, nobody knows which is wrong.
    sound.sort_by_key(|extent| extent.offset.get());
    sound.dedup();
    let mut apart: Vec<Extent> = Vec::new();
    for extent in sound {
        match apart.last() {
            Some(last) if last.end() > extent.offset.get() => {
                file.data_whole = false;
                doubtful.push(extent);
            }
            _ => apart.push(extent),
        }
    }
    (file.extents, file.doubtful) = (apart, doubtful);
}

fn read_target(source: &Source<'_, '_>, file: &mut File, inline: &[u8]) {
    let size = usize::try_from(file.inode.size.get()).unwrap_or(usize::MAX);
    let values = file.inode.data.format == ForkFormat::VALUES;
    let target = match <[BlockNo]>::ref_from_bytes(inline) {
        Ok(pointers) if values => {
            let (bytes, whole) = value(source, &file.inode, pointers);
            file.data_whole &= whole && bytes.len() == size;
            if !whole {
                file.lost.insert("a part of the target".to_owned());
            }
            bytes
        }
        _ => {
            file.data_whole &= inline.len() == size;
            inline.to_vec()
        }
    };
    let target: Vec<u8> = target.into_iter().take_while(|&byte| byte != 0).collect();
    file.target = (!target.is_empty()).then_some(target);
    file.data_whole &= file.target.is_some();
}
