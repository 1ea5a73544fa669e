//! A device and the volume on it, opened leniently.
//!
//! The volume is shown as it is on the device; with `-r` as it is once the journal's committed transactions are applied,
//! in memory. The device is opened to look only, until a command asks to write.

use crate::PROGRAM;
use crate::cli::View;
use crate::error::CommandError;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::{Access, Device};
use paxfs_format::geometry::{Geometry, MIN_GROUP_BLOCKS};
use paxfs_format::image::Image;
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::Superblock;
use paxfs_format::volume::{Volume, find, find_in_group};
use paxfs_format::words::transactions;
use std::path::Path;
use zerocopy::FromZeros;

/// An open device, and what is known of the volume on it.
#[derive(Debug)]
pub struct Session {
    device: Device,
    writable: bool,
    view: View,
    chosen: Chosen,
}

/// The superblock that is believed.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The superblock.
    pub superblock: Superblock,
    /// What it describes.
    pub geometry: Geometry,
    /// The block it was read from; `None` when none is intact, and block 0 is taken as far as it goes.
    pub block: Option<u64>,
}

impl Session {
    /// Opens a device to look at it. Says on standard error what is not as it should be, and goes on.
    pub fn open(path: &Path, view: &View) -> Result<Self, CommandError> {
        let device = Device::open(path, Access::ReadOnly)?;
        let chosen = choose(&device, view)?;
        let session = Session { device, writable: false, view: view.clone(), chosen };
        session.say_what_is_pending();
        Ok(session)
    }

    /// A session on a device that is open already, to be written to if it can be.
    pub fn on(device: Device) -> Result<Self, CommandError> {
        let view = View::default();
        let chosen = choose(&device, &view)?;
        Ok(Session { device, writable: true, view, chosen })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The superblock in use, and where it was found.
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Its geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.chosen.geometry
    }

    /// The volume to read.
    pub fn volume(&self) -> Volume<Image<'_>> {
        let mut image = Image::new(&self.device);
        if self.view.replayed
            && let Some(journal) = self.journal()
        {
            // A transaction for a block past the end of a device that was cut short: the rest still helps.
            let _ = image.apply(&journal.replay().live);
        }
        let Chosen { superblock, geometry, .. } = self.chosen;
        Volume::new(image, superblock, geometry)
    }

    /// The journal; `None` when the device ends before it.
    pub fn journal(&self) -> Option<JournalBytes<'_>> {
        let Chosen { superblock, geometry, .. } = &self.chosen;
        JournalBytes::read(&self.device, superblock, geometry).ok()
    }

    /// The device to write to: opened anew for that the first time, locked until the session ends.
    pub fn device_mut(&mut self) -> Result<&mut Device, CommandError> {
        if self.view.replayed {
            let message =
                "-r shows what is not on the device: writing goes to the device as it is, so leave out -r";
            return Err(CommandError::Usage(message.to_owned()));
        }
        if !self.writable {
            self.device = Device::open(self.device.path(), Access::Exclusive)?;
            self.writable = true;
        }
        Ok(&mut self.device)
    }

    /// To be called when a command has written: waits for the medium, and looks at the superblock again.
    pub fn written(&mut self) -> Result<(), CommandError> {
        self.device.sync()?;
        self.chosen = choose(&self.device, &self.view)?;
        Ok(())
    }

    fn say_what_is_pending(&self) {
        let Some(journal) = self.journal() else { return };
        let replay = journal.replay();
        if let Some(fault) = &replay.fault {
            eprintln!("{PROGRAM}: the journal cannot be replayed: {fault}");
        }
        if replay.live.is_empty() || self.view.replayed {
            return;
        }
        let numbers: Vec<u64> = replay.live.iter().map(|live| live.sequence).collect();
        eprintln!(
            "{PROGRAM}: to be replayed: {}; shown is the volume before (-r shows it after)",
            transactions(&numbers)
        );
    }
}

fn choose(device: &Device, view: &View) -> Result<Chosen, CommandError> {
    if let Some(group) = view.group {
        let found = find_in_group(device, group).ok_or_else(|| {
            CommandError::Failed(format!(
                "no intact superblock copy at the head of group {group}; leave out -b to take any that is intact"
            ))
        })?;
        return Ok(Chosen {
            superblock: found.superblock,
            geometry: found.geometry,
            block: Some(found.block),
        });
    }
    match find(device) {
        Ok(found) => {
            if let Some(fault) = &found.primary_fault {
                eprintln!("{PROGRAM}: block 0: {fault}; using the superblock copy in block {}", found.block);
            }
            Ok(Chosen { superblock: found.superblock, geometry: found.geometry, block: Some(found.block) })
        }
        Err(error) => {
            eprintln!("{PROGRAM}: {error}; taking block 0 as it is");
            Ok(guess(device))
        }
    }
}

/// What can be said of a device without an intact superblock: what block 0 says where that fits together, else what
/// mkfs would choose for a device of this size.
fn guess(device: &Device) -> Chosen {
    let first = device.block(0).ok();
    let superblock = first
        .and_then(|bytes| zerocopy::FromBytes::read_from_bytes(bytes.as_slice()).ok())
        .unwrap_or_else(Superblock::new_zeroed);
    let geometry = Geometry::of(&superblock)
        .or_else(|_| Geometry::choose(device.len(), None, false))
        .unwrap_or(Geometry {
            blocks: Blocks::blocks(device),
            group_blocks: Blocks::blocks(device).max(MIN_GROUP_BLOCKS),
            cluster_blocks: 16,
            journal_blocks: 0,
            csum: false,
        });
    Chosen { superblock, geometry, block: None }
}
