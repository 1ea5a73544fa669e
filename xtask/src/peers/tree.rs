//! A directory of many small files, the same each time.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Files in each directory.
const FILES_PER_DIRECTORY: u64 = 500;

/// Makes `files` files of 100 to 6099 bytes below `root`, in directories of 500 each.
pub fn make(root: &Path, files: u64) -> Result<()> {
    let contents: Vec<u8> = (0..32_768_u64).flat_map(|i| mix(i).to_le_bytes()).collect();
    let mut directory = root.to_path_buf();
    for file in 0..files {
        if file % FILES_PER_DIRECTORY == 0 {
            directory = root.join(format!("directory-{:05}", file / FILES_PER_DIRECTORY));
            fs::create_dir_all(&directory)?;
        }
        let random = usize::try_from(mix(file) % (1 << 40)).unwrap_or(0);
        let (length, start) = (100 + random % 6000, random % 250_000);
        let bytes =
            contents.get(start..start + length).context("a file longer than what there is to write")?;
        fs::write(directory.join(format!("file-{file:07}.dat")), bytes)?;
    }
    Ok(())
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
