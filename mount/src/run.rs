//! The command: what it refuses, in which order it does things, and how it ends.
//!
//! ```text
//!   called ── options ── starts itself once more ── waits ─────────────────┬── status
//!                             └─ FUSE, mount point ── volume ── mount ── "it stands"
//!                                                                          └── requests ── unmounted ── volume closed
//! ```
//!
//! In the foreground both are one. Signals count from before the volume is opened: who ends it early leaves it closed, too.

use crate::cli::{Cli, EXIT_FAILED, EXIT_USAGE};
use crate::daemon;
use crate::end::End;
use crate::fuse;
use crate::log::complain;
use crate::options::Options;
use crate::server::Server;
use crate::volume::{Volume, VolumeError};
use clap::Parser;
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::process::geteuid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Why nothing was mounted, or why it did not end well.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Fuse(String),
    #[error("{path}: {source}; make the directory first")]
    NoDirectory { path: PathBuf, source: io::Error },
    #[error("{0}: not a directory; name one to mount on")]
    NotADirectory(PathBuf),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("{path}: cannot be mounted on: {source}")]
    Mount { path: PathBuf, source: io::Error },
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    #[error("nobody could be told that the mount stands: {0}")]
    Told(io::Error),
    #[error("{path}: requests could not be served: {source}")]
    Served { path: PathBuf, source: io::Error },
    #[error("{path}: was not closed: {source}; the next mount recovers it, and so does fsck.paxfs -p")]
    Close { path: PathBuf, source: paxfs_runtime::error::Error },
}

/// Runs the command; says on stderr why it failed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but not to us.
            let status = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // Nobody can be told if this cannot be printed.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let options = match Options::parse(&cli.options, cli.sloppy) {
        Ok(options) => options,
        Err(error) => {
            complain(error);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if cli.fake {
        return ExitCode::SUCCESS;
    }
    if !cli.foreground && !cli.daemon {
        return daemon::start(arguments.get(1..).unwrap_or_default());
    }
    match serve(&cli, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(failure);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Mounts, serves, and closes.
fn serve(cli: &Cli, options: &Options) -> Result<(), Failure> {
    if cli.daemon {
        daemon::settle();
    }
    fuse::check().map_err(Failure::Fuse)?;
    let directory = mount_point(&cli.directory)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Failure::Signals)?;
    let volume = Arc::new(Volume::open(&cli.device, options)?);
    let outcome = mounted(cli, options, &directory, &volume, &mut signals);
    let closed = match Arc::try_unwrap(volume) {
        Ok(volume) => volume.close(),
        // A request is still worked on; dropping the volume closes it then.
        Err(_) => Ok(()),
    };
    outcome?;
    closed.map_err(|source| Failure::Close { path: cli.device.clone(), source })
}

fn mounted(
    cli: &Cli,
    options: &Options,
    directory: &Path,
    volume: &Arc<Volume>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let config = config(&cli.device, options);
    let failed = |source| Failure::Mount { path: directory.to_path_buf(), source };
    let mut session = Session::new(Server(Arc::clone(volume)), directory, &config).map_err(failed)?;
    // It was not set before.
    let _ = volume.notifier.set(session.notifier());
    let end = End { directory: directory.to_path_buf(), helper: session.unmount_callable() };
    if cli.verbose {
        println!("{} on {}: {}", cli.device.display(), directory.display(), describe(volume, options));
    }
    if cli.daemon {
        daemon::stands().map_err(Failure::Told)?;
    }
    let handle = signals.handle();
    let answer = std::thread::scope(|scope| {
        scope.spawn(move || {
            if signals.forever().next().is_some() {
                end.unmount();
            }
        });
        let answer = session.run();
        handle.close();
        answer
    });
    answer.map_err(|source| Failure::Served { path: directory.to_path_buf(), source })
}

/// The directory to mount on, with all links resolved.
fn mount_point(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |source| Failure::NoDirectory { path: path.to_path_buf(), source };
    let directory = path.canonicalize().map_err(failed)?;
    match directory.metadata().map_err(failed)?.is_dir() {
        true => Ok(directory),
        false => Err(Failure::NotADirectory(path.to_path_buf())),
    }
}

/// What the kernel and `fuser` are told.
fn config(device: &Path, options: &Options) -> Config {
    let source = device.canonicalize().unwrap_or_else(|_| device.to_path_buf());
    let mut mount_options = options.flags.clone();
    if !geteuid().is_root() {
        // Those are for root to give.
        mount_options.retain(|option| !matches!(option, MountOption::Dev | MountOption::Suid));
    }
    mount_options.extend([
        MountOption::FSName(source.to_string_lossy().into_owned()),
        MountOption::CUSTOM("subtype=paxfs".to_owned()),
        // The kernel asks nobody who may do what: it looks at permissions and lists.
        MountOption::DefaultPermissions,
        // Times of access are not recorded.
        MountOption::NoAtime,
        if options.read_only { MountOption::RO } else { MountOption::RW },
    ]);
    let mut config = Config::default();
    config.mount_options = mount_options;
    // Root serves everybody, as the kernel does with its own file systems.
    let everybody = options.allow_other || geteuid().is_root();
    config.acl = if everybody { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    config
}

fn describe(volume: &Volume, options: &Options) -> String {
    let how = if options.read_only { "read-only" } else { "read-write" };
    let last = volume.engine.transactions();
    format!("{how}, {} threads, last transaction {last}", options.threads)
}
