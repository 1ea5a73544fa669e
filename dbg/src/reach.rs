//! How much of a file a 2 MiB mapping can reach, and why not the rest.
//!
//! A file is looked at in *windows*: aligned runs of 2 MiB of it. A window can be mapped as a whole when the file fills
//! it, and its blocks are one written run whose place on the volume is aligned to 2 MiB, too.

use crate::commands::extents::{is_congruent, shares};
use crate::faults::Faults;
use paxfs_format::blocks::Blocks;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, HUGE_BLOCKS};
use paxfs_format::inode::Inode;
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::ops::{AddAssign, Range};

/// Bytes of a file's blocks: those that a 2 MiB mapping reaches, and the others by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// All of its blocks.
    pub data: u64,
    /// Reached.
    pub huge: u64,
    /// Of those: in windows with shared blocks, which can be mapped to read only.
    pub huge_shared: u64,
    /// The file is smaller than 2 MiB.
    pub small: u64,
    /// Past the file's last whole window.
    pub tail: u64,
    /// The window has a hole.
    pub hole: u64,
    /// The window has unwritten blocks.
    pub unwritten: u64,
    /// The window is of several runs.
    pub fragmented: u64,
    /// The window is one run, but not aligned on the volume.
    pub incongruent: u64,
}

impl AddAssign for Reach {
    fn add_assign(&mut self, other: Self) {
        for (to, from) in self.parts_mut().into_iter().zip({ other }.parts_mut()) {
            *to = to.saturating_add(*from);
        }
    }
}

impl Reach {
    fn parts_mut(&mut self) -> [&mut u64; 9] {
        let Reach { data, huge, huge_shared, small, tail, hole, unwritten, fragmented, incongruent } = self;
        [data, huge, huge_shared, small, tail, hole, unwritten, fragmented, incongruent]
    }

    /// Bytes not reached.
    pub fn missed(&self) -> u64 {
        self.data.saturating_sub(self.huge)
    }

    /// Why bytes are not reached, with how many, the most first.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let mut reasons = vec![
            ("small", self.small),
            ("tail", self.tail),
            ("hole", self.hole),
            ("unwritten", self.unwritten),
            ("fragmented", self.fragmented),
            ("incongruent", self.incongruent),
        ];
        reasons.retain(|(_, bytes)| *bytes > 0);
        reasons.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        reasons
    }

    /// Of a regular file.
    pub fn of<B: Blocks>(volume: &Volume<B>, inode: &Inode, faults: &mut Faults) -> Self {
        let number = inode.header.place.get();
        let size = inode.size.get().div_ceil(BLOCK_BYTES);
        let mut measure = Measure { volume, reach: Reach::default(), size, window: None };
        let mut run: Option<Run> = None;
        for extent in volume.extents(inode) {
            match extent {
                Ok(extent) => {
                    let next = Run::of(&extent);
                    match run.as_mut().filter(|run| run.is_continued_by(&next)) {
                        Some(run) => run.length = run.length.saturating_add(next.length),
                        None => {
                            measure.run(run.replace(next), faults);
                        }
                    }
                }
                Err(fault) => faults.note(format!("inode {number}: {fault}")),
            }
        }
        measure.run(run, faults);
        measure.close_window();
        measure.reach
    }
}

/// Extents that follow each other both in the file and on the volume.
#[derive(Debug, Clone, Copy)]
struct Run {
    offset: u64,
    start: u64,
    length: u64,
    unwritten: bool,
}

impl Run {
    fn of(extent: &Extent) -> Self {
        Run {
            offset: extent.offset.get(),
            start: extent.start.get(),
            length: extent.length.get().into(),
            unwritten: extent.flags.is_unwritten(),
        }
    }

    fn is_continued_by(&self, next: &Run) -> bool {
        self.offset.saturating_add(self.length) == next.offset
            && self.start.saturating_add(self.length) == next.start
            && self.unwritten == next.unwritten
    }
}

/// A window that no run fills alone.
#[derive(Debug, Clone, Copy)]
struct Window {
    number: u64,
    blocks: u64,
    unwritten: bool,
}

struct Measure<'v, B> {
    volume: &'v Volume<B>,
    reach: Reach,
    /// Blocks of the file by its size.
    size: u64,
    window: Option<Window>,
}

impl<B: Blocks> Measure<'_, B> {
    fn run(&mut self, run: Option<Run>, faults: &mut Faults) {
        let Some(run) = run else { return };
        let end = run.offset.saturating_add(run.length);
        self.reach.data = self.reach.data.saturating_add(bytes(run.length));
        // Windows that the run fills, and that the file fills.
        let first = run.offset.div_ceil(HUGE_BLOCKS);
        let last = (end / HUGE_BLOCKS).min(self.size / HUGE_BLOCKS);
        if first >= last {
            self.part(run.offset..end, run.unwritten);
            return;
        }
        let whole = first.saturating_mul(HUGE_BLOCKS)..last.saturating_mul(HUGE_BLOCKS);
        self.part(run.offset..whole.start, run.unwritten);
        let blocks = whole.end - whole.start;
        if run.unwritten {
            self.reach.unwritten = self.reach.unwritten.saturating_add(bytes(blocks));
        } else if is_congruent(run.offset, run.start) {
            self.reach.huge = self.reach.huge.saturating_add(bytes(blocks));
            let start = run.start.saturating_add(whole.start - run.offset);
            let shared = self.shared_windows(start..start.saturating_add(blocks), faults);
            self.reach.huge_shared =
                self.reach.huge_shared.saturating_add(bytes(shared.saturating_mul(HUGE_BLOCKS)));
        } else {
            self.reach.incongruent = self.reach.incongruent.saturating_add(bytes(blocks));
        }
        self.part(whole.end..end, run.unwritten);
    }

    /// Blocks in windows that their run does not fill.
    fn part(&mut self, mut blocks: Range<u64>, unwritten: bool) {
        while blocks.start < blocks.end {
            let number = blocks.start / HUGE_BLOCKS;
            // All that is past the last whole window is one thing.
            let beyond = number >= self.size / HUGE_BLOCKS;
            let end =
                if beyond { blocks.end } else { (number + 1).saturating_mul(HUGE_BLOCKS).min(blocks.end) };
            let length = end - blocks.start;
            if beyond {
                let part = if self.size < HUGE_BLOCKS { &mut self.reach.small } else { &mut self.reach.tail };
                *part = part.saturating_add(bytes(length));
            } else {
                if self.window.is_some_and(|window| window.number != number) {
                    self.close_window();
                }
                let window = self.window.get_or_insert(Window { number, blocks: 0, unwritten: false });
                window.blocks = window.blocks.saturating_add(length);
                window.unwritten |= unwritten;
            }
            blocks.start = end;
        }
    }

    fn close_window(&mut self) {
        let Some(window) = self.window.take() else { return };
        let part = if window.blocks < HUGE_BLOCKS {
            &mut self.reach.hole
        } else if window.unwritten {
            &mut self.reach.unwritten
        } else {
            &mut self.reach.fragmented
        };
        *part = part.saturating_add(bytes(window.blocks));
    }

    /// How many of the aligned 2 MiB of a run of volume blocks hold shared blocks.
    fn shared_windows(&self, range: Range<u64>, faults: &mut Faults) -> u64 {
        let mut count = 0u64;
        // The window after the last that was counted.
        let mut next = range.start / HUGE_BLOCKS;
        let mut at = range.start;
        while at < range.end {
            let group_end = self.volume.geometry.locate(at).map_or(range.end, |place| {
                let group = place.group;
                let start = self.volume.geometry.group_start(group);
                start.saturating_add(self.volume.geometry.group_len(group))
            });
            let end = group_end.min(range.end);
            let told = shares(self.volume, at..end, |start, to, _| {
                let first = (start.clamp(at, end) / HUGE_BLOCKS).max(next);
                let last = to.clamp(at, end).div_ceil(HUGE_BLOCKS).max(first);
                count = count.saturating_add(last - first);
                next = last;
            });
            told.unwrap_or_else(|fault| faults.note(fault));
            at = end;
        }
        count
    }
}

fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES)
}
