//! Undo files: what they are refused for, and that they put back all.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

use paxfs_format::device::{Access, Device};
use paxfs_format::time::Timestamp;
use paxfs_format::volume::find;
use paxfs_fsck::{Error, Repair, UndoFault, put_back, write};
use paxfs_mkfs::recipe::Recipe;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOME: &str =
    "volume: {size: 4M, uuid: 00000000-0000-4000-8000-000000000001}\nfiles: [{path: /a, size: 9k, seed: 1}]";
const OTHER: &str =
    "volume: {size: 4M, uuid: 00000000-0000-4000-8000-000000000002}\nfiles: [{path: /a, size: 9k, seed: 1}]";
const LONGER: &str =
    "volume: {size: 5M, uuid: 00000000-0000-4000-8000-000000000001}\nfiles: [{path: /a, size: 9k, seed: 1}]";

/// An image with a damaged group header, its repair written with an undo file.
struct Place {
    directory: tempfile::TempDir,
    image: PathBuf,
    file: PathBuf,
    damaged: Vec<u8>,
}

fn made(recipe: &str, path: &Path) -> Vec<u8> {
    let recipe: Recipe = recipe.parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    let bytes = device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap().to_vec();
    fs::write(path, &bytes).unwrap();
    bytes
}

fn repair(image: &Path, file: Option<&Path>) -> Result<(), Error> {
    let mut device = Device::open(image, Access::Exclusive).unwrap();
    let found = find(&device).unwrap();
    let mut header = *device.block(513).unwrap();
    header[100] ^= 0xff;
    let blocks = BTreeMap::from([(513, Box::new(header))]);
    let repair = Repair {
        superblock: &found.superblock,
        geometry: &found.geometry,
        blocks: &blocks,
        free: &[],
        now: Timestamp::new(1_900_000_000, 0),
    };
    write(&mut device, &repair, file).map(drop)
}

fn damage(image: &Path) -> Vec<u8> {
    let mut bytes = fs::read(image).unwrap();
    bytes[513 * 4096 + 100] ^= 0xff;
    fs::write(image, &bytes).unwrap();
    bytes
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (image, file) = (directory.path().join("image"), directory.path().join("undo"));
        made(SOME, &image);
        let damaged = damage(&image);
        repair(&image, Some(&file)).unwrap();
        Place { directory, image, file, damaged }
    }

    fn undo(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fsck-paxfs"));
        command.args(arguments).arg("--undo").arg(&self.file).arg(&self.image).output().unwrap()
    }

    /// It is refused, says why, and nothing is changed.
    fn refused(&self, why: &str) {
        let before = fs::read(&self.image).unwrap();
        let output = self.undo(&[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(8));
        assert!(fs::read(&self.image).unwrap() == before);
    }
}

#[test]
fn all_is_put_back() {
    let place = Place::new();
    let check = Command::new(env!("CARGO_BIN_EXE_fsck-paxfs")).arg("-n").arg(&place.image).output().unwrap();
    assert_eq!(check.status.code(), Some(0));
    assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = place.undo(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(fs::read(&place.image).unwrap() == place.damaged);
    let again = place.undo(&["-J"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(String::from_utf8(again.stdout).unwrap().contains("\"blocks\":0"));
}

#[test]
fn other_volumes_are_refused() {
    let place = Place::new();
    made(OTHER, &place.image);
    place.refused("is of the volume 00000000-0000-4000-8000-000000000001, and this one is 00000000-0000-4000-8000-000000000002");
    made(LONGER, &place.image);
    place.refused("is of a device of 1024 blocks, and this one has 1280");
    fs::write(&place.image, vec![0; 4 << 20]).unwrap();
    place.refused("nothing on this device is of its volume");
}

#[test]
fn damaged_files_are_refused() {
    let place = Place::new();
    let whole = fs::read(&place.file).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut file = whole.clone();
        file[at] ^= 0x20;
        fs::write(&place.file, file).unwrap();
        place.refused(if at < 8 { "is no undo file" } else { "" });
    }
    for length in [0, 72, 100, whole.len() / 2, whole.len() - 16, whole.len() - 1] {
        fs::write(&place.file, &whole[..length]).unwrap();
        place.refused("is not complete");
    }
    fs::write(&place.file, [whole.as_slice(), b"more"].concat()).unwrap();
    place.refused("is damaged (its end)");
    fs::remove_file(&place.file).unwrap();
    place.refused("No such file");
}

#[test]
fn what_was_changed_since_is_not_overwritten() {
    let place = Place::new();
    let mut bytes = fs::read(&place.image).unwrap();
    bytes[513 * 4096 + 200] ^= 1;
    fs::write(&place.image, &bytes).unwrap();
    place.refused("block 513 is neither as it was nor as it was made");
    assert_eq!(place.undo(&["-f"]).status.code(), Some(1));
    assert!(fs::read(&place.image).unwrap() == place.damaged);
}

#[test]
fn files_are_not_overwritten() {
    let place = Place::new();
    let other = place.directory.path().join("other");
    fs::write(&other, "dear diary").unwrap();
    damage(&place.image);
    let fault = |file: &Path| match repair(&place.image, Some(file)) {
        Err(Error::Undo { fault, .. }) => fault,
        outcome => unreachable!("{outcome:?}"),
    };
    assert!(matches!(fault(&other), UndoFault::Exists));
    assert_eq!(fs::read(&other).unwrap(), b"dear diary");
    assert!(matches!(fault(&place.file), UndoFault::Exists));
    assert!(matches!(fault(&place.image), UndoFault::OnVolume));
    let link = place.directory.path().join("link");
    std::os::unix::fs::symlink(&place.image, &link).unwrap();
    assert!(matches!(fault(&link), UndoFault::OnVolume));
    let nowhere = place.directory.path().join("no/such/directory");
    assert!(matches!(fault(&nowhere), UndoFault::Io(_)));
}

#[test]
fn a_repair_that_was_stopped_is_put_back_first() {
    let place = Place::new();
    let device = || Device::open(&place.image, Access::Exclusive).unwrap();
    // It came to its end.
    let outcome = put_back(&mut device(), &place.file);
    assert!(matches!(outcome, Err(Error::Undo { fault: UndoFault::Finished, .. })), "{outcome:?}");
    // It was stopped before the end: block 0 is as it was.
    let mut bytes = fs::read(&place.image).unwrap();
    bytes[..4096].copy_from_slice(&place.damaged[..4096]);
    fs::write(&place.image, &bytes).unwrap();
    assert!(put_back(&mut device(), &place.file).unwrap().is_some());
    assert!(fs::read(&place.image).unwrap() == place.damaged);
    // There is nothing to put back, and the file may be written anew.
    assert_eq!(put_back(&mut device(), &place.file).unwrap(), None);
    repair(&place.image, Some(&place.file)).unwrap();
    assert_eq!(place.undo(&[]).status.code(), Some(1));
    // One that was stopped while the file was written.
    let whole = fs::read(&place.file).unwrap();
    fs::write(&place.file, &whole[..whole.len() / 3]).unwrap();
    assert_eq!(put_back(&mut device(), &place.file).unwrap(), None);
    repair(&place.image, Some(&place.file)).unwrap();
    assert_eq!(place.undo(&[]).status.code(), Some(1));
    assert!(fs::read(&place.image).unwrap() == place.damaged);
}
