//! Filling a volume from a directory.
//!
//! Directories are taken from a stack in waves: so many that a few ten thousand entries are in hand. For each wave
//!
//! 1. names and `statx` of everything, by all threads (`scan`);
//! 2. inode numbers, in the order of the names, by one;
//! 3. in batches: blocks by one, then contents and attributes by all, straight into the device (`fill`);
//! 4. the directories: packed by all, stored by one.
//!
//! What a wave holds is forgotten with it; files with several names are remembered until all of them were met
//! (`links`). How waves and batches are cut depends on the names alone, and so do all numbers.
//!
//! The source's file system is not left: what is mounted below the directory stays an empty directory. The image itself
//! is left out, as are the inode flags that `lsattr` shows.

mod attributes;
mod fill;
mod links;
mod path;
mod scan;
mod share;

use self::fill::{Job, Outcome, Part};
use self::links::{Links, Pending};
use self::path::Path;
use self::scan::{Directory, Entry, Fault, Id, Listing, Scanner};
use self::share::{Known, Shared};
use crate::builder::{Builder, Contents, extent};
use crate::entries::{Attribute, Name};
use crate::error::Error;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::inode::FileType;
use paxfs_format::packed::Packed;
use rayon::prelude::*;
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use std::collections::{HashSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Directories read side by side.
const READ_AHEAD: usize = 16;
/// Directories of a wave at most: each holds a descriptor.
const WAVE_DIRECTORIES: usize = 256;
/// Entries of a wave, but for the last directories read.
const WAVE_ENTRIES: usize = 16384;
/// Entries of a batch.
const BATCH_ENTRIES: usize = 16384;

/// Who is told how it goes.
pub trait Watcher {
    /// Something could not be read. There will be no volume, but all others are still tried.
    fn fault(&mut self, path: &[u8], why: &str);
    /// Something that is as it should be, but maybe not as somebody expects.
    fn note(&mut self, path: &[u8], what: &str);
    /// So many entries and bytes so far.
    fn progress(&mut self, entries: u64, bytes: u64);
}

/// A directory to fill a volume from.
#[derive(Debug)]
pub struct Source {
    scanner: Scanner,
    /// Whether equal contents are to be shared.
    pub share: bool,
}

impl Source {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn open(directory: &std::path::Path, share: bool) -> Result<Self, Error> {
        let failed =
            |errno: rustix::io::Errno| Error::Open { path: directory.to_path_buf(), source: errno.into() };
        // Not through path::open: the directory itself may be given as a symlink.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, rustix::fs::Mode::empty()).map_err(failed)?;
        let base = directory.as_os_str().as_bytes().to_vec();
        Ok(Source { scanner: Scanner { root, base, image: None, latest: None }, share })
    }

    /// Fills the volume. Returns the number of the root directory.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] when anything could not be read, after all of it was tried; [`Error::Full`],
    /// [`Error::Interrupted`], [`Error::Lost`] at once.
    pub fn fill(mut self, builder: &mut Builder<'_>, watcher: &mut dyn Watcher) -> Result<u64, Error> {
        if self.share && !builder.options.features.reflink {
            return Err(Error::NeedsReflink { what: "-s".to_owned() });
        }
        self.scanner.image = image_of(builder);
        self.scanner.latest = builder.options.clamp.then_some(builder.options.now);
        let mut filling = Filling {
            source: &self,
            builder,
            watcher,
            links: Links::default(),
            known: Known::default(),
            entries: 0,
            faults: 0,
        };
        filling.run()
    }
}

fn image_of(builder: &Builder<'_>) -> Option<Id> {
    let stat = rustix::fs::stat(builder.device.path()).ok()?;
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file().then_some((stat.st_dev, stat.st_ino))
}

struct Filling<'f, 'd> {
    source: &'f Source,
    builder: &'f mut Builder<'d>,
    watcher: &'f mut dyn Watcher,
    links: Links,
    known: Known,
    entries: u64,
    faults: u64,
}

impl Filling<'_, '_> {
    fn run(&mut self) -> Result<u64, Error> {
        let scanner = &self.source.scanner;
        let stat = scan::look(scanner.root.as_fd(), c"").map_err(|errno| Error::Open {
            path: std::ffi::OsStr::from_bytes(&scanner.base).into(),
            source: errno.into(),
        })?;
        let root = self.builder.inode()?;
        let mut stack = vec![Directory {
            path: Arc::new(Path::default()),
            number: root,
            parent: 0,
            meta: scanner.meta(&stat),
            id: scan::id_of(&stat),
            mount: false,
        }];
        let mut ahead = VecDeque::new();
        while let Some(mut wave) = self.wave(&mut stack, &mut ahead)? {
            let mut below = self.number(&mut wave)?;
            let all: Vec<(usize, usize)> = (0..)
                .zip(&wave)
                .flat_map(|(at, listing)| (0..listing.entries.len()).map(move |entry| (at, entry)))
                .collect();
            for batch in all.chunks(BATCH_ENTRIES) {
                let pairs = batch.iter().filter_map(|&(listing, entry)| {
                    let listing = wave.get(listing)?;
                    Some((listing, listing.entries.get(entry)?))
                });
                self.batch(pairs.filter(|(_, entry)| entry.first).collect())?;
            }
            self.links.store_complete(self.builder)?;
            self.directories(wave)?;
            below.reverse();
            stack.append(&mut below);
        }
        core::mem::take(&mut self.links).store_rest(self.builder)?;
        if self.faults > 0 { Err(Error::Source { count: self.faults }) } else { Ok(root) }
    }

    fn fault(&mut self, fault: &Fault) {
        self.faults += 1;
        self.watcher.fault(&fault.path, &fault.why);
    }

    /// The next directories, read; `None` when there are no more.
    fn wave(
        &mut self,
        stack: &mut Vec<Directory>,
        ahead: &mut VecDeque<Listing>,
    ) -> Result<Option<Vec<Listing>>, Error> {
        let (mut wave, mut entries) = (Vec::new(), 0);
        while entries < WAVE_ENTRIES && wave.len() < WAVE_DIRECTORIES {
            self.builder.interrupt.check()?;
            if ahead.is_empty() {
                let next = stack.split_off(stack.len().saturating_sub(READ_AHEAD));
                let read: Vec<Listing> =
                    next.into_par_iter().rev().map(|directory| self.source.scanner.scan(directory)).collect();
                ahead.extend(read);
            }
            let Some(listing) = ahead.pop_front() else { break };
            for fault in &listing.faults {
                self.fault(fault);
            }
            if listing.directory.mount {
                let path = listing.directory.path.join(&self.source.scanner.base, b"");
                self.watcher.note(&path, "is a mount point; the directory is made, and left empty");
            }
            entries += listing.entries.len();
            wave.push(listing);
        }
        Ok((!wave.is_empty()).then_some(wave))
    }

    /// Gives every new inode its number; returns the directories among them.
    fn number(&mut self, wave: &mut [Listing]) -> Result<Vec<Directory>, Error> {
        let mut below = Vec::new();
        for listing in wave {
            let (holder, path) = (listing.directory.number, Arc::clone(&listing.directory.path));
            for at in 0..listing.entries.len() {
                let Some(entry) = listing.entries.get(at) else { break };
                let directory = FileType::from_mode(entry.meta.mode) == Some(FileType::Directory);
                let (number, first) = if directory {
                    let number = self.builder.inode()?;
                    below.push(Directory {
                        path: path.below(listing.name(entry)),
                        number,
                        parent: holder,
                        meta: entry.meta,
                        id: entry.id,
                        mount: entry.mount,
                    });
                    (number, false)
                } else if entry.links > 1 {
                    let builder = &mut *self.builder;
                    let parent = Attribute::parent(listing.name(entry), holder);
                    self.links.name(entry, parent, || builder.inode())?
                } else {
                    (self.builder.inode()?, true)
                };
                if let Some(entry) = listing.entries.get_mut(at) {
                    (entry.number, entry.first) = (number, first);
                }
            }
            self.entries += u64::try_from(listing.entries.len()).unwrap_or(0);
        }
        Ok(below)
    }

    /// Stores files.
    fn batch(&mut self, entries: Vec<(&Listing, &Entry)>) -> Result<(), Error> {
        self.builder.interrupt.check()?;
        let jobs = if self.source.share { self.sharing_jobs(entries)? } else { self.jobs(entries)? };
        let outcomes = fill::run(self.builder, &self.source.scanner, &jobs)?;
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            self.settle(job, outcome)?;
        }
        self.watcher.progress(self.entries, self.builder.totals.bytes);
        Ok(())
    }

    /// Blocks for files, without reading them.
    fn jobs<'a>(&mut self, entries: Vec<(&'a Listing, &'a Entry)>) -> Result<Vec<Job<'a>>, Error> {
        let mut jobs = Vec::with_capacity(entries.len());
        for (listing, entry) in entries {
            let mut parts = Vec::new();
            if FileType::from_mode(entry.meta.mode) == Some(FileType::Regular) {
                let data = entry.extra.as_ref().and_then(|extra| extra.data.as_deref());
                let whole = [(0, entry.meta.size.div_ceil(BLOCK_BYTES))];
                for &(offset, blocks) in data.unwrap_or(&whole) {
                    let extents = self.builder.allocate(offset, blocks)?;
                    parts.extend(extents.into_iter().map(|extent| Part { extent, shared: false }));
                }
            }
            jobs.push(Job { listing, entry, extents: parts });
        }
        Ok(jobs)
    }

    /// Blocks for files, after their pieces were compared with all before.
    fn sharing_jobs<'a>(&mut self, entries: Vec<(&'a Listing, &'a Entry)>) -> Result<Vec<Job<'a>>, Error> {
        let regular = |entry: &Entry| {
            FileType::from_mode(entry.meta.mode) == Some(FileType::Regular) && entry.meta.size > 0
        };
        let files: Vec<(&Listing, &Entry)> =
            entries.iter().copied().filter(|(_, entry)| regular(entry)).collect();
        let mut hashes = share::hashes(&self.source.scanner, self.builder, &files).into_iter();
        let mut jobs = Vec::with_capacity(entries.len());
        for (listing, entry) in entries {
            let pieces = match if regular(entry) { hashes.next() } else { None } {
                Some(Err(outcome)) => {
                    let job = Job { listing, entry, extents: Vec::new() };
                    self.settle(job, outcome)?;
                    continue;
                }
                Some(Ok(pieces)) => pieces,
                None => Vec::new(),
            };
            jobs.push(Job { listing, entry, extents: self.share(&pieces)? });
        }
        Ok(jobs)
    }

    /// Where the pieces of a file go: to equal ones before them, or to new blocks, in as long runs as they come.
    fn share(&mut self, pieces: &[Shared]) -> Result<Vec<Part>, Error> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = pieces;
        while let Some((piece, others)) = rest.split_first() {
            if let Some(start) = self.known.find(piece) {
                let blocks = u32::try_from(piece.blocks).unwrap_or(0);
                parts.push(Part { extent: extent(piece.offset, start, blocks), shared: true });
                rest = others;
                continue;
            }
            let (mut run, mut blocks) = (HashSet::from([piece.content()]), piece.blocks);
            for next in others {
                let known = self.known.find(next).is_some();
                if known || next.offset != piece.offset + blocks || !run.insert(next.content()) {
                    break;
                }
                blocks += next.blocks;
            }
            let run = run.len();
            let extents = self.builder.allocate(piece.offset, blocks)?;
            let (new, others) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            for piece in new {
                if let Some(start) = whole_in(&extents, piece) {
                    self.known.add(piece, start);
                }
            }
            parts.extend(extents.into_iter().map(|extent| Part { extent, shared: false }));
            rest = others;
        }
        Ok(parts)
    }

    /// Does what is left to do for a file that was read.
    fn settle(&mut self, job: Job<'_>, outcome: Outcome) -> Result<(), Error> {
        let (number, meta) = (job.entry.number, job.entry.meta);
        match outcome {
            Outcome::Stored(extents) => {
                self.give_back(&job, &extents);
                self.builder.own(number, &extents);
                self.builder.totals.count(&meta);
                self.builder.space.use_inode(number, false);
            }
            Outcome::Read(extents, mut attributes) => {
                self.give_back(&job, &extents);
                let contents = fill::contents(&job, extents);
                if job.entry.links > 1 {
                    self.links.keep(job.entry.id, Pending { meta, contents, attributes });
                } else {
                    let name = job.listing.name(job.entry);
                    attributes.push(Attribute::parent(name, job.listing.directory.number));
                    self.builder.store(number, &meta, 1, contents, attributes)?;
                }
            }
            Outcome::Differs(differing) => return self.unshare(job, &differing),
            Outcome::Failed(fault) => self.fault(&fault),
            Outcome::Lost => return Err(Error::Lost { path: self.builder.device.path().to_path_buf() }),
            Outcome::Interrupted => return Err(Error::Interrupted),
            Outcome::Unfit(error) => return Err(error),
        }
        Ok(())
    }

    fn give_back(&mut self, job: &Job<'_>, extents: &[Extent]) {
        for (start, blocks) in fill::unused(job, extents) {
            self.builder.space.give_back(start, blocks);
        }
    }

    /// Reads a file again, with blocks of its own for parts that only had the same hash.
    fn unshare(&mut self, job: Job<'_>, differing: &[usize]) -> Result<(), Error> {
        let mut parts = Vec::new();
        for (index, part) in job.extents.iter().enumerate() {
            if differing.contains(&index) {
                let (offset, blocks) = (part.extent.offset.get(), part.extent.length.get().into());
                let extents = self.builder.allocate(offset, blocks)?;
                parts.extend(extents.into_iter().map(|extent| Part { extent, shared: false }));
            } else {
                parts.push(*part);
            }
        }
        let job = Job { extents: parts, ..job };
        for outcome in fill::run(self.builder, &self.source.scanner, core::slice::from_ref(&job))? {
            match outcome {
                // Compared twice, and other twice: somebody writes to the file.
                Outcome::Differs(..) => {
                    let path = job
                        .listing
                        .directory
                        .path
                        .join(&self.source.scanner.base, job.listing.name(job.entry));
                    self.fault(&Fault { path, why: scan::CHANGED.to_owned() });
                }
                outcome => {
                    let Job { listing, entry, ref extents } = job;
                    self.settle(Job { listing, entry, extents: extents.clone() }, outcome)?;
                }
            }
        }
        Ok(())
    }

    /// Stores the directories of a wave.
    fn directories(&mut self, wave: Vec<Listing>) -> Result<(), Error> {
        let builder = &*self.builder;
        let packed: Vec<Result<Packed, Error>> = wave
            .par_iter()
            .map(|listing| {
                let names = listing.entries.iter().filter(|entry| entry.number != 0);
                let names = names.map(|entry| Name {
                    name: listing.name(entry),
                    inode: entry.number,
                    generation: 1,
                    kind: FileType::from_mode(entry.meta.mode).map_or(0, FileType::number),
                });
                builder.directory(listing.directory.number, names)
            })
            .collect();
        for (listing, packed) in wave.into_iter().zip(packed) {
            let directory = listing.directory;
            let mut attributes = listing.attributes;
            if directory.parent != 0 {
                attributes.push(Attribute::parent(directory.path.name(), directory.parent));
            }
            self.builder.store(
                directory.number,
                &directory.meta,
                1,
                Contents::Entries(packed?),
                attributes,
            )?;
        }
        Ok(())
    }
}

/// The block where a piece begins, if one of the extents holds all of it.
fn whole_in(extents: &[Extent], piece: &Shared) -> Option<u64> {
    let holds = |one: &&Extent| {
        one.offset.get() <= piece.offset
            && one.offset.get() + u64::from(one.length.get()) >= piece.offset + piece.blocks
    };
    let one = extents.iter().find(holds)?;
    Some(one.start.get() + (piece.offset - one.offset.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_whole_in_one_extent() {
        let extents = [extent(0, 100, 600), extent(600, 9000, 10)];
        let piece = |offset, blocks| Shared { offset, blocks, hash: 0 };
        assert_eq!(whole_in(&extents, &piece(512, 88)), Some(612));
        assert_eq!(whole_in(&extents, &piece(512, 98)), None);
    }
}
