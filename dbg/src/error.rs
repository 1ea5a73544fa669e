//! Why a command failed, and the exit status that says so.

use paxfs_format::device::{DeviceError, MediumError};
use paxfs_format::fork::ForkFault;
use paxfs_format::names::ResolveError;
use paxfs_format::volume::StructureFault;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command was not given as it must be. Exit status 16.
    #[error("{0}")]
    Usage(String),
    /// The device cannot be opened, changed or synced.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device ends before that.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// A path of a file leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A path of a field names nothing.
    #[error(transparent)]
    Path(#[from] paxfs_format::path::TargetError),
    /// A field cannot be changed like that.
    #[error(transparent)]
    Edit(#[from] paxfs_format::path::EditError),
    /// A structure is damaged.
    #[error("{what}: {fault}")]
    Structure {
        /// Which.
        what: String,
        /// How.
        fault: StructureFault,
    },
    /// A fork of an inode is damaged.
    #[error("inode {inode}: {fault}")]
    Fork {
        /// Which inode.
        inode: u64,
        /// How.
        fault: ForkFault,
    },
    /// The kernel refused.
    #[error("{what}: {error}")]
    Io {
        /// What was asked of it.
        what: String,
        /// Its answer.
        error: std::io::Error,
    },
    /// Anything else: what, where, and what to do next.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// 16 for wrong usage, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Usage(_) => ExitCode::from(16),
            _ => ExitCode::FAILURE,
        }
    }

    /// The kernel's answer to `what`, for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| CommandError::Io { what: what.into(), error }
    }
}
