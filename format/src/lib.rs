//! The paxfs on-disk format: what every byte of a volume means, and the one way to read it.
//!
//! * How structures are declared: [`declare`], [`units`].
//! * Structures: [`header`], [`superblock`], [`group`], [`inode`], [`entry`], [`sums`], [`node`], [`time`], and the
//!   records that name the trees: [`free`], [`refcount`], [`rmap`], [`chunk`], [`cluster`], [`bad`], [`extent`],
//!   [`index`].
//! * Meaning: [`geometry`] (where things are), [`record`] (what a tree knows of its records), [`hash`] (cookies).
//! * Trees: [`tree`]. The journal and its replay: [`journal`], and what that reads: [`journal_bytes`].
//! * Devices: [`device`] (open, map, faults), [`blocks`] (what a reader needs), [`image`] (a device seen through writes
//!   that are not on it yet).
//! * Reading: [`volume`] (the superblock in use, structures of fixed place), [`fork`] (what an inode holds), [`names`]
//!   (paths).
//! * Fields: [`field`] (values, paths, edits, differences and documentation of any declared structure), [`path`] (the
//!   same over a whole volume: `rmap[0].leaf[3].rec[17].owner`).
//! * Answers: [`owners`] (who owns a block). Questions: [`badblocks`] (lists of media errors).
//!
//! The crate has no policy: it allocates nothing on disk, repairs nothing and decides nothing.

pub mod bad;
pub mod badblocks;
pub mod blocks;
pub mod chain;
pub mod chunk;
pub mod cluster;
pub mod declare;
pub mod device;
pub mod entry;
pub mod extent;
pub mod field;
pub mod fork;
pub mod free;
pub mod geometry;
pub mod group;
pub mod hash;
pub mod header;
pub mod image;
pub mod index;
pub mod inode;
pub mod journal;
pub mod journal_bytes;
pub mod names;
pub mod node;
pub mod owners;
pub mod packed;
pub mod path;
pub mod record;
pub mod refcount;
pub mod rmap;
pub mod sums;
pub mod superblock;
pub mod time;
pub mod tree;
pub mod units;
pub mod volume;
pub mod words;
