//! Dumps: all metadata of a volume in one stream, and nothing of the files' contents; and a device made of it again.
//!
//! The stream is described in `docs/DUMP.md`; its structures are declared here. [`select`] says which blocks are metadata,
//! [`mod@write`] writes them, [`restore`] makes the device, [`obfuscate`] takes the names out.
//!
//! What is selected follows from bytes that are themselves in the dump, so that a dump of the restored device is the same
//! dump: that is the invariant of [`select`].

pub mod obfuscate;
pub mod restore;
pub mod select;
pub mod write;

use paxfs_format::on_disk;
use paxfs_format::units::{Bits64, Bytes32, Bytes64, Count32, Crc, Opaque, Reserved, Uuid};
use zerocopy::IntoBytes;

/// `magic` of a dump.
pub const MAGIC: Opaque<8> = Opaque(*b"PAXFDUMP");
/// Version of the stream.
pub const VERSION: u32 = 1;
/// Bit of `flags`: names are not the volume's own, and the journal is left out.
pub const OBFUSCATED: u64 = 1;
/// Most bytes of a chunk's body.
pub const MAX_CHUNK: usize = 1 << 20;

/// Kind of a chunk of blocks.
pub const BLOCKS: Opaque<4> = Opaque(*b"BLKS");
/// Kind of a chunk of numbers of blocks that the medium did not give.
pub const LOST: Opaque<4> = Opaque(*b"LOST");
/// Kind of the last chunk.
pub const END: Opaque<4> = Opaque(*b"END ");

on_disk! {
    /// Begins a dump.
    pub struct DumpHeader = 64 {
        /// `PAXFDUMP`.
        pub magic: Opaque<8>,
        /// Version of the stream: 1.
        pub version: Count32,
        /// CRC-32C of this header, this field taken as zero.
        pub crc: Crc,
        /// Bit 0: obfuscated.
        pub flags: Bits64,
        /// The volume.
        pub uuid: Uuid,
        /// Length of the device.
        pub device_bytes: Bytes64,
        /// Zero.
        pub reserved: Reserved<16>,
    }
}

on_disk! {
    /// Begins a chunk; its body follows.
    pub struct DumpChunk = 16 {
        /// `BLKS`, `LOST` or `END `.
        pub kind: Opaque<4>,
        /// CRC-32C of this head, this field taken as zero, and then the body.
        pub crc: Crc,
        /// Records in the body.
        pub records: Count32,
        /// Bytes of the body, at most 1 MiB.
        pub bytes: Bytes32,
    }
}

impl DumpHeader {
    fn sum(&self) -> u32 {
        crc32c::crc32c(DumpHeader { crc: Crc::new(0), ..*self }.as_bytes())
    }
}

impl DumpChunk {
    fn sum(&self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(DumpChunk { crc: Crc::new(0), ..*self }.as_bytes()), body)
    }
}
