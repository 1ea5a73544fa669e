//! Ages a volume, always in the same way, and says what is left of its free space in whole, aligned 2 MiB runs.
//!
//! ```text
//! age IMAGE TIMES
//! ```
//!
//! The profile: files of 4 KiB to 16 MiB, their sizes even on a logarithmic scale, are made until the volume is 90 % full.
//! Then, until `TIMES` the size of the volume has been written: while it is below 90 % full, of 100 operations 40 make a
//! file, 25 overwrite up to 256 KiB of one somewhere, 15 append up to 256 KiB to one, 10 clone one, 10 remove one; when it
//! is 90 % full, the snapshot is removed, and files at random until it is 70 % full, and the next snapshot of all files is
//! made. All by one thread with one seed, a sync after every 64
//! operations. Prints a line for each time that the volume's size was written, at 70 % full or just above.

use fastrand::Rng;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BLOCK: u64 = 4096;
const SEED: u64 = 1;
const SNAPSHOT: &[u8] = b"snapshot";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, times] = arguments.as_slice() else {
        eprintln!("usage: age IMAGE TIMES");
        return ExitCode::from(2);
    };
    let aged = times.parse().map_err(Into::into).and_then(|times| age(image, times));
    match aged {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("age: {error}");
            ExitCode::FAILURE
        }
    }
}

fn age(image: &str, times: u64) -> Result<()> {
    let engine = Engine::open(image.as_ref(), Options::default())?;
    let volume = engine.statistics()?.blocks * BLOCK;
    let bytes = vec![0x5a; 16 << 20];
    let live = engine.make_directory(engine.root(), b"live", &New::default())?;
    let (rng, names) = (Rng::with_seed(SEED), Vec::new());
    let mut ager = Ager { engine, live, rng, bytes, names, made: 0, written: 0, is_shot: false };
    println!("{:>8} {:>6} {:>8} {:>12} {:>14}", "written", "full", "files", "free in 2M", "extents/file");
    let mut reported = 0;
    while ager.full()? < 0.9 {
        ager.make()?;
    }
    while reported < times {
        while ager.full()? < 0.9 {
            ager.step()?;
        }
        ager.drop_snapshot()?;
        while ager.full()? > 0.7 {
            ager.remove()?;
        }
        ager.engine.sync()?;
        if ager.written / volume > reported {
            reported = ager.written / volume;
            ager.report(reported)?;
        }
        ager.engine.snapshot(ager.live, ager.engine.root(), SNAPSHOT, Access::ReadOnly)?;
        ager.is_shot = true;
    }
    ager.engine.close()?;
    Ok(())
}

struct Ager {
    engine: Engine,
    /// The directory of all files.
    live: u64,
    rng: Rng,
    bytes: Vec<u8>,
    names: Vec<u64>,
    made: u64,
    written: u64,
    /// Whether there is a snapshot.
    is_shot: bool,
}

#[allow(clippy::cast_precision_loss)]
impl Ager {
    /// Which part of the volume is in use.
    fn full(&self) -> Result<f64> {
        let statistics = self.engine.statistics()?;
        Ok(1.0 - statistics.free as f64 / statistics.blocks as f64)
    }

    fn step(&mut self) -> Result<()> {
        let done = match self.rng.u32(..100) {
            0..40 => self.make(),
            40..65 => self.overwrite(),
            65..80 => self.append(),
            80..90 => self.clone(),
            _ => self.remove(),
        };
        if self.rng.u32(..64) == 0 {
            self.engine.sync()?;
        }
        done
    }

    /// A size from 4 KiB to `most`, even on a logarithmic scale.
    fn size(&mut self, most: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 4096 and 2^24.
        let size = (BLOCK as f64 * (most / BLOCK as f64).powf(self.rng.f64())) as u64;
        size
    }

    fn part(&self, length: u64) -> &[u8] {
        usize::try_from(length).ok().and_then(|length| self.bytes.get(..length)).unwrap_or(&self.bytes)
    }

    fn new_file(&mut self) -> Result<File> {
        let inode = self.engine.create(self.live, self.made.to_string().as_bytes(), &New::default())?;
        self.names.push(self.made);
        self.made += 1;
        Ok(self.engine.open_file(inode, Open::WRITE)?)
    }

    fn any_file(&mut self) -> Result<File> {
        let name = self.names.get(self.rng.usize(..self.names.len().max(1))).copied().unwrap_or(0);
        let inode = self.engine.lookup(self.live, name.to_string().as_bytes())?;
        Ok(self.engine.open_file(inode, Open::WRITE)?)
    }

    fn write(&mut self, file: &File, offset: u64, length: u64) -> Result<()> {
        match file.write_at(offset, self.part(length)) {
            // Full of what is shared or kept back: files go soon.
            Err(Error::NoSpace) => Ok(()),
            done => {
                self.written += length;
                Ok(done?)
            }
        }
    }

    fn make(&mut self) -> Result<()> {
        let (file, size) = (self.new_file()?, self.size(16e6));
        self.write(&file, 0, size)
    }

    fn overwrite(&mut self) -> Result<()> {
        let (file, length) = (self.any_file()?, self.size(256e3));
        let offset = self.rng.u64(..(file.size() / BLOCK).max(1)) * BLOCK;
        self.write(&file, offset, length.min(file.size() - offset))
    }

    fn append(&mut self) -> Result<()> {
        let (file, length) = (self.any_file()?, self.size(256e3));
        let end = file.size();
        self.write(&file, end, length)
    }

    fn clone(&mut self) -> Result<()> {
        let source = self.any_file()?;
        match self.new_file()?.clone_range(0, &source, 0, 0) {
            Err(Error::NoSpace) => Ok(()),
            done => Ok(done?),
        }
    }

    fn remove(&mut self) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let name = self.names.swap_remove(self.rng.usize(..self.names.len()));
        Ok(self.engine.unlink(self.live, name.to_string().as_bytes())?)
    }

    fn drop_snapshot(&mut self) -> Result<()> {
        if core::mem::take(&mut self.is_shot) {
            self.engine.remove_tree(self.engine.root(), SNAPSHOT)?;
        }
        Ok(())
    }

    fn report(&mut self, times: u64) -> Result<()> {
        let statistics = self.engine.statistics()?;
        let share = 100.0 * statistics.huge_free as f64 / statistics.free.max(1) as f64;
        let mut extents = 0;
        for name in &self.names {
            let inode = self.engine.lookup(self.live, name.to_string().as_bytes())?;
            extents += self.engine.open_file(inode, Open::READ)?.extents()?.len();
        }
        let files = self.names.len();
        let each = extents as f64 / files.max(1) as f64;
        println!("{times:>7}x {:>5.0}% {files:>8} {share:>11.1}% {each:>14.1}", 100.0 * self.full()?);
        Ok(())
    }
}
