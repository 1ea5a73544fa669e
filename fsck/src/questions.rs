//! Questions to whoever sits at the terminal: one for each structure that something is wrong with.

use crate::finding::Finding;
use crate::repair::structure;
use crate::report::line;
use std::io::{self, BufRead, Write};

/// Findings of a structure that a question shows.
const SHOWN: usize = 3;

/// What was answered so far.
pub(crate) struct Questions {
    /// Yes to all that is left.
    all: bool,
}

impl Questions {
    pub fn new() -> Self {
        Questions { all: false }
    }

    /// Who asks, and gives the answer.
    pub fn asker(&mut self) -> impl FnMut(&[&Finding]) -> bool {
        |findings| {
            if self.all {
                return true;
            }
            let mut to = io::stdout();
            for finding in findings.iter().take(SHOWN) {
                let _ = writeln!(to, "  {}", line(finding));
            }
            if let Some(more) = findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                let _ = writeln!(to, "  and {more} more");
            }
            let structure = findings.first().map(|one| structure(&one.at)).unwrap_or_default();
            let _ = write!(to, "repair {structure}? (yes, no, all) [yes] ").and_then(|()| to.flush());
            let mut answer = String::new();
            // When nobody answers any more, nothing more is done.
            if !matches!(io::stdin().lock().read_line(&mut answer), Ok(1..)) {
                return false;
            }
            match answer.trim().chars().next() {
                Some('n' | 'N') => false,
                Some('a' | 'A') => {
                    self.all = true;
                    true
                }
                _ => true,
            }
        }
    }
}
