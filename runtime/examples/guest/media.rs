//! What paxfs has to do with media: its tools on devdax, and what makes a store last where.

use crate::cases::runs;
use crate::directory::Directory;
use crate::report::row;
use crate::target::{Result, Target};
use crate::tools::show;
use crate::volume::Volume;
use paxfs_format::device::{Access, Device};
use paxfs_runtime::medium::Granularity;
use std::path::Path;

/// Makes volumes on a device: one that is filled, checked and damaged to see that tools work there; then an empty one.
pub fn make_volume(device: &Path) -> Result<()> {
    let name = device.display();
    show(&format!("mkfs.paxfs -q -d /modules {name}"), 0)?;
    show(&format!("fsck.paxfs -nf {name}"), 0)?;
    show(&format!("dbg.paxfs {name} fuzz free[0].leaf[0].rec[0].length add"), 0)?;
    show(&format!("fsck.paxfs -nf {name}"), 4)?;
    show(&format!("mkfs.paxfs -f {name}"), 0)
}

/// What tools and engine say of the volume after the cases.
pub fn look_at_volume(device: &Path) -> Result<()> {
    show(&format!("fsck.paxfs -nf {}", device.display()), 0)?;
    show(&format!("dbg.paxfs {} extents /clone-2", device.display()), 0)?;
    let volume = Volume::open(device)?;
    let block = volume.first_block("unwritten")?;
    let below = runs(Device::open(device, Access::ReadOnly)?.block(block)?);
    row("on the medium, below unwritten blocks", "4 KiB of 0xa5", &below, "");
    row("a store lasts by: devdax", BY_LINE, by(volume.granularity()?), "");
    volume.close()
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
