//! What the first store to a page of a view costs, beside the bare mechanism: a signal handler that makes the page writable
//! and nothing else, and a thread that does the same by userfaultfd.
//!
//! ```text
//! faults IMAGE
//! ```
//!
//! The image holds an empty volume of 1 GiB or more; the bare mechanism works on another file beside it. Each line is the
//! median of single stores, one to each page of a file in turn; for a copy or zeros, what is bare is that and the copy.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use paxfs_format::device::{Access, Device};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Mapped, Medium, Point};
use paxfs_runtime::namespace::New;
use paxfs_runtime::views::{Mechanism, Sharing, View};
use std::path::Path;
use std::process::ExitCode;
use std::ptr;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

fn main() -> ExitCode {
    let Some(image) = std::env::args().nth(1) else {
        eprintln!("usage: faults IMAGE");
        return ExitCode::from(2);
    };
    match run(image.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &Path) -> Result<()> {
    let beside = image.with_extension("bare");
    let bare = bare(&beside);
    let _ = std::fs::remove_file(&beside);
    let bare = bare?;
    println!("{:<44} {:>10} {:>10} {:>7}", "first store", "paxfs", "bare", "ratio");
    let options = Options { dax: Dax::Always, ..Options::default() };
    match (bare.huge, bare.userfault) {
        (Some(huge), _) => rows(&open(image, options)?, HUGE, huge, &bare)?,
        (None, userfault) => {
            let signal = Options { mechanism: Some(Mechanism::Signal), ..options };
            rows(&open(image, signal)?, PAGE, bare.signal, &bare)?;
            match userfault {
                Some(userfault) => rows(&open(image, options)?, PAGE, userfault, &bare)?,
                None => println!("(userfaultfd: not allowed here, skipped)"),
            }
        }
    }
    let engine = Engine::open(image, options)?;
    speed(&engine)?;
    engine.close()?;
    Ok(())
}

/// Opens the volume. The medium's pages are there: the host's own first touch of one costs more than all else.
fn open(image: &Path, options: Options) -> Result<Engine> {
    let engine = Engine::open(image, options)?;
    let fill = create(&engine, "fill")?;
    let bytes = vec![1; 32 << 20];
    while engine.statistics()?.available > (64 << 20) / PAGE as u64 {
        fill.append(&bytes)?;
    }
    drop(fill);
    engine.unlink(engine.root(), b"fill")?;
    engine.sync()?;
    Ok(engine)
}

/// First stores to pages, or to runs of 2 MiB, beside the bare mechanism.
fn rows(engine: &Engine, unit: usize, mechanism: Duration, bare: &Bare) -> Result<()> {
    let line = |what: &str, ours: Duration, bare: Duration| {
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!("{what:<44} {:>7.2} us {:>7.2} us {ratio:>6.2}x", us(ours), us(bare));
    };
    let (bytes, name, copy, zeros) = match unit {
        PAGE => (16 << 20, "4 KiB", bare.copy, bare.zeros),
        _ => (128 << 20, "2 MiB", bare.copy_huge, bare.zeros_huge),
    };
    let name = format!("{:?}, {name}", engine.mechanism());
    let file = create(engine, "file")?;
    file.write_at(0, &vec![1; bytes])?;
    let view = file.map(0..bytes as u64, Sharing::Shared)?;
    stores(&view, unit)?;
    view.sync(0..bytes as u64)?;
    line(&format!("{name}, clean"), stores(&view, unit)?, mechanism);
    let hole = create(engine, "hole")?;
    hole.truncate(bytes as u64)?;
    let holes = hole.map(0..bytes as u64, Sharing::Shared)?;
    line(&format!("{name}, hole"), stores(&holes, unit)?, mechanism + zeros);
    let other = create(engine, "copy")?;
    let share = || -> Result<()> {
        other.truncate(0)?;
        engine.sync()?;
        other.clone_range(0, &file, 0, 0)?;
        Ok(engine.sync()?)
    };
    share()?;
    line(&format!("{name}, shared: the other moves"), stores(&view, unit)?, mechanism + copy);
    share()?;
    let both = other.map(0..PAGE as u64, Sharing::Shared)?;
    line(&format!("{name}, shared: the writer moves"), stores(&view, unit)?, mechanism + copy);
    drop((view, both, holes));
    ["file", "hole", "copy"].iter().try_for_each(|name| engine.unlink(engine.root(), name.as_bytes()))?;
    Ok(())
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn create(engine: &Engine, name: &str) -> Result<File> {
    Ok(engine.open_file(engine.create(engine.root(), name.as_bytes(), &New::default())?, Open::WRITE)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn timed(count: usize, mut each: impl FnMut(usize)) -> Duration {
    let time = |index| {
        let begin = Instant::now();
        each(index);
        begin.elapsed()
    };
    median((0..count).map(time).collect())
}

/// A store to each page of a view, in turn.
fn stores(view: &View, unit: usize) -> Result<Duration> {
    let base = view.address().ok_or("the image cannot be mapped")?.as_ptr();
    Ok(timed(usize::try_from(view.len())? / unit, |index| {
        // SAFETY: the view is there, and as long.
        unsafe { base.add(index * unit).write_volatile(7) };
    }))
}

/// Loads and stores to pages that are mapped already, beside plain memory.
fn speed(engine: &Engine) -> Result<()> {
    const BYTES: usize = 256 << 20;
    let file = create(engine, "speed")?;
    file.write_at(0, &vec![1; BYTES])?;
    let view = file.map(0..BYTES as u64, Sharing::Shared)?;
    let there = view.address().ok_or("the image cannot be mapped")?.as_ptr();
    let mut plain = vec![1_u8; BYTES];
    let load = |from: *const u8| {
        timed(7, |_| {
            // SAFETY: as many bytes are there.
            let sum = unsafe { std::slice::from_raw_parts(from.cast::<u64>(), BYTES / 8) };
            std::hint::black_box(sum.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        })
    };
    let store = |to: *mut u8| {
        timed(7, |round| {
            // SAFETY: as many bytes are there, and nobody else uses them.
            unsafe { ptr::write_bytes(to, u8::try_from(round).unwrap_or(0), BYTES) };
        })
    };
    println!("{:<44} {:>10} {:>10} {:>7}", "256 MiB, mapped", "paxfs", "plain", "ratio");
    for (what, ours, bare) in
        [("loads", load(there), load(plain.as_ptr())), ("stores", store(there), store(plain.as_mut_ptr()))]
    {
        let ratio = bare.as_secs_f64() / ours.as_secs_f64();
        println!("{what:<44} {:>7.1} ms {:>7.1} ms {ratio:>6.2}x", us(ours) / 1e3, us(bare) / 1e3);
    }
    Ok(())
}

/// What the mechanisms cost by themselves.
struct Bare {
    signal: Duration,
    huge: Option<Duration>,
    userfault: Option<Duration>,
    copy: Duration,
    zeros: Duration,
    copy_huge: Duration,
    zeros_huge: Duration,
}

/// Bytes that the handler makes writable.
static UNIT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(PAGE);

/// Makes the page writable.
extern "C" fn allow(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let unit = UNIT.load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: the kernel gives a handler the address of the fault, which is in the mapping below.
    unsafe {
        let at = (*info).si_addr().map_addr(|at| at - at % unit);
        libc::mprotect(at, unit, libc::PROT_READ | libc::PROT_WRITE);
    }
}

fn bare(path: &Path) -> Result<Bare> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    const BYTES: usize = 128 << 20;
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(BYTES as u64)?;
    let is_huge = file.metadata()?.blksize() >= HUGE as u64;
    // SAFETY: a new mapping, aligned within a reservation; a handler that is put back.
    unsafe {
        let reserved = libc::mmap(
            ptr::null_mut(),
            BYTES + HUGE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        let at = reserved.map_addr(|at| at.next_multiple_of(HUGE));
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let base = libc::mmap(at, BYTES, access, flags, file.as_raw_fd(), 0).cast::<u8>();
        ptr::write_bytes(base, 1, BYTES);
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = allow as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut before);
        let store = |unit: usize, bytes: usize| {
            UNIT.store(unit, std::sync::atomic::Ordering::Relaxed);
            libc::mprotect(base.cast(), bytes, libc::PROT_READ);
            timed(bytes / unit, |index| base.add(index * unit).write_volatile(2))
        };
        let huge = is_huge.then(|| store(HUGE, BYTES));
        let signal = store(PAGE, 16 << 20);
        libc::sigaction(libc::SIGSEGV, &raw const before, ptr::null_mut());
        libc::mprotect(base.cast(), BYTES, access);
        let userfault = userfault(base, 16 << 20);
        // As the engine copies: past the caches, and then a fence.
        let medium = Mapped::new(Device::open(path, Access::Exclusive)?).ok_or("the file is not writable")?;
        let from = vec![3_u8; HUGE];
        let fenced = |bytes: usize, each: &dyn Fn(u64)| {
            timed(BYTES / 2 / bytes, |index| {
                each((index * bytes) as u64);
                let _ = medium.fence(Point::Data);
            })
        };
        let copy =
            |bytes: usize| fenced(bytes, &|at| medium.store_nt(at, from.get(..bytes).unwrap_or_default()));
        let zeros = |bytes: usize| fenced(bytes, &|at| medium.zero_nt(at..at + bytes as u64));
        let (copy_huge, zeros_huge) = (copy(HUGE), zeros(HUGE));
        let found =
            Bare { signal, huge, userfault, copy: copy(PAGE), zeros: zeros(PAGE), copy_huge, zeros_huge };
        libc::munmap(reserved, BYTES + HUGE);
        Ok(found)
    }
}

/// As the kernel has them, for what is not in `libc`.
#[repr(C)]
struct Range {
    start: u64,
    length: u64,
    mode: u64,
    answers: u64,
}

const API: libc::c_ulong = 0xc018_aa3f;
const REGISTER: libc::c_ulong = 0xc020_aa00;
const PROTECT: libc::c_ulong = 0xc018_aa06;

/// # Safety
///
/// As many bytes are mapped at `base`, and nobody else uses them.
unsafe fn userfault(base: *mut u8, bytes: usize) -> Option<Duration> {
    // SAFETY: the caller's promise; structures are as the kernel has them.
    unsafe {
        let fd = c_int::try_from(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC))
            .ok()
            .filter(|fd| *fd >= 0)?;
        // Write protection of shared memory.
        let mut api = [0xaa_u64, 1 << 12, 0];
        let mut range = Range { start: base.addr() as u64, length: bytes as u64, mode: 2, answers: 0 };
        if libc::ioctl(fd, API, &raw mut api) != 0 || libc::ioctl(fd, REGISTER, &raw mut range) != 0 {
            return None;
        }
        range.mode = 1;
        libc::ioctl(fd, PROTECT, &raw mut range);
        let count = bytes / PAGE;
        let answering = std::thread::spawn(move || {
            for _ in 0..count {
                let mut message = [0_u64; 4];
                libc::read(fd, message.as_mut_ptr().cast(), size_of_val(&message));
                let [_, _, address, _] = message;
                let start = address - address % PAGE as u64;
                let mut page = Range { start, length: PAGE as u64, mode: 0, answers: 0 };
                libc::ioctl(fd, PROTECT, &raw mut page);
            }
        });
        let time = timed(count, |index| base.add(index * PAGE).write_volatile(2));
        let _ = answering.join();
        libc::close(fd);
        Some(time)
    }
}
