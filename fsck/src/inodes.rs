//! Pass 3: inodes by chunks: which slots are in use, and what is there. What inodes share with others goes to the
//! observer.

use crate::context::{Check, ChunkState, Env, Group, LinkDoubt, locked};
use crate::entries::{self, Seen, Totals};
use crate::extents;
use crate::finding::Finding;
use crate::inode::{fields, payload, symlink};
use crate::observe::Observer;
use crate::problem::Problem;
use crate::structures::structure_field;
use crate::trees::record_path;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES, Chunk};
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::group::GroupTree;
use paxfs_format::header::{BlockKind, Expected, HeaderFault};
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::volume::StructureFault;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

/// Chunks that are one job: 4096 inodes in 2 MiB.
pub(crate) const JOB_CHUNKS: usize = 64;

/// What one thread carries through a scan of inodes.
pub(crate) struct Scan<'c, O> {
    pub env: Env<'c>,
    pub observer: O,
    pub inodes: u64,
    pub directories: u64,
    pub entries: u64,
    pub extents: u64,
    /// Inodes of the present chunk that are marked as orphans and have names.
    named_orphans: u64,
    /// Inodes of the present chunk that are marked in use and are free.
    marked_free: u64,
    /// Room for the cookies of one body.
    pub seen: Vec<Seen<'c>>,
}

/// The inode that is being checked.
pub(crate) struct Subject<'i> {
    pub number: u64,
    pub inode: &'i Inode,
}

impl Subject<'_> {
    /// A finding about the inode; `field` with its dot.
    pub fn find(&self, env: &mut Env<'_>, field: &str, problem: Problem) {
        let number = self.number;
        env.findings.push(Finding::new(format!("inode[{number}]{field}"), problem).of_file(number));
    }
}

/// What a slot was found to be.
enum Slot<'i> {
    Sound(&'i Inode),
    /// Neither in use nor damaged.
    Free,
    Fault(StructureFault),
}

impl<'c, O: Observer> Scan<'c, O> {
    pub fn new(env: Env<'c>, observer: O) -> Self {
        Scan {
            env,
            observer,
            inodes: 0,
            directories: 0,
            entries: 0,
            extents: 0,
            named_orphans: 0,
            marked_free: 0,
            seen: Vec::new(),
        }
    }

    /// Scans some chunks of a group.
    pub fn chunks(&mut self, group: &Group, from: usize, to: usize) {
        let Some(index) = group.index.get() else { return };
        let chunks = index.chunks.get(from..to).unwrap_or_default();
        let check = self.env.check;
        let start = check.volume.geometry.group_start(group.number);
        for (offset, chunk) in chunks.iter().enumerate() {
            self.chunk(group, start, chunk, from.saturating_add(offset));
        }
    }

    fn chunk(&mut self, group: &Group, group_start: u64, chunk: &ChunkState, ordinal: usize) {
        let used = chunk.used.load(Ordering::Relaxed);
        if used.count_ones() > 1 && self.is_lost(group_start, chunk, used) {
            return self.lost_chunk(group, group_start, chunk, used, ordinal);
        }
        let block = group_start.saturating_add(chunk.start.into());
        for at in 0..CHUNK_BLOCKS {
            self.env.read = self.env.read.saturating_add(4096);
            let volume = self.env.check.volume;
            let Ok(bytes) = volume.blocks.block(block.saturating_add(at.into())) else {
                // Past the end of the device: reported as a whole. Nobody knows these inodes.
                for slot in (at * 8..at * 8 + 8).filter(|slot| used >> slot & 1 != 0) {
                    let number = chunk.inode(group_start, slot);
                    self.env.note(&self.env.check.doubts.inodes, number);
                }
                continue;
            };
            let Ok(slots) = <[Inode]>::ref_from_bytes(bytes) else { continue };
            for (slot, inode) in (at * 8..).zip(slots) {
                let number = chunk.inode(group_start, slot);
                let marked = used >> slot & 1 != 0;
                self.slot(group, chunk, slot, number, inode, marked);
            }
        }
        self.marks(group, group_start, chunk);
    }

    /// What the record of a chunk says of its inodes, and they themselves do not: one finding for each field.
    fn marks(&mut self, group: &Group, group_start: u64, chunk: &ChunkState) {
        let unmarked = chunk.used.load(Ordering::Relaxed) & !chunk.marked;
        let orphans = core::mem::take(&mut self.named_orphans) & chunk.orphans;
        let free = core::mem::take(&mut self.marked_free);
        if (unmarked == 0 && orphans == 0 && free == 0) || chunk.told {
            return;
        }
        if free != 0 {
            let (inode, inodes) =
                (chunk.inode(group_start, free.trailing_zeros()), u64::from(free.count_ones()));
            let never = self.env.check.volume.inode_unverified(inode).is_ok_and(is_zero);
            let fault = if never { "never used" } else { "freed" };
            // One alone may just as well have been wiped; several at once are the work of the chunk's record.
            let at = match (inodes, never) {
                (1, true) => format!("inode[{inode}]"),
                (1, false) => format!("inode[{inode}].mode"),
                _ => format!("{}.used", chunk_path(self.env.check, group, chunk.start)),
            };
            self.env.find(at, Problem::InodeMarked { inode, inodes, fault: fault.to_owned() });
        }
        if unmarked == 0 && orphans == 0 {
            return;
        }
        let at = chunk_path(self.env.check, group, chunk.start);
        for (bits, field) in [(unmarked, "used"), (orphans, "orphans")] {
            if bits == 0 {
                continue;
            }
            let (inode, inodes) = (chunk.inode(group_start, bits.trailing_zeros()), bits.count_ones().into());
            let problem = match field {
                "used" => Problem::InodeUnmarked { inode, inodes },
                _ => Problem::OrphanMark { inode, inodes },
            };
            self.env.findings.push(Finding::new(format!("{at}.{field}"), problem).of_file(inode));
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a slot is all of these")]
    fn slot(
        &mut self,
        group: &Group,
        chunk: &ChunkState,
        slot: u32,
        number: u64,
        inode: &'c Inode,
        marked: bool,
    ) {
        if !marked && is_zero(inode) {
            return;
        }
        match (self.verify(group, number, inode), marked) {
            (Slot::Sound(inode), true) => {
                self.used(&Subject { number, inode }, chunk, slot);
            }
            (Slot::Sound(inode), false) => {
                chunk.used.fetch_or(1 << slot, Ordering::Relaxed);
                self.used(&Subject { number, inode }, chunk, slot);
            }
            (Slot::Free, false) => {}
            (Slot::Free, true) => {
                self.marked_free |= 1 << slot;
                chunk.used.fetch_and(!(1 << slot), Ordering::Relaxed);
                self.unknown(number);
            }
            (Slot::Fault(fault), true) => {
                let at = format!("inode[{number}]{}", structure_field(&fault));
                let problem = Problem::InodeDamaged { inode: number, fault: fault.to_string() };
                self.env.findings.push(Finding::new(at, problem).of_file(number));
                self.unknown(number);
            }
            (Slot::Fault(fault), false) => {
                let at = format!("inode[{number}]{}", structure_field(&fault));
                self.env.find(at, Problem::InodeSlot { inode: number, fault: fault.to_string() });
            }
        }
    }

    fn verify<'i>(&self, group: &Group, number: u64, inode: &'i Inode) -> Slot<'i> {
        let volume = self.env.check.volume;
        let expected = Expected { kind: BlockKind::INODE, place: number, owner: group.number.into() };
        let header = volume.seed.verify(inode.as_bytes()).and_then(|header| expected.check(header));
        match header {
            Ok(()) if inode.is_free() => Slot::Free,
            Ok(()) => Slot::Sound(inode),
            Err(_) if volume.blocks.failed(number / INODES_PER_BLOCK) => {
                Slot::Fault(StructureFault::Failed { block: number / INODES_PER_BLOCK })
            }
            Err(HeaderFault::Magic(_)) if is_zero(inode) => Slot::Free,
            Err(fault) => Slot::Fault(fault.into()),
        }
    }

    /// Nothing that needs this inode can be compared.
    fn unknown(&self, number: u64) {
        let doubts = &self.env.check.doubts;
        self.env.note(&doubts.inodes, number);
        doubts.blocks.store(true, Ordering::Relaxed);
    }

    /// Whether a chunk holds no inode at all where it should hold several.
    fn is_lost(&self, group_start: u64, chunk: &ChunkState, used: u64) -> bool {
        let volume = self.env.check.volume;
        let is_there = |slot: u32| {
            let number = chunk.inode(group_start, slot);
            let inode = volume.inode_unverified(number);
            inode.is_ok_and(|inode| {
                inode.header.magic == paxfs_format::header::MAGIC
                    && inode.header.kind == BlockKind::INODE
                    && inode.header.place.get() == number
            })
        };
        !(0..CHUNK_INODES).filter(|slot| used >> slot & 1 != 0).any(is_there)
            && !volume.blocks.failed(group_start.saturating_add(chunk.start.into()))
    }

    fn lost_chunk(&mut self, group: &Group, group_start: u64, chunk: &ChunkState, used: u64, ordinal: usize) {
        let block = group_start.saturating_add(chunk.start.into());
        let check = self.env.check;
        let at = format!("{}.start", chunk_path(check, group, chunk.start));
        self.env.find(at, Problem::ChunkLost { block, inodes: used.count_ones().into() });
        for slot in 0..CHUNK_INODES {
            self.unknown(chunk.inode(group_start, slot));
        }
        locked(&group.lost_chunks).push(block);
        // The inodes may be next to it: wherever no other chunk is.
        let Some(index) = group.index.get() else { return };
        let before = ordinal.checked_sub(1).and_then(|before| index.chunks.get(before));
        let low = before.map_or(0, |before| before.start.saturating_add(CHUNK_BLOCKS));
        let after = index.chunks.get(ordinal.saturating_add(1));
        let high = after.map_or(u32::MAX, |after| after.start);
        let mut hidden = locked(&group.hidden);
        hidden.push(low..chunk.start);
        hidden.push(chunk.start.saturating_add(CHUNK_BLOCKS)..high);
    }

    fn used(&mut self, subject: &Subject<'c>, chunk: &ChunkState, slot: u32) {
        let Subject { number, inode } = *subject;
        self.inodes = self.inodes.saturating_add(1);
        let orphan = chunk.orphans >> slot & 1 != 0;
        let Some(kind) = inode.file_type() else {
            let problem = Problem::InodeMode { inode: number, mode: inode.mode.get().into() };
            subject.find(&mut self.env, ".mode", problem);
            return self.unknown(number);
        };
        fields(&mut self.env, subject, kind);
        if inode.links.get() == 0 {
            chunk.nameless.fetch_or(1 << slot, Ordering::Relaxed);
        }
        if kind == FileType::Directory {
            self.directories = self.directories.saturating_add(1);
            chunk.directories.fetch_or(1 << slot, Ordering::Relaxed);
        }
        if !payload(&mut self.env, subject, kind) {
            return self.unknown_forks(number);
        }
        self.data(subject, kind);
        if self.attributes(subject, kind, orphan, chunk.told) {
            self.named_orphans |= 1 << slot;
        }
    }

    /// Its type may be what is wrong: nothing that any inode holds is known of it.
    fn unknown_forks(&self, number: u64) {
        let doubts = &self.env.check.doubts;
        doubts.blocks.store(true, Ordering::Relaxed);
        self.env.note(&doubts.pointers, number);
        self.env.note(&doubts.entries, (number, 0, u64::MAX));
        self.env.note(&doubts.extents, (number, 0..u64::MAX));
    }

    fn data(&mut self, subject: &Subject<'c>, kind: FileType) {
        let Subject { number, inode } = *subject;
        match kind {
            FileType::Regular => return extents::check(self, subject),
            FileType::Directory => entries::directory(self, subject),
            FileType::Symlink => symlink(&mut self.env, subject),
            FileType::Fifo | FileType::Socket | FileType::Character | FileType::Block => {
                if inode.size.get() != 0 {
                    let problem = Problem::InodeSize { inode: number, size: inode.size.get(), expected: 0 };
                    subject.find(&mut self.env, ".size", problem);
                }
            }
        }
        if inode.blocks.get() != 0 {
            let problem = Problem::InodeBlocks { inode: number, found: inode.blocks.get(), expected: 0 };
            subject.find(&mut self.env, ".blocks", problem);
        }
        if kind != FileType::Directory && inode.data.count.get() != 0 {
            let problem = Problem::ForkCount { inode: number, found: inode.data.count.get(), expected: 0 };
            subject.find(&mut self.env, ".data.count", problem);
        }
    }

    /// Attributes and names; tells whether the inode is marked as an orphan although it has a name.
    fn attributes(&mut self, subject: &Subject<'c>, kind: FileType, orphan: bool, told: bool) -> bool {
        let Subject { number, inode } = *subject;
        let Totals { pointers, whole, .. } = entries::attributes(self, subject, kind);
        let check = self.env.check;
        if !whole {
            self.env.note(&check.doubts.pointers, number);
            return false;
        }
        let root = check.volume.superblock.root.get();
        let links = u64::from(inode.links.get());
        if number == root {
            // The root has a link and no name.
            if links != 1 {
                subject.find(
                    &mut self.env,
                    ".links",
                    Problem::Links { inode: number, found: links, expected: 1 },
                );
            }
            if pointers != 0 {
                let problem = Problem::DirectoryNames { inode: number, names: pointers, expected: 0 };
                subject.find(&mut self.env, ".attributes", problem);
            }
            return orphan;
        }
        if kind == FileType::Directory && pointers > 1 {
            let problem = Problem::DirectoryNames { inode: number, names: pointers, expected: 1 };
            subject.find(&mut self.env, ".attributes", problem);
        }
        let nameless = pointers == 0 && !orphan;
        // Whether it is an orphan is not known when the record of its chunk is wrong.
        let nameless = nameless && !(told && links == 0);
        if links != pointers || nameless {
            self.env.note(&check.links, LinkDoubt { inode: number, links, pointers, orphan });
        }
        orphan && links > 0 && pointers > 0
    }
}

/// The path of a chunk's record. Only findings need it, so it is looked for then.
pub(crate) fn chunk_path(check: &Check<'_>, group: &Group, start: u32) -> String {
    record_path::<Chunk>(check, group, GroupTree::Inodes, |chunk| chunk.start.get() == start)
}

fn is_zero(inode: &Inode) -> bool {
    // No early exit: this is vector code.
    inode.as_bytes().iter().fold(0, |all, byte| all | byte) == 0
}
