//! Points in time, to the nanosecond.

use crate::on_disk;
use crate::units::{Nanoseconds, Seconds};

on_disk! {
    /// A point in time.
    pub struct Timestamp = 12 {
        /// Seconds since 1970-01-01 00:00:00 UTC, negative before.
        pub seconds: Seconds,
        /// Nanoseconds after that second, below 1,000,000,000.
        pub nanoseconds: Nanoseconds,
    }
}

impl Timestamp {
    /// The point `nanoseconds` after `seconds`.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        Timestamp { seconds: seconds.into(), nanoseconds: nanoseconds.into() }
    }

    /// Whether the nanoseconds are below a second.
    pub fn is_valid(&self) -> bool {
        self.nanoseconds.get() < 1_000_000_000
    }
}
