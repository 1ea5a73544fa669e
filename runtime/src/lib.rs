//! The paxfs engine: crash-consistent files with copy-on-write, reflink and dedupe, on a medium that is stored to
//! through its mapping.
//!
//! ```
//! use paxfs_runtime::engine::{Dax, Engine, Options};
//! use paxfs_runtime::file::Open;
//! use paxfs_runtime::namespace::New;
//! use paxfs_runtime::snapshot::Access;
//! use paxfs_runtime::views::Sharing;
//! # use paxfs_format::{device::Device, geometry::Geometry, time::Timestamp, units::Uuid};
//! # use paxfs_mkfs::{builder::Builder, options};
//! # let mut device = Device::memory(vec![0; 16 << 20]);
//! # let made = options::Options::new(
//! #     Geometry::choose(device.len(), None, false)?, Default::default(), Uuid([1; 16]), Timestamp::new(0, 0));
//! # let mut builder = Builder::new(&mut device, made, true)?;
//! # let root = paxfs_mkfs::run::empty(&mut builder)?;
//! # builder.finish(root)?;
//! let options = Options { dax: Dax::Always, ..Options::default() };
//! let engine = Engine::on(device, options)?; // or Engine::open(path, options)
//! let root = engine.root();
//!
//! let original = engine.open_file(engine.create(root, b"original", &New::default())?, Open::WRITE)?;
//! original.write_at(0, &[7; 8192])?;
//!
//! // A clone shares the blocks; a write to it copies one.
//! let copy = engine.open_file(engine.create(root, b"copy", &New::default())?, Open::WRITE)?;
//! copy.clone_range(0, &original, 0, 0)?;
//! copy.write_at(100, b"changed")?;
//!
//! let mut bytes = [0; 7];
//! original.read_at(100, &mut bytes)?;
//! assert_eq!(bytes, [7; 7]);
//!
//! // A view is loads and stores of the medium itself, where that is memory or a file: see `View::address`.
//! let view = copy.map(0..8192, Sharing::Shared)?;
//! view.store(4096, b"stored")?;
//! engine.snapshot(root, root, b"yesterday", Access::ReadOnly)?; // of all files, at one instant
//! view.store(4096, b"again")?; // copies what the snapshot shares
//! engine.sync()?; // durable from here on
//! # drop((view, original, copy));
//! engine.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * For users: [`engine`] (open, sync, close), [`namespace`] (names), [`mod@file`] (data, space, what is known of an
//!   inode), [`attributes`] (extended attributes), [`share`] (clone, dedupe), [`snapshot`], [`views`] (mapped files),
//!   [`freeze`], [`hold`] (inodes known by number), [`media`] (media errors), [`error`].
//! * Below: `core` (what operations share, and joining transactions), `commit` and `homes` (making them durable), `recover`
//!   (what a crash left), `shadow` (large ones), `locks` (their order), `rename`, `orphans`, `data`, `counts`, `map`,
//!   `entries`, `values` and `fork` (what operations change), [`inodes`], [`space`] and [`pages`] (what is in memory),
//!   `sound` (what is believed), [`edit`] (changing trees), [`medium`] (stores and their order).
//!
//! How it commits and recovers, and why that is right, is in `docs/DESIGN.md`.

pub mod attributes;
mod below;
mod close;
mod commit;
mod core;
mod counts;
mod data;
pub mod edit;
pub mod engine;
mod entries;
pub mod error;
pub mod file;
mod fork;
pub mod freeze;
pub mod hold;
mod homes;
pub mod inodes;
mod locks;
mod map;
pub mod media;
pub mod medium;
pub mod namespace;
mod orphans;
pub mod pages;
mod recover;
mod rename;
mod shadow;
pub mod share;
pub mod snapshot;
mod sound;
pub mod space;
mod trees;
mod values;
pub mod views;
