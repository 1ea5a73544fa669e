//! The engine's heart: what all operations share, and how they join the running transaction.
//!
//! ```text
//!   operation   gate (shared) ── inode locks ── group locks ── pages
//!   commit      gate (alone) ── group locks ── pages: see `commit`
//! ```
//!
//! Locks are taken in the order of [`crate::locks`]. Pages have no locks: see [`crate::pages`].

use crate::engine::{Dax, Options};
use crate::error::{Error, Result};
use crate::freeze::Freezing;
use crate::homes::Logged;
use crate::inodes::{Cell, Inodes, State};
use crate::locks::{Ordered, Rank, take};
use crate::media::Media;
use crate::medium::{Gated, Medium};
use crate::pages::Pages;
use crate::sound;
use crate::space::{Context, Group, SpaceError};
use crate::views::Views;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use paxfs_format::geometry::{BLOCK_BYTES, INODES_PER_BLOCK};
use paxfs_format::inode::{INODE_SIZE, Inode};
use paxfs_format::superblock::{ReadOnlyCompatible, Superblock};
use paxfs_format::time::Timestamp;
use paxfs_format::volume::Volume;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What all operations share.
#[derive(Debug)]
pub(crate) struct Core {
    /// The volume, read through the pages.
    pub volume: Volume<Pages>,
    /// The groups' space.
    pub groups: Vec<Mutex<Group>>,
    /// The inodes in memory.
    pub inodes: Inodes,
    /// Operations hold it shared, a commit alone while it gathers what they did.
    gate: RwLock<()>,
    /// One commit at a time; what the last one logged. Its homes are stored by the next, so that one fence serves both.
    pub committing: Mutex<Logged>,
    /// Number of the running transaction.
    pub running: AtomicU64,
    /// One operation on two directories at a time.
    renaming: Mutex<()>,
    /// Number of the last transaction that is durable.
    pub durable: AtomicU64,
    /// The mapped files.
    pub views: Views,
    /// Which files can be mapped.
    pub dax: Dax,
    /// Who wants the volume to stand still.
    pub freezing: Freezing,
    /// What is known of media errors.
    pub media: Media,
    /// Number of the transaction up to which the superblock says that all are in their homes.
    pub recorded: AtomicU64,
    /// The volume is being closed: nobody joins any more.
    pub closed: AtomicBool,
    /// The medium as all of this sees it. It is shut when the volume takes no more writes.
    gated: Arc<Gated>,
    /// Where the next directory or file goes when nothing says where.
    next_group: AtomicU64,
    /// Blocks for metadata that running operations may yet ask for.
    promised: AtomicU64,
}

/// An operation that has joined the running transaction. Nothing of the transaction is committed while it lives.
pub(crate) struct Joined<'c> {
    core: &'c Core,
    _gate: Gate<'c>,
    /// Blocks for metadata that were promised to it.
    promised: u64,
    /// When the operation happens.
    pub now: Timestamp,
    /// For groups.
    pub context: Context,
}

/// How an operation holds the gate.
enum Gate<'c> {
    /// With others.
    Shared { _guard: Ordered<RwLockReadGuard<'c, ()>> },
    /// Nobody else runs.
    Alone { _guard: Ordered<RwLockWriteGuard<'c, ()>> },
}

/// Blocks for metadata that one change of a name can need: a chunk of inodes, a directory and an attribute block that are
/// split, and the nodes above them.
pub(crate) const NAME_BLOCKS: u64 = 32;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

impl Core {
    /// The engine of a volume whose journal is replayed.
    pub fn new(
        medium: Arc<dyn Medium>,
        superblock: Superblock,
        last: u64,
        options: &Options,
    ) -> Result<Self> {
        superblock.understood()?;
        if superblock.has(ReadOnlyCompatible::CSUM) {
            return Err(Error::ReadOnly("the engine does not keep data checksums yet"));
        }
        let geometry = paxfs_format::geometry::Geometry::of(&superblock)
            .map_err(|error| Error::damaged("the superblock", error))?;
        let seed = paxfs_format::header::Seed::new(&superblock.uuid);
        let gated = Arc::new(Gated::new(medium));
        let views = Views::new(&(gated.clone() as Arc<dyn Medium>), options.mappings(), options.mechanism);
        let volume = Volume::new(Pages::new(gated.clone(), Some((seed, geometry))), superblock, geometry);
        let core = Core {
            volume,
            groups: Vec::new(),
            inodes: Inodes::default(),
            gate: RwLock::new(()),
            committing: Mutex::default(),
            renaming: Mutex::new(()),
            running: AtomicU64::new(last + 1),
            durable: AtomicU64::new(last),
            views,
            dax: options.dax,
            freezing: Freezing::default(),
            media: Media::default(),
            recorded: AtomicU64::new(superblock.header.generation.get()),
            closed: AtomicBool::new(false),
            gated,
            next_group: AtomicU64::new(0),
            promised: AtomicU64::new(0),
        };
        let context = core.context();
        let mut groups = Vec::new();
        for number in geometry.group_numbers() {
            let header = core.volume.group(number);
            let header = *header.map_err(|fault| Error::structure(format_args!("group {number}"), &fault))?;
            groups.push(Mutex::new(Group::load(number, header, &core.volume.blocks, &context)?));
        }
        Ok(Core { groups, ..core })
    }

    /// The pages.
    pub fn pages(&self) -> &Pages {
        &self.volume.blocks
    }

    /// The medium.
    pub fn medium(&self) -> &dyn Medium {
        self.pages().medium()
    }

    pub fn context(&self) -> Context {
        Context {
            geometry: self.volume.geometry,
            seed: self.volume.seed,
            generation: self.running.load(Ordering::Relaxed),
            rmap: self.volume.superblock.has(ReadOnlyCompatible::RMAP),
        }
    }

    /// A group's space.
    pub fn group(&self, number: u32) -> Result<Ordered<MutexGuard<'_, Group>>> {
        let group = usize::try_from(number).ok().and_then(|number| self.groups.get(number));
        let group = group.ok_or_else(|| Error::damaged("a block number", "past the end of the volume"))?;
        Ok(take(Rank::Group(number), || lock(group)))
    }

    /// The space of all groups, one at a time.
    pub fn each_group(&self) -> impl Iterator<Item = Ordered<MutexGuard<'_, Group>>> {
        (0..).zip(&self.groups).map(|(number, group)| take(Rank::Group(number), || lock(group)))
    }

    fn gate(&self) -> Ordered<RwLockReadGuard<'_, ()>> {
        take(Rank::Gate, || self.gate.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn gate_alone(&self) -> Ordered<RwLockWriteGuard<'_, ()>> {
        take(Rank::GateAlone, || self.gate.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A page of zeros in a cluster of a group, or of one behind it when that is full.
    pub fn allocate_page(&self, near: u32, context: &Context) -> Result<u64> {
        // What groups keep for themselves is touched last.
        for spare in [1, 0] {
            for number in self.groups_from(near) {
                let mut group = self.group(number)?;
                if group.metadata_room(spare) < spare {
                    continue;
                }
                match group.allocate_metadata(1, context) {
                    Ok(block) => {
                        group.new_page(self.pages(), context, block);
                        return Ok(self.volume.geometry.volume_block(number, block));
                    }
                    Err(SpaceError::Full) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Err(Error::NoSpace)
    }

    /// Makes sure that a group's trees can get so many blocks, from other groups when its own clusters are full; as far as
    /// there are any.
    pub fn stock(&self, number: u32, needed: u64, context: &Context) -> Result<()> {
        let missing = self.group(number)?.missing(needed, context);
        for _ in 0..missing {
            match self.allocate_page(number, context) {
                Ok(block) => self.group(number)?.stock().push(block),
                Err(Error::NoSpace) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives back a block of a cluster.
    pub fn free_page(&self, block: u64) -> Result<()> {
        let place = self.volume.geometry.locate(block);
        let place = place.ok_or_else(|| Error::damaged(format_args!("block {block}"), "past the volume"))?;
        self.group(place.group)?.free_metadata(place.block)?;
        self.pages().forget(block);
        Ok(())
    }

    /// Number of the group where something with no better place is put.
    pub fn some_group(&self) -> u32 {
        let count = self.volume.geometry.groups().max(1);
        u32::try_from(self.next_group.fetch_add(1, Ordering::Relaxed) % count).unwrap_or(0)
    }

    /// Joins the running transaction, for an operation that frees, or that changes few blocks of what is there.
    pub fn join(&self) -> Result<Joined<'_>> {
        loop {
            if let Some(joined) = self.join_for_fault()? {
                return Ok(joined);
            }
            self.wait_until_thawed();
        }
    }

    /// As [`Core::join`]; `None` while the volume is frozen: for who must not wait for that.
    pub fn join_for_fault(&self) -> Result<Option<Joined<'_>>> {
        self.check_running()?;
        let gate = Gate::Shared { _guard: self.gate() };
        // Who closes has held the gate to say so; who freezes says so, and then takes it.
        self.check_open()?;
        Ok((!self.is_frozen()).then(|| self.joined(gate)))
    }

    /// Joins the running transaction as [`Core::join`] does, for an operation that adds something, near an inode, and
    /// needs up to so many blocks for metadata.
    pub fn join_adding(&self, near: u64, blocks: u64) -> Result<Joined<'_>> {
        self.with_space(|| {
            let mut joined = self.join()?;
            joined.promise(near, blocks)?;
            Ok(joined)
        })
    }

    /// Does something, and once more after media errors that it met were dealt with: what was lost may have been made anew.
    /// What finds something lost must have changed nothing.
    pub fn with_losses<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let result = attempt();
        if result.as_ref().is_err_and(Error::is_loss) && self.has_failures() {
            self.notice()?;
            return attempt();
        }
        result
    }

    /// Does something, and once more after a commit when it found no space and the commit gave some: what was freed can be
    /// had then, and what files have ahead of their ends. What finds no space, or something lost, must have changed nothing.
    pub fn with_space<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let result = self.with_losses(&mut attempt);
        if !matches!(result, Err(Error::NoSpace)) {
            return result;
        }
        self.take_back_ahead()?;
        if !self.each_group().any(|group| group.is_space_pending()) {
            return result;
        }
        self.commit()?;
        attempt()
    }

    /// Joins the running transaction while nobody else does, for an operation that looks at many inodes at one instant.
    pub fn join_alone(&self) -> Result<Joined<'_>> {
        loop {
            if let Some(joined) = self.join_alone_for_fault()? {
                return Ok(joined);
            }
            self.wait_until_thawed();
        }
    }

    /// As [`Core::join_alone`]; `None` while the volume is frozen: for who must not wait for that.
    pub fn join_alone_for_fault(&self) -> Result<Option<Joined<'_>>> {
        self.check_running()?;
        let gate = Gate::Alone { _guard: self.gate_alone() };
        self.check_open()?;
        Ok((!self.is_frozen()).then(|| self.joined(gate)))
    }

    /// Whether a file that is open can be mapped.
    pub fn is_dax(&self, cell: &Cell) -> bool {
        match self.dax {
            Dax::Inode => cell.is_dax.load(Ordering::Acquire),
            Dax::Always => true,
            Dax::Never => false,
        }
    }

    /// Whether the volume may be used at all.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`].
    pub fn check_alive(&self) -> Result<()> {
        if self.gated.is_shut() { Err(Error::ShutDown) } else { Ok(()) }
    }

    /// Whether anybody may yet change anything.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`].
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::ShutDown) } else { self.check_alive() }
    }

    /// Lets nothing reach the medium any more: it stays as the last commit left it.
    pub fn shut_down(&self) {
        self.gated.shut();
        self.close_views();
    }

    /// Number of the running transaction.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Acquire)
    }

    /// Number of the last transaction that is durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Joins the running transaction while nobody else does, whatever has to be done first. The caller holds the lock of the
    /// commit.
    pub fn join_alone_quietly(&self) -> Joined<'_> {
        self.joined(Gate::Alone { _guard: self.gate_alone() })
    }

    /// Deals with media errors, and commits first what another operation would make too large for its slot.
    fn check_running(&self) -> Result<()> {
        self.check_open()?;
        self.notice()?;
        if self.is_large() { self.commit() } else { Ok(()) }
    }

    fn joined<'c>(&'c self, gate: Gate<'c>) -> Joined<'c> {
        Joined { core: self, _gate: gate, promised: 0, now: now(), context: self.context() }
    }

    /// Numbers of all groups, that of an inode first.
    pub fn groups_from(&self, near: u32) -> impl Iterator<Item = u32> {
        let count = self.volume.geometry.groups().max(1);
        (0..count).map(move |step| u32::try_from((u64::from(near) + step) % count).unwrap_or(0))
    }

    /// The group that an inode is in.
    pub fn home(&self, inode: u64) -> u32 {
        self.volume.geometry.locate(inode / INODES_PER_BLOCK).map_or(0, |place| place.group)
    }

    /// Held by a rename, and by the removal of a directory.
    pub fn renaming(&self) -> Ordered<MutexGuard<'_, ()>> {
        take(Rank::Renaming, || lock(&self.renaming))
    }

    /// Looks, without changing anything: what is seen does not move to the medium meanwhile. Media errors are dealt with first.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`].
    pub fn look(&self) -> Result<Ordered<RwLockReadGuard<'_, ()>>> {
        self.check_alive()?;
        self.notice()?;
        Ok(self.gate())
    }

    /// Whether the running transaction has to be committed before another operation joins, so that it fits its slot.
    pub fn is_large(&self) -> bool {
        // Settling changes a few pages for each group, and those of the inodes. On a small volume that alone would be half
        // a slot, and each operation a transaction.
        let most = self.slot_bytes() / 2;
        let settling = (8 * BLOCK_BYTES * self.volume.geometry.groups().min(8)).min(most / 2);
        let inodes = self.inodes.dirty_count() as u64 * (INODE_SIZE as u64 + 16);
        self.pages().dirty_bytes() as u64 + inodes + settling > most
    }

    /// An inode in memory.
    pub fn inode(&self, number: u64) -> Result<Arc<Cell>> {
        let read = || {
            let inode = self.volume.inode(number).map_err(|fault| Error::inode(number, &fault))?;
            // What a free one says means nothing.
            let fault = if inode.is_free() { None } else { sound::fault(inode, &self.volume.geometry) };
            match fault {
                Some(field) => Err(Error::damaged(format_args!("inode {number}"), field)),
                None => Ok(*inode),
            }
        };
        self.inodes.get(number, read).map_err(|error| match self.media.is_lost(number) {
            true => Error::lost(format_args!("inode {number}"), number / INODES_PER_BLOCK),
            false => error,
        })
    }
}

impl Joined<'_> {
    /// Says that an inode changed.
    pub fn changed(&self, cell: &Arc<Cell>, state: &mut State) {
        state.inode.changes = state.inode.changes.get().wrapping_add(1).into();
        state.inode.changed = self.now;
        self.core.inodes.set_dirty(cell, state);
    }

    /// A new inode in memory, with no name yet.
    pub fn new_inode(&self, near: u32, make: impl FnOnce(u64, u32) -> Inode) -> Result<Arc<Cell>> {
        let core = self.core;
        for number in core.groups_from(near) {
            let mut group = core.group(number)?;
            if group.metadata_room(NAME_BLOCKS) < NAME_BLOCKS {
                continue;
            }
            match group.allocate_inode(core.pages(), &self.context) {
                Ok(inode) => {
                    drop(group);
                    // A slot that was used before keeps its generation. One whose chunk is new begins with what no
                    // earlier chunk in that place can have had.
                    let before = match core.volume.inode(inode) {
                        Ok(before) if !before.is_free() => {
                            let what = format_args!("the inode index of group {number}");
                            return Err(Error::damaged(what, format_args!("inode {inode} is in use")));
                        }
                        Ok(before) => before.generation.get(),
                        Err(_) => 0,
                    };
                    let first = self.context.generation & u64::from(u32::MAX);
                    let first = u32::try_from(first).unwrap_or(1).max(1);
                    let generation = if before == 0 { first } else { before.wrapping_add(1).max(1) };
                    let cell = core.inodes.insert(inode, make(inode, generation));
                    core.inodes.set_dirty(&cell, &mut cell.write());
                    return Ok(cell);
                }
                Err(SpaceError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::NoSpace)
    }

    /// Promises blocks for metadata to the operation, so that it cannot fail for want of them halfway.
    pub fn promise(&mut self, near: u64, blocks: u64) -> Result<()> {
        let core = self.core;
        if blocks > core.volume.geometry.blocks {
            return Err(Error::NoSpace);
        }
        let mut wanted = core.promised.fetch_add(blocks, Ordering::Relaxed) + blocks;
        self.promised += blocks;
        for number in core.groups_from(core.home(near)) {
            wanted -= core.group(number)?.metadata_room(wanted);
            if wanted == 0 {
                return Ok(());
            }
        }
        Err(Error::NoSpace)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.core.promised.fetch_sub(self.promised, Ordering::Relaxed);
    }
}
