//! The handler of SIGSEGV, an access to a page of a view that is not there or a store to one that is protected; and of SIGBUS,
//! an access to a page that the medium cannot give.
//!
//! What can be answered is, and the access runs again. What cannot be is a SIGBUS that this process sends itself, with EIO in
//! `si_errno`, where the kernel's own have 0; by that the handler knows it, and passes it on.
//!
//! That a page of a view has failed which nobody has touched (`BUS_MCEERR_AO`, for who asked for it) is dropped: it comes at any
//! time, and this thread may hold what it takes to deal with it. Who needs the page meets the error.
//!
//! An address in no view goes where it went before ([`Chain`]). Only async-signal-safe work is done: atomics, `mprotect`,
//! `futex`, `clock_gettime`, and the queueing of a SIGBUS.
#![allow(unsafe_code)]

use super::area::Area;
use super::fault::{Fault, Outcome};
use super::{registry, request};
use core::ffi::{c_int, c_void};
use libc::siginfo_t;
use paxfs_format::chain::Chain;
use std::io;

/// The handlers, and those that were there before.
static FAULTS: Chain = Chain::new(libc::SIGSEGV);
static MEDIUM: Chain = Chain::new(libc::SIGBUS);

/// Installs the handler and starts the workers, the first time it is called.
pub(super) fn install() -> io::Result<()> {
    request::start_workers();
    FAULTS.install(on_fault)?;
    MEDIUM.install(on_fault)
}

/// Whether the access was a store.
#[cfg(target_arch = "x86_64")]
fn is_store(_area: &Area, _block: u64, context: *mut c_void) -> bool {
    /// The bit of the page fault's error code.
    const WRITE: i64 = 2;
    #[allow(clippy::cast_sign_loss, reason = "an index")]
    const ERR: usize = libc::REG_ERR as usize;
    // SAFETY: the kernel gives an SA_SIGINFO handler the context of the interrupted code.
    let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    registers.get(ERR).is_some_and(|code| code & WRITE != 0)
}

/// Whether the access was a store. That is not told here; but where a load is allowed it must have been one.
#[cfg(not(target_arch = "x86_64"))]
fn is_store(area: &Area, block: u64, _context: *mut c_void) -> bool {
    area.is_mapped(block)
}

/// The handler.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's `errno`, and the `siginfo_t` of an SA_SIGINFO handler, which for a fault (a
    // positive code) has an address in it.
    let (errno, code, is_answer, address) = unsafe {
        let code = (*info).si_code;
        let address = if code > 0 { (*info).si_addr().addr() } else { 0 };
        (libc::__errno_location(), code, (*info).si_errno != 0, address)
    };
    let from_kernel = code > 0;
    let is_advice = signal == libc::SIGBUS && code == libc::BUS_MCEERR_AO;
    if is_advice && registry::has(address) {
        return;
    }
    let is_fault = from_kernel && !is_answer && !is_advice;
    // SAFETY: `errno` is this thread's own, and the interrupted code may be about to look at it.
    let saved = unsafe { *errno };
    // SAFETY: this thread faulted at the address, so it holds the view that it is in.
    let area = if is_fault { unsafe { registry::find(address) } } else { None };
    let is_dealt = match area {
        Some(area) if signal == libc::SIGBUS => tell(area, address),
        Some(area) => {
            if !resolve(area, address, context) {
                raise_bus_error(address);
            }
            true
        }
        None => false,
    };
    // SAFETY: as above.
    unsafe { *errno = saved };
    if !is_dealt {
        let chain = if signal == libc::SIGBUS { &MEDIUM } else { &FAULTS };
        chain.pass_on(info, context, from_kernel);
    }
}

/// Makes the access possible. Says whether it is.
fn resolve(area: &Area, address: usize, context: *mut c_void) -> bool {
    let Some(block) = area.block_at(address) else { return false };
    let store = is_store(area, block, context);
    let fault = if store { Fault::Store } else { Fault::Load };
    store && area.open_at_once(address) || request::ask(area, block, fault) == Outcome::Done
}

/// Has what the medium failed at dealt with. Says whether the access is worth another try.
fn tell(area: &Area, address: usize) -> bool {
    area.block_at(address).is_some_and(|block| request::ask(area, block, Fault::Medium) == Outcome::Done)
}

/// Sends this thread the SIGBUS that a program gets for a page that cannot be had. It comes when the handler returns.
fn raise_bus_error(address: usize) {
    /// As the kernel lays out a signal with an address.
    #[repr(C)]
    struct Info {
        signal: c_int,
        errno: c_int,
        code: c_int,
        address: usize,
        rest: [u64; 13],
    }
    const _: () = assert!(size_of::<Info>() == size_of::<siginfo_t>());
    let info =
        Info { signal: libc::SIGBUS, errno: libc::EIO, code: libc::BUS_ADRERR, address, rest: [0; 13] };
    // SAFETY: a signal with a complete `siginfo_t` for a thread of this process, which may send itself any.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, &raw const info);
    }
}
