//! Fuzz targets: what must never panic, hang, or take memory out of proportion, whatever bytes it meets.
//!
//! * The targets: [`image_check`], [`journal_replay`], [`field_path`], [`recipe`], [`engine`]. Each is a function of
//!   bytes: what is random is in them, so that bytes reproduce all.
//! * Where bytes come from: libFuzzer (`fuzz_targets/`), or [`generate`], which makes the n-th input of a seed without any
//!   feedback, on stable Rust; `cargo xtask fuzz` runs that, in processes that are watched.
//! * What bytes mean: [`draw`] (numbers from bytes), [`samples`] (small intact volumes), [`damage`] (what becomes of one),
//!   [`tools`] (what is then asked of fsck and dbg).
//!
//! A target asserts nothing but what must hold of *any* input; that is said at each.

pub mod damage;
pub mod draw;
pub mod generate;
pub mod samples;
pub mod tools;

mod engine;
mod field_path;
mod image_check;
mod journal_replay;
mod recipe;

pub use engine::engine;
pub use field_path::field_path;
pub use image_check::{image_check, image_of};
pub use journal_replay::journal_replay;
pub use recipe::recipe;
