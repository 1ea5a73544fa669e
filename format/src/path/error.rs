//! Why a path names nothing.

use crate::device::MediumError;
use crate::field::path::PathError;
use crate::names::ResolveError;
use crate::volume::StructureFault;

/// Why a path names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not written as a path is, or wrong within a structure.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A name that is not known there.
    #[error("{}{}", unknown(.at, .name), choice(.expected))]
    Unknown {
        /// The path up to there; empty at its start.
        at: String,
        /// The name; empty at the path's end.
        name: String,
        /// What there is.
        expected: Vec<String>,
    },
    /// No index, or one of another kind, where it is needed.
    #[error("`{text}`: {expected} expected")]
    Index {
        /// The path up to there.
        text: String,
        /// What should be there.
        expected: &'static str,
    },
    /// A number past the end.
    #[error("`{text}` does not exist: {}", existing(*.limit))]
    PastEnd {
        /// The path up to there.
        text: String,
        /// How many there are.
        limit: u64,
    },
    /// No such node, record, entry or block: the tree or the entries do not reach that far, or are broken before it.
    #[error("`{text}` is not there: {why}")]
    Missing {
        /// The path up to there.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// A block number that no device has.
    #[error("there is no block {block}")]
    NoBlock {
        /// The number.
        block: u64,
    },
    /// A file's path leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The structure on the way cannot be had.
    #[error(transparent)]
    Structure(#[from] StructureFault),
    /// The device ends before that.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

impl TargetError {
    /// The names that could stand where the wrong one does; for completion.
    pub fn expected(&self) -> &[String] {
        match self {
            TargetError::Unknown { expected, .. } => expected,
            _ => &[],
        }
    }
}

fn unknown(at: &str, name: &str) -> String {
    match (at, name) {
        ("", name) => format!("a path cannot begin with `{name}`"),
        (at, "") => format!("`{at}` is no field by itself"),
        (at, name) => format!("no `{name}` in `{at}`"),
    }
}

fn choice(expected: &[String]) -> String {
    if expected.is_empty() {
        "; it has no parts".to_owned()
    } else {
        format!("; there is: {}", expected.join(", "))
    }
}

fn existing(limit: u64) -> String {
    match limit.checked_sub(1) {
        None => "there is none".to_owned(),
        Some(0) => "there is only 0".to_owned(),
        Some(last) => format!("there are 0 to {last}"),
    }
}
