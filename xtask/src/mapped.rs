//! Mapped files measured: what a fault costs beside the bare mechanism, what is mapped by 2 MiB, how long a snapshot stops
//! those who store. See `runtime/examples/faults.rs` and `mapped.rs`.

use crate::cargo::Workspace;
use crate::toolbox::Toolbox;
use crate::verify::owners;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where, and how much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Mebibytes of the mapped file; its volume has four times as many, an aged one eight times
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// Times that the volume's size is written before, as `cargo xtask age` does
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    age: u64,
    /// Where the image is made
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
}

/// Measures on a tmpfs as it is, and on one with 2 MiB pages where one can be mounted.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::build(&workspace)?;
    let examples = ["faults", "mapped", "age"].map(|name| workspace.build_example("paxfs-runtime", name));
    let [faults, mapped, age] = examples;
    let (faults, mapped, age) = (faults?, mapped?, age?);
    let directory = tempfile::Builder::new().prefix("paxfs-mapped.").tempdir_in(&arguments.dir)?;
    let huge = directory.path().join("huge");
    std::fs::create_dir(&huge)?;
    let is_mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "huge=always", "none"])
        .arg(&huge)
        .output()
        .is_ok_and(|output| output.status.success());
    let measured =
        [(directory.path(), "tmpfs"), (&huge, "tmpfs with 2 MiB pages")].iter().try_for_each(|(at, what)| {
            if *at == huge && !is_mounted {
                println!("{what}: skipped (it takes root to mount one)");
                return Ok(());
            }
            println!("On {what}:");
            measure(arguments, &toolbox, at, &faults, &mapped, &age)
        });
    if is_mounted {
        succeed(Command::new("umount").arg(&huge))?;
    }
    measured
}

fn measure(
    arguments: &Arguments,
    toolbox: &Toolbox,
    at: &Path,
    faults: &Path,
    mapped: &Path,
    age: &Path,
) -> Result<()> {
    let image = at.join("image.paxfs");
    let make = |mebibytes: u64| {
        let _ = std::fs::remove_file(&image);
        succeed(toolbox.command("mkfs.paxfs").arg("-q").arg(&image).arg(format!("{mebibytes}M")))
    };
    make(1024)?;
    succeed(Command::new(faults).arg(&image))?;
    // An aged one is full to 70 %.
    make(arguments.size * if arguments.age > 0 { 8 } else { 4 })?;
    if arguments.age > 0 {
        succeed(Command::new(age).arg(&image).arg(arguments.age.to_string()))?;
    }
    let output = Command::new(mapped).arg(&image).arg(arguments.size.to_string()).output()?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "mapped: {}", output.status);
    let (mut before, mut kept, mut extents) = (0, 0, 0);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_prefix("extent ") {
            Some(extent) => {
                let (blocks, there) = owned(toolbox, &image, extent)?;
                (before, kept, extents) = (before + blocks, kept + there, extents + 1);
            }
            None => println!("{line}"),
        }
    }
    println!(
        "dbg.paxfs owner: of its {before} blocks in {extents} extents it has {kept} still, at the same offsets"
    );
    succeed(toolbox.command("fsck.paxfs").arg("-nf").arg(&image))?;
    std::fs::remove_file(&image).context("the image cannot be removed")
}

/// How many blocks an extent of the file had, and how many of them are its at the same offset now.
fn owned(toolbox: &Toolbox, image: &Path, extent: &str) -> Result<(u64, u64)> {
    let numbers: Vec<u64> = extent.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [offset, start, blocks] = numbers.as_slice() else { bail!("extent {extent}") };
    let found = owners(toolbox, image, &[format!("{start}..{}", start + blocks)])?;
    let there = found.iter().flatten().filter(|run| {
        let expected = (offset + run.start.saturating_sub(*start)) * 4096;
        run.offset == Some(expected) && run.paths.iter().any(|path| path == "/large/file")
    });
    Ok((*blocks, there.map(|run| run.length).sum()))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
