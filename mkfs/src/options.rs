//! What a new volume is to be: everything that is decided before anything is written.

use crate::error::Error;
use paxfs_format::geometry::Geometry;
use paxfs_format::superblock::{ReadOnlyCompatible, State};
use paxfs_format::time::Timestamp;
use paxfs_format::units::{Text, Uuid};
use zerocopy::FromZeros;

/// Longest label in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// The read-only-compatible features that mkfs can turn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The reverse map.
    pub rmap: bool,
    /// Sharing of blocks.
    pub reflink: bool,
    /// Checksums of data.
    pub csum: bool,
}

impl Default for Features {
    fn default() -> Self {
        Features { rmap: true, reflink: true, csum: false }
    }
}

impl Features {
    /// The names, as `-O` spells them.
    pub const NAMES: [&'static str; 3] = ["rmap", "reflink", "csum"];

    fn get_mut(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "rmap" => Some(&mut self.rmap),
            "reflink" => Some(&mut self.reflink),
            "csum" => Some(&mut self.csum),
            _ => None,
        }
    }

    /// These features with changes: names, comma-separated, `^` before one to turn it off.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFeature`]. Whether the result can be is for [`Features::check`] to say.
    pub fn with(mut self, changes: &str) -> Result<Self, Error> {
        for word in changes.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, on) = word.strip_prefix('^').map_or((word, true), |name| (name, false));
            *self.get_mut(name).ok_or_else(|| Error::UnknownFeature(name.to_owned()))? = on;
        }
        Ok(self)
    }

    /// Refuses what cannot be: reflink without rmap.
    ///
    /// # Errors
    ///
    /// [`Error::ReflinkWithoutRmap`].
    pub fn check(self) -> Result<Self, Error> {
        if self.reflink && !self.rmap { Err(Error::ReflinkWithoutRmap) } else { Ok(self) }
    }

    /// As the superblock stores them.
    pub fn bits(self) -> u64 {
        let bit = |on, bit| if on { bit } else { 0 };
        bit(self.rmap, ReadOnlyCompatible::RMAP)
            | bit(self.reflink, ReadOnlyCompatible::REFLINK)
            | bit(self.csum, ReadOnlyCompatible::CSUM)
    }

    /// Names of those that are on.
    pub fn names(self) -> Vec<&'static str> {
        let on = [self.rmap, self.reflink, self.csum];
        Self::NAMES.into_iter().zip(on).filter_map(|(name, on)| on.then_some(name)).collect()
    }
}

/// What a new volume is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where things are.
    pub geometry: Geometry,
    /// The volume's name.
    pub label: Text<64>,
    /// The volume's UUID.
    pub uuid: Uuid,
    /// UUID of the device.
    pub device_uuid: Uuid,
    /// Its features.
    pub features: Features,
    /// When it is made.
    pub now: Timestamp,
    /// Whether times of files later than `now` are set to it (`SOURCE_DATE_EPOCH`).
    pub clamp: bool,
    /// State that the superblock will say: clean, but for fixtures.
    pub state: u32,
}

impl Options {
    /// A clean volume with a geometry; nothing else is special.
    #[must_use]
    pub fn new(geometry: Geometry, features: Features, uuid: Uuid, now: Timestamp) -> Self {
        Options {
            geometry: Geometry { csum: features.csum, ..geometry },
            label: FromZeros::new_zeroed(),
            uuid,
            device_uuid: derived(&uuid),
            features,
            now,
            clamp: false,
            state: State::CLEAN,
        }
    }
}

/// The device's UUID, derived from the volume's, so that `-U` decides all of the bytes: xxh3 as version 8 (RFC 9562).
fn derived(uuid: &Uuid) -> Uuid {
    let mut bytes = xxhash_rust::xxh3::xxh3_128_with_seed(&uuid.0, 0x7061_7866_735f_6465).to_be_bytes();
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    Uuid(bytes)
}
