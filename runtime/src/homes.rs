//! What the last transactions logged, and whether it is where it belongs.

use crate::core::Core;
use crate::error::Result;
use crate::medium::{Medium, Point};
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::journal::{Body, LINE_SIZE, Write};
use std::collections::BTreeSet;

/// What the last transactions logged. The homes of one are stored by the next, so that one fence serves both.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// By the last, or by the one that is being committed.
    pub body: Body,
    /// Whether that is stored in its homes.
    is_home: bool,
    /// By the one before, which is: it may be lost until somebody has looked whether the medium failed meanwhile.
    before: Body,
}

impl Logged {
    /// Makes room for another transaction. The last is stored in its homes.
    pub fn begin(&mut self) {
        core::mem::swap(&mut self.body, &mut self.before);
        self.body.clear();
        self.is_home = false;
    }
}

impl Core {
    /// Brings what the last transaction logged to where it belongs. This thread's next fence makes it durable, before the
    /// slot is used again. Nobody has read it there: all of it is still in pages.
    ///
    /// # Errors
    ///
    /// A home does not heal that has to be first. All of it stays in the journal.
    pub fn store_homes(&self, logged: &mut Logged) -> Result<()> {
        if logged.is_home {
            return Ok(());
        }
        for write in logged.body.writes() {
            let start = write.block.saturating_mul(BLOCK_BYTES);
            let has_failed = self.medium().has_failed(start..start.saturating_add(BLOCK_BYTES));
            // Lines of a block that is not stored as a whole are of before it was kept in the journal: healing would lose the
            // rest.
            let is_there = match write.lines == u64::MAX {
                true if self.media.take_homeless(write.block) || has_failed => self.heal_home(write.block)?,
                _ => !has_failed,
            };
            if is_there {
                store_lines(self.medium(), &write, Point::Homes);
            }
        }
        logged.is_home = true;
        Ok(())
    }

    /// Brings what was lost of that on the way to blocks that are good again, as [`Core::store_homes`] does.
    pub fn restore_homes(&self, logged: &Logged, blocks: &BTreeSet<u64>) {
        let last = logged.body.writes().filter(|_| logged.is_home);
        for write in logged.before.writes().chain(last).filter(|write| blocks.contains(&write.block)) {
            store_lines(self.medium(), &write, Point::Homes);
        }
    }
}

/// Stores lines of the journal to their homes, and flushes them.
pub(crate) fn store_lines(medium: &dyn Medium, write: &Write<'_>, point: Point) {
    let lines = (0..64).filter(|line| write.lines >> line & 1 != 0);
    for (line, data) in lines.zip(write.data.chunks_exact(LINE_SIZE)) {
        let offset = write.block * BLOCK_BYTES + line * LINE_SIZE as u64;
        medium.store(offset, data);
        medium.flush(offset..offset + LINE_SIZE as u64, point);
    }
}
