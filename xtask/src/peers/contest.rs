//! Programs that do the same work, in turn: A B C, A B C, … so that what the machine does meanwhile hits all alike.

use crate::peers::measure::{self, Sample};
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
    /// A file that it makes: removed before each run, and made anew with this length for those that want it there.
    pub makes: Option<(PathBuf, u64)>,
}

impl Contender {
    /// A program that exits with 0.
    pub fn new(name: &str, command: Command) -> Self {
        Contender { name: name.to_owned(), command, accepted: &[0], makes: None }
    }

    /// It makes a file: of that length beforehand, or there is none when it is 0.
    pub fn making(self, path: &Path, length: u64) -> Self {
        Contender { makes: Some((path.to_path_buf(), length)), ..self }
    }

    fn prepare(&self) -> Result<()> {
        let Some((path, length)) = &self.makes else { return Ok(()) };
        if path.exists() {
            fs::remove_file(path)?;
        }
        if *length > 0 {
            fs::File::create(path)?.set_len(*length)?;
        }
        Ok(())
    }
}

/// What a program showed.
#[derive(Debug)]
pub struct Measured {
    /// What the table calls it.
    pub name: String,
    /// Its runs, in order.
    pub samples: Vec<Sample>,
    /// Peak of its anonymous memory in bytes.
    pub anonymous: u64,
    /// What the file that it made takes on its medium, in bytes.
    pub allocated: Option<u64>,
}

impl Measured {
    /// Its times, ascending.
    pub fn walls(&self) -> Vec<Duration> {
        let mut walls: Vec<Duration> = self.samples.iter().map(|sample| sample.wall).collect();
        walls.sort();
        walls
    }

    /// The peak of its resident set in bytes, when that is known.
    pub fn resident(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.resident).max()
    }

    /// How many times as long as `other` it took, round by round, ascending.
    pub fn ratios(&self, other: &Measured) -> Vec<f64> {
        let pairs = self.samples.iter().zip(&other.samples);
        let mut ratios: Vec<f64> =
            pairs.map(|(a, b)| a.wall.as_secs_f64() / b.wall.as_secs_f64().max(1e-9)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }
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
        measured.push(Measured {
            name: contender.name.clone(),
            samples: Vec::new(),
            anonymous,
            allocated: None,
        });
    }
    for _ in 0..rounds {
        for (contender, measured) in contenders.iter_mut().zip(&mut measured) {
            contender.prepare()?;
            measured.samples.push(measure::run(&mut contender.command, contender.accepted)?);
        }
    }
    for (contender, measured) in contenders.iter().zip(&mut measured) {
        if let Some((path, _)) = &contender.makes {
            measured.allocated = Some(path.metadata()?.blocks().saturating_mul(512));
        }
    }
    Ok(measured)
}
