//! Renaming: a file gets another name, replaces what has it, or changes names with it.

use crate::core::NAME_BLOCKS;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inodes::{Cell, State};
use crate::locks::Ordered;
use crate::namespace::{Names, Rename, check_changeable, check_directory, check_mutable, check_name};
use paxfs_format::inode::FileType;
use std::sync::{Arc, RwLockWriteGuard};

impl Engine {
    /// Gives a file another name, in the same or another directory, atomically.
    pub fn rename(&self, from: u64, old: &[u8], to: u64, new: &[u8], how: Rename) -> Result<()> {
        check_name(old)?;
        check_name(new)?;
        self.core.with_losses(|| {
            let joined = self.core.join_adding(to, NAME_BLOCKS)?;
            // Of renames between directories there is one at a time, so that nobody moves what another one looks at.
            let _one = self.core.renaming();
            let names = Names { core: &self.core, joined: &joined };
            names.rename(from, old, to, new, how)
        })
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
        // What is no directory is not locked beside one.
        for cell in [&source, &target] {
            check_directory(&cell.read())?;
        }
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
        let there = self.find(&guards.1.as_ref().unwrap_or(&guards.0).inode, new)?;
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
        let child = self.child(from, moved)?;
        let other = there.map(|there| self.child(to, there)).transpose()?;
        let (mut state, mut other_state) = lock_two(&child, other.as_ref());
        moved.check(&state)?;
        check_mutable(&state.inode)?;
        self.check_pointers(&state.inode)?;
        if let Some(((cell, other), there)) = other.as_ref().zip(other_state.as_ref()).zip(there) {
            there.check(other)?;
            check_mutable(&other.inode)?;
            self.check_removable(cell, &other.inode, 1)?;
        }
        match (how, there, &other, &mut other_state) {
            (Rename::Exchange, Some(there), Some(other), Some(other_state)) => {
                self.retarget(&source, &mut guards.0, old, there)?;
                let second = guards.1.as_mut().unwrap_or(&mut guards.0);
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
                let second = guards.1.as_mut().unwrap_or(&mut guards.0);
                self.retarget(&target, second, new, moved)?;
                self.remove_parent(to, new, other, other_state)?;
                self.add_parent(to, new, &child, &mut state)?;
                self.remove(&source, &mut guards.0, old, &child, &mut state)?;
                self.drop_link(other, other_state)?;
            }
            _ => {
                let second = guards.1.as_mut().unwrap_or(&mut guards.0);
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
