//! Pages that the kernel takes for failed, by `MADV_HWPOISON` and hwpoison-inject, and the signals that come of it.
//!
//! The kernel does with such a page what it does when the hardware fails at it: it takes the page out of all mappings, tells
//! the file system, and sends SIGBUS. The bytes are there still, and some later access may find them.
#![allow(unsafe_code)]

use crate::target::Result;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::fs::{File, create_dir_all, read_to_string, write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicUsize};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// What came of one signal.
struct Note {
    page: AtomicUsize,
    code: AtomicI32,
    errno: AtomicI32,
}

static NOTES: [Note; 16] =
    [const { Note { page: AtomicUsize::new(0), code: AtomicI32::new(0), errno: AtomicI32::new(0) } }; 16];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Notes each SIGBUS from now on. One that comes again for the same page is an access that cannot be: zeros are put there.
pub fn listen() {
    // SAFETY: all zeros is a valid action; the handler does nothing that is not async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

extern "C" fn on_sigbus(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler what the signal says.
    let (address, code, errno) = unsafe { ((*info).si_addr().addr(), (*info).si_code, (*info).si_errno) };
    let page = address & !(PAGE - 1);
    let is_again = NOTES.iter().any(|note| note.page.load(SeqCst) == page);
    if let Some(note) = NOTES.get(COUNT.fetch_add(1, SeqCst)) {
        note.code.store(code, SeqCst);
        note.errno.store(errno, SeqCst);
        note.page.store(page, SeqCst);
    }
    if is_again {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the page is one of a mapping of this process that cannot be had.
        let _ = unsafe {
            mmap_anonymous(
                ptr::without_provenance_mut(page),
                PAGE,
                access,
                MapFlags::PRIVATE | MapFlags::FIXED,
            )
        };
    }
}

/// How many signals came.
pub fn count() -> usize {
    COUNT.load(SeqCst)
}

/// The last signal about a page, if one came.
pub fn heard_at(page: *const u8) -> Option<String> {
    let note = NOTES.iter().take(count()).rfind(|note| note.page.load(SeqCst) == page.addr())?;
    let text = match (note.code.load(SeqCst), note.errno.load(SeqCst)) {
        (libc::BUS_MCEERR_AR, _) => "SIGBUS, action required",
        (libc::BUS_MCEERR_AO, _) => "SIGBUS, action optional",
        (_, libc::EIO) => "SIGBUS with EIO",
        _ => "SIGBUS",
    };
    Some(text.to_owned())
}

/// Asks for a signal as soon as a mapped page fails, and not when it is used.
pub fn hear_early() -> Result<()> {
    // SAFETY: this sets how the kernel treats this process, and touches no memory.
    let set = unsafe { libc::prctl(libc::PR_MCE_KILL, libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_EARLY, 0, 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// Has the kernel fail the page at an address, as if this thread had met the error there.
pub fn at(address: *mut u8) -> Result<()> {
    // SAFETY: it is for the caller to say which page; who has it mapped is told by the kernel.
    unsafe { madvise(address.cast(), PAGE, Advice::LinuxHwPoison)? };
    Ok(())
}

/// Has the kernel fail a page of the machine's memory, as if a patrol had met the error.
pub fn frame(number: u64) -> Result<()> {
    let point = Path::new("/sys/kernel/debug");
    let inject = point.join("hwpoison/corrupt-pfn");
    if !inject.exists() {
        create_dir_all(point)?;
        rustix::mount::mount("debugfs", point, "debugfs", rustix::mount::MountFlags::empty(), None)?;
    }
    write(&inject, format!("{number:#x}")).map_err(|error| format!("{}: {error}", inject.display()).into())
}

/// The page of the machine's memory that is mapped at an address, if one is.
pub fn frame_at(address: *const u8) -> Result<Option<u64>> {
    const IS_PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, (address.addr() / PAGE * 8) as u64)?;
    let entry = u64::from_le_bytes(entry);
    Ok((entry & IS_PRESENT != 0).then_some(entry & FRAME))
}

/// Puts a block on the kernel's list of a block device's errors: it cannot be read from then on.
pub fn list(device: &Path, block: u64) -> Result<()> {
    let path = list_of(device)?;
    write(&path, format!("{} {}", block * SECTORS, SECTORS))
        .map_err(|error| format!("{path}: {error}").into())
}

/// The kernel's list of a block device's errors.
pub fn listed(device: &Path) -> Result<String> {
    Ok(read_to_string(list_of(device)?)?)
}

/// Sectors of a page.
const SECTORS: u64 = 8;

fn list_of(device: &Path) -> Result<String> {
    Ok(format!("/sys/class/block/{}/badblocks", name_of(device)?))
}

fn name_of(device: &Path) -> Result<&str> {
    device.file_name().and_then(|name| name.to_str()).ok_or_else(|| "the device has no name".into())
}

/// The page of the machine's memory that a device of persistent memory begins with.
pub fn first_frame(device: &Path) -> Result<u64> {
    let path = format!("/sys/class/block/{}/device/resource", name_of(device)?);
    let text = read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let start = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)?;
    Ok(start / PAGE as u64)
}

/// Where this process has all of a device mapped.
pub fn mapping_of(device: &Path) -> Result<*mut u8> {
    let maps = read_to_string("/proc/self/maps")?;
    // ADDRESS-ADDRESS ACCESS OFFSET DEVICE INODE PATH
    let address = maps.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_whole = fields.get(2).is_some_and(|offset| offset.bytes().all(|digit| digit == b'0'));
        let is_it = fields.last().is_some_and(|path| Path::new(path) == device) && is_whole;
        let range = fields.first().and_then(|range| range.split_once('-')).filter(|_| is_it)?;
        usize::from_str_radix(range.0, 16).ok()
    });
    Ok(ptr::with_exposed_provenance_mut(address.ok_or("the device is not mapped")?))
}

/// Loads a byte, whatever comes of it.
pub fn load(address: *const u8) -> u8 {
    // SAFETY: it is mapped; what cannot be had of it, a handler replaces.
    unsafe { address.read_volatile() }
}
