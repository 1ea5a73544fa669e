//! The guest as its first process: nothing is there but what the initramfs has.
//!
//! ```text
//! /init             this program
//! /modules/NN-*.ko  kernel modules, in the order in which they are to be loaded
//! /bin              paxfs's tools, ndctl, mkfs.xfs
//! ```
//!
//! The kernel's messages and all complaints go to the console, which is the first serial port; the report goes to the
//! second.

use crate::target::Result;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Where the report goes.
const PORT: &str = "/dev/ttyS1";

/// Makes the machine ready, runs the cases in a process of their own (a fault may be the end of it), and powers off.
///
/// # Errors
///
/// When it cannot be powered off. What else goes wrong is said on the console.
pub fn init() -> Result<()> {
    if let Err(error) = live() {
        eprintln!("guest: {error}");
    }
    Ok(reboot(RebootCommand::PowerOff)?)
}

fn live() -> Result<()> {
    for (kind, point) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(point)?;
        mount(kind, point, kind, MountFlags::empty(), None).map_err(|error| format!("{point}: {error}"))?;
    }
    load_modules()?;
    for (number, mode) in ["devdax", "devdax --align=4096", "fsdax"].iter().enumerate() {
        let line = format!("create-namespace --force --reconfig=namespace{number}.0 --mode={mode}");
        let made = Command::new("ndctl").args(line.split(' ')).status();
        let made = made.map_err(|error| format!("ndctl: {error}"))?;
        if !made.success() {
            return Err(format!("ndctl {line}: {made}").into());
        }
    }
    let mut port = OpenOptions::new().write(true).open(PORT).map_err(|error| format!("{PORT}: {error}"))?;
    let ended = Command::new("/init")
        .args(["/dev/dax0.0", "/dev/dax1.0", "/dev/pmem2"])
        .stdout(port.try_clone()?)
        .status()?;
    if ended.code().is_none() {
        writeln!(port, "failed\tthe process of the cases ended by {ended}")?;
    }
    Ok(())
}

fn load_modules() -> Result<()> {
    let mut modules =
        fs::read_dir("/modules")?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    modules.sort();
    for module in modules {
        finit_module(File::open(&module)?, c"", 0)
            .map_err(|error| format!("{}: {error}", module.display()))?;
    }
    Ok(())
}
