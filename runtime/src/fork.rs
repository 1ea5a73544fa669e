//! Changing what the forks of an inode hold: bytes in the payload, and nodes of trees.

use crate::core::{Core, Joined};
use crate::edit::{Nodes, TreeMut};
use crate::error::{Error, Result};
use crate::space::verified_node;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::group::TreeRoot;
use paxfs_format::header::Header;
use paxfs_format::inode::{Fork, ForkFormat, Inode, PAYLOAD_SIZE, Which};
use paxfs_format::node::Node;
use paxfs_format::record::Record;
use zerocopy::FromBytes;

/// Blocks of clusters for one inode: taken near it, else wherever there is room.
pub(crate) struct InodeNodes<'o> {
    core: &'o Core,
    joined: &'o Joined<'o>,
    inode: u64,
}

impl<'o> InodeNodes<'o> {
    pub(crate) fn new(core: &'o Core, joined: &'o Joined<'o>, inode: u64) -> Self {
        InodeNodes { core, joined, inode }
    }

    /// A page of zeros in a cluster.
    pub(crate) fn allocate_page(&self) -> Result<u64> {
        self.core.allocate_page(self.core.home(self.inode), &self.joined.context)
    }
}

impl Nodes for InodeNodes<'_> {
    type Error = Error;

    fn node(&self, block: u64, header: &Header) -> Result<&Node> {
        verified_node(self.core.pages(), block, header).ok_or_else(|| self.broken(block))
    }

    #[allow(unsafe_code)]
    fn node_mut(&mut self, block: u64, bytes: Range<usize>) -> Result<&mut Node> {
        // SAFETY: the caller of an edit holds the inode's lock alone, and with it all nodes of its trees.
        let page = unsafe { self.core.pages().page_mut_in(block, bytes) };
        Node::mut_from_bytes(page).map_err(|_| Error::NoSpace)
    }

    fn reserve(&mut self, _blocks: u32) -> Result<()> {
        // Operations that add are promised what they need before they begin; the others find what groups keep ready.
        Ok(())
    }

    fn allocate(&mut self) -> Result<u64> {
        self.allocate_page()
    }

    fn free(&mut self, block: u64) -> Result<()> {
        self.core.free_page(block)
    }

    fn broken(&self, block: u64) -> Error {
        if self.core.pages().failed(block) {
            return Error::lost(format_args!("a part of inode {}", self.inode), block);
        }
        Error::damaged(format_args!("inode {}", self.inode), format_args!("tree node in block {block}"))
    }
}

/// A fork of an inode, to change.
pub(crate) fn fork_mut(inode: &mut Inode, which: Which) -> &mut Fork {
    match which {
        Which::Data => &mut inode.data,
        Which::Attributes => &mut inode.attributes,
    }
}

/// Room for a fork's inline bytes.
pub(crate) fn inline_room(inode: &Inode, which: Which) -> usize {
    let other = match which {
        Which::Data => inode.attributes.inline_bytes.get(),
        Which::Attributes => inode.data.inline_bytes.get(),
    };
    PAYLOAD_SIZE.saturating_sub(other.into())
}

/// Puts bytes in the payload as a fork's; says whether they fit.
pub(crate) fn set_inline(inode: &mut Inode, which: Which, bytes: &[u8]) -> bool {
    let data = inode.inline(Which::Data).unwrap_or_default();
    let attributes = inode.inline(Which::Attributes).unwrap_or_default();
    let (data, attributes) = match which {
        Which::Data => (bytes, attributes),
        Which::Attributes => (data, bytes),
    };
    if data.len() + attributes.len() > PAYLOAD_SIZE {
        return false;
    }
    let mut payload = [0; PAYLOAD_SIZE];
    let (place, rest) = payload.split_at_mut(data.len());
    place.copy_from_slice(data);
    rest.split_at_mut(attributes.len()).0.copy_from_slice(attributes);
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    inode.payload.0 = payload;
    fork_mut(inode, which).inline_bytes = length.into();
    true
}

/// Changes the tree of a fork.
pub(crate) fn edit_tree<R: Record>(
    core: &Core,
    joined: &Joined<'_>,
    inode: &mut Inode,
    which: Which,
    edit: impl FnOnce(&mut TreeMut<'_, R, InodeNodes<'_>>) -> Result<()>,
) -> Result<()> {
    let number = inode.header.place.get();
    let kind = which.node_kind(inode.file_type());
    let root = inode.fork(which).tree;
    let mut nodes = InodeNodes::new(core, joined, number);
    let mut tree = TreeMut::new(kind, number, joined.context.generation, root, &mut nodes);
    edit(&mut tree)?;
    let root: TreeRoot = tree.root();
    let fork = fork_mut(inode, which);
    fork.tree = root;
    fork.format = if root.height.get() == 0 { ForkFormat::EMPTY } else { ForkFormat::TREE };
    Ok(())
}
