//! Mapped files measured: what a fault costs beside the bare mechanism, what is mapped by 2 MiB, how long a snapshot stops
//! those who store. See `runtime/examples/faults.rs` and `mapped.rs`.

use crate::cargo::Workspace;
use crate::toolbox::Toolbox;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where, and how much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Mebibytes of the mapped file; its volume has four times as many
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
    make(arguments.size * 4)?;
    if arguments.age > 0 {
        succeed(Command::new(age).arg(&image).arg(arguments.age.to_string()))?;
    }
    succeed(Command::new(mapped).arg(&image).arg(arguments.size.to_string()))?;
    succeed(toolbox.command("fsck.paxfs").arg("-nf").arg(&image))?;
    std::fs::remove_file(&image).context("the image cannot be removed")
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
