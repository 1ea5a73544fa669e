//! A copy inside a mount shares its blocks.

use super::{Outcome, Place};
use crate::mount::volume::succeed;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::time::Instant;

/// Bytes of the file that is copied.
const BYTES: u64 = 1 << 30;

/// Copies a file, and looks at what the volume says of it.
pub fn run(place: &Place) -> Result<Outcome> {
    let volume = place.volume("sharing", "1200M")?;
    volume.script("dd if=/dev/urandom of=original bs=1M count=1024 status=none; sync original")?;
    let started = Instant::now();
    volume.script("cp original copy")?;
    let cp = started.elapsed();
    // The same without a process around it.
    let (source, target) =
        (File::open(volume.point().join("original"))?, File::create(volume.point().join("again"))?);
    let started = Instant::now();
    let mut done = 0;
    while done < BYTES {
        let rest = usize::try_from(BYTES - done)?;
        let step = rustix::fs::copy_file_range(&source, None, &target, None, rest)?;
        ensure!(step > 0, "copy_file_range ended after {done} bytes");
        done += u64::try_from(step)?;
    }
    let call = started.elapsed();
    drop((source, target));
    volume.script("cmp original copy; cmp original again; echo changed | dd of=copy conv=notrunc status=none; ! cmp -s original copy")?;
    let image = volume.image().to_path_buf();
    let mut volume = volume;
    volume.unmount()?;
    volume.check()?;
    // Of the copy one block is its own by now.
    let shown = succeed(place.toolbox.command("dbg.paxfs").arg(&image).arg("sharing"))?;
    let last = shown.lines().next_back().context("dbg.paxfs sharing says nothing")?;
    let words = last.split(';').next().unwrap_or(last);
    ensure!(words.ends_with(&format!(", {BYTES} of them shared")), "sharing:\n{shown}");
    Ok(Outcome::Done(format!(
        "1 GiB: cp {:.1} ms, copy_file_range {:.2} ms; dbg.paxfs sharing: {}",
        cp.as_secs_f64() * 1e3,
        call.as_secs_f64() * 1e3,
        words
    )))
}
