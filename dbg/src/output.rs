//! The one way results are shown: text and tables for people, JSON and YAML for programs.
//!
//! A command gives both: the text parts in their order, and the data under its keys. `"schema": 1` is put in front of
//! the data here, and nowhere else.

mod rows;

pub use rows::Rows;

use crate::error::CommandError;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, presets};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{ErrorKind, IsTerminal, Write};

/// Version of what `-J` and `-Y` print.
pub const SCHEMA: u64 = 1;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The result of a command.
#[derive(Debug, Default)]
pub struct Output {
    parts: Vec<Part>,
    data: Map<String, Value>,
    failure: Option<String>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Table(Table),
}

impl Output {
    /// No result yet. A command that prints bytes itself leaves it at that.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds lines of text. A line break at the end is put there if there is none.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.parts.push(Part::Table(table));
        self
    }

    /// Adds data under a key, in lower case. What cannot be data (a map whose keys are no strings) becomes null.
    #[must_use]
    pub fn data(mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Self {
        self.data.insert(key.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
        self
    }

    /// Says what is wrong with the thing shown, which for a debugger is a result like others.
    #[must_use]
    pub fn fault(self, fault: Option<String>) -> Self {
        let output = self.data("fault", &fault);
        match fault {
            Some(fault) => output.text(format!("fault: {fault}")),
            None => output,
        }
    }

    /// Says that the result is not all there is: it is printed, and then the command has failed with this message.
    #[must_use]
    pub fn failure(mut self, message: Option<String>) -> Self {
        self.failure = message;
        self
    }

    /// The data, with the schema's version in front; `None` when the command has none.
    pub fn to_value(&self) -> Option<Value> {
        if self.data.is_empty() {
            return None;
        }
        let mut all = Map::new();
        all.insert("schema".to_owned(), SCHEMA.into());
        all.extend(self.data.iter().map(|(key, value)| (key.clone(), value.clone())));
        Some(Value::Object(all))
    }

    /// As it is printed. Tables are as wide as they need when `width` is none.
    pub fn render(&self, format: Format, style: Style) -> Result<String, CommandError> {
        let failed = |error: &dyn std::fmt::Display| {
            CommandError::Failed(format!("the result cannot be printed: {error}"))
        };
        match (format, self.to_value()) {
            (Format::Json, Some(value)) => {
                serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(|error| failed(&error))
            }
            (Format::Yaml, Some(value)) => serde_yaml::to_string(&value).map_err(|error| failed(&error)),
            (Format::Json | Format::Yaml, None) => Ok(String::new()),
            (Format::Text, _) => Ok(self.parts.iter().map(|part| part.render(style)).collect()),
        }
    }

    /// Prints it on standard output. A reader that went away is no failure.
    pub fn print(&self, format: Format) -> Result<(), CommandError> {
        print_bytes(self.render(format, Style::of_stdout())?.as_bytes())?;
        self.failure.as_ref().map_or(Ok(()), |message| Err(CommandError::Failed(message.clone())))
    }
}

/// Prints bytes on standard output. A reader that went away is no failure.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CommandError::Io { what: "standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Columns that a table may take; as many as it needs when none.
    pub width: Option<u16>,
    /// Whether table heads are bold.
    pub bold: bool,
}

impl Style {
    /// What suits standard output: plain unless it is a terminal, no attributes with `NO_COLOR`.
    pub fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::default();
        }
        // A terminal that does not know its width says 0; on a very narrow one wrapped lines read better than cells.
        let width = comfy_table::Table::new().width().filter(|width| *width >= 60);
        let bold = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { width, bold }
    }
}

/// On which side of its column a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    head: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A name that begins with `#` is that of numbers, on the right side, without the `#`.
    pub fn new(columns: &[&'static str]) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('#') {
            Some(name) => (name, Side::Right),
            None => (*name, Side::Left),
        };
        Table { head: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn render(&self, style: Style) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        match style.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if !style.bold {
            table.force_no_tty();
        }
        table.set_header(self.head.iter().map(|(name, _)| {
            let cell = Cell::new(name);
            if style.bold { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        for row in &self.rows {
            table.add_row(row);
        }
        for (column, (_, side)) in table.column_iter_mut().zip(&self.head) {
            column.set_padding((0, 2));
            if *side == Side::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

impl Part {
    fn render(&self, style: Style) -> String {
        match self {
            Part::Text(text) if text.is_empty() || text.ends_with('\n') => text.clone(),
            Part::Text(text) => format!("{text}\n"),
            Part::Table(table) => table.render(style),
        }
    }
}
