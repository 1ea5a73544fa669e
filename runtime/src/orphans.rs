//! Orphans: what an inode owned is given back when no name leads to it and nobody has it open or holds it.

use crate::core::{Core, Joined};
use crate::data::Writer;
use crate::error::{Error, Result};
use crate::fork::edit_tree;
use crate::inodes::{Cell, State};
use crate::map::remap;
use crate::namespace::Names;
use crate::values::Values;
use paxfs_format::entry::AttributeKind;
use paxfs_format::extent::Extent;
use paxfs_format::fork::BodyPlace;
use paxfs_format::geometry::MAX_FILE_BLOCKS;
use paxfs_format::index::Index;
use paxfs_format::inode::{FileType, ForkFormat, Inode, Which};
use paxfs_format::record::Key;
use std::sync::Arc;

impl Names<'_> {
    /// One name less; the last one makes the inode an orphan, or frees it when nobody has it open.
    pub fn drop_link(&self, child: &Arc<Cell>, state: &mut State) -> Result<()> {
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

    /// Whether so many names of an inode can be taken away, and all that it owns if there are no others: what is lost in part
    /// cannot be let go of as a whole.
    pub fn check_removable(&self, child: &Cell, inode: &Inode, names: usize) -> Result<()> {
        self.check_pointers(inode)?;
        let (volume, number) = (&self.core.volume, child.number);
        let is_inline = matches!(inode.data.format, ForkFormat::EMPTY | ForkFormat::INLINE);
        let others = usize::try_from(inode.links.get()).unwrap_or(usize::MAX) > names;
        if others || child.is_held() || is_inline {
            return Ok(());
        }
        match inode.file_type() {
            Some(FileType::Regular) => volume.extents(inode).try_for_each(|extent| extent.map(drop)),
            Some(FileType::Symlink) => volume.target(inode).map(drop),
            _ => volume.bodies(inode, Which::Data, 0).try_for_each(|body| body.map(drop)),
        }
        .map_err(|fault| Error::fork(number, &fault))
    }

    /// Whether the pointers of an inode to its directories can be changed.
    pub fn check_pointers(&self, inode: &Inode) -> Result<()> {
        let number = inode.header.place.get();
        if matches!(inode.attributes.format, ForkFormat::EMPTY | ForkFormat::INLINE) {
            return Ok(());
        }
        let mut bodies = self.core.volume.bodies(inode, Which::Attributes, 0);
        bodies.try_for_each(|body| body.map(drop)).map_err(|fault| Error::fork(number, &fault))
    }

    fn writer(&self, file: &Cell) -> Writer<'_> {
        Writer { core: self.core, joined: self.joined, number: file.number }
    }

    /// Makes an inode without a name an orphan when somebody has it open or holds it, else frees it: what it owned goes to `released`.
    pub fn unnamed(&self, child: &Arc<Cell>, state: &mut State, released: &mut Vec<Extent>) -> Result<()> {
        // What a directory that is removed with all in it still says leads nowhere.
        let has_entries = child.is_directory && state.inode.data.count.get() > 0;
        if child.is_held() && !has_entries {
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
            ForkFormat::BLOCK => {
                let block = fork.tree.block.get();
                self.core.volume.body_block(inode, which.entry_kind(), block, 0).map_err(broken)?;
                self.core.free_page(block)?;
            }
            ForkFormat::VALUES => values.free(inode.inline(which).unwrap_or_default())?,
            ForkFormat::TREE
                if inode.file_type() != Some(FileType::Regular) || which == Which::Attributes =>
            {
                let bodies: Vec<u64> = self
                    .core
                    .volume
                    .bodies(inode, which, 0)
                    .filter_map(|body| match body.ok()?.place {
                        BodyPlace::Block { block, .. } => Some(block),
                        BodyPlace::Inline => None,
                    })
                    .collect();
                bodies.into_iter().try_for_each(|block| self.core.free_page(block))?;
                edit_tree::<Index>(self.core, self.joined, inode, which, |tree| {
                    tree.splice(Key::MIN..=Key::MAX, &[])
                })?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Core {
    /// Frees what a crash left without a name.
    pub fn free_orphans(&self) -> Result<()> {
        for number in self.volume.geometry.group_numbers() {
            let joined = self.join()?;
            let orphans = self.group(number)?.orphans(&joined.context);
            drop(joined);
            for orphan in orphans {
                match self.with_losses(|| self.free_orphan(orphan)) {
                    // What it owned is not known: it stays.
                    Err(error) if error.is_loss() => {}
                    freed => freed?,
                }
            }
        }
        Ok(())
    }

    fn free_orphan(&self, orphan: u64) -> Result<()> {
        let joined = self.join()?;
        let cell = self.inode(orphan)?;
        let mut state = cell.write();
        if state.inode.is_free() || state.inode.links.get() > 0 {
            return Err(Error::damaged(
                format_args!("inode {orphan}"),
                "an orphan that has names, or was freed",
            ));
        }
        let names = Names { core: self, joined: &joined };
        names.check_removable(&cell, &state.inode, 0)?;
        names.free(&cell, &mut state)
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
        if self.closed_while_frozen(cell) {
            return Ok(());
        }
        let joined = self.join()?;
        let mut state = cell.write();
        if cell.is_open() || state.inode.is_free() {
            Ok(())
        } else if state.inode.links.get() > 0 {
            self.take_back_ahead_of(&joined, cell, &mut state)
        } else if cell.is_held() {
            Ok(())
        } else {
            let names = Names { core: self, joined: &joined };
            names.check_removable(cell, &state.inode, 0)?;
            names.free(cell, &mut state)
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
