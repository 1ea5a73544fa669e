//! Changing the entries of a fork: names of a directory, attributes and parent pointers of an inode.
//!
//! Entries move from the payload to a block, and from a block to blocks under an index, when they do not fit any more;
//! a block that is full is first rid of its dead entries, then split in the middle of its cookies.

use crate::core::{Core, Joined};
use crate::error::{Error, Result};
use crate::fork::{InodeNodes, edit_tree, fork_mut, set_inline};
use core::ops::Range;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, BODY_SIZE, BodyBlock, DirectoryEntry, Entry, EntryType, Head, entries,
    entry_size, push_entry,
};
use paxfs_format::group::TreeRoot;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::header::Header;
use paxfs_format::index::Index;
use paxfs_format::inode::{ForkFormat, Inode, Which};
use paxfs_format::record::{Key, Record};
use zerocopy::{FromBytes, FromZeros};

/// Heads of entries that can be changed.
pub(crate) trait Change: Head {
    /// Which fork holds them.
    const WHICH: Which;
    /// The head of an entry with that cookie.
    fn with_cookie(self, cookie: u64) -> Self;
    /// The head of the same length that is dead.
    fn dead(self) -> Self;
}

impl Change for DirectoryEntry {
    const WHICH: Which = Which::Data;

    fn with_cookie(self, cookie: u64) -> Self {
        DirectoryEntry { cookie: cookie.into(), ..self }
    }

    fn dead(self) -> Self {
        DirectoryEntry { inode: 0.into(), generation: 0.into(), kind: EntryType(0), ..self }
    }
}

impl Change for AttributeEntry {
    const WHICH: Which = Which::Attributes;

    fn with_cookie(self, cookie: u64) -> Self {
        AttributeEntry { cookie: cookie.into(), ..self }
    }

    fn dead(self) -> Self {
        let stored = self.stored_value().and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(0);
        AttributeEntry { kind: AttributeKind::DEAD, value_length: stored.into(), ..self }
    }
}

/// An entry with its bytes, in no place.
pub(crate) struct Owned<H> {
    pub head: H,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl<H: Head> Owned<H> {
    fn of(entry: &Entry<'_, H>) -> Self {
        Owned { head: *entry.head, name: entry.name.to_vec(), value: entry.value.to_vec() }
    }

    fn size(&self) -> usize {
        entry_size(size_of::<H>(), self.name.len(), self.value.len())
    }

    fn push(&self, to: &mut Vec<u8>) {
        push_entry(to, &self.head, &self.name, &self.value);
    }
}

/// The block of a fork that is responsible for a cookie, and from which cookie on.
struct Responsible {
    block: u64,
    low: u64,
}

/// The entries of one fork of an inode, to change.
pub(crate) struct Entries<'o> {
    core: &'o Core,
    joined: &'o Joined<'o>,
}

impl<'o> Entries<'o> {
    pub(crate) fn new(core: &'o Core, joined: &'o Joined<'o>) -> Self {
        Entries { core, joined }
    }

    /// Adds an entry whose name is not there. `lowest` is the lowest cookie of its name; the entry gets the lowest that
    /// nobody has. Nothing changes when it fails.
    pub(crate) fn insert<H: Change>(
        &self,
        inode: &mut Inode,
        lowest: u64,
        head: H,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let cookie = self.free_cookie::<H>(inode, lowest)?;
        self.put(inode, &head.with_cookie(cookie), name, value)
    }

    /// Puts another entry in the place of the one that `is` tells apart, under its cookie. Nothing changes when it fails.
    pub(crate) fn replace<H: Change>(
        &self,
        inode: &mut Inode,
        lowest: u64,
        is: impl Fn(&Entry<'_, H>) -> bool,
        head: H,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let Some((block, offset, old)) = self.find(inode, lowest, is)? else { return Ok(()) };
        let before = *inode;
        self.take_out(inode, block, offset, &old)?;
        let done = self.put(inode, &head.with_cookie(old.cookie()), name, value);
        if done.is_err() {
            *inode = before;
            if let Some(block) = block {
                self.write(inode, H::WHICH, block, offset, old.as_bytes())?;
            }
        }
        done
    }

    /// Puts an entry where it belongs. Nothing changes when it fails.
    fn put<H: Change>(&self, inode: &mut Inode, head: &H, name: &[u8], value: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(entry_size(size_of::<H>(), name.len(), value.len()));
        push_entry(&mut bytes, head, name, value);
        match inode.fork(H::WHICH).format {
            ForkFormat::EMPTY | ForkFormat::INLINE => {
                let mut all = inode.inline(H::WHICH).unwrap_or_default().to_vec();
                let old = all.len();
                all.extend_from_slice(&bytes);
                if set_inline(inode, H::WHICH, &all) {
                    fork_mut(inode, H::WHICH).format = ForkFormat::INLINE;
                    self.grow::<H>(inode, bytes.len());
                } else {
                    let block = self.new_body::<H>(inode, &all)?;
                    set_inline(inode, H::WHICH, &[]);
                    self.shrink::<H>(inode, old);
                    self.set_block::<H>(inode, block);
                }
            }
            _ => self.insert_in_block::<H>(inode, head.cookie(), &bytes)?,
        }
        let fork = fork_mut(inode, H::WHICH);
        fork.count = (fork.count.get() + 1).into();
        Ok(())
    }

    /// Puts the bytes of an entry with that cookie into the block where it belongs.
    fn insert_in_block<H: Change>(&self, inode: &mut Inode, cookie: u64, bytes: &[u8]) -> Result<()> {
        let place = self.responsible::<H>(inode, cookie)?;
        let old = self.body(inode, H::WHICH, place.block)?;
        let used = old.len();
        let dead = entries::<H>(old)
            .filter_map(core::result::Result::ok)
            .find(|old| !old.head.is_live() && old.size() == bytes.len())
            .map(|old| old.offset);
        if let Some(offset) = dead {
            return self.write(inode, H::WHICH, place.block, offset, bytes);
        }
        if used + bytes.len() <= BODY_SIZE {
            let body = self.body_mut(inode, H::WHICH, place.block, used..used + bytes.len())?;
            write(body, used, bytes);
            set_used(body, used + bytes.len());
            self.grow::<H>(inode, bytes.len());
            return Ok(());
        }
        let mut all: Vec<Owned<H>> = entries::<H>(old)
            .chain(entries::<H>(bytes))
            .filter_map(core::result::Result::ok)
            .filter(|old| old.head.is_live())
            .map(|old| Owned::of(&old))
            .collect();
        let mut packed = Vec::new();
        all.iter().for_each(|entry| entry.push(&mut packed));
        if packed.len() <= BODY_SIZE {
            self.fill::<H>(inode, place.block, &packed)?;
        } else {
            all.sort_by_key(|entry| entry.head.cookie());
            self.split(inode, &place, &all)?;
        }
        self.shrink::<H>(inode, used);
        Ok(())
    }

    /// Makes `all` the entries of a fork that has none. Their cookies are the lowest that their names have.
    pub(crate) fn build<H: Change>(&self, inode: &mut Inode, mut all: Vec<Owned<H>>) -> Result<()> {
        all.sort_by_key(|entry| entry.head.cookie());
        let mut last = None;
        for entry in &mut all {
            // The next that is free, when names have the same lowest.
            let cookie = last.map_or(0, |last: u64| last.saturating_add(1)).max(entry.head.cookie());
            entry.head = entry.head.with_cookie(cookie);
            last = Some(cookie);
        }
        fork_mut(inode, H::WHICH).count = (all.len() as u64).into();
        let mut blocks: Vec<(u64, Vec<u8>)> = Vec::new();
        for entry in &all {
            let mut bytes = Vec::new();
            entry.push(&mut bytes);
            match blocks.last_mut() {
                Some((_, block)) if block.len() + bytes.len() <= BODY_SIZE => block.extend_from_slice(&bytes),
                // The first is responsible for all cookies below, too.
                last => {
                    let low = if last.is_some() { entry.head.cookie() } else { 0 };
                    blocks.push((low, bytes));
                }
            }
        }
        if let ([] | [_], all) = (blocks.as_slice(), blocks.first().map_or(&[][..], |(_, bytes)| bytes))
            && set_inline(inode, H::WHICH, all)
        {
            let format = if all.is_empty() { ForkFormat::EMPTY } else { ForkFormat::INLINE };
            fork_mut(inode, H::WHICH).format = format;
            self.grow::<H>(inode, all.len());
            return Ok(());
        }
        let mut records = Vec::with_capacity(blocks.len());
        for (low, bytes) in &blocks {
            let block = self.new_body::<H>(inode, bytes)?;
            records.push(Index { cookie: (*low).into(), block: block.into() });
        }
        match records.as_slice() {
            [only] => self.set_block::<H>(inode, only.block.get()),
            _ => edit_tree::<Index>(self.core, self.joined, inode, H::WHICH, |tree| {
                tree.splice(Key::MIN..=Key::MAX, &records)
            })?,
        }
        Ok(())
    }

    /// Says that one block has all entries of a fork.
    fn set_block<H: Change>(&self, inode: &mut Inode, block: u64) {
        let fork = fork_mut(inode, H::WHICH);
        fork.format = ForkFormat::BLOCK;
        fork.tree.block = block.into();
        fork.tree.records = 1.into();
    }

    /// Spreads entries of a full block over it and a new one.
    fn split<H: Change>(&self, inode: &mut Inode, place: &Responsible, all: &[Owned<H>]) -> Result<()> {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut low = None;
        for entry in all {
            let has_room = left.len() < BODY_SIZE / 2 && left.len() + entry.size() <= BODY_SIZE;
            if has_room && right.is_empty() {
                entry.push(&mut left);
            } else {
                low.get_or_insert(entry.head.cookie());
                entry.push(&mut right);
            }
        }
        // Entries as large as no writer makes them do not fit two blocks in any order.
        if right.len() > BODY_SIZE {
            return Err(Error::NoSpace);
        }
        let before = *inode;
        let new = self.new_body::<H>(inode, &right)?;
        let record = Index { cookie: low.unwrap_or(u64::MAX).into(), block: new.into() };
        let indexed = if inode.fork(H::WHICH).format == ForkFormat::BLOCK {
            let first = Index { cookie: 0.into(), block: place.block.into() };
            fork_mut(inode, H::WHICH).tree = TreeRoot::new_zeroed();
            edit_tree::<Index>(self.core, self.joined, inode, H::WHICH, |tree| {
                tree.splice(Key::MIN..=Key::MAX, &[first, record])
            })
        } else {
            edit_tree::<Index>(self.core, self.joined, inode, H::WHICH, |tree| tree.insert(record))
        };
        match indexed {
            Ok(()) => self.fill::<H>(inode, place.block, &left),
            Err(error) => {
                *inode = before;
                self.core.free_page(new)?;
                Err(error)
            }
        }
    }

    /// Puts other contents into the entry that `is` tells apart, at the same length; says whether there was one.
    pub(crate) fn update<H: Change>(
        &self,
        inode: &mut Inode,
        lowest: u64,
        is: impl Fn(&Entry<'_, H>) -> bool,
        new: impl Fn(H) -> H,
    ) -> Result<bool> {
        let Some((block, offset, head)) = self.find(inode, lowest, is)? else { return Ok(false) };
        let head = new(head);
        match block {
            None => {
                let mut all = inode.inline(H::WHICH).unwrap_or_default().to_vec();
                if let Some(place) = all.get_mut(offset..offset + size_of::<H>()) {
                    place.copy_from_slice(head.as_bytes());
                }
                set_inline(inode, H::WHICH, &all);
            }
            Some(block) => self.write(inode, H::WHICH, block, offset, head.as_bytes())?,
        }
        Ok(true)
    }

    /// Removes the entry that `is` tells apart; gives back what it was, if it was there.
    pub(crate) fn remove<H: Change>(
        &self,
        inode: &mut Inode,
        lowest: u64,
        is: impl Fn(&Entry<'_, H>) -> bool,
    ) -> Result<Option<H>> {
        let Some((block, offset, head)) = self.find(inode, lowest, is)? else { return Ok(None) };
        self.take_out(inode, block, offset, &head)?;
        if let Some(block) = block {
            self.drop_body_if_dead::<H>(inode, block, head.cookie())?;
        }
        Ok(Some(head))
    }

    /// Takes an entry out of the payload, or leaves it dead in its block.
    fn take_out<H: Change>(
        &self,
        inode: &mut Inode,
        block: Option<u64>,
        offset: usize,
        head: &H,
    ) -> Result<()> {
        match block {
            None => {
                let mut all = inode.inline(H::WHICH).unwrap_or_default().to_vec();
                let size = entry_size(size_of::<H>(), head.name_length(), head.stored_value().unwrap_or(0));
                all.drain(offset..(offset + size).min(all.len()));
                set_inline(inode, H::WHICH, &all);
                self.shrink::<H>(inode, size);
                if all.is_empty() {
                    fork_mut(inode, H::WHICH).format = ForkFormat::EMPTY;
                }
            }
            Some(block) => self.write(inode, H::WHICH, block, offset, head.dead().as_bytes())?,
        }
        let fork = fork_mut(inode, H::WHICH);
        fork.count = fork.count.get().saturating_sub(1).into();
        Ok(())
    }

    /// Gives a block back that holds no live entry.
    fn drop_body_if_dead<H: Change>(&self, inode: &mut Inode, block: u64, cookie: u64) -> Result<()> {
        let bytes = self.body(inode, H::WHICH, block)?;
        let used = bytes.len();
        let live = entries::<H>(bytes).any(|entry| entry.is_ok_and(|entry| entry.head.is_live()));
        if live {
            return Ok(());
        }
        if inode.fork(H::WHICH).format == ForkFormat::BLOCK {
            let fork = fork_mut(inode, H::WHICH);
            fork.format = ForkFormat::EMPTY;
            fork.tree = TreeRoot::new_zeroed();
        } else {
            let place = self.responsible::<H>(inode, cookie)?;
            let next = match place.low {
                // The first record stays responsible for the lowest cookies: its successor takes its place.
                0 => self.index_after::<H>(inode, 0)?,
                _ => None,
            };
            edit_tree::<Index>(self.core, self.joined, inode, H::WHICH, |tree| match next {
                Some(next) => {
                    let first = Index { cookie: 0.into(), block: next.block };
                    tree.splice(Key::MIN..=next.key(), &[first])
                }
                None => tree.remove(Key::at(place.low)),
            })?;
        }
        self.shrink::<H>(inode, used);
        self.core.free_page(block)
    }

    fn index_after<H: Change>(&self, inode: &Inode, low: u64) -> Result<Option<Index>> {
        let Some(tree) = self.core.volume.fork_tree::<Index>(inode, H::WHICH) else { return Ok(None) };
        let mut after = tree.range(self.core.pages(), Key::at(low + 1));
        let number = inode.header.place.get();
        after
            .next()
            .transpose()
            .map(|at| at.map(|at| at.record))
            .map_err(|error| Error::fork(number, &error.into()))
    }

    /// Block (`None` for the payload), offset and head of an entry.
    fn find<H: Change>(
        &self,
        inode: &Inode,
        lowest: u64,
        is: impl Fn(&Entry<'_, H>) -> bool,
    ) -> Result<Option<(Option<u64>, usize, H)>> {
        let number = inode.header.place.get();
        for body in self.core.volume.bodies(inode, H::WHICH, lowest) {
            let body = body.map_err(|fault| Error::fork(number, &fault))?;
            if body.low > lowest | DISAMBIGUATOR {
                break;
            }
            let block = match body.place {
                paxfs_format::fork::BodyPlace::Inline => None,
                paxfs_format::fork::BodyPlace::Block { block, .. } => Some(block),
            };
            for entry in body.entries::<H>() {
                let entry = entry.map_err(|fault| Error::fork(number, &fault.into()))?;
                if entry.head.is_live() && entry.head.cookie() & !DISAMBIGUATOR == lowest && is(&entry) {
                    return Ok(Some((block, entry.offset, *entry.head)));
                }
            }
        }
        Ok(None)
    }

    /// The lowest cookie from `lowest` on that no entry has.
    fn free_cookie<H: Change>(&self, inode: &Inode, lowest: u64) -> Result<u64> {
        let number = inode.header.place.get();
        let mut taken = [0_u64; 4];
        for body in self.core.volume.bodies(inode, H::WHICH, lowest) {
            let body = body.map_err(|fault| Error::fork(number, &fault))?;
            if body.low > lowest | DISAMBIGUATOR {
                break;
            }
            for entry in body.entries::<H>() {
                let head = entry.map_err(|fault| Error::fork(number, &fault.into()))?.head;
                if head.is_live() && head.cookie() & !DISAMBIGUATOR == lowest {
                    let low = head.cookie() & DISAMBIGUATOR;
                    if let Some(word) = usize::try_from(low / 64).ok().and_then(|word| taken.get_mut(word)) {
                        *word |= 1 << (low % 64);
                    }
                }
            }
        }
        let free = (0..).zip(taken).find(|(_, word)| *word != u64::MAX);
        let low = free.map(|(index, word)| index * 64 + u64::from(word.trailing_ones()));
        // 256 names of one 55-bit hash: as good as never.
        low.map(|low| lowest | low).ok_or(Error::NoSpace)
    }

    fn responsible<H: Change>(&self, inode: &Inode, cookie: u64) -> Result<Responsible> {
        let fork = inode.fork(H::WHICH);
        let number = inode.header.place.get();
        let Some(tree) = self.core.volume.fork_tree::<Index>(inode, H::WHICH) else {
            return Ok(Responsible { block: fork.tree.block.get(), low: 0 });
        };
        let found = tree.last_at_or_before(self.core.pages(), Key::at(cookie));
        let found = found.map_err(|error| Error::fork(number, &error.into()))?;
        let record =
            found.ok_or_else(|| Error::damaged(format_args!("inode {number}"), "its index is empty"))?.record;
        Ok(Responsible { block: record.block.get(), low: record.cookie.get() })
    }

    /// The bytes in use of a block of entries.
    fn body(&self, inode: &Inode, which: Which, block: u64) -> Result<&[u8]> {
        let number = inode.header.place.get();
        let body = self.core.volume.body_block(inode, which.entry_kind(), block, 0);
        body.map_err(|fault| Error::fork(number, &fault))
    }

    /// A block of entries that was checked when it was read, to change these bytes of its body and what its header says.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    fn body_mut<'p>(
        &'p self,
        inode: &Inode,
        which: Which,
        block: u64,
        bytes: Range<usize>,
    ) -> Result<&'p mut BodyBlock> {
        self.body(inode, which, block)?;
        let start = size_of::<Header>();
        // SAFETY: the caller holds the inode's lock alone, and with it the blocks of its entries; the borrow above has
        // ended.
        let page = unsafe { self.core.pages().page_mut_in(block, start + bytes.start..start + bytes.end) };
        BodyBlock::mut_from_bytes(page).map_err(|_| Error::NoSpace)
    }

    /// Writes bytes over others in a block of entries.
    fn write(&self, inode: &Inode, which: Which, block: u64, offset: usize, bytes: &[u8]) -> Result<()> {
        write(self.body_mut(inode, which, block, offset..offset + bytes.len())?, offset, bytes);
        Ok(())
    }

    fn new_body<H: Change>(&self, inode: &mut Inode, bytes: &[u8]) -> Result<u64> {
        let number = inode.header.place.get();
        let block = InodeNodes::new(self.core, self.joined, number).allocate_page()?;
        let header = Header::new(H::WHICH.entry_kind(), block, number, self.joined.context.generation);
        // SAFETY: the block was just given out: nobody else knows of it yet.
        #[allow(unsafe_code)]
        let page = unsafe { self.core.pages().page_mut(block) };
        if let Ok(body) = BodyBlock::mut_from_bytes(page) {
            body.header = header;
        }
        self.fill::<H>(inode, block, bytes)?;
        Ok(block)
    }

    /// Makes `bytes` all that a block holds.
    fn fill<H: Change>(&self, inode: &mut Inode, block: u64, bytes: &[u8]) -> Result<()> {
        let body = self.body_mut(inode, H::WHICH, block, 0..BODY_SIZE)?;
        body.body.0.fill(0);
        write(body, 0, bytes);
        set_used(body, bytes.len());
        self.grow::<H>(inode, bytes.len());
        Ok(())
    }

    fn grow<H: Change>(&self, inode: &mut Inode, bytes: usize) {
        if H::WHICH == Which::Data {
            inode.size = (inode.size.get() + bytes as u64).into();
        }
    }

    fn shrink<H: Change>(&self, inode: &mut Inode, bytes: usize) {
        if H::WHICH == Which::Data {
            inode.size = inode.size.get().saturating_sub(bytes as u64).into();
        }
    }
}

fn set_used(body: &mut BodyBlock, used: usize) {
    body.header.count = u32::try_from(used).unwrap_or(u32::MAX).into();
}

fn write(body: &mut BodyBlock, offset: usize, bytes: &[u8]) {
    if let Some(place) = body.body.0.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
