//! What it costs to go through the kernel and FUSE, beside ext4 on a loop device: both images on the same medium.

use super::Place;
use crate::mount::volume::succeed;
use crate::toolbox;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of sequential work.
const BYTES: u64 = 512 << 20;
/// Files that are made and removed.
const FILES: u32 = 20_000;
/// Times that each is done; the best counts.
const ROUNDS: usize = 3;

/// One kind of work: its name, its script (`$F` is where it works), and how much it is, in which unit.
struct Work {
    name: &'static str,
    prepare: &'static str,
    run: &'static str,
    amount: f64,
    unit: &'static str,
}

const MIB: f64 = 512.0;
const THOUSANDS: f64 = FILES as f64 / 1000.0;

const WORK: [Work; 8] = [
    Work {
        name: "sequential write, 1 MiB at a time, and fsync",
        prepare: "rm -f data",
        run: "dd if=/dev/zero of=data bs=1M count=512 conv=fsync status=none",
        amount: MIB,
        unit: "MiB/s",
    },
    Work {
        name: "sequential write, 64 KiB at a time",
        prepare: "rm -f data",
        run: "dd if=/dev/zero of=data bs=64k count=8192 status=none",
        amount: MIB,
        unit: "MiB/s",
    },
    Work {
        name: "sequential write, 4 KiB at a time",
        prepare: "rm -f data",
        run: "dd if=/dev/zero of=data bs=4k count=131072 status=none",
        amount: MIB,
        unit: "MiB/s",
    },
    Work {
        name: "sequential read, not cached",
        prepare: "sync; echo 1 > /proc/sys/vm/drop_caches",
        run: "dd if=data of=/dev/null bs=1M status=none",
        amount: MIB,
        unit: "MiB/s",
    },
    Work {
        name: "sequential read, cached",
        prepare: "cat data > /dev/null",
        run: "dd if=data of=/dev/null bs=1M status=none",
        amount: MIB,
        unit: "MiB/s",
    },
    Work {
        name: "create 20000 empty files",
        prepare: "rm -rf many; mkdir many",
        run: "python3 -c 'import os\nfor i in range(20000): os.close(os.open(\"many/%d\" % i, os.O_CREAT|os.O_WRONLY))'",
        amount: THOUSANDS,
        unit: "k/s",
    },
    Work {
        name: "stat them, not cached",
        prepare: "sync; echo 2 > /proc/sys/vm/drop_caches",
        run: "python3 -c 'import os\nfor e in os.scandir(\"many\"): e.stat()'",
        amount: THOUSANDS,
        unit: "k/s",
    },
    Work {
        name: "unlink them",
        prepare: "test -e many/1 || { mkdir -p many; for i in $(seq 0 19999); do : > many/$i; done; }",
        run: "python3 -c 'import os\nfor i in range(20000): os.unlink(\"many/%d\" % i)'",
        amount: THOUSANDS,
        unit: "k/s",
    },
];

/// Measures and prints the table.
pub fn run(place: &Place) -> Result<()> {
    let volume = place.volume("figures", "2G")?;
    let ours = measure(volume.point())?;
    let served = processor_time(&volume.image().to_string_lossy());
    volume.end()?;
    let theirs = match Ext4::new(place) {
        Ok(ext4) => Some(measure(&ext4.point)?),
        Err(why) => {
            println!("ext4 is skipped: {why:#}");
            None
        }
    };
    println!(
        "\n| {BYTES} bytes, {FILES} files; best of {ROUNDS} | mount.paxfs | ext4 on a loop device |\n|---|---|---|"
    );
    for (index, work) in WORK.iter().enumerate() {
        let value = |values: &[f64]| {
            values.get(index).map_or_else(String::new, |value| format!("{value:.0} {}", work.unit))
        };
        let theirs = theirs.as_deref().map_or_else(|| "-".to_owned(), value);
        println!("| {} | {} | {theirs} |", work.name, value(&ours));
    }
    if let Some((user, system)) = served {
        println!("\nthe process that served it: {user:.1} s in the program, {system:.1} s in the kernel");
    }
    Ok(())
}

/// The best of each kind of work in a directory.
fn measure(directory: &Path) -> Result<Vec<f64>> {
    let mut best = vec![0.0_f64; WORK.len()];
    for _ in 0..ROUNDS {
        for (work, best) in WORK.iter().zip(&mut best) {
            shell(directory, work.prepare)?;
            let started = Instant::now();
            shell(directory, work.run).with_context(|| work.name)?;
            *best = best.max(work.amount / started.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

fn shell(directory: &Path, script: &str) -> Result<String> {
    succeed(Command::new("sh").args(["-euc", script]).current_dir(directory))
}

/// Seconds that the process that serves an image has used, in itself and in the kernel.
fn processor_time(image: &str) -> Option<(f64, f64)> {
    let pid = super::kills::server(image).ok()?;
    let line = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok().map(|ticks| ticks / 100.0);
    Some((next()?, next()?))
}

/// An ext4 of the same size on a loop device.
struct Ext4 {
    point: PathBuf,
}

impl Ext4 {
    fn new(place: &Place) -> Result<Self> {
        toolbox::find("mke2fs").context("mke2fs is not installed")?;
        let (image, point) = (place.path().join("ext4.image"), place.path().join("ext4"));
        std::fs::create_dir_all(&point)?;
        let mut make = Command::new(toolbox::find("mke2fs").unwrap_or_default());
        succeed(
            make.args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .arg(&image)
                .arg("2G"),
        )?;
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point))?;
        Ok(Ext4 { point })
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.point).stderr(Stdio::null()).status();
    }
}
