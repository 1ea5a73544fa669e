//! A volume that has been in use for long: how its free space lies then. See `runtime/examples/age.rs` for the profile.

use crate::cargo::Workspace;
use crate::toolbox::Toolbox;
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Which volume, and for how long.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Size of the volume, as mkfs.paxfs takes it
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    size: String,
    /// How many times its size is written
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    times: u64,
    /// Where the image is made
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
}

/// Makes, ages and checks it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::build(&workspace)?;
    let age = workspace.build_example("paxfs-runtime", "age")?;
    let directory = tempfile::Builder::new().prefix("paxfs-age.").tempdir_in(&arguments.dir)?;
    let image = directory.path().join("aged.paxfs");
    succeed(toolbox.command("mkfs.paxfs").arg("-q").arg(&image).arg(&arguments.size))?;
    succeed(Command::new(age).arg(&image).arg(arguments.times.to_string()))?;
    succeed(toolbox.command("fsck.paxfs").arg("-nf").arg(&image))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
