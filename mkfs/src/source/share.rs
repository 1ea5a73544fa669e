//! Finding equal contents (`-s`): pieces of files, by hash. What has the same hash is compared before it is shared.
//!
//! A piece is what lies within one 2 MiB frame of a file and is not a hole. So a small file is one piece; and a shared
//! piece of a large file keeps the place modulo 2 MiB that it had.

use super::fill::{Context, Job, Outcome, Trouble};
use super::scan::{Entry, Listing, Range, Scanner, data_ranges};
use crate::builder::{Builder, extent, offset_of};
use crate::space::runs::FRAME;
use paxfs_format::device::Device;
use paxfs_format::geometry::BLOCK_SIZE;
use rayon::prelude::*;
use std::collections::HashMap;

/// Bytes of the longest piece.
pub(super) const PIECE_BYTES: usize = 2 << 20;

/// A piece of a file, hashed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    pub offset: u64,
    pub blocks: u64,
    pub hash: u128,
}

impl Shared {
    /// What pieces that may be equal have in common.
    pub(super) fn content(&self) -> (u128, u64) {
        (self.hash, self.blocks)
    }
}

/// Where the first piece of each content is.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(u128, u64), u64>);

impl Known {
    /// The block where an equal piece begins.
    pub(super) fn find(&self, piece: &Shared) -> Option<u64> {
        self.0.get(&piece.content()).copied()
    }

    /// Notes a piece that begins at a block.
    pub(super) fn add(&mut self, piece: &Shared, block: u64) {
        self.0.entry(piece.content()).or_insert(block);
    }
}

/// Ranges of a file, cut where frames of it end.
pub(super) fn pieces(ranges: &[Range]) -> impl Iterator<Item = Range> + '_ {
    let frame = u64::from(FRAME);
    ranges.iter().flat_map(move |&(start, blocks)| {
        let (mut at, end) = (start, start + blocks);
        core::iter::from_fn(move || {
            let from = at;
            at = (from + 1).next_multiple_of(frame).min(end);
            (from < end).then(|| (from, at - from))
        })
    })
}

/// Hashes the pieces of files, so that equal ones can be found.
pub(super) fn hashes(
    scanner: &Scanner,
    builder: &Builder<'_>,
    entries: &[(&Listing, &Entry)],
) -> Vec<Result<Vec<Shared>, Outcome>> {
    let context = Context::new(builder, scanner);
    let buffer = || vec![0; PIECE_BYTES];
    entries
        .par_iter()
        .map_init(buffer, |buffer, (listing, entry)| {
            let job = Job { listing, entry, extents: Vec::new() };
            context.pieces(&job, buffer).map_err(|trouble| context.failed(&job, trouble))
        })
        .collect()
}

impl Context<'_> {
    /// Which shared parts of a job hold other bytes than the file.
    fn differing(&self, device: &Device, job: &Job<'_>) -> Result<Vec<usize>, Trouble> {
        let file = self.open(job)?;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut differing = Vec::new();
        for (index, part) in job.extents.iter().enumerate().filter(|(_, part)| part.shared) {
            if self.interrupt.is_set() {
                return Err(Trouble::Interrupted);
            }
            let length = (part.extent.length.get() as usize).saturating_mul(BLOCK_SIZE);
            let blocks = buffer.get_mut(..length).ok_or(Trouble::Changed)?;
            self.read_part(&file, job.entry.meta.size, &part.extent, blocks)?;
            let there =
                device.bytes(offset_of(part.extent.start.get()), length).map_err(|_| Trouble::Lost)?;
            if there != blocks {
                differing.push(index);
            }
        }
        self.check_same(&file, job)?;
        Ok(differing)
    }

    fn pieces(&self, job: &Job<'_>, buffer: &mut [u8]) -> Result<Vec<Shared>, Trouble> {
        let (file, size) = (self.open(job)?, job.entry.meta.size);
        let ranges = data_ranges(&file, size)?;
        let mut list = Vec::new();
        for (offset, blocks) in pieces(&ranges) {
            if self.interrupt.is_set() {
                return Err(Trouble::Interrupted);
            }
            let length = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK_SIZE);
            let bytes = buffer.get_mut(..length).ok_or(Trouble::Changed)?;
            let whole = extent(offset, 0, u32::try_from(blocks).unwrap_or(0));
            self.read_part(&file, size, &whole, bytes)?;
            list.push(Shared { offset, blocks, hash: xxhash_rust::xxh3::xxh3_128(bytes) });
        }
        Ok(list)
    }
}

/// Compares the parts that are to be shared, now that everything they could share is written.
pub(super) fn compare(device: &Device, context: &Context<'_>, jobs: &[Job<'_>], outcomes: &mut [Outcome]) {
    jobs.par_iter().zip(outcomes).filter(|(job, _)| job.extents.iter().any(|part| part.shared)).for_each(
        |(job, outcome)| {
            if !matches!(outcome, Outcome::Read(..)) {
                return;
            }
            match context.differing(device, job) {
                Ok(differing) if differing.is_empty() => {}
                Ok(differing) => *outcome = Outcome::Differs(differing),
                Err(trouble) => *outcome = context.failed(job, trouble),
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_frames() {
        let cut: Vec<Range> = pieces(&[(0, 1), (510, 4), (1024, 1030)]).collect();
        assert_eq!(cut, [(0, 1), (510, 2), (512, 2), (1024, 512), (1536, 512), (2048, 6)]);
    }
}
