//! What has a fixed place: superblocks, headers of groups, and the copies of both.

use super::action::Action;
use super::space::{empty_header, put_header};
use crate::groups;
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::OnDisk;
use paxfs_format::device::MediumError;
use paxfs_format::field::diff::diff;
use paxfs_format::group::{GroupHeader, GroupTree};
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::image::Image;
use paxfs_format::superblock::{DeviceEntry, DeviceRole, State, Superblock};
use paxfs_format::time::Timestamp;
use paxfs_format::units::{Reserved, Text};
use paxfs_format::volume::Volume;
use zerocopy::{FromZeros, IntoBytes};

/// Differences that an action shows.
const SHOWN: usize = 8;

/// Fields that differ, in words: `links 1 -> 2, size 0 -> 4096`.
pub(super) fn changes(mut all: Vec<paxfs_format::field::diff::Difference>, hidden: &[&str]) -> String {
    all.retain(|one| {
        !hidden.iter().any(|hidden| one.path == *hidden || one.path.starts_with(&format!("{hidden}[")))
    });
    let more = all.len().saturating_sub(SHOWN);
    let mut words: Vec<String> =
        all.iter().take(SHOWN).map(|one| format!("{} {} -> {}", one.path, one.left, one.right)).collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

/// Fields of a superblock as they can be.
fn sanitized(superblock: &Superblock, newest: u64) -> Superblock {
    let mut fine = *superblock;
    fine.header = Header::new(BlockKind::SUPERBLOCK, 0, 0, newest.max(1));
    fine.state = State::new(State::CLEAN);
    let label = fine.label.as_bytes_trimmed();
    let valid = label.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    fine.label = Text::new(valid).unwrap_or_else(Text::new_zeroed);
    for time in [&mut fine.made, &mut fine.written] {
        if !time.is_valid() {
            *time = Timestamp { nanoseconds: 0.into(), ..*time };
        }
    }
    (fine.device_count, fine.device) = (1.into(), 0.into());
    for (index, entry) in fine.devices.iter_mut().enumerate() {
        *entry = match index {
            0 => DeviceEntry {
                blocks: superblock.blocks,
                role: DeviceRole::DATA,
                reserved: Reserved::ZERO,
                ..*entry
            },
            _ => DeviceEntry::new_zeroed(),
        };
    }
    (fine.reserved, fine.reserved_2) = (Reserved::ZERO, Reserved::ZERO);
    fine
}

/// Puts the superblock and its copies right, all from the one that is believed.
pub(super) fn superblocks(
    volume: &mut Volume<Image<'_>>,
    newest: u64,
    actions: &mut Vec<Action>,
) -> Result<(), MediumError> {
    let fine = sanitized(&volume.superblock, newest);
    let groups: Vec<u32> = volume.geometry.group_numbers().collect();
    for group in groups {
        let place = volume.geometry.superblock(group);
        let mut one = fine;
        one.header.place = place.into();
        volume.seed.seal(one.as_mut_bytes());
        let stored = volume.blocks.block(place)?;
        if stored.as_slice() == one.as_bytes() && !volume.blocks.failed(place) {
            continue;
        }
        // What every clean end writes is no news.
        let own =
            ["header.crc", "header.generation", "state", "written.seconds", "written.nanoseconds", "checked"];
        let differences = diff(&Superblock::LAYOUT, stored, one.as_bytes());
        let words = changes(differences, &own);
        if !words.is_empty() {
            let at = if group == 0 { "sb".to_owned() } else { format!("sb[{group}]") };
            actions.push(Action::new(at, format!("written anew: {words}")));
        }
        volume.blocks.put(place, Box::new(zerocopy::transmute!(one)));
    }
    volume.superblock = fine;
    Ok(())
}

/// Puts the headers of groups right, but for roots and counters, which follow from the trees.
pub(super) fn groups(
    volume: &mut Volume<Image<'_>>,
    newest: u64,
    actions: &mut Vec<Action>,
) -> Result<(), MediumError> {
    let mut findings = Vec::new();
    let (groups, _) = groups::open(volume, newest, &mut findings);
    for group in groups {
        let number = group.number;
        let mut header = empty_header(volume, number, newest);
        let stored = volume.group(number).or_else(|_| volume.group_copy(number)).ok().copied();
        match (group.header, stored) {
            (Some(view), Some(stored)) => {
                header.header.generation = stored.header.generation;
                for tree in GroupTree::ALL {
                    *header.root_mut(tree) = *view.root(tree);
                }
                header.free_blocks = view.free_blocks.into();
                header.cluster_free = view.cluster_free.into();
                header.inodes_used = view.inodes_used.into();
                header.orphans = view.orphans.into();
            }
            _ => {
                let mut action = Action::new(
                    format!("group[{number}]"),
                    "made anew; its trees are made of what is found in the group",
                );
                action.lost.push("its bad ranges".to_owned());
                actions.push(action);
            }
        }
        if !(1..=newest).contains(&header.header.generation.get()) {
            header.header.generation = newest.into();
        }
        let before = [volume.geometry.group_header(number), volume.geometry.group_copy(number)];
        let before: Vec<[u8; 4096]> =
            before.iter().map(|place| volume.blocks.block(*place).copied()).collect::<Result<_, _>>()?;
        let generation = header.header.generation.get();
        put_header(volume, number, header, generation)?;
        for (name, (place, before)) in ["group", "group_copy"].iter().zip(
            [volume.geometry.group_header(number), volume.geometry.group_copy(number)].iter().zip(&before),
        ) {
            let after = volume.blocks.block(*place)?;
            let words = changes(diff(&GroupHeader::LAYOUT, before, after), &["header.crc"]);
            if !words.is_empty() && group.header.is_some() {
                actions.push(Action::new(format!("{name}[{number}]"), format!("written anew: {words}")));
            }
        }
    }
    Ok(())
}
