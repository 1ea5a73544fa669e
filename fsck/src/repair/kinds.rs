//! The types of inodes that lost them, from what the rest of the volume says.

use super::cross::Cross;
use super::file::{File, contents};
use super::names::Files;
use super::round::Round;
use super::source::Source;
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::image::Image;
use paxfs_format::inode::{FileType, ForkFormat, Inode};
use paxfs_format::volume::Volume;
use std::collections::BTreeSet;
use zerocopy::FromZeros;

impl Round<'_, '_> {
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
    pub(super) fn kinds(&self, source: &Source<'_, '_>, cross: &mut Cross, files: &mut Files) {
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
}

/// What an inode without a type holds, by how it is stored.
fn guess(inode: &Inode) -> Option<FileType> {
    match inode.data.format {
        ForkFormat::BLOCK => Some(FileType::Directory),
        ForkFormat::VALUES => Some(FileType::Symlink),
        _ => Some(FileType::Regular),
    }
}

/// A file that holds nothing yet, of no type.
pub(super) fn empty(volume: &Volume<Image<'_>>, number: u64) -> File {
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
pub(super) fn make_up(volume: &Volume<Image<'_>>, file: &mut File, kind: FileType) {
    let permissions = if kind == FileType::Directory { 0o700 } else { 0o600 };
    file.inode.mode = (kind.mode() | permissions).into();
    let now = volume.superblock.written;
    (file.inode.accessed, file.inode.modified, file.inode.changed, file.inode.born) = (now, now, now, now);
    file.lost.insert("its owner, permissions, times and attributes".to_owned());
}
