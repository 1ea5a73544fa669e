//! The undo file, as bytes: a head, an entry for each block that a repair changes, and a tail that says it is complete.
//!
//! An entry has the block as it was, and all that its lines will hold meanwhile and in the end. So it can be told whether
//! something else changed the block since, also when the repair was killed in the middle of it.

use crate::error::Error;
use crate::rehearsal::{Line, Rehearsal};
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::OnDisk;
use paxfs_format::device::{Device, MediumError};
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::header::Seed;
use paxfs_format::journal::LINE_SIZE;
use paxfs_format::on_disk;
use paxfs_format::superblock::Superblock;
use paxfs_format::units::{BlockCount, BlockNo, Count32, Count64, Crc, Generation, Opaque, Reserved, Uuid};
use paxfs_format::volume::find;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

const MAGIC: Opaque<8> = Opaque(*b"PAXFUNDO");
const END: Opaque<8> = Opaque(*b"PAXFDONE");
const VERSION: u32 = 1;
/// Most lines that an entry can say: block 0 is stored a few times, others once or twice.
const LINES_MAX: u32 = 64 * 16;

on_disk! {
    /// Begins an undo file.
    pub struct UndoHead = 72 {
        /// `PAXFUNDO`.
        pub magic: Opaque<8>,
        /// Version of the format, 1.
        pub version: Count32,
        /// CRC-32C of the volume's uuid and then this head, this field taken as zero.
        pub crc: Crc,
        /// Of the volume.
        pub uuid: Uuid,
        /// Blocks of the device.
        pub blocks: BlockCount,
        /// Entries that follow.
        pub entries: Count64,
        /// The last transaction that the repair makes.
        pub last: Generation,
        /// Zero.
        pub reserved: Reserved<16>,
    }
}

on_disk! {
    /// Begins an entry: the block's 4096 bytes before the repair follow, then `lines` times [`UndoLine`].
    pub struct UndoEntry = 16 {
        /// The block; those of a file ascend.
        pub block: BlockNo,
        /// How many lines follow.
        pub lines: Count32,
        /// CRC-32C of the volume's uuid and then the entry with all that follows, this field taken as zero.
        pub crc: Crc,
    }
}

on_disk! {
    /// What a line of the block holds meanwhile, or in the end.
    pub struct UndoLine = 68 {
        /// Which line.
        pub number: Count32,
        /// Its bytes.
        pub bytes: Opaque<64>,
    }
}

on_disk! {
    /// Ends an undo file.
    pub struct UndoTail = 16 {
        /// `PAXFDONE`.
        pub magic: Opaque<8>,
        /// CRC-32C of the volume's uuid and then the checksums of the head and of all entries.
        pub crc: Crc,
        /// Zero.
        pub reserved: Reserved<4>,
    }
}

/// What is wrong with an undo file, or with using it.
#[derive(Debug, thiserror::Error)]
pub enum UndoFault {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is a file already.
    #[error("exists, and is no undo file of a repair of this volume that came to nothing: give another name")]
    Exists,
    /// It would be written to what it is to protect.
    #[error("lies on the volume that is to be repaired: give one that is elsewhere")]
    OnVolume,
    /// Not an undo file.
    #[error("is no undo file of fsck.paxfs")]
    Magic,
    /// Of a version that this release does not know.
    #[error("is an undo file of version {0}, which this release does not know")]
    Version(u32),
    /// Its end is missing.
    #[error(
        "is not complete: the repair was stopped before it changed anything, and there is nothing to undo"
    )]
    Incomplete,
    /// Its checksums do not fit.
    #[error("is damaged ({0}): nothing was changed")]
    Damaged(String),
    /// Of another volume.
    #[error("is of the volume {file}, and this one is {device}")]
    Uuid {
        /// As the file says.
        file: Uuid,
        /// As the device says.
        device: Uuid,
    },
    /// Of a device of another size.
    #[error("is of a device of {file} blocks, and this one has {device}")]
    Size {
        /// As the file says.
        file: u64,
        /// The device's.
        device: u64,
    },
    /// The volume was used since.
    #[error(
        "the volume was changed since that repair ({0}); nothing was put back. -f puts everything back all the same: what \\
         was changed since is lost where it is in the same blocks, and may contradict the rest where it is not"
    )]
    Changed(String),
    /// The repair that wrote it came to its end.
    #[error(
        "is the undo file of a repair that came to its end: --undo undoes it, and a new repair needs another name"
    )]
    Finished,
}

/// A part of an undo file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub block: u64,
    pub old: Box<[u8; BLOCK_SIZE]>,
    pub lines: Vec<Line>,
}

fn failed(path: &Path, fault: impl Into<UndoFault>) -> Error {
    Error::Undo { path: path.to_path_buf(), fault: fault.into() }
}

/// Saves what a rehearsed repair will change. When this returns, the file is there for good.
pub(crate) fn save(path: &Path, rehearsal: &Rehearsal<'_>) -> Result<(), Error> {
    let device = rehearsal.device();
    refuse_volume(path, device)?;
    let superblock = find(rehearsal)?.superblock;
    let file = create(path, device, &superblock)?;
    write(file, rehearsal, &superblock).map_err(|fault| failed(path, fault))?;
    // What leads to the file has to last too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(|e| failed(path, e))
}

/// Refuses the device itself, and a file on a file system on it.
fn refuse_volume(path: &Path, device: &Device) -> Result<(), Error> {
    let Some(device) = device.file() else { return Ok(()) };
    let device = device.metadata().map_err(|error| failed(path, error))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    for place in [path, directory.unwrap_or(Path::new("."))] {
        let Ok(place) = fs::metadata(place) else { continue };
        let same_file = (place.dev(), place.ino()) == (device.dev(), device.ino());
        let same_device = device.file_type().is_block_device()
            && (place.dev() == device.rdev()
                || place.file_type().is_block_device() && place.rdev() == device.rdev());
        if same_file || same_device {
            return Err(failed(path, UndoFault::OnVolume));
        }
    }
    Ok(())
}

/// A file to write to: a new one, or that of a repair of this volume that changed nothing.
fn create(path: &Path, device: &Device, superblock: &Superblock) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(path, error)),
    }
    let of_this =
        |head: &UndoHead| head.uuid == superblock.uuid && head.blocks.get() == Blocks::blocks(device);
    let came_to_nothing = match Reader::open(path) {
        Err(Error::Undo { fault: UndoFault::Incomplete, .. }) => true,
        Err(error @ Error::Undo { fault: UndoFault::Io(_), .. }) => return Err(error),
        Err(_) => false,
        Ok(reader) if !of_this(&reader.head) => false,
        Ok(reader) => match reader.verify() {
            Ok(()) => is_untouched(path, device)?,
            Err(Error::Undo { fault: UndoFault::Incomplete, .. }) => true,
            Err(_) => false,
        },
    };
    if !came_to_nothing {
        return Err(failed(path, UndoFault::Exists));
    }
    options.truncate(true).open(path).map_err(|error| failed(path, error))
}

/// Whether a device is as it was before the repair that wrote the file.
fn is_untouched(path: &Path, device: &Device) -> Result<bool, Error> {
    let mut reader = Reader::open(path)?;
    while let Some(entry) = reader.next()? {
        if device.block(entry.block).ok() != Some(&*entry.old) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(file: File, rehearsal: &Rehearsal<'_>, superblock: &Superblock) -> Result<(), UndoFault> {
    let (device, seed) = (rehearsal.device(), Seed::new(&superblock.uuid));
    let mut head = UndoHead {
        magic: MAGIC,
        version: VERSION.into(),
        crc: 0.into(),
        uuid: superblock.uuid,
        blocks: Blocks::blocks(device).into(),
        entries: (rehearsal.history().count() as u64).into(),
        last: superblock.header.generation,
        reserved: Reserved::ZERO,
    };
    head.crc = seed.plain(head.as_bytes()).into();
    let mut all = seed.after(head.crc.as_bytes());
    let mut to = BufWriter::with_capacity(1 << 20, file);
    to.write_all(head.as_bytes())?;
    for (block, lines) in rehearsal.history() {
        let old = device.block(block).map_err(|error: MediumError| io::Error::other(error))?;
        let mut bytes = Vec::new();
        for line in lines {
            let line = UndoLine { number: line.number.into(), bytes: Opaque(line.bytes) };
            bytes.extend_from_slice(line.as_bytes());
        }
        let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let mut entry = UndoEntry { block: block.into(), lines: count.into(), crc: 0.into() };
        entry.crc = seed.after(entry.as_bytes()).after(old).plain(&bytes).into();
        all = all.after(entry.crc.as_bytes());
        to.write_all(entry.as_bytes())?;
        to.write_all(old)?;
        to.write_all(&bytes)?;
    }
    // The tail comes when all before it is there: what has it is complete.
    to.flush()?;
    to.get_ref().sync_data()?;
    let tail = UndoTail { magic: END, crc: all.plain(&[]).into(), reserved: Reserved::ZERO };
    to.write_all(tail.as_bytes())?;
    to.flush()?;
    Ok(to.get_ref().sync_all()?)
}

/// Reads an undo file, entry by entry.
#[derive(Debug)]
pub(crate) struct Reader<'p> {
    pub head: UndoHead,
    path: &'p Path,
    from: BufReader<File>,
    left: u64,
    after: Option<u64>,
    seed: Seed,
    all: Seed,
}

impl<'p> Reader<'p> {
    /// Opens one. Its head is sound; the rest is known to be only when all of it was read.
    pub fn open(path: &'p Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| failed(path, error))?;
        if !file.metadata().map_err(|error| failed(path, error))?.is_file() {
            return Err(failed(path, UndoFault::Magic));
        }
        let mut from = BufReader::with_capacity(1 << 20, file);
        let mut bytes = Vec::new();
        let size = size_of::<UndoHead>() as u64;
        from.by_ref().take(size).read_to_end(&mut bytes).map_err(|error| failed(path, error))?;
        if bytes.is_empty() {
            return Err(failed(path, UndoFault::Incomplete));
        }
        let head = UndoHead::read_from_bytes(&bytes).map_err(|_| failed(path, UndoFault::Magic))?;
        if head.magic != MAGIC {
            return Err(failed(path, UndoFault::Magic));
        }
        let seed = Seed::new(&head.uuid);
        if seed.plain(UndoHead { crc: 0.into(), ..head }.as_bytes()) != head.crc.get() {
            return Err(failed(path, UndoFault::Damaged("its head".to_owned())));
        }
        if head.version.get() != VERSION {
            return Err(failed(path, UndoFault::Version(head.version.get())));
        }
        let all = seed.after(head.crc.as_bytes());
        Ok(Reader { head, path, from, left: head.entries.get(), after: None, seed, all })
    }

    /// The next entry; `None` when it was the last, and the file is complete.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.left == 0 {
            return self.end().map(|()| None);
        }
        self.left -= 1;
        let entry: UndoEntry = self.read()?;
        let damaged = || {
            let what = format!("the entry of block {}", entry.block.get());
            failed(self.path, UndoFault::Damaged(what))
        };
        let block = entry.block.get();
        let ascends = self.after.is_none_or(|after| after < block) && block < self.head.blocks.get();
        if !ascends || entry.lines.get() > LINES_MAX {
            return Err(damaged());
        }
        let mut old = Box::new([0; BLOCK_SIZE]);
        self.fill(old.as_mut_slice())?;
        let mut sum = self.seed.after(UndoEntry { crc: 0.into(), ..entry }.as_bytes()).after(old.as_slice());
        let mut lines = Vec::new();
        for _ in 0..entry.lines.get() {
            let line: UndoLine = self.read()?;
            sum = sum.after(line.as_bytes());
            lines.push(Line { number: line.number.get(), bytes: line.bytes.0 });
        }
        let are_lines = lines.iter().all(|line| (line.number as usize) < BLOCK_SIZE / LINE_SIZE);
        if sum.plain(&[]) != entry.crc.get() || !are_lines {
            let what = format!("the entry of block {block}");
            return Err(failed(self.path, UndoFault::Damaged(what)));
        }
        self.after = Some(block);
        self.all = self.all.after(entry.crc.as_bytes());
        Ok(Some(Entry { block, old, lines }))
    }

    /// Reads all that is left, to see whether it is sound.
    pub fn verify(mut self) -> Result<(), Error> {
        while self.next()?.is_some() {}
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let tail: UndoTail = self.read()?;
        let is_sound = tail.magic == END
            && tail.crc.get() == self.all.plain(&[])
            && tail.reserved == Reserved::ZERO
            && self.from.read(&mut [0]).map_err(|error| failed(self.path, error))? == 0;
        if is_sound { Ok(()) } else { Err(failed(self.path, UndoFault::Damaged("its end".to_owned()))) }
    }

    fn read<T: OnDisk>(&mut self) -> Result<T, Error> {
        let mut value = T::zeroed();
        self.fill(value.as_mut_bytes())?;
        Ok(value)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => failed(self.path, UndoFault::Incomplete),
            _ => failed(self.path, error),
        })
    }
}
