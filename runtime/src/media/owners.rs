//! Who owns file data in bad blocks: asked of the reverse map when there is an error, and not before.

use super::notice::{Round, Run};
use super::{MediaError, Part};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::map::{clip, overlapping};
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, MAX_FILE_BLOCKS};
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::names::MAX_DEPTH;
use paxfs_format::record::Record;
use paxfs_format::superblock::ReadOnlyCompatible;

/// More records than can be.
const ALL: usize = usize::MAX / 2;

impl Round<'_> {
    /// Finds all who own data in runs and takes away what they have mapped there. With `are_bad`, they are to be told;
    /// else only stores may be lost.
    pub(super) fn tell_owners(&self, runs: &[Run], are_bad: bool) -> Result<()> {
        for (inode, part) in self.core.owned(runs)? {
            let blocks = part.offset.get()..part.end();
            self.core.take_mappings_away(inode, &blocks)?;
            if part.flags.is_unwritten() {
                // It reads as zeros all the same.
                continue;
            }
            if self.is_fault {
                self.core.media.is_hit.store(true, Ordering::Relaxed);
                if let Some(cell) = self.core.inodes.known(inode) {
                    cell.is_hit.store(true, Ordering::Relaxed);
                }
            }
            if are_bad {
                self.tell_data(inode, &blocks)?;
            }
        }
        Ok(())
    }

    /// Says that contents of a file are lost.
    fn tell_data(&self, inode: u64, blocks: &Range<u64>) -> Result<()> {
        let size = self.core.inode(inode)?.read().inode.size.get();
        let offset = blocks.start * BLOCK_BYTES;
        let length = (blocks.end * BLOCK_BYTES).min(size).saturating_sub(offset);
        let addresses = self.core.addresses_of(inode, blocks.start);
        let each: Vec<Option<usize>> =
            if addresses.is_empty() { vec![None] } else { addresses.into_iter().map(Some).collect() };
        let errors = each.into_iter().map(|address| MediaError {
            inode,
            path: None,
            part: Part::Contents,
            offset,
            length,
            address,
        });
        self.core.media.tell(errors);
        Ok(())
    }
}

impl Core {
    /// All parts of files' extents that lie in runs, with the files' inodes. The gate is held alone.
    fn owned(&self, runs: &[Run]) -> Result<Vec<(u64, Extent)>> {
        let geometry = &self.volume.geometry;
        if !self.volume.superblock.has(ReadOnlyCompatible::RMAP) {
            return self.owned_by_scan(runs);
        }
        let mut owned = Vec::new();
        for (number, start, length) in runs {
            let mut group = self.group(*number)?;
            let records = group.owners(self.pages(), &self.context(), *start, *length, ALL)?;
            for record in records.unwrap_or_default().iter().filter(|record| record.owner.is_inode()) {
                let whole = Extent {
                    offset: record.offset,
                    start: geometry.volume_block(*number, record.start.get()).into(),
                    length: record.length,
                    flags: record.flags,
                };
                owned.extend(
                    within(&whole, geometry.volume_block(*number, *start), *length)
                        .map(|part| (record.owner.get(), part)),
                );
            }
        }
        Ok(owned)
    }

    /// Without a reverse map all files are asked.
    fn owned_by_scan(&self, runs: &[Run]) -> Result<Vec<(u64, Extent)>> {
        let mut owned = Vec::new();
        if runs.is_empty() {
            return Ok(owned);
        }
        self.each_file(|inode| {
            for extent in overlapping(self, inode, &(0..MAX_FILE_BLOCKS))? {
                for (group, start, length) in runs {
                    let first = self.volume.geometry.volume_block(*group, *start);
                    owned
                        .extend(within(&extent, first, *length).map(|part| (inode.header.place.get(), part)));
                }
            }
            Ok(())
        })?;
        Ok(owned)
    }

    /// Shows each regular file that can be read. The gate is held alone.
    fn each_file(&self, mut see: impl FnMut(&Inode) -> Result<()>) -> Result<()> {
        self.each_inode(|inode| match inode {
            Ok(inode) if inode.file_type() == Some(FileType::Regular) => see(&inode),
            _ => Ok(()),
        })
    }

    /// Shows each inode in use, as the running transaction has it, or that it cannot be read. The gate is held alone.
    pub(super) fn each_inode(&self, mut see: impl FnMut(Result<Inode>) -> Result<()>) -> Result<()> {
        for number in self.volume.geometry.group_numbers() {
            let inodes = self.group(number)?.inodes(&self.context());
            for inode in inodes {
                // Not kept in memory for this.
                let known = self.inodes.known(inode).map(|cell| cell.read().inode);
                let stored =
                    || self.volume.inode(inode).copied().map_err(|fault| Error::inode(inode, &fault));
                see(known.map_or_else(stored, Ok))?;
            }
        }
        Ok(())
    }

    /// A path of an inode, by the first parent pointer of each. No lock is held.
    pub(super) fn path_of(&self, inode: u64) -> Option<Vec<u8>> {
        let _look = self.look().ok()?;
        let root = self.volume.superblock.root.get();
        let (mut at, mut names) = (inode, Vec::new());
        while at != root && names.len() < MAX_DEPTH {
            let cell = self.inode(at).ok()?;
            let state = cell.read();
            let above = self.volume.parents(&state.inode).next()?;
            names.push(above.name.to_vec());
            at = above.directory;
        }
        let names = names.iter().rev().flat_map(|name| [b"/", name.as_slice()].concat());
        let path: Vec<u8> = names.collect();
        (at == root).then(|| if path.is_empty() { b"/".to_vec() } else { path })
    }
}

/// The part of an extent that lies in a run of volume blocks.
fn within(extent: &Extent, first: u64, length: u32) -> Option<Extent> {
    let start = extent.start.get();
    let skip = first.saturating_sub(start);
    let end = first.saturating_add(length.into()).saturating_sub(start);
    let offset = extent.offset.get();
    clip(extent, &(offset.saturating_add(skip)..offset.saturating_add(end)))
}
