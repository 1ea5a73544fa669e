//! Open files, by the handle that the kernel knows them by.

use core::sync::atomic::{AtomicU64, Ordering};
use fuser::{Errno, FileHandle};
use paxfs_runtime::file::File;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::fault::{Answer, Fault};

/// An open file.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file.
    pub file: File,
    /// Whether it was opened to be written to.
    pub writable: bool,
}

/// All open files.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    files: RwLock<HashMap<u64, Arc<Opened>>>,
    next: AtomicU64,
}

impl Handles {
    /// Gives an open file a handle.
    pub fn add(&self, opened: Opened) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(handle, Arc::new(opened));
        FileHandle(handle)
    }

    /// The file of a handle.
    pub fn get(&self, handle: FileHandle) -> Answer<Arc<Opened>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&handle.0).cloned().ok_or(Fault(Errno::EBADF))
    }

    /// Takes a handle away. The file is closed when no request uses it any more.
    pub fn remove(&self, handle: FileHandle) -> Option<Arc<Opened>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.0)
    }

    /// Takes all away.
    pub fn clear(&self) {
        let files = core::mem::take(&mut *self.files.write().unwrap_or_else(PoisonError::into_inner));
        drop(files);
    }
}
