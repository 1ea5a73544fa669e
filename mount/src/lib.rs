//! Serves a volume to the kernel by FUSE, so that it is files for every program there is.
//!
//! * The command: [`cli`] and [`options`] (what `mount(8)` passes), [`run`] (what is refused, in which order things are
//!   done), `daemon` (who tells the user, and when), `end` (how it ends), [`log`] (who is told later), [`fuse`] (what the
//!   kernel has to offer).
//! * The volume: [`volume`] (opened, closed), `lookups` (what the kernel knows by number), `handles` (open files).
//! * What the kernel asks: `server` (each request, in the kernel's words), and what is more than a call of the engine:
//!   `names` (making files), `attributes`, `acl`, `privileges`, `data` (space, copies that share), `directory`, `flags`;
//!   [`fault`] (what is answered when it fails).
//!
//! The crate knows FUSE and POSIX, and nothing of the format: all that is done to a volume the engine does.

mod acl;
mod attributes;
pub mod cli;
mod daemon;
mod data;
mod directory;
mod end;
pub mod fault;
mod flags;
pub mod fuse;
mod handles;
pub mod log;
mod lookups;
mod names;
pub mod options;
mod privileges;
pub mod run;
mod server;
pub mod volume;
