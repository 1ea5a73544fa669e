//! Under the front ends of util-linux, which find `mkfs.TYPE` and `fsck.TYPE` by the search path.

use super::Place;
use anyhow::Result;
use std::fs;

/// `mkfs -t paxfs` and `fsck -t paxfs`.
pub fn accept(place: &Place) -> Result<()> {
    println!("\nutil-linux");
    let image = place.path("utilities.paxfs");
    let path = place.toolbox.search_path();
    fs::File::create(&image)?.set_len(16 << 20)?;
    if let Some(mut mkfs) = place.system("mkfs") {
        place.run(mkfs.args(["-t", "paxfs", "-L", "front end"]).arg(&image).env("PATH", &path), 0)?;
    } else {
        place.run(place.toolbox.command("mkfs.paxfs").arg(&image), 0)?;
    }
    for (flags, status) in [(&["-p"][..], 0), (&["-n"], 0), (&["-f", "-n"], 0)] {
        if let Some(mut fsck) = place.system("fsck") {
            place.run(fsck.args(["-t", "paxfs"]).arg(&image).args(flags).env("PATH", &path), status)?;
        }
    }
    // A damaged volume: what fsck.paxfs exits with is what fsck exits with.
    let mut damage = place.toolbox.command("dbg.paxfs");
    place.run(damage.arg(&image).args(["fuzz", "group[0].free_blocks", "add"]), 0)?;
    if let Some(mut fsck) = place.system("fsck") {
        place.run(fsck.args(["-t", "paxfs"]).arg(&image).args(["-f", "-n"]).env("PATH", &path), 4)?;
    }
    Ok(())
}
