//! One of everything that a directory can have.

use super::Place;
use crate::verify;
use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Entries of the large directory: enough for an index of two levels.
const NAMES: u32 = 20_000;

/// Into volumes of all features and out again.
pub fn accept(place: &Place) -> Result<()> {
    println!("\nOne of everything");
    let source = place.path("kinds");
    make(place, &source)?;
    for features in ["rmap,reflink", "rmap,reflink,csum", "rmap,^reflink,csum", "^rmap,^reflink"] {
        let image = place.path("kinds.paxfs");
        let mut mkfs = place.toolbox.command("mkfs.paxfs");
        mkfs.args(["-q", "-f", "-O", features]);
        if features == "rmap,reflink,csum" {
            mkfs.arg("-s");
        }
        mkfs.arg("-d");
        place.run(mkfs.arg(&source).arg(&image).arg("64M"), 0)?;
        place.run(place.toolbox.command("fsck.paxfs").arg("-nf").arg(&image), 0)?;
        verify::data(&place.toolbox, &image, &source, 1000, 2)?;
        // Without the reverse map each answer takes a search through all files.
        verify::every(&place.toolbox, &image, if features.starts_with("rmap") { 1 } else { 64 })?;
        place.read_independently(&image)?;
        place.compare(&image, &source)?;
        fs::remove_file(&image)?;
    }
    Ok(())
}

fn make(place: &Place, root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("a/b/c"))?;
    fs::write(root.join("empty"), "")?;
    fs::write(root.join("a/small"), "small\n")?;
    let block: Vec<u8> = (0..=255).cycle().take(5000).collect();
    fs::write(root.join("a/large"), block.repeat(2000))?;
    fs::write(root.join("a/b/equal"), block.repeat(2000))?;
    fs::hard_link(root.join("a/small"), root.join("a/b/c/second name"))?;
    symlink("a/small", root.join("short link"))?;
    symlink("x/".repeat(2000), root.join("long link"))?;
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfe no text \\ \n")), "odd name")?;
    fs::write(root.join("n".repeat(255)), "long name")?;
    sparse(&root.join("a/sparse"))?;
    let many = root.join("many");
    fs::create_dir(&many)?;
    for number in 0..NAMES {
        File::create(many.join(format!("entry number {number}")))?;
    }
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from(0o640), 0)?;
    mknodat(CWD, root.join("socket"), FileType::Socket, Mode::from(0o755), 0)?;
    attributes(root)?;
    if rustix::process::geteuid().is_root() {
        mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3))?;
        mknodat(
            CWD,
            root.join("block device"),
            FileType::BlockDevice,
            Mode::from(0o660),
            makedev(259, 1_000_000),
        )?;
        chown(root.join("a/small"), Some(4_000_000_000), Some(1234))?;
        fs::set_permissions(root.join("a/small"), fs::Permissions::from_mode(0o6755))?;
        access_list(place, root)?;
    } else {
        println!("skipped: devices, owners and access control lists are for root");
    }
    let times = [("empty", 0, 1), ("a", 1_000_000_000, 999_999_999), ("a/large", 4_102_444_800, 5)];
    for (name, seconds, nanoseconds) in times {
        let time = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        File::open(root.join(name))?.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time))?;
    }
    Ok(())
}

/// Data, holes at both ends and in between, and a last block that is partly used.
fn sparse(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    for piece in [100_000, 1 << 20, 9 << 20, 700 << 20] {
        file.write_all_at(b"data between holes", piece)?;
    }
    file.set_len((1 << 30) + 17)?;
    Ok(())
}

fn attributes(root: &Path) -> Result<()> {
    let long = vec![b'v'; 30_000];
    let set = |file: &str, name: &str, value: &[u8]| {
        match setxattr(root.join(file), name, value, XattrFlags::empty()) {
            // The file system of the source has no room for it, or no attributes at all.
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::TOOBIG) => {
                println!("skipped: the attribute {name} cannot be set here");
                Ok(())
            }
            other => other,
        }
    };
    set("a/small", "user.short", b"value")?;
    set("a/small", "user.empty", b"")?;
    set("a/large", "user.block", long.get(..3000).unwrap_or_default())?;
    set("a/b", "user.long", &long)?;
    for number in 0..100 {
        set("a/b/c", &format!("user.number {number}"), b"one of many")?;
    }
    Ok(())
}

/// Access control lists, of a file and as the default of a directory.
fn access_list(place: &Place, root: &Path) -> Result<()> {
    if let Some(mut setfacl) = place.system("setfacl") {
        place.run(setfacl.args(["-m", "u:1234:rw,g:4321:r"]).arg(root.join("a/large")), 0)?;
    }
    if let Some(mut setfacl) = place.system("setfacl") {
        place.run(setfacl.args(["-d", "-m", "u:1234:rwx"]).arg(root.join("a/b")), 0)?;
    }
    Ok(())
}
