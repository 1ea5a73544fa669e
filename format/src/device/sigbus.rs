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
//! A signal that is none of ours goes where it went before: to the handler that was installed (Rust's own, which
//! looks for stack overflows, is always one), or to its default action. Only async-signal-safe work is done:
//! atomics, and the system calls `mmap`, `sigaction` and `raise`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_int, c_short, c_void, siginfo_t};

use super::registry;
use crate::geometry::BLOCK_SIZE;

/// The action that was installed before ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, the first time it is called.
///
/// # Errors
///
/// None that `sigaction` is documented to give for what is asked here.
pub(super) fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // Known before ours can run, so that the handler never finds it missing.
    PREVIOUS.get_or_init(|| action(None).unwrap_or_else(|_| default_action()));
    let mut ours = default_action();
    ours.sa_sigaction = on_sigbus as *const () as usize;
    // On the alternate stack where a thread has one, as Rust's handler: it may be a stack overflow that is none of
    // ours.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action(Some(&ours))?;
    *installed = true;
    Ok(())
}

/// An action that is the default of the signal, with no flags and an empty mask.
fn default_action() -> libc::sigaction {
    // SAFETY: a `sigaction` is integers, an optional function and a set of bits: all zeros is a valid one, and
    // means SIG_DFL, no flags, no signals.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Asks for the action of SIGBUS, and sets it if one is given. Async-signal-safe.
fn action(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = default_action();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or a valid action, `old` is a place for one.
    if unsafe { libc::sigaction(libc::SIGBUS, new, &raw mut old) } == 0 {
        Ok(old)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The handler.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
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
        pass_on(signal, info, context, from_kernel);
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

/// Does what would have happened without this handler.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, from_kernel: bool) {
    let previous = PREVIOUS.get().copied().unwrap_or_else(default_action);
    match previous.sa_sigaction {
        // The kernel lets no one ignore a fault; a signal sent by a process was to be ignored.
        libc::SIG_IGN if !from_kernel => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The instruction runs again when we return, and then ends the process with the right signal and core.
            let _ = action(Some(&default_action()));
            if !from_kernel {
                // SAFETY: `raise` has no preconditions; the signal waits until we return, as it is blocked here.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: a handler installed with SA_SIGINFO is a function of these three arguments, which are those
            // the kernel made for this signal.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: a handler installed without SA_SIGINFO is a function of the signal number.
            let handler: extern "C" fn(c_int) = unsafe { transmute(handler) };
            handler(signal);
        }
    }
}
