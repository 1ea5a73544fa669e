//! What paxfs has to do with media: its tools on devdax, and what makes a store last where.
#![allow(unsafe_code)]

use crate::cases::runs;
use crate::directory::Directory;
use crate::report::row;
use crate::target::{Result, Target};
use crate::tools::show;
use crate::volume::Volume;
use paxfs_format::device::{Access, Device};
use paxfs_runtime::medium::Granularity;
use paxfs_runtime::views::Sharing;
use rustix::mm::{Advice, madvise};
use std::path::Path;

/// Fills a volume on a device, checks it, damages it and checks it again, to see that tools work there.
pub fn try_tools(device: &Path) -> Result<()> {
    let device = device.display();
    show(&format!("mkfs.paxfs -q -d /modules {device}"), 0)?;
    show(&format!("fsck.paxfs -nf {device}"), 0)?;
    show(&format!("dbg.paxfs {device} fuzz free[0].leaf[0].rec[0].length add"), 0)?;
    show(&format!("fsck.paxfs -nf {device}"), 4)
}

/// An empty volume on a device.
pub fn make_volume(device: &Path) -> Result<Volume> {
    show(&format!("mkfs.paxfs -f {}", device.display()), 0)?;
    Volume::open(device)
}

/// What engine and tools say of a volume after the cases; then a media error in the middle
/// of it, as from hardware.
pub fn look_at_volume(volume: Volume) -> Result<()> {
    let path = volume.path().to_owned();
    let device = Device::open(&path, Access::ReadOnly)?;
    let (unit, cost) = match device.unit() {
        4096 => ("devdax in pages", "1 block"),
        _ => ("devdax in 2 MiB", "512 blocks"),
    };
    let below = runs(device.block(volume.first_block("unwritten")?)?);
    drop(device);
    row(&format!("below unwritten blocks: {unit}"), "4 KiB of 0xa5", &below, "");
    row(&format!("a store lasts by: {unit}"), BY_LINE, by(volume.granularity()?), "");
    row(&format!("a mapped file is reached by: {unit}"), "address", &volume.maps(Sharing::Shared)?, "");
    let refused = "not supported: private views on devdax";
    row(&format!("a private view: {unit}"), refused, &volume.maps(Sharing::Private)?, "");
    volume.close()?;
    show(&format!("fsck.paxfs -nf {}", path.display()), 0)?;
    show(&format!("dbg.paxfs {} extents /clone-2", path.display()), 0)?;
    row(&format!("a media error costs: {unit}"), cost, &fail(&path)?, "");
    Ok(())
}

/// Has the kernel fail a page in the middle of a device, and reads it: what that costs. The page stays bad.
fn fail(path: &Path) -> Result<String> {
    let mut device = Device::open(path, Access::Exclusive)?;
    let block = device.len() / 4096 / 2;
    let page = std::ptr::from_mut(device.bytes_mut(block * 4096, 4096)?);
    // SAFETY: whole pages of a mapping that lives; what cannot be had of them any more, the device's handler of SIGBUS
    // replaces.
    unsafe { madvise(page.cast(), 4096, Advice::LinuxHwPoison)? };
    let read = runs(device.block(block)?);
    Ok(match device.fault_count() {
        0 => format!("nothing, and it reads as {read}"),
        1 => "1 block".to_owned(),
        blocks => format!("{blocks} blocks"),
    })
}

/// Runs the engine on a volume in a file of an XFS, with direct access and without.
pub fn engine_on_xfs(xfs: &mut Directory) -> Result<()> {
    let image = xfs.path("image");
    show(&format!("mkfs.paxfs -q {} 64M", image.display()), 0)?;
    for (options, case, promised) in [
        (c"dax=always", "a store lasts by: file on XFS, dax=always", BY_LINE),
        (c"dax=never", "a store lasts by: file on XFS, dax=never", BY_PAGE),
    ] {
        xfs.mount_with(options)?;
        let mut volume = Volume::open(&image)?;
        volume.write("file", 0, &[1; 8192])?;
        volume.clone("file", &format!("clone, {promised}"))?;
        row(case, promised, by(volume.granularity()?), "");
        volume.close()?;
        show(&format!("fsck.paxfs -nf {}", image.display()), 0)?;
    }
    Ok(())
}

const BY_LINE: &str = "cache line write-back";
const BY_PAGE: &str = "msync";

/// What makes a store last.
fn by(granularity: Granularity) -> &'static str {
    match granularity {
        Granularity::CacheLine => BY_LINE,
        Granularity::Page => BY_PAGE,
    }
}
