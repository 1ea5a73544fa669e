//! What can go wrong, as a caller of a file system knows it: by errno.

use crate::space::SpaceError;
use paxfs_format::badblocks::ListError;
use paxfs_format::device::DeviceError;
use paxfs_format::fork::ForkFault;
use paxfs_format::journal::ReplayFault;
use paxfs_format::tree::{Defect, NodeFault, TreeError};
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
    /// EIO: the medium failed under the contents of a file.
    #[error(
        "the medium failed under inode {inode}: {length} bytes from byte {offset} on are lost; write all of them anew, \
         punch them out, or restore the file"
    )]
    LostData {
        /// The file.
        inode: u64,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// EIO: the medium failed while a file was written to, or some files: what was written since the last sync may be lost.
    /// What is known to be lost reads as EIO.
    #[error("the medium failed under {}: what was written there since the last sync may be lost", files(*.0))]
    LostWrites(Option<u64>),
    /// EIO: the medium failed under metadata that nothing else tells.
    #[error(
        "{what} is lost: the medium failed at block {block}; remove what depends on it, or run fsck.paxfs"
    )]
    LostMetadata {
        /// What it is.
        what: String,
        /// The block.
        block: u64,
    },
    /// EINVAL: a list of media errors is none.
    #[error(transparent)]
    List(#[from] ListError),
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
            Error::ShutDown
            | Error::Device(_)
            | Error::LostData { .. }
            | Error::LostWrites(_)
            | Error::LostMetadata { .. } => 5,
            Error::NoData | Error::PastEnd => 6,
            Error::ValueTooLong => 7,
            Error::BadFile => 9,
            Error::Mapping(_) => 12,
            Error::Busy => 16,
            Error::Exists => 17,
            Error::NotADirectory => 20,
            Error::IsADirectory => 21,
            Error::Invalid(_) | Error::NoVolume(_) | Error::Refused(_) | Error::List(_) => 22,
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

    /// A structure is lost with its block.
    pub(crate) fn lost(what: impl core::fmt::Display, block: u64) -> Self {
        Error::LostMetadata { what: what.to_string(), block }
    }

    /// A structure of fixed place is damaged, or lost.
    pub(crate) fn structure(what: impl core::fmt::Display, fault: &StructureFault) -> Self {
        match fault {
            StructureFault::Failed { block } => Error::lost(what, *block),
            fault => Error::damaged(what, fault),
        }
    }

    /// An inode is damaged, or lost.
    pub(crate) fn inode(number: u64, fault: &StructureFault) -> Self {
        Error::structure(format_args!("inode {number}"), fault)
    }

    /// A fork of an inode is damaged, or lost.
    pub(crate) fn fork(number: u64, fault: &ForkFault) -> Self {
        match fault {
            ForkFault::Tree(TreeError { block, fault: Defect::Node(NodeFault::MediumFailed), .. })
            | ForkFault::Block { fault: StructureFault::Failed { block }, .. } => {
                Error::lost(format_args!("a part of inode {number}"), *block)
            }
            fault => Error::damaged(format_args!("inode {number}"), fault),
        }
    }

    /// Whether the medium lost what was asked for.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Error::LostData { .. } | Error::LostMetadata { .. })
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
            SpaceError::Lost { group, tree, block } => {
                Error::lost(format_args!("the {tree} tree of group {group}"), block)
            }
        }
    }
}

/// Words for one file, or for some.
fn files(inode: Option<u64>) -> String {
    inode.map_or_else(|| "files".to_owned(), |inode| format!("inode {inode}"))
}

/// The result of an operation.
pub type Result<T> = core::result::Result<T, Error>;
