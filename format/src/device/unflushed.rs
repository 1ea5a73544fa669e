//! What of a devdax device was given out for storing and may still be in CPU caches.
//!
//! A file or block device has `msync`; devdax has nobody to ask but the CPU. Flushing a terabyte line by line would
//! take minutes, so this remembers which units (2 MiB mostly) were written to since.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;

/// The units of a device that may have to be flushed.
pub(super) struct Unflushed {
    /// The size of a unit in bytes.
    unit: usize,
    /// One for each unit of the device.
    units: Vec<bool>,
}

impl Unflushed {
    /// Nothing to flush yet on a device of `length` bytes.
    pub(super) fn new(length: usize, unit: usize) -> Self {
        Self { unit, units: vec![false; length.div_ceil(unit)] }
    }

    /// Notes that a range is given out for storing.
    pub(super) fn mark(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if let Some(units) = self.units.get_mut(range.start / self.unit..range.end.div_ceil(self.unit)) {
            units.fill(true);
        }
    }

    /// Flushes what was noted, out of the `bytes` of the device, and forgets it.
    ///
    /// # Errors
    ///
    /// Unsupported where we know no instruction for it: nothing is claimed that was not done.
    pub(super) fn flush(&mut self, bytes: &[u8]) -> io::Result<()> {
        for (bytes, unflushed) in bytes.chunks(self.unit).zip(&mut self.units) {
            if *unflushed {
                write_back(bytes)?;
                *unflushed = false;
            }
        }
        Ok(())
    }
}

/// Writes the cache lines of `bytes` back to the medium, and waits until they are there.
#[cfg(target_arch = "x86_64")]
fn write_back(bytes: &[u8]) -> io::Result<()> {
    use std::arch::x86_64::{_mm_clflush, _mm_sfence};
    /// The line size of every x86-64 CPU; a smaller step would only cost time.
    const LINE: usize = 64;
    for line in bytes.chunks(LINE) {
        // SAFETY: CLFLUSH is part of x86-64 (SSE2) and changes no value in memory; the address is that of a live
        // slice.
        unsafe { _mm_clflush(line.as_ptr()) };
    }
    // SAFETY: SFENCE is part of x86-64 (SSE) and has no preconditions.
    unsafe { _mm_sfence() };
    Ok(())
}

/// Says that the lines cannot be written back here.
#[cfg(not(target_arch = "x86_64"))]
fn write_back(_bytes: &[u8]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "no way known to flush the caches of this CPU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_marked_whole_and_flushed_once() {
        let bytes = vec![7; 1000];
        let mut unflushed = Unflushed::new(bytes.len(), 256);
        unflushed.mark(255..257);
        unflushed.mark(1000..1000);
        assert_eq!(unflushed.units, [true, true, false, false]);
        unflushed.mark(999..1000);
        assert_eq!(unflushed.units, [true, true, false, true]);
        unflushed.flush(&bytes).unwrap();
        assert_eq!(unflushed.units, [false; 4]);
        assert_eq!(bytes, [7; 1000]);
    }
}
