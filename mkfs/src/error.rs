//! Why no volume was made.

use paxfs_format::device::{DeviceError, InUse, MediumError};
use paxfs_format::geometry::GeometryError;
use std::path::PathBuf;

/// Why no volume was made. Whatever it is, nothing that looks like a file system is left on the device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A feature nobody knows.
    #[error("feature {0:?} is not known; known are rmap, reflink, csum")]
    UnknownFeature(String),
    /// Sharing without knowing the owners.
    #[error(
        "reflink needs the reverse map: -O rmap,reflink gives both (the default), -O ^reflink,^rmap (or -O ^reflink) \
         does without sharing"
    )]
    ReflinkWithoutRmap,
    /// Sharing was asked of a volume that cannot share.
    #[error("{what} shares blocks, which needs the features reflink and rmap: -O rmap,reflink gives both")]
    NeedsReflink {
        /// What would have shared.
        what: String,
    },
    /// A geometry that cannot be.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The label is too long or holds a zero byte.
    #[error("label {0:?} does not fit: it has 64 bytes, and none of them zero")]
    Label(String),
    /// No number, or no unit.
    #[error("{0:?} is no size: give bytes, or a number with one of k M G T P E (powers of 1024)")]
    Size(String),
    /// A new file needs a size.
    #[error("{path}: does not exist; give a SIZE behind its name to make it", path = .0.display())]
    NoSize(PathBuf),
    /// An empty file needs a size.
    #[error("{path}: is empty; give a SIZE behind its name", path = .0.display())]
    Empty(PathBuf),
    /// A size that the device does not have.
    #[error("{path}: has {bytes} bytes, fewer than the {wanted} asked for", path = .path.display())]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// What it has.
        bytes: u64,
        /// What was asked.
        wanted: u64,
    },
    /// A file would lose its end.
    #[error(
        "{path}: has {bytes} bytes, more than the {wanted} asked for, and would be cut; -f does that",
        path = .path.display()
    )]
    WouldCut {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
        /// What was asked.
        wanted: u64,
    },
    /// Somebody uses it.
    #[error("{path}: {by}; it must not be in use", path = .path.display())]
    InUse {
        /// The device.
        path: PathBuf,
        /// Who.
        by: InUse,
    },
    /// Something known is on it.
    #[error("{path}: holds {found}; -f overwrites it", path = .path.display())]
    Signature {
        /// The device.
        path: PathBuf,
        /// What was found, and where.
        found: String,
    },
    /// Opening, sizing or syncing failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An access that cannot be: an error in mkfs.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The volume is full.
    #[error("the volume is too small: no room for {what}; choose a larger SIZE")]
    Full {
        /// What had no room.
        what: String,
    },
    /// More than 256 names with the same hash.
    #[error(
        "more than 256 names in inode {inode} have the same hash; another UUID (-U) hashes them otherwise"
    )]
    Collisions {
        /// The directory, or the inode with the attributes.
        inode: u64,
    },
    /// Something that no inode can hold.
    #[error("{what} does not fit the format: {why}")]
    Unfit {
        /// The thing.
        what: String,
        /// Why.
        why: String,
    },
    /// The directory to copy cannot be opened.
    #[error("{path}: {source}", path = .path.display())]
    Open {
        /// It.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Files of the source could not be read; each was reported.
    #[error("{count} of the files could not be read (see above); no volume was made")]
    Source {
        /// How many.
        count: u64,
    },
    /// The recipe cannot be read as one.
    #[error("{path}: {source}", path = .path.display())]
    Yaml {
        /// Its file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_yaml::Error,
    },
    /// The recipe asks for what cannot be.
    #[error("recipe: {at}: {why}")]
    Recipe {
        /// Which entry.
        at: String,
        /// Why.
        why: String,
    },
    /// A bad value of `SOURCE_DATE_EPOCH`.
    #[error("SOURCE_DATE_EPOCH is {0:?}, which is no number of seconds")]
    Epoch(String),
    /// The image could not take the bytes.
    #[error("{path}: cannot be written: the file system it lies on is full, or the medium is bad", path = .path.display())]
    Lost {
        /// The device.
        path: PathBuf,
    },
    /// A signal came.
    #[error("interrupted; no volume was made")]
    Interrupted,
}
