//! Inodes that somebody knows by number and goes on using, with a name or without: what a kernel has looked up, for one.

use crate::core::Core;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::file::Attributes;
use crate::inodes::Cell;
use core::sync::atomic::Ordering;
use std::sync::Arc;

/// An inode that stays what it is, and keeps its number, until this is dropped. Without a name it lives on as an orphan,
/// whatever its type; the next to open the volume frees it if a crash comes first.
///
/// A directory that is removed with all in it ([`Engine::remove_tree`]) is gone all the same.
///
/// It is no open file: a file that is held can be given the flag `dax`, and loses the blocks ahead of its end.
#[derive(Debug)]
pub struct Held {
    core: Arc<Core>,
    cell: Arc<Cell>,
}

impl Engine {
    /// Holds an inode.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] when there is none of that number.
    pub fn hold(&self, inode: u64) -> Result<Held> {
        let _look = self.core.look()?;
        let cell = self.core.inode(inode)?;
        {
            // Who removes the last name asks under this lock whether it is held.
            let state = cell.read();
            if state.inode.is_free() {
                return Err(Error::Stale);
            }
            cell.holds.fetch_add(1, Ordering::AcqRel);
        }
        Ok(Held { core: Arc::clone(&self.core), cell })
    }
}

impl Held {
    /// Its number.
    pub fn inode(&self) -> u64 {
        self.cell.number
    }

    /// What is known of it.
    pub fn attributes(&self) -> Result<Attributes> {
        self.core.follow_touched_of(&self.cell);
        let _look = self.core.look()?;
        Attributes::of(&self.cell.read().inode)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.cell.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            // As when a file is closed.
            let _ = self.core.closed(&self.cell);
        }
    }
}
