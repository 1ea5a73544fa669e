//! What can go wrong, as a caller of a file system knows it: by errno.

use crate::space::SpaceError;
use paxfs_format::device::DeviceError;
use paxfs_format::fork::ForkFault;
use paxfs_format::journal::ReplayFault;
use paxfs_format::volume::{NoSuperblock, Refusal, StructureFault};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST.
    #[error("file exists")]
    Exists,
    /// ENOTDIR.
    #[error("not a directory")]
    NotADirectory,
    /// EISDIR.
    #[error("is a directory")]
    IsADirectory,
    /// ENOTEMPTY.
    #[error("directory not empty")]
    NotEmpty,
    /// EINVAL.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// EBADF.
    #[error("the file is not open for that")]
    BadFile,
    /// EPERM.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// ENAMETOOLONG.
    #[error("name too long")]
    NameTooLong,
    /// EMLINK.
    #[error("too many links")]
    TooManyLinks,
    /// EFBIG.
    #[error("file too large")]
    TooLarge,
    /// ENODATA.
    #[error("no such attribute")]
    NoAttribute,
    /// E2BIG.
    #[error("the value is too long")]
    ValueTooLong,
    /// ERANGE.
    #[error("out of range: {0}")]
    OutOfRange(&'static str),
    /// EOPNOTSUPP.
    #[error("not supported: {0}")]
    NotSupported(&'static str),
    /// EBUSY.
    #[error("the range is pinned: I/O to its view is under way")]
    Busy,
    /// ENXIO: an address of a view is past the end of its file.
    #[error("past the end of the file")]
    PastEnd,
    /// ENOMEM: the kernel could not change a mapping.
    #[error("the kernel could not change a mapping: {0} (see vm.max_map_count)")]
    Mapping(std::io::ErrorKind),
    /// ENXIO.
    #[error("no data or hole there")]
    NoData,
    /// ESTALE.
    #[error("the file is gone")]
    Stale,
    /// EROFS.
    #[error("read-only: {0}")]
    ReadOnly(&'static str),
    /// ENOSPC.
    #[error("no space left on volume")]
    NoSpace,
    /// EIO: the volume takes no more writes.
    #[error("the volume is shut down after an earlier failure; close it and run fsck.paxfs")]
    ShutDown,
    /// EIO: the medium failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// EUCLEAN: a structure is damaged.
    #[error("{what} is damaged: {fault}; run fsck.paxfs")]
    Damaged {
        /// Which structure.
        what: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The device holds no volume.
    #[error(transparent)]
    NoVolume(#[from] NoSuperblock),
    /// A volume that this release must not open.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The journal cannot be replayed.
    #[error("{0}; run fsck.paxfs")]
    Journal(#[from] ReplayFault),
}

impl Error {
    /// The errno that a system call would give.
    pub fn errno(&self) -> i32 {
        match self {
            Error::NotPermitted(_) => 1,
            Error::NotFound => 2,
            Error::ShutDown | Error::Device(_) => 5,
            Error::NoData | Error::PastEnd => 6,
            Error::ValueTooLong => 7,
            Error::BadFile => 9,
            Error::Mapping(_) => 12,
            Error::Busy => 16,
            Error::Exists => 17,
            Error::NotADirectory => 20,
            Error::IsADirectory => 21,
            Error::Invalid(_) | Error::NoVolume(_) | Error::Refused(_) => 22,
            Error::TooLarge => 27,
            Error::NoSpace => 28,
            Error::ReadOnly(_) => 30,
            Error::TooManyLinks => 31,
            Error::OutOfRange(_) => 34,
            Error::NameTooLong => 36,
            Error::NotEmpty => 39,
            Error::NoAttribute => 61,
            Error::NotSupported(_) => 95,
            Error::Stale => 116,
            Error::Damaged { .. } | Error::Journal(_) => 117,
        }
    }

    /// A structure is damaged.
    pub(crate) fn damaged(what: impl core::fmt::Display, fault: impl core::fmt::Display) -> Self {
        Error::Damaged { what: what.to_string(), fault: fault.to_string() }
    }

    /// An inode is damaged.
    pub(crate) fn inode(number: u64, fault: &StructureFault) -> Self {
        Error::damaged(format_args!("inode {number}"), fault)
    }

    /// A fork of an inode is damaged.
    pub(crate) fn fork(number: u64, fault: &ForkFault) -> Self {
        Error::damaged(format_args!("inode {number}"), fault)
    }
}

impl From<SpaceError> for Error {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::Full => Error::NoSpace,
            SpaceError::Broken { group, tree, block } => Error::damaged(
                format_args!("the {tree} tree of group {group}"),
                format_args!("block {block}"),
            ),
            SpaceError::NotInUse { group, block } => Error::damaged(
                format_args!("what owns block {block} of group {group}"),
                "the block is not in use",
            ),
        }
    }
}

/// The result of an operation.
pub type Result<T> = core::result::Result<T, Error>;
