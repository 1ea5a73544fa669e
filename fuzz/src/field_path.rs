//! The target of field paths and of the values stored in fields.

use crate::samples::samples;
use paxfs_format::declare::Kind;
use paxfs_format::device::Device;
use paxfs_format::field::edit::{Verb, set};
use paxfs_format::field::value::Value;
use paxfs_format::image::Image;
use paxfs_format::path::{Change, Csum, Target, edit, resolve};
use paxfs_format::volume::{Volume, find};

/// Lines: a field path; a value; a verb; what to do with the checksum. Each may be missing.
///
/// Must hold: nothing panics or hangs; the path that a field says it has names the same field; what is printed of a field
/// can be stored in it and gives the same bytes.
pub fn field_path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let (path, value) = (lines.next().unwrap_or_default(), lines.next());
    let verb = lines.next().and_then(|word| word.parse::<Verb>().ok());
    let csum = lines.next().and_then(|word| word.parse::<Csum>().ok()).unwrap_or_default();
    for sample in samples() {
        let mut device = sample.device(sample.length());
        let Some(target) = named(&device, path) else { continue };
        let changes = [value.map(|value| Change::Set(value.to_owned())), verb.map(Change::Do)];
        for change in changes.into_iter().flatten() {
            // What it refuses is as good as what it does.
            let _ = edit(&mut device, sample.seed, &target, &change, csum);
        }
    }
}

/// The field that a path names on a device, everything said of it held against it.
fn named(device: &Device, path: &str) -> Option<Target> {
    let found = find(device).ok()?;
    let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
    let target = resolve(&volume, path).ok()?;
    let again = resolve(&volume, &target.text);
    assert_eq!(again.as_ref(), Ok(&target), "{path:?} says that it is {:?}", target.text);
    let bytes = target.read(&volume.blocks);
    assert!(bytes.is_ok(), "{path:?} cannot be read: {bytes:?}");
    let bytes = bytes.ok()?;
    let single = !matches!(target.kind, Kind::Struct(_) | Kind::Array(..));
    if let Some(value) = Value::read(&target.kind, &bytes).filter(|_| single) {
        let mut stored = vec![0; bytes.len()];
        let outcome = set(&target.kind, &mut stored, &value.to_string());
        assert!(
            outcome.is_ok() && stored == bytes,
            "{path:?}: {value} is stored as {stored:x?}, not {bytes:x?}"
        );
    }
    Some(target)
}
