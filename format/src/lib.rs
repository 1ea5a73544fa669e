//! The paxfs on-disk format: what every byte of a volume means, and the one way to read it.
//!
//! * How structures are declared: [`declare`], [`units`].
//! * Structures: [`header`], [`superblock`], [`group`], [`inode`], [`entry`], [`sums`], [`node`], [`time`], and the
//!   records that name the trees: [`free`], [`refcount`], [`rmap`], [`chunk`], [`cluster`], [`bad`], [`extent`],
//!   [`index`].
//! * Meaning: [`geometry`] (where things are), [`record`] (what a tree knows of its records), [`hash`] (cookies).
//! * Devices: [`device`].
//!
//! The crate has no policy: it allocates nothing on disk, repairs nothing and decides nothing.

pub mod bad;
pub mod chunk;
pub mod cluster;
pub mod declare;
pub mod device;
pub mod entry;
pub mod extent;
pub mod free;
pub mod geometry;
pub mod group;
pub mod hash;
pub mod header;
pub mod index;
pub mod inode;
pub mod node;
pub mod record;
pub mod refcount;
pub mod rmap;
pub mod sums;
pub mod superblock;
pub mod time;
pub mod units;
