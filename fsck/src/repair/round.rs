//! One round of repair: from findings to changes of the image.
//!
//! 1. What has a fixed place: superblocks and headers (`heads`).
//! 2. Where inodes are (`chunks`), for without them no file is known.
//! 3. The files that findings are about, read whole (`file`), compared with what the rest of the volume says of them
//!    (`cross`, `extents`, `names`) until no other file is concerned.
//! 4. Who uses which blocks (`space::census`); blocks that two claim are copied.
//! 5. The files written anew (`store`), then the trees of the groups (`space::rebuild`), then checksums (`sums`).
//!
//! Nothing of 5 is needed by 1 to 4, so a round that lacks a cluster is begun again with one more.

use super::action::Action;
use super::chunks;
use super::cross::{self, Chunks, Cross};
use super::extents::{merged, settle};
use super::file::{File, Source, Value, contents, load};
use super::names::{Files, LOST_AND_FOUND, Names, into_lost_and_found};
use super::space::{Census, Scope, SpaceError, census, rebuild};
use super::store::{StoreError, put_slot, store};
use super::targets::Targets;
use super::{heads, sums};
use crate::error::Error;
use crate::finding::{AffectedFile, Finding};
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::declare::OnDisk;
use paxfs_format::extent::Extent;
use paxfs_format::field::diff::diff;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::image::Image;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::names::printable;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromZeros, IntoBytes};

/// How often files may turn out to be concerned as well before a round gives up on finding more.
const MOST_TURNS: usize = 16;
/// Clusters that a round may add.
const MOST_CLUSTERS: usize = 1 << 16;

/// One round.
pub(super) struct Round<'r, 'd> {
    pub volume: &'r mut Volume<Image<'d>>,
    pub newest: u64,
    pub targets: Targets,
    pub actions: Vec<Action>,
}

impl<'d> Round<'_, 'd> {
    /// Does what the findings ask for.
    pub fn run(mut self, findings: &[Finding]) -> Result<Vec<Action>, Error> {
        heads::groups(self.volume, self.newest, &mut self.actions)?;
        self.targets = Targets::of(self.volume, findings);
        let mut chunks = self.chunks();
        self.root(&mut chunks);
        heads::superblocks(self.volume, self.newest, &mut self.actions)?;
        self.slots(&chunks)?;
        let mut extra = BTreeSet::new();
        let base = self.volume.blocks.clone();
        let told = self.actions.len();
        loop {
            match self.attempt(&mut chunks, &mut extra)? {
                Some(()) => break,
                None => {
                    // Begun again, with one more cluster or more files.
                    self.volume.blocks = base.clone();
                    self.actions.truncate(told);
                }
            }
            if extra.len() > MOST_CLUSTERS {
                return Err(Error::Full);
            }
        }
        sums::mend(self.volume, &self.targets, &mut self.actions)?;
        Ok(self.actions)
    }

    /// Where inodes are; and all that are marked in use without being there are looked at.
    fn chunks(&mut self) -> Chunks {
        let (mut all, mut unrecorded) = (Chunks::new(), BTreeSet::new());
        for group in self.volume.geometry.group_numbers() {
            let known = chunks::known(self.volume, group, self.targets.doubted.contains(&group));
            unrecorded.extend(known.unrecorded.into_iter().map(|start| (group, start)));
            all.push(known.chunks);
        }
        let mut state = State { chunks: all, original: BTreeMap::new() };
        if !unrecorded.is_empty() {
            self.referenced(&mut state, &unrecorded);
        }
        for (group, chunks) in (0u32..).zip(&state.chunks) {
            for chunk in chunks.values().filter(|_| self.targets.doubted.contains(&group)) {
                let used = chunk.used.get();
                for slot in (0..CHUNK_INODES).filter(|slot| used >> slot & 1 != 0) {
                    let number = chunks::inode(self.volume, group, chunk.start.get(), slot);
                    if self.volume.inode(number).map_or(true, Inode::is_free) {
                        self.targets.files.insert(number);
                    }
                }
            }
        }
        state.chunks
    }

    /// Marks inodes of chunks that have no record as in use when an entry names them, or a parent pointer leads to them.
    fn referenced(&self, state: &mut State, unrecorded: &BTreeSet<(u32, u32)>) {
        let volume = &*self.volume;
        let mut named = BTreeSet::new();
        for number in cross::in_use(volume, &state.chunks) {
            let Ok(inode) = volume.inode(number) else { continue };
            named.extend(volume.parents(inode).map(|parent| parent.directory));
            if inode.file_type() == Some(FileType::Directory) {
                named.extend(volume.directory(inode).flatten().map(|entry| entry.head.inode.get()));
            }
        }
        for number in named {
            let place = volume.geometry.locate(number / INODES_PER_BLOCK);
            let within = place.is_some_and(|place| {
                let before = unrecorded.range(..=(place.group, place.block)).next_back();
                before.is_some_and(|(group, start)| {
                    *group == place.group && place.block.saturating_sub(*start) < CHUNK_BLOCKS
                })
            });
            if within && volume.inode(number).is_err() {
                state.set(volume, number, true, false);
            }
        }
    }

    /// Finds the root directory when the superblock does not lead to it: the one directory that nobody names. If there is
    /// none, it is made anew where the superblock has it.
    fn root(&mut self, chunks: &mut Chunks) {
        let root = self.volume.superblock.root.get();
        let volume = &*self.volume;
        let is_root = |number: u64| {
            volume.inode(number).is_ok_and(|inode| {
                inode.file_type() == Some(FileType::Directory)
                    && inode.links.get() == 1
                    && volume.parents(inode).next().is_none()
            })
        };
        if !self.targets.root || is_root(root) {
            return;
        }
        let mut others = cross::in_use(volume, chunks).filter(|number| is_root(*number));
        let only = others.next().filter(|_| others.next().is_none());
        drop(others);
        match only {
            Some(other) => {
                let words = format!("{root} -> {other}, the directory that has no name");
                self.actions.push(Action::new("sb.root", words));
                self.volume.superblock.root = other.into();
            }
            None => {
                let mut state = State { chunks: core::mem::take(chunks), original: BTreeMap::new() };
                state.add(self.volume, root);
                *chunks = state.chunks;
                self.targets.files.insert(root);
            }
        }
    }

    /// Clears free slots that hold what is no inode.
    fn slots(&mut self, chunks: &Chunks) -> Result<(), Error> {
        for number in self.targets.slots.clone() {
            if cross::in_use(self.volume, chunks).any(|used| used == number) {
                continue;
            }
            let generation = self.volume.inode_unverified(number).map_or(0, |inode| inode.generation.get());
            let place = self.volume.geometry.locate(number / INODES_PER_BLOCK);
            let group = place.map_or(0, |place| place.group);
            let mut freed = Inode::new_zeroed();
            freed.header = Header::new(BlockKind::INODE, number, group.into(), self.newest);
            freed.generation = generation.max(1).into();
            self.volume.seed.seal(freed.as_mut_bytes());
            put_slot(self.volume, number, freed.as_bytes())?;
            self.actions.push(Action::new(format!("inode[{number}]"), "the free slot is cleared"));
        }
        Ok(())
    }

    /// Steps 3 to 5. `None`: something more has to be known first; it is now.
    fn attempt(
        &mut self,
        chunks: &mut Chunks,
        extra: &mut BTreeSet<(u32, u32)>,
    ) -> Result<Option<()>, Error> {
        let original: BTreeMap<u64, Inode> = BTreeMap::new();
        let mut state = State { chunks: chunks.clone(), original };
        let mut files = self.files(&mut state)?;
        self.mark(&mut state, &files);
        let groups = self.groups(&files);
        let Targets { doubted, forced, failed, .. } = &self.targets;
        let (doubted, forced, failed) = (doubted.clone(), forced.clone(), failed.clone());
        let clusters = extra.clone();
        let scope = Scope {
            chunks: &state.chunks,
            doubted: &doubted,
            wanted: &groups,
            forced: &forced,
            extra: &clusters,
            failed: &failed,
        };
        let mut census = census(self.volume, &scope, &files);
        if !census.clashing.is_subset(&self.targets.files) {
            self.targets.files.extend(&census.clashing);
            return Ok(None);
        }
        self.copies(&mut files, &mut census)?;
        let numbers: Vec<u64> = files.keys().copied().collect();
        for number in numbers {
            let Some(file) = files.get_mut(&number) else { continue };
            match store(self.volume, &mut census.room, file, self.newest) {
                Ok(inode) => {
                    let before = state.original.get(&number).copied();
                    tell(&mut self.actions, self.volume, file, before, &inode);
                }
                Err(StoreError::Medium(error)) => return Err(error.into()),
                Err(StoreError::Full(full)) => {
                    return self.cluster(&census, full.group, &groups, extra);
                }
            }
        }
        match rebuild(self.volume, &mut census, &scope, self.newest) {
            Ok(rebuilt) => {
                for one in rebuilt.iter().filter(|one| one.differs) {
                    let records = paxfs_format::words::counted(one.records, "record");
                    let nodes = paxfs_format::words::counted(one.nodes, "node");
                    let at = format!("{}[{}]", one.tree.name(), one.group);
                    self.actions.push(Action::new(at, format!("written anew: {records} in {nodes}")));
                }
                Ok(Some(()))
            }
            Err(SpaceError::Medium(error)) => Err(error.into()),
            Err(SpaceError::Full(full)) => self.cluster(&census, full.group, &groups, extra),
        }
    }

    /// Finds a place for one more cluster.
    fn cluster(
        &mut self,
        census: &Census,
        group: u32,
        wanted: &BTreeSet<u32>,
        extra: &mut BTreeSet<(u32, u32)>,
    ) -> Result<Option<()>, Error> {
        match census.place_for_cluster(group, wanted) {
            Some(place) => {
                extra.insert(place);
                self.targets.groups.insert(place.0);
            }
            // Groups that were not looked at may have room.
            None => {
                let all = self.volume.geometry.group_numbers();
                let next = core::iter::once(group).chain(all).find(|group| !wanted.contains(group));
                self.targets.groups.insert(next.ok_or(Error::Full)?);
            }
        }
        Ok(None)
    }

    /// The files that findings are about, put right in memory.
    fn files(&mut self, state: &mut State) -> Result<Files, Error> {
        let mut turns = 0;
        loop {
            let mut files = Files::new();
            let source = Source::new(self.volume, &self.targets.doubted);
            for number in &self.targets.files {
                if self.volume.geometry.inode_place(*number).is_some()
                    && state.is_marked(self.volume, *number)
                {
                    files.insert(*number, load(&source, *number));
                }
            }
            state.original =
                files.keys().filter_map(|n| Some((*n, *self.volume.inode_unverified(*n).ok()?))).collect();
            let of: BTreeSet<u64> = files.keys().copied().collect();
            let blocks_of: BTreeSet<u64> =
                files.values().filter(|file| self.needs_extents(file)).map(|file| file.number).collect();
            let mut cross = cross::ask(self.volume, &state.chunks, &of, &blocks_of);
            self.kinds(&source, &mut cross, &mut files);
            self.settle(&mut files, &cross, &blocks_of);
            let names = Names {
                volume: self.volume,
                chunks: &state.chunks,
                cross: &cross,
                circular: &self.targets.circular,
            };
            let mut wanted = names.join(&mut files);
            let nameless = names.nameless(&files);
            turns += 1;
            if wanted.is_empty() && !nameless.is_empty() && turns < MOST_TURNS {
                wanted.extend(self.lost_and_found(state, &mut files, &nameless));
            }
            if wanted.is_empty() || turns >= MOST_TURNS {
                return Ok(files);
            }
            self.targets.files.extend(wanted);
        }
    }

    fn needs_extents(&self, file: &File) -> bool {
        let regular = file.kind().is_none_or(|kind| kind == FileType::Regular);
        regular && (file.made_up || !file.data_whole || self.targets.extents.contains(&file.number))
    }

    /// Gives an inode whose type is not known the type that the rest of the volume says.
    fn kind(&self, source: &Source<'_, '_>, cross: &Cross, file: &mut File) {
        let number = file.number;
        let told = cross.kinds.get(&number).copied();
        let told_kind = told.and_then(|(kind, _)| FileType::from_number(kind));
        if let Some((_, generation)) = told.filter(|_| file.made_up || file.inode.generation.get() == 0) {
            file.inode.generation = generation.into();
        }
        let has_blocks = cross.rmaps.get(&number).is_some_and(|rmaps| !rmaps.is_empty());
        if let Some(kind) = file.kind() {
            // Its type may be what is wrong: then what it holds fits the type that its entry gives it.
            let root = (number == self.volume.superblock.root.get()).then_some(FileType::Directory);
            let other = self.targets.types.get(&number).and_then(|kind| FileType::from_number(*kind));
            let other = root.or(other).or(told_kind);
            // The root is a directory, whatever it holds.
            if let Some(other) = other.filter(|other| *other != kind && (root.is_some() || !file.data_whole))
            {
                let mut like = file.clone();
                like.inode.mode = (like.inode.mode.get() & 0o7777 | other.mode()).into();
                like.data_whole = true;
                contents(source, &mut like);
                if like.data_whole || root.is_some() {
                    *file = like;
                }
            }
            return;
        }
        let root = number == self.volume.superblock.root.get();
        let contains = cross.pointers.get(&number).is_some_and(|pointers| !pointers.is_empty());
        let kind = match told_kind {
            _ if root => Some(FileType::Directory),
            Some(kind) => Some(kind),
            None if has_blocks => Some(FileType::Regular),
            None if contains => Some(FileType::Directory),
            None if !file.made_up => guess(&file.inode),
            None => None,
        };
        let Some(kind) = kind else {
            file.inode.mode = 0.into();
            return;
        };
        if file.made_up {
            make_up(self.volume, file, kind);
            contents(source, file);
        } else {
            file.inode.mode = (file.inode.mode.get() & 0o7777 | kind.mode()).into();
            file.lost.insert("certainty about its type".to_owned());
            contents(source, file);
        }
    }

    /// Gives types to the inodes that lost them. A directory that gets its own knows those of others.
    fn kinds(&self, source: &Source<'_, '_>, cross: &mut Cross, files: &mut Files) {
        let mut before = None;
        loop {
            for file in files.values() {
                for name in file.names.iter().filter(|name| !name.doubtful) {
                    cross.kinds.entry(name.inode).or_insert((name.kind, name.generation));
                }
                for (directory, name) in file.parents() {
                    let pointers = cross.pointers.entry(directory).or_default();
                    let pointer = (file.number, name.to_vec());
                    if files.get(&directory).is_some_and(|file| file.kind().is_none())
                        && !pointers.contains(&pointer)
                    {
                        pointers.push(pointer);
                    }
                }
            }
            for file in files.values_mut().filter(|file| before.is_none() || file.kind().is_none()) {
                self.kind(source, cross, file);
            }
            let unknown = files.values().filter(|file| file.kind().is_none()).count();
            if unknown == 0 || before == Some(unknown) {
                return;
            }
            before = Some(unknown);
        }
    }

    /// Decides about the extents of the files that need it.
    fn settle(&self, files: &mut Files, cross: &Cross, blocks_of: &BTreeSet<u64>) {
        let space = self.volume.geometry.volume_space();
        for file in files.values_mut().filter(|file| file.kind() == Some(FileType::Regular)) {
            let none = Vec::new();
            let rmaps = cross.rmaps.get(&file.number).unwrap_or(&none);
            if blocks_of.contains(&file.number) {
                settle(file, rmaps, &self.targets.verdict, &space);
                if file.made_up {
                    let end = file.extents.iter().map(paxfs_format::record::Record::end).max().unwrap_or(0);
                    file.inode.size = end.saturating_mul(paxfs_format::geometry::BLOCK_BYTES).into();
                }
            } else {
                file.extents = merged(core::mem::take(&mut file.extents), &space);
            }
            for hole in self.targets.holes.get(&file.number).into_iter().flatten() {
                file.extents.retain(|extent| {
                    let run = blocks(extent);
                    !extent.flags.is_unwritten() || run.end <= hole.start || hole.end <= run.start
                });
            }
        }
    }

    /// Sees that what has no name gets one in lost+found. Gives the files that have to be in memory for that.
    fn lost_and_found(&mut self, state: &mut State, files: &mut Files, nameless: &[u64]) -> BTreeSet<u64> {
        let mut wanted = BTreeSet::new();
        let root = self.volume.superblock.root.get();
        if !files.contains_key(&root) {
            wanted.insert(root);
            return wanted;
        }
        let entry =
            files.get(&root).and_then(|file| file.names.iter().find(|name| name.name == LOST_AND_FOUND));
        let directory = match entry.map(|entry| entry.inode) {
            Some(number) => number,
            None => {
                let Some(number) = state.new_inode(self.volume) else { return wanted };
                let mut file = empty(self.volume, number);
                make_up(self.volume, &mut file, FileType::Directory);
                file.lost.clear();
                files.insert(number, file);
                let (generation, kind) = (1, FileType::Directory.number());
                let name = super::file::Name {
                    cookie: None,
                    name: LOST_AND_FOUND.to_vec(),
                    inode: number,
                    generation,
                    kind,
                    doubtful: false,
                };
                if let Some(root) = files.get_mut(&root) {
                    root.names.push(name);
                }
                if let Some(file) = files.get_mut(&number) {
                    let value = Value::Parent(root);
                    file.attributes.push(super::file::Attribute {
                        cookie: None,
                        name: LOST_AND_FOUND.to_vec(),
                        value,
                        doubtful: false,
                    });
                }
                number
            }
        };
        if !files.contains_key(&directory) {
            wanted.insert(directory);
            return wanted;
        }
        for number in nameless {
            if files.get(number).is_some_and(|file| file.kind().is_none()) {
                continue;
            }
            if let Some(name) = into_lost_and_found(files, directory, *number)
                && let Some(file) = files.get_mut(number)
            {
                file.lost.insert(format!("its name: it is /lost+found/{} now", printable(&name)));
            }
        }
        wanted
    }

    /// Marks in the chunks which of the files in memory are in use.
    fn mark(&self, state: &mut State, files: &Files) {
        let root = self.volume.superblock.root.get();
        for file in files.values() {
            let used = file.kind().is_some();
            let nameless = used && file.number != root && file.parents().next().is_none();
            state.set(self.volume, file.number, used, nameless);
        }
    }

    /// Groups whose space is looked at: those of findings, and of all blocks that files in memory have or had.
    fn groups(&self, files: &Files) -> BTreeSet<u32> {
        let mut groups = self.targets.groups.clone();
        for file in files.values() {
            let mut note =
                |block: u64| groups.extend(self.volume.geometry.locate(block).map(|place| place.group));
            file.extents.iter().for_each(|extent| note(extent.start.get()));
            if let Ok(inode) = self.volume.inode(file.number) {
                self.volume.extents(inode).flatten().for_each(|extent| note(extent.start.get()));
            }
        }
        groups
    }

    /// Gives files copies of blocks that others have too.
    fn copies(&mut self, files: &mut Files, census: &mut Census) -> Result<(), Error> {
        let space = self.volume.geometry.volume_space();
        for (number, ranges) in self.targets.copies.clone() {
            let Some(file) = files.get_mut(&number) else { continue };
            let ranges = crate::runs::union(ranges);
            let mut after = Vec::new();
            for extent in core::mem::take(&mut file.extents) {
                let mut rest = extent;
                let whole = blocks(&extent);
                for part in crate::runs::within(&ranges, &whole) {
                    let before = part.start.saturating_sub(rest.start.get());
                    let (kept, taken) = split(rest, before);
                    after.extend(kept);
                    let Some(taken) = taken else { break };
                    let (moved, left) = split(taken, part.end.saturating_sub(part.start));
                    if let Some(moved) = moved {
                        after.extend(self.copy(file, census, moved)?);
                    }
                    match left {
                        Some(left) => rest = left,
                        None => {
                            rest.length = 0.into();
                            break;
                        }
                    }
                }
                if rest.length.get() > 0 {
                    after.push(rest);
                }
            }
            file.extents = merged(after, &space);
            for claims in census.claims.values_mut() {
                claims.retain(|claim| claim.inode != number);
            }
            for extent in &file.extents {
                let Some(place) = self.volume.geometry.locate(extent.start.get()) else { continue };
                let claim = super::space::Claim { inode: number, extent: *extent };
                census.claims.entry(place.group).or_default().push(claim);
            }
        }
        Ok(())
    }

    /// Copies an extent's blocks to free ones, as many runs as it takes.
    fn copy(&mut self, file: &mut File, census: &mut Census, extent: Extent) -> Result<Vec<Extent>, Error> {
        let mut copies = Vec::new();
        let mut rest = Some(extent);
        while let Some(extent) = rest.take() {
            let groups: Vec<u32> = census.claims.keys().copied().collect();
            let run = groups.into_iter().find_map(|group| {
                let bad = census.bad.get(&group).cloned().unwrap_or_default();
                let free = census.free(group).into_iter();
                let run = free
                    .flat_map(|run| crate::runs::without(run, &bad))
                    .max_by_key(|run| run.end - run.start)?;
                Some((group, run))
            });
            let Some((group, run)) = run else {
                let bytes =
                    u64::from(extent.length.get()).saturating_mul(paxfs_format::geometry::BLOCK_BYTES);
                file.lost.insert(format!("{bytes} bytes that others have too, for want of room"));
                break;
            };
            let (part, left) = split(extent, run.end.saturating_sub(run.start));
            rest = left;
            let Some(part) = part else { break };
            let to = self.volume.geometry.group_start(group).saturating_add(run.start);
            for block in 0..u64::from(part.length.get()) {
                let bytes = *self.volume.blocks.block(part.start.get().saturating_add(block))?;
                self.volume.blocks.put(to.saturating_add(block), Box::new(bytes));
            }
            let copy = Extent { start: to.into(), ..part };
            census
                .claims
                .entry(group)
                .or_default()
                .push(super::space::Claim { inode: file.number, extent: copy });
            copies.push(copy);
        }
        Ok(copies)
    }
}

/// What an attempt changes besides the image.
struct State {
    chunks: Chunks,
    /// Inodes as they were.
    original: BTreeMap<u64, Inode>,
}

impl State {
    fn chunk(
        &mut self,
        volume: &Volume<Image<'_>>,
        number: u64,
    ) -> Option<(&mut paxfs_format::chunk::Chunk, u64)> {
        let place = volume.geometry.locate(number / INODES_PER_BLOCK)?;
        let chunks = self.chunks.get_mut(usize::try_from(place.group).ok()?)?;
        let (start, chunk) = chunks.range_mut(..=place.block).next_back()?;
        let block = place.block.saturating_sub(*start);
        let slot =
            u64::from(block).saturating_mul(INODES_PER_BLOCK).saturating_add(number % INODES_PER_BLOCK);
        (block < CHUNK_BLOCKS).then(|| (chunk, 1u64 << slot))
    }

    /// Marks an inode that there must be as in use, in a chunk of its own if there is none.
    fn add(&mut self, volume: &Volume<Image<'_>>, number: u64) {
        if self.chunk(volume, number).is_none()
            && let Some(place) = volume.geometry.locate(number / INODES_PER_BLOCK)
            && let Some(chunks) =
                usize::try_from(place.group).ok().and_then(|group| self.chunks.get_mut(group))
        {
            let start = place.block - place.block % CHUNK_BLOCKS;
            chunks.insert(start, chunks::chunk(start, 0, 0));
        }
        self.set(volume, number, true, false);
    }

    fn is_marked(&mut self, volume: &Volume<Image<'_>>, number: u64) -> bool {
        self.chunk(volume, number).is_some_and(|(chunk, bit)| chunk.used.get() & bit != 0)
    }

    fn set(&mut self, volume: &Volume<Image<'_>>, number: u64, used: bool, orphan: bool) {
        let Some((chunk, bit)) = self.chunk(volume, number) else { return };
        let (mut bits, mut orphans) = (chunk.used.get() & !bit, chunk.orphans.get() & !bit);
        if used {
            bits |= bit;
        }
        if used && orphan {
            orphans |= bit;
        }
        (chunk.used, chunk.orphans) = (bits.into(), orphans.into());
    }

    /// A free inode.
    fn new_inode(&mut self, volume: &Volume<Image<'_>>) -> Option<u64> {
        for (group, chunks) in (0u32..).zip(&mut self.chunks) {
            for (start, chunk) in chunks {
                let slot = chunk.used.get().trailing_ones();
                if slot < CHUNK_INODES {
                    chunk.used = (chunk.used.get() | 1 << slot).into();
                    return Some(chunks::inode(volume, group, *start, slot));
                }
            }
        }
        None
    }
}

/// The blocks of an extent.
fn blocks(extent: &Extent) -> Range<u64> {
    let start = extent.start.get();
    start..start.saturating_add(extent.length.get().into())
}

/// An extent cut after so many blocks.
fn split(extent: Extent, at: u64) -> (Option<Extent>, Option<Extent>) {
    let length = u64::from(extent.length.get());
    let at = at.min(length);
    let part = |from: u64, to: u64| {
        (from < to).then(|| Extent {
            offset: extent.offset.get().saturating_add(from).into(),
            start: extent.start.get().saturating_add(from).into(),
            length: u32::try_from(to - from).unwrap_or(u32::MAX).into(),
            flags: extent.flags,
        })
    };
    (part(0, at), part(at, length))
}

/// What an inode without a type holds, by how it is stored.
fn guess(inode: &Inode) -> Option<FileType> {
    use paxfs_format::inode::ForkFormat;
    match inode.data.format {
        ForkFormat::BLOCK => Some(FileType::Directory),
        ForkFormat::VALUES => Some(FileType::Symlink),
        _ => Some(FileType::Regular),
    }
}

fn empty(volume: &Volume<Image<'_>>, number: u64) -> File {
    let mut inode = Inode::new_zeroed();
    let group = volume.geometry.locate(number / INODES_PER_BLOCK).map_or(0, |place| place.group);
    inode.header = Header::new(BlockKind::INODE, number, group.into(), 1);
    // A number that was used before must not come back with the generation it had.
    let before = volume.inode(number).map_or(0, |inode| inode.generation.get());
    inode.generation = before.saturating_add(1).into();
    File {
        number,
        inode,
        extents: Vec::new(),
        doubtful: Vec::new(),
        names: Vec::new(),
        target: None,
        attributes: Vec::new(),
        made_up: true,
        unsealed: true,
        data_whole: true,
        attributes_whole: true,
        lost: BTreeSet::new(),
    }
}

/// Fills the fields of an inode of which only the type is known.
fn make_up(volume: &Volume<Image<'_>>, file: &mut File, kind: FileType) {
    let permissions = if kind == FileType::Directory { 0o700 } else { 0o600 };
    file.inode.mode = (kind.mode() | permissions).into();
    let now = volume.superblock.written;
    (file.inode.accessed, file.inode.modified, file.inode.changed, file.inode.born) = (now, now, now, now);
    file.lost.insert("its owner, permissions, times and attributes".to_owned());
}

/// Tells what became of a file.
fn tell(
    actions: &mut Vec<Action>,
    volume: &Volume<Image<'_>>,
    file: &File,
    before: Option<Inode>,
    after: &Inode,
) {
    let number = file.number;
    let hidden = ["header.crc", "header.generation", "payload"];
    let words = before
        .map(|before| heads::changes(diff(&Inode::LAYOUT, before.as_bytes(), after.as_bytes()), &hidden));
    let what = match words {
        _ if after.is_free() => "freed: nothing says what it was".to_owned(),
        Some(words) if file.made_up => format!("made anew ({words})"),
        Some(words) if words.is_empty() => "written anew".to_owned(),
        Some(words) => format!("written anew: {words}"),
        None => "made".to_owned(),
    };
    let same = before.is_some_and(|before| before.as_bytes() == after.as_bytes());
    if same && file.lost.is_empty() {
        return;
    }
    let mut action = Action::new(format!("inode[{number}]"), what);
    let path = volume.paths_up_to(number, 1).first().map(|path| path.to_string()).unwrap_or_default();
    action.file = Some(AffectedFile { inode: number, offset: None, path });
    action.lost = file.lost.iter().cloned().collect();
    if after.is_free() {
        action.lost.push("all of it".to_owned());
    }
    if file.unsealed && !file.made_up {
        action.lost.push("certainty about its attributes: its checksum did not fit".to_owned());
    }
    actions.push(action);
}
