//! How a large file is mapped, and how long a snapshot stops those who store.
//!
//! ```text
//! mapped IMAGE MIB
//! ```
//!
//! The image holds a volume with room for three times as much. Where it lies in memory with 2 MiB pages (tmpfs mounted
//! `huge=always`) it says which part of the file the kernel maps by those, from `/proc/self/smaps`: when all of it was stored
//! to, and when a tenth was stored to again after a snapshot. Then where the file's blocks were before that, as lines
//! `extent OFFSET START BLOCKS` for others to compare, and what a snapshot costs a thread that stores all the time: with all of the file dirty, and with 100 and with 10,000 mapped
//! files of which 10 are.
#![allow(unsafe_code)]

use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HUGE: u64 = 2 << 20;
const PAGE: u64 = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, mebibytes] = arguments.as_slice() else {
        eprintln!("usage: mapped IMAGE MIB");
        return ExitCode::from(2);
    };
    match mebibytes.parse().map_err(Into::into).and_then(|mebibytes: u64| run(image, mebibytes << 20)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mapped: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &str, bytes: u64) -> Result<()> {
    let options = Options { dax: Dax::Always, ..Options::default() };
    let engine = Engine::open(image.as_ref(), options)?;
    println!("stores are noticed by {:?}", engine.mechanism());
    let large = engine.make_directory(engine.root(), b"large", &New::default())?;
    let file = make(&engine, large, "file", bytes)?;
    let view = file.map(0..bytes, Sharing::Shared)?;
    let all = 0..bytes / PAGE;
    all.clone().for_each(|page| store(&view, page * PAGE));
    println!("all stored to: {:.1} % mapped by 2 MiB", mapped(&view)? * 100.0);
    let before = file.extents()?;
    view.sync(0..bytes)?;
    engine.snapshot(large, engine.root(), b"cut", Access::ReadOnly)?;
    // Every tenth 2 MiB.
    (0..bytes / HUGE).step_by(10).for_each(|frame| store(&view, frame * HUGE + 12_345));
    all.clone().for_each(|page| load(&view, page * PAGE));
    println!("a tenth stored to after a snapshot: {:.1} % mapped by 2 MiB", mapped(&view)? * 100.0);
    for extent in &before {
        let (offset, start, length) = (extent.offset.get(), extent.start.get(), extent.length.get());
        println!("extent {offset} {start} {length}");
    }
    engine.remove_tree(engine.root(), b"cut")?;
    engine.sync()?;
    let pause = pause(&engine, large, &view, || all.clone().for_each(|page| store(&view, page * PAGE)))?;
    println!("{} MiB dirty: {pause}", bytes >> 20);
    view.sync(0..bytes)?;
    drop(view);
    for count in [100, 10_000] {
        let name = format!("{count} files");
        let directory = engine.make_directory(engine.root(), name.as_bytes(), &New::default())?;
        let files: Vec<File> = (0..count)
            .map(|number| make(&engine, directory, &format!("{number}"), 2 * PAGE))
            .collect::<Result<_>>()?;
        let views: Vec<View> = files
            .iter()
            .map(|file| file.map(0..2 * PAGE, Sharing::Shared))
            .collect::<std::result::Result<_, _>>()?;
        views.iter().for_each(|view| store(view, 0));
        engine.sync()?;
        let tenth = usize::try_from(count / 10)?;
        let dirty = || views.iter().step_by(tenth).for_each(|view| store(view, 0));
        if let Some(view) = views.first() {
            println!("{count} files mapped, 10 dirty: {}", self::pause(&engine, directory, view, dirty)?);
        }
    }
    engine.close()?;
    Ok(())
}

fn make(engine: &Engine, directory: u64, name: &str, bytes: u64) -> Result<File> {
    let inode = engine.create(directory, name.as_bytes(), &New::default())?;
    let file = engine.open_file(inode, Open::WRITE)?;
    file.truncate(bytes)?;
    Ok(file)
}

fn at(view: &View, offset: u64) -> *mut u8 {
    let base = view.address().map_or(std::ptr::null_mut(), |base| base.as_ptr());
    base.wrapping_add(usize::try_from(offset).unwrap_or(0))
}

fn store(view: &View, offset: u64) {
    // SAFETY: the offset is in the view.
    unsafe { at(view, offset).write_volatile(1) };
}

fn load(view: &View, offset: u64) {
    // SAFETY: as for `store`.
    unsafe { at(view, offset).read_volatile() };
}

/// Which part of a view the kernel maps by 2 MiB.
fn mapped(view: &View) -> Result<f64> {
    let (start, length) = (at(view, 0).addr(), usize::try_from(view.len())?);
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    let (mut inside, mut kibibytes) = (false, 0_u64);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(address) = first.split('-').next().filter(|_| first.contains('-')) {
            let address = usize::from_str_radix(address, 16)?;
            inside = (start..start + length).contains(&address);
        } else if inside && first == "ShmemPmdMapped:" {
            kibibytes += second.parse::<u64>()?;
        }
    }
    #[allow(clippy::cast_precision_loss)]
    Ok((kibibytes * 1024) as f64 / length as f64)
}

/// How long a thread that stores to a page all the time is stopped at most by a snapshot, and how long that takes: medians
/// of rounds, each with `dirty` before.
fn pause(engine: &Engine, tree: u64, view: &View, dirty: impl Fn()) -> Result<String> {
    let mut pauses = Vec::new();
    let mut lengths = Vec::new();
    for round in 0..5 {
        // What the last round left is no part of this one.
        engine.sync()?;
        dirty();
        let stop = AtomicBool::new(false);
        let name = format!("pause {round}");
        let (longest, length) = std::thread::scope(|scope| {
            let storing = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                let mut last = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    store(view, 0);
                    let now = Instant::now();
                    longest = longest.max(now - last);
                    last = now;
                }
                longest
            });
            std::thread::sleep(Duration::from_millis(20));
            let begin = Instant::now();
            let taken = engine.snapshot(tree, engine.root(), name.as_bytes(), Access::ReadOnly);
            let length = begin.elapsed();
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
            taken.map(|_| (storing.join().unwrap_or_default(), length))
        })?;
        pauses.push(longest);
        lengths.push(length);
        engine.remove_tree(engine.root(), name.as_bytes())?;
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (pause, length) = (median(&mut pauses), median(&mut lengths));
    Ok(format!("a store waits for {:.2} ms at most, the snapshot takes {:.2} ms", ms(pause), ms(length)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
