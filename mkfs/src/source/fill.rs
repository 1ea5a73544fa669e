//! Reading the contents of files straight into the device, many at a time.
//!
//! Numbers and blocks are given one after the other, in the order of the names, so that they do not depend on who is
//! faster; then threads read into regions of the mapped device that do not overlap.

use super::attributes;
use super::path::open;
use super::scan::{CHANGED, Entry, Fault, Listing, Range, Scanner, data_ranges, id_of, look};
use super::share::compare;
use crate::builder::{Builder, Contents, extent, merged, offset_of, seal_blocks, whole_inode};
use crate::entries::Attribute;
use crate::error::Error;
use crate::inode::Place;
use crate::interrupt::Interrupt;
use paxfs_format::device::Device;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE, Geometry};
use paxfs_format::hash::NameHash;
use paxfs_format::header::Seed;
use paxfs_format::inode::{FileType, INODE_SIZE};
use rayon::prelude::*;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};
use zerocopy::IntoBytes;

/// Bytes of one file that a thread reads at a time.
const READ_PART: usize = 4 << 20;
/// Jobs a thread takes at a time, at least.
const JOBS_MIN: usize = 8;

/// One inode to be stored.
pub(super) struct Job<'a> {
    pub listing: &'a Listing,
    pub entry: &'a Entry,
    /// Where its data goes, ascending by offset; of a shared part, where the data is already.
    pub extents: Vec<Part>,
}

/// An extent of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub extent: Extent,
    /// Whether the blocks are another file's: then they are compared, not written.
    pub shared: bool,
}

/// What became of a job.
pub(super) enum Outcome {
    /// Its inode is stored; the extents are its own.
    Stored(Vec<Extent>),
    /// All is read, but the inode has yet to be stored. The attributes are without parent pointers.
    Read(Vec<Extent>, Vec<Attribute>),
    /// These parts are not the same as what they were to share.
    Differs(Vec<usize>),
    /// It could not be read.
    Failed(Fault),
    /// The device did not take the bytes.
    Lost,
    /// Somebody wants it to stop.
    Interrupted,
    /// The inode does not fit the format.
    Unfit(Error),
}

/// What goes wrong while a file is read.
pub(super) enum Trouble {
    Os(Errno),
    Changed,
    Lost,
    Interrupted,
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        // The only pointers that these calls are given are into the device.
        if error == Errno::FAULT { Trouble::Lost } else { Trouble::Os(error) }
    }
}

/// What the threads share.
pub(super) struct Context<'a> {
    scanner: &'a Scanner,
    geometry: Geometry,
    seed: Seed,
    hash: NameHash,
    pub(super) interrupt: Interrupt,
}

/// The regions of a job: of each part that is written its blocks and (with checksums) their entries, then the inode.
type Regions<'r, 'm> = &'r mut [Option<&'m mut [u8]>];

impl Job<'_> {
    fn links(&self) -> u32 {
        self.entry.links
    }

    /// Whether its inode is not stored before all its names are known, or its shared parts compared.
    fn later(&self) -> bool {
        self.links() > 1 || self.extents.iter().any(|part| part.shared)
    }

    /// Byte ranges of the device that it writes.
    fn ranges(&self, geometry: &Geometry) -> Vec<(u64, usize)> {
        let mut ranges = Vec::with_capacity(2);
        for part in self.extents.iter().filter(|part| !part.shared) {
            let (start, blocks) = (part.extent.start.get(), part.extent.length.get() as usize);
            ranges.push((offset_of(start), blocks.saturating_mul(BLOCK_SIZE)));
            if let Some(offset) = geometry.sum_offset(start) {
                ranges.push((offset, blocks.saturating_mul(size_of::<paxfs_format::sums::Sum>())));
            }
        }
        if !self.later() {
            ranges.push((self.entry.number.saturating_mul(INODE_SIZE as u64), INODE_SIZE));
        }
        ranges
    }
}

/// Runs the jobs, all threads at once. The outcomes are in the order of the jobs.
pub(super) fn run(
    builder: &mut Builder<'_>,
    scanner: &Scanner,
    jobs: &[Job<'_>],
) -> Result<Vec<Outcome>, Error> {
    let context = Context::new(builder, scanner);
    let mut ranges = Vec::new();
    let mut counts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let of_job = job.ranges(&context.geometry);
        counts.push(of_job.len());
        ranges.extend(of_job);
    }
    let mut regions = scattered(builder.device, &ranges)?;
    let mut rest = regions.as_mut_slice();
    let mut work = Vec::with_capacity(jobs.len());
    for (job, count) in jobs.iter().zip(counts) {
        let Some((own, others)) = core::mem::take(&mut rest).split_at_mut_checked(count) else { break };
        rest = others;
        work.push((job, own));
    }
    let mut outcomes: Vec<Outcome> = work
        .into_par_iter()
        .with_min_len(JOBS_MIN)
        .map(|(job, regions)| context.outcome(job, regions))
        .collect();
    drop(regions);
    compare(builder.device, &context, jobs, &mut outcomes);
    Ok(outcomes)
}

/// Regions of the device, in any order, to be written.
fn scattered<'m>(
    device: &'m mut Device,
    ranges: &[(u64, usize)],
) -> Result<Vec<Option<&'m mut [u8]>>, Error> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    let at = |&index: &usize| ranges.get(index).copied().unwrap_or_default();
    order.sort_unstable_by_key(at);
    let sorted: Vec<(u64, usize)> = order.iter().map(at).collect();
    let mut regions: Vec<Option<&mut [u8]>> = Vec::new();
    regions.resize_with(ranges.len(), || None);
    for (index, region) in order.into_iter().zip(device.regions_mut(&sorted)?) {
        if let Some(slot) = regions.get_mut(index) {
            *slot = Some(region);
        }
    }
    Ok(regions)
}

impl<'a> Context<'a> {
    /// What the threads need of a builder.
    pub(super) fn new(builder: &Builder<'_>, scanner: &'a Scanner) -> Self {
        Context {
            scanner,
            geometry: builder.geometry(),
            seed: builder.seed,
            hash: builder.hash,
            interrupt: builder.interrupt.clone(),
        }
    }
}

impl Context<'_> {
    pub(super) fn failed(&self, job: &Job<'_>, trouble: Trouble) -> Outcome {
        let why = match trouble {
            Trouble::Lost => return Outcome::Lost,
            Trouble::Interrupted => return Outcome::Interrupted,
            Trouble::Changed => CHANGED.to_owned(),
            Trouble::Os(error) => std::io::Error::from(error).to_string(),
        };
        Outcome::Failed(Fault { path: self.path(job), why })
    }

    fn path(&self, job: &Job<'_>) -> Vec<u8> {
        job.listing.directory.path.join(&self.scanner.base, job.listing.name(job.entry))
    }

    fn outcome(&self, job: &Job<'_>, regions: Regions<'_, '_>) -> Outcome {
        if self.interrupt.is_set() {
            return Outcome::Interrupted;
        }
        match self.read(job, regions) {
            Err(trouble) => self.failed(job, trouble),
            Ok((extents, attributes)) if job.later() => Outcome::Read(extents, attributes),
            Ok((extents, mut attributes)) => {
                attributes.push(Attribute::parent(job.listing.name(job.entry), job.listing.directory.number));
                match self.store(job, &extents, &attributes, regions) {
                    Ok(true) => Outcome::Stored(extents),
                    Ok(false) => {
                        attributes.pop();
                        Outcome::Read(extents, attributes)
                    }
                    Err(error) => Outcome::Unfit(error),
                }
            }
        }
    }

    /// Stores the inode if all of it fits its payload.
    fn store(
        &self,
        job: &Job<'_>,
        extents: &[Extent],
        attributes: &[Attribute],
        regions: Regions<'_, '_>,
    ) -> Result<bool, Error> {
        let (number, meta) = (job.entry.number, &job.entry.meta);
        if FileType::from_mode(meta.mode) == Some(FileType::Symlink) {
            return Ok(false);
        }
        let group = self.geometry.locate(number / paxfs_format::geometry::INODES_PER_BLOCK);
        let place = Place { number, group: group.map_or(0, |place| place.group) };
        let inode = whole_inode((self.seed, &self.hash), place, meta, extents, attributes)?;
        match (inode, regions.last_mut().and_then(Option::as_mut)) {
            (Some(inode), Some(region)) if region.len() == INODE_SIZE => {
                region.copy_from_slice(inode.as_bytes());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Reads contents and attributes.
    fn read(
        &self,
        job: &Job<'_>,
        regions: Regions<'_, '_>,
    ) -> Result<(Vec<Extent>, Vec<Attribute>), Trouble> {
        if FileType::from_mode(job.entry.meta.mode) != Some(FileType::Regular) {
            let attributes = job.entry.extra.as_ref().map(|extra| extra.attributes.clone());
            return Ok((Vec::new(), attributes.unwrap_or_default()));
        }
        let file = self.open(job)?;
        let size = job.entry.meta.size;
        let sparse = job.entry.extra.as_ref().is_some_and(|extra| extra.data.is_some());
        let holes = if sparse || size <= BLOCK_BYTES { None } else { self.holes(&file, size)? };
        let extents = match holes {
            Some(ranges) => self.read_ranges(&file, job, &ranges, regions)?,
            None => {
                let mut regions = regions.iter_mut();
                for part in job.extents.iter().filter(|part| !part.shared) {
                    let blocks = regions.next().and_then(Option::as_mut).ok_or(Trouble::Lost)?;
                    self.read_part(&file, size, &part.extent, blocks)?;
                    if self.geometry.csum {
                        let sums = regions.next().and_then(Option::as_mut).ok_or(Trouble::Lost)?;
                        seal_blocks(self.seed, blocks, sums);
                    }
                }
                job.extents.iter().map(|part| part.extent).collect()
            }
        };
        let attributes = attributes::of_file(&file)?;
        self.check_same(&file, job)?;
        Ok((merged(&self.geometry, extents), attributes))
    }

    pub(super) fn open(&self, job: &Job<'_>) -> Result<OwnedFd, Trouble> {
        let at = job.listing.file.as_ref().ok_or(Trouble::Changed)?;
        Ok(open(at, job.listing.c_name(job.entry), OFlags::empty())?)
    }

    /// Where a file has data that `statx` said nothing of; `None` when it has no holes.
    fn holes(&self, file: &OwnedFd, size: u64) -> Result<Option<Vec<Range>>, Trouble> {
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)) {
            Ok(hole) if hole < size => Ok(Some(data_ranges(file, size)?)),
            _ => Ok(None),
        }
    }

    /// Reads only the parts that hold data; the blocks of the others stay unused.
    fn read_ranges(
        &self,
        file: &OwnedFd,
        job: &Job<'_>,
        ranges: &[Range],
        regions: Regions<'_, '_>,
    ) -> Result<Vec<Extent>, Trouble> {
        let (mut list, mut regions) = (Vec::new(), regions.iter_mut());
        for part in job.extents.iter().filter(|part| !part.shared) {
            let blocks = regions.next().and_then(Option::as_mut).ok_or(Trouble::Lost)?;
            let mut sums = match self.geometry.csum {
                true => regions.next().and_then(Option::as_mut),
                false => None,
            };
            for used in within(ranges, &part.extent) {
                let skipped = used.start.get() - part.extent.start.get();
                let bytes = slice_blocks(blocks, skipped, used.length.get().into(), BLOCK_BYTES);
                let bytes = bytes.ok_or(Trouble::Lost)?;
                self.read_part(file, job.entry.meta.size, &used, bytes)?;
                if let Some(sums) = sums.as_mut() {
                    let size = size_of::<paxfs_format::sums::Sum>() as u64;
                    let sums =
                        slice_blocks(sums, skipped, used.length.get().into(), size).ok_or(Trouble::Lost)?;
                    seal_blocks(self.seed, bytes, sums);
                }
                list.push(used);
            }
        }
        let shared = job.extents.iter().filter(|part| part.shared);
        list.extend(shared.flat_map(|part| within(ranges, &part.extent)));
        list.sort_unstable_by_key(|extent| extent.offset.get());
        Ok(list)
    }

    /// Reads the bytes of an extent; zeros behind the file's end.
    pub(super) fn read_part(
        &self,
        file: &OwnedFd,
        size: u64,
        extent: &Extent,
        blocks: &mut [u8],
    ) -> Result<(), Trouble> {
        let start = extent.offset.get().saturating_mul(BLOCK_BYTES);
        let length = usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX).min(blocks.len());
        let Some((bytes, tail)) = blocks.split_at_mut_checked(length) else { return Err(Trouble::Lost) };
        if bytes.len() <= READ_PART {
            read_exact(file, start, bytes)?;
        } else {
            bytes.par_chunks_mut(READ_PART).enumerate().try_for_each(|(part, bytes)| {
                if self.interrupt.is_set() {
                    return Err(Trouble::Interrupted);
                }
                let skipped = u64::try_from(part.saturating_mul(READ_PART)).unwrap_or(u64::MAX);
                read_exact(file, start.saturating_add(skipped), bytes)
            })?;
        }
        tail.fill(0);
        Ok(())
    }

    /// Refuses a file that is another, or was changed, since its directory was read.
    pub(super) fn check_same(&self, file: &OwnedFd, job: &Job<'_>) -> Result<(), Trouble> {
        let stat = look(file.as_fd(), c"")?;
        let (then, now) = (&job.entry.meta, self.scanner.meta(&stat));
        let same = id_of(&stat) == job.entry.id
            && (then.size, then.modified, then.changed) == (now.size, now.modified, now.changed);
        if same { Ok(()) } else { Err(Trouble::Changed) }
    }
}

/// The parts of an extent that lie in ranges of the file.
fn within(ranges: &[Range], part: &Extent) -> Vec<Extent> {
    let (offset, length) = (part.offset.get(), u64::from(part.length.get()));
    let first = ranges.partition_point(|(start, blocks)| start + blocks <= offset);
    let inside = ranges.iter().skip(first).take_while(|(start, _)| *start < offset + length);
    let cut = |&(start, blocks): &Range| {
        let (from, to) = (start.max(offset), (start + blocks).min(offset + length));
        Extent {
            flags: part.flags,
            ..extent(from, part.start.get() + (from - offset), u32::try_from(to - from).unwrap_or(0))
        }
    };
    inside.map(cut).collect()
}

/// The blocks of a job's extents that its file turned out not to need.
pub(super) fn unused(job: &Job<'_>, extents: &[Extent]) -> Vec<(u64, u32)> {
    let kept: Vec<Range> = extents.iter().map(|one| (one.offset.get(), one.length.get().into())).collect();
    let mut list = Vec::new();
    for part in job.extents.iter().filter(|part| !part.shared) {
        let end = part.extent.start.get() + u64::from(part.extent.length.get());
        let mut at = part.extent.start.get();
        let ends =
            within(&kept, &part.extent).into_iter().map(|one| (one.start.get(), u64::from(one.length.get())));
        for (start, blocks) in ends.chain([(end, 0)]) {
            if start > at {
                list.push((at, u32::try_from(start - at).unwrap_or(0)));
            }
            at = start + blocks;
        }
    }
    list
}

fn slice_blocks(bytes: &mut [u8], skip: u64, blocks: u64, size: u64) -> Option<&mut [u8]> {
    let start = usize::try_from(skip.checked_mul(size)?).ok()?;
    let length = usize::try_from(blocks.checked_mul(size)?).ok()?;
    bytes.get_mut(start..start.checked_add(length)?)
}

/// Fills `bytes` from a file; it is an error of the file's when they are not there.
fn read_exact(file: &OwnedFd, offset: u64, bytes: &mut [u8]) -> Result<(), Trouble> {
    let (mut offset, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        match pread(file, &mut *rest, offset) {
            Ok(0) => return Err(Trouble::Changed),
            Ok(read) => {
                offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                rest = rest.get_mut(read..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What remains to be stored of an outcome.
pub(super) fn contents(job: &Job<'_>, extents: Vec<Extent>) -> Contents {
    match FileType::from_mode(job.entry.meta.mode) {
        Some(FileType::Regular) => Contents::Extents(extents),
        Some(FileType::Symlink) => {
            Contents::Target(job.entry.extra.as_ref().map(|extra| extra.target.clone()).unwrap_or_default())
        }
        _ => Contents::None,
    }
}
