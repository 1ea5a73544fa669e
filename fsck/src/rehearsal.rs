//! A rehearsal: what would be stored to a device is stored to memory. So all that can fail does so before the device is
//! touched, and it is known which blocks will be.

use crate::error::Error;
use crate::medium::Medium;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::{Device, MediumError};
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::image::Image;
use paxfs_format::journal::LINE_SIZE;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A device that stays as it is, and what was stored to it.
#[derive(Debug)]
pub(crate) struct Rehearsal<'d> {
    image: Image<'d>,
    /// All that each line of a block will have held, if that is asked for.
    history: Option<BTreeMap<u64, Vec<Line>>>,
}

/// What a line of a block held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub number: u32,
    pub bytes: [u8; LINE_SIZE],
}

impl<'d> Rehearsal<'d> {
    pub fn new(device: &'d Device, with_history: bool) -> Self {
        Rehearsal { image: Image::new(device), history: with_history.then(BTreeMap::new) }
    }

    /// The device below, as it is.
    pub fn device(&self) -> &'d Device {
        self.image.device()
    }

    /// The blocks that were changed, ascending, and what their lines held meanwhile and in the end, beside what they hold
    /// on the device.
    pub fn history(&self) -> impl Iterator<Item = (u64, &[Line])> {
        let all = self.history.iter().flatten();
        all.map(|(block, lines)| (*block, lines.as_slice())).filter(|(_, lines)| !lines.is_empty())
    }

    fn note(&mut self, block: u64, first: usize, end: usize) -> Result<(), MediumError> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let (old, new) = (self.image.device().block(block)?, self.image.block(block)?);
        let lines = history.entry(block).or_default();
        let both = old.as_chunks::<LINE_SIZE>().0.iter().zip(new.as_chunks::<LINE_SIZE>().0);
        for (number, (old, new)) in (0_u32..).zip(both) {
            let is_touched = (first / LINE_SIZE..end.div_ceil(LINE_SIZE)).contains(&(number as usize));
            let line = Line { number, bytes: *new };
            if is_touched && old != new && !lines.contains(&line) {
                lines.push(line);
            }
        }
        Ok(())
    }
}

impl Blocks for Rehearsal<'_> {
    fn blocks(&self) -> u64 {
        self.image.blocks()
    }

    fn block(&self, block: u64) -> Result<&[u8; BLOCK_SIZE], MediumError> {
        self.image.block(block)
    }

    fn run(&self, blocks: core::ops::Range<u64>) -> Result<Cow<'_, [u8]>, MediumError> {
        self.image.run(blocks)
    }

    fn failed(&self, block: u64) -> bool {
        self.image.failed(block)
    }

    fn next_data(&self, block: u64) -> Option<u64> {
        self.image.next_data(block)
    }
}

impl Medium for Rehearsal<'_> {
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let block = at / BLOCK_BYTES;
            let first = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
            let (part, after) = rest.split_at(rest.len().min(BLOCK_SIZE - first));
            let end = first + part.len();
            if let Some(to) = self.image.block_mut(block)?.get_mut(first..end) {
                to.copy_from_slice(part);
            }
            self.note(block, first, end)?;
            (at, rest) = (at.saturating_add(part.len() as u64), after);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
