//! The system's own files.

use super::Place;
use crate::verify;
use anyhow::Result;
use std::path::Path;

/// Blocks whose owners are held against the files.
const BLOCKS: u64 = 1000;

/// Into a volume and out again.
pub fn accept(place: &Place, source: &Path) -> Result<()> {
    println!("\nFiles of {}: {}", source.display(), super::count(source));
    let image = place.path("files.paxfs");
    let mut mkfs = place.toolbox.command("mkfs.paxfs");
    print!("{}", place.run(mkfs.args(["-s", "-d"]).arg(source).arg(&image).arg(image_size(source)), 0)?);
    print!("{}", place.run(place.toolbox.command("fsck.paxfs").arg("-nf").arg(&image), 0)?);
    verify::data(&place.toolbox, &image, source, BLOCKS, 1)?;
    place.read_independently(&image)?;
    place.compare(&image, source)?;
    std::fs::remove_file(&image)?;
    Ok(())
}

/// Sparse, so generous: what the files have, and half as much again.
fn image_size(source: &Path) -> String {
    let bytes = bytes_below(source);
    (bytes + bytes / 2).next_multiple_of(1 << 30).to_string()
}

fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => 4096 + bytes_below(&entry.path()),
        Ok(metadata) => 4096 + metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
