//! Storing a value given as text, and damaging a field with a verb.

use crate::declare::{Kind, Style};
use crate::field::text::{unescape, unhex};
use crate::field::value::little_endian;
use core::fmt;
use core::str::FromStr;

/// Text that is no value of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No number.
    #[error("`{text}` is no number (decimal, 0x… hexadecimal{octal})", octal = if *.octal { ", octal" } else { ", 0o… octal" })]
    Number {
        /// As given.
        text: String,
        /// Whether digits alone are octal.
        octal: bool,
    },
    /// A number that does not fit.
    #[error("{text} does not fit: the field holds {lowest} to {highest}")]
    Range {
        /// As given.
        text: String,
        /// The lowest value.
        lowest: i128,
        /// The highest value.
        highest: i128,
    },
    /// Neither a name of a value nor a number.
    #[error("`{text}` is neither a number nor one of: {names}")]
    Name {
        /// As given.
        text: String,
        /// The names there are.
        names: String,
    },
    /// No flags with `|` between them.
    #[error("`{text}` is neither a number nor one of: {names} (several with `|` between them)")]
    Flag {
        /// As given: the part that is none.
        text: String,
        /// The names there are.
        names: String,
    },
    /// No UUID.
    #[error("`{0}` is no UUID (32 hexadecimal digits, with dashes or without)")]
    Uuid(String),
    /// Text with an escape that is none, or quotes that do not match.
    #[error("`{0}` is no text: in quotes, `\\\"`, `\\\\` and `\\xNN` are the escapes")]
    Text(String),
    /// Text that does not fit.
    #[error("{length} bytes do not fit: the field holds {size}")]
    TooLong {
        /// Bytes of the text.
        length: usize,
        /// Bytes of the field.
        size: usize,
    },
    /// Not as many hexadecimal digits as the field needs.
    #[error("the field needs {digits} hexadecimal digits, or text in quotes")]
    Hex {
        /// Digits it needs.
        digits: usize,
    },
    /// Something made of several fields.
    #[error("is not one field but several: set one of them")]
    Several,
    /// The bytes to change are not those of the field.
    #[error("the field is {size} bytes, not {given}")]
    Size {
        /// Bytes of the field.
        size: usize,
        /// Bytes given.
        given: usize,
    },
}

/// Stores a value given as text in the bytes of a field, which are left as they are when it cannot be.
///
/// Numbers are decimal, or hexadecimal behind `0x`; octal behind `0o`, and in an octal field without it. Named values
/// and flags take their names (flags with `|` between them) or numbers. Text may be in quotes; shorter text is padded
/// with zeros. Bytes are hexadecimal digits, as many as there are, or text in quotes. All that a
/// [`Value`](crate::field::value::Value) prints of a single field is taken and gives the same bytes.
///
/// ```
/// use paxfs_format::{declare::FieldType, field::edit, superblock::State};
/// let mut bytes = [0; 4];
/// edit::set(&State::KIND, &mut bytes, "clean|errors").unwrap();
/// assert_eq!(bytes, [3, 0, 0, 0]);
/// ```
pub fn set(kind: &Kind, bytes: &mut [u8], text: &str) -> Result<(), SetError> {
    let (size, given) = (kind.size(), bytes.len());
    if size != given {
        return Err(SetError::Size { size, given });
    }
    let text = text.trim();
    let value = match *kind {
        Kind::Integer { size, style } => integer(size, style, text)?.to_le_bytes().to_vec(),
        Kind::Uuid => uuid(text).ok_or_else(|| SetError::Uuid(text.to_owned()))?,
        Kind::Text(_) if !text.starts_with('"') => padded(text.as_bytes().to_vec(), size)?,
        Kind::Text(_) => padded(quoted(text)?, size)?,
        Kind::Bytes(_) | Kind::Reserved(_) if text.starts_with('"') => padded(quoted(text)?, size)?,
        Kind::Bytes(_) | Kind::Reserved(_) => {
            unhex(text).filter(|value| value.len() == size).ok_or(SetError::Hex { digits: 2 * size })?
        }
        Kind::Struct(_) | Kind::Array(..) => return Err(SetError::Several),
    };
    for (to, from) in bytes.iter_mut().zip(value) {
        *to = from;
    }
    Ok(())
}

fn padded(mut value: Vec<u8>, size: usize) -> Result<Vec<u8>, SetError> {
    if value.len() > size {
        return Err(SetError::TooLong { length: value.len(), size });
    }
    value.resize(size, 0);
    Ok(value)
}

fn quoted(text: &str) -> Result<Vec<u8>, SetError> {
    let inner = text.strip_prefix('"').and_then(|text| unescape(text, '"'));
    match inner {
        Some((value, "")) => Ok(value),
        _ => Err(SetError::Text(text.to_owned())),
    }
}

fn uuid(text: &str) -> Option<Vec<u8>> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let dashed = text.len() == 36 && text.match_indices('-').map(|(at, _)| at).eq(DASHES);
    let digits = if dashed { text.replace('-', "") } else { text.to_owned() };
    unhex(&digits).filter(|bytes| bytes.len() == 16)
}

/// The bits to store for a number given as text.
fn integer(size: usize, style: Style, text: &str) -> Result<u64, SetError> {
    let named = |names: &[(u64, &str)], text: &str| {
        names.iter().find(|(_, name)| *name == text).map(|(value, _)| *value)
    };
    let list = |names: &[(u64, &str)]| names.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    match style {
        Style::Names(names) => match named(names, text) {
            Some(value) => Ok(value),
            None => number(size, style, text).map_err(|error| match error {
                SetError::Number { .. } => SetError::Name { text: text.to_owned(), names: list(names) },
                other => other,
            }),
        },
        Style::Flags(names) => text.split('|').map(str::trim).try_fold(0, |bits, part| {
            let bit = match named(names, part) {
                Some(bit) => bit,
                None => number(size, style, part).map_err(|error| match error {
                    SetError::Number { .. } => SetError::Flag { text: part.to_owned(), names: list(names) },
                    other => other,
                })?,
            };
            Ok(bits | bit)
        }),
        Style::Decimal(_) | Style::Signed(_) | Style::Hex | Style::Octal => number(size, style, text),
    }
}

fn number(size: usize, style: Style, text: &str) -> Result<u64, SetError> {
    let octal = style == Style::Octal;
    let wrong = || SetError::Number { text: text.to_owned(), octal };
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (digits, radix) = if let Some(digits) = digits.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = digits.strip_prefix("0o") {
        (digits, 8)
    } else {
        (digits, if octal { 8 } else { 10 })
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(wrong());
    }
    let bits = u32::try_from(8 * size.clamp(1, 8)).unwrap_or(64);
    let span = 1i128 << bits;
    let (lowest, highest) =
        if matches!(style, Style::Signed(_)) { (-span / 2, span / 2 - 1) } else { (0, span - 1) };
    // Only digits are left, so that it can fail by being too large alone.
    let value = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
    let value = if negative { -value } else { value };
    if !(lowest..=highest).contains(&value) {
        return Err(SetError::Range { text: text.to_owned(), lowest, highest });
    }
    u64::try_from(value.rem_euclid(span)).map_err(|_| wrong())
}

/// What [`Verb::Add`] adds, as xfs_db does: more than a small count has, less than a group has blocks, and a change in
/// every byte that it reaches.
pub const STEP: u64 = 2017;

/// A way to damage a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Clears all bits.
    Zeroes,
    /// Sets all bits.
    Ones,
    /// Flips the highest bit of a number, or of the first byte of anything else.
    Firstbit,
    /// Flips the highest bit of a number's lower half, or of the byte in the middle of anything else.
    Middlebit,
    /// Flips the lowest bit of a number, or of the last byte of anything else.
    Lastbit,
    /// Adds [`STEP`] to the number, or to the one that the first 8 bytes of anything else are; wraps around.
    Add,
    /// Subtracts [`STEP`] likewise.
    Sub,
    /// Stores bytes that follow from the seed, other than those that are there.
    Random(u64),
}

impl Verb {
    /// All of them; the random one with seed 0.
    pub const ALL: [Self; 8] = [
        Self::Zeroes,
        Self::Ones,
        Self::Firstbit,
        Self::Middlebit,
        Self::Lastbit,
        Self::Add,
        Self::Sub,
        Self::Random(0),
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zeroes => "zeroes",
            Self::Ones => "ones",
            Self::Firstbit => "firstbit",
            Self::Middlebit => "middlebit",
            Self::Lastbit => "lastbit",
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Random(_) => "random",
        }
    }

    /// Does it to the bytes of a field; whether that changed them. It does unless there are none, or they were all
    /// zeros before [`Verb::Zeroes`] or all ones before [`Verb::Ones`].
    pub fn apply(self, kind: &Kind, bytes: &mut [u8]) -> bool {
        let before = bytes.to_vec();
        let number = matches!(kind, Kind::Integer { .. });
        let (first, middle, last) = (0, bytes.len() / 2, bytes.len().saturating_sub(1));
        match self {
            Self::Zeroes => bytes.fill(0),
            Self::Ones => bytes.fill(0xff),
            Self::Firstbit => flip(bytes, if number { last } else { first }, 0x80),
            Self::Middlebit if number && bytes.len() > 1 => flip(bytes, middle.saturating_sub(1), 0x80),
            Self::Middlebit if number => flip(bytes, 0, 0x08),
            Self::Middlebit => flip(bytes, middle, 0x80),
            Self::Lastbit => flip(bytes, if number { first } else { last }, 0x01),
            Self::Add => add(bytes, STEP),
            Self::Sub => add(bytes, STEP.wrapping_neg()),
            Self::Random(seed) => {
                let mut state = seed;
                for chunk in bytes.chunks_mut(8) {
                    chunk
                        .iter_mut()
                        .zip(split_mix(&mut state).to_le_bytes())
                        .for_each(|(to, from)| *to = from);
                }
                if bytes == before {
                    flip(bytes, 0, 0x01);
                }
            }
        }
        bytes != before
    }
}

fn flip(bytes: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bits;
    }
}

fn add(bytes: &mut [u8], step: u64) {
    let sum = little_endian(bytes).wrapping_add(step);
    bytes.iter_mut().zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// The next number of SplitMix64 (Steele, Lea and Flood, 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A word that is no verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of: zeroes, ones, firstbit, middlebit, lastbit, add, sub, random, random:SEED")]
pub struct NoVerb(String);

impl FromStr for Verb {
    type Err = NoVerb;

    fn from_str(text: &str) -> Result<Self, NoVerb> {
        let seed = text.strip_prefix("random:").map(str::parse);
        let verb = match seed {
            Some(seed) => seed.ok().map(Self::Random),
            None => Self::ALL.into_iter().find(|verb| verb.name() == text),
        };
        verb.ok_or_else(|| NoVerb(text.to_owned()))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(seed) if *seed != 0 => write!(f, "random:{seed}"),
            verb => f.write_str(verb.name()),
        }
    }
}
