//! What a field holds, read through its kind; shown in rows for people, and serialized for programs.
//!
//! Serialized, a structure is a map from the names of its fields: numbers are plain, whatever their style; a value
//! with a name is that name (one without is the number), a set of flags the list of their names (bits without a name
//! are one number at its end); uuids, texts and bytes are strings, bytes in hexadecimal; what is not UTF-8 in a text
//! is replaced. Reserved bytes appear when they are not zero.

use crate::declare::{Field, Kind, Layout, OnDisk, Style};
use crate::field::path::FieldRef;
use crate::field::text::{escape, hex};
use crate::units::Uuid;
use core::fmt;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A structure where it lies: its layout over its bytes.
///
/// ```
/// use paxfs_format::{declare::OnDisk, extent::Extent, field::value::Fields};
/// let fields = Fields::of(&Extent { offset: 7.into(), ..Extent::zeroed() }).to_string();
/// assert_eq!(fields, "{offset: 7, start: 0, length: 0, flags: 0}");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    layout: &'static Layout,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The structure at the start of `bytes`; `None` when they are fewer than it has.
    pub fn new(layout: &'static Layout, bytes: &'a [u8]) -> Option<Self> {
        bytes.get(..layout.size).map(|bytes| Fields { layout, bytes })
    }

    /// A structure in memory.
    pub fn of<T: OnDisk>(structure: &'a T) -> Self {
        Fields { layout: const { &<T as OnDisk>::LAYOUT }, bytes: structure.as_bytes() }
    }

    /// Its layout.
    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// Its fields with what they hold, in the order of their offsets.
    pub fn values(self) -> impl Iterator<Item = (&'static Field, Value<'a>)> {
        self.layout.fields.iter().filter_map(move |field| {
            let value = Value::read(&field.kind, self.bytes.get(field.offset..)?)?;
            Some((field, value))
        })
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Integer(Integer),
    /// Bytes without further meaning.
    Bytes(&'a [u8]),
    /// Text without the zero bytes behind it.
    Text(&'a [u8]),
    /// A UUID.
    Uuid([u8; 16]),
    /// Bytes that should be zero.
    Reserved(&'a [u8]),
    /// A structure.
    Struct(Fields<'a>),
    /// Elements of one kind.
    Array(Elements<'a>),
}

/// A number, with what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// Its bits, the upper ones zero.
    pub bits: u64,
    /// Its size in bytes, 1 to 8.
    pub size: usize,
    /// How it is printed.
    pub style: Style,
}

/// The elements of an array where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements<'a> {
    kind: &'static Kind,
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Each element.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        self.bytes.chunks_exact(self.kind.size().max(1)).filter_map(|bytes| Value::read(self.kind, bytes))
    }
}

impl<'a> Value<'a> {
    /// What the start of `bytes` holds; `None` when they are fewer than the kind has.
    pub fn read(kind: &Kind, bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..kind.size())?;
        Some(match *kind {
            Kind::Integer { size, style } => {
                Value::Integer(Integer { bits: little_endian(bytes), size, style })
            }
            Kind::Bytes(_) => Value::Bytes(bytes),
            Kind::Text(_) => {
                let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                Value::Text(bytes.get(..end)?)
            }
            Kind::Uuid => Value::Uuid(bytes.try_into().ok()?),
            Kind::Reserved(_) => Value::Reserved(bytes),
            Kind::Struct(layout) => Value::Struct(Fields { layout, bytes }),
            Kind::Array(kind, _) => Value::Array(Elements { kind, bytes }),
        })
    }
}

/// The number that at most 8 bytes hold, the lowest first.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Integer {
    /// The number as a signed one.
    pub fn signed(&self) -> i64 {
        let unused = u32::try_from(self.size).map_or(0, |size| 64 - 8 * size.clamp(1, 8));
        (self.bits << unused).cast_signed() >> unused
    }

    /// The name of the value, when it has one.
    pub fn name(&self) -> Option<&'static str> {
        let Style::Names(names) = self.style else { return None };
        names.iter().find(|(value, _)| *value == self.bits).map(|(_, name)| *name)
    }

    /// The names of the flags that are set, and the bits that have none.
    pub fn flags(&self) -> Option<(Vec<&'static str>, u64)> {
        let Style::Flags(flags) = self.style else { return None };
        let set = || flags.iter().filter(|(bit, _)| self.bits & bit != 0);
        let rest = set().fold(self.bits, |rest, (bit, _)| rest & !bit);
        Some((set().map(|(_, name)| *name).collect(), rest))
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Style::Decimal(_) => write!(f, "{}", self.bits),
            Style::Signed(_) => write!(f, "{}", self.signed()),
            Style::Hex => write!(f, "{:#x}", self.bits),
            Style::Octal => write!(f, "0{:o}", self.bits),
            Style::Names(_) => match self.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "{}", self.bits),
            },
            Style::Flags(_) => {
                let (names, rest) = self.flags().unwrap_or_default();
                f.write_str(&names.join("|"))?;
                match (names.is_empty(), rest) {
                    (true, 0) => f.write_str("0"),
                    (false, 0) => Ok(()),
                    (true, _) => write!(f, "{rest:#x}"),
                    (false, _) => write!(f, "|{rest:#x}"),
                }
            }
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(integer) => integer.fmt(f),
            Value::Bytes(bytes) | Value::Reserved(bytes) => f.write_str(&hex(bytes)),
            Value::Text(bytes) => {
                let mut text = String::from("\"");
                escape(&mut text, bytes, '"');
                text.push('"');
                f.write_str(&text)
            }
            Value::Uuid(bytes) => f.write_str(&Uuid(*bytes).to_string()),
            Value::Struct(fields) => fields.fmt(f),
            Value::Array(elements) => {
                f.write_str("[")?;
                for (i, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (field, value)) in self.values().filter(|(_, value)| is_shown(value)).enumerate() {
            write!(f, "{}{}: {value}", if i == 0 { "" } else { ", " }, field.name)?;
        }
        f.write_str("}")
    }
}

/// Whether a value is worth showing: all but reserved bytes as they should be.
fn is_shown(value: &Value<'_>) -> bool {
    !matches!(value, Value::Reserved(bytes) if is_zero(bytes))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in self.values().filter(|(_, value)| is_shown(value)) {
            map.serialize_entry(field.name, &value)?;
        }
        map.end()
    }
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((names, rest)) = self.flags() {
            let mut list = serializer.serialize_seq(None)?;
            for name in names {
                list.serialize_element(name)?;
            }
            if rest != 0 {
                list.serialize_element(&rest)?;
            }
            return list.end();
        }
        match (self.name(), self.style) {
            (Some(name), _) => serializer.serialize_str(name),
            (None, Style::Signed(_)) => serializer.serialize_i64(self.signed()),
            (None, _) => serializer.serialize_u64(self.bits),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Integer(integer) => integer.serialize(serializer),
            Value::Bytes(bytes) | Value::Reserved(bytes) => serializer.serialize_str(&hex(bytes)),
            Value::Text(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Value::Uuid(bytes) => serializer.serialize_str(&Uuid(*bytes).to_string()),
            Value::Struct(fields) => fields.serialize(serializer),
            Value::Array(elements) => serializer.collect_seq(elements.iter()),
        }
    }
}

/// One line of a table that shows a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The field's path in the structure.
    pub path: String,
    /// What it holds.
    pub value: String,
    /// Its meaning.
    pub doc: String,
    /// Its offset in bytes from the structure's start.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// The rows of the structure at the start of `bytes`: one for each field, nested structures and arrays opened.
///
/// Reserved bytes have a row when they are not zero. Two or more elements of zeros at an array's end share one row, whose
/// path is a range and whose value is `zeros`. No rows when `bytes` are fewer than the structure has.
pub fn rows(layout: &'static Layout, bytes: &[u8]) -> Vec<Row> {
    let mut to = Vec::new();
    push_rows(&FieldRef::whole(layout), bytes, &mut to);
    to
}

fn push_rows(field: &FieldRef, bytes: &[u8], to: &mut Vec<Row>) {
    let children = field.children();
    if let Kind::Array(..) = field.kind {
        let last = children.iter().rposition(|child| !child.bytes(bytes).is_some_and(is_zero));
        let zeros = last.map_or(0, |last| last + 1);
        let rest = field.range(zeros..children.len()).filter(|_| children.len() - zeros > 1);
        for child in children.iter().take(if rest.is_some() { zeros } else { children.len() }) {
            push_rows(child, bytes, to);
        }
        to.extend(rest.map(|rest| rest.row("zeros".to_owned())));
    } else if let Kind::Struct(_) = field.kind {
        children.iter().for_each(|child| push_rows(child, bytes, to));
    } else {
        to.extend(field.value(bytes).filter(is_shown).map(|value| field.row(value.to_string())));
    }
}

impl FieldRef {
    /// The row that shows `value` for it.
    fn row(&self, value: String) -> Row {
        Row {
            path: self.name.clone(),
            value,
            doc: super::doc::meaning(self.doc),
            offset: self.offset,
            size: self.kind.size(),
        }
    }
}
