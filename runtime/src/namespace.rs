//! Names: making, linking and removing files. Renaming is in `rename`, what happens to files without a name in `orphans`.

use crate::core::{Core, Joined, NAME_BLOCKS};
use crate::engine::Engine;
use crate::entries::{Entries, Owned};
use crate::error::{Error, Result};
use crate::fork::set_inline;
use crate::inodes::{Cell, State};
use crate::values::Values;
use paxfs_format::entry::{AttributeEntry, AttributeKind, DirectoryEntry, EntryType, MAX_NAME};
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::inode::{FileType, ForkFormat, Inode, InodeFlags, MAX_SYMLINK, Which};
use paxfs_format::names::Parent;
use paxfs_format::units::Reserved;
use std::sync::Arc;
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
#[derive(Clone, Copy, PartialEq, Eq)]
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

    /// Whether an inode is what its name says.
    pub fn check(self, state: &State) -> Result<()> {
        if Self::of(&state.inode) == Some(self) {
            return Ok(());
        }
        Err(Error::damaged(format_args!("inode {}", self.inode), "not what its name says"))
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

    /// The inode that a name in a directory leads to. It can be locked after the directory.
    pub fn child(&self, directory: u64, target: Target) -> Result<Arc<Cell>> {
        let child = self.core.inode(target.inode)?;
        let above = [directory, self.core.volume.superblock.root.get()].contains(&target.inode);
        if above || child.is_directory != (target.kind == FileType::Directory) {
            let what = format_args!("directory inode {directory}");
            return Err(Error::damaged(what, format_args!("a name of inode {}", target.inode)));
        }
        Ok(child)
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

    pub fn add_parent(
        &self,
        directory: u64,
        name: &[u8],
        child: &Arc<Cell>,
        state: &mut State,
    ) -> Result<()> {
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
    pub fn retarget(
        &self,
        directory: &Arc<Cell>,
        parent: &mut State,
        name: &[u8],
        target: Target,
    ) -> Result<()> {
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

impl Engine {
    /// The inode that a name in a directory leads to.
    pub fn lookup(&self, directory: u64, name: &[u8]) -> Result<u64> {
        if name.len() > MAX_NAME {
            return Err(Error::NameTooLong);
        }
        let _look = self.core.look()?;
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

    /// The directory that a directory is in; the root is in itself.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when it was removed.
    pub fn parent(&self, directory: u64) -> Result<u64> {
        let _look = self.core.look()?;
        let cell = self.core.inode(directory)?;
        let state = cell.read();
        check_directory(&state)?;
        if directory == self.root() {
            return Ok(directory);
        }
        let parent = self.core.volume.parents(&state.inode).next().map(|parent| parent.directory);
        parent.ok_or(Error::NotFound)
    }

    /// The names of a directory with a cookie above `after` (0 for all), at most `limit`, in the order of their cookies.
    pub fn read_directory(&self, directory: u64, after: u64, limit: usize) -> Result<Vec<Name>> {
        let _look = self.core.look()?;
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
        self.core.with_losses(|| self.remove_name_once(directory, name, is_directory))
    }

    fn remove_name_once(&self, directory: u64, name: &[u8], is_directory: bool) -> Result<()> {
        let joined = self.core.join()?;
        // Where directories are in each other, by damage, two that are removed would wait for each other.
        let _one = is_directory.then(|| self.core.renaming());
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
        let child = names.child(directory.number, target)?;
        let mut state = child.write();
        target.check(&state)?;
        check_mutable(&state.inode)?;
        if is_directory && state.inode.data.count.get() > 0 {
            return Err(Error::NotEmpty);
        }
        names.check_removable(&child, &state.inode, 1)?;
        names.remove(&directory, &mut parent, name, &child, &mut state)?;
        names.drop_link(&child, &mut state)
    }

    /// The target of a symlink.
    pub fn read_link(&self, inode: u64) -> Result<Vec<u8>> {
        let _look = self.core.look()?;
        let cell = self.core.inode(inode)?;
        let state = cell.read();
        if state.inode.file_type() != Some(FileType::Symlink) {
            return Err(Error::Invalid("not a symbolic link"));
        }
        self.core.volume.target(&state.inode).map_err(|fault| Error::fork(inode, &fault))
    }
}
