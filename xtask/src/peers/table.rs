//! What was measured, as a table in Markdown, and its place in the README.

use crate::peers::contest::{Measured, Times, median};
use crate::peers::measure::own_peak;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// One kind of work.
#[derive(Debug)]
pub struct Row {
    /// What was to be done.
    pub work: String,
    /// Who did it; paxfs first.
    pub measured: Vec<Measured>,
    /// Who did not, and why.
    pub skipped: Vec<String>,
}

const HEAD: &str = "| work | tool | median (min – max) | times as long as paxfs | anonymous memory | resident | on the medium |
|---|---|--:|--:|--:|--:|--:|
";

/// The table, what was skipped below it.
pub fn render(rows: &[Row]) -> Result<String> {
    let mut text = String::from(HEAD);
    for row in rows {
        let mut work = row.work.as_str();
        for measured in &row.measured {
            write!(text, "| {work} ")?;
            work = "";
            line(&mut text, measured, row.measured.first())?;
        }
    }
    let skipped: Vec<String> =
        rows.iter().flat_map(|row| row.skipped.iter().map(|why| format!("* {}: {why}", row.work))).collect();
    if !skipped.is_empty() {
        write!(text, "\nNot measured:\n\n{}\n", skipped.join("\n"))?;
    }
    Ok(text)
}

fn line(text: &mut String, measured: &Measured, ours: Option<&Measured>) -> Result<()> {
    let times = &measured.times;
    let walls = times.sorted();
    let (first, last) =
        (walls.first().copied().unwrap_or_default(), walls.last().copied().unwrap_or_default());
    let middle = median(&walls).unwrap_or_default();
    write!(text, "| {} | {} ({} – {}) ", times.name, time(middle), time(first), time(last))?;
    match ours.map(|ours| &ours.times).filter(|ours| ours.name != times.name) {
        Some(ours) => write!(text, "| {} ", ratios(times, ours))?,
        None => write!(text, "| 1 ")?,
    }
    match &measured.memory {
        Some(memory) => {
            let allocated = memory.allocated.map_or_else(|| "–".to_owned(), size);
            let resident = memory.resident.map_or_else(|| format!("≤ {}", size(own_peak())), size);
            writeln!(text, "| {} | {resident} | {allocated} |", size(memory.anonymous))?;
        }
        None => writeln!(text, "| – | – | – |")?,
    }
    Ok(())
}

fn ratios(times: &Times, ours: &Times) -> String {
    let ratios = times.ratios(ours);
    let (first, last) = (ratios.first().copied().unwrap_or(0.0), ratios.last().copied().unwrap_or(0.0));
    format!("{} ({} – {})", ratio(median(&ratios).unwrap_or(0.0)), ratio(first), ratio(last))
}

fn ratio(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..1e-6 => format!("{:.0} ns", seconds * 1e9),
        1e-6..0.0001 => format!("{:.2} µs", seconds * 1e6),
        0.0001..0.01 => format!("{:.2} ms", seconds * 1e3),
        0.01..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

/// Bytes as a person reads them.
pub fn size(bytes: u64) -> String {
    let (kib, mib) = (bytes / 1024, bytes / (1024 * 1024));
    match mib {
        0 => format!("{kib} KiB"),
        1..10 => format!("{mib}.{} MiB", (kib % 1024) * 10 / 1024),
        10..10240 => format!("{mib} MiB"),
        _ => format!("{} GiB", mib / 1024),
    }
}

/// Puts text between the markers of a file: `<!-- peers -->` and `<!-- end peers -->`.
pub fn put(path: &Path, text: &str) -> Result<()> {
    const BEGIN: &str = "<!-- peers -->\n";
    const END: &str = "<!-- end peers -->";
    let whole = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let missing = || format!("{}: no line `{}` with a `{END}` below", path.display(), BEGIN.trim_end());
    let (before, rest) = whole.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    fs::write(path, format!("{before}{BEGIN}{text}{END}{after}"))
        .with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::contest::Memory;

    fn measured(name: &str, milliseconds: &[u64]) -> Measured {
        let walls = milliseconds.iter().copied().map(Duration::from_millis).collect();
        let memory = Memory { anonymous: 1 << 20, resident: Some(300 << 20), allocated: Some(5000) };
        Measured { times: Times { name: name.to_owned(), walls }, memory: Some(memory) }
    }

    #[test]
    fn a_row_has_medians_and_ratios_of_the_same_rounds() {
        let measured = vec![measured("ours", &[10, 20, 30]), measured("theirs", &[40, 20, 90])];
        let row =
            Row { work: "work".to_owned(), measured, skipped: vec!["other is not installed".to_owned()] };
        let text = render(&[row]).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| work | ours | 20 ms (10 ms – 30 ms) | 1 | 1.0 MiB | 300 MiB | 4 KiB |",
                "|  | theirs | 40 ms (20 ms – 90 ms) | 3.00 (1.00 – 4.00) | 1.0 MiB | 300 MiB | 4 KiB |",
                "",
                "Not measured:",
                "",
                "* work: other is not installed",
            ]
        );
    }

    #[test]
    fn the_table_goes_between_its_markers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("README.md");
        fs::write(&path, "a\n<!-- peers -->\nold\n<!-- end peers -->\nb\n").unwrap();
        put(&path, "new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n<!-- peers -->\nnew\n<!-- end peers -->\nb\n");
        fs::write(&path, "a\n").unwrap();
        assert!(put(&path, "new\n").is_err());
    }
}
