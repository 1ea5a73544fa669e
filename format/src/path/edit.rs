//! Changing a field on a device, and what becomes of the checksum over it. The same for the debugger and for fixtures.

use super::{Seal, Target, read};
use crate::blocks::Blocks;
use crate::device::{Device, MediumError};
use crate::field::edit::{NoVerb, SetError, Verb, set};
use crate::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use crate::header::{CRC_OFFSET, Seed};
use crate::journal::{JournalSlot, SEALED_HEAD};
use crate::superblock::Superblock;
use crate::units::Crc;
use core::fmt;
use core::mem::offset_of;
use core::str::FromStr;
use zerocopy::FromBytes;

/// What becomes of the checksum that covers a changed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Csum {
    /// It stays as it is, and so fits no more.
    Keep,
    /// It is made to fit, unless it is the changed field itself.
    #[default]
    Fix,
    /// It is made to fit and then its lowest bit is flipped.
    Break,
}

impl Csum {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keep, Self::Fix, Self::Break];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Fix => "fix",
            Self::Break => "break",
        }
    }
}

impl fmt::Display for Csum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of: keep, fix, break")]
pub struct NoCsum(String);

impl FromStr for Csum {
    type Err = NoCsum;

    fn from_str(text: &str) -> Result<Self, NoCsum> {
        Self::ALL.into_iter().find(|csum| csum.name() == text).ok_or_else(|| NoCsum(text.to_owned()))
    }
}

/// How a field is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value, as [`set`] takes it.
    Set(String),
    /// It is damaged.
    Do(Verb),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The field's bytes before.
    pub before: Vec<u8>,
    /// The field's bytes after.
    pub after: Vec<u8>,
}

/// Why a field was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The value is none that the field can hold.
    #[error("{path}: {error}")]
    Set {
        /// The field.
        path: String,
        /// Why.
        error: SetError,
    },
    /// The verb is none.
    #[error(transparent)]
    Verb(#[from] NoVerb),
    /// There is no checksum to break.
    #[error("{path} is covered by no checksum that could be broken")]
    NoChecksum {
        /// The field.
        path: String,
    },
    /// The device cannot be changed there.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

/// Changes a field on the device, then does with its checksum as told. `seed` is that of the volume.
///
/// Stores nothing when it fails, but for the field itself when the device ends before the end of what the checksum
/// covers.
pub fn edit(
    device: &mut Device,
    seed: Seed,
    target: &Target,
    change: &Change,
    csum: Csum,
) -> Result<Edited, EditError> {
    if csum == Csum::Break && target.seal == Seal::None {
        return Err(EditError::NoChecksum { path: target.text.clone() });
    }
    let bytes = device.bytes_mut(target.offset, target.length())?;
    let before = bytes.to_vec();
    match change {
        Change::Set(value) => set(&target.kind, bytes, value)
            .map_err(|error| EditError::Set { path: target.text.clone(), error })?,
        Change::Do(verb) => {
            verb.apply(&target.kind, bytes);
        }
    }
    let itself = target.seal.field() == Some(target.offset);
    match csum {
        Csum::Fix if !itself => target.seal.fix(device, seed, false)?,
        Csum::Break => target.seal.fix(device, seed, true)?,
        Csum::Fix | Csum::Keep => {}
    }
    let after = device.bytes(target.offset, target.length())?.to_vec();
    Ok(Edited { before, after })
}

impl Seal {
    /// Byte offset of the checksum.
    pub fn field(&self) -> Option<u64> {
        let crc = |offset: u64, field: usize| offset.checked_add(u64::try_from(field).ok()?);
        match *self {
            Seal::None => None,
            Seal::Header { offset, .. } | Seal::Superblock { offset } => crc(offset, CRC_OFFSET),
            Seal::JournalBody { slot, .. } => crc(slot, offset_of!(JournalSlot, body_crc)),
        }
    }

    /// The checksum as stored and as the bytes give it; `None` when there is none.
    pub fn check<B: Blocks>(&self, blocks: &B, seed: Seed) -> Result<Option<(u32, u32)>, MediumError> {
        let Some(field) = self.field() else { return Ok(None) };
        let stored = read(blocks, field, size_of::<Crc>())?;
        let stored = Crc::read_from_bytes(&stored).map_or(0, Crc::get);
        let computed = match *self {
            Seal::None => return Ok(None),
            Seal::Header { offset, length } => seed.checksum(&read(blocks, offset, length)?),
            Seal::Superblock { offset } => {
                let bytes = read(blocks, offset, size_of::<Superblock>())?;
                let own = Superblock::ref_from_bytes(&bytes).map(|superblock| Seed::new(&superblock.uuid));
                own.unwrap_or(seed).checksum(&bytes)
            }
            Seal::JournalBody { slot, length } => {
                let head = read(blocks, slot, size_of::<JournalSlot>())?;
                let device = blocks.blocks().saturating_mul(BLOCK_BYTES);
                let (body, used) = JournalSlot::ref_from_bytes(&head)
                    .map_or((slot, 0), |head| head.body_bytes(slot, length, device));
                // It may be as long as the device.
                let (mut sum, mut at, mut left) = (seed, body, used);
                while left > 0 {
                    let step = left.min(BLOCK_SIZE);
                    sum = sum.after(&read(blocks, at, step)?);
                    (at, left) = (at.saturating_add(step as u64), left - step);
                }
                sum.plain(&[])
            }
        };
        Ok(Some((stored, computed)))
    }

    /// Makes the checksum on the device fit, or fit but for its lowest bit.
    pub fn fix(&self, device: &mut Device, seed: Seed, broken: bool) -> Result<(), MediumError> {
        match *self {
            Seal::None => Ok(()),
            Seal::Header { offset, length } => {
                seal(device.bytes_mut(offset, length)?, seed, broken);
                Ok(())
            }
            Seal::Superblock { offset } => {
                let bytes = device.bytes_mut(offset, size_of::<Superblock>())?;
                let own = Superblock::ref_from_bytes(bytes).map(|superblock| Seed::new(&superblock.uuid));
                seal(bytes, own.unwrap_or(seed), broken);
                Ok(())
            }
            Seal::JournalBody { slot, length } => {
                let end = device.len();
                let head = device.bytes(slot, size_of::<JournalSlot>())?;
                let (body, used) = JournalSlot::ref_from_bytes(head)
                    .map_or((slot, 0), |head| head.body_bytes(slot, length, end));
                let crc = seed.plain(device.bytes(body, used)?);
                let head = device.bytes_mut(slot, size_of::<JournalSlot>())?;
                if let Ok(head) = JournalSlot::mut_from_bytes(head) {
                    head.body_crc = Crc::new(if broken { crc ^ 1 } else { crc });
                }
                seal(head.get_mut(..SEALED_HEAD).unwrap_or_default(), seed, false);
                Ok(())
            }
        }
    }
}

fn seal(bytes: &mut [u8], seed: Seed, broken: bool) {
    seed.seal(bytes);
    if broken && let Some(byte) = bytes.get_mut(CRC_OFFSET) {
        *byte ^= 1;
    }
}
