//! Rows without end: printed as they come, so that a million of them take no memory.
//!
//! In JSON the rows are an array, one row a line, and what is known at the end follows under its own keys. In text they
//! are tables of [`BATCH`] rows.

use super::{Format, Output, SCHEMA, Style, Table};
use crate::error::CommandError;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, Stdout, Write};

/// Rows of one table; the next has columns of other widths.
pub const BATCH: u64 = 20_000;

/// Prints rows.
#[derive(Debug)]
pub struct Rows {
    format: Format,
    style: Style,
    columns: &'static [&'static str],
    table: Table,
    count: u64,
    out: BufWriter<Stdout>,
    /// The reader went away: nothing more is printed.
    gone: bool,
}

impl Rows {
    /// Begins with rows under `key`; in text they are a table with these columns (see [`Table::new`]).
    pub fn start(format: Format, key: &str, columns: &'static [&'static str]) -> Result<Self, CommandError> {
        let mut rows = Rows {
            format,
            style: Style::of_stdout(),
            columns,
            table: Table::new(columns),
            count: 0,
            out: BufWriter::with_capacity(1 << 16, std::io::stdout()),
            gone: false,
        };
        match format {
            Format::Text => {}
            Format::Json => rows.print(&format!("{{\"schema\": {SCHEMA}, \"{key}\": [\n"))?,
            Format::Yaml => rows.print(&format!("schema: {SCHEMA}\n{key}:\n"))?,
        }
        Ok(rows)
    }

    /// Prints a row: `value` for programs, `cells` for people. False when nobody reads any more.
    pub fn row(
        &mut self,
        value: &impl Serialize,
        cells: impl FnOnce() -> Vec<String>,
    ) -> Result<bool, CommandError> {
        if self.gone {
            return Ok(false);
        }
        if self.format == Format::Text {
            self.table.row(cells());
        } else {
            let failed = |error| CommandError::Failed(format!("a row cannot be printed: {error}"));
            let json = serde_json::to_string(value).map_err(failed)?;
            // JSON is YAML.
            match (self.format, self.count) {
                (Format::Yaml, _) => self.print(&format!("- {json}\n"))?,
                (_, 0) => self.print(&json)?,
                _ => self.print(&format!(",\n{json}"))?,
            }
        }
        self.count += 1;
        if self.count.is_multiple_of(BATCH) {
            self.print_table()?;
        }
        Ok(!self.gone)
    }

    /// How many rows there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends with what is known now. What is left to be printed of it is whether the command failed.
    pub fn end(mut self, rest: Output) -> Result<Output, CommandError> {
        self.print_table()?;
        match self.format {
            Format::Text => {
                let text = rest.render(Format::Text, self.style)?;
                self.print(&text)?;
            }
            Format::Json => {
                self.print("\n]")?;
                for (key, value) in &rest.data {
                    self.print(&format!(",\n\"{key}\": {value}"))?;
                }
                self.print("}\n")?;
            }
            Format::Yaml => {
                if self.count == 0 {
                    self.print("  []\n")?;
                }
                for (key, value) in &rest.data {
                    self.print(&format!("{key}: {value}\n"))?;
                }
            }
        }
        self.flush()?;
        Ok(Output::new().failure(rest.failure))
    }

    fn print_table(&mut self) -> Result<(), CommandError> {
        if self.format == Format::Text && !self.table.is_empty() {
            let table = std::mem::replace(&mut self.table, Table::new(self.columns));
            self.print(&table.render(self.style))?;
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), CommandError> {
        if !self.gone {
            let written = self.out.write_all(text.as_bytes());
            self.checked(written)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        if !self.gone {
            let flushed = self.out.flush();
            self.checked(flushed)?;
        }
        Ok(())
    }

    fn checked(&mut self, result: std::io::Result<()>) -> Result<(), CommandError> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.gone = true,
            other => other.map_err(CommandError::io("standard output"))?,
        }
        Ok(())
    }
}
