//! Views whose faults the kernel tells a thread of: `userfaultfd` with write protection, for memory (tmpfs, memfd). Unlike
//! with signals a system call that reaches for a page waits as well, and protection cuts no kernel mappings.
//!
//! The descriptor and the threads that answer are the process's, made when they are first needed.
#![allow(unsafe_code)]

use super::kernel::{Kernel, pointer};
use super::{Access, Guard};
use crate::core::lock;
use crate::views::area::Area;
use crate::views::fault::{Fault, Outcome};
use crate::views::registry;
use core::ffi::{c_int, c_ulong};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Mutex, OnceLock};

/// Threads that answer.
const WORKERS: usize = 4;
const PAGE: u64 = 4096;

/// As the kernel has them: start, length, and what a call takes and gives.
#[repr(C)]
struct Range {
    start: u64,
    length: u64,
    mode: u64,
    answers: u64,
}

/// What the kernel says of a fault.
#[repr(C)]
struct Message {
    event: u64,
    flags: u64,
    address: u64,
    rest: u64,
}

const API: c_ulong = 0xc018_aa3f;
const REGISTER: c_ulong = 0xc020_aa00;
const WAKE: c_ulong = 0x8010_aa02;
const PROTECT: c_ulong = 0xc018_aa06;
const NEW: c_ulong = 0xaa00;

const API_VERSION: u64 = 0xaa;
/// Write protection, that of files in memory and of pages that are not there, the address in full.
const FEATURES: u64 = 1 | 1 << 12 | 1 << 13 | 1 << 11;
const MISSING: u64 = 1;
const WRITE_PROTECT: u64 = 2;
/// A fault that was a store, or one to a page that is protected.
const STORE: u64 = 1 | 2;
/// The number of the event, in the first byte.
const PAGE_FAULT: u64 = 0x12;

/// The process's descriptor, and the addresses of faults that wait for a thaw.
#[derive(Debug)]
struct Faults {
    file: File,
    frozen: Mutex<Vec<u64>>,
}

/// The kernel's tables, with faults told of by userfaultfd.
#[derive(Debug)]
pub(crate) struct Userfault {
    kernel: Kernel,
    faults: &'static Faults,
}

impl Faults {
    /// The process's, if the kernel allows it.
    fn get() -> Option<&'static Self> {
        static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();
        let faults =
            FAULTS.get_or_init(|| Some(Faults { file: open()?, frozen: Mutex::default() })).as_ref()?;
        static STARTED: OnceLock<bool> = OnceLock::new();
        let started = STARTED.get_or_init(|| {
            (0..WORKERS).all(|number| {
                let name = format!("paxfs userfault {number}");
                std::thread::Builder::new().name(name).spawn(move || faults.work()).is_ok()
            })
        });
        started.then_some(faults)
    }

    fn call<T>(&self, request: c_ulong, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: each request is called with the structure that the kernel has for it.
            let done = unsafe { libc::ioctl(self.file.as_raw_fd(), request, core::ptr::from_mut(argument)) };
            let error = io::Error::last_os_error();
            match done {
                0 => return Ok(()),
                // The mappings are being changed by another thread.
                _ if error.raw_os_error() == Some(libc::EAGAIN) => std::thread::yield_now(),
                _ => return Err(error),
            }
        }
    }

    fn register(&self, at: usize, length: usize, mode: u64) -> io::Result<()> {
        self.call(REGISTER, &mut Range { start: at as u64, length: length as u64, mode, answers: 0 })
    }

    fn protect(&self, at: usize, length: usize, is_protected: bool) -> io::Result<()> {
        let mode = u64::from(is_protected);
        self.call(PROTECT, &mut Range { start: at as u64, length: length as u64, mode, answers: 0 })
    }

    fn wake(&self, address: u64) {
        let start = address - address % PAGE;
        // Who is not there any more need not be woken.
        let _ = self.call(WAKE, &mut Range { start, length: PAGE, mode: 0, answers: 0 });
    }

    fn work(&self) {
        let mut bytes = [0; size_of::<Message>()];
        while (&self.file).read_exact(&mut bytes).is_ok() {
            // SAFETY: all bits are valid for a structure of integers, and the kernel gives whole ones.
            let message: Message = unsafe { core::mem::transmute(bytes) };
            if message.event & 0xff == PAGE_FAULT {
                self.answer(&message);
            }
        }
    }

    fn answer(&self, message: &Message) {
        let address = usize::try_from(message.address).unwrap_or(0);
        // The thread goes on when its page is there: before this one is done with the view.
        let area = registry::hold(address);
        let store = message.flags & STORE != 0;
        match area.as_ref().map_or(Outcome::Done, |area| Self::resolve(area, address, store)) {
            Outcome::Done => {}
            // In a system call the page would be asked for again and again. Without a watch that fails, and a thread comes
            // back by a signal, which can be answered.
            Outcome::Failed => {
                if let Some((area, block)) =
                    area.as_ref().and_then(|area| Some((area, area.block_at(address)?)))
                {
                    // What the kernel cannot take away is asked for again.
                    let _ = area.refuse(block);
                }
            }
            Outcome::Frozen => {
                lock(&self.frozen).push(message.address);
                if area.is_some_and(|area| area.is_thawed()) {
                    self.thaw();
                }
                return;
            }
        }
        self.wake(message.address);
    }

    fn resolve(area: &Area, address: usize, store: bool) -> Outcome {
        if store && area.open_at_once(address) {
            return Outcome::Done;
        }
        let fault = if store { Fault::Store } else { Fault::Load };
        area.block_at(address).map_or(Outcome::Failed, |block| area.answer(block, fault))
    }

    fn thaw(&self) {
        let frozen = core::mem::take(&mut *lock(&self.frozen));
        // They fault again.
        frozen.into_iter().for_each(|address| self.wake(address));
    }
}

/// Lets faults that waited for a thaw be answered.
pub(crate) fn thaw() {
    if let Some(faults) = Faults::get() {
        faults.thaw();
    }
}

/// A descriptor with all that is needed.
fn open() -> Option<File> {
    const USER_MODE_ONLY: c_int = 1;
    let device = || {
        let device = File::options().read(true).write(true).open("/dev/userfaultfd").ok()?;
        // SAFETY: a request with a number.
        Some(i64::from(unsafe { libc::ioctl(device.as_raw_fd(), NEW, libc::O_CLOEXEC) }))
    };
    // SAFETY: a system call with a number.
    let call = |flags: c_int| unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | flags) };
    let ways = [&|| Some(call(0)), &device as &dyn Fn() -> Option<i64>, &|| Some(call(USER_MODE_ONLY))];
    let fd =
        ways.iter().find_map(|way| way().and_then(|fd| c_int::try_from(fd).ok()).filter(|fd| *fd >= 0))?;
    // SAFETY: a descriptor that was just made, and is nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    let faults = Faults { file, frozen: Mutex::default() };
    faults.call(API, &mut [API_VERSION, FEATURES, 0]).ok()?;
    Some(faults.file)
}

impl Userfault {
    /// Views of an open device; `None` where the kernel does not allow it, or is too old.
    pub fn new(kernel: Kernel) -> Option<Self> {
        Some(Userfault { kernel, faults: Faults::get()? })
    }

    /// Makes fresh mappings ask: stores, if something can be loaded, else all.
    fn watch(&self, at: usize, length: usize, mode: u64) -> io::Result<()> {
        self.faults.register(at, length, mode)?;
        if mode == WRITE_PROTECT {
            self.faults.protect(at, length, true)?;
        }
        // From here on it asks by this way, and not by a signal.
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        unsafe { mprotect(pointer(at), length, flags) }.map_err(io::Error::from)
    }

    fn anonymous(at: usize, length: usize, access: ProtFlags) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        let there = unsafe { mmap_anonymous(pointer(at), length, access, flags)? };
        Kernel::keep_from_children(there, length)
    }
}

impl Guard for Userfault {
    fn reserve(&self, length: usize) -> io::Result<usize> {
        let at = self.kernel.reserve(length)?;
        self.clear(at, length).inspect_err(|_| self.kernel.release(at, length))?;
        Ok(at)
    }

    fn release(&self, at: usize, length: usize) {
        self.kernel.release(at, length);
    }

    fn map(&self, at: usize, length: usize, medium: u64, _access: Access) -> io::Result<()> {
        let flags = MapFlags::FIXED | MapFlags::SHARED;
        let file = self.kernel.file();
        // SAFETY: addresses of a view, which its frame's lock gives to the caller alone.
        let there = unsafe { mmap(pointer(at), length, ProtFlags::READ, flags, file, medium)? };
        Kernel::keep_from_children(there, length)?;
        self.watch(at, length, WRITE_PROTECT)
    }

    fn zero(&self, at: usize, length: usize) -> io::Result<()> {
        Self::anonymous(at, length, ProtFlags::READ)?;
        self.watch(at, length, WRITE_PROTECT)
    }

    fn clear(&self, at: usize, length: usize) -> io::Result<()> {
        Self::anonymous(at, length, ProtFlags::empty())?;
        self.watch(at, length, MISSING)
    }

    fn refuse(&self, at: usize, length: usize) -> io::Result<()> {
        Self::anonymous(at, length, ProtFlags::empty())
    }

    fn protect(&self, at: usize, length: usize, writable: bool) -> io::Result<()> {
        self.faults.protect(at, length, !writable)
    }

    fn make_private(&self, at: usize) -> io::Result<()> {
        self.kernel.make_private(at)
    }

    fn is_huge(&self) -> bool {
        false
    }

    fn makes_pieces(&self) -> bool {
        false
    }

    fn load(&self, at: usize, to: &mut [u8]) -> Option<()> {
        self.kernel.load(at, to)
    }

    fn store(&self, at: usize, bytes: &[u8]) -> Option<()> {
        self.kernel.store(at, bytes)
    }

    fn is_memory(&self) -> bool {
        true
    }
}
