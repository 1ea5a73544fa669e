//! The command: what it refuses, in which order it does things, and what it leaves behind when it fails.
//!
//! Everything that can be refused without touching the device is: the recipe is read, the directory opened, the device
//! looked at, before the first byte is written. Then block 0 loses whatever was there, and gets the new superblock last.

use crate::builder::Builder;
use crate::cli::{Cli, EXIT_USAGE};
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::options::{Features, Options};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::signature;
use crate::source::{Source, Watcher};
use crate::summary::{Summary, Totals};
use clap::Parser;
use paxfs_format::device::{Access, Device, DeviceError, DeviceKind, InUse};
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::time::Timestamp;
use paxfs_format::units::{Text, Uuid};
use paxfs_format::volume::read_superblock;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// Bytes at both ends of a device where others keep signatures.
const ENDS: u64 = 2 << 20;

/// Runs the command; says on stderr why it failed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but not to us.
            let status = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nobody can be told if this cannot be printed.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    match make(&cli) {
        Ok(report) => {
            use std::io::Write as _;
            match std::io::stdout().write_all(report.as_bytes()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    eprintln!("mkfs.paxfs: cannot print the summary: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("mkfs.paxfs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the volume, or with `-n` only says what it would be. Returns what is to be printed.
///
/// # Errors
///
/// Any [`Error`]; then there is no volume.
pub fn make(cli: &Cli) -> Result<String, Error> {
    let recipe = cli.recipe.as_deref().map(Recipe::read).transpose()?;
    let plan = Plan::new(cli, recipe.as_ref())?;
    let filled = cli.directory.is_some() || recipe.is_some();
    if cli.dry_run {
        let options = plan.options(plan.size_without_writing()?)?;
        let summary = Summary { options, root: 0, totals: Totals::default() };
        return Ok(report(cli, &summary, false, false));
    }
    let source = cli.directory.as_deref().map(|directory| Source::open(directory, cli.share)).transpose()?;
    // Before there is a file that would have to be removed.
    let interrupt =
        Interrupt::on_signals().map_err(|source| Error::Open { path: "signals".into(), source })?;
    let mut target = Target::open(cli, plan.size)?;
    let made = plan.options(plan.bytes(&target.device)?).and_then(|options| {
        let zeroed = target.erase(cli)?;
        let mut builder = Builder::new(&mut target.device, options, zeroed)?;
        builder.interrupt = interrupt;
        let mut progress = Progress::new(cli.quiet);
        let root = match (source, &recipe) {
            (Some(source), _) => source.fill(&mut builder, &mut progress)?,
            (None, Some(recipe)) => recipe.fill(&mut builder, &mut |done| progress.progress(done, 0))?,
            (None, None) => empty(&mut builder)?,
        };
        progress.finish();
        builder.finish(root)
    });
    match made {
        Ok(summary) => Ok(report(cli, &summary, true, filled)),
        Err(error) => {
            target.forget();
            Err(error)
        }
    }
}

fn report(cli: &Cli, summary: &Summary, made: bool, filled: bool) -> String {
    if cli.json {
        format!("{:#}\n", summary.json(made))
    } else if cli.quiet {
        String::new()
    } else {
        summary.text(filled)
    }
}

/// A volume with nothing but its root directory.
///
/// # Errors
///
/// [`Error::Full`].
pub fn empty(builder: &mut Builder<'_>) -> Result<u64, Error> {
    let root = builder.inode()?;
    let meta = crate::inode::Meta::new(0o040_755, builder.options.now);
    let entries = builder.directory(root, core::iter::empty())?;
    builder.store(root, &meta, 1, crate::builder::Contents::Entries(entries), Vec::new())?;
    Ok(root)
}

/// What is asked for, before the size of the device is known.
struct Plan<'a> {
    path: &'a Path,
    size: Option<u64>,
    groups: Option<u64>,
    label: String,
    uuid: Uuid,
    features: Features,
    now: Timestamp,
    clamp: bool,
    state: Option<u32>,
}

impl<'a> Plan<'a> {
    fn new(cli: &'a Cli, recipe: Option<&Recipe>) -> Result<Self, Error> {
        let volume = recipe.map(|recipe| recipe.volume.clone()).unwrap_or_default();
        let changes = &cli.volume.features;
        let features = changes.iter().try_fold(volume.features()?, |features, list| features.with(list))?;
        let epoch = epoch()?;
        let uuid = cli
            .volume
            .uuid
            .map(|uuid| Uuid(*uuid.as_bytes()))
            .or(volume.uuid.map(|uuid| Uuid(*uuid.as_bytes())));
        Ok(Plan {
            path: &cli.device,
            size: cli.size.or(volume.size.map(|size| size.0)),
            groups: cli.volume.groups.or(volume.groups),
            label: cli.volume.label.clone().or(volume.label.clone()).unwrap_or_default(),
            uuid: uuid.unwrap_or_else(|| Uuid(*uuid::Uuid::new_v4().as_bytes())),
            features: features.check()?,
            now: epoch.or(volume.epoch.map(|time| time.0)).unwrap_or_else(now),
            clamp: epoch.is_some(),
            state: volume.state_bits(),
        })
    }

    fn options(&self, bytes: u64) -> Result<Options, Error> {
        let geometry = Geometry::choose(bytes, self.groups, self.features.csum)?;
        let label = Text::new(&self.label).ok_or_else(|| Error::Label(self.label.clone()))?;
        let options = Options::new(geometry, self.features, self.uuid, self.now);
        Ok(Options { label, clamp: self.clamp, state: self.state.unwrap_or(options.state), ..options })
    }

    /// Bytes for the volume on an open device.
    fn bytes(&self, device: &Device) -> Result<u64, Error> {
        match self.size {
            Some(wanted) if wanted > device.len() => {
                Err(Error::DeviceTooSmall { path: self.path.to_path_buf(), bytes: device.len(), wanted })
            }
            Some(wanted) => Ok(wanted),
            None => Ok(device.len()),
        }
    }

    fn size_without_writing(&self) -> Result<u64, Error> {
        match (self.size, Device::open(self.path, Access::ReadOnly)) {
            (Some(size), Ok(device)) if device.kind() != DeviceKind::File && device.len() < size => {
                Err(Error::DeviceTooSmall {
                    path: self.path.to_path_buf(),
                    bytes: device.len(),
                    wanted: size,
                })
            }
            (Some(size), _) => Ok(size),
            (None, Ok(device)) if device.is_empty() => Err(Error::Empty(self.path.to_path_buf())),
            (None, Ok(device)) => Ok(device.len()),
            (None, Err(DeviceError::NotFound { path })) => Err(Error::NoSize(path)),
            (None, Err(error)) => Err(error.into()),
        }
    }
}

/// `SOURCE_DATE_EPOCH`, if it is set.
fn epoch() -> Result<Option<Timestamp>, Error> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.ok_or_else(|| Error::Epoch(text.to_string_lossy().into_owned()))?;
    Ok(Some(Timestamp::new(seconds, 0)))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// The device to write to.
struct Target {
    device: Device,
    /// Whether the file was not there before.
    new: bool,
}

impl Target {
    /// Opens or makes the device; refuses what may not be overwritten.
    fn open(cli: &Cli, size: Option<u64>) -> Result<Self, Error> {
        let path = &cli.device;
        match (Device::in_use(path), size) {
            (Ok(None), _) => {}
            (Ok(Some(by)), _) => return Err(refusal(path, by)),
            (Err(DeviceError::NotFound { .. }), Some(size)) => {
                // Its geometry must be possible before there is a file.
                Geometry::choose(size, cli.volume.groups, false)?;
                return Ok(Target { device: Device::create(path, size)?, new: true });
            }
            (Err(DeviceError::NotFound { path }), None) => return Err(Error::NoSize(path)),
            (Err(error), _) => return Err(error.into()),
        }
        let mut device = Device::open(path, Access::Exclusive)?;
        if !cli.force {
            let found = signature::find(&device);
            if !found.is_empty() {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                return Err(Error::Signature { path: path.clone(), found: found.join(", ") });
            }
        }
        if let Some(wanted) = size.filter(|size| device.kind() == DeviceKind::File && *size != device.len()) {
            if wanted < device.len() && !cli.force {
                return Err(Error::WouldCut { path: path.clone(), bytes: device.len(), wanted });
            }
            Geometry::choose(wanted, cli.volume.groups, false)?;
            device.resize(wanted)?;
        }
        if device.is_empty() { Err(Error::Empty(path.clone())) } else { Ok(Target { device, new: false }) }
    }

    /// Makes the device hold nothing known. Returns whether all of it reads as zeros now.
    fn erase(&mut self, cli: &Cli) -> Result<bool, Error> {
        if self.new {
            return Ok(true);
        }
        let device = &mut self.device;
        if device.kind() == DeviceKind::File && !cli.keep {
            // Cutting it short frees every block, also where no holes can be punched.
            let bytes = device.len();
            device.resize(BLOCK_BYTES)?;
            device.bytes_mut(0, BLOCK_SIZE)?.fill(0);
            device.resize(bytes)?;
            return Ok(true);
        }
        let mut blocks: Vec<u64> =
            signature::find(device).iter().map(|found| found.offset / BLOCK_BYTES).collect();
        if let Ok((_, geometry)) = read_superblock(device, 0) {
            // Copies of an old superblock must not be taken for ours when ours is damaged.
            blocks.extend(geometry.group_numbers().map(|group| geometry.superblock(group)));
        }
        let length = device.len() - device.len() % BLOCK_BYTES;
        for block in blocks.into_iter().filter(|block| *block < length / BLOCK_BYTES) {
            device.zero_range(block.saturating_mul(BLOCK_BYTES), BLOCK_BYTES)?;
        }
        device.zero_range(0, ENDS.min(device.len()))?;
        device.zero_range(device.len().saturating_sub(ENDS), ENDS.min(device.len()))?;
        Ok(false)
    }

    /// Leaves nothing behind of a volume that was not made.
    fn forget(self) {
        let Target { device, new } = self;
        if new {
            // Still locked, so it is ours.
            if let Err(error) = std::fs::remove_file(device.path()) {
                eprintln!("mkfs.paxfs: {}: cannot be removed: {error}", device.path().display());
            }
        }
    }
}

fn refusal(path: &Path, by: InUse) -> Error {
    Error::InUse { path: path.to_path_buf(), by }
}
