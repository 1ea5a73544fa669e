//! A volume that stands still: nothing is written to it until it is thawed.

use crate::core::{Core, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::inodes::Cell;
use crate::locks::{Rank, take};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Who wants the volume to stand still.
#[derive(Debug, Default)]
pub(crate) struct Freezing {
    holders: Mutex<u32>,
    frozen: AtomicBool,
    /// What waits for the thaw sleeps here.
    waiting: Mutex<()>,
    thawed: Condvar,
    /// Files whose last handle was closed meanwhile.
    closed: Mutex<Vec<Arc<Cell>>>,
}

/// A frozen volume; it is thawed when the last of these is dropped.
///
/// What would write waits: operations, and stores through views to pages that are not writable, which are all. Reads and
/// loads go on. Private views are left alone. A thread that holds this and writes waits for itself.
#[derive(Debug)]
pub struct Frozen<'e> {
    core: &'e Core,
}

impl Engine {
    /// Makes all that was done durable, stores through views included, and lets the volume stand still: what is on the medium
    /// is complete but for the journal's last transaction, which the next to open it replays.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when a part of a view is pinned; those of [`Engine::sync`]. The volume is not frozen then.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        let core = &*self.core;
        core.check_open()?;
        // Most is flushed while stores go on.
        core.clean_all()?;
        let mut holders = take(Rank::Freezing, || lock(&core.freezing.holders));
        if *holders == 0 {
            core.freezing.frozen.store(true, Ordering::SeqCst);
            if let Err(error) = core.stand_still().and_then(|()| core.commit()) {
                core.thaw();
                return Err(error);
            }
        }
        *holders += 1;
        Ok(Frozen { core })
    }

    /// Whether the volume is frozen.
    pub fn is_frozen(&self) -> bool {
        self.core.is_frozen()
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let mut holders = take(Rank::Freezing, || lock(&self.core.freezing.holders));
        *holders -= 1;
        if *holders == 0 {
            self.core.thaw();
        }
    }
}

impl Core {
    /// Waits for who changes something, and takes all pages of views the right to be stored to.
    fn stand_still(&self) -> Result<()> {
        let _gate = self.gate_alone();
        if self.views.has_pins(|_| true) {
            return Err(Error::Busy);
        }
        self.cut(|_| true)
    }

    fn thaw(&self) {
        {
            let _waiting = lock(&self.freezing.waiting);
            self.freezing.frozen.store(false, Ordering::SeqCst);
        }
        self.open_door();
        self.freezing.thawed.notify_all();
        self.views.thaw();
        for cell in core::mem::take(&mut *lock(&self.freezing.closed)) {
            // As when a file is closed: what cannot be freed now is freed by the next to open the volume.
            let _ = self.closed(&cell);
        }
    }

    /// Whether the volume is frozen.
    pub fn is_frozen(&self) -> bool {
        self.freezing.frozen.load(Ordering::SeqCst)
    }

    /// Waits until the volume is not frozen.
    pub fn wait_until_thawed(&self) {
        let mut waiting = lock(&self.freezing.waiting);
        while self.is_frozen() {
            waiting = self.freezing.thawed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Remembers a file whose last handle was closed, if the volume is frozen.
    pub fn closed_while_frozen(&self, cell: &Arc<Cell>) -> bool {
        if self.is_frozen() {
            lock(&self.freezing.closed).push(Arc::clone(cell));
        }
        self.is_frozen()
    }
}
