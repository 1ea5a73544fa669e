//! The newtypes that fields are made of: each carries its unit and how it is printed. Any bit pattern can be held.
//!
//! Block numbers come in two kinds that must not be mixed: [`BlockNo`] counts along the volume, [`GroupBlock`] from the
//! start of a group.

use crate::declare::{FieldType, Kind, Style, integer};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

integer! {
    /// Number of a block along the volume; byte offset = number × 4096 on a single device.
    BlockNo(U64, u64) Style::Decimal("block");
    /// Number of a block from the start of its group.
    GroupBlock(U32, u32) Style::Decimal("group block");
    /// A count of blocks.
    BlockCount(U64, u64) Style::Decimal("blocks");
    /// A count of blocks within one group.
    Run(U32, u32) Style::Decimal("blocks");
    /// Offset in a file, in blocks.
    FileBlock(U64, u64) Style::Decimal("file block");
    /// Inode number: volume block × 8 + slot, so byte offset ÷ 512. 0 is no inode.
    InodeNo(U64, u64) Style::Decimal("inode");
    /// An end, start or key of a branch entry, in the units of the tree's records.
    KeyPart(U64, u64) Style::Decimal("");
    /// A CRC-32C (Castagnoli).
    Crc(U32, u32) Style::Hex;
    /// A count.
    Count16(U16, u16) Style::Decimal("");
    /// A count.
    Count32(U32, u32) Style::Decimal("");
    /// A count.
    Count64(U64, u64) Style::Decimal("");
    /// A number of a group.
    GroupNo(U32, u32) Style::Decimal("group");
    /// A count of bytes.
    Bytes16(U16, u16) Style::Decimal("bytes");
    /// A count of bytes.
    Bytes32(U32, u32) Style::Decimal("bytes");
    /// A count of bytes.
    Bytes64(U64, u64) Style::Decimal("bytes");
    /// Bits, one for each of 64 things.
    Bits64(U64, u64) Style::Hex;
    /// Number of the transaction that last wrote a structure; mkfs is transaction 1.
    Generation(U64, u64) Style::Decimal("transaction");
    /// Hash and disambiguator of a name in a directory or attribute fork (see `hash`).
    Cookie(U64, u64) Style::Hex;
    /// A user or group number.
    UserNo(U32, u32) Style::Decimal("");
    /// Seconds since 1970-01-01 00:00:00 UTC.
    Seconds(I64, i64) Style::Signed("seconds");
    /// Nanoseconds within a second, below 1,000,000,000.
    Nanoseconds(U32, u32) Style::Decimal("nanoseconds");
}

/// Text in UTF-8, padded with zero bytes to `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// `text` with padding; `None` when it does not fit or holds a zero byte.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        if text.bytes().any(|byte| byte == 0) {
            return None;
        }
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The bytes before the padding.
    pub fn as_bytes_trimmed(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

impl<const N: usize> FieldType for Text<N> {
    const KIND: Kind = Kind::Text(N);
}

/// Bytes without further meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Opaque<const N: usize>(pub [u8; N]);

impl<const N: usize> FieldType for Opaque<N> {
    const KIND: Kind = Kind::Bytes(N);
}

/// Bytes that are zero in this version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Reserved<const N: usize>([u8; N]);

impl<const N: usize> Reserved<N> {
    /// The only valid value.
    pub const ZERO: Self = Self([0; N]);
}

impl<const N: usize> FieldType for Reserved<N> {
    const KIND: Kind = Kind::Reserved(N);
}

/// A UUID in the order of RFC 9562.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct Uuid(pub [u8; 16]);

impl core::fmt::Display for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FieldType for Uuid {
    const KIND: Kind = Kind::Uuid;
}
