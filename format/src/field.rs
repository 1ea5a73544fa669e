//! Everything that follows from a structure's one declaration: it works on a [`Layout`](crate::declare::Layout) and
//! bytes, and knows no structure by name.
//!
//! * [`value`]: what a field holds, for people ([`value::rows`]) and for JSON and YAML ([`value::Fields`]).
//! * [`path`]: which field a path such as `devices[3].blocks` names.
//! * [`edit`]: storing a value given as text, and damaging a field with a verb.
//! * [`diff`]: where two instances of one structure differ.
//! * [`doc`]: the tables of `docs/FORMAT.md`, and the list of all structures.
//!
//! What is printed can be pasted back: a row's path is one that [`path::resolve`] takes, and its value one that
//! [`edit::set`] takes and that gives the same bytes.

pub mod diff;
pub mod doc;
pub mod edit;
pub mod path;
mod text;
pub mod value;
