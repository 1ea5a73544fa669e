//! What the kernel has to offer: whether file systems can be mounted by FUSE here.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

/// The device by which the kernel asks.
const DEVICE: &str = "/dev/fuse";

/// Whether a file system can be mounted by FUSE here.
///
/// # Errors
///
/// Why not, and what to do.
pub fn check() -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map_err(|error| {
        let next = match error.kind() {
            ErrorKind::PermissionDenied => "run as root, or have yourself be let in",
            _ => "load the module (modprobe fuse), or let the container have the device (--device /dev/fuse)",
        };
        format!("there is no FUSE: {DEVICE}: {error}; {next}")
    })?;
    if may_mount() || has_helper() {
        return Ok(());
    }
    Err("mounting is not permitted here, and there is no fusermount3 to do it; run as root with CAP_SYS_ADMIN, or \
         install fuse3"
        .to_owned())
}

/// Whether this process has the capability to mount.
fn may_mount() -> bool {
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> SYS_ADMIN & 1 != 0)
}

/// Whether there is a program that may mount for others.
fn has_helper() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_path = std::env::split_paths(&path).any(|directory| directory.join("fusermount3").exists());
    of_path || Path::new("/bin/fusermount3").exists()
}
