//! The target of recipes.

use crate::tools;
use paxfs_mkfs::recipe::Recipe;

/// Largest volume that is made: a larger one is as good, but takes its time.
const VOLUME_BYTES_MAX: u64 = 16 << 20;

/// A recipe as `mkfs.paxfs -p` takes it.
///
/// Must hold: it is refused, or it makes a volume in which fsck finds nothing wrong. A volume may be made that is said not
/// to be clean, with transactions to replay or orphans; those have findings of their own.
pub fn recipe(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(mut recipe) = text.parse::<Recipe>() else { return };
    match &mut recipe.volume.size {
        Some(size) if size.0 > VOLUME_BYTES_MAX => return,
        Some(_) => (),
        None => return,
    }
    let healthy = recipe.volume.journal.is_empty()
        && recipe.volume.state.is_none()
        && recipe.files.iter().all(|item| !item.orphan);
    let Ok((device, _)) = recipe.image() else { return };
    let findings = tools::check(&device, 1);
    assert!(!healthy || findings.is_empty(), "mkfs made a volume with findings: {findings:?}");
}
