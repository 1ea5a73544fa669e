//! Paths of fields: `header.crc`, `devices[3].blocks`, `payload[16..24]`.
//!
//! A path is segments with dots between them; a segment is a name and any indices in brackets: a number, a range
//! `first..end` without its end, or an absolute path of a file up to the closing bracket (`\]`, `\\` and `\xNN` stand
//! for what could not be written otherwise). [`parse`] knows no more than that, so that whoever knows which structures
//! there are resolves the first segments itself and leaves the rest to [`resolve`].

use crate::declare::{Kind, Layout, Style};
use crate::field::text::{escape, unescape};
use crate::field::value::Value;
use core::fmt;
use core::ops::Range;

/// Longest path in bytes. A file's path of 4096 bytes can take four times that, escaped.
pub const MAX_TEXT: usize = 20_000;
/// Most segments of a path, and most indices of a segment.
pub const MAX_DEPTH: usize = 16;

/// A part of a path between dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name: lower-case letters, digits and `_`, not beginning with a digit.
    pub name: String,
    /// What follows in brackets.
    pub indices: Vec<Index>,
}

/// What is in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Index {
    /// A number.
    Number(u64),
    /// From the first number up to the second, which is not part of it.
    Range(u64, u64),
    /// An absolute path of a file.
    Path(Vec<u8>),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.indices.iter().try_for_each(|index| index.fmt(f))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Index::Number(number) => write!(f, "[{number}]"),
            Index::Range(first, end) => write!(f, "[{first}..{end}]"),
            Index::Path(path) => {
                let mut text = String::new();
                escape(&mut text, path, ']');
                write!(f, "[{text}]")
            }
        }
    }
}

/// A path that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too long to be one.
    #[error("the path is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Too many segments or indices.
    #[error("the path has more than {MAX_DEPTH} parts")]
    TooDeep,
    /// Not written as a path is.
    #[error("at byte {at} of the path: {expected} expected")]
    Syntax {
        /// Offset of what cannot stand there.
        at: usize,
        /// What could.
        expected: &'static str,
    },
    /// The structure has no such field.
    #[error("no field `{name}` in {layout}; it has: {fields}")]
    NoField {
        /// As written.
        name: String,
        /// Where it was looked for.
        layout: String,
        /// What there is.
        fields: String,
    },
    /// A name behind a field that has no fields.
    #[error("`{field}` has no fields, so no `{name}`")]
    NotStruct {
        /// The field.
        field: String,
        /// The name.
        name: String,
    },
    /// An index behind a field that has no elements.
    #[error("`{field}` has no elements to index")]
    NotArray {
        /// The field.
        field: String,
    },
    /// An index past the end.
    #[error("`{field}` has elements 0 to {last}, so no {index}")]
    PastEnd {
        /// The field.
        field: String,
        /// As written, with its brackets.
        index: String,
        /// Number of the last element.
        last: usize,
    },
}

/// The segments of a path.
pub fn parse(text: &str) -> Result<Vec<Segment>, PathError> {
    if text.len() > MAX_TEXT {
        return Err(PathError::TooLong);
    }
    let mut parser = Parser { text, rest: text };
    let mut segments = vec![parser.segment()?];
    while !parser.rest.is_empty() {
        parser.take(".", "`.`, `[` or the end")?;
        segments.push(parser.segment()?);
        if segments.len() > MAX_DEPTH {
            return Err(PathError::TooDeep);
        }
    }
    Ok(segments)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn expected(&self, expected: &'static str) -> PathError {
        PathError::Syntax { at: self.text.len() - self.rest.len(), expected }
    }

    fn take(&mut self, token: &str, expected: &'static str) -> Result<(), PathError> {
        self.rest = self.rest.strip_prefix(token).ok_or_else(|| self.expected(expected))?;
        Ok(())
    }

    /// The longest start of the rest of which each character fits; it goes on behind.
    fn while_fits(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn segment(&mut self) -> Result<Segment, PathError> {
        if !self.rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
            return Err(self.expected("a name"));
        }
        let name = self.while_fits(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_').to_owned();
        let mut indices = Vec::new();
        while self.rest.starts_with('[') {
            if indices.len() == MAX_DEPTH {
                return Err(PathError::TooDeep);
            }
            self.take("[", "`[`")?;
            indices.push(self.index()?);
        }
        Ok(Segment { name, indices })
    }

    fn index(&mut self) -> Result<Index, PathError> {
        if self.rest.starts_with('/') {
            let (path, rest) = unescape(self.rest, ']')
                .ok_or_else(|| self.expected("a path and `]` (escapes: \\] \\\\ \\xNN)"))?;
            self.rest = rest;
            return Ok(Index::Path(path));
        }
        let first = self.number()?;
        let index = if self.rest.starts_with("..") {
            self.take("..", "`..`")?;
            Index::Range(first, self.number()?)
        } else {
            Index::Number(first)
        };
        self.take("]", "`]`")?;
        Ok(index)
    }

    fn number(&mut self) -> Result<u64, PathError> {
        let wrong = self.expected("a number below 2^64");
        self.while_fits(|c| c.is_ascii_digit()).parse().map_err(|_| wrong)
    }
}

/// A field of a structure, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRef {
    /// Its offset in bytes from the structure's start.
    pub offset: usize,
    /// What its bytes mean.
    pub kind: Kind,
    /// Its path in the structure; empty for the structure as a whole.
    pub name: String,
    /// Its meaning, as in the declaration's doc comment.
    pub doc: &'static str,
}

/// The field that `path` names in a structure; the structure as a whole when it is empty.
///
/// An element of bytes is a number of one byte, a range of them shorter bytes.
///
/// ```
/// use paxfs_format::{declare::OnDisk, field::path, inode::Inode};
/// let segments = path::parse("data.tree.height").unwrap();
/// assert_eq!(path::resolve(&Inode::LAYOUT, &segments).unwrap().offset, 168);
/// ```
pub fn resolve(layout: &'static Layout, path: &[Segment]) -> Result<FieldRef, PathError> {
    let mut field = FieldRef::whole(layout);
    for segment in path {
        field = field.named(&segment.name)?;
        for index in &segment.indices {
            field = field.indexed(index)?;
        }
    }
    Ok(field)
}

impl FieldRef {
    /// The structure itself.
    pub fn whole(layout: &'static Layout) -> Self {
        FieldRef { offset: 0, kind: Kind::Struct(layout), name: String::new(), doc: layout.doc }
    }

    /// Its bytes in those of the structure; `None` when they are too few.
    pub fn bytes<'a>(&self, structure: &'a [u8]) -> Option<&'a [u8]> {
        structure.get(self.offset..)?.get(..self.kind.size())
    }

    /// Its bytes in those of the structure, to change; `None` when they are too few.
    pub fn bytes_mut<'a>(&self, structure: &'a mut [u8]) -> Option<&'a mut [u8]> {
        structure.get_mut(self.offset..)?.get_mut(..self.kind.size())
    }

    /// What it holds; `None` when the structure's bytes are too few.
    pub fn value<'a>(&self, structure: &'a [u8]) -> Option<Value<'a>> {
        Value::read(&self.kind, self.bytes(structure)?)
    }

    /// Fields of a structure or elements of an array; none of what has no parts.
    pub fn children(&self) -> Vec<FieldRef> {
        match self.kind {
            Kind::Struct(layout) => layout.fields.iter().map(|field| self.child(field)).collect(),
            Kind::Array(_, count) => (0..count).filter_map(|i| self.element(i)).collect(),
            _ => Vec::new(),
        }
    }

    fn child(&self, field: &'static crate::declare::Field) -> FieldRef {
        let dot = if self.name.is_empty() { "" } else { "." };
        FieldRef {
            offset: self.offset + field.offset,
            kind: field.kind,
            name: format!("{}{dot}{}", self.name, field.name),
            doc: field.doc,
        }
    }

    /// Kind and number of its elements.
    fn elements(&self) -> Option<(Kind, usize)> {
        match self.kind {
            Kind::Array(element, count) => Some((*element, count)),
            Kind::Bytes(count) | Kind::Text(count) | Kind::Reserved(count) => {
                Some((Kind::Integer { size: 1, style: Style::Hex }, count))
            }
            _ => None,
        }
    }

    fn element(&self, index: usize) -> Option<FieldRef> {
        let (kind, _) = self.elements().filter(|(_, count)| index < *count)?;
        let offset = self.offset + index * kind.size();
        Some(FieldRef { offset, kind, name: format!("{}[{index}]", self.name), doc: self.doc })
    }

    /// Some of its elements, at least one.
    pub(super) fn range(&self, range: Range<usize>) -> Option<FieldRef> {
        let (element, count) = self.elements()?;
        let length = range.end.checked_sub(range.start).filter(|&length| length > 0 && range.end <= count)?;
        let kind = match self.kind {
            Kind::Array(element, _) => Kind::Array(element, length),
            Kind::Reserved(_) => Kind::Reserved(length),
            _ => Kind::Bytes(length),
        };
        Some(FieldRef {
            offset: self.offset + range.start * element.size(),
            kind,
            name: format!("{}[{}..{}]", self.name, range.start, range.end),
            doc: self.doc,
        })
    }

    fn named(&self, name: &str) -> Result<FieldRef, PathError> {
        let Kind::Struct(layout) = self.kind else {
            return Err(PathError::NotStruct { field: self.name.clone(), name: name.to_owned() });
        };
        layout.field(name).map(|field| self.child(field)).ok_or_else(|| PathError::NoField {
            name: name.to_owned(),
            layout: layout.name.to_owned(),
            fields: layout.fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", "),
        })
    }

    fn indexed(&self, index: &Index) -> Result<FieldRef, PathError> {
        let not_array = || PathError::NotArray { field: self.name.clone() };
        let (_, count) = self.elements().ok_or_else(not_array)?;
        let number = |number: &u64| usize::try_from(*number).ok();
        let found = match index {
            Index::Number(i) => number(i).and_then(|i| self.element(i)),
            Index::Range(first, end) => {
                number(first).zip(number(end)).and_then(|(first, end)| self.range(first..end))
            }
            Index::Path(_) => None,
        };
        found.ok_or_else(|| PathError::PastEnd {
            field: self.name.clone(),
            index: index.to_string(),
            last: count.saturating_sub(1),
        })
    }
}
