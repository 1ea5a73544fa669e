//! Entries and parent pointers made one set again.
//!
//! An entry with its parent pointer is right. An entry alone gets a pointer if its inode is there, and goes if not; a pointer
//! alone gets an entry if its directory is there and the name is not another's, and goes if not. Where one entry and one
//! pointer that are alone could be the same name (other spelling, other directory, other inode), they are: the entry is
//! taken for right, for it is what programs see, unless its cookie contradicts its name. What is left without a name goes
//! into lost+found.

use super::cross::{Chunks, Cross};
use super::file::{Attribute, File, Name, Value};
use paxfs_format::chunk::CHUNK_BLOCKS;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::image::Image;
use paxfs_format::inode::FileType;
use paxfs_format::names::printable;
use paxfs_format::volume::Volume;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Files in memory, by number.
pub(super) type Files = BTreeMap<u64, File>;

/// The name of the directory for what lost its own.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";

/// What joining names goes by.
pub(super) struct Names<'n, 'd> {
    pub volume: &'n Volume<Image<'d>>,
    pub chunks: &'n Chunks,
    pub cross: &'n Cross,
    /// Directories that lie in themselves.
    pub circular: &'n BTreeSet<u64>,
}

impl Names<'_, '_> {
    /// Whether an inode is in use.
    fn is_used(&self, number: u64) -> bool {
        let Some(place) = self.volume.geometry.locate(number / INODES_PER_BLOCK) else { return false };
        let chunks = usize::try_from(place.group).ok().and_then(|group| self.chunks.get(group));
        let Some((_, chunk)) = chunks.and_then(|chunks| chunks.range(..=place.block).next_back()) else {
            return false;
        };
        let block = place.block.saturating_sub(chunk.start.get());
        let slot =
            u64::from(block).saturating_mul(INODES_PER_BLOCK).saturating_add(number % INODES_PER_BLOCK);
        block < CHUNK_BLOCKS && chunk.used.get() >> slot & 1 != 0
    }

    fn is_orphan(&self, number: u64) -> bool {
        let Some(place) = self.volume.geometry.locate(number / INODES_PER_BLOCK) else { return false };
        let chunks = usize::try_from(place.group).ok().and_then(|group| self.chunks.get(group));
        let chunk = chunks.and_then(|chunks| chunks.range(..=place.block).next_back());
        chunk.is_some_and(|(start, chunk)| {
            let block = place.block.saturating_sub(*start);
            let slot = u64::from(block) * INODES_PER_BLOCK + number % INODES_PER_BLOCK;
            block < CHUNK_BLOCKS && chunk.orphans.get() >> slot & 1 != 0
        })
    }

    fn kind(&self, files: &Files, number: u64) -> Option<FileType> {
        match files.get(&number) {
            Some(file) => file.kind(),
            None if self.is_used(number) => self.volume.inode(number).ok()?.file_type(),
            None => None,
        }
    }

    /// Whether a file is there, and not made of nothing.
    fn is_there(&self, files: &Files, number: u64) -> bool {
        number != 0
            && match files.get(&number) {
                Some(file) => file.kind().is_some() || file.made_up,
                None => self.is_used(number) && self.volume.inode(number).is_ok(),
            }
    }

    /// Whether a directory that is not in memory has an entry for an inode.
    fn has_entry(&self, directory: u64, name: &[u8], inode: u64) -> bool {
        self.entry(directory, name) == Some(inode)
    }

    fn entry(&self, directory: u64, name: &[u8]) -> Option<u64> {
        let inode = self.volume.inode(directory).ok().filter(|_| self.is_used(directory))?;
        Some(self.volume.lookup(inode, name).ok()??.head.inode.get())
    }

    /// Pointers to a name of a directory, whoever has them.
    fn pointers<'f>(&'f self, files: &'f Files, directory: u64) -> Vec<(u64, Vec<u8>)> {
        let mut found = self.cross.pointers.get(&directory).cloned().unwrap_or_default();
        for file in files.values() {
            let of = file.parents().filter(|(parent, _)| *parent == directory);
            found.extend(of.map(|(_, name)| (file.number, name.to_vec())));
        }
        found.sort();
        found.dedup();
        found
    }

    /// What an entry says of its inode.
    fn target(&self, files: &Files, number: u64) -> Option<(u32, u8)> {
        let inode = match files.get(&number) {
            Some(file) => file.inode,
            None => *self.volume.inode(number).ok()?,
        };
        Some((inode.generation.get(), inode.file_type()?.number()))
    }

    /// Joins what the files in memory are concerned with. Gives those that have to be in memory as well, if any: then it has
    /// to be done again, on files read anew.
    pub fn join(&self, files: &mut Files) -> BTreeSet<u64> {
        let mut wanted = BTreeSet::new();
        let root = self.volume.superblock.root.get();
        self.break_circles(files, &mut wanted);
        let directories: Vec<u64> =
            files.values().filter(|f| f.kind() == Some(FileType::Directory)).map(|f| f.number).collect();
        for directory in directories {
            self.directory(files, directory, &mut wanted);
        }
        let numbers: Vec<u64> = files.keys().copied().collect();
        for number in numbers {
            self.child(files, number, root, &mut wanted);
        }
        wanted.retain(|number| !files.contains_key(number));
        wanted
    }

    fn break_circles(&self, files: &mut Files, wanted: &mut BTreeSet<u64>) {
        for number in self.circular {
            let Some(file) = files.get_mut(number) else { continue };
            let parents: Vec<(u64, Vec<u8>)> =
                file.parents().map(|(parent, name)| (parent, name.to_vec())).collect();
            file.attributes.retain(|attribute| !matches!(attribute.value, Value::Parent(_)));
            for (parent, name) in parents {
                match files.get_mut(&parent) {
                    Some(parent) => parent.names.retain(|entry| entry.name != name || entry.inode != *number),
                    None => {
                        wanted.insert(parent);
                    }
                }
            }
        }
    }

    /// The entries of a directory against the pointers to it.
    fn directory(&self, files: &mut Files, directory: u64, wanted: &mut BTreeSet<u64>) {
        let Some(mut names) = files.get_mut(&directory).map(|file| core::mem::take(&mut file.names)) else {
            return;
        };
        let mut lost = Vec::new();
        let pointers = self.pointers(files, directory);
        let known: HashSet<(u64, &[u8])> =
            pointers.iter().map(|(child, of)| (*child, of.as_slice())).collect();
        let claimants: HashMap<&[u8], u64> =
            pointers.iter().rev().map(|(child, of)| (of.as_slice(), *child)).collect();
        let confirmed = |name: &Name| known.contains(&(name.inode, name.name.as_slice()));
        // Of two entries with one name, the one that its inode knows is right.
        names.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| confirmed(b).cmp(&confirmed(a))));
        names.dedup_by(|later, first| later.name == first.name);
        // Those that are right come first: what they use is nobody else's.
        let (mut done, names): (Vec<Name>, Vec<Name>) = names.into_iter().partition(confirmed);
        let mut taken: HashMap<Vec<u8>, u64> =
            done.iter().map(|name| (name.name.clone(), name.inode)).collect();
        for mut name in names {
            // The inode is another: it has the pointer, and no other entry for it.
            let claimant = claimants.get(name.name.as_slice()).filter(|child| self.is_there(files, **child));
            if let Some(child) = claimant {
                name.inode = *child;
                taken.insert(name.name.clone(), name.inode);
                done.push(name);
                continue;
            }
            if !self.is_there(files, name.inode) {
                lost.push(format!(
                    "the name \"{}\" of inode {}, which is not there",
                    printable(&name.name),
                    name.inode
                ));
                continue;
            }
            // The name is spelt differently.
            let other = pointers.iter().find(|(child, of)| *child == name.inode && !taken.contains_key(of));
            if let Some((_, of)) = other.filter(|_| name.doubtful || !super::salvage::is_name(&name.name)) {
                (name.name, name.cookie) = (of.clone(), None);
                taken.insert(name.name.clone(), name.inode);
                done.push(name);
                continue;
            }
            if !super::salvage::is_name(&name.name) {
                lost.push(format!(
                    "the impossible name \"{}\" of inode {}",
                    printable(&name.name),
                    name.inode
                ));
                wanted.insert(name.inode);
                continue;
            }
            let stale = other.map(|(_, of)| of.clone());
            match files.get_mut(&name.inode) {
                Some(file) => add_pointer(file, directory, &name.name, stale.as_deref()),
                None => {
                    wanted.insert(name.inode);
                }
            }
            taken.insert(name.name.clone(), name.inode);
            done.push(name);
        }
        // Names that only the inodes know.
        for (child, name) in self.pointers(files, directory) {
            if taken.get(&name) == Some(&child) {
                continue;
            }
            let free = !taken.contains_key(&name) && super::salvage::is_name(&name);
            if free && self.is_there(files, child) && child != directory {
                taken.insert(name.clone(), child);
                done.push(Name { cookie: None, name, inode: child, generation: 0, kind: 0, doubtful: false });
                continue;
            }
            match files.get_mut(&child) {
                Some(file) => remove_pointer(file, directory, &name),
                None => {
                    wanted.insert(child);
                }
            }
        }
        for name in &mut done {
            if let Some((generation, kind)) = self.target(files, name.inode) {
                (name.generation, name.kind) = (generation, kind);
            }
            if name.doubtful {
                name.cookie = None;
            }
        }
        if let Some(file) = files.get_mut(&directory) {
            file.names = done;
            file.lost.extend(lost);
        }
    }

    /// The pointers of a file against entries of directories that are not in memory.
    fn child(&self, files: &mut Files, number: u64, root: u64, wanted: &mut BTreeSet<u64>) {
        let entries = self.cross.entries.get(&number).cloned().unwrap_or_default();
        let Some(file) = files.get(&number) else { return };
        let mut missing: Vec<(u64, Vec<u8>)> = Vec::new();
        for (directory, name) in &entries {
            if !files.contains_key(directory) && !file.has_parent(*directory, name) {
                missing.push((*directory, name.clone()));
            }
        }
        let parents: Vec<(u64, Vec<u8>)> =
            file.parents().map(|(parent, name)| (parent, name.to_vec())).collect();
        let mut gone = Vec::new();
        for (directory, name) in parents {
            let known = match files.get(&directory) {
                Some(parent) => parent.names.iter().any(|entry| entry.name == name && entry.inode == number),
                None => self.has_entry(directory, &name, number),
            };
            if known {
                continue;
            }
            let is_directory = self.kind(files, directory) == Some(FileType::Directory);
            // Another spelling or directory of a name that has no pointer.
            let stale = !missing.is_empty();
            if stale || !is_directory || number == root {
                gone.push((directory, name));
            } else if files.contains_key(&directory) {
                // Its directory has been put right: the name is another's there.
                gone.push((directory, name));
            } else {
                wanted.insert(directory);
            }
        }
        let directory = file.kind() == Some(FileType::Directory);
        if let Some(file) = files.get_mut(&number) {
            for (directory, name) in gone {
                remove_pointer(file, directory, &name);
            }
            for (directory, name) in missing {
                add_pointer(file, directory, &name, None);
            }
        }
        if directory {
            self.one_name(files, number, root, wanted);
        }
    }

    /// A directory has one name, the root none.
    fn one_name(&self, files: &mut Files, number: u64, root: u64, wanted: &mut BTreeSet<u64>) {
        let Some(file) = files.get(&number) else { return };
        let parents: Vec<(u64, Vec<u8>)> =
            file.parents().map(|(parent, name)| (parent, name.to_vec())).collect();
        for (directory, name) in parents.into_iter().skip(usize::from(number != root)) {
            match files.get_mut(&directory) {
                Some(parent) => parent.names.retain(|entry| entry.name != name || entry.inode != number),
                None => {
                    wanted.insert(directory);
                }
            }
            if let Some(file) = files.get_mut(&number) {
                remove_pointer(file, directory, &name);
            }
        }
    }

    /// Files in memory that are left without a name though they should have one.
    pub fn nameless(&self, files: &Files) -> Vec<u64> {
        let root = self.volume.superblock.root.get();
        let of = |file: &&File| file.number != root && file.parents().next().is_none();
        let nameless = files
            .values()
            .filter(of)
            .filter(|file| !self.is_orphan(file.number) || file.inode.links.get() != 0);
        nameless.map(|file| file.number).collect()
    }
}

fn add_pointer(file: &mut File, directory: u64, name: &[u8], stale: Option<&[u8]>) {
    if let Some(stale) = stale {
        remove_pointer(file, directory, stale);
    }
    if !file.has_parent(directory, name) {
        let value = Value::Parent(directory);
        file.attributes.push(Attribute { cookie: None, name: name.to_vec(), value, doubtful: false });
    }
}

fn remove_pointer(file: &mut File, directory: u64, name: &[u8]) {
    file.attributes.retain(|attribute| attribute.value != Value::Parent(directory) || attribute.name != name);
}

/// Gives a file a name in lost+found: that of its old name where it is not taken, else its number.
pub(super) fn into_lost_and_found(files: &mut Files, directory: u64, number: u64) -> Option<Vec<u8>> {
    let name = format!("#{number}").into_bytes();
    let (generation, kind) = files
        .get(&number)
        .map(|file| (file.inode.generation.get(), file.kind().map_or(0, FileType::number)))?;
    let parent = files.get_mut(&directory)?;
    if !parent.names.iter().any(|entry| entry.name == name) {
        parent.names.push(Name {
            cookie: None,
            name: name.clone(),
            inode: number,
            generation,
            kind,
            doubtful: false,
        });
    }
    add_pointer(files.get_mut(&number)?, directory, &name, None);
    Some(name)
}
