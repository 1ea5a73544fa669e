//! A shared mapping of a file or device, as the kernel gives it.
//!
//! One that is to be stored to is asked for as *synchronous* first (`MAP_SYNC`): the kernel then makes durable what leads
//! to a page (its allocation, the file's extent map) before it lets the first store to it go on, so that a store lasts as
//! soon as it has left the processor's caches. Only direct access (DAX) can promise that; for all other files the kernel
//! refuses, and the mapping is an ordinary one, which takes `msync`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use rustix::param::page_size;

/// The pages, until this is dropped.
pub(super) struct Pages {
    base: NonNull<u8>,
    /// In bytes, not 0; the kernel maps whole pages.
    length: usize,
    synchronous: bool,
}

// SAFETY: a mapping belongs to the process, and this gives out its address only.
unsafe impl Send for Pages {}
// SAFETY: as for Send.
unsafe impl Sync for Pages {}

impl Pages {
    /// The first `length` bytes of `file`, shared with everyone who maps it.
    ///
    /// # Errors
    ///
    /// Those of `mmap`.
    pub(super) fn map(file: &File, length: usize, writable: bool) -> io::Result<Self> {
        let map = |access, flags| {
            // SAFETY: a new mapping, where the kernel likes.
            unsafe { mmap(ptr::null_mut(), length, access, flags, file, 0) }
        };
        let (base, synchronous) = if writable {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            match map(access, MapFlags::SHARED_VALIDATE | MapFlags::SYNC) {
                // Kernels before 4.15 do not know the question, and say INVAL.
                Err(Errno::OPNOTSUPP | Errno::INVAL) => (map(access, MapFlags::SHARED)?, false),
                answer => (answer?, true),
            }
        } else {
            (map(ProtFlags::READ, MapFlags::SHARED)?, false)
        };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { base, length, synchronous })
    }

    /// The address of the first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Whether stores last without `msync`, once they have left the caches.
    pub(super) fn synchronous(&self) -> bool {
        self.synchronous
    }

    /// Waits until stores to a range, which must lie within, are on the medium.
    ///
    /// # Errors
    ///
    /// Those of `msync`: mostly that the medium could not be written.
    pub(super) fn sync(&self, start: usize, length: usize) -> io::Result<()> {
        let skew = start % page_size();
        let at = self.base.as_ptr().wrapping_add(start - skew);
        // SAFETY: whole pages of this mapping; writing them back changes nothing that anyone can read.
        unsafe { msync(at.cast(), length + skew, MsyncFlags::SYNC) }.map_err(io::Error::from)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can reach it any more. On a live mapping it cannot fail.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}
