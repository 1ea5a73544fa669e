//! Sets of the 512 pages of a 2 MiB frame.

use core::ops::{BitAnd, BitOr, Not, Range};
use core::sync::atomic::{AtomicU64, Ordering};
use paxfs_format::geometry::HUGE_BLOCKS;
use zerocopy::FromZeros;

/// Pages of a frame.
pub const FRAME_PAGES: usize = {
    assert!(HUGE_BLOCKS == 512);
    512
};
const WORD: usize = u64::BITS as usize;
const WORDS: usize = FRAME_PAGES / WORD;

/// A set of pages of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageSet([u64; WORDS]);

impl PageSet {
    /// No page.
    pub const EMPTY: Self = PageSet([0; WORDS]);
    /// All pages.
    pub const ALL: Self = PageSet([u64::MAX; WORDS]);

    /// The pages of a range, cut to a frame's.
    pub fn range(range: Range<usize>) -> Self {
        let below = |end: usize| {
            let mut word = 0;
            [(); WORDS].map(|()| {
                let bits = end.saturating_sub(word * WORD).min(WORD);
                word += 1;
                if bits == WORD { u64::MAX } else { (1 << bits) - 1 }
            })
        };
        PageSet(below(range.end)) & !PageSet(below(range.start))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Whether it has a page.
    pub fn has(&self, page: usize) -> bool {
        self.0.get(page / WORD).is_some_and(|word| word >> (page % WORD) & 1 == 1)
    }

    /// Its runs, ascending.
    pub fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let start = self.next(at, true)?;
            at = self.next(start, false).unwrap_or(FRAME_PAGES);
            Some(start..at)
        })
    }

    /// How many runs it has.
    pub fn run_count(&self) -> usize {
        let mut carry = 0;
        let mut starts = 0;
        for word in self.0 {
            starts += (word & !(word << 1 | carry)).count_ones() as usize;
            carry = word >> (WORD - 1);
        }
        starts
    }

    /// The first page from `at` on that is in the set, or that is not.
    fn next(&self, at: usize, is_in: bool) -> Option<usize> {
        let skip = at / WORD;
        self.0.iter().enumerate().skip(skip).find_map(|(index, word)| {
            let word = if is_in { *word } else { !*word };
            let word = if index == skip { word & u64::MAX << (at % WORD) } else { word };
            (word != 0).then(|| index * WORD + word.trailing_zeros() as usize)
        })
    }
}

impl BitAnd for PageSet {
    type Output = Self;
    fn bitand(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }
}

impl BitOr for PageSet {
    type Output = Self;
    fn bitor(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }
}

impl Not for PageSet {
    type Output = Self;
    fn not(self) -> Self {
        PageSet(self.0.map(|word| !word))
    }
}

/// A set of pages that is read by who does not hold the lock that guards it.
#[derive(Debug, Default, FromZeros)]
pub struct AtomicPageSet([AtomicU64; WORDS]);

impl AtomicPageSet {
    /// What is in it.
    pub fn get(&self) -> PageSet {
        let mut words = self.0.iter().map(|word| word.load(Ordering::Acquire));
        PageSet([(); WORDS].map(|()| words.next().unwrap_or(0)))
    }

    /// Adds pages.
    pub fn add(&self, pages: PageSet) {
        for (word, pages) in self.0.iter().zip(pages.0).filter(|(_, pages)| *pages != 0) {
            word.fetch_or(pages, Ordering::AcqRel);
        }
    }

    /// Takes pages out.
    pub fn remove(&self, pages: PageSet) {
        for (word, pages) in self.0.iter().zip(pages.0).filter(|(_, pages)| *pages != 0) {
            word.fetch_and(!pages, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set_of(bits: &[bool]) -> PageSet {
        let pages = bits.iter().enumerate().filter(|(_, bit)| **bit).map(|(page, _)| page);
        pages.fold(PageSet::EMPTY, |set, page| set | PageSet::range(page..page + 1))
    }

    proptest! {
        #[test]
        fn runs_are_what_is_in_it(runs in proptest::collection::vec((0..512usize, 1..90usize), 0..12)) {
            let mut bits = [false; FRAME_PAGES];
            for (start, length) in runs {
                (start..(start + length).min(FRAME_PAGES)).for_each(|page| bits[page] = true);
            }
            let set = set_of(&bits);
            let mut seen = [false; FRAME_PAGES];
            let mut last = None;
            for run in set.runs() {
                prop_assert!(last.is_none_or(|last| last < run.start) && run.start < run.end);
                last = Some(run.end);
                run.for_each(|page| seen[page] = true);
            }
            prop_assert_eq!(seen, bits);
            prop_assert_eq!(set.run_count(), set.runs().count());
            prop_assert!((0..FRAME_PAGES).all(|page| set.has(page) == bits[page]));
            prop_assert_eq!(set_of(&bits.map(|bit| !bit)), !set);
        }

        #[test]
        fn a_range_is_its_pages(start in 0..600usize, end in 0..600usize) {
            let set = PageSet::range(start..end);
            prop_assert!((0..FRAME_PAGES).all(|page| set.has(page) == (start..end).contains(&page)));
        }
    }

    #[test]
    fn pages_come_and_go() {
        let set = AtomicPageSet::default();
        set.add(PageSet::range(60..70));
        set.remove(PageSet::range(64..66));
        assert_eq!(set.get(), PageSet::range(60..64) | PageSet::range(66..70));
        assert!(PageSet::ALL.runs().eq(core::iter::once(0..512)));
        assert_eq!(PageSet::ALL.run_count() + PageSet::EMPTY.run_count(), 1);
    }
}
