//! What an error costs on XFS.
#![allow(unsafe_code)]

use super::{BYTES, LOST};
use crate::cases::runs;
use crate::directory::Directory;
use crate::poison::{self, PAGE};
use crate::target::{Result, Target};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where files are mapped that share a page: the page.
struct Shared([*mut u8; 2]);

impl Shared {
    /// Two files that are mapped and one that nobody has open share blocks. They are not mounted anew: this XFS maps a file
    /// with shared blocks directly only as long as it knows it from before.
    fn make(xfs: &mut Directory) -> Result<Self> {
        poison::listen();
        xfs.write("one", 0, &[0x11; BYTES])?;
        xfs.clone("one", "two")?;
        xfs.clone("one", "three")?;
        xfs.free()?;
        let map = |name| -> Result<*mut u8> { Ok(map(&xfs.path(name))?.wrapping_add(LOST)) };
        Ok(Shared([map("one")?, map("two")?]))
    }

    fn fail(&self) -> Result<()> {
        poison::at(self.0[0])
    }
}

/// Maps a file, and loads of each page. The mapping stays.
fn map(path: &Path) -> Result<*mut u8> {
    let file = File::options().read(true).write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len())?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, where the kernel likes.
    let base = unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &file, 0)? };
    let base = base.cast::<u8>();
    for page in (0..length).step_by(PAGE) {
        poison::load(base.wrapping_add(page));
    }
    Ok(base)
}

/// Another process, which maps a file and listens.
struct Mapper(Child);

impl Mapper {
    /// `early` is whether it asked to hear at once (`PR_MCE_KILL_EARLY`).
    fn start(path: &Path, early: &str) -> Result<Self> {
        let mut program = Command::new(std::env::current_exe()?);
        program.args(["map", early]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut mapper = Mapper(program.spawn()?);
        mapper.line()?;
        Ok(mapper)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().ok_or("no pipe")?).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// What it heard.
    fn end(mut self) -> Result<String> {
        drop(self.0.stdin.take());
        let heard = self.line()?;
        self.0.wait()?;
        Ok(heard)
    }
}

/// What such a process does.
pub fn map_and_listen(early: &str, path: &Path) -> Result<()> {
    poison::listen();
    if early == "early" {
        poison::hear_early()?;
    }
    let page = map(path)?.wrapping_add(LOST);
    println!("ready");
    stdout().flush()?;
    stdin().read_to_end(&mut Vec::new())?;
    println!("{}", poison::heard_at(page).unwrap_or_else(|| "nothing".to_owned()));
    Ok(())
}

pub fn who_hears(xfs: &mut Directory) -> Result<String> {
    let shared = Shared::make(xfs)?;
    let two = xfs.path("two");
    let [late, early] = ["late", "early"].map(|how| Mapper::start(&two, how));
    shared.fail()?;
    let heard = shared.0.iter().filter(|page| poison::heard_at(**page).is_some()).count();
    Ok(format!(
        "{heard} of 2 addresses; another process that has /two: {}; if it asked to: {}",
        late?.end()?,
        early?.end()?
    ))
}

pub fn what_a_load_gets(xfs: &mut Directory) -> Result<String> {
    let shared = Shared::make(xfs)?;
    shared.fail()?;
    let before = poison::count();
    let byte = poison::load(shared.0[1]);
    Ok(if poison::count() == before {
        format!("{byte:#04x}")
    } else {
        poison::heard_at(shared.0[1]).unwrap_or_default()
    })
}

pub fn what_reads_get(xfs: &mut Directory) -> Result<String> {
    Shared::make(xfs)?.fail()?;
    Ok(reads(xfs))
}

pub fn what_heals(xfs: &mut Directory) -> Result<String> {
    Shared::make(xfs)?.fail()?;
    xfs.write("one", LOST as u64, &[0x22; PAGE])?;
    Ok(reads(xfs))
}

/// What all three read as at the lost page.
fn reads(xfs: &Directory) -> String {
    ["one", "two", "three"].map(|name| read(xfs, name)).join(", ")
}

fn read(xfs: &Directory, name: &str) -> String {
    let mut bytes = [0; PAGE];
    let file = File::open(xfs.path(name));
    match file.and_then(|file| file.read_exact_at(&mut bytes, LOST as u64)) {
        Ok(()) => runs(&bytes),
        Err(error) => said(&error),
    }
}

/// An error, by its short name if it is that of media.
fn said(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EIO) => "EIO".to_owned(),
        Some(libc::EFAULT) => "EFAULT".to_owned(),
        _ => error.to_string(),
    }
}

pub fn free(xfs: &mut Directory) -> Result<String> {
    let frame = free_frame(xfs)?;
    fail_and_use(xfs, frame)
}

/// The page of a block that was a file's.
fn free_frame(xfs: &mut Directory) -> Result<u64> {
    xfs.write("gone", 0, &[0x11; BYTES])?;
    let frame = frame_of(&xfs.path("gone"), 0)?;
    xfs.remove("gone")?;
    xfs.free()?;
    Ok(frame)
}

/// The page of the machine's memory that a file has at an offset.
fn frame_of(path: &Path, offset: usize) -> Result<u64> {
    let base = map(path)?;
    let frame = poison::frame_at(base.wrapping_add(offset))?;
    // SAFETY: the mapping is this function's own.
    unsafe { munmap(base.cast(), BYTES)? };
    frame.ok_or_else(|| "the file is not mapped".into())
}

pub fn free_space(xfs: &mut Directory) -> Result<String> {
    with_magic(xfs, b"AB3B")
}

pub fn reference_counts(xfs: &mut Directory) -> Result<String> {
    with_magic(xfs, b"R3FC")
}

pub fn reverse_map(xfs: &mut Directory) -> Result<String> {
    with_magic(xfs, b"RMB3")
}

pub fn extent_map(xfs: &mut Directory) -> Result<String> {
    for extent in 0..300 {
        xfs.write("sparse", extent * 8192, &[0x11; PAGE])?;
    }
    with_magic(xfs, b"BMA3")
}

pub fn journal(xfs: &mut Directory) -> Result<String> {
    with_magic(xfs, &[0xfe, 0xed, 0xba, 0xbe])
}

pub fn journal_in_use(xfs: &mut Directory) -> Result<String> {
    let frame = first_with(xfs, &[0xfe, 0xed, 0xba, 0xbe])?;
    xfs.write("one", 0, &[0x11; BYTES])?;
    File::open(xfs.path("one"))?.sync_all()?;
    fail_and_use(xfs, frame)
}

fn with_magic(xfs: &mut Directory, magic: &[u8]) -> Result<String> {
    let frame = first_with(xfs, magic)?;
    fail_and_use(xfs, frame)
}

/// The page of the first block of the device that begins so. It is mounted anew.
fn first_with(xfs: &mut Directory, magic: &[u8]) -> Result<u64> {
    xfs.unmount()?;
    let mut device = File::open(xfs.device())?;
    let mut bytes = [0; PAGE];
    let mut frame = poison::first_frame(xfs.device())?;
    while !bytes.starts_with(magic) {
        device.read_exact(&mut bytes)?;
        frame += 1;
    }
    xfs.mount()?;
    Ok(frame - 1)
}

/// Has a page fail that nobody has mapped, and says whether all goes on.
fn fail_and_use(xfs: &mut Directory, frame: u64) -> Result<String> {
    // What comes of it is what is asked.
    let _ = poison::frame(frame);
    if use_it(xfs).is_ok() {
        return Ok("goes on".to_owned());
    }
    Ok(match xfs.remount().and_then(|()| use_it(xfs)) {
        Ok(()) => "shut down; goes on when it is mounted anew".to_owned(),
        Err(error) => format!("shut down; {error}"),
    })
}

fn use_it(xfs: &mut Directory) -> Result<()> {
    let bytes = [0x33; BYTES];
    xfs.write("new", 0, &bytes)?;
    xfs.clone("new", "copy")?;
    xfs.write("copy", 0, &[0x44; 100])?;
    xfs.remove("copy")?;
    xfs.free()?;
    xfs.remount()?;
    if xfs.read("new")? == bytes { Ok(()) } else { Err("what was written does not read".into()) }
}

pub fn stays_bad(xfs: &mut Directory) -> Result<String> {
    xfs.write("file", 0, &[0x11; BYTES])?;
    xfs.free()?;
    let frame = frame_of(&xfs.path("file"), LOST)?;
    poison::list(xfs.device(), frame - poison::first_frame(xfs.device())?)?;
    xfs.remount()?;
    let before = read(xfs, "file");
    let written =
        File::options().write(true).open(xfs.path("file"))?.write_all_at(&[0x22; PAGE], LOST as u64);
    let written = written.map_or_else(|error| said(&error), |()| read(xfs, "file"));
    Ok(format!("{before}; {written}; {} bad", poison::listed(xfs.device())?.lines().count()))
}

pub fn is_not_given_out(xfs: &mut Directory) -> Result<String> {
    let frame = free_frame(xfs)?;
    poison::list(xfs.device(), frame - poison::first_frame(xfs.device())?)?;
    let piece = vec![0x55; 1 << 20];
    let file = File::create(xfs.path("fill"))?;
    let mut written = 0;
    let error = loop {
        match file.write_all_at(&piece, written) {
            Ok(()) => written += piece.len() as u64,
            Err(error) => break error,
        }
    };
    Ok(if error.raw_os_error() == Some(libc::ENOSPC) {
        let is_there = xfs.read("fill")?.iter().all(|byte| *byte == 0x55);
        if is_there { "all of it reads" } else { "NOT all reads" }.to_owned()
    } else {
        format!("{}, {} MiB written", said(&error), written >> 20)
    })
}
