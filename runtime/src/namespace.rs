//! Names: making, linking, renaming and removing files.

use crate::core::{Core, Joined, NAME_BLOCKS};
use crate::data::Writer;
use crate::engine::Engine;
use crate::entries::{Entries, Owned};
use crate::error::{Error, Result};
use crate::fork::set_inline;
use crate::inodes::{Cell, State};
use crate::locks::Ordered;
use crate::map::remap;
use crate::values::Values;
use paxfs_format::entry::{AttributeEntry, AttributeKind, DirectoryEntry, EntryType, MAX_NAME};
use paxfs_format::extent::Extent;
use paxfs_format::geometry::MAX_FILE_BLOCKS;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::inode::{FileType, ForkFormat, Inode, InodeFlags, MAX_SYMLINK, Which};
use paxfs_format::names::Parent;
use paxfs_format::units::Reserved;
use std::sync::{Arc, RwLockWriteGuard};
use zerocopy::FromZeros;

/// What a new file is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New {
    /// Permissions: the lower 12 bits of a mode.
    pub permissions: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

impl Default for New {
    fn default() -> Self {
        New { permissions: 0o644, uid: 0, gid: 0 }
    }
}

/// How a rename deals with what has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rename {
    /// It is replaced.
    #[default]
    Replace,
    /// The rename fails: `RENAME_NOREPLACE`.
    NoReplace,
    /// The two change names: `RENAME_EXCHANGE`.
    Exchange,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Where to go on reading behind this name; never changes while the name lives.
    pub cookie: u64,
    /// The inode.
    pub inode: u64,
    /// What it is.
    pub kind: FileType,
    /// The name.
    pub name: Vec<u8>,
}

pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(Error::NameTooLong);
    }
    match name {
        b"" => Err(Error::NotFound),
        b"." | b".." => Err(Error::Invalid("the name is . or ..")),
        _ if name.contains(&b'/') || name.contains(&0) => {
            Err(Error::Invalid("the name has a slash or a NUL"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_directory(state: &State) -> Result<()> {
    match state.inode.file_type() {
        Some(FileType::Directory) if state.inode.links.get() > 0 => Ok(()),
        Some(FileType::Directory) | None => Err(Error::NotFound),
        _ => Err(Error::NotADirectory),
    }
}

/// Whether the names in a directory may change.
pub(crate) fn check_changeable(state: &State) -> Result<()> {
    check_directory(state)?;
    check_mutable(&state.inode)
}

pub(crate) fn check_mutable(inode: &Inode) -> Result<()> {
    let flags = inode.flags.get();
    if flags & InodeFlags::SNAPSHOT != 0 {
        Err(Error::ReadOnly("the file is part of a read-only snapshot"))
    } else if flags & InodeFlags::IMMUTABLE != 0 {
        Err(Error::NotPermitted("the file is immutable"))
    } else {
        Ok(())
    }
}

/// What a directory entry says.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub inode: u64,
    pub generation: u32,
    pub kind: FileType,
}

impl Target {
    fn of(inode: &Inode) -> Option<Self> {
        let (number, generation) = (inode.header.place.get(), inode.generation.get());
        Some(Target { inode: number, generation, kind: inode.file_type()? })
    }

    pub fn head(&self, name: &[u8]) -> DirectoryEntry {
        DirectoryEntry {
            cookie: 0.into(),
            inode: self.inode.into(),
            generation: self.generation.into(),
            name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
            kind: EntryType(self.kind.number()),
            reserved: Reserved::ZERO,
        }
    }
}

/// Changes names within one operation.
pub(crate) struct Names<'o> {
    pub core: &'o Core,
    pub joined: &'o Joined<'o>,
}

impl Names<'_> {
    fn entries(&self) -> Entries<'_> {
        Entries::new(self.core, self.joined)
    }

    pub fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<Target>> {
        let number = directory.header.place.get();
        let entry = self.core.volume.lookup(directory, name).map_err(|fault| Error::fork(number, &fault))?;
        entry.map(|entry| target_of(number, entry.head)).transpose()
    }

    /// Adds a name to a directory, and the pointer back to the inode.
    pub fn add(
        &self,
        directory: &Arc<Cell>,
        parent: &mut State,
        name: &[u8],
        child: &Arc<Cell>,
        state: &mut State,
    ) -> Result<()> {
        let target = Target::of(&state.inode).ok_or(Error::Stale)?;
        let lowest = self.core.volume.hash.directory(name);
        self.entries().insert(&mut parent.inode, lowest, target.head(name), name, &[])?;
        self.touch(directory, parent);
        self.add_parent(directory.number, name, child, state)
    }

    fn add_parent(&self, directory: u64, name: &[u8], child: &Arc<Cell>, state: &mut State) -> Result<()> {
        let entry = parent_entry(self.core, directory, name);
        let lowest = entry.head.cookie.get();
        self.entries().insert(&mut state.inode, lowest, entry.head, name, &entry.value)?;
        self.joined.changed(child, state);
        Ok(())
    }

    pub fn remove(
        &self,
        directory: &Arc<Cell>,
        parent: &mut State,
        name: &[u8],
        child: &Arc<Cell>,
        state: &mut State,
    ) -> Result<()> {
        let lowest = self.core.volume.hash.directory(name);
        self.entries().remove::<DirectoryEntry>(&mut parent.inode, lowest, |entry| entry.name == name)?;
        self.touch(directory, parent);
        self.remove_parent(directory.number, name, child, state)
    }

    pub fn remove_parent(
        &self,
        directory: u64,
        name: &[u8],
        child: &Arc<Cell>,
        state: &mut State,
    ) -> Result<()> {
        let lowest = self.core.volume.hash.attribute(AttributeKind::PARENT, Some(directory), name);
        self.entries().remove::<AttributeEntry>(&mut state.inode, lowest, |entry| {
            Parent::of(entry) == Some(Parent { directory, name })
        })?;
        self.joined.changed(child, state);
        Ok(())
    }

    /// Makes a name lead to another inode.
    fn retarget(&self, directory: &Arc<Cell>, parent: &mut State, name: &[u8], target: Target) -> Result<()> {
        let lowest = self.core.volume.hash.directory(name);
        self.entries().update::<DirectoryEntry>(
            &mut parent.inode,
            lowest,
            |entry| entry.name == name,
            |old| DirectoryEntry { cookie: old.cookie, ..target.head(name) },
        )?;
        self.touch(directory, parent);
        Ok(())
    }

    fn touch(&self, directory: &Arc<Cell>, parent: &mut State) {
        parent.inode.modified = self.joined.now;
        self.joined.changed(directory, parent);
    }

    /// One name less; the last one makes the inode an orphan, or frees it when nobody has it open.
    fn drop_link(&self, child: &Arc<Cell>, state: &mut State) -> Result<()> {
        let links = state.inode.links.get().saturating_sub(1);
        state.inode.links = links.into();
        self.joined.changed(child, state);
        if links > 0 {
            return Ok(());
        }
        let mut released = Vec::new();
        self.unnamed(child, state, &mut released)?;
        self.writer(child).release(&released)
    }

    fn writer(&self, file: &Cell) -> Writer<'_> {
        Writer { core: self.core, joined: self.joined, number: file.number }
    }

    /// Makes an inode without a name an orphan when somebody has it open, else frees it: what it owned goes to `released`.
    pub fn unnamed(&self, child: &Arc<Cell>, state: &mut State, released: &mut Vec<Extent>) -> Result<()> {
        if child.is_open() {
            let mut group = self.core.group(self.core.home(child.number))?;
            group.set_orphan(child.number, true, &self.joined.context);
            Ok(())
        } else {
            self.free_but_data(child, state, released)
        }
    }

    /// Frees an inode that has no name, with all that it owns.
    pub fn free(&self, child: &Arc<Cell>, state: &mut State) -> Result<()> {
        let mut released = Vec::new();
        self.free_but_data(child, state, &mut released)?;
        self.writer(child).release(&released)
    }

    fn free_but_data(&self, child: &Arc<Cell>, state: &mut State, released: &mut Vec<Extent>) -> Result<()> {
        self.writer(child).forget_growth(state);
        if state.inode.file_type() == Some(FileType::Regular) {
            let removed = remap(self.core, self.joined, &mut state.inode, &(0..MAX_FILE_BLOCKS), &[])?;
            released.extend(removed);
        }
        for which in [Which::Data, Which::Attributes] {
            self.free_fork(&mut state.inode, which)?;
        }
        // All else means nothing in a slot that is not in use, and costs nothing in the journal when it stays.
        state.inode.mode = 0.into();
        state.inode.links = 0.into();
        self.core.inodes.set_dirty(child, state);
        self.core.group(self.core.home(child.number))?.free_inode(child.number, &self.joined.context);
        Ok(())
    }

    /// Gives back the blocks of a fork but for file data.
    fn free_fork(&self, inode: &mut Inode, which: Which) -> Result<()> {
        let number = inode.header.place.get();
        let values = Values::new(self.core, self.joined, number);
        let broken = |fault| Error::fork(number, &fault);
        if which == Which::Attributes {
            for entry in self.core.volume.attributes(inode) {
                let entry = entry.map_err(broken)?;
                if entry.head.kind == AttributeKind::BLOCKS {
                    values.free(entry.value)?;
                }
            }
        }
        let fork = *inode.fork(which);
        match fork.format {
            ForkFormat::BLOCK => self.core.free_page(fork.tree.block.get())?,
            ForkFormat::VALUES => values.free(inode.inline(which).unwrap_or_default())?,
            ForkFormat::TREE
                if inode.file_type() != Some(FileType::Regular) || which == Which::Attributes =>
            {
                let bodies: Vec<u64> = self
                    .core
                    .volume
                    .bodies(inode, which, 0)
                    .filter_map(|body| match body.ok()?.place {
                        paxfs_format::fork::BodyPlace::Block { block, .. } => Some(block),
                        paxfs_format::fork::BodyPlace::Inline => None,
                    })
                    .collect();
                bodies.into_iter().try_for_each(|block| self.core.free_page(block))?;
                crate::fork::edit_tree::<paxfs_format::index::Index>(
                    self.core,
                    self.joined,
                    inode,
                    which,
                    |tree| {
                        use paxfs_format::record::Key;
                        tree.splice(Key::MIN..=Key::MAX, &[])
                    },
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn new_inode(&self, parent: &State, kind: FileType, new: &New) -> Result<Arc<Cell>> {
        let parent_number = parent.inode.header.place.get();
        let home = self.core.home(parent_number);
        // Directories spread over the groups; what is in them stays together.
        let near = if kind == FileType::Directory { self.core.some_group() } else { home };
        let now = self.joined.now;
        // Inherited from the directory.
        let flags = parent.inode.flags.get() & (InodeFlags::DAX | InodeFlags::NOCSUM);
        self.joined.new_inode(near, |number, generation| {
            let owner = self.core.home(number);
            let mut inode = Inode::new_zeroed();
            inode.header =
                Header::new(BlockKind::INODE, number, owner.into(), self.joined.context.generation);
            inode.generation = generation.into();
            inode.mode = (kind.mode() | new.permissions & 0o7777).into();
            inode.uid = new.uid.into();
            inode.gid = new.gid.into();
            inode.links = 1.into();
            inode.flags = flags.into();
            (inode.accessed, inode.modified, inode.changed, inode.born) = (now, now, now, now);
            inode
        })
    }

    /// Makes a file with a name; `prepare` gives it what its type needs.
    fn make(
        &self,
        directory: &Arc<Cell>,
        name: &[u8],
        kind: FileType,
        new: &New,
        prepare: impl FnOnce(&mut Inode) -> Result<()>,
    ) -> Result<Arc<Cell>> {
        check_name(name)?;
        let mut parent = directory.write();
        check_changeable(&parent)?;
        if self.find(&parent.inode, name)?.is_some() {
            return Err(Error::Exists);
        }
        let child = self.new_inode(&parent, kind, new)?;
        let mut state = child.write();
        let made = prepare(&mut state.inode)
            .and_then(|()| self.add(directory, &mut parent, name, &child, &mut state));
        if let Err(error) = made {
            self.free(&child, &mut state)?;
            return Err(error);
        }
        drop(state);
        Ok(child)
    }

    pub fn store_target(&self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        inode.size = (target.len() as u64).into();
        if set_inline(inode, Which::Data, target) {
            inode.data.format = ForkFormat::INLINE;
            return Ok(());
        }
        let number = inode.header.place.get();
        let pointers = Values::new(self.core, self.joined, number).store(target)?;
        inode.data.format = ForkFormat::VALUES;
        if set_inline(inode, Which::Data, &pointers) { Ok(()) } else { Err(Error::NoSpace) }
    }
}

/// The entry of a pointer to a directory, with the lowest cookie it can have.
pub(crate) fn parent_entry(core: &Core, directory: u64, name: &[u8]) -> Owned<AttributeEntry> {
    let head = AttributeEntry {
        cookie: core.volume.hash.attribute(AttributeKind::PARENT, Some(directory), name).into(),
        value_length: 8.into(),
        kind: AttributeKind::PARENT,
        name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
        reserved: Reserved::ZERO,
    };
    Owned { head, name: name.to_vec(), value: directory.to_le_bytes().to_vec() }
}

pub(crate) fn target_of(directory: u64, head: &DirectoryEntry) -> Result<Target> {
    let kind = FileType::from_number(head.kind.0);
    let kind =
        kind.ok_or_else(|| Error::damaged(format_args!("directory inode {directory}"), "an entry's type"))?;
    Ok(Target { inode: head.inode.get(), generation: head.generation.get(), kind })
}

impl Core {
    /// Frees what a crash left without a name.
    pub fn free_orphans(&self) -> Result<()> {
        for number in self.volume.geometry.group_numbers() {
            let joined = self.join()?;
            let orphans = self.group(number)?.orphans(&joined.context);
            drop(joined);
            for orphan in orphans {
                let joined = self.join()?;
                let cell = self.inode(orphan)?;
                let mut state = cell.write();
                Names { core: self, joined: &joined }.free(&cell, &mut state)?;
            }
        }
        Ok(())
    }

    /// Frees an orphan that was closed, or takes back what the file was given ahead of its end.
    pub(crate) fn closed(&self, cell: &Arc<Cell>) -> Result<()> {
        let (links, ahead) = {
            let state = cell.read();
            (state.inode.links.get(), state.ahead)
        };
        if links > 0 && ahead == 0 {
            return Ok(());
        }
        let joined = self.join()?;
        let mut state = cell.write();
        if cell.is_open() || state.inode.is_free() {
            Ok(())
        } else if state.inode.links.get() > 0 {
            self.take_back_ahead_of(&joined, cell, &mut state)
        } else {
            Names { core: self, joined: &joined }.free(cell, &mut state)
        }
    }

    /// Takes back what all files were given ahead of their ends.
    pub(crate) fn take_back_ahead(&self) -> Result<()> {
        for number in self.inodes.ahead() {
            let joined = self.join()?;
            let cell = self.inode(number)?;
            let mut state = cell.write();
            self.take_back_ahead_of(&joined, &cell, &mut state)?;
        }
        Ok(())
    }

    fn take_back_ahead_of(&self, joined: &Joined<'_>, cell: &Arc<Cell>, state: &mut State) -> Result<()> {
        let writer = Writer { core: self, joined, number: cell.number };
        if writer.take_back_ahead(state)? {
            self.inodes.set_dirty(cell, state);
        }
        Ok(())
    }
}

impl Engine {
    /// The inode that a name in a directory leads to.
    pub fn lookup(&self, directory: u64, name: &[u8]) -> Result<u64> {
        let _look = self.core.look();
        let cell = self.core.inode(directory)?;
        let state = cell.read();
        check_directory(&state)?;
        let found =
            self.core.volume.lookup(&state.inode, name).map_err(|fault| Error::fork(directory, &fault))?;
        found.map(|entry| entry.head.inode.get()).ok_or(Error::NotFound)
    }

    /// The inode that a path from the root leads to; symlinks are not followed.
    pub fn resolve(&self, path: &[u8]) -> Result<u64> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self.root(), |directory, name| self.lookup(directory, name))
    }

    /// The names of a directory with a cookie above `after` (0 for all), at most `limit`, in the order of their cookies.
    pub fn read_directory(&self, directory: u64, after: u64, limit: usize) -> Result<Vec<Name>> {
        let _look = self.core.look();
        let cell = self.core.inode(directory)?;
        let state = cell.read();
        check_directory(&state)?;
        let mut names: Vec<Name> = Vec::new();
        for body in self.core.volume.bodies(&state.inode, Which::Data, after) {
            let body = body.map_err(|fault| Error::fork(directory, &fault))?;
            if names.len() >= limit {
                break;
            }
            for entry in body.entries::<DirectoryEntry>() {
                let entry = entry.map_err(|fault| Error::fork(directory, &fault.into()))?;
                let cookie = entry.head.cookie.get();
                if entry.head.inode.get() != 0 && (cookie > after || after == 0) {
                    let target = target_of(directory, entry.head)?;
                    names.push(Name {
                        cookie,
                        inode: target.inode,
                        kind: target.kind,
                        name: entry.name.to_vec(),
                    });
                }
            }
        }
        names.sort_by_key(|name| name.cookie);
        names.truncate(limit);
        Ok(names)
    }

    fn make(
        &self,
        directory: u64,
        name: &[u8],
        kind: FileType,
        new: &New,
        prepare: impl FnOnce(&Names<'_>, &mut Inode) -> Result<()>,
    ) -> Result<u64> {
        let joined = self.core.join_adding(directory, NAME_BLOCKS)?;
        let names = Names { core: &self.core, joined: &joined };
        let directory = self.core.inode(directory)?;
        names.make(&directory, name, kind, new, |inode| prepare(&names, inode)).map(|child| child.number)
    }

    /// Makes an empty regular file.
    pub fn create(&self, directory: u64, name: &[u8], new: &New) -> Result<u64> {
        self.make(directory, name, FileType::Regular, new, |_, _| Ok(()))
    }

    /// Makes a directory.
    pub fn make_directory(&self, directory: u64, name: &[u8], new: &New) -> Result<u64> {
        self.make(directory, name, FileType::Directory, new, |_, _| Ok(()))
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, directory: u64, name: &[u8], target: &[u8], new: &New) -> Result<u64> {
        match target.len() as u64 {
            0 => return Err(Error::NotFound),
            length if length > MAX_SYMLINK => return Err(Error::NameTooLong),
            _ => {}
        }
        if target.contains(&0) {
            return Err(Error::Invalid("the target has a NUL"));
        }
        self.make(directory, name, FileType::Symlink, new, |names, inode| names.store_target(inode, target))
    }

    /// Makes a FIFO, a socket, or a device with these numbers.
    pub fn make_node(
        &self,
        directory: u64,
        name: &[u8],
        kind: FileType,
        device: (u32, u32),
        new: &New,
    ) -> Result<u64> {
        let is_device = matches!(kind, FileType::Character | FileType::Block);
        if !is_device && !matches!(kind, FileType::Fifo | FileType::Socket) {
            return Err(Error::Invalid("only FIFOs, sockets and devices are made so"));
        }
        self.make(directory, name, kind, new, |_, inode| {
            if is_device {
                (inode.major, inode.minor) = (device.0.into(), device.1.into());
            }
            Ok(())
        })
    }

    /// Gives a file another name.
    pub fn link(&self, inode: u64, directory: u64, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let joined = self.core.join_adding(directory, NAME_BLOCKS)?;
        let names = Names { core: &self.core, joined: &joined };
        let directory = self.core.inode(directory)?;
        let mut parent = directory.write();
        check_changeable(&parent)?;
        if names.find(&parent.inode, name)?.is_some() {
            return Err(Error::Exists);
        }
        let child = self.core.inode(inode)?;
        // One that may be above the other is not even locked.
        if child.is_directory {
            return Err(Error::NotPermitted("a directory has one name"));
        }
        let mut state = child.write();
        match state.inode.file_type() {
            None => return Err(Error::NotFound),
            // An orphan stays one.
            Some(_) if state.inode.links.get() == 0 => return Err(Error::NotFound),
            Some(_) => {}
        }
        check_mutable(&state.inode)?;
        let links = state.inode.links.get().checked_add(1).ok_or(Error::TooManyLinks)?;
        names.add(&directory, &mut parent, name, &child, &mut state)?;
        state.inode.links = links.into();
        Ok(())
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, directory: u64, name: &[u8]) -> Result<()> {
        self.remove_name(directory, name, false)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, directory: u64, name: &[u8]) -> Result<()> {
        self.remove_name(directory, name, true)
    }

    fn remove_name(&self, directory: u64, name: &[u8], is_directory: bool) -> Result<()> {
        check_name(name)?;
        let joined = self.core.join()?;
        let names = Names { core: &self.core, joined: &joined };
        let directory = self.core.inode(directory)?;
        let mut parent = directory.write();
        check_changeable(&parent)?;
        let target = names.find(&parent.inode, name)?.ok_or(Error::NotFound)?;
        match (target.kind == FileType::Directory, is_directory) {
            (true, false) => return Err(Error::IsADirectory),
            (false, true) => return Err(Error::NotADirectory),
            _ => {}
        }
        let child = self.core.inode(target.inode)?;
        let mut state = child.write();
        check_mutable(&state.inode)?;
        if is_directory && state.inode.data.count.get() > 0 {
            return Err(Error::NotEmpty);
        }
        names.remove(&directory, &mut parent, name, &child, &mut state)?;
        names.drop_link(&child, &mut state)
    }

    /// The target of a symlink.
    pub fn read_link(&self, inode: u64) -> Result<Vec<u8>> {
        let _look = self.core.look();
        let cell = self.core.inode(inode)?;
        let state = cell.read();
        if state.inode.file_type() != Some(FileType::Symlink) {
            return Err(Error::Invalid("not a symbolic link"));
        }
        self.core.volume.target(&state.inode).map_err(|fault| Error::fork(inode, &fault))
    }

    /// Gives a file another name, in the same or another directory, atomically.
    pub fn rename(&self, from: u64, old: &[u8], to: u64, new: &[u8], how: Rename) -> Result<()> {
        check_name(old)?;
        check_name(new)?;
        let joined = self.core.join_adding(to, NAME_BLOCKS)?;
        // Of renames between directories there is one at a time, so that nobody moves what another one looks at.
        let _one = self.core.renaming();
        let names = Names { core: &self.core, joined: &joined };
        names.rename(from, old, to, new, how)
    }
}

impl Names<'_> {
    /// A directory and those above it. For a rename: nobody else moves directories, and whoever holds one waits for those
    /// in it, so this is asked before any is locked.
    fn upwards(&self, directory: u64) -> Result<Vec<u64>> {
        let root = self.core.volume.superblock.root.get();
        let mut upwards = vec![directory];
        let mut at = directory;
        while at != root {
            let cell = self.core.inode(at)?;
            let state = cell.read();
            // A directory that was removed has none.
            let Some(parent) = self.core.volume.parents(&state.inode).next() else { break };
            at = parent.directory;
            upwards.push(at);
            if upwards.len() > usize::from(u16::MAX) {
                return Err(Error::damaged(
                    format_args!("directory inode {directory}"),
                    "it is its own parent",
                ));
            }
        }
        Ok(upwards)
    }

    fn rename(&self, from: u64, old: &[u8], to: u64, new: &[u8], how: Rename) -> Result<()> {
        let (source, target) = (self.core.inode(from)?, self.core.inode(to)?);
        let (above_source, above_target) =
            if from == to { Default::default() } else { (self.upwards(from)?, self.upwards(to)?) };
        // The one above first.
        let target_first =
            from != to && (above_source.contains(&to) || (!above_target.contains(&from) && to < from));
        let mut guards = if from == to {
            (source.write(), None)
        } else if target_first {
            let second = target.write();
            (source.write(), Some(second))
        } else {
            let first = source.write();
            (first, Some(target.write()))
        };
        check_changeable(&guards.0)?;
        if let Some(second) = &guards.1 {
            check_changeable(second)?;
        }
        let moved = self.find(&guards.0.inode, old)?.ok_or(Error::NotFound)?;
        let there = match &guards.1 {
            Some(second) => self.find(&second.inode, new)?,
            None => self.find(&guards.0.inode, new)?,
        };
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(Error::Exists),
            (Rename::Exchange, None) => return Err(Error::NotFound),
            (_, Some(there)) if there.inode == moved.inode => return Ok(()),
            _ => {}
        }
        let replaces_above = there.is_some_and(|there| above_source.contains(&there.inode));
        if above_target.contains(&moved.inode) || (how == Rename::Exchange && replaces_above) {
            return Err(Error::Invalid("a directory cannot be moved below itself"));
        }
        // It is not empty; and whoever holds it may wait for what is locked here.
        if replaces_above {
            let is_directory = moved.kind == FileType::Directory;
            return Err(if is_directory { Error::NotEmpty } else { Error::IsADirectory });
        }
        let child = self.core.inode(moved.inode)?;
        let other = there.map(|there| self.core.inode(there.inode)).transpose()?;
        let (mut state, mut other_state) = lock_two(&child, other.as_ref());
        check_mutable(&state.inode)?;
        if let Some(other) = &other_state {
            check_mutable(&other.inode)?;
        }
        let same = guards.1.is_none();
        match (how, there, &other, &mut other_state) {
            (Rename::Exchange, Some(there), Some(other), Some(other_state)) => {
                self.retarget(&source, &mut guards.0, old, there)?;
                let second = if same { &mut guards.0 } else { guards.1.as_mut().unwrap_or(&mut guards.0) };
                self.retarget(&target, second, new, moved)?;
                self.remove_parent(from, old, &child, &mut state)?;
                self.remove_parent(to, new, other, other_state)?;
                self.add_parent(to, new, &child, &mut state)?;
                self.add_parent(from, old, other, other_state)?;
            }
            (_, Some(there), Some(other), Some(other_state)) => {
                match (moved.kind == FileType::Directory, there.kind == FileType::Directory) {
                    (true, false) => return Err(Error::NotADirectory),
                    (false, true) => return Err(Error::IsADirectory),
                    (true, true) if other_state.inode.data.count.get() > 0 => return Err(Error::NotEmpty),
                    _ => {}
                }
                let second = if same { &mut guards.0 } else { guards.1.as_mut().unwrap_or(&mut guards.0) };
                self.retarget(&target, second, new, moved)?;
                self.remove_parent(to, new, other, other_state)?;
                self.add_parent(to, new, &child, &mut state)?;
                self.remove(&source, &mut guards.0, old, &child, &mut state)?;
                self.drop_link(other, other_state)?;
            }
            _ => {
                let second = if same { &mut guards.0 } else { guards.1.as_mut().unwrap_or(&mut guards.0) };
                self.add(&target, second, new, &child, &mut state)?;
                self.remove(&source, &mut guards.0, old, &child, &mut state)?;
            }
        }
        Ok(())
    }
}

type Guard<'c> = Ordered<RwLockWriteGuard<'c, State>>;

/// Locks one or two inodes, neither of which is in the other: a directory first, else the lower number.
pub(crate) fn lock_two<'c>(one: &'c Cell, other: Option<&'c Arc<Cell>>) -> (Guard<'c>, Option<Guard<'c>>) {
    let order = |cell: &Cell| (!cell.is_directory, cell.number);
    match other {
        Some(other) if order(other) < order(one) => {
            let second = other.write();
            (one.write(), Some(second))
        }
        other => {
            let first = one.write();
            (first, other.map(|other| other.write()))
        }
    }
}
