//! Trees as a whole: a snapshot of one at one instant, and its removal.
//!
//! Both are one operation that no other runs beside, and so one transaction, however many files there are: new inodes and
//! blocks of names are reached by nothing before, and the trees of the groups change in one sweep each
//! (their nodes change their place when that is more than a journal slot holds).
//!
//! A snapshot shares all written blocks with its source. Space that was allocated and never written, or lies behind the
//! size, reads as zeros and stays with the source.

use crate::core::{Core, Joined, NAME_BLOCKS};
use crate::data::Writer;
use crate::engine::Engine;
use crate::entries::{Change, Entries, Owned};
use crate::error::{Error, Result};
use crate::inodes::{Cell, State};
use crate::map::{clip, overlapping, remap};
use crate::namespace::{Names, Target, check_changeable, check_name, parent_entry, target_of};
use crate::share::blocks_to_share;
use crate::values::Values;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::entry::{AttributeEntry, AttributeKind, DirectoryEntry, value_blocks};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::inode::{FileType, Fork, ForkFormat, Inode, InodeFlags, PAYLOAD_SIZE};
use paxfs_format::journal::LINE_SIZE;
use paxfs_format::superblock::ReadOnlyCompatible;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use zerocopy::FromZeros;

/// Whether what is in a snapshot may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing in it changes until it is removed as a whole.
    ReadOnly,
    /// It is a tree like any other.
    Writable,
}

/// An inode of a tree, with its names there.
struct Member {
    cell: Arc<Cell>,
    /// Index of the directory, and the name. The first inode of the tree has none.
    names: Vec<(usize, Vec<u8>)>,
}

/// All inodes of a tree, each directory before what is in it.
struct Tree {
    members: Vec<Member>,
    by_number: HashMap<u64, usize>,
}

impl Tree {
    /// Walks the tree below a directory. With `whole`, read-only snapshots in it are part of it.
    fn walk(core: &Core, root: u64, whole: bool) -> Result<Self> {
        let first = Member { cell: core.inode(root)?, names: Vec::new() };
        let mut tree = Tree { members: vec![first], by_number: HashMap::from([(root, 0)]) };
        let mut next = 0;
        while let Some(member) = tree.members.get(next) {
            let cell = Arc::clone(&member.cell);
            let state = cell.read();
            if state.inode.file_type() == Some(FileType::Directory) {
                for entry in core.volume.directory(&state.inode) {
                    let entry = entry.map_err(|fault| Error::fork(cell.number, &fault))?;
                    let target = target_of(cell.number, entry.head)?;
                    tree.add(core, target, next, entry.name, whole)?;
                }
            }
            next += 1;
        }
        Ok(tree)
    }

    fn add(&mut self, core: &Core, target: Target, directory: usize, name: &[u8], whole: bool) -> Result<()> {
        let name = (directory, name.to_vec());
        if let Some(member) = self.by_number.get(&target.inode).and_then(|index| self.members.get_mut(*index))
        {
            // A directory has one name: a second one would be a way round in circles.
            if member.cell.read().inode.file_type() == Some(FileType::Directory) {
                return Err(Error::damaged(
                    format_args!("directory inode {}", target.inode),
                    "a second name",
                ));
            }
            member.names.push(name);
            return Ok(());
        }
        let cell = core.inode(target.inode)?;
        target.check(&cell.read())?;
        if !whole && cell.read().inode.flags.get() & InodeFlags::SNAPSHOT != 0 {
            return Ok(());
        }
        self.by_number.insert(target.inode, self.members.len());
        self.members.push(Member { cell, names: vec![name] });
        Ok(())
    }
}

impl Engine {
    /// Makes `name` in `directory` a snapshot of the tree below `source`: all its files as they are at one instant, sharing
    /// their blocks. Returns the inode number of its root. After a crash it is there as a whole or not at all.
    ///
    /// Names that lead out of the tree are not followed; of a file with several names those within the tree are kept.
    /// Read-only snapshots within the tree are left out, unless the source is part of one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] on a volume without reflink; [`Error::NotADirectory`], [`Error::Exists`], [`Error::NoSpace`].
    pub fn snapshot(&self, source: u64, directory: u64, name: &[u8], access: Access) -> Result<u64> {
        check_name(name)?;
        if !self.core.volume.superblock.has(ReadOnlyCompatible::REFLINK) {
            return Err(Error::Invalid("the volume has no reflink (mkfs.paxfs -O rmap,reflink)"));
        }
        // Most of what was stored through views is flushed while stores go on; what was stored meanwhile is less.
        self.core.clean_all()?;
        self.core.clean_all()?;
        self.core.with_space(|| {
            let mut joined = self.core.join_alone()?;
            let (tree, cost) = self.check_snapshot(source, directory, name)?;
            joined.promise(source, cost)?;
            let copy = Copying { core: &self.core, joined: &joined, tree: &tree, access };
            let root = copy.make()?;
            let names = Names { core: &self.core, joined: &joined };
            let parent = self.core.inode(directory)?;
            {
                let (mut parent_state, mut state) = (parent.write(), root.write());
                names.add(&parent, &mut parent_state, name, &root, &mut state)?;
            }
            // This is the instant: what is stored to a page that is still writable is in the snapshot.
            let cut = self.core.cut(|inode| tree.by_number.contains_key(&inode));
            self.core.open_door();
            // Who stores waits no longer than it has to: what is known of the tree goes after that.
            drop(joined);
            // It has a name already, and files whose pages may still be stored to.
            cut.inspect_err(|_| self.core.shut_down())?;
            Ok(root.number)
        })
    }

    fn check_snapshot(&self, source: u64, directory: u64, name: &[u8]) -> Result<(Tree, u64)> {
        let parent = self.core.inode(directory)?;
        let parent = parent.read();
        check_changeable(&parent)?;
        let there = self.core.volume.lookup(&parent.inode, name);
        if there.map_err(|fault| Error::fork(directory, &fault))?.is_some() {
            return Err(Error::Exists);
        }
        let cell = self.core.inode(source)?;
        let state = cell.read();
        crate::namespace::check_directory(&state)?;
        let whole = state.inode.flags.get() & InodeFlags::SNAPSHOT != 0;
        let tree = Tree::walk(&self.core, source, whole)?;
        if self.core.views.has_pins(|inode| tree.by_number.contains_key(&inode)) {
            return Err(Error::Busy);
        }
        let cost = cost(&self.core, &tree)?;
        Ok((tree, cost))
    }

    /// Removes a directory with all that is below it, as one operation; the one way to remove a read-only snapshot. Files
    /// that are open or have names elsewhere live on.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] when something in the tree is immutable; [`Error::Invalid`] when it has more inodes scattered
    /// among others than a journal slot can free. Nothing is removed then. A snapshot's inodes lie together.
    pub fn remove_tree(&self, directory: u64, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.core.with_losses(|| self.remove_tree_once(directory, name))
    }

    fn remove_tree_once(&self, directory: u64, name: &[u8]) -> Result<()> {
        let joined = self.core.join_alone()?;
        let names = Names { core: &self.core, joined: &joined };
        let parent = self.core.inode(directory)?;
        // The walk finds a tree that the directory itself is in: it is locked behind that.
        let target = {
            let parent = parent.read();
            check_changeable(&parent)?;
            names.find(&parent.inode, name)?.ok_or(Error::NotFound)?
        };
        if target.kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        target.check(&names.child(directory, target)?.read())?;
        let tree = Tree::walk(&self.core, target.inode, true)?;
        for member in &tree.members {
            let state = member.cell.read();
            if state.inode.flags.get() & (InodeFlags::IMMUTABLE | InodeFlags::APPEND) != 0 {
                return Err(Error::NotPermitted("a file in the tree is immutable or may only grow"));
            }
            names.check_removable(&member.cell, &state.inode, member.names.len().max(1))?;
        }
        if self.core.logged_by_freeing(&tree)? > self.core.slot_bytes() / 2 {
            return Err(Error::Invalid(
                "the tree is too large to be removed at once: remove what is in it first",
            ));
        }
        let mut released = Vec::new();
        let mut parent_state = parent.write();
        for (index, member) in tree.members.iter().enumerate() {
            let mut state = member.cell.write();
            if index == 0 {
                names.remove(&parent, &mut parent_state, name, &member.cell, &mut state)?;
            }
            remove_member(&names, &tree, member, &mut state, &mut released)?;
        }
        Writer { core: &self.core, joined: &joined, number: target.inode }.release(&released)
    }
}

impl Core {
    /// Bytes that the journal needs to free the inodes of a tree: blocks of inodes that go as a whole need none.
    fn logged_by_freeing(&self, tree: &Tree) -> Result<u64> {
        // A record, and the line that says that the inode is free.
        const EACH: u64 = 2 * LINE_SIZE as u64;
        let mut chunks: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for member in &tree.members {
            if let Some(place) = self.volume.geometry.locate(member.cell.number / INODES_PER_BLOCK) {
                let start = place.block - place.block % CHUNK_BLOCKS;
                *chunks.entry((place.group, start)).or_default() += 1;
            }
        }
        let mut bytes = 0;
        for ((group, start), freed) in chunks {
            let used = self.group(group)?.inodes_in(start);
            bytes += if freed < used { freed * EACH } else { 0 };
        }
        Ok(bytes)
    }
}

/// Takes an inode's names in the tree away, and the inode when it has no other and nobody has it open. What it owned goes
/// to `released`.
fn remove_member(
    names: &Names<'_>,
    tree: &Tree,
    member: &Member,
    state: &mut State,
    released: &mut Vec<Extent>,
) -> Result<()> {
    let gone = u32::try_from(member.names.len()).unwrap_or(u32::MAX);
    let links = if state.inode.file_type() == Some(FileType::Directory) {
        0
    } else {
        state.inode.links.get().saturating_sub(gone)
    };
    if links > 0 || member.cell.is_held() {
        for (directory, name) in &member.names {
            if let Some(directory) = tree.members.get(*directory) {
                names.remove_parent(directory.cell.number, name, &member.cell, state)?;
            }
        }
    }
    state.inode.links = links.into();
    if links == 0 {
        names.unnamed(&member.cell, state, released)?;
    }
    Ok(())
}

/// Blocks for metadata that a snapshot of the tree can need.
fn cost(core: &Core, tree: &Tree) -> Result<u64> {
    // What a damaged inode says may be anything: then there is not space enough.
    let (mut blocks, mut extents) = (0_u64, 0_u64);
    for member in &tree.members {
        let number = member.cell.number;
        let state = member.cell.read();
        let inode = &state.inode;
        let (own, shared) = match inode.file_type() {
            // Half of the entries' own blocks is air at worst, and their index is small.
            Some(FileType::Directory) => (inode.size.get() / (BLOCK_BYTES / 2), 0),
            Some(FileType::Symlink) => (value_blocks(inode.size.get()) as u64, 0),
            _ => (0, inode.data.count.get()),
        };
        blocks = blocks.saturating_add(own).saturating_add(2);
        extents = extents.saturating_add(shared);
        if inode.attributes.format != ForkFormat::INLINE {
            for entry in core.volume.attributes(inode) {
                let entry = entry.map_err(|fault| Error::fork(number, &fault))?;
                let value = value_blocks(entry.head.value_length.get().into()) as u64;
                blocks = blocks.saturating_add(value);
            }
        }
    }
    Ok(blocks.saturating_add(blocks_to_share(usize::try_from(extents).unwrap_or(usize::MAX))))
}

/// The making of a snapshot's inodes.
struct Copying<'o> {
    core: &'o Core,
    joined: &'o Joined<'o>,
    tree: &'o Tree,
    access: Access,
}

impl Copying<'_> {
    /// Copies all inodes; returns the first, which has no name yet. Without space for all of them there are none.
    fn make(&self) -> Result<Arc<Cell>> {
        let mut copies = Vec::new();
        let made = self.new_inodes(&mut copies).and_then(|()| self.fill_all(&copies));
        // Most of them are in blocks that are new, and take no place in the journal: they must not count as if they did, or
        // the next to change something would have to wait for a commit.
        let numbers: HashSet<u64> = copies.iter().map(|copy| copy.number).collect();
        for copy in self.core.inodes.take_dirty_of(|number| numbers.contains(&number)) {
            self.core.seal_inode(&copy, self.joined.context.generation);
        }
        self.core.pages().discount_fresh();
        if made.is_err() {
            let names = Names { core: self.core, joined: self.joined };
            for copy in &copies {
                // What they share was not counted yet.
                names.unnamed(copy, &mut copy.write(), &mut Vec::new())?;
            }
        }
        made
    }

    /// Gives the copies their contents; returns the first.
    fn fill_all(&self, copies: &[Arc<Cell>]) -> Result<Arc<Cell>> {
        let mut shared = Vec::new();
        for (member, copy) in self.tree.members.iter().zip(copies) {
            let source = member.cell.read().inode;
            let mut state = copy.write();
            self.fill(&source, &mut state.inode, copies, &mut shared)?;
            self.copy_attributes(&source, &mut state.inode, &member.names, copies)?;
        }
        let first = copies.first().cloned().ok_or(Error::NotFound)?;
        Writer { core: self.core, joined: self.joined, number: first.number }.share(&shared)?;
        Ok(first)
    }

    /// An inode for each of the tree, in the group of its source, which has no names and no contents: into `copies`.
    fn new_inodes(&self, copies: &mut Vec<Arc<Cell>>) -> Result<()> {
        // Whole chunks: what is in a block that is new needs no place in the journal.
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for member in &self.tree.members {
            *counts.entry(self.core.home(member.cell.number)).or_default() += 1;
        }
        for (group, count) in counts {
            for _ in 0..count / CHUNK_INODES {
                let mut group = self.core.group(group)?;
                // Where there is no room for a chunk the inodes go to other groups.
                if group.metadata_room(NAME_BLOCKS) < NAME_BLOCKS
                    || group.add_chunk(self.core.pages(), &self.joined.context).is_err()
                {
                    break;
                }
            }
        }
        for member in &self.tree.members {
            let source = member.cell.read().inode;
            copies.push(
                self.joined.new_inode(self.core.home(member.cell.number), |number, generation| {
                    self.empty_copy(&source, number, generation, member.names.len())
                })?,
            );
        }
        Ok(())
    }

    fn empty_copy(&self, source: &Inode, number: u64, generation: u32, names: usize) -> Inode {
        let mut inode = *source;
        inode.header.place = number.into();
        inode.header.owner = u64::from(self.core.home(number)).into();
        inode.generation = generation.into();
        inode.payload.0 = [0; PAYLOAD_SIZE];
        (inode.data, inode.attributes) = (Fork::new_zeroed(), Fork::new_zeroed());
        inode.blocks = 0.into();
        // The first has its name elsewhere.
        inode.links = u32::try_from(names.max(1)).unwrap_or(u32::MAX).into();
        (inode.born, inode.changed) = (self.joined.now, self.joined.now);
        let flags = inode.flags.get() & !InodeFlags::SNAPSHOT;
        let flag = if self.access == Access::ReadOnly { InodeFlags::SNAPSHOT } else { 0 };
        inode.flags = (flags | flag).into();
        inode
    }

    /// Gives a copy the contents of its source. Extents that are shared from now on go to `shared`.
    fn fill(
        &self,
        source: &Inode,
        copy: &mut Inode,
        copies: &[Arc<Cell>],
        shared: &mut Vec<Extent>,
    ) -> Result<()> {
        let number = source.header.place.get();
        match source.file_type() {
            Some(FileType::Regular) => {
                let blocks = 0..source.size.get().div_ceil(BLOCK_BYTES);
                let extents: Vec<Extent> = overlapping(self.core, source, &blocks)?
                    .iter()
                    .filter(|extent| !extent.flags.is_unwritten())
                    .filter_map(|extent| clip(extent, &blocks))
                    .collect();
                remap(self.core, self.joined, copy, &blocks, &extents)?;
                shared.extend(extents);
                Ok(())
            }
            Some(FileType::Directory) => {
                copy.size = 0.into();
                let mut all = Vec::new();
                for entry in self.core.volume.directory(source) {
                    let entry = entry.map_err(|fault| Error::fork(number, &fault))?;
                    let target = target_of(number, entry.head)?;
                    // What was left out has no copy.
                    let index = self.tree.by_number.get(&target.inode);
                    if let Some(child) = index.and_then(|index| copies.get(*index)) {
                        let generation = child.read().inode.generation.get();
                        let target = Target { inode: child.number, generation, kind: target.kind };
                        let lowest = entry.head.cookie.get() & !DISAMBIGUATOR;
                        let head = target.head(entry.name).with_cookie(lowest);
                        all.push(Owned { head, name: entry.name.to_vec(), value: Vec::new() });
                    }
                }
                Entries::new(self.core, self.joined).build::<DirectoryEntry>(copy, all)
            }
            Some(FileType::Symlink) => {
                let target = self.core.volume.target(source).map_err(|fault| Error::fork(number, &fault))?;
                Names { core: self.core, joined: self.joined }.store_target(copy, &target)
            }
            _ => Ok(()),
        }
    }

    /// Gives a copy the attributes of its source, and pointers to its own directories.
    fn copy_attributes(
        &self,
        source: &Inode,
        copy: &mut Inode,
        names: &[(usize, Vec<u8>)],
        copies: &[Arc<Cell>],
    ) -> Result<()> {
        let broken = |fault| Error::fork(source.header.place.get(), &fault);
        let mut all = Vec::new();
        for entry in self.core.volume.attributes(source) {
            let entry = entry.map_err(broken)?;
            let value = match entry.head.kind {
                AttributeKind::PARENT => continue,
                AttributeKind::BLOCKS => {
                    let value = self.core.volume.attribute_value(source, &entry).map_err(broken)?;
                    Values::new(self.core, self.joined, copy.header.place.get()).store(&value)?
                }
                _ => entry.value.to_vec(),
            };
            let head = entry.head.with_cookie(entry.head.cookie.get() & !DISAMBIGUATOR);
            all.push(Owned { head, name: entry.name.to_vec(), value });
        }
        for (directory, name) in names {
            if let Some(directory) = copies.get(*directory) {
                all.push(parent_entry(self.core, directory.number, name));
            }
        }
        Entries::new(self.core, self.joined).build::<AttributeEntry>(copy, all)
    }
}
