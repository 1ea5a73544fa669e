//! A bit for each block of a group, on a volume without reverse map: whether somebody has claimed it. Kept only where
//! somebody has.

use core::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks of a page of the bitmap.
const PAGE_BLOCKS: u64 = 32768;

type Page = [AtomicU64; 512];

/// One bit for each block of a group.
#[derive(Debug)]
pub(crate) struct Bitmap {
    pages: Vec<OnceLock<Box<Page>>>,
    blocks: u64,
}

impl Bitmap {
    /// No block of a group of `blocks` belongs to anybody yet.
    pub fn new(blocks: u64) -> Self {
        let pages = usize::try_from(blocks.div_ceil(PAGE_BLOCKS)).unwrap_or(0);
        Bitmap { pages: (0..pages).map(|_| OnceLock::new()).collect(), blocks }
    }

    /// Claims blocks, and gives the first and last that somebody else has claimed before.
    pub fn claim(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut taken: Option<Range<u64>> = None;
        let mut block = range.start;
        let end = range.end.min(self.blocks);
        while block < end {
            let (bit, stop) = (block % 64, end.min(block - block % 64 + 64));
            let mask = (u64::MAX >> (64 - (stop - block))) << bit;
            let before = self.word(block).map_or(0, |word| word.fetch_or(mask, Ordering::Relaxed) & mask);
            if before != 0 {
                let base = block - bit;
                let first = base + u64::from(before.trailing_zeros());
                let last = base + u64::from(63 - before.leading_zeros());
                let start = taken.as_ref().map_or(first, |taken| taken.start);
                taken = Some(start..last + 1);
            }
            block = stop;
        }
        taken
    }

    fn word(&self, block: u64) -> Option<&AtomicU64> {
        let page = self.pages.get(usize::try_from(block / PAGE_BLOCKS).ok()?)?;
        let page = page.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 512]));
        page.get(usize::try_from(block % PAGE_BLOCKS / 64).ok()?)
    }

    /// Whether somebody has claimed a block.
    pub fn has(&self, block: u64) -> bool {
        let page = usize::try_from(block / PAGE_BLOCKS).ok().and_then(|page| self.pages.get(page)?.get());
        let word = usize::try_from(block % PAGE_BLOCKS / 64).ok().and_then(|word| page?.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 != 0)
    }

    /// The maximal runs of blocks that nobody has claimed, in order.
    pub fn free(&self, mut take: impl FnMut(u64, u64)) {
        let mut start = None;
        let mut at = 0;
        for page in &self.pages {
            match page.get() {
                None => {
                    start = start.or(Some(at));
                    at += PAGE_BLOCKS;
                }
                Some(page) => {
                    for word in page.iter() {
                        let word = word.load(Ordering::Relaxed);
                        match word {
                            0 => start = start.or(Some(at)),
                            u64::MAX => {
                                if let Some(start) = start.take() {
                                    take(start, at);
                                }
                            }
                            _ => {
                                for bit in 0..64 {
                                    let claimed = word >> bit & 1 != 0;
                                    if !claimed {
                                        start = start.or(Some(at + bit));
                                    } else if let Some(start) = start.take() {
                                        take(start, at + bit);
                                    }
                                }
                            }
                        }
                        at += 64;
                    }
                }
            }
        }
        if let Some(start) = start.filter(|start| *start < self.blocks) {
            take(start, self.blocks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(bitmap: &Bitmap) -> Vec<(u64, u64)> {
        let mut runs = Vec::new();
        bitmap.free(|start, end| runs.push((start, end)));
        runs
    }

    #[test]
    fn claims_leave_gaps() {
        let bitmap = Bitmap::new(100_000);
        assert_eq!(free(&bitmap), [(0, 100_000)]);
        assert_eq!(bitmap.claim(3..5), None);
        assert_eq!(bitmap.claim(60..140), None);
        assert_eq!(bitmap.claim(99_999..100_000), None);
        assert_eq!(free(&bitmap), [(0, 3), (5, 60), (140, 99_999)]);
        assert_eq!((0..100_000).filter(|block| bitmap.has(*block)).count(), 83);
        assert!(bitmap.has(139) && !bitmap.has(140) && !bitmap.has(u64::MAX));
    }

    #[test]
    fn a_second_claim_is_noticed() {
        let bitmap = Bitmap::new(1000);
        assert_eq!(bitmap.claim(0..1000), None);
        assert_eq!(bitmap.claim(10..700), Some(10..700));
        assert_eq!(free(&bitmap), []);
        let bitmap = Bitmap::new(1000);
        assert_eq!(bitmap.claim(100..101), None);
        assert_eq!(bitmap.claim(0..1000), Some(100..101));
    }
}
