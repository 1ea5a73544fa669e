//! Times one kind of work on one file system, from within; `cargo xtask peers` runs it side by side with peers.
//!
//! ```text
//! bench WORK paxfs IMAGE [quick]            the engine, in this process
//! bench WORK directory DIRECTORY [quick]    a mounted file system, by system calls
//! ```
//!
//! * [`work`]: what is done, the same on each; [`target`]: on what; [`volume`] and [`directory`]: the two kinds of it.
//!
//! Prints `NAME NANOSECONDS` for each figure: the time of one operation, with its share of the sync at the end.

mod directory;
mod target;
mod volume;
mod work;

use std::error::Error;
use std::process::ExitCode;
use work::{Size, Work};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let (&[work, kind, path], size) = (match words {
        [rest @ .., "quick"] => (rest, Size::QUICK),
        all => (all, Size::WHOLE),
    }) else {
        return Err("usage: bench WORK paxfs|directory PATH [quick]".into());
    };
    let work = Work::named(work).ok_or("no such work")?;
    let figures = match kind {
        "paxfs" => {
            let volume = volume::Volume::open(path.as_ref())?;
            let figures = work.run(&volume, &size)?;
            volume.close()?;
            figures
        }
        "directory" => work.run(&directory::Directory::new(path.as_ref(), work == Work::Overwrite), &size)?,
        _ => return Err("neither paxfs nor directory".into()),
    };
    for (name, time) in figures {
        println!("{name} {:.1}", time * 1e9);
    }
    Ok(())
}
