//! A real client: redb, an embedded database, on a mapped file of paxfs, whose directory is snapshotted while it commits;
//! beside it redb on its own storage, a file of the host's file system.
//!
//! ```text
//! redb [DIRECTORY]        where the files are: /dev/shm, or else where temporary files are
//! ```
//!
//! * [`backend`]: all that a program needs to run on paxfs; [`ledger`]: what is committed.
//!
//! Each transaction is durable before the next begins, as far as the storage knows. Rounds are in turn, the first of each
//! is not counted; figures are medians.

mod backend;
mod ledger;

use backend::Backend;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::Mechanism;
use redb::Database;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 9;
/// Transactions of a round.
const TRANSACTIONS: u64 = 1000;
/// Between two snapshots.
const INTERVAL: Duration = Duration::from_millis(20);
const IMAGE: u64 = 512 << 20;
const NAME: &[u8] = b"database";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redb: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let memory = Path::new("/dev/shm");
    let default = || if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = std::env::args().nth(1).map_or_else(default, PathBuf::from);
    let directory = tempfile::tempdir_in(directory)?;
    let mut plain = Work::new(Database::create(directory.path().join("plain"))?);
    let mut plain_rates = Vec::new();
    let mut volumes = Vec::new();
    for mechanism in [Mechanism::Userfault, Mechanism::Signal] {
        let volume = Volume::new(&directory.path().join(format!("{mechanism:?}")), mechanism)?;
        // Not each is everywhere.
        if volume.engine.mechanism() == mechanism {
            volumes.push(volume);
        }
    }
    for round in 0..=ROUNDS {
        let is_counted = round > 0;
        plain_rates.extend(Some(rate(&plain.commit()?)).filter(|_| is_counted));
        for volume in &mut volumes {
            volume.round(is_counted)?;
        }
    }
    println!("{:<32}{:>16}   min – max", "", "transactions/s");
    let line = |what: &str, rates: &mut Vec<f64>| {
        let median = median(rates);
        let (min, max) = (rates.first().unwrap_or(&0.0), rates.last().unwrap_or(&0.0));
        println!("{what:<32}{median:>16.0}   {min:.0} – {max:.0}");
    };
    line("redb on its own file", &mut plain_rates);
    for volume in &mut volumes {
        println!("\nredb on paxfs, stores noticed by {:?}", volume.engine.mechanism());
        line("  undisturbed", &mut volume.undisturbed);
        line(&format!("  a snapshot every {INTERVAL:?}"), &mut volume.disturbed);
        let times = &mut volume.times;
        println!("  {} snapshots, each a database that is intact; in µs:", times.snapshots.len());
        println!("  {:<30}{:>16.0}", "a snapshot", median(&mut times.snapshots) * 1e6);
        println!("  {:<30}{:>16.0}", "a transaction", median(&mut times.transactions) * 1e6);
        println!("  {:<30}{:>16.0}", "longest during a snapshot", median(&mut times.longest) * 1e6);
    }
    volumes.into_iter().try_for_each(Volume::close)
}

/// When something began and ended.
type Span = Range<Instant>;

fn seconds(span: &Span) -> f64 {
    (span.end - span.start).as_secs_f64()
}

/// So many per second.
fn rate(spans: &[Span]) -> f64 {
    let ends = spans.first().zip(spans.last());
    ends.map_or(0.0, |(first, last)| spans.len() as f64 / seconds(&(first.start..last.end)))
}

/// Sorts values, and returns the middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A database that is written to.
struct Work {
    database: Database,
    committed: u64,
}

impl Work {
    fn new(database: Database) -> Self {
        Work { database, committed: 0 }
    }

    /// Commits a round of transactions.
    fn commit(&mut self) -> Result<Vec<Span>> {
        let numbers = self.committed..self.committed + TRANSACTIONS;
        self.committed = numbers.end;
        let commit = |number| {
            let start = Instant::now();
            ledger::commit(&self.database, number)?;
            Ok(start..Instant::now())
        };
        numbers.map(commit).collect()
    }
}

/// What happens under snapshots, in seconds.
#[derive(Default)]
struct Times {
    snapshots: Vec<f64>,
    transactions: Vec<f64>,
    /// For each snapshot the longest transaction that ran during it.
    longest: Vec<f64>,
}

/// A volume with a database, and what was measured there.
struct Volume {
    work: Work,
    engine: Engine,
    /// The directory of the database.
    live: u64,
    undisturbed: Vec<f64>,
    disturbed: Vec<f64>,
    times: Times,
}

impl Volume {
    fn new(image: &Path, mechanism: Mechanism) -> Result<Self> {
        let arguments = ["mkfs.paxfs".into(), "-q".into(), image.into(), IMAGE.to_string().into()];
        if paxfs_mkfs::run::main(arguments) != ExitCode::SUCCESS {
            return Err("no volume could be made".into());
        }
        // The host's memory is there before time is taken.
        let file = File::options().write(true).open(image)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, IMAGE)?;
        let options = Options { dax: Dax::Always, mechanism: Some(mechanism), ..Options::default() };
        let engine = Engine::open(image, options)?;
        let live = engine.make_directory(engine.root(), b"live", &New::default())?;
        engine.create(live, NAME, &New::default())?;
        let work = Work::new(open(&engine, live)?);
        let (undisturbed, disturbed) = (Vec::new(), Vec::new());
        Ok(Volume { work, engine, live, undisturbed, disturbed, times: Times::default() })
    }

    /// A round undisturbed, and one under snapshots.
    fn round(&mut self, is_counted: bool) -> Result<()> {
        let undisturbed = rate(&self.work.commit()?);
        let (transactions, snapshots) = self.commit_under_snapshots()?;
        self.check_snapshots(snapshots.len())?;
        if is_counted {
            self.undisturbed.push(undisturbed);
            self.disturbed.push(rate(&transactions));
            self.times.transactions.extend(transactions.iter().map(seconds));
            self.times.snapshots.extend(snapshots.iter().map(seconds));
            for span in snapshots {
                let during = transactions.iter().filter(|one| one.start < span.end && span.start < one.end);
                self.times.longest.extend(during.map(seconds).max_by(f64::total_cmp));
            }
        }
        Ok(())
    }

    /// Commits a round of transactions while snapshots are made. Returns when each of both was.
    fn commit_under_snapshots(&mut self) -> Result<(Vec<Span>, Vec<Span>)> {
        let Volume { work, engine, live, .. } = self;
        let is_done = AtomicBool::new(false);
        let (transactions, snapshots) = std::thread::scope(|scope| {
            let snapshots = scope.spawn(|| {
                let mut spans: Vec<Span> = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    engine.snapshot(*live, engine.root(), &name(spans.len()), Access::Writable)?;
                    spans.push(start..Instant::now());
                    std::thread::sleep(INTERVAL);
                }
                Ok::<_, paxfs_runtime::error::Error>(spans)
            });
            let transactions = work.commit();
            is_done.store(true, Ordering::Relaxed);
            (transactions, snapshots.join())
        });
        Ok((transactions?, snapshots.map_err(|_| "the thread that makes snapshots panicked")??))
    }

    /// Opens so many snapshots, has them checked, and removes them.
    fn check_snapshots(&self, count: usize) -> Result<()> {
        let root = self.engine.root();
        for number in 0..count {
            let mut database = open(&self.engine, self.engine.lookup(root, &name(number))?)?;
            if !database.check_integrity()? {
                return Err("a snapshot is no intact database".into());
            }
            ledger::committed(&database)?;
            drop(database);
            self.engine.remove_tree(root, &name(number))?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        drop(self.work);
        Ok(self.engine.close()?)
    }
}

/// The name of a snapshot.
fn name(number: usize) -> Vec<u8> {
    format!("snapshot {number}").into_bytes()
}

/// Opens the database in a directory.
fn open(engine: &Engine, directory: u64) -> Result<Database> {
    let file = engine.open_file(engine.lookup(directory, NAME)?, Open::WRITE)?;
    Ok(Database::builder().create_with_backend(Backend::new(file)?)?)
}
