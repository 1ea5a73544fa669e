//! The tool as people and other tools run it: options, exit statuses, output, what it leaves behind.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

use paxfs_mkfs::recipe::Recipe;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    /// An image of a recipe of the fixtures.
    fn image(&self, name: &str) -> PathBuf {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images").join(name);
        self.made(&fs::read_to_string(file).unwrap())
    }

    fn made(&self, recipe: &str) -> PathBuf {
        let recipe: Recipe = recipe.parse().unwrap();
        let (device, _) = recipe.image().unwrap();
        let path = self.directory.path().join("image");
        fs::write(&path, device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap()).unwrap();
        path
    }
}

fn fsck(arguments: &[&str], device: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fsck-paxfs")).args(arguments).arg(device).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Flips a byte of the file.
fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_clean_volume_is_clean() {
    let place = Place::new();
    let image = place.image("files.yaml");
    let output = fsck(&["-n"], &image);
    assert_eq!((status(&output), text(&output.stderr)), (0, String::new()));
    assert_eq!(text(&output.stdout), format!("{}: clean\n", image.display()));
    let output = fsck(&["-p"], &image);
    let line = text(&output.stdout);
    assert_eq!(status(&output), 0);
    assert!(
        line.starts_with(&format!("{}: clean, ", image.display())) && line.contains(" inodes, "),
        "{line}"
    );
}

#[test]
fn looking_leaves_bytes_and_times_alone() {
    let place = Place::new();
    let image = place.image("crashed.yaml");
    let before = (fs::read(&image).unwrap(), fs::metadata(&image).unwrap());
    let output = fsck(&["-n", "-v", "-t", "-J"], &image);
    assert_eq!(status(&output), 4);
    let after = (fs::read(&image).unwrap(), fs::metadata(&image).unwrap());
    assert_eq!(before.0, after.0);
    let times = |data: &fs::Metadata| (data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec());
    assert_eq!(times(&before.1), times(&after.1));
    for line in text(&output.stdout).lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["schema"], 1);
    }
}

#[test]
fn preening_replays_and_marks_clean() {
    let place = Place::new();
    let image = place.image("crashed.yaml");
    let output = fsck(&["-p"], &image);
    assert_eq!(status(&output), 1, "{output:?}");
    assert!(text(&output.stdout).contains("replayed 2 transactions"));
    for arguments in [["-n", "-f"], ["-p", "-f"], ["-a", "-t"]] {
        let output = fsck(&arguments, &image);
        assert_eq!(status(&output), 0, "{output:?}");
    }
}

/// What a crash left of a transaction that never happened is no news on a clean volume.
#[test]
fn preening_leaves_nothing_in_the_journal() {
    let place = Place::new();
    let image = place.made(
        "volume: {size: 8M, state: dirty, journal: [{sequence: 2, blocks: [1]}, {sequence: 3, blocks: [1], state: torn}]}",
    );
    assert_eq!(status(&fsck(&["-p"], &image)), 1);
    let output = fsck(&["-n"], &image);
    assert_eq!((status(&output), text(&output.stdout)), (0, format!("{}: clean\n", image.display())));
}

#[test]
fn a_replay_that_was_cut_short_is_done_again() {
    let place = Place::new();
    let image = place.image("crashed.yaml");
    let crashed = fs::read(&image).unwrap();
    assert_eq!(status(&fsck(&["-p"], &image)), 1);
    let replayed = fs::read(&image).unwrap();
    // The homes are written, the superblock is not: the first sync was the last that happened.
    let mut between = replayed;
    between[..4096].copy_from_slice(&crashed[..4096]);
    fs::write(&image, between).unwrap();
    assert_eq!(status(&fsck(&["-p"], &image)), 1);
    assert_eq!(status(&fsck(&["-n"], &image)), 0);
}

#[test]
fn preening_repairs_what_loses_nothing() {
    let place = Place::new();
    let image = place.image("files.yaml");
    flip(&image, 4096 + 200); // a group header, whose copy is intact
    let output = fsck(&["-n"], &image);
    assert_eq!(status(&output), 4);
    let first = text(&output.stdout).lines().next().unwrap().to_owned();
    assert!(first.starts_with("PX-GROUP-DAMAGED at group[0].header.crc: "), "{first}");
    let output = fsck(&["-J"], &image);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["code"], &lines[0]["group"]), (&"PX-GROUP-DAMAGED".into(), &0.into()));
    assert_eq!((&lines[1]["at"], &lines[1]["lost"]), (&"group[0]".into(), &serde_json::json!([])));
    assert_eq!((&lines[2]["clean"], &lines[2]["exit"]), (&false.into(), &4.into()));
    assert_eq!(status(&fsck(&["-p", "-f"], &image)), 1);
    assert_eq!(status(&fsck(&["-n"], &image)), 0);
}

#[test]
fn preening_leaves_what_loses_something() {
    let place = Place::new();
    let image = place.image("files.yaml");
    let mut bytes = fs::read(&image).unwrap();
    bytes[385 * 512..386 * 512].fill(0); // an inode
    fs::write(&image, &bytes).unwrap();
    let output = fsck(&["-p", "-f"], &image);
    assert_eq!(status(&output), 4);
    assert!(text(&output.stderr).contains("would lose something"), "{output:?}");
    assert!(fs::read(&image).unwrap() == bytes);
    let planned = text(&fsck(&["-n"], &image).stdout);
    let output = fsck(&["-y"], &image);
    assert_eq!(status(&output), 1);
    let actions = |text: &str| {
        text.lines().filter(|line| line.starts_with("repair: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(actions(&planned), actions(&text(&output.stdout)));
    assert!(actions(&planned)[0].contains("; lost: "), "{planned}");
    let last = text(&output.stdout).lines().last().unwrap().to_owned();
    assert!(last.contains(": REPAIRED, "), "{last}");
    assert_eq!(status(&fsck(&["-n"], &image)), 0);
}

#[test]
fn a_repair_is_undone() {
    let place = Place::new();
    let image = place.image("files.yaml");
    flip(&image, 385 * 512 + 100);
    let damaged = fs::read(&image).unwrap();
    let undo = place.directory.path().join("undo");
    let undo = undo.to_str().unwrap();
    assert_eq!(status(&fsck(&["-y", "-z", undo], &image)), 1);
    assert_eq!(status(&fsck(&["-n"], &image)), 0);
    assert_eq!(status(&fsck(&["--undo", undo], &image)), 1);
    assert!(fs::read(&image).unwrap() == damaged);
}

#[test]
fn a_bad_superblock_is_found_around() {
    let place = Place::new();
    let image = place.image("files.yaml");
    flip(&image, 100);
    let output = fsck(&["-n"], &image);
    assert_eq!(status(&output), 4);
    assert!(text(&output.stdout).starts_with("PX-SB-DAMAGED at sb.header.crc: "), "{output:?}");
    assert_eq!(status(&fsck(&["-n", "-b", "1"], &image)), 4);
    assert_eq!(status(&fsck(&["-n", "-b", "0"], &image)), 8);
    assert_eq!(status(&fsck(&["-n", "-b", "77"], &image)), 8);
}

#[test]
fn what_it_cannot_do_it_says() {
    let place = Place::new();
    let image = place.image("files.yaml");
    for arguments in [vec!["-n", "-y"], vec!["-Q"], vec!["-C", "x"]] {
        assert_eq!(status(&fsck(&arguments, &image)), 16, "{arguments:?}");
    }
    assert_eq!(status(&fsck(&["-n"], Path::new("/nonexistent"))), 8);
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let output = fsck(&["-n"], &image);
    assert_eq!(status(&output), 8);
    assert!(text(&output.stderr).contains("no paxfs superblock"));
}

#[test]
fn codes_are_explained() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fsck-paxfs")).args(["--explain", "px-links"]).output().unwrap();
    assert_eq!(status(&output), 0);
    assert!(text(&output.stdout).starts_with("PX-LINKS (damage)\n"));
    let output = Command::new(env!("CARGO_BIN_EXE_fsck-paxfs")).args(["--explain", "all"]).output().unwrap();
    assert!(paxfs_fsck::Finding::CODES.iter().all(|code| text(&output.stdout).contains(code.code)));
    let output =
        Command::new(env!("CARGO_BIN_EXE_fsck-paxfs")).args(["--explain", "PX-NO"]).output().unwrap();
    assert_eq!(status(&output), 16);
}

#[test]
fn progress_goes_to_a_descriptor() {
    let place = Place::new();
    let image = place.image("files.yaml");
    let program = env!("CARGO_BIN_EXE_fsck-paxfs");
    let command = format!("'{program}' -n -C5 '{}' 5>&1 >/dev/null", image.display());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let lines = text(&output.stdout);
    assert_eq!(status(&output), 0);
    let mut last = 0;
    for line in lines.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let pass: u32 = fields[0].parse().unwrap();
        let (done, of): (u64, u64) = (fields[1].parse().unwrap(), fields[2].parse().unwrap());
        assert!((1..=5).contains(&pass) && pass >= last && done <= of, "{line}");
        assert_eq!(Path::new(fields[3]), image);
        last = pass;
    }
    assert_eq!(last, 5);
}

#[test]
fn under_util_linux() {
    let place = Place::new();
    let image = place.image("files.yaml");
    let program = place.directory.path().join("fsck.paxfs");
    fs::copy(env!("CARGO_BIN_EXE_fsck-paxfs"), &program).unwrap();
    let path = format!("{}:/sbin:/usr/sbin:/bin:/usr/bin", place.directory.path().display());
    let run = |arguments: &[&str]| {
        Command::new("fsck").env("PATH", &path).env("FSCK_PATH", &path).args(arguments).arg(&image).output()
    };
    let Ok(output) = run(&["-V"]) else { return println!("skipped: there is no fsck here") };
    println!("{output:?}");
    for arguments in [
        vec!["-T", "-t", "paxfs", "-a"],
        vec!["-T", "-t", "paxfs", "-a", "-f", "-C0"],
        vec!["-T", "-t", "paxfs", "-n"],
    ] {
        let output = run(&arguments).unwrap();
        if text(&output.stderr).contains("not found") {
            return println!("skipped: this fsck looks for fsck.paxfs in its own places only: {output:?}");
        }
        assert_eq!(status(&output), 0, "{output:?}");
        assert!(text(&output.stdout).contains("clean"), "{output:?}");
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let place = Place::new();
    let image = place.made(
        "
volume: {size: 256M, epoch: 1700000000}
files:
- {path: '/d{i%100}/f{i}', repeat: 100000}
",
    );
    let child = Command::new(env!("CARGO_BIN_EXE_fsck-paxfs"))
        .args(["-n", "-J"])
        .arg(&image)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    let output = child.wait_with_output().unwrap();
    // The signal comes before the handler is there, during the check, or after it.
    assert!(matches!(output.status.code(), None | Some(0 | 32)), "{output:?}");
}
