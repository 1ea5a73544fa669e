//! Who stands between a view and the medium: the mappings and protections of its pages.

mod kernel;
mod shim;
mod userfault;

pub(crate) use kernel::Kernel;
pub(crate) use shim::Shim;
pub(crate) use userfault::{Userfault, thaw};

use std::io;

/// What of a view's addresses leads where, and what may be done there. Addresses and lengths are whole pages.
///
/// Which calls exclude each other is for the caller to see to: never two for the same frame at once.
pub(crate) trait Guard: Send + Sync + core::fmt::Debug {
    /// Reserves addresses, aligned to 2 MiB. Every access asks.
    fn reserve(&self, length: usize) -> io::Result<usize>;

    /// Gives addresses back.
    fn release(&self, at: usize, length: usize);

    /// Lets addresses lead to the medium from a byte of it on.
    fn map(&self, at: usize, length: usize, medium: u64, access: Access) -> io::Result<()>;

    /// Lets addresses read as zeros.
    fn zero(&self, at: usize, length: usize) -> io::Result<()>;

    /// Lets addresses lead nowhere: every access asks.
    fn clear(&self, at: usize, length: usize) -> io::Result<()>;

    /// Lets addresses lead nowhere whose access cannot be answered: it fails, or asks by a signal.
    fn refuse(&self, at: usize, length: usize) -> io::Result<()> {
        self.clear(at, length)
    }

    /// Changes whether what is mapped can be stored to. May be called in a signal handler.
    fn protect(&self, at: usize, length: usize, writable: bool) -> io::Result<()>;

    /// Gives a page of a private view a copy of its own that can be stored to. It is mapped, or reads as zeros.
    fn make_private(&self, at: usize) -> io::Result<()>;

    /// Whether the kernel maps 2 MiB at once where it can.
    fn is_huge(&self) -> bool;

    /// Whether nothing less than 2 MiB of the medium can be mapped.
    fn is_coarse(&self) -> bool {
        false
    }

    /// Whether the medium can be mapped so that stores stay with the mapping.
    fn takes_private(&self) -> bool {
        true
    }

    /// Whether protection cuts kernel mappings into pieces.
    fn makes_pieces(&self) -> bool;

    /// Loads bytes. `None` when the access asks.
    fn load(&self, at: usize, to: &mut [u8]) -> Option<()>;

    /// Stores bytes. `None` when the access asks.
    fn store(&self, at: usize, bytes: &[u8]) -> Option<()>;

    /// Whether what is at an address is memory.
    fn is_memory(&self) -> bool;
}

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Loads; stores of this process ask.
    Shared,
    /// Loads; what is stored stays with this mapping.
    Private,
}
