//! The command: what it refuses, what it prints, what it leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod common;

use common::verify_file;
use paxfs_format::device::{Access, Device};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const MKFS: &str = env!("CARGO_BIN_EXE_mkfs-paxfs");

struct Place {
    directory: tempfile::TempDir,
    image: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    Place { directory, image }
}

impl Place {
    fn run(&self, before: &[&str], after: &[&str]) -> Output {
        Command::new(MKFS)
            .args(before)
            .arg(&self.image)
            .args(after)
            .env_remove("SOURCE_DATE_EPOCH")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn made(&self, before: &[&str], after: &[&str]) -> String {
        let output = self.run(before, after);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, status: i32, before: &[&str], after: &[&str]) -> String {
        let output = self.run(before, after);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{words}");
        assert!(output.stdout.is_empty());
        words
    }
}

#[test]
fn sizes_from_the_smallest_on() {
    for size in ["4M", "4194304", "4194305", "5000000", "6291456", "7M", "100M", "1G", "3G", "1T", "17T"] {
        let place = place();
        if !place.run(&["-q"], &[size]).status.success() && size == "17T" {
            println!("no file of {size} here");
            continue;
        }
        let device = Device::open(&place.image, Access::ReadOnly).unwrap();
        assert_eq!(device.len(), paxfs_mkfs::size::parse(size).unwrap());
        drop(device);
        if !size.ends_with('T') {
            verify_file(&place.image);
        }
    }
}

#[test]
fn a_terabyte_is_nearly_nothing() {
    let place = place();
    place.made(&[], &["1T"]);
    let allocated = fs::metadata(&place.image).unwrap().blocks() * 512;
    assert!(allocated < 1 << 20, "{allocated} bytes");
}

#[test]
fn geometry_without_a_device() {
    let place = place();
    for (size, groups) in [("8E", "1048576"), ("4M", "2"), ("16T", "16")] {
        let words = place.made(&["-n"], &[size]);
        assert!(words.contains(&format!("groups     {groups} of ")), "{words}");
        assert!(!place.image.exists());
    }
    let words = place.made(&["-n", "-J", "-g", "7", "-O", "csum,^reflink", "-L", "name"], &["1G"]);
    let value: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!((value["schema"].as_u64(), value["made"].as_bool()), (Some(1), Some(false)));
    assert_eq!((value["groups"].as_u64(), value["label"].as_str()), (Some(7), Some("name")));
    assert_eq!(value["features"], serde_json::json!(["rmap", "csum"]));
    assert!(place.refused(1, &["-n"], &[]).contains("give a SIZE"));
    assert!(place.refused(1, &["-n"], &["3M"]).contains("too small"));
    fs::write(&place.image, vec![7; 5 << 20]).unwrap();
    assert!(place.made(&["-n"], &[]).contains("size       5 MiB"));
    assert!(fs::read(&place.image).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn usage_is_16() {
    let place = place();
    for (before, after) in [
        (&["--wrong"][..], &["8M"][..]),
        (&["-U", "no-uuid"], &["8M"]),
        (&["-O", "speed"], &["8M"]),
        (&["-g", "x"], &["8M"]),
        (&["-s"], &["8M"]),
        (&["-d", "/", "-p", "x"], &["8M"]),
        (&[], &["8Q"]),
        (&[], &["8M", "more"]),
    ] {
        place.refused(16, before, after);
    }
    assert_eq!(Command::new(MKFS).output().unwrap().status.code(), Some(16));
    for flag in ["-h", "--help", "-V", "--version"] {
        let output = Command::new(MKFS).arg(flag).output().unwrap();
        assert!(
            output.status.success() && output.stdout.starts_with(b"M")
                || output.stdout.starts_with(b"mkfs.paxfs ")
        );
    }
}

#[test]
fn refusals() {
    let place = place();
    assert!(place.refused(1, &[], &[]).contains("give a SIZE"));
    assert!(place.refused(1, &[], &["3M"]).contains("too small"));
    assert!(place.refused(1, &["-O", "^rmap"], &["8M"]).contains("-O rmap,reflink"));
    assert!(place.refused(1, &["-L", &"x".repeat(65)], &["8M"]).contains("64 bytes"));
    assert!(place.refused(1, &["-g", "9"], &["8M"]).contains("groups"));
    assert!(place.refused(1, &["-d", "/nonexistent"], &["8M"]).contains("/nonexistent"));
    assert!(place.refused(1, &["-p", "/nonexistent"], &["8M"]).contains("/nonexistent"));
    assert!(!place.image.exists(), "something was left");
    fs::write(&place.image, "").unwrap();
    assert!(place.refused(1, &[], &[]).contains("is empty"));
    place.made(&[], &["8M"]);
    fs::write(&place.image, vec![0; 8 << 20]).unwrap();
    assert!(place.refused(1, &[], &["5M"]).contains("would be cut"));
    place.made(&[], &["9M"]);
    assert!(place.refused(1, &[], &[]).contains("holds paxfs (at byte 0)"));
    place.made(&["-f"], &["5M"]);
    assert_eq!(fs::metadata(&place.image).unwrap().len(), 5 << 20);
    let held = Device::open(&place.image, Access::Exclusive).unwrap();
    assert!(place.refused(1, &["-f"], &[]).contains("locked"));
    drop(held);
    let directory = Command::new(MKFS).arg(place.directory.path()).output().unwrap();
    assert_eq!(directory.status.code(), Some(1));
}

#[test]
fn foreign_signatures_are_refused_and_then_gone() {
    let place = place();
    let file = fs::File::create(&place.image).unwrap();
    file.set_len(16 << 20).unwrap();
    file.write_all_at(b"XFSB", 0).unwrap();
    file.write_all_at(b"EFI PART", (16 << 20) - 512).unwrap();
    let before = fs::read(&place.image).unwrap();
    let words = place.refused(1, &[], &[]);
    assert!(words.contains("XFS (at byte 0), GPT partition table (backup) (at byte 16776704)"), "{words}");
    assert!(fs::read(&place.image).unwrap() == before, "touched");
    for keep in [&["-f", "-K"][..], &["-f"]] {
        file.write_all_at(b"EFI PART", (16 << 20) - 512).unwrap();
        place.made(keep, &[]);
        let (device, _) = verify_file(&place.image);
        let found = paxfs_mkfs::signature::find(&device);
        assert_eq!(found.iter().map(|one| one.name).collect::<Vec<_>>(), ["paxfs"]);
    }
}

#[test]
fn any_copy_of_a_superblock_is_found() {
    let place = place();
    place.made(&["-g", "5"], &["100M"]);
    let file = fs::File::options().write(true).open(&place.image).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    let words = place.refused(1, &[], &[]);
    assert!(words.contains("a copy of its superblock"), "{words}");
}

#[test]
fn looking_at_a_sparse_file_leaves_it_sparse() {
    let place = place();
    let file = fs::File::create(&place.image).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"XFSB", 0).unwrap();
    place.refused(1, &[], &[]);
    assert!(file.metadata().unwrap().blocks() <= 8 * 8);
}

#[test]
fn old_bytes_do_not_shine_through() {
    let place = place();
    let source = place.directory.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("odd"), vec![1; 5000]).unwrap();
    for keep in [&[][..], &["-K"]] {
        for features in ["csum", ""] {
            fs::write(&place.image, vec![0xa5; 16 << 20]).unwrap();
            place.made(&[keep, &["-O", features, "-d", source.to_str().unwrap()]].concat(), &[]);
            let (device, verified) = verify_file(&place.image);
            assert_eq!(verified.read(&device, b"/odd"), vec![1; 5000]);
        }
    }
    // A second volume with the same UUID: nothing of the first can be taken for its own.
    let uuid = "00000000-0000-4000-8000-000000000001";
    let recipe = place.directory.path().join("spec.yaml");
    fs::write(&recipe, "volume: {journal: [{sequence: 2, blocks: [1]}]}").unwrap();
    place.made(&["-f", "-U", uuid, "-p", recipe.to_str().unwrap()], &["16M"]);
    place.made(&["-f", "-K", "-U", uuid], &["16M"]);
    let (device, _) = verify_file(&place.image);
    let journal = paxfs_format::volume::find(&device).unwrap().geometry.journal();
    let bytes = device.bytes(journal.start * 4096, ((journal.end - journal.start) * 4096) as usize).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn recipes_by_command() {
    let place = place();
    let recipe = place.directory.path().join("spec.yaml");
    fs::write(&recipe, "volume: {size: 8M, label: from recipe}\nfiles: [{path: /a, size: 3M, seed: 1}]")
        .unwrap();
    let words = place.made(&["-p", recipe.to_str().unwrap()], &[]);
    assert!(words.contains("label      from recipe") && words.contains("1 files"), "{words}");
    assert!(words.contains("mappings reach 2 MiB of the data (66.6 %)"), "{words}");
    verify_file(&place.image);
    let words = place.made(&["-f", "-L", "mine", "-J", "-p", recipe.to_str().unwrap()], &["16M"]);
    let value: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!((value["label"].as_str(), value["size"].as_u64()), (Some("mine"), Some(16 << 20)));
    assert_eq!((value["files"].as_u64(), value["huge_bytes"].as_u64()), (Some(1), Some(2 << 20)));
    fs::write(&recipe, "volume: {size: 8M}\nfiles:\n  - {path: /a, sise: 3M}").unwrap();
    assert!(place.refused(1, &["-f", "-p", recipe.to_str().unwrap()], &[]).contains("line 3"));
    verify_file(&place.image);
}

#[test]
fn the_recipes_we_ship() {
    let recipes = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes"));
    let demo = recipes.join("demo.yaml");
    let place = place();
    place.made(&["-p", demo.to_str().unwrap()], &[]);
    verify_file(&place.image);
    for recipe in fs::read_dir(recipes).unwrap() {
        let path = recipe.unwrap().path();
        paxfs_mkfs::recipe::Recipe::read(&path).unwrap();
    }
}
