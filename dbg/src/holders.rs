//! Who holds which blocks, in the order of the blocks: by the reverse map, or on a volume without one by the extents of
//! all files; and what the free-space trees say is free.

use crate::files;
use paxfs_format::blocks::Blocks;
use paxfs_format::free::Free;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::group::GroupTree;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::path::group_header;
use paxfs_format::record::{Key, Record};
use paxfs_format::rmap::Rmap;
use paxfs_format::volume::Volume;
use std::iter::Peekable;

/// Who holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A file.
    Data {
        /// Its inode.
        inode: u64,
        /// First block in the file.
        offset: u64,
        /// Whether it reads as zeros.
        unwritten: bool,
    },
    /// Metadata.
    Metadata,
    /// Nobody.
    Free,
}

/// A run of volume blocks and who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// First block.
    pub start: u64,
    /// One past its last.
    pub end: u64,
    /// Who.
    pub by: Holder,
}

/// What could not be read, and so what is missing.
pub type Fault = String;

type Holders<'v> = Box<dyn Iterator<Item = Result<Held, Fault>> + 'v>;

/// All that files and metadata hold, ascending by start (as far as the trees are in order).
pub fn held<B: Blocks>(volume: &Volume<B>) -> Holders<'_> {
    match Source::best(volume) {
        Source::ReverseMap => each_group(volume, |volume, group| {
            records::<B, Rmap>(volume, group, GroupTree::Rmap, |record| match record.owner {
                owner if owner.is_inode() => Holder::Data {
                    inode: owner.get(),
                    offset: record.offset.get(),
                    unwritten: record.flags.is_unwritten(),
                },
                _ => Holder::Metadata,
            })
        }),
        Source::Files => Box::new(by_files(volume)),
    }
}

/// All that is held and all that is free, ascending by start.
pub fn held_and_free<B: Blocks>(volume: &Volume<B>) -> impl Iterator<Item = Result<Held, Fault>> + '_ {
    let free = each_group(volume, |volume, group| {
        records::<B, Free>(volume, group, GroupTree::Free, |_| Holder::Free)
    });
    Merged { one: held(volume).peekable(), other: free.peekable() }
}

fn each_group<'v, B: Blocks>(
    volume: &'v Volume<B>,
    of: fn(&'v Volume<B>, u32) -> Holders<'v>,
) -> Holders<'v> {
    Box::new(files::groups(volume).flat_map(move |group| of(volume, group)))
}

fn records<B: Blocks, R: Record>(
    volume: &Volume<B>,
    group: u32,
    which: GroupTree,
    holder: fn(&R) -> Holder,
) -> Holders<'_> {
    let name = which.name();
    let header = match group_header(volume, group) {
        Ok((header, _)) => header,
        Err(fault) => return Box::new(std::iter::once(Err(format!("group[{group}]: {fault}")))),
    };
    let tree = volume.group_tree::<R>(group, header, which);
    let (first, limit) = (volume.geometry.group_start(group), volume.geometry.group_len(group));
    let records = tree.range(&volume.blocks, Key::MIN).map(move |at| {
        let record = at.map_err(|error| format!("{name}[{group}]: {error}"))?.record;
        let start = first.saturating_add(record.key().start.min(limit));
        let end = first.saturating_add(record.end().min(limit));
        Ok(Held { start, end, by: holder(&record) })
    });
    Box::new(records)
}

fn by_files<B: Blocks>(volume: &Volume<B>) -> impl Iterator<Item = Result<Held, Fault>> + '_ {
    let blocks = volume.geometry.blocks.min(volume.blocks.blocks());
    owners(volume, 0..blocks, Source::Files).filter_map(|owned| {
        let owned = match owned {
            Ok(owned) => owned,
            Err(fault) => return Some(Err(fault.to_string())),
        };
        let by = match owned.role {
            Role::Data(data) => Holder::Data {
                inode: data.inode,
                offset: data.offset / BLOCK_BYTES,
                unwritten: data.unwritten,
            },
            Role::Metadata(_) | Role::Unused => Holder::Metadata,
            Role::Free | Role::Unknown | Role::Outside => return None,
        };
        Some(Ok(Held { start: owned.start, end: owned.start.saturating_add(owned.length), by }))
    })
}

/// Two ascending sequences as one. Faults come as soon as they are met.
struct Merged<'v> {
    one: Peekable<Holders<'v>>,
    other: Peekable<Holders<'v>>,
}

impl Iterator for Merged<'_> {
    type Item = Result<Held, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.one.peek(), self.other.peek()) {
            (Some(Ok(one)), Some(Ok(other))) if other.start < one.start => self.other.next(),
            (Some(Ok(_)), Some(Err(_))) | (None, _) => self.other.next(),
            _ => self.one.next(),
        }
    }
}
