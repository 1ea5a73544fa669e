//! What a command could not read: said at once, counted, and the first ones kept. A broken volume can have millions.

use crate::PROGRAM;
use std::fmt::Display;

/// Most that are said and kept.
pub const MAX_KEPT: usize = 200;

/// Faults of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    count: u64,
    kept: Vec<String>,
}

impl Faults {
    /// Notes one, and says it on standard error.
    pub fn note(&mut self, fault: impl Display) {
        self.count += 1;
        if self.kept.len() < MAX_KEPT {
            let fault = fault.to_string();
            eprintln!("{PROGRAM}: {fault}");
            self.kept.push(fault);
        } else if self.count == MAX_KEPT as u64 + 1 {
            eprintln!("{PROGRAM}: further faults are only counted");
        }
    }

    /// The first ones.
    pub fn kept(&self) -> &[String] {
        &self.kept
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The message with which the command fails, if there were any.
    pub fn failure(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some("1 structure could not be read: the answer may lack something".to_owned()),
            count => Some(format!("{count} structures could not be read: the answer may lack something")),
        }
    }
}
