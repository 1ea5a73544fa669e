//! Checksums of data, made anew.

use super::action::Action;
use super::targets::Targets;
use crate::finding::AffectedFile;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::MediumError;
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_format::image::Image;
use paxfs_format::inode::InodeFlags;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::sums::{Sum, SumState};
use paxfs_format::volume::Volume;
use zerocopy::IntoBytes;

/// Gives blocks the checksums that they must have by who owns them.
pub(super) fn mend(
    volume: &mut Volume<Image<'_>>,
    targets: &Targets,
    actions: &mut Vec<Action>,
) -> Result<(), MediumError> {
    for (range, doubtful) in &targets.sums {
        for block in range.clone() {
            sum(volume, block, *doubtful, actions)?;
        }
    }
    Ok(())
}

fn sum(
    volume: &mut Volume<Image<'_>>,
    block: u64,
    doubtful: bool,
    actions: &mut Vec<Action>,
) -> Result<(), MediumError> {
    let Some(offset) = volume.geometry.sum_offset(block) else { return Ok(()) };
    let mut owner = None;
    for owned in owners(volume, block..block.saturating_add(1), Source::best(volume)).flatten() {
        if let Role::Data(data) = owned.role {
            owner = Some(data);
        }
    }
    let sealed = owner.as_ref().is_some_and(|data| {
        let inode = volume.inode(data.inode);
        !data.unwritten && inode.is_ok_and(|inode| inode.flags.get() & InodeFlags::NOCSUM == 0)
    });
    let mut entry = Sum { crc: 0.into(), state: SumState::NONE };
    if sealed {
        let crc = volume.seed.plain(volume.blocks.block(block)?);
        entry = Sum { crc: crc.into(), state: SumState::SEALED };
    }
    let bytes = volume.blocks.block_mut(offset / BLOCK_BYTES)?;
    let at = usize::try_from(offset % BLOCK_BYTES).unwrap_or(usize::MAX);
    let Some(stored) = bytes.get_mut(at..at.saturating_add(size_of::<Sum>())) else { return Ok(()) };
    if stored == entry.as_bytes() {
        return Ok(());
    }
    stored.copy_from_slice(entry.as_bytes());
    let what = if sealed { "made anew from the block's contents" } else { "cleared" };
    let mut action = Action::new(format!("sum[{block}]"), what);
    if let Some(data) = owner {
        let path = volume.paths_up_to(data.inode, 1).first().map(|path| path.to_string()).unwrap_or_default();
        let offset = data.offset;
        action.file = Some(AffectedFile { inode: data.inode, offset: Some(offset), path });
        if doubtful && sealed {
            action.lost.push("certainty about these 4096 bytes: they are what is there now".to_owned());
        }
    }
    actions.push(action);
    Ok(())
}
