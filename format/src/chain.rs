//! A signal handler in front of the one that was there: what it does not take goes where it went before, to that handler
//! (Rust's own, which looks for stack overflows, is always one for faults), or to the default action.
//!
//! Passing on is async-signal-safe: atomics, and the system calls `sigaction` and `raise`.
#![allow(unsafe_code)]

use libc::{c_int, c_void, siginfo_t};
use std::io;
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What handles a signal: its number, what the kernel says of it, and the interrupted code.
pub type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// One signal of the process.
#[derive(Debug)]
pub struct Chain {
    signal: c_int,
    /// The action that was installed before ours.
    previous: OnceLock<libc::sigaction>,
    is_installed: Mutex<bool>,
}

impl Chain {
    /// Nothing is handled yet.
    pub const fn new(signal: c_int) -> Self {
        Chain { signal, previous: OnceLock::new(), is_installed: Mutex::new(false) }
    }

    /// Installs a handler, the first time it is called.
    ///
    /// # Errors
    ///
    /// None that `sigaction` is documented to give for what is asked here.
    pub fn install(&self, handler: Handler) -> io::Result<()> {
        let mut is_installed = self.is_installed.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_installed {
            return Ok(());
        }
        // Known before ours can run, so that the handler never finds it missing.
        self.previous.get_or_init(|| self.action(None).unwrap_or_else(|_| default_action()));
        let mut ours = default_action();
        ours.sa_sigaction = handler as *const () as usize;
        // On the alternate stack where a thread has one, as Rust's handler: it may be a stack overflow that is none of
        // ours.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        self.action(Some(&ours))?;
        *is_installed = true;
        Ok(())
    }

    /// Asks for the action of the signal, and sets it if one is given. Async-signal-safe.
    fn action(&self, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
        let mut old = default_action();
        let new = new.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `new` is null or a valid action, `old` is a place for one.
        if unsafe { libc::sigaction(self.signal, new, &raw mut old) } == 0 {
            Ok(old)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Does what would have happened without the handler, which got `info` and `context`. `from_kernel` says that it is a
    /// fault of this thread, and not a signal that somebody sent.
    pub fn pass_on(&self, info: *mut siginfo_t, context: *mut c_void, from_kernel: bool) {
        let previous = self.previous.get().copied().unwrap_or_else(default_action);
        match previous.sa_sigaction {
            // The kernel lets no one ignore a fault; a signal sent by a process was to be ignored.
            libc::SIG_IGN if !from_kernel => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                // The instruction runs again when we return, and then ends the process with the right signal and core.
                let _ = self.action(Some(&default_action()));
                if !from_kernel {
                    // SAFETY: `raise` has no preconditions; the signal waits until we return, as it is blocked here.
                    unsafe { libc::raise(self.signal) };
                }
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: a handler installed with SA_SIGINFO is a function of these three arguments, which are those
                // the kernel made for this signal.
                let handler: Handler = unsafe { transmute(handler) };
                handler(self.signal, info, context);
            }
            handler => {
                // SAFETY: a handler installed without SA_SIGINFO is a function of the signal number.
                let handler: extern "C" fn(c_int) = unsafe { transmute(handler) };
                handler(self.signal);
            }
        }
    }
}

/// An action that is the default of the signal, with no flags and an empty mask.
fn default_action() -> libc::sigaction {
    // SAFETY: a `sigaction` is integers, an optional function and a set of bits: all zeros is a valid one, and
    // means SIG_DFL, no flags, no signals.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
