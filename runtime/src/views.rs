//! Mapped files: addresses whose loads and stores are the medium. See "Mapped files" in `docs/DESIGN.md`.
//!
//! ```text
//!   a store to a page that is not writable
//!     the file's own, and known to be       door, frame                       at once, in the signal handler
//!     anything else                         gate, inode, groups, frame        by a worker, which may commit
//! ```
//!
//! * [`View`] and what it is made with are for users.
//! * `area` (addresses and the first step), `frame` and `pages` (what each page is), `door` (what a signal handler sees of
//!   the engine), `guard` (mappings and protections), `registry`, `signal` and `request` (from the signal to a worker),
//!   `fault` (what has to be done first), `copy` (shared blocks), `gather` (media mapped by 2 MiB), `clean` (making stores last), `table` (which files have
//!   views, for those who change extent maps).

mod area;
mod clean;
mod copy;
mod door;
mod fault;
mod frame;
mod gather;
mod guard;
mod pages;
mod registry;
mod request;
mod signal;
mod table;
mod view;

pub(crate) use registry::{apart, is_in_view};
pub(crate) use table::Views;
pub use table::{FailedFault, Mechanism};
pub use view::{Pinned, Sharing, View};
