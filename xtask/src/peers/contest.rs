//! Programs that do the same work, in turn: A B C, A B C, … so that what the machine does meanwhile hits all alike.

use crate::peers::{measure, mount};
use anyhow::Result;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A program that takes part.
#[derive(Debug)]
pub struct Contender {
    /// What the table calls it.
    pub name: String,
    /// What it is run as.
    pub command: Command,
    /// Exit statuses that say it did its work.
    pub accepted: &'static [i32],
    /// A file that it makes or changes, and what that is before each run.
    pub makes: Option<(PathBuf, Before)>,
}

/// What a file is before a run.
#[derive(Debug)]
pub enum Before {
    /// Not there.
    Absent,
    /// A hole of so many bytes.
    Hole(u64),
    /// A copy of another.
    Copy(PathBuf),
}

impl Contender {
    /// A program that exits with 0.
    pub fn new(name: &str, command: Command) -> Self {
        Contender { name: name.to_owned(), command, accepted: &[0], makes: None }
    }

    /// It makes a file: of that length beforehand, or there is none when it is 0.
    pub fn making(self, path: &Path, length: u64) -> Self {
        let before = if length == 0 { Before::Absent } else { Before::Hole(length) };
        Contender { makes: Some((path.to_path_buf(), before)), ..self }
    }

    /// It changes a file, which is a copy of `from` before each run.
    pub fn changing(self, path: &Path, from: &Path) -> Self {
        Contender { makes: Some((path.to_path_buf(), Before::Copy(from.to_path_buf()))), ..self }
    }

    fn prepare(&self) -> Result<()> {
        let Some((path, before)) = &self.makes else { return Ok(()) };
        if path.exists() {
            fs::remove_file(path)?;
        }
        match before {
            Before::Absent => Ok(()),
            Before::Hole(length) => Ok(fs::File::create(path)?.set_len(*length)?),
            Before::Copy(from) => mount::run(Command::new("cp").arg("--sparse=always").args([from, path])),
        }
    }
}

/// How long something took, each time.
#[derive(Debug, Clone)]
pub struct Times {
    /// What the table calls it.
    pub name: String,
    /// In the order of the rounds.
    pub walls: Vec<Duration>,
}

impl Times {
    /// Of nothing yet.
    pub fn new(name: &str) -> Self {
        Times { name: name.to_owned(), walls: Vec::new() }
    }

    /// Ascending.
    pub fn sorted(&self) -> Vec<Duration> {
        let mut walls = self.walls.clone();
        walls.sort();
        walls
    }

    /// How many times as long as `other` it took, round by round, ascending.
    pub fn ratios(&self, other: &Times) -> Vec<f64> {
        let pairs = self.walls.iter().zip(&other.walls);
        let mut ratios: Vec<f64> = pairs.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64().max(1e-9)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }
}

/// What a program took of memory and medium, in bytes.
#[derive(Debug)]
pub struct Memory {
    /// Peak of its anonymous memory.
    pub anonymous: u64,
    /// Peak of its resident set, when that is known.
    pub resident: Option<u64>,
    /// What the file that it made takes on its medium.
    pub allocated: Option<u64>,
}

/// What a program showed.
#[derive(Debug)]
pub struct Measured {
    /// Its runs.
    pub times: Times,
    /// Where that says something.
    pub memory: Option<Memory>,
}

/// The one in the middle of what is sorted.
pub fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

/// Runs all in turn: one round for their memory, which warms up too, and `rounds` that count. Ours is the first.
pub fn hold(mut contenders: Vec<Contender>, rounds: usize) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for contender in &mut contenders {
        eprintln!("  {}", contender.name);
        contender.prepare()?;
        let anonymous = measure::anonymous_peak(&mut contender.command, contender.accepted)?;
        let memory = Memory { anonymous, resident: None, allocated: None };
        measured.push((Times::new(&contender.name), memory));
    }
    for _ in 0..rounds {
        for (contender, (times, memory)) in contenders.iter_mut().zip(&mut measured) {
            contender.prepare()?;
            let sample = measure::run(&mut contender.command, contender.accepted)?;
            times.walls.push(sample.wall);
            memory.resident = memory.resident.max(sample.resident);
        }
    }
    for (contender, (_, memory)) in contenders.iter().zip(&mut measured) {
        if let Some((path, _)) = &contender.makes {
            memory.allocated = Some(path.metadata()?.blocks().saturating_mul(512));
        }
    }
    Ok(measured.into_iter().map(|(times, memory)| Measured { times, memory: Some(memory) }).collect())
}
