//! How findings and the summary are printed: as text, or as JSON lines.

use crate::context::PASSES;
use crate::exit::Exit;
use crate::finding::{Code, Files, Finding};
use crate::repair::Action;
use crate::severity::Severity;
use crate::summary::Summary;
use paxfs_format::words::counted;
use serde_json::json;
use std::io::{self, Write};

/// Names of the passes, as they are shown.
pub const PASS_NAMES: [&str; PASSES] = ["superblocks", "space", "inodes", "directories", "contents"];

/// Prints a report.
pub struct Report<W> {
    to: W,
    json: bool,
    color: bool,
}

/// A finding as one line of text, without its end.
pub fn line(finding: &Finding) -> String {
    format!("{} at {}: {}{}", finding.code(), finding.at, finding.problem, files(&finding.files))
}

/// The files that are hit, in brackets.
fn files(files: &Files) -> String {
    if files.first.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = files
        .first
        .iter()
        .map(|file| match file.offset {
            Some(offset) => format!("{} at byte {offset}", file.path),
            None => file.path.clone(),
        })
        .collect();
    match files.more {
        0 => format!(" ({})", shown.join(", ")),
        more => format!(" ({} and {more} more)", shown.join(", ")),
    }
}

impl<W: Write> Report<W> {
    /// A report to `to`.
    pub fn new(to: W, json: bool, color: bool) -> Self {
        Report { to, json, color }
    }

    /// Prints a finding.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        if self.json {
            return writeln!(self.to, "{}", finding.to_json());
        }
        let text = line(finding);
        match (self.color, finding.severity()) {
            (true, Severity::Loss | Severity::Fatal) => writeln!(self.to, "\x1b[31m{text}\x1b[0m"),
            (true, Severity::Damage) => writeln!(self.to, "\x1b[33m{text}\x1b[0m"),
            _ => writeln!(self.to, "{text}"),
        }
    }

    /// Prints what a repair does, or would do.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn action(&mut self, action: &Action) -> io::Result<()> {
        if self.json {
            return writeln!(self.to, "{}", action.to_json());
        }
        match (self.color, action.loses()) {
            (true, true) => writeln!(self.to, "\x1b[31m{}\x1b[0m", action.line()),
            _ => writeln!(self.to, "{}", action.line()),
        }
    }

    /// Prints the summary: what was found, and if asked what was checked and what it cost.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn summary(
        &mut self,
        device: &str,
        summary: &Summary,
        exit: Exit,
        counts: bool,
        costs: bool,
    ) -> io::Result<()> {
        if self.json {
            let mut object = summary.to_json(device, exit);
            if costs && let Some(object) = object.as_object_mut() {
                let passes = PASS_NAMES.iter().zip(&summary.passes);
                let passes: Vec<_> = passes
                    .map(|(name, usage)| {
                        let mut pass = json!({ "pass": name });
                        if let (Some(pass), Ok(usage)) = (pass.as_object_mut(), serde_json::to_value(usage)) {
                            pass.extend(usage.as_object().cloned().unwrap_or_default());
                        }
                        pass
                    })
                    .collect();
                object.insert("passes".to_owned(), passes.into());
            }
            return writeln!(self.to, "{object}");
        }
        if counts {
            writeln!(
                self.to,
                "{device}: {}, {}; {}, {} of them directories; {} (entries, attributes, parent pointers); {}",
                counted(summary.groups, "group"),
                counted(summary.blocks, "block"),
                counted(summary.inodes, "inode"),
                summary.directories,
                counted(summary.entries, "name"),
                counted(summary.extents, "extent")
            )?;
        }
        if costs {
            self.costs(summary)?;
        }
        for what in &summary.unchecked {
            writeln!(self.to, "{device}: not checked: {what}")?;
        }
        let total: u64 = summary.severities.values().sum();
        if total == 0 {
            return writeln!(self.to, "{device}: clean");
        }
        let parts = summary.severities.iter().rev().map(|(severity, count)| format!("{count} {severity}"));
        let parts: Vec<String> = parts.collect();
        let done = Exit::CORRECTED.code();
        let verdict = match exit.code() {
            _ if summary.is_clean() => "clean",
            code if code & done != 0 && code & Exit::UNCORRECTED.code() == 0 => "REPAIRED",
            _ => "NOT CLEAN",
        };
        let plural = if total == 1 { "finding" } else { "findings" };
        writeln!(self.to, "{device}: {verdict}, {total} {plural}: {}", parts.join(", "))
    }

    fn costs(&mut self, summary: &Summary) -> io::Result<()> {
        for (number, (name, usage)) in PASS_NAMES.iter().zip(&summary.passes).enumerate() {
            writeln!(
                self.to,
                "pass {}  {name:<12} {:>8.3} s wall {:>8.3} s cpu {:>8.1} MiB anonymous {:>9.1} MiB read",
                number.saturating_add(1),
                usage.wall_seconds,
                usage.cpu_seconds,
                mib(usage.anonymous_bytes),
                mib(usage.read_bytes),
            )?;
        }
        Ok(())
    }

    /// Prints what a code means.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn explain(&mut self, code: &Code) -> io::Result<()> {
        let text: Vec<&str> = code.explain.split_whitespace().collect();
        let text = text.join(" ");
        if self.json {
            let Code { code, severity, fields, .. } = code;
            let object =
                json!({ "schema": 1, "code": code, "severity": severity, "fields": fields, "explain": text });
            return writeln!(self.to, "{object}");
        }
        writeln!(self.to, "{} ({})", code.code, code.severity)?;
        let mut line = String::from("   ");
        for word in text.split(' ') {
            if line.len() + 1 + word.len() > 100 {
                writeln!(self.to, "{line}")?;
                line = String::from("   ");
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(self.to, "{line}")
    }

    /// Writes out what waits in buffers.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::AffectedFile;
    use crate::problem::Problem;

    #[test]
    fn a_finding_is_one_line() {
        let mut finding = Finding::new("free[0].root", Problem::FreeMissing { block: 9, blocks: 1 });
        assert_eq!(
            line(&finding),
            "PX-FREE-MISSING at free[0].root: not in the free-space tree, but nobody's: 1 block from block 9 on"
        );
        finding.files.first = vec![AffectedFile { inode: 64, offset: Some(4096), path: "/a/b".to_owned() }];
        finding.files.more = 2;
        assert!(line(&finding).ends_with("from block 9 on (/a/b at byte 4096 and 2 more)"));
    }

    #[test]
    fn json_has_the_fields() {
        let finding = Finding::new("free[0].root", Problem::FreeMissing { block: 9, blocks: 1 });
        let mut to = Vec::new();
        Report::new(&mut to, true, false).finding(&finding).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&to).unwrap();
        assert_eq!(value["code"], "PX-FREE-MISSING");
        assert_eq!(value["severity"], "notice");
        assert_eq!((&value["block"], &value["schema"]), (&9.into(), &1.into()));
    }
}
