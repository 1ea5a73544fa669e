//! One round of repair: from findings to changes of the image.
//!
//! 1. What has a fixed place: superblocks and headers (`heads`).
//! 2. Where inodes are (`chunks`), for without them no file is known.
//! 3. The files that findings are about, read whole (`file`), compared with what the rest of the volume says of them
//!    (`cross`, `extents`, `names`) until no other file is concerned.
//! 4. Who uses which blocks (`census`); blocks that two claim are copied.
//! 5. The files written anew (`store`), then the trees of the groups (`space::rebuild`), then checksums (`sums`).
//!
//! Nothing of 5 is needed by 1 to 4, so a round that lacks a cluster is begun again with one more.

use super::action::Action;
use super::census::{Census, Scope, census};
use super::chunks;
use super::copies::blocks;
use super::cross::{self, Chunks, Cross};
use super::extents::{merged, settle};
use super::file::{File, Value, load};
use super::kinds::{empty, make_up};
use super::names::{Files, LOST_AND_FOUND, Names, into_lost_and_found};
use super::source::Source;
use super::space::{SpaceError, rebuild};
use super::state::State;
use super::store::{StoreError, put_slot, store};
use super::targets::Targets;
use super::{heads, sums};
use crate::error::Error;
use crate::finding::{AffectedFile, Finding};
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::declare::OnDisk;
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
