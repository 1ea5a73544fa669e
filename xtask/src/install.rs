//! Installing from source.

use crate::cargo::Workspace;
use crate::dist;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Where to install.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory below which `sbin` and `share` are
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Directory that stands for the root, to make a package of
    #[arg(long, value_name = "DIR", default_value = "/")]
    destdir: PathBuf,
}

/// Installs.
pub fn run(arguments: &Arguments) -> Result<()> {
    let below_root = arguments.prefix.strip_prefix("/").unwrap_or(&arguments.prefix);
    let relative = arguments.prefix.is_relative() && arguments.destdir == Path::new("/");
    let prefix = if relative { arguments.prefix.clone() } else { arguments.destdir.join(below_root) };
    dist::lay_out(&Workspace::find()?, &prefix)?;
    println!(
        "installed in {}: `mkfs -t paxfs`, `fsck -t paxfs` and `mount -t paxfs` find the tools in /sbin, or by PATH",
        prefix.display()
    );
    Ok(())
}
