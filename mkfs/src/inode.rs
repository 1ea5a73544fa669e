//! Inodes as bytes: what of the forks fits the payload, and what goes elsewhere. Pure.

use paxfs_format::declare::OnDisk;
use paxfs_format::group::TreeRoot;
use paxfs_format::header::{BlockKind, Header, Seed};
use paxfs_format::inode::{Fork, ForkFormat, Inode, PAYLOAD_SIZE};
use paxfs_format::time::Timestamp;
use paxfs_format::units::Opaque;
use zerocopy::IntoBytes;

/// What is known of a file besides its contents and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Type and permissions.
    pub mode: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Flags of the inode.
    pub flags: u32,
    /// Uses of the slot.
    pub generation: u32,
    /// Bytes of a file or of a symlink's target; for directories mkfs counts.
    pub size: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of contents.
    pub modified: Timestamp,
    /// Last change of contents or attributes.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl Meta {
    /// A file of that mode, of root, with all times `now`.
    pub fn new(mode: u32, now: Timestamp) -> Self {
        Meta {
            mode,
            uid: 0,
            gid: 0,
            flags: 0,
            generation: 1,
            size: 0,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            device: (0, 0),
        }
    }

    /// With no time later than `latest`.
    #[must_use]
    pub fn clamped(mut self, latest: Timestamp) -> Self {
        let key = |time: &Timestamp| (time.seconds.get(), time.nanoseconds.get());
        for time in [&mut self.accessed, &mut self.modified, &mut self.changed, &mut self.born] {
            if key(time) > key(&latest) {
                *time = latest;
            }
        }
        self
    }
}

/// A fork as the inode holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkImage {
    /// How it is stored.
    pub format: ForkFormat,
    /// Extents or entries.
    pub count: u64,
    /// Its tree or block.
    pub root: TreeRoot,
    /// Its bytes in the payload.
    pub inline: Vec<u8>,
}

impl ForkImage {
    /// Nothing.
    pub fn empty() -> Self {
        ForkImage { format: ForkFormat::EMPTY, count: 0, root: TreeRoot::zeroed(), inline: Vec::new() }
    }

    /// All of it in the payload; nothing when there are no bytes.
    pub fn inline(bytes: Vec<u8>, count: u64) -> Self {
        let format = if bytes.is_empty() { ForkFormat::EMPTY } else { ForkFormat::INLINE };
        ForkImage { format, count, inline: bytes, ..Self::empty() }
    }

    /// In one block.
    pub fn block(block: u64, count: u64) -> Self {
        let root = TreeRoot { block: block.into(), records: 1.into(), ..TreeRoot::zeroed() };
        ForkImage { format: ForkFormat::BLOCK, count, root, inline: Vec::new() }
    }

    /// In a tree.
    pub fn tree(root: TreeRoot, count: u64) -> Self {
        ForkImage { format: ForkFormat::TREE, count, root, inline: Vec::new() }
    }

    fn fork(&self) -> Fork {
        Fork {
            format: self.format,
            inline_bytes: u16::try_from(self.inline.len()).unwrap_or(u16::MAX).into(),
            count: self.count.into(),
            tree: self.root,
            ..Fork::zeroed()
        }
    }
}

/// Which forks of these sizes stay in the payload: (data, attributes). When only one can, it is the smaller.
pub fn stay(data: usize, attributes: usize) -> (bool, bool) {
    if data + attributes <= PAYLOAD_SIZE {
        (true, true)
    } else if data.min(attributes) > PAYLOAD_SIZE {
        (false, false)
    } else {
        (data <= attributes, attributes < data)
    }
}

/// An inode ready to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its number.
    pub number: u64,
    /// Its group.
    pub group: u32,
}

/// The bytes of an inode, sealed.
pub fn encode(
    seed: Seed,
    place: Place,
    meta: &Meta,
    links: u32,
    blocks: u64,
    data: &ForkImage,
    attributes: &ForkImage,
) -> Inode {
    let mut payload = [0; PAYLOAD_SIZE];
    let inline = data.inline.iter().chain(&attributes.inline);
    payload.iter_mut().zip(inline).for_each(|(to, from)| *to = *from);
    let mut inode = Inode {
        header: Header::new(BlockKind::INODE, place.number, place.group.into(), 1),
        generation: meta.generation.into(),
        mode: meta.mode.into(),
        uid: meta.uid.into(),
        gid: meta.gid.into(),
        links: links.into(),
        flags: meta.flags.into(),
        size: meta.size.into(),
        blocks: blocks.into(),
        changes: 1.into(),
        accessed: meta.accessed,
        modified: meta.modified,
        changed: meta.changed,
        born: meta.born,
        major: meta.device.0.into(),
        minor: meta.device.1.into(),
        data: data.fork(),
        attributes: attributes.fork(),
        payload: Opaque(payload),
        ..Inode::zeroed()
    };
    seed.seal(inode.as_mut_bytes());
    inode
}

/// A slot that was in use before and is free again.
pub fn freed(seed: Seed, place: Place, generation: u32) -> Inode {
    let mut inode = Inode {
        header: Header::new(BlockKind::INODE, place.number, place.group.into(), 1),
        generation: generation.into(),
        ..Inode::zeroed()
    };
    seed.seal(inode.as_mut_bytes());
    inode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_fork_stays() {
        assert_eq!(stay(0, 0), (true, true));
        assert_eq!(stay(240, 40), (true, true));
        assert_eq!(stay(264, 40), (false, true));
        assert_eq!(stay(24, 300), (true, false));
        assert_eq!(stay(140, 141), (true, false));
        assert_eq!(stay(281, 281), (false, false));
    }

    #[test]
    fn times_are_clamped() {
        let late = Meta::new(0o100_644, Timestamp::new(10, 5));
        assert_eq!(late.clamped(Timestamp::new(10, 4)).born, Timestamp::new(10, 4));
        assert_eq!(late.clamped(Timestamp::new(11, 0)), late);
    }
}
