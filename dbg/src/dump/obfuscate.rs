//! Names, values and targets taken out of metadata, so that a dump can be given away.
//!
//! Every secret is replaced by bytes of the same length, in place. What makes that possible for names, which are found by
//! their hash: between the blocks of a directory only the range of cookies decides where an entry belongs, and within a
//! block the order is free. So a new name is drawn until its hash falls into the range of the block in which the old
//! one lies (`names.rs`). Nothing moves, no index changes, and a check of the restored volume finds what it would find on
//! the original. The parent pointer of the file gets the same name.
//!
//! A block that does not verify may hold anything: all of it but its header is blanked, and one without a header, which
//! nobody could make sense of, is left out. The journal holds lines of directories, so there is none: the dump is of the
//! volume as it is when the journal is applied.

mod names;

use super::select::Selected;
use names::Names;
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::OnDisk;
use paxfs_format::entry::{
    AttributeEntry, AttributeKind, BODY_SIZE, BodyBlock, DirectoryEntry, Head, entries,
};
use paxfs_format::fork::BodyPlace;
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::header::{BlockKind, Header, MAGIC, Seed};
use paxfs_format::inode::{FileType, ForkFormat, INODE_SIZE, Inode, Which};
use paxfs_format::superblock::Superblock;
use paxfs_format::units::Cookie;
use paxfs_format::volume::Volume;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use zerocopy::FromBytes;

/// What stands for bytes that need no meaning.
const FILLER: u8 = b'x';

/// Takes the secrets out of blocks.
pub struct Obfuscator<'v, B> {
    volume: &'v Volume<B>,
    selected: &'v Selected,
    names: Names,
    /// Cookies that belong into the blocks of the attribute fork looked at last.
    ranges: (u64, HashMap<u64, RangeInclusive<u64>>),
    /// Blocks left out because they do not say what they are.
    pub withheld: u64,
}

impl<'v, B: Blocks> Obfuscator<'v, B> {
    /// Chooses the names of all directories. `volume` must be seen through its journal.
    pub fn new(volume: &'v Volume<B>, selected: &'v Selected) -> Self {
        let mut names = Names::default();
        for &directory in &selected.directories {
            names.choose(volume, directory);
        }
        Obfuscator { volume, selected, names, ranges: (0, HashMap::new()), withheld: 0 }
    }

    /// Takes the secrets out of a block; false when it is to be left out.
    pub fn look(&mut self, number: u64, block: &mut [u8; BLOCK_SIZE]) -> bool {
        let geometry = self.volume.geometry;
        let Some(place) = geometry.locate(number) else { return false };
        if u64::from(place.block) < geometry.fixed_blocks(place.group) {
            if place.block == 0 {
                self.superblock(block);
            }
            return true;
        }
        let header = Header::of(block).copied().filter(|header| header.magic == MAGIC);
        let is_inodes = block.chunks_exact(INODE_SIZE).any(|slot| {
            Header::of(slot).is_some_and(|header| header.magic == MAGIC && header.kind == BlockKind::INODE)
        });
        if is_inodes {
            block.chunks_exact_mut(INODE_SIZE).for_each(|slot| self.inode(slot));
            return true;
        }
        let Some(header) = header else {
            let has_bytes = block.iter().any(|&byte| byte != 0);
            self.withheld += u64::from(has_bytes);
            return false;
        };
        if self.volume.seed.verify(block).is_err() {
            blank(block, size_of::<Header>());
            return true;
        }
        match header.kind {
            BlockKind::DIRECTORY | BlockKind::ATTRIBUTES | BlockKind::VALUE => {
                self.body(number, &header, block)
            }
            _ => {}
        }
        true
    }

    fn superblock(&self, block: &mut [u8; BLOCK_SIZE]) {
        let sound = self.volume.seed.verify(block).is_ok();
        let label = Superblock::LAYOUT.field("label");
        let label = label.and_then(|field| block.get_mut(field.offset..)?.get_mut(..field.kind.size()));
        label.into_iter().flatten().filter(|byte| **byte != 0).for_each(|byte| *byte = FILLER);
        if sound {
            self.volume.seed.seal(block);
        }
    }

    fn inode(&mut self, slot: &mut [u8]) {
        let seed: Seed = self.volume.seed;
        let sound = seed.verify(slot).is_ok_and(|header| header.kind == BlockKind::INODE);
        let Ok(inode) = Inode::mut_from_bytes(slot) else { return };
        let old = *inode;
        let number = old.header.place.get();
        let data = usize::from(old.data.inline_bytes.get());
        if !sound || old.is_free() || old.inline(Which::Attributes).is_none() {
            inode.payload.0.fill(0);
        } else if let Some((data, rest)) = inode.payload.0.split_at_mut_checked(data) {
            match old.file_type() {
                Some(FileType::Directory) => self.directory(number, data),
                Some(FileType::Symlink) if old.data.format == ForkFormat::INLINE => target(data),
                _ => {}
            }
            let attributes = usize::from(old.attributes.inline_bytes.get());
            if let Some(attributes) = rest.get_mut(..attributes) {
                self.attributes(attributes, 0..=u64::MAX);
            }
        }
        if sound {
            seed.seal(slot);
        }
    }

    fn body(&mut self, number: u64, header: &Header, block: &mut [u8; BLOCK_SIZE]) {
        let owner = header.owner.get();
        let used = usize::try_from(header.count.get()).unwrap_or(BODY_SIZE).min(BODY_SIZE);
        let range =
            if header.kind == BlockKind::ATTRIBUTES { self.range_of(owner, number) } else { 0..=u64::MAX };
        let Ok(body) = BodyBlock::mut_from_bytes(block) else { return };
        let Some((bytes, rest)) = body.body.0.split_at_mut_checked(used) else { return };
        rest.fill(0);
        match header.kind {
            BlockKind::DIRECTORY => self.directory(owner, bytes),
            BlockKind::ATTRIBUTES => self.attributes(bytes, range),
            _ if self.selected.plain_values.contains(&number) => {}
            _ => target(bytes),
        }
        self.volume.seed.seal(block);
    }

    /// Cookies that belong into a block of attributes.
    fn range_of(&mut self, owner: u64, number: u64) -> RangeInclusive<u64> {
        let all = 0..=u64::MAX;
        if self.ranges.0 != owner {
            let Ok(inode) = self.volume.inode(owner) else { return all };
            let bodies = self.volume.bodies(inode, Which::Attributes, 0).flatten();
            let ranges = bodies.filter_map(|body| match body.place {
                BodyPlace::Block { block, .. } => Some((block, body.low..=body.high)),
                BodyPlace::Inline => None,
            });
            self.ranges = (owner, ranges.collect());
        }
        self.ranges.1.get(&number).cloned().unwrap_or(all)
    }

    /// Renames the entries of a directory that lie in `bytes`.
    fn directory(&self, directory: u64, bytes: &mut [u8]) {
        let hash = &self.volume.hash;
        let mut taken = HashSet::new();
        rewrite::<DirectoryEntry>(bytes, |head, name, _| {
            if !head.is_live() {
                name.fill(FILLER);
                head.cookie = 0.into();
                return;
            }
            let old = hash.directory(name);
            // A cookie that is not that of its name stays as wrong as it is.
            let mut cookie = Some(&mut head.cookie).filter(|cookie| cookie.get() & !DISAMBIGUATOR == old);
            match self.names.of(directory, old).filter(|new| new.len() == name.len()) {
                Some(new) => {
                    name.copy_from_slice(new);
                    if let Some(cookie) = &mut cookie {
                        **cookie = hash.directory(name).into();
                    }
                }
                None if self.names.keeps(directory, old) => {}
                // A block that its directory's index does not lead to.
                None => rename(name, 0, &(0..=u64::MAX), &mut taken, |name| hash.directory(name), cookie),
            }
        });
    }

    /// Renames the attributes that lie in `bytes`, and parent pointers as the entries they belong to.
    fn attributes(&self, bytes: &mut [u8], range: RangeInclusive<u64>) {
        let hash = &self.volume.hash;
        let live = entries::<AttributeEntry>(bytes).flatten().filter(|entry| entry.head.is_live());
        let mut taken: HashSet<u64> = live.map(|entry| entry.head.cookie.get() & !DISAMBIGUATOR).collect();
        rewrite::<AttributeEntry>(bytes, |head, name, value| match head.kind {
            AttributeKind::PARENT => {
                let parent = <[u8; 8]>::try_from(&*value).map(u64::from_le_bytes).unwrap_or(0);
                let of = |name: &[u8]| hash.attribute(AttributeKind::PARENT, Some(parent), name);
                let old = of(name);
                let in_directory = hash.directory(name);
                let mut cookie = Some(&mut head.cookie).filter(|cookie| cookie.get() & !DISAMBIGUATOR == old);
                match self.names.of(parent, in_directory).filter(|new| new.len() == name.len()) {
                    Some(new) => {
                        name.copy_from_slice(new);
                        if let Some(cookie) = &mut cookie {
                            **cookie = of(name).into();
                        }
                    }
                    None if self.names.keeps(parent, in_directory) => {}
                    // Its entry is not there.
                    None => rename(name, 0, &range, &mut taken, of, cookie),
                }
            }
            AttributeKind::INLINE | AttributeKind::BLOCKS => {
                if name.starts_with(b"system.") {
                    return;
                }
                if head.kind == AttributeKind::INLINE {
                    value.fill(FILLER);
                }
                // What the kernel itself gives a meaning is known to everyone.
                let secret = if name.starts_with(b"security.") { name.len() } else { prefix(name) };
                let of = |name: &[u8]| hash.attribute(AttributeKind::INLINE, None, name);
                let old = of(name);
                let cookie = Some(&mut head.cookie).filter(|cookie| cookie.get() & !DISAMBIGUATOR == old);
                rename(name, secret, &range, &mut taken, of, cookie);
            }
            _ => {
                name.fill(FILLER);
                value.fill(FILLER);
                head.cookie = 0.into();
            }
        });
    }
}

/// Where what is behind `user.` or `trusted.` begins.
fn prefix(name: &[u8]) -> usize {
    let known = [b"user.".as_slice(), b"trusted."];
    known.into_iter().find(|prefix| name.starts_with(prefix)).map_or(0, <[u8]>::len)
}

/// Draws another name, from byte `from` on, whose cookie (by `cookie`, stored to `to`) fits, if there is one.
fn rename(
    name: &mut [u8],
    from: usize,
    range: &RangeInclusive<u64>,
    taken: &mut HashSet<u64>,
    cookie: impl Fn(&[u8]) -> u64,
    to: Option<&mut Cookie>,
) {
    /// Draws before the old name stays; a fork's index would need a thousand blocks to make that likely.
    const DRAWS: u64 = 20_000;
    let mut new = name.to_vec();
    let length = new.len().saturating_sub(from);
    if length == 0 {
        return;
    }
    let salt = range.start().wrapping_add(u64::try_from(taken.len()).unwrap_or(0));
    for draw in 0..DRAWS {
        if let Some(secret) = new.get_mut(from..) {
            names::draw(salt, draw, secret);
        }
        let fits = cookie(&new);
        if range.contains(&fits) && taken.insert(fits) {
            name.copy_from_slice(&new);
            if let Some(to) = to {
                *to = fits.into();
            }
            return;
        }
    }
}

/// A symlink's target or a value: only its slashes stay.
fn target(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'/').for_each(|byte| *byte = FILLER);
}

/// Blanks all bytes from `from` on.
fn blank(bytes: &mut [u8], from: usize) {
    bytes.get_mut(from..).unwrap_or_default().fill(0);
}

/// Changes the entries packed in `bytes`: head, name, value. What follows an entry that does not fit is blanked.
fn rewrite<H: Head + OnDisk>(bytes: &mut [u8], mut change: impl FnMut(&mut H, &mut [u8], &mut [u8])) {
    let mut places = Vec::new();
    let mut end = 0;
    for entry in entries::<H>(bytes).flatten() {
        places.push((entry.offset, entry.name.len(), entry.value.len()));
        end = entry.offset + entry.size();
    }
    for (offset, name, value) in places {
        let Some(entry) = bytes.get_mut(offset..) else { continue };
        let Ok((head, rest)) = H::mut_from_prefix(entry) else { continue };
        let Some((name, rest)) = rest.split_at_mut_checked(name) else { continue };
        let Some(value) = rest.get_mut(..value) else { continue };
        change(head, name, value);
    }
    blank(bytes, end);
}

impl<B> std::fmt::Debug for Obfuscator<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Obfuscator").field("withheld", &self.withheld).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxfs_format::entry::push_entry;
    use paxfs_format::units::Reserved;
    use zerocopy::IntoBytes;

    #[test]
    fn entries_are_changed_in_place_and_what_cannot_be_read_is_blanked() {
        let head = |length| AttributeEntry {
            cookie: 7.into(),
            value_length: 3.into(),
            kind: AttributeKind::INLINE,
            name_length: length,
            reserved: Reserved::ZERO,
        };
        let mut bytes = Vec::new();
        push_entry(&mut bytes, &head(6), b"user.a", b"abc");
        push_entry(&mut bytes, &head(8), b"user.bcd", b"def");
        let length = bytes.len();
        bytes.extend_from_slice(head(200).as_bytes());
        bytes.extend_from_slice(b"secret");
        let mut names = Vec::new();
        rewrite::<AttributeEntry>(&mut bytes, |head, name, value| {
            names.push(name.to_vec());
            value.fill(b'x');
            head.cookie = 9.into();
        });
        assert_eq!(names, [b"user.a".to_vec(), b"user.bcd".to_vec()]);
        assert!(bytes[length..].iter().all(|&byte| byte == 0));
        let found: Vec<_> = entries::<AttributeEntry>(&bytes[..length]).map(Result::unwrap).collect();
        assert!(found.iter().all(|entry| entry.value == b"xxx" && entry.head.cookie.get() == 9));
    }

    #[test]
    fn prefixes_stay() {
        assert_eq!(prefix(b"user.foo"), 5);
        assert_eq!(prefix(b"trusted.foo"), 8);
        assert_eq!(prefix(b"other"), 0);
    }
}
