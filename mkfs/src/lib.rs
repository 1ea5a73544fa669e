//! Makes paxfs volumes.
//!
//! * What is made: [`options`]; of what: [`builder`] (piece by piece), [`source`] (a directory), [`recipe`] (YAML).
//! * How: [`space`] (who gets which blocks), [`entries`] and [`inode`] (structures as bytes), `sweep` and `finish` (the
//!   trees of the groups).
//! * The command: [`cli`], [`run`], [`signature`], [`summary`].
//!
//! The crate writes new volumes only: it changes none.

pub mod builder;
pub mod cli;
pub mod entries;
pub mod error;
mod finish;
pub mod inode;
pub mod interrupt;
mod journal;
pub mod options;
mod progress;
pub mod recipe;
pub mod run;
pub mod signature;
pub mod size;
pub mod source;
pub mod space;
pub mod summary;
mod sweep;
