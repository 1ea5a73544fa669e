//! What the forks of an inode hold: extents, or bodies of entries. One way to read each, wherever it is stored.

use crate::blocks::Blocks;
use crate::entry::{BODY_SIZE, BadEntry, BodyBlock, Entry, Head, entries, value_blocks};
use crate::extent::Extent;
use crate::header::{BlockKind, Expected};
use crate::index::Index;
use crate::inode::{ForkFormat, Inode, MAX_SYMLINK, Which};
use crate::record::{Key, Record};
use crate::tree::{At, Defect, Tree, TreeError};
use crate::units::BlockNo;
use crate::volume::{StructureFault, Volume};
use zerocopy::FromBytes;

/// What is wrong with a fork.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkFault {
    /// Its format is none, or none that this inode can have.
    #[error("format {0} cannot be")]
    Format(u16),
    /// Its bytes in the payload do not fit it, or are no whole records.
    #[error("its inline bytes do not fit")]
    Inline,
    /// A node of its tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A block of entries or of a value.
    #[error("block {block}: {fault}")]
    Block {
        /// The block.
        block: u64,
        /// What is wrong with it.
        fault: StructureFault,
    },
    /// A block says it uses more bytes than it has, has bytes behind those in use, or is out of its order.
    #[error("block {block}: its bytes in use do not fit")]
    Body {
        /// The block.
        block: u64,
    },
    /// An entry that cannot be read.
    #[error("{0}")]
    Entry(#[from] BadEntry),
    /// A value or target that is longer than can be.
    #[error("a value of {0} bytes is too long")]
    Length(u64),
}

/// Where a body of entries lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPlace {
    /// In the inode's payload.
    Inline,
    /// In a block of its own.
    Block {
        /// Which of the fork's blocks, in the order of the index.
        ordinal: u64,
        /// The volume block.
        block: u64,
    },
}

/// Entries that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body<'b> {
    /// Where.
    pub place: BodyPlace,
    /// The entries' bytes.
    pub bytes: &'b [u8],
    /// Lowest cookie that belongs here.
    pub low: u64,
    /// Highest cookie that belongs here.
    pub high: u64,
}

impl<'b> Body<'b> {
    /// The entries, dead ones included.
    pub fn entries<H: Head>(&self) -> impl Iterator<Item = Result<Entry<'b, H>, BadEntry>> + use<'b, H> {
        entries(self.bytes)
    }
}

impl<B: Blocks> Volume<B> {
    /// The tree of a fork, `None` when it is stored otherwise.
    pub fn fork_tree<R: Record>(&self, inode: &Inode, which: Which) -> Option<Tree<R>> {
        let fork = inode.fork(which);
        let kind = which.node_kind(inode.file_type());
        (fork.format == ForkFormat::TREE).then(|| {
            Tree::new(kind, inode.header.place.get(), &fork.tree, self.geometry.volume_space(), self.seed)
        })
    }

    /// The extents of a regular file, in the order of their offsets. Goes on past what it cannot read.
    pub fn extents<'v>(
        &'v self,
        inode: &'v Inode,
    ) -> Box<dyn Iterator<Item = Result<Extent, ForkFault>> + 'v> {
        self.extents_from(inode, 0)
    }

    /// The extents that end past file block `from`.
    pub fn extents_from<'v>(
        &'v self,
        inode: &'v Inode,
        from: u64,
    ) -> Box<dyn Iterator<Item = Result<Extent, ForkFault>> + 'v> {
        match self.inline_extents(inode) {
            Ok(Some(extents)) => {
                Box::new(extents.iter().filter(move |extent| extent.end() > from).map(|e| Ok(*e)))
            }
            Ok(None) => match self.fork_tree::<Extent>(inode, Which::Data) {
                Some(tree) => {
                    let found = tree.overlapping(&self.blocks, from..u64::MAX);
                    Box::new(found.map(|at| at.map(|at| at.record).map_err(ForkFault::from)))
                }
                None => Box::new(core::iter::empty()),
            },
            Err(fault) => Box::new(core::iter::once(Err(fault))),
        }
    }

    /// The extents in the payload; `None` when they are in a tree.
    pub fn inline_extents<'v>(&self, inode: &'v Inode) -> Result<Option<&'v [Extent]>, ForkFault> {
        match inode.data.format {
            ForkFormat::EMPTY => Ok(Some(&[])),
            ForkFormat::INLINE => {
                let bytes = inode.inline(Which::Data).ok_or(ForkFault::Inline)?;
                <[Extent]>::ref_from_bytes(bytes).map(Some).map_err(|_| ForkFault::Inline)
            }
            ForkFormat::TREE => Ok(None),
            format => Err(ForkFault::Format(format.get())),
        }
    }

    /// The bodies of entries of a fork that may hold `cookie` or a higher one, in the order of their cookies. Goes on past
    /// what is out of that order.
    pub fn bodies<'v>(
        &'v self,
        inode: &'v Inode,
        which: Which,
        cookie: u64,
    ) -> Box<dyn Iterator<Item = Result<Body<'v>, ForkFault>> + 'v> {
        let fork = inode.fork(which);
        let whole = |place, bytes| Body { place, bytes, low: 0, high: u64::MAX };
        match fork.format {
            ForkFormat::EMPTY => Box::new(core::iter::empty()),
            ForkFormat::INLINE => {
                let body =
                    inode.inline(which).map(|bytes| whole(BodyPlace::Inline, bytes)).ok_or(ForkFault::Inline);
                Box::new(core::iter::once(body))
            }
            ForkFormat::BLOCK => {
                let block = fork.tree.block.get();
                let body = self.body_block(inode, which.entry_kind(), block, 0);
                Box::new(core::iter::once(
                    body.map(|bytes| whole(BodyPlace::Block { ordinal: 0, block }, bytes)),
                ))
            }
            ForkFormat::TREE => match self.fork_tree::<Index>(inode, which) {
                Some(tree) => Box::new(self.indexed_bodies(inode, which, tree, cookie)),
                None => Box::new(core::iter::empty()),
            },
            format => Box::new(core::iter::once(Err(ForkFault::Format(format.get())))),
        }
    }

    fn indexed_bodies<'v>(
        &'v self,
        inode: &'v Inode,
        which: Which,
        tree: Tree<Index>,
        cookie: u64,
    ) -> impl Iterator<Item = Result<Body<'v>, ForkFault>> + 'v {
        let mut records = tree.range_around(&self.blocks, Key::at(cookie)).peekable();
        let (mut next, mut last) = (0, None);
        core::iter::from_fn(move || {
            let At { record, leaf, .. } = match records.next()? {
                Ok(at) => at,
                Err(error) => return Some(Err(error.into())),
            };
            let ordinal = next;
            next += 1;
            // Else a web of shared leaves would have the same blocks read over and over.
            if last >= Some(record.key()) {
                let error = TreeError { block: leaf, level: 0, fault: Defect::Order(record.key()) };
                return Some(Err(error.into()));
            }
            last = Some(record.key());
            let high = match records.peek() {
                Some(Ok(next)) => next.record.cookie.get().saturating_sub(1),
                _ => u64::MAX,
            };
            let (block, low) = (record.block.get(), record.cookie.get());
            let place = BodyPlace::Block { ordinal, block };
            let bytes = self.body_block(inode, which.entry_kind(), block, 0);
            Some(bytes.map(|bytes| Body { place, bytes, low, high }))
        })
    }

    /// The bytes in use of a verified block of entries or of a value.
    pub fn body_block(
        &self,
        inode: &Inode,
        kind: BlockKind,
        block: u64,
        ordinal: u16,
    ) -> Result<&[u8], ForkFault> {
        let expected = Expected { kind, place: block, owner: inode.header.place.get() };
        let bytes = self.structure(expected).map_err(|fault| ForkFault::Block { block, fault })?;
        let broken = || ForkFault::Body { block };
        let body = BodyBlock::ref_from_bytes(bytes).map_err(|_| broken())?;
        let used = usize::try_from(body.header.count.get()).map_err(|_| broken())?;
        let (used, rest) = body.body.0.split_at_checked(used).ok_or_else(broken)?;
        let rest_is_zero = || rest.iter().fold(0, |all, byte| all | byte) == 0;
        let fine = body.header.level.get() == ordinal && (self.blocks.verified(block) || rest_is_zero());
        if fine { Ok(used) } else { Err(broken()) }
    }

    /// The bytes of a value whose block numbers are in `pointers`, as stored.
    pub fn value(&self, inode: &Inode, pointers: &[u8], bytes: u64) -> Result<Vec<u8>, ForkFault> {
        if bytes > u64::from(crate::entry::MAX_VALUE) {
            return Err(ForkFault::Length(bytes));
        }
        let pointers = <[BlockNo]>::ref_from_bytes(pointers).map_err(|_| ForkFault::Inline)?;
        if pointers.len() != value_blocks(bytes) {
            return Err(ForkFault::Inline);
        }
        let mut value = Vec::new();
        for (ordinal, pointer) in (0..).zip(pointers) {
            let block = pointer.get();
            let part = self.body_block(inode, BlockKind::VALUE, block, ordinal)?;
            value.extend_from_slice(part);
            // All are full but the last.
            if usize::from(ordinal) + 1 < pointers.len() && part.len() != BODY_SIZE {
                return Err(ForkFault::Body { block });
            }
        }
        if u64::try_from(value.len()) == Ok(bytes) { Ok(value) } else { Err(ForkFault::Length(bytes)) }
    }

    /// The target of a symlink.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>, ForkFault> {
        let inline = inode.inline(Which::Data).ok_or(ForkFault::Inline)?;
        let size = inode.size.get();
        match inode.data.format {
            _ if size > MAX_SYMLINK => Err(ForkFault::Length(size)),
            ForkFormat::INLINE if u64::try_from(inline.len()) == Ok(size) => Ok(inline.to_vec()),
            ForkFormat::INLINE => Err(ForkFault::Inline),
            ForkFormat::VALUES => self.value(inode, inline, size),
            format => Err(ForkFault::Format(format.get())),
        }
    }
}
