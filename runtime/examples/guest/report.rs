//! What came out, as lines for `cargo xtask guest`: a word, a tab, fields with tabs between.
//!
//! ```text
//! say     TEXT                              to be shown as it is
//! row     CASE    PROMISED    PAXFS    XFS  a row of the table; no XFS where it has no part in the case
//! failed  TEXT                              why there is no more
//! end     LINES                             all was done, and so many lines of the first two kinds came before
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lines that were sent.
static LINES: AtomicUsize = AtomicUsize::new(0);

/// A line to be shown as it is.
pub fn say(text: &str) {
    send(&format!("say\t{text}"));
}

/// A row of the table.
pub fn row(case: &str, promised: &str, paxfs: &str, xfs: &str) {
    send(&format!("row\t{case}\t{promised}\t{paxfs}\t{xfs}"));
}

/// Why there is no more.
pub fn failed(error: &dyn Error) {
    println!("failed\t{}", error.to_string().replace('\n', "; "));
}

/// That all was done.
pub fn end() {
    println!("end\t{}", LINES.load(Ordering::Relaxed));
}

fn send(line: &str) {
    println!("{line}");
    LINES.fetch_add(1, Ordering::Relaxed);
}
