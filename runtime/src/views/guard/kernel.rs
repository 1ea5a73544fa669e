//! Views that are memory: mappings of the device, protected by the kernel. A store to a page that is protected, and any
//! access to one that is not there, is a SIGSEGV.
#![allow(unsafe_code)]

use super::{Access, Guard};
use crate::medium::Window;
use core::ffi::c_void;
use core::ptr;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};
use std::fs::File;
use std::io;

const FRAME: usize = 2 << 20;

/// The kernel's tables.
#[derive(Debug)]
pub(crate) struct Kernel {
    file: File,
    /// Whether the kernel maps 2 MiB at once where it can.
    huge: bool,
    /// Whether nothing less than that can be mapped.
    coarse: bool,
    /// Whether it can be mapped so that stores stay with the mapping.
    private: bool,
    /// Whether the medium's file system keeps what leads to a mapped block durable by itself.
    sync: bool,
}

pub(super) fn pointer(at: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(at)
}

impl Kernel {
    /// Views of an open device.
    pub fn new(file: File, window: &Window<'_>) -> Self {
        let Window { huge, coarse, private, sync, .. } = *window;
        Kernel { file, huge, coarse, private, sync }
    }

    /// What is mapped.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same once more.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Kernel { file: self.file.try_clone()?, ..*self })
    }

    fn reserve_at(at: usize, length: usize, flags: MapFlags) -> io::Result<*mut c_void> {
        let flags = flags | MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: new addresses, or such of a view's as its frame's lock gives to the caller alone: what was mapped there
        // is nobody's reference.
        let there = unsafe { mmap_anonymous(pointer(at), length, ProtFlags::empty(), flags)? };
        Self::keep_from_children(there, length)?;
        Ok(there)
    }

    /// A forked process must not store where nobody would notice.
    pub(super) fn keep_from_children(at: *mut c_void, length: usize) -> io::Result<()> {
        // SAFETY: the addresses were just mapped by the caller; the advice changes nothing for this process.
        unsafe { madvise(at, length, Advice::LinuxDontFork) }.map_err(io::Error::from)
    }

    /// Reads and writes back a byte, so that the page is this process's own.
    fn touch(at: usize) {
        // SAFETY: the page is mapped, and can be stored to; the store changes nothing, and is atomic.
        let byte = unsafe { core::sync::atomic::AtomicU8::from_ptr(pointer(at).cast()) };
        byte.fetch_or(0, core::sync::atomic::Ordering::Relaxed);
    }
}

impl Guard for Kernel {
    fn reserve(&self, length: usize) -> io::Result<usize> {
        // One frame more, so that an aligned part is in it.
        let whole = length + FRAME;
        let start = Self::reserve_at(0, whole, MapFlags::empty())?.expose_provenance();
        let at = start.next_multiple_of(FRAME);
        for (from, end) in [(start, at), (at + length, start + whole)] {
            if from < end {
                // SAFETY: these addresses were just reserved, and nobody else knows of them.
                unsafe { munmap(pointer(from), end - from)? };
            }
        }
        Ok(at)
    }

    fn release(&self, at: usize, length: usize) {
        // SAFETY: the addresses are those of a view that is gone. If the kernel cannot, they stay reserved.
        let _ = unsafe { munmap(pointer(at), length) };
    }

    fn map(&self, at: usize, length: usize, medium: u64, access: Access) -> io::Result<()> {
        let flags = MapFlags::FIXED
            | match access {
                Access::Shared if self.sync => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
                Access::Shared => MapFlags::SHARED,
                Access::Private => MapFlags::PRIVATE,
            };
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        let there = unsafe { mmap(pointer(at), length, ProtFlags::READ, flags, &self.file, medium)? };
        Self::keep_from_children(there, length)
    }

    fn zero(&self, at: usize, length: usize) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        let there = unsafe { mmap_anonymous(pointer(at), length, ProtFlags::READ, flags)? };
        Self::keep_from_children(there, length)
    }

    fn clear(&self, at: usize, length: usize) -> io::Result<()> {
        Self::reserve_at(at, length, MapFlags::FIXED).map(|_| ())
    }

    fn protect(&self, at: usize, length: usize, writable: bool) -> io::Result<()> {
        let flags = if writable { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::READ };
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        unsafe { mprotect(pointer(at), length, flags) }.map_err(io::Error::from)
    }

    fn make_private(&self, at: usize) -> io::Result<()> {
        self.protect(at, 4096, true)?;
        Self::touch(at);
        Ok(())
    }

    fn is_huge(&self) -> bool {
        self.huge
    }

    fn is_coarse(&self) -> bool {
        self.coarse
    }

    fn takes_private(&self) -> bool {
        self.private
    }

    fn makes_pieces(&self) -> bool {
        true
    }

    fn load(&self, at: usize, to: &mut [u8]) -> Option<()> {
        // SAFETY: the caller's view has these addresses; what cannot be loaded faults, and is answered there. Who stores
        // to the same bytes meanwhile may give garbage, as with any memory that is shared.
        unsafe { ptr::copy_nonoverlapping(pointer(at).cast::<u8>(), to.as_mut_ptr(), to.len()) };
        Some(())
    }

    fn store(&self, at: usize, bytes: &[u8]) -> Option<()> {
        // SAFETY: as for `load`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(at).cast::<u8>(), bytes.len()) };
        Some(())
    }

    fn is_memory(&self) -> bool {
        true
    }
}
