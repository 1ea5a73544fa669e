//! The path language: one name for each field of a volume, used by the debugger, by fixtures and in findings.
//!
//! ```text
//! sb  sb[G]                     the superblock, and its copy at the head of group G
//! group[G]  group_copy[G]       a group's header, and its copy
//! TREE[G]                       a group's tree: free, refcount, rmap, inodes, clusters, bad
//! inode[N]  inode[/a/b]         an inode, by number or by the path of a file
//!   .extents                    the extents of a regular file: .rec[I] in the inode, else a tree
//!   .directory  .attributes     entries: .entry[I] in the inode, .block[O].entry[I] in block O in the order of the index,
//!                               which is the tree .index; an entry has also .name and .value; of one in blocks .value[K]
//!                               is the number of block K, and .block[K] the block
//!   .target  .value[K]          a symlink's target in the inode, or its value block K
//! block[B]                      a block as what its header says: a node's .rec[I], entries, .inode[SLOT], or .raw, its bytes
//! journal.slot[S]               a transaction: .rec[I] and its .rec[I].data
//! sum[B]                        checksum of data block B
//!
//! of a tree:                    .root                     its root, where the group or inode keeps it
//!                               .leaf[O]  .node[L][O]     node O of its level, from the left; .root.header… the root node
//!                               ….rec[I]                  record or branch entry
//! ```
//!
//! Behind each comes the path of a field ([`crate::field::path`]), or nothing for the structure as a whole. The group's
//! trees are those of its header if that is intact, else of its copy if that is, else of the header as it is.
//!
//! [`resolve`] reads leniently, so that what is broken can be named: it needs only what leads to the field, and of that
//! only branch nodes must be intact. Block ordinals count the records of the index that can be read.
//!
//! Must not depend on how findings or owners come about; they print such paths.

mod edit;
mod error;
mod fixed;
mod inode;
mod node;

pub use edit::{Change, Csum, EditError, Edited, edit};
pub use error::TargetError;
pub(crate) use fixed::header_in;
pub use fixed::{RAW, group_header};

use crate::blocks::Blocks;
use crate::declare::{Kind, Layout};
use crate::device::MediumError;
use crate::field::path::{self, PathError, Segment};
use crate::geometry::BLOCK_BYTES;
use crate::group::GroupTree;
use crate::volume::Volume;

/// Where a field is on the volume, and what guards it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its byte offset on the volume.
    pub offset: u64,
    /// What its bytes mean; their number is its size.
    pub kind: Kind,
    /// Its meaning.
    pub doc: &'static str,
    /// The checksum that covers it.
    pub seal: Seal,
    /// Its path, with inodes by number.
    pub text: String,
}

/// Which checksum covers a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// None.
    None,
    /// That of the header at `offset`, over `length` bytes.
    Header {
        /// Byte offset of the structure.
        offset: u64,
        /// Its size in bytes, or how many of them are covered.
        length: usize,
    },
    /// As [`Seal::Header`], for a superblock, which holds the uuid itself that its checksum begins with.
    Superblock {
        /// Byte offset of the superblock.
        offset: u64,
    },
    /// That of the body of a journal slot, which the head of the slot holds, which its header's covers in turn.
    JournalBody {
        /// Byte offset of the slot.
        slot: u64,
        /// Bytes of the slot.
        length: u64,
    },
}

impl Target {
    /// Its size in bytes.
    pub fn length(&self) -> usize {
        self.kind.size()
    }

    /// Its bytes.
    pub fn read<B: Blocks>(&self, blocks: &B) -> Result<Vec<u8>, MediumError> {
        read(blocks, self.offset, self.length())
    }
}

/// Bytes of a volume, from one block or from several in a row.
pub(crate) fn read<B: Blocks>(blocks: &B, mut offset: u64, length: usize) -> Result<Vec<u8>, MediumError> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let block = blocks.block(offset / BLOCK_BYTES)?;
        let from = usize::try_from(offset % BLOCK_BYTES).unwrap_or_default();
        let part = block.get(from..).unwrap_or_default();
        let part = part.get(..length - bytes.len()).unwrap_or(part);
        bytes.extend_from_slice(part);
        offset += BLOCK_BYTES - offset % BLOCK_BYTES;
    }
    Ok(bytes)
}

/// The field that a path names.
pub fn resolve<B: Blocks>(volume: &Volume<B>, text: &str) -> Result<Target, TargetError> {
    let segments = path::parse(text)?;
    let mut rest = Rest { text: String::new(), segments: &segments };
    let Some(first) = rest.peek() else { return Err(rest.unknown(ROOTS)) };
    if let Some(tree) = GroupTree::named(&first.name) {
        rest.take();
        return fixed::group_tree(volume, tree, first, rest);
    }
    match first.name.as_str() {
        "inode" => inode::inode(volume, rest),
        "sb" => fixed::superblock(volume, rest),
        "group" | "group_copy" => fixed::group(volume, rest),
        "block" => fixed::block(volume, rest),
        "journal" => fixed::journal(volume, rest),
        "sum" => fixed::sum(volume, rest),
        _ => Err(rest.unknown(ROOTS)),
    }
}

/// What a path can begin with.
pub const ROOTS: &[&str] = &[
    "sb",
    "group",
    "group_copy",
    "free",
    "refcount",
    "rmap",
    "inodes",
    "clusters",
    "bad",
    "inode",
    "block",
    "journal",
    "sum",
];

/// A structure on the volume.
#[derive(Debug, Clone, Copy)]
struct Structure {
    offset: u64,
    layout: &'static Layout,
    seal: Seal,
}

impl Structure {
    /// A structure that fills a block and begins with a header.
    fn block(block: u64, layout: &'static Layout) -> Result<Self, TargetError> {
        let offset = block.checked_mul(BLOCK_BYTES).ok_or(TargetError::NoBlock { block })?;
        Ok(Structure { offset, layout, seal: Seal::Header { offset, length: layout.size } })
    }

    /// Something in it, under the same checksum.
    fn part(&self, offset: usize, layout: &'static Layout) -> Self {
        let offset = self.offset.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX));
        Structure { offset, layout, seal: self.seal }
    }

    /// Some of its bytes that are no declared field, at the end of a path.
    fn bytes(
        &self,
        offset: usize,
        kind: Kind,
        doc: &'static str,
        rest: Rest<'_>,
    ) -> Result<Target, TargetError> {
        if rest.peek().is_some() {
            return Err(rest.unknown(&[]));
        }
        let at = self.part(offset, self.layout);
        Ok(Target { offset: at.offset, kind, doc, seal: self.seal, text: rest.text })
    }
}

/// What of a path is still to be resolved, and the text of what is.
#[derive(Debug, Clone)]
struct Rest<'p> {
    text: String,
    segments: &'p [Segment],
}

impl<'p> Rest<'p> {
    fn peek(&self) -> Option<&'p Segment> {
        self.segments.first()
    }

    /// Name of the next segment; empty at the end.
    fn name(&self) -> &'p str {
        self.segments.first().map_or("", |segment| &segment.name)
    }

    fn take(&mut self) -> Option<&'p Segment> {
        let segment = self.peek()?;
        self.take_as(&segment.to_string());
        Some(segment)
    }

    /// Goes past the next segment, which is to be written as `text`.
    fn take_as(&mut self, text: &str) {
        self.segments = self.segments.get(1..).unwrap_or_default();
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(text);
    }

    /// Goes past the next segment, which can have no index.
    fn take_plain(&mut self) -> Result<(), TargetError> {
        match self.take() {
            Some(segment) if !segment.indices.is_empty() => {
                Err(TargetError::Index { text: self.text.clone(), expected: "no index is" })
            }
            _ => Ok(()),
        }
    }

    /// The number in brackets behind the next segment, and past it.
    fn take_number(&mut self, expected: &'static str) -> Result<u64, TargetError> {
        let segment = self.take();
        let number = segment.and_then(|segment| match segment.indices.as_slice() {
            [path::Index::Number(number)] => Some(*number),
            _ => None,
        });
        number.ok_or_else(|| TargetError::Index { text: self.text.clone(), expected })
    }

    /// The same for a number that has to be below `limit`.
    fn take_below(&mut self, limit: u64, expected: &'static str) -> Result<u64, TargetError> {
        let number = self.take_number(expected)?;
        if number < limit { Ok(number) } else { Err(TargetError::PastEnd { text: self.text.clone(), limit }) }
    }

    /// That the next segment is none of these.
    fn unknown(&self, expected: &[&str]) -> TargetError {
        TargetError::Unknown {
            at: self.text.clone(),
            name: self.name().to_owned(),
            expected: expected.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// The field that the rest names in a structure.
    fn field<B: Blocks>(
        self,
        volume: &Volume<B>,
        structure: Structure,
        also: &[&str],
    ) -> Result<Target, TargetError> {
        let field = path::resolve(structure.layout, self.segments).map_err(|error| match error {
            PathError::NoField { .. } if structure.layout.field(self.name()).is_none() => {
                let fields = structure.layout.fields.iter().map(|field| field.name);
                self.unknown(&fields.chain(also.iter().copied()).collect::<Vec<_>>())
            }
            error => error.into(),
        })?;
        let at = structure.part(field.offset, structure.layout);
        let dot = if field.name.is_empty() { "" } else { "." };
        let text = format!("{}{dot}{}", self.text, field.name);
        let target =
            Target { offset: at.offset, kind: field.kind, doc: field.doc, seal: structure.seal, text };
        target.on(volume)
    }
}

impl Target {
    /// Itself, if the medium reaches that far.
    fn on<B: Blocks>(self, volume: &Volume<B>) -> Result<Self, TargetError> {
        let length = u64::try_from(self.length()).unwrap_or(u64::MAX);
        let last = self.offset.saturating_add(length.saturating_sub(1));
        volume.blocks.block(last / BLOCK_BYTES)?;
        Ok(self)
    }
}
