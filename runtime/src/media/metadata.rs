//! Metadata in bad blocks whose contents are known: tree nodes move to a block that is good, all else is healed in its place.
//!
//! What is healed in its place goes to the journal first, all of the block. So a crash loses nothing at any instant: before
//! the commit the block is as bad as it was, and after it recovery stores it.

use super::notice::Round;
use super::{MediaError, Part};
use crate::error::{Error, Result};
use crate::fork::fork_mut;
use crate::space::verified_node;
use crate::trees::TreeName;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry, INODES_PER_BLOCK};
use paxfs_format::group::TreeRoot;
use paxfs_format::header::Header;
use paxfs_format::inode::INODE_SIZE;
use paxfs_format::journal::JournalRecord;
use paxfs_format::node::{Branch, Node};
use zerocopy::{FromBytes, IntoBytes};

impl Round<'_> {
    /// Brings a metadata block that is in use, and bad, to safety; one whose contents are not known is lost.
    pub(super) fn save(&mut self, block: u64) -> Result<()> {
        let core = self.core;
        let place = core.volume.geometry.locate(block);
        let place = place.ok_or_else(|| Error::damaged(format_args!("block {block}"), "past the volume"))?;
        let slots = core.group(place.group)?.slots_of(place.block);
        if let Some(used) = slots {
            self.save_inodes(block, used)?;
            self.keep_in_place(block);
            return Ok(());
        }
        let Some(header) = self.header_of(block) else {
            self.lost.insert(block);
            return Ok(());
        };
        match TreeName::of(&header) {
            Some(tree) => match self.move_node(block, &header, tree) {
                Err(Error::NoSpace) => self.keep_in_place(block),
                // Its tree is broken above it.
                Err(error) if error.is_loss() => {
                    self.lost.insert(block);
                }
                moved => moved?,
            },
            None => self.keep_in_place(block),
        }
        Ok(())
    }

    /// What a block in use says that it is, if its contents are known.
    fn header_of(&self, block: u64) -> Option<Header> {
        let pages = self.core.pages();
        let header = *Header::of(pages.block(block).ok()?)?;
        let says_so = pages.verified(block) && header.place.get() == block;
        says_so.then_some(header)
    }

    /// Has a block's page logged, all of it, and its home healed before it goes there. When the journal has no room for it,
    /// that is for the next round.
    fn keep_in_place(&mut self, block: u64) {
        match self.room.checked_sub(BLOCK_BYTES + size_of::<JournalRecord>() as u64) {
            Some(room) => {
                self.room = room;
                self.core.pages().set_whole(block);
                self.core.media.make_homeless(block);
            }
            None => {
                self.left.insert(block);
            }
        }
    }

    /// Puts the inodes of a block into its page, as far as they are known; the others are lost. Bit i of `used` says that
    /// the inode in slot i is in use.
    fn save_inodes(&mut self, block: u64, used: u8) -> Result<()> {
        let core = self.core;
        for slot in (0..INODES_PER_BLOCK).filter(|slot| used >> slot & 1 != 0) {
            let number = Geometry::inode_number(block, slot);
            if let Some(cell) = core.inodes.known(number) {
                let mut inode = cell.read().inode;
                inode.header.generation = self.joined.context.generation.into();
                core.volume.seed.seal(inode.as_mut_bytes());
                let start = usize::try_from(slot).unwrap_or(0) * INODE_SIZE;
                self.write(block, start..start + INODE_SIZE, inode.as_bytes());
            } else if core.volume.inode(number).is_err() {
                core.media.lose(number);
                self.tell_metadata(number);
            }
        }
        Ok(())
    }

    /// Says that metadata of a file is lost.
    pub(super) fn tell_metadata(&self, inode: u64) {
        let part = Part::Metadata;
        let error = MediaError { inode, path: None, part, offset: 0, length: 0, address: None };
        self.core.media.tell([error]);
    }

    /// Moves a node of a tree to another block.
    fn move_node(&mut self, block: u64, header: &Header, tree: TreeName) -> Result<()> {
        let core = self.core;
        let root = self.root_of(tree)?;
        let parent = match root.block.get() == block {
            true => None,
            false => Some(self.parent_of(&root, header, block)?),
        };
        let near = match tree {
            TreeName::Group(group, _) => group,
            TreeName::Fork(inode, _) => core.home(inode),
        };
        let new = core.allocate_page(near, &self.joined.context)?;
        let mut bytes = *core.pages().block(block).map_err(|error| Error::damaged("a node", error))?;
        if let Ok(node) = Node::mut_from_bytes(&mut bytes) {
            node.header.place = new.into();
        }
        self.write(new, 0..4096, &bytes);
        match parent {
            Some((parent, index)) => {
                let child =
                    size_of::<Header>() + index * size_of::<Branch>() + core::mem::offset_of!(Branch, child);
                self.write(parent, child..child + 8, &new.to_le_bytes());
            }
            None => self.set_root(tree, new)?,
        }
        core.free_page(block)
    }

    /// The root of a tree.
    fn root_of(&self, tree: TreeName) -> Result<TreeRoot> {
        match tree {
            TreeName::Group(group, which) => Ok(*self.core.group(group)?.header.root(which)),
            TreeName::Fork(inode, which) => Ok(self.core.inode(inode)?.read().inode.fork(which).tree),
        }
    }

    /// Says that a tree's root is in another block.
    fn set_root(&self, tree: TreeName, block: u64) -> Result<()> {
        match tree {
            TreeName::Group(group, which) => {
                let mut group = self.core.group(group)?;
                group.header.root_mut(which).block = block.into();
                group.changed = true;
            }
            TreeName::Fork(inode, which) => {
                let cell = self.core.inode(inode)?;
                let mut state = cell.write();
                fork_mut(&mut state.inode, which).tree.block = block.into();
                self.core.inodes.set_dirty(&cell, &mut state);
            }
        }
        Ok(())
    }

    /// The node above a node, and at which of its entries.
    fn parent_of(&self, root: &TreeRoot, header: &Header, child: u64) -> Result<(u64, usize)> {
        let pages = self.core.pages();
        let mut todo: Vec<(u64, u32)> =
            root.height.get().checked_sub(1).map(|top| (root.block.get(), top)).into_iter().collect();
        while let Some((block, level)) = todo.pop() {
            if level <= u32::from(header.level.get()) {
                continue;
            }
            let expected = Header { level: u16::try_from(level).unwrap_or(u16::MAX).into(), ..*header };
            let branches = verified_node(pages, block, &expected).and_then(Node::branches);
            let branches = branches.ok_or_else(|| Error::lost("a tree node", block))?;
            if let Some(index) = branches.iter().position(|branch| branch.child.get() == child) {
                return Ok((block, index));
            }
            todo.extend(branches.iter().map(|branch| (branch.child.get(), level - 1)));
        }
        Err(Error::lost("a tree node", child))
    }

    /// Writes bytes into the page of a block.
    pub(super) fn write(&self, block: u64, range: Range<usize>, bytes: &[u8]) {
        // SAFETY: the gate is held alone, so nobody else touches any page, and the borrow ends here.
        #[allow(unsafe_code)]
        let page = unsafe { self.core.pages().page_mut_in(block, range.clone()) };
        if let Some(place) = page.get_mut(range).filter(|place| place.len() == bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}
