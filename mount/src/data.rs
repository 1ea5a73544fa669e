//! Space of files, and copies between them that share their blocks.

use crate::fault::{Answer, Fault};
use crate::volume::Volume;
use core::cell::RefCell;
use core::ops::Range;
use fuser::Errno;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Size};

/// Most bytes that one request copies, where they cannot be shared: others have their turn.
const COPY_MAX: u64 = 16 << 20;
/// Bytes that are copied at a time.
const STEP: usize = 1 << 20;
/// Most bytes of one request: the answer has 32 bits.
const REQUEST_MAX: u64 = (1 << 32) - BLOCK_BYTES;

std::thread_local! {
    /// What a thread reads into.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lets `use_` have a buffer of this thread, of at least so many bytes; what is in it means nothing.
pub(crate) fn with_buffer<T>(length: usize, use_: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        use_(buffer.get_mut(..length).unwrap_or_default())
    })
}

impl Volume {
    /// Changes the space of a file, as `fallocate` has it.
    pub(crate) fn allocate(&self, file: &File, range: Range<u64>, mode: i32) -> Answer<()> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZERO_KEEP: i32 = ZERO | KEEP;
        match mode {
            0 => file.allocate(range, Size::Grows)?,
            KEEP => file.allocate(range, Size::Stays)?,
            PUNCH => file.punch_hole(range)?,
            ZERO => file.zero_range(range, Size::Grows)?,
            ZERO_KEEP => file.zero_range(range, Size::Stays)?,
            _ => return Err(Fault(Errno::EOPNOTSUPP)),
        }
        Ok(())
    }

    /// Copies bytes between files: whole blocks are shared where both places agree modulo a block, the rest is copied.
    /// Returns how many there were; it may be fewer than were asked for.
    pub(crate) fn copy(
        &self,
        (source, from): (&File, u64),
        (target, to): (&File, u64),
        length: u64,
    ) -> Answer<u64> {
        let size = source.size();
        let length = length.min(size.saturating_sub(from)).min(REQUEST_MAX);
        let mut done = 0;
        while done < length {
            let (at, place, rest) = (from + done, to + done, length - done);
            let step = match shareable(at, place, rest, size, target.size()) {
                Some(share) => match target.clone_range(place, source, at, share) {
                    Ok(()) => share,
                    // No reflink, or one is DAX, or they overlap.
                    Err(Error::Invalid(_)) => copy_some(source, at, target, place, rest.min(COPY_MAX))?,
                    Err(error) => return if done > 0 { Ok(done) } else { Err(error.into()) },
                },
                None => {
                    let aligned = at % BLOCK_BYTES == place % BLOCK_BYTES && at % BLOCK_BYTES != 0;
                    // Up to where blocks can be shared; or what is left.
                    let head = if aligned { BLOCK_BYTES - at % BLOCK_BYTES } else { COPY_MAX };
                    copy_some(source, at, target, place, rest.min(head))?
                }
            };
            if step == 0 {
                break;
            }
            done += step;
            if done >= COPY_MAX && from % BLOCK_BYTES != to % BLOCK_BYTES {
                break;
            }
        }
        Ok(done)
    }
}

/// How many bytes can be shared from there on, if any.
fn shareable(from: u64, to: u64, length: u64, size: u64, target_size: u64) -> Option<u64> {
    if !from.is_multiple_of(BLOCK_BYTES) || !to.is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    // A part of a block can only be the last of both.
    let whole = if from + length == size && to + length >= target_size {
        length
    } else {
        length - length % BLOCK_BYTES
    };
    (whole > 0).then_some(whole)
}

/// Copies bytes as they are; how many.
fn copy_some(source: &File, from: u64, target: &File, to: u64, length: u64) -> Answer<u64> {
    let mut done = 0;
    while done < length {
        let step = usize::try_from(length - done).unwrap_or(STEP).min(STEP);
        let copied = with_buffer(step, |buffer| -> Result<usize, Error> {
            let there = source.read_at(from + done, buffer)?;
            target.write_at(to + done, buffer.get(..there).unwrap_or_default())?;
            Ok(there)
        });
        match copied {
            Ok(0) => break,
            Ok(there) => done += there as u64,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_and_last_parts_are_shared() {
        // A whole file into an empty one, and over a longer one.
        assert_eq!(shareable(0, 0, 10_000, 10_000, 0), Some(10_000));
        assert_eq!(shareable(0, 0, 10_000, 10_000, 20_000), Some(8192));
        assert_eq!(shareable(4096, 8192, 100, 20_000, 0), None);
        assert_eq!(shareable(4096, 8192, 5000, 20_000, 0), Some(4096));
        assert_eq!(shareable(1, 4097, 8192, 20_000, 0), None);
    }
}
