//! Making the volume of a recipe: the tree, then numbers, then data in the recipe's order, then inodes and directories.

use super::content::Pattern;
use super::data::{Laid, Others, Why, lay};
use super::names::{expand, unescape};
use super::tree::{Node, NodeNo, ROOT, Tree};
use super::{Blob, Flag, Item, Recipe, Sums};
use crate::builder::{Builder, Contents, offset_of, seal_blocks};
use crate::entries::{Attribute, Name, Value};
use crate::error::Error;
use crate::inode::Meta;
use paxfs_format::bad::Bad;
use paxfs_format::entry::{MAX_NAME, MAX_VALUE};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::inode::{FileType, InodeFlags, MAX_SYMLINK};
use paxfs_format::record::Record;
use paxfs_format::sums::{Sum, SumState};
use rayon::prelude::*;
use std::collections::HashMap;

/// Extents written at once.
const BATCH: usize = 16384;
/// Bytes of one extent that a thread writes at a time.
const PART: usize = 1 << 20;

/// Data to be written.
struct Writing {
    extent: Extent,
    size: u64,
    pattern: Pattern,
    sealed: bool,
}

pub(super) struct Filling<'f, 'd> {
    recipe: &'f Recipe,
    builder: &'f mut Builder<'d>,
    progress: &'f mut dyn FnMut(u64),
    tree: Tree,
    writing: Vec<Writing>,
}

impl<'f, 'd> Filling<'f, 'd> {
    pub(super) fn new(
        recipe: &'f Recipe,
        builder: &'f mut Builder<'d>,
        progress: &'f mut dyn FnMut(u64),
    ) -> Self {
        Filling { recipe, builder, progress, tree: Tree::new(), writing: Vec::new() }
    }

    pub(super) fn run(mut self) -> Result<u64, Error> {
        self.expand()?;
        let directories = self.tree.directories();
        self.number(&directories)?;
        self.data()?;
        self.store(&directories)?;
        self.bad()?;
        self.builder.journal.clone_from(&self.recipe.volume.journal);
        Ok(self.tree.get(ROOT).map_or(0, |root| root.number))
    }

    fn at(&self, item: u32, i: u64, why: String) -> Error {
        let found = usize::try_from(item).ok().and_then(|item| self.recipe.files.get(item));
        let path = found.map(|item| expand(&item.path, i).unwrap_or_else(|_| item.path.clone()));
        Error::Recipe { at: format!("files[{item}] ({})", path.unwrap_or_default()), why }
    }

    fn item(&self, node: &Node) -> Option<&'f Item> {
        self.recipe.files.get(usize::try_from(node.item?).ok()?)
    }

    fn expand(&mut self) -> Result<(), Error> {
        // Not a million names for a volume that has room for a thousand: the shortest takes 32 bytes.
        let room = self.builder.geometry().blocks.saturating_mul(BLOCK_BYTES / 32);
        let names =
            self.recipe.files.iter().map(|item| item.repeat.unwrap_or(1)).fold(0, u64::saturating_add);
        if names > room {
            return Err(Error::Full { what: format!("{names} names") });
        }
        for (number, item) in (0..).zip(&self.recipe.files) {
            for i in 0..item.repeat.unwrap_or(1) {
                if i % 65536 == 0 {
                    self.builder.interrupt.check()?;
                }
                self.tree.add(number, item, i).map_err(|why| self.at(number, i, why))?;
            }
            if item.generation == Some(0) {
                return Err(self.at(number, 0, "a `generation` counts from 1".to_owned()));
            }
        }
        Ok(())
    }

    /// Gives inodes their numbers: the root, then for each directory what is in it, in the order of the names.
    fn number(&mut self, directories: &[(NodeNo, NodeNo)]) -> Result<(), Error> {
        let root = self.builder.inode()?;
        self.give(ROOT, root);
        for &(directory, _) in directories {
            let children: Vec<NodeNo> = self.children(directory).map(|(_, child)| child).collect();
            for child in children {
                if self.tree.get(child).is_some_and(|node| node.number == 0) {
                    let number = self.builder.inode()?;
                    self.give(child, number);
                }
            }
        }
        for orphan in self.tree.orphans.values().copied().collect::<Vec<_>>() {
            let number = self.builder.inode()?;
            self.give(orphan, number);
        }
        for &generation in &self.recipe.volume.freed {
            if generation == 0 {
                return Err(Error::Recipe {
                    at: "volume.freed".to_owned(),
                    why: "a generation counts from 1".to_owned(),
                });
            }
            let number = self.builder.inode()?;
            self.builder.store_freed(number, generation)?;
        }
        Ok(())
    }

    fn give(&mut self, at: NodeNo, number: u64) {
        if let Some(node) = self.tree.get_mut(at) {
            node.number = number;
        }
    }

    fn children(&self, directory: NodeNo) -> impl Iterator<Item = (&[u8], NodeNo)> {
        let children = self.tree.get(directory).and_then(|node| node.children.as_deref());
        children.into_iter().flatten().map(|(name, &child)| (name.as_ref(), child))
    }

    /// Lays out and writes the data of all files.
    fn data(&mut self) -> Result<(), Error> {
        let made = core::mem::take(&mut self.tree.made);
        for (done, &at) in (1..).zip(&made) {
            let Some((node, item)) = self.tree.get(at).and_then(|node| Some((node, self.item(node)?))) else {
                continue;
            };
            if node.kind != FileType::Regular {
                continue;
            }
            let reflink = self.builder.options.features.reflink;
            let others = Others { recipe: self.recipe, tree: &self.tree, reflink };
            let laid = lay(self.builder, &others, item, node).map_err(|why| match why {
                Why::Volume(error) => error,
                Why::Recipe(why) => self.at(node.item.unwrap_or(0), node.i, why),
            })?;
            self.write(&laid)?;
            if let Some(node) = self.tree.get_mut(at) {
                (node.size, node.extents, node.laid) = (laid.size, laid.extents, true);
                node.extents.shrink_to_fit();
            }
            if done % 16384 == 0 {
                self.builder.interrupt.check()?;
                (self.progress)(done);
            }
        }
        self.tree.made = made;
        self.flush()
    }

    /// Writes data, or takes note that it is to be.
    fn write(&mut self, laid: &Laid) -> Result<(), Error> {
        let csum = self.builder.options.features.csum;
        for extent in &laid.own {
            if csum && laid.sums == Sums::Open {
                for block in (extent.start.get()..).take(extent.length.get() as usize) {
                    self.builder.set_sum(block, Sum { crc: 0.into(), state: SumState::OPEN })?;
                }
            }
            let sealed = csum && laid.sums == Sums::Sealed;
            // Zeros on a device that is zeros need no store.
            if sealed || !laid.pattern.is_zero() || !self.builder.is_zeroed() {
                let (size, pattern) = (laid.size, laid.pattern.clone());
                self.writing.push(Writing { extent: *extent, size, pattern, sealed });
            }
        }
        if self.writing.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut list = core::mem::take(&mut self.writing);
        list.sort_unstable_by_key(|one| one.extent.start.get());
        let geometry = self.builder.geometry();
        let bytes = |blocks: u32, each: usize| (blocks as usize).saturating_mul(each);
        let ranges: Vec<(u64, usize)> = list
            .iter()
            .map(|one| (offset_of(one.extent.start.get()), bytes(one.extent.length.get(), BLOCK_SIZE)))
            .collect();
        let regions = self.builder.device.regions_mut(&ranges)?;
        regions.into_par_iter().zip(&list).for_each(|(region, one)| {
            let begin = one.extent.offset.get().saturating_mul(BLOCK_BYTES);
            region.par_chunks_mut(PART).enumerate().for_each(|(part, bytes)| {
                let skipped = u64::try_from(part.saturating_mul(PART)).unwrap_or(0);
                one.pattern.write(begin + skipped, one.size, bytes);
            });
        });
        for one in list.iter().filter(|one| one.sealed) {
            let (start, length) = (one.extent.start.get(), one.extent.length.get());
            let mut sums = vec![0; bytes(length, size_of::<Sum>())];
            let blocks = self.builder.device.bytes(offset_of(start), bytes(length, BLOCK_SIZE))?;
            seal_blocks(self.builder.seed, blocks, &mut sums);
            if let Some(offset) = geometry.sum_offset(start) {
                self.builder.bytes_mut(offset, sums.len())?.copy_from_slice(&sums);
            }
        }
        Ok(())
    }

    /// Stores all inodes.
    fn store(&mut self, directories: &[(NodeNo, NodeNo)]) -> Result<(), Error> {
        // Files with several names, until all were met.
        let mut waiting: HashMap<NodeNo, Vec<Attribute>> = HashMap::new();
        let mut above: Option<Attribute> = None;
        let names: HashMap<NodeNo, Vec<u8>> = directories
            .iter()
            .flat_map(|&(directory, _)| self.children(directory))
            .filter(|&(_, child)| self.tree.get(child).is_some_and(|node| node.children.is_some()))
            .map(|(name, child)| (child, name.to_vec()))
            .collect();
        for &(directory, holder) in directories {
            self.builder.interrupt.check()?;
            let number = self.tree.get(directory).map_or(0, |node| node.number);
            let children: Vec<(Vec<u8>, NodeNo)> =
                self.children(directory).map(|(name, child)| (name.to_vec(), child)).collect();
            for (name, child) in &children {
                let Some(node) = self.tree.get(*child).filter(|node| node.children.is_none()) else {
                    continue;
                };
                let parent = Attribute::parent(name, number);
                let links = usize::try_from(node.links).unwrap_or(usize::MAX);
                let mut parents = waiting.remove(child).unwrap_or_default();
                parents.push(parent);
                if parents.len() < links {
                    waiting.insert(*child, parents);
                } else {
                    self.store_node(*child, parents)?;
                }
            }
            if let Some(name) = names.get(&directory) {
                above = self.tree.get(holder).map(|holder| Attribute::parent(name, holder.number));
            }
            self.store_directory(directory, number, &children, above.take())?;
        }
        for orphan in self.tree.orphans.values().copied().collect::<Vec<_>>() {
            self.store_node(orphan, Vec::new())?;
        }
        Ok(())
    }

    fn store_directory(
        &mut self,
        at: NodeNo,
        number: u64,
        children: &[(Vec<u8>, NodeNo)],
        parent: Option<Attribute>,
    ) -> Result<(), Error> {
        let names = children.iter().filter_map(|(name, child)| {
            let node = self.tree.get(*child)?;
            let generation = self.item(node).and_then(|item| item.generation).unwrap_or(1);
            Some(Name { name, inode: node.number, generation, kind: node.kind.number() })
        });
        let entries = self.builder.directory(number, names)?;
        let Some(node) = self.tree.get(at) else { return Ok(()) };
        let (meta, mut attributes) = self.described(node)?;
        attributes.extend(parent);
        self.builder.store(number, &meta, 1, Contents::Entries(entries), attributes)
    }

    fn store_node(&mut self, at: NodeNo, parents: Vec<Attribute>) -> Result<(), Error> {
        let Some(node) = self.tree.get_mut(at) else { return Ok(()) };
        let extents = core::mem::take(&mut node.extents);
        let (number, links) = (node.number, node.links);
        let Some(node) = self.tree.get(at) else { return Ok(()) };
        let (meta, mut attributes) = self.described(node)?;
        attributes.extend(parents);
        let contents = match node.kind {
            FileType::Regular => Contents::Extents(extents),
            FileType::Symlink => Contents::Target(self.target(node)?),
            _ => Contents::None,
        };
        self.builder.store(number, &meta, links, contents, attributes)
    }

    fn target(&self, node: &Node) -> Result<Vec<u8>, Error> {
        let text = self.item(node).and_then(|item| item.target.as_deref()).unwrap_or_default();
        let target = expand(text, node.i).and_then(|text| unescape(&text));
        let fits =
            |target: &Vec<u8>| (1..=MAX_SYMLINK).contains(&u64::try_from(target.len()).unwrap_or(u64::MAX));
        let too_long = || format!("a symlink's target has 1 to {MAX_SYMLINK} bytes");
        let target = target.and_then(|target| if fits(&target) { Ok(target) } else { Err(too_long()) });
        target.map_err(|why| self.at(node.item.unwrap_or(0), node.i, why))
    }

    /// What the recipe says of a file besides its data and names.
    fn described(&self, node: &Node) -> Result<(Meta, Vec<Attribute>), Error> {
        let kind = node.kind.mode();
        let default = match node.kind {
            FileType::Directory => 0o755,
            FileType::Symlink => 0o777,
            _ => 0o644,
        };
        let Some(item) = self.item(node) else {
            return Ok((Meta::new(kind | default, self.builder.options.now), Vec::new()));
        };
        let time = item.time.map_or(self.builder.options.now, |time| time.0);
        let or = |one: Option<super::Time>| one.map_or(time, |one| one.0);
        let flags = item.flags.iter().map(|flag| match flag {
            Flag::Immutable => InodeFlags::IMMUTABLE,
            Flag::Append => InodeFlags::APPEND,
            Flag::Dax => InodeFlags::DAX,
            Flag::Nocsum => InodeFlags::NOCSUM,
            Flag::Snapshot => InodeFlags::SNAPSHOT,
        });
        let meta = Meta {
            mode: kind | item.mode.map_or(default, |mode| mode.0),
            uid: item.uid,
            gid: item.gid,
            flags: flags.fold(0, |all, flag| all | flag),
            generation: item.generation.unwrap_or(1),
            size: node.size,
            accessed: or(item.atime),
            modified: or(item.mtime),
            changed: or(item.ctime),
            born: or(item.btime),
            device: item.device.unwrap_or((0, 0)),
        };
        let mut attributes = Vec::new();
        for (name, blob) in &item.xattrs {
            let value = match blob {
                Blob::Bytes(bytes) => bytes.clone(),
                Blob::Random { size, seed } => {
                    Pattern::Random(*seed).bytes((*size).min(u64::from(MAX_VALUE) + 1))
                }
            };
            if !(1..=MAX_NAME).contains(&name.len())
                || name.contains('\0')
                || value.len() > MAX_VALUE as usize
            {
                let why = format!(
                    "attribute {name:?}: a name has 1 to {MAX_NAME} bytes, a value at most {MAX_VALUE}"
                );
                return Err(self.at(node.item.unwrap_or(0), node.i, why));
            }
            attributes.push(Attribute { name: name.clone().into_bytes(), value: Value::Bytes(value) });
        }
        Ok((meta, attributes))
    }

    /// Takes note of the bad ranges, in maximal form.
    fn bad(&mut self) -> Result<(), Error> {
        let geometry = self.builder.geometry();
        let mut ranges: Vec<(u64, u32)> =
            self.recipe.volume.bad.iter().map(|bad| (bad.start, bad.blocks)).collect();
        ranges.sort_unstable();
        let mut before = 0;
        for (start, blocks) in ranges {
            let wrong = || Error::Recipe {
                at: "volume.bad".to_owned(),
                why: format!("{blocks} blocks from {start} on overlap others, or are not within one group"),
            };
            let place = geometry.locate(start).filter(|_| start >= before).ok_or_else(wrong)?;
            before = start.saturating_add(blocks.into());
            if blocks == 0 || u64::from(place.block) + u64::from(blocks) > geometry.group_len(place.group) {
                return Err(wrong());
            }
            let next = Bad { start: place.block.into(), length: blocks.into() };
            let list = &mut self.builder.space.group(place.group).bad;
            match list.last_mut().and_then(|last| Some((last.merged(&next)?, last))) {
                Some((both, last)) => *last = both,
                None => list.push(next),
            }
        }
        Ok(())
    }
}
