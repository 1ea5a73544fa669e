//! Recipes: volumes described in YAML, file by file, extent by extent, or by the million.
//!
//! The language is described in `RECIPE.md`, next to this crate's manifest. It is also that of the images of the
//! fixtures; so it can say what a crash or a failing medium leaves behind: orphans, freed slots, bad ranges, a journal that
//! waits to be replayed. It cannot say what would be wrong: what a recipe makes is sound.
//!
//! ```
//! use paxfs_mkfs::recipe::Recipe;
//!
//! let recipe: Recipe = "
//! volume: {size: 8M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000}
//! files:
//!   - {path: /big, size: 3M, seed: 1}
//!   - {path: '/copies/{i}', repeat: 3, reflink: {of: /big}}
//! ".parse()?;
//! let (device, summary) = recipe.image()?;
//! assert_eq!(summary.totals.files, 4);
//! assert_eq!(summary.totals.saved_blocks, 3 * 768);
//! # Ok::<(), paxfs_mkfs::error::Error>(())
//! ```

mod content;
mod data;
mod fill;
mod names;
mod tree;
mod value;

pub use self::value::{Blob, Mode, OneOrMany, Size, SizeRange, Time};

use crate::builder::Builder;
use crate::error::Error;
use crate::options::{Features, Options};
use crate::summary::Summary;
use paxfs_format::device::Device;
use paxfs_format::geometry::Geometry;
use paxfs_format::superblock::State;
use paxfs_format::time::Timestamp;
use paxfs_format::units::{Text, Uuid};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Most bytes of an image in memory.
pub const IMAGE_BYTES_MAX: u64 = 4 << 30;

/// A volume, described.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The volume itself.
    #[serde(default)]
    pub volume: Volume,
    /// What is in it, in the order in which it is made.
    #[serde(default)]
    pub files: Vec<Item>,
}

/// What the volume is to be. The command line overrides it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// Its bytes.
    pub size: Option<Size>,
    /// Groups, about.
    pub groups: Option<u64>,
    /// Its name.
    pub label: Option<String>,
    /// Its UUID.
    pub uuid: Option<uuid::Uuid>,
    /// Changes to the default features, as `-O` takes them.
    pub features: Option<String>,
    /// When it was made, and the time of every file that says no other.
    pub epoch: Option<Time>,
    /// What the last user is said to have left.
    pub state: Option<StateName>,
    /// Bad ranges.
    pub bad: Vec<BlockRange>,
    /// Generations of inode slots that were in use once and are free.
    pub freed: Vec<u32>,
    /// Transactions left in the journal.
    pub journal: Vec<Transaction>,
}

/// What the last user left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// Closed.
    Clean,
    /// Not closed.
    Dirty,
    /// Closed, with damage noticed.
    Errors,
}

/// A run of blocks of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRange {
    /// First block.
    pub start: u64,
    /// How many.
    pub blocks: u32,
}

/// A transaction in the journal: the present contents of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// Its number; mkfs itself is transaction 1. It lies in the slot of its number modulo 2.
    pub sequence: u64,
    /// Blocks that it writes.
    pub blocks: Vec<u64>,
    /// How far its writer came.
    #[serde(default)]
    pub state: TransactionState,
    /// Whether the blocks are zeroed at home, so that only a replay brings them back.
    #[serde(default)]
    pub stale: bool,
}

/// How far the writer of a transaction came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransactionState {
    /// It is whole.
    #[default]
    Committed,
    /// The commit word is missing.
    Torn,
    /// It is committed, and its body was damaged later.
    Broken,
}

/// One file, or with `repeat` many.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Item {
    /// Where; `{i}` is the number of the repetition.
    pub path: String,
    /// How many.
    pub repeat: Option<u64>,
    /// What it is, if the other fields do not tell.
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    /// Permissions.
    pub mode: Option<Mode>,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// All times that are not given by themselves.
    pub time: Option<Time>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of contents.
    pub mtime: Option<Time>,
    /// Last change of contents or attributes.
    pub ctime: Option<Time>,
    /// Creation.
    pub btime: Option<Time>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Blob>,
    /// Flags of the inode.
    pub flags: Vec<Flag>,
    /// Uses of the inode's slot.
    pub generation: Option<u32>,
    /// In use, but without a name: the path is only for the recipe.
    pub orphan: bool,

    /// Bytes of a file.
    pub size: Option<SizeRange>,
    /// Data that no compressor likes; the number of the repetition is added.
    pub seed: Option<u64>,
    /// Whether all repetitions have the same data.
    pub same: bool,
    /// Data of one byte.
    pub fill: Option<u8>,
    /// Data, literally.
    pub content: Option<String>,
    /// In how many extents the data is to lie.
    pub fragments: Option<u64>,
    /// Block of the volume where the data is to lie, in one run.
    pub at: Option<u64>,
    /// Parts that are not allocated.
    pub holes: Vec<Span>,
    /// Parts that are allocated and not written.
    pub unwritten: Vec<Span>,
    /// The extents, one by one.
    pub extents: Vec<ExtentSpec>,
    /// Parts shared with files before this one.
    pub reflink: OneOrMany<Reflink>,
    /// State of the checksums of the data.
    pub sums: Option<Sums>,

    /// Target of a symlink.
    pub target: Option<String>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// A file before this one of which this is another name.
    pub link: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    Block,
    /// A character device.
    Character,
}

/// A flag of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// May not change.
    Immutable,
    /// May only grow.
    Append,
    /// Mapped directly.
    Dax,
    /// Without checksums.
    Nocsum,
    /// Of a snapshot.
    Snapshot,
}

/// State of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sums {
    /// They hold.
    Sealed,
    /// Somebody may be storing to the blocks.
    Open,
    /// There are none.
    None,
}

/// A part of a file, in bytes; whole blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Where it begins.
    pub offset: Size,
    /// How long it is.
    pub length: Size,
}

/// One extent, in blocks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtentSpec {
    /// First block in the file.
    pub offset: u64,
    /// How many.
    pub blocks: u32,
    /// Allocated and not written.
    #[serde(default)]
    pub unwritten: bool,
    /// First block on the volume; anywhere without it.
    pub at: Option<u64>,
    /// The same blocks as this file before it has.
    pub like: Option<String>,
    /// First block in that file; `offset` without it.
    pub from: Option<u64>,
}

/// A part shared with another file, in bytes; whole blocks but at that file's end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reflink {
    /// The other file.
    pub of: String,
    /// Where the part begins there.
    #[serde(default)]
    pub offset: Size,
    /// How long it is; up to the end without it.
    pub length: Option<Size>,
    /// Where it begins here.
    #[serde(default)]
    pub to: Size,
}

impl Volume {
    /// Its features.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFeature`].
    pub fn features(&self) -> Result<Features, Error> {
        Features::default().with(self.features.as_deref().unwrap_or_default())
    }

    /// Bits of the superblock's state, if it is given.
    pub fn state_bits(&self) -> Option<u32> {
        self.state.map(|state| match state {
            StateName::Clean => State::CLEAN,
            StateName::Dirty => 0,
            StateName::Errors => State::CLEAN | State::ERRORS,
        })
    }

    /// What to make without a command line. What is not said is always the same, so that the recipe alone decides.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] when it says no size, and those of features, geometry and label.
    pub fn options(&self) -> Result<Options, Error> {
        let missing = || Error::Recipe { at: "volume".to_owned(), why: "it has no size".to_owned() };
        let Size(bytes) = self.size.ok_or_else(missing)?;
        let features = self.features()?.check()?;
        let uuid = self.uuid.map_or(Uuid([0x70; 16]), |uuid| Uuid(*uuid.as_bytes()));
        let now = self.epoch.map_or(Timestamp::new(0, 0), |time| time.0);
        let label = self.label.clone().unwrap_or_default();
        let options = Options::new(Geometry::choose(bytes, self.groups, features.csum)?, features, uuid, now);
        let label = Text::new(&label).ok_or(Error::Label(label))?;
        Ok(Options { label, state: self.state_bits().unwrap_or(options.state), ..options })
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        serde_yaml::from_str(text).map_err(|source| Error::Yaml { path: PathBuf::from("recipe"), source })
    }
}

impl Recipe {
    /// Reads a recipe from a file.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], or [`Error::Yaml`] with line and column.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Open { path: path.to_path_buf(), source })?;
        serde_yaml::from_str(&text).map_err(|source| Error::Yaml { path: path.to_path_buf(), source })
    }

    /// Fills a volume. `progress` is told how many files are done. Returns the number of the root directory.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] for what cannot be, [`Error::Full`], [`Error::Interrupted`].
    pub fn fill(&self, builder: &mut Builder<'_>, progress: &mut dyn FnMut(u64)) -> Result<u64, Error> {
        fill::Filling::new(self, builder, progress).run()
    }

    /// Makes the volume on a device that reads as zeros all over.
    ///
    /// # Errors
    ///
    /// As [`Recipe::fill`] and [`Volume::options`].
    pub fn build(&self, device: &mut Device) -> Result<Summary, Error> {
        let mut builder = Builder::new(device, self.volume.options()?, true)?;
        let root = self.fill(&mut builder, &mut |_| {})?;
        builder.finish(root)
    }

    /// Makes the volume in memory.
    ///
    /// # Errors
    ///
    /// As [`Recipe::build`], and for a size above [`IMAGE_BYTES_MAX`].
    pub fn image(&self) -> Result<(Device, Summary), Error> {
        let bytes = self.volume.size.map_or(0, |size| size.0);
        if bytes > IMAGE_BYTES_MAX {
            let why = format!("{bytes} bytes are too many for an image in memory: give at most 4G");
            return Err(Error::Recipe { at: "volume.size".to_owned(), why });
        }
        let mut device = Device::memory(vec![0; usize::try_from(bytes).unwrap_or(0)]);
        let summary = self.build(&mut device)?;
        Ok((device, summary))
    }
}
