//! The exit status of fsck(8): a sum of bits.

use core::ops::{BitOr, BitOrAssign};

/// Exit status, as fsck(8) defines it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Nothing to correct.
    pub const CLEAN: Self = Self(0);
    /// Something was corrected.
    pub const CORRECTED: Self = Self(1);
    /// Something was left uncorrected.
    pub const UNCORRECTED: Self = Self(4);
    /// The check could not be done.
    pub const OPERATIONAL: Self = Self(8);
    /// The command line was wrong.
    pub const USAGE: Self = Self(16);
    /// Somebody interrupted it.
    pub const CANCELLED: Self = Self(32);

    /// The number.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl BitOr for Exit {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Exit {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
