//! The superblock: what the volume is. Block 0 holds it; the first block of every other group holds a copy.
//!
//! What changes when a volume is opened, closed or checked is in the first cache line, with the checksum: a medium has
//! that line as it was or as it is, and the superblock with it.

use crate::declare::{Style, integer};
use crate::header::Header;
use crate::journal::LINE_SIZE;
use crate::on_disk;
use crate::time::Timestamp;
use crate::units::{BlockCount, BlockNo, Count32, InodeNo, Reserved, Run, Seconds, Text, Uuid};

/// Version of the format this crate reads and writes.
pub const VERSION: u32 = 1;
/// Most devices a volume can be made of.
pub const MAX_DEVICES: usize = 16;

integer! {
    /// Features that a reader or writer which does not know them may ignore.
    Compatible(U64, u64) Style::Flags(&[]);
    /// Features that a reader which does not know them may ignore; a writer must refuse.
    ReadOnlyCompatible(U64, u64) Style::Flags(&[(1, "rmap"), (2, "reflink"), (4, "csum")]);
    /// Features that whoever does not know them must refuse.
    Incompatible(U64, u64) Style::Flags(&[(1, "concat"), (2, "mirror")]);
    /// What the volume's last user left.
    State(U32, u32) Style::Flags(&[(1, "clean"), (2, "errors")]);
    /// What a device is for.
    DeviceRole(U32, u32) Style::Names(&[(0, "none"), (1, "data"), (2, "mirror")]);
}

impl ReadOnlyCompatible {
    /// The reverse-map trees exist.
    pub const RMAP: u64 = 1;
    /// Blocks may be shared; the refcount trees exist. Needs `RMAP`.
    pub const REFLINK: u64 = 2;
    /// The tables of data checksums exist.
    pub const CSUM: u64 = 4;
    /// All that this crate knows.
    pub const KNOWN: u64 = 7;
}

impl Incompatible {
    /// The volume is several devices, one after the other.
    pub const CONCAT: u64 = 1;
    /// Devices are copies of each other.
    pub const MIRROR: u64 = 2;
    /// All that this crate can open. The bits above are taken, for volumes of a later version.
    pub const KNOWN: u64 = 0;
}

impl DeviceRole {
    /// Holds blocks of the volume.
    pub const DATA: Self = Self::new(1);
}

impl State {
    /// Nothing is pending: journal empty, copies equal.
    pub const CLEAN: u32 = 1;
    /// Somebody found damage: a full check is due.
    pub const ERRORS: u32 = 2;
}

on_disk! {
    /// One device of the volume. Their blocks follow each other in the order of the table.
    pub struct DeviceEntry = 32 {
        /// The device's own UUID.
        pub uuid: Uuid,
        /// Blocks of the volume on it.
        pub blocks: BlockCount,
        /// What it is for; 0 in an entry not in use.
        pub role: DeviceRole,
        /// Zero.
        pub reserved: Reserved<4>,
    }
}

on_disk! {
    /// What the volume is. Block 0, and a copy at the head of every other group.
    pub struct Superblock = 4096 {
        /// Kind superblock, place its block, owner 0.
        pub header: Header,
        /// What the last user left.
        pub state: State,
        /// When this structure was last written.
        pub written: Timestamp,
        /// When the volume was last checked in full: seconds since 1970-01-01 00:00:00 UTC.
        pub checked: Seconds,
        /// Version of the format: 1.
        pub version: Count32,
        /// Bytes of a block: 4096.
        pub block_size: Count32,
        /// The volume; seeds every checksum.
        pub uuid: Uuid,
        /// The volume's name.
        pub label: Text<64>,
        /// Blocks of the volume, over all devices.
        pub blocks: BlockCount,
        /// Blocks of each group; the last may have fewer.
        pub group_blocks: BlockCount,
        /// Groups: `blocks` ÷ `group_blocks`, rounded up.
        pub groups: Count32,
        /// Blocks of a metadata cluster, a power of two from 16 to 512.
        pub cluster_blocks: Run,
        /// First block of the journal, in group 0 behind its head and checksum table.
        pub journal_start: BlockNo,
        /// Blocks of the journal, even: two slots.
        pub journal_blocks: BlockCount,
        /// The root directory.
        pub root: InodeNo,
        /// Features that may be ignored.
        pub compatible: Compatible,
        /// Features that forbid writing to who does not know them.
        pub read_only_compatible: ReadOnlyCompatible,
        /// Features that forbid opening to who does not know them.
        pub incompatible: Incompatible,
        /// Devices in the table.
        pub device_count: Count32,
        /// Which device of the table this is.
        pub device: Count32,
        /// When the volume was made.
        pub made: Timestamp,
        /// Zero.
        pub reserved: Reserved<12>,
        /// The devices.
        pub devices: [DeviceEntry; 16],
        /// Zero.
        pub reserved_2: Reserved<3328>,
    }
}

// All that changes is in the first line.
const _: () = assert!(core::mem::offset_of!(Superblock, version) == LINE_SIZE);

impl Superblock {
    /// Whether all bits of `features` are on in the read-only-compatible set.
    pub fn has(&self, features: u64) -> bool {
        self.read_only_compatible.get() & features == features
    }

    /// Whether the last user closed the volume and found no damage.
    pub fn is_clean(&self) -> bool {
        self.state.get() == State::CLEAN
    }
}
