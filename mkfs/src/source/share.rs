//! Finding equal contents (`-s`): pieces of files, by hash. What has the same hash is compared before it is shared.
//!
//! A piece is what lies within one 2 MiB frame of a file and is not a hole. So a small file is one piece; and a shared
//! piece of a large file keeps the place modulo 2 MiB that it had.

use super::scan::Range;
use crate::space::runs::FRAME;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_frames() {
        let cut: Vec<Range> = pieces(&[(0, 1), (510, 4), (1024, 1030)]).collect();
        assert_eq!(cut, [(0, 1), (510, 2), (512, 2), (1024, 512), (1536, 512), (2048, 6)]);
    }
}
