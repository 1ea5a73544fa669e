//! Whether a slot holds the inode that belongs there, when its header does not say so.

use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, HeaderFault, MAGIC};
use paxfs_format::image::Image;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::volume::Volume;
use zerocopy::IntoBytes;

/// Whether a slot whose header does not fit still holds the inode that belongs there.
pub(super) fn is_believable(volume: &Volume<Image<'_>>, number: u64, inode: &Inode) -> bool {
    let header = &inode.header;
    let group = volume.geometry.locate(number / INODES_PER_BLOCK).map_or(0, |place| u64::from(place.group));
    let alike = [
        header.magic == MAGIC,
        header.kind == BlockKind::INODE,
        header.place.get() == number,
        header.owner.get() == group,
    ];
    if inode.is_free() {
        return false;
    }
    if alike.into_iter().filter(|alike| *alike).count() < 3 {
        return is_known(volume, number, inode);
    }
    // Whole, but it says that it belongs elsewhere: an entry that names this number decides.
    let moved = header.place.get() != number
        && matches!(volume.seed.verify(inode.as_bytes()), Ok(_) | Err(HeaderFault::Magic(_)));
    !moved || is_named(volume, number, inode)
}

/// Whether an inode whose header is lost knows a name by which it is known as the very file that it says it is.
fn is_known(volume: &Volume<Image<'_>>, number: u64, inode: &Inode) -> bool {
    let mut copy = *inode;
    copy.header.place = number.into();
    volume.parents(&copy).take(8).any(|parent| {
        let directory = volume.inode(parent.directory).ok();
        let entry = directory.and_then(|directory| volume.lookup(directory, parent.name).ok().flatten());
        entry.is_some_and(|entry| {
            let head = entry.head;
            head.inode.get() == number
                && head.generation == copy.generation
                && FileType::from_number(head.kind.0) == copy.file_type()
        })
    })
}

/// Whether a directory entry that an inode's parent pointer leads to names `number`.
pub(super) fn is_named(volume: &Volume<Image<'_>>, number: u64, inode: &Inode) -> bool {
    let mut copy = *inode;
    copy.header.place = number.into();
    let root = volume.superblock.root.get();
    let mut nameless = true;
    for parent in volume.parents(&copy).take(8) {
        nameless = false;
        let directory = volume.inode(parent.directory).ok();
        let entry = directory.and_then(|directory| volume.lookup(directory, parent.name).ok().flatten());
        if entry.is_some_and(|entry| entry.head.inode.get() == number) {
            return true;
        }
    }
    nameless && (number == root || inode.links.get() == 0)
}
