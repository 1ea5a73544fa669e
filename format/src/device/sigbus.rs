//! The handler of SIGBUS: an error of one block of a mapped device stays an error of that block.
//!
//! The kernel sends SIGBUS to a thread that reaches for a mapped page it cannot have: the file was made smaller,
//! the file system under it is full, the medium has an error there. The handler notes the block, puts zeros in the
//! place of the page, and lets the instruction run again; callers ask [`Device::faulted`](super::Device::faulted).
//!
//! Where more than a page is mapped at once (devdax in units of 2 MiB), the kernel takes away all of it and names its first
//! address; which block failed is then not known, and found out by [`Device::narrow`](super::Device::narrow). That a page has
//! failed which nobody has touched (`BUS_MCEERR_AO`, for who asked for it) is dropped: who needs it meets the error, and a
//! signal that comes at any time finds nobody who holds the mapping.
//!
//! A signal that is none of ours goes where it went before ([`Chain`]). Only async-signal-safe work is done: atomics, and the
//! system calls `mmap`, `sigaction` and `raise`.
#![allow(unsafe_code)]

use std::io;

use libc::{c_int, c_short, c_void, siginfo_t};

use super::registry;
use crate::chain::Chain;
use crate::geometry::BLOCK_SIZE;

/// The handler of SIGBUS, and the one that was there before.
static CHAIN: Chain = Chain::new(libc::SIGBUS);

/// Installs the handler, the first time it is called.
///
/// # Errors
///
/// As for [`Chain::install`].
pub(super) fn install() -> io::Result<()> {
    CHAIN.install(on_sigbus)
}

/// The handler.
extern "C" fn on_sigbus(_signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's `errno`, and the `siginfo_t` that the kernel gives to an SA_SIGINFO
    // handler, which for a SIGBUS of its own (a positive code) has an address in it.
    let (errno, code, address) = unsafe {
        let code = (*info).si_code;
        (libc::__errno_location(), code, if code > 0 { (*info).si_addr().addr() } else { 0 })
    };
    let from_kernel = code > 0;
    // SAFETY: `errno` is this thread's own and the interrupted code may be about to look at it.
    let saved = unsafe { *errno };
    let absorbed = match code {
        libc::BUS_MCEERR_AO => registry::is_watched(address),
        // SAFETY: `info` is a signal from the kernel with that code. The kernel says that this thread faulted at that
        // address; safe code reaches a watched mapping only through borrows of it.
        libc::BUS_MCEERR_AR => unsafe { registry::absorb(address, is_one_block(info)) },
        // SAFETY: as above.
        _ => from_kernel && unsafe { registry::absorb(address, true) },
    };
    // SAFETY: as above.
    unsafe { *errno = saved };
    if !absorbed {
        CHAIN.pass_on(info, context, from_kernel);
    }
}

/// Whether a machine check is about no more than a block.
///
/// # Safety
///
/// `info` is that of a signal that the kernel sent with BUS_MCEERR_AR.
unsafe fn is_one_block(info: *const siginfo_t) -> bool {
    /// The beginning of what the kernel lays out for such a signal; libc has no name for the last of it.
    #[repr(C)]
    struct Info {
        signal: c_int,
        errno: c_int,
        code: c_int,
        address: usize,
        /// How many low bits of the address say nothing.
        vague_bits: c_short,
    }
    // SAFETY: it is laid out so, as the caller promises, and a `siginfo_t` is larger.
    let vague_bits = unsafe { (*info.cast::<Info>()).vague_bits };
    u32::try_from(vague_bits).is_ok_and(|bits| bits <= BLOCK_SIZE.trailing_zeros())
}
