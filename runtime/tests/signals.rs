#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! What a program gets that reaches for what a view cannot give: each in a process of its own, which is this test once more.

mod common;

use common::create;
use common::media::{Media, Volume};
use core::ffi::{c_int, c_void};
use paxfs_runtime::engine::Dax;
use paxfs_runtime::file::Open;
use paxfs_runtime::views::{Sharing, View};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};

const BLOCK: u64 = 4096;
const WHICH: &str = "PAXFS_SIGNALS_CHILD";
/// What a child exits with when its own handler was called as it should be.
const HANDLED: i32 = 42;

fn at(view: &View, offset: usize) -> *mut u8 {
    view.address().unwrap().as_ptr().wrapping_add(offset)
}

fn load(from: *const u8) -> u8 {
    // SAFETY: that it faults is what is tested.
    unsafe { from.read_volatile() }
}

fn store(to: *mut u8, byte: u8) {
    // SAFETY: as for `load`.
    unsafe { to.write_volatile(byte) };
}

/// The address that the handler is to be called with.
static EXPECTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn handler(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let expected = EXPECTED.load(std::sync::atomic::Ordering::SeqCst);
    // SAFETY: the kernel gives a handler what the signal says.
    unsafe { libc::_exit(if (*info).si_addr().addr() == expected { HANDLED } else { 1 }) };
}

/// Puts memory of the program's own there, so that it goes on.
extern "C" fn replace(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the page is one of a view that cannot be had.
    unsafe {
        let page = (*info).si_addr().map_addr(|at| at & !4095);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
    }
}

fn install(signal: c_int, handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    // SAFETY: a handler that only leaves.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, core::ptr::null_mut());
    }
}

/// Sends this thread a SIGBUS as the kernel does.
fn send(code: c_int, address: *const u8) {
    let mut info = [0_u64; 16];
    info[0] = u64::from(libc::SIGBUS.cast_unsigned());
    info[1] = u64::from(code.cast_unsigned());
    info[2] = address.addr() as u64;
    // SAFETY: a complete `siginfo_t`, for this thread of this process.
    let sent = unsafe {
        let (process, thread) = (libc::getpid(), libc::gettid());
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, info.as_ptr())
    };
    assert_eq!(sent, 0);
}

/// A mapped file, and a clone of it that nobody has open, lose a block.
fn the_medium_failed() {
    install(libc::SIGBUS, replace);
    let volume = Volume::new(*Media::all().last().unwrap(), 8 << 20);
    let (inode, last) = volume.fill();
    let (block, device) = last[2];
    let engine = volume.open(Dax::Always);
    let told = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&told);
    engine.on_media_error(Box::new(move |error| {
        all.lock().unwrap().push((error.inode, error.offset, error.length, error.address));
    }));
    let file = engine.open_file(inode, Open::WRITE).unwrap();
    let view = file.map(block * BLOCK..(block + 1) * BLOCK, Sharing::Shared).unwrap();
    assert_eq!(load(at(&view, 99)), 7);
    // Room for another.
    file.punch_hole(0..1 << 20).unwrap();
    engine.sync().unwrap();
    let clone = create(&engine, "clone");
    clone.clone_range(0, &file, 0, 0).unwrap();
    let clone = clone.inode();
    engine.sync().unwrap();
    // A file that was cut is a device that fails at its end.
    let image = std::fs::File::options().write(true).open(volume.path()).unwrap();
    image.set_len(device * BLOCK).unwrap();

    // The handler put another page there.
    assert_eq!(load(at(&view, 99)), 0);
    let fault = engine.last_fault().unwrap();
    assert_eq!((fault.inode, fault.offset, fault.errno), (inode, block * BLOCK, libc::EIO), "{fault:?}");
    let address = Some(at(&view, 0).addr());
    let expected = [(inode, block * BLOCK, BLOCK, address), (clone, block * BLOCK, BLOCK, None)];
    assert_eq!(*told.lock().unwrap(), expected);
    let lost = device * BLOCK..(device + 1) * BLOCK;
    assert_eq!(engine.bad_ranges().unwrap(), std::slice::from_ref(&lost));
    std::process::exit(HANDLED);
}

/// What a child does. It is not to come back.
#[test]
#[ignore = "a part of the other tests"]
fn child() {
    let Ok(which) = std::env::var(WHICH) else { return };
    // No core, whatever the machine's limit is.
    rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: None },
    )
    .unwrap();
    match which.as_str() {
        "handler of segv before" => install(libc::SIGSEGV, handler),
        "the medium failed" => the_medium_failed(),
        _ => {}
    }
    let volume = Volume::new(*Media::all().last().unwrap(), 8 << 20);
    let engine = volume.open(Dax::Always);
    let file = create(&engine, "a");
    file.write_at(0, &[1; 5000]).unwrap();
    let view = file.map(0..16 * BLOCK, Sharing::Shared).unwrap();
    assert_eq!(load(at(&view, 4999)), 1);
    assert_eq!(load(at(&view, 8191)), 0);
    match which.as_str() {
        "past the end" => {
            let _ = load(at(&view, 8192));
        }
        "store past the end" => store(at(&view, 8192), 1),
        "handler" => {
            EXPECTED.store(at(&view, 12_345).addr(), std::sync::atomic::Ordering::SeqCst);
            install(libc::SIGBUS, handler);
            store(at(&view, 12_345), 1);
        }
        "read only" => store(at(&file.map(0..BLOCK, Sharing::ReadOnly).unwrap(), 7), 1),
        "failed unused" => {
            send(libc::BUS_MCEERR_AO, at(&view, 0));
            assert_eq!(load(at(&view, 4999)), 1);
            store(at(&view, 5), 2);
            assert_eq!((load(at(&view, 5)), engine.bad_ranges().unwrap()), (2, vec![]));
            std::process::exit(HANDLED);
        }
        "full" => {
            let hole = create(&engine, "hole");
            hole.truncate(BLOCK).unwrap();
            let view = hole.map(0..BLOCK, Sharing::Shared).unwrap();
            let fill = create(&engine, "fill");
            let mut size = 1 << 20;
            while size >= 4096 {
                if fill.append(&vec![1; size]).is_err() {
                    size /= 2;
                }
            }
            install(libc::SIGBUS, replace);
            store(at(&view, 9), 1);
            let fault = engine.last_fault().unwrap();
            assert_eq!((fault.inode, fault.offset, fault.store), (hole.inode(), 0, true));
            assert_eq!(fault.errno, libc::ENOSPC, "{fault:?}");
            std::process::exit(HANDLED);
        }
        "closed" => {
            store(at(&view, 0), 1);
            engine.close().unwrap();
            store(at(&view, 0), 2);
        }
        "foreign" => {
            let _ = load(core::ptr::without_provenance(8));
        }
        "handler of segv before" => {
            EXPECTED.store(8, std::sync::atomic::Ordering::SeqCst);
            store(at(&view, 10), 1);
            let _ = load(core::ptr::without_provenance(8));
        }
        "fork" => {
            store(at(&view, 0), 1);
            // SAFETY: the child does nothing but load and leave.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: the default action ends this process.
                unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
                load(at(&view, 0));
                // SAFETY: it leaves.
                unsafe { libc::_exit(1) };
            }
            let mut status = 0;
            // SAFETY: a place for the status.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            store(at(&view, 0), 2);
            let died = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV;
            std::process::exit(if died { HANDLED } else { 1 });
        }
        _ => panic!("{which}"),
    }
    println!("still here");
    std::process::exit(3);
}

fn run(which: &str) -> ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(WHICH, which)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{which}: {}\n{text}", output.status);
    output.status
}

#[test]
fn what_is_past_the_end_is_a_bus_error() {
    assert_eq!(run("past the end").signal(), Some(libc::SIGBUS));
    assert_eq!(run("store past the end").signal(), Some(libc::SIGBUS));
    assert_eq!(run("handler").code(), Some(HANDLED));
}

#[test]
fn what_cannot_be_is_a_bus_error() {
    assert_eq!(run("read only").signal(), Some(libc::SIGBUS));
    assert_eq!(run("full").code(), Some(HANDLED));
    assert_eq!(run("closed").signal(), Some(libc::SIGBUS));
}

#[test]
fn what_the_medium_fails_at_is_dealt_with_and_then_a_bus_error() {
    assert_eq!(run("the medium failed").code(), Some(HANDLED));
}

/// Who asked for it is told of pages before they are used; that comes at any time.
#[test]
fn a_page_that_failed_unused_is_nobodys_business() {
    assert_eq!(run("failed unused").code(), Some(HANDLED));
}

#[test]
fn what_is_in_no_view_goes_where_it_went_before() {
    assert_eq!(run("foreign").signal(), Some(libc::SIGSEGV));
    assert_eq!(run("handler of segv before").code(), Some(HANDLED));
}

#[test]
fn a_child_has_no_view() {
    assert_eq!(run("fork").code(), Some(HANDLED));
}
