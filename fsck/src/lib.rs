//! fsck.paxfs: checks a paxfs volume, whole, both ways, in little memory; and repairs it.
//!
//! * The specification: [`problem`] (everything that can be found), [`severity`], [`finding`] (what, where, whom it hits).
//! * The check: [`check`] (pass after pass), `summary` (what it comes to), `usage` (what it costs).
//! * Pass 1: `superblocks`, `misfit`, `journal`, `groups`. Pass 2: `groups`, `space`, `sweep`; `claims` and `bitmap` without
//!   reverse map.
//!   Pass 3: `inodes`, `inode`, `extents`, `entries` and `body`, `values`. Pass 4: `directories`. Pass 5: `sums`.
//! * Proofs and what follows when one fails: `multiset`, `observe`, `differences`; `naming`, `judge`, `patch`, `alarms`,
//!   `runs` and `space_naming` for space, `names_naming` for names; `doubts` says what neither side knows.
//! * Beneath: `context` (what passes share), `trees` (walks), `pool` (threads), `structures` (words).
//! * Repair: [`repair`] (rounds of checking and of putting right, in memory), `questions`.
//! * Writing: `medium` (what is stored to), `rehearsal`, `replay` (and marking clean), `write` (a repair), `undo_file` and
//!   `undo`; [`crash`] for tests of all these.
//! * The tool: [`cli`], [`report`], `progress`, [`exit`], [`run`].
//!
//! The check neither prints nor ends the process, changes nothing on the device, and reports everything it finds through
//! one callback, in the same order every time.

mod alarms;
mod bitmap;
mod body;
mod check;
mod claims;
pub mod cli;
mod context;
pub mod crash;
mod differences;
mod directories;
mod doubts;
mod entries;
mod error;
pub mod exit;
mod extents;
pub mod finding;
mod groups;
mod inode;
mod inodes;
mod journal;
mod judge;
mod medium;
mod misfit;
mod multiset;
mod names_naming;
mod naming;
mod observe;
mod patch;
mod pool;
pub mod problem;
mod progress;
mod questions;
mod rehearsal;
pub mod repair;
mod replay;
pub mod report;
pub mod run;
mod runs;
pub mod severity;
mod space;
mod space_naming;
mod structures;
mod summary;
mod sums;
mod superblocks;
mod sweep;
mod trees;
mod undo;
mod undo_file;
mod usage;
mod values;
mod write;

pub use check::{Options, Progress, check, check_image};
pub use context::PASSES;
pub use error::Error;
pub use finding::Finding;
pub use summary::Summary;
pub use undo::{Undone, put_back, undo};
pub use undo_file::UndoFault;
pub use usage::{Usage, anonymous_bytes};
pub use write::{Log, Repair, Written, transaction, write};
