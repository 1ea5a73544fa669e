//! Values as recipes spell them. Each says in its error what would be right.

use crate::size;
use paxfs_format::time::Timestamp;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A number of bytes: `4096`, `64M`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size(pub u64);

/// One size, or one of a range: `64k`, `{from: 0, to: 64k}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest.
    pub from: u64,
    /// The largest.
    pub to: u64,
}

/// Permissions: `0644` or `0o644`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// A point in time: seconds, or seconds and their fraction as `1700000000.000000001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

/// Bytes: text, `{hex: 00ff}`, or `{size: 64k, seed: 1}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// These.
    Bytes(Vec<u8>),
    /// So many that no compressor likes.
    Random {
        /// How many.
        size: u64,
        /// Which.
        seed: u64,
    },
}

/// One thing, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

/// Reads integers and text by a function of their text, and says what was expected.
struct Words<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Words<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "bytes, or a number with one of k M G T P E";
        deserializer.deserialize_any(Words { expected, read: |text| size::parse(text).ok().map(Size) })
    }
}

impl<'de> Deserialize<'de> for SizeRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            from: Size,
            to: Size,
        }
        struct Range;
        impl<'de> Visitor<'de> for Range {
            type Value = SizeRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, or {from: SIZE, to: SIZE}")
            }

            fn visit_u64<E: serde::de::Error>(self, from: u64) -> Result<SizeRange, E> {
                Ok(SizeRange { from, to: from })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SizeRange, E> {
                let bad = |_| E::invalid_value(serde::de::Unexpected::Str(text), &self);
                size::parse(text).map(|from| SizeRange { from, to: from }).map_err(bad)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SizeRange, A::Error> {
                let Both { from, to } = Both::deserialize(MapAccessDeserializer::new(map))?;
                if from.0 > to.0 {
                    return Err(A::Error::custom("`from` is larger than `to`"));
                }
                Ok(SizeRange { from: from.0, to: to.0 })
            }
        }
        deserializer.deserialize_any(Range)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;
        impl Visitor<'_> for Octal {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("permissions in octal, 4 digits with the leading 0, as 0644")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mode, E> {
                let digits = text.strip_prefix('0').map(|digits| digits.trim_start_matches('o'));
                digits
                    .and_then(|digits| u32::from_str_radix(digits, 8).ok())
                    .filter(|mode| *mode <= 0o7777)
                    .map(Mode)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        // YAML reads 0644 as text, but 644 as a number, whose digits would then mean something else.
        deserializer.deserialize_any(Octal)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "seconds since 1970, with a fraction as text: \"1700000000.000000001\"";
        deserializer.deserialize_any(Words { expected, read: |text| time(text).map(Time) })
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let sound = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds = fraction.parse::<u32>().ok().filter(|_| sound)? * 10u32.pow(9 - digits);
    Some(Timestamp::new(seconds.parse().ok()?, nanoseconds))
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            hex: Option<String>,
            size: Option<Size>,
            seed: Option<u64>,
        }
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, {hex: DIGITS}, or {size: SIZE, seed: NUMBER}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob::Bytes(text.as_bytes().to_vec()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Blob, A::Error> {
                match Fields::deserialize(MapAccessDeserializer::new(map))? {
                    Fields { hex: Some(digits), size: None, seed: None } => hex(&digits)
                        .map(Blob::Bytes)
                        .ok_or_else(|| A::Error::custom("`hex` is not pairs of digits")),
                    Fields { hex: None, size: Some(size), seed } => {
                        Ok(Blob::Random { size: size.0, seed: seed.unwrap_or(0) })
                    }
                    _ => Err(A::Error::custom("give either `hex`, or `size` and `seed`")),
                }
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one set of fields, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn values() {
        assert_eq!(yaml("64M"), Ok(Size(64 << 20)));
        assert_eq!(yaml("4096"), Ok(Size(4096)));
        assert_eq!(yaml("{from: 1, to: 2k}"), Ok(SizeRange { from: 1, to: 2048 }));
        assert_eq!(yaml("1k"), Ok(SizeRange { from: 1024, to: 1024 }));
        assert_eq!(yaml("0644"), Ok(Mode(0o644)));
        assert_eq!(yaml("'04755'"), Ok(Mode(0o4755)));
        assert_eq!(yaml("7"), Ok(Time(Timestamp::new(7, 0))));
        assert_eq!(yaml("-7"), Ok(Time(Timestamp::new(-7, 0))));
        assert_eq!(yaml("'1700000000.5'"), Ok(Time(Timestamp::new(1_700_000_000, 500_000_000))));
        assert_eq!(yaml("'{hex: 00}'"), Ok(Blob::Bytes(b"{hex: 00}".to_vec())));
        assert_eq!(yaml("{hex: '00ff'}"), Ok(Blob::Bytes(vec![0, 255])));
        assert_eq!(yaml("{size: 1k, seed: 3}"), Ok(Blob::Random { size: 1024, seed: 3 }));
        assert_eq!(yaml("[5]"), Ok(OneOrMany(vec![Size(5)])));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        assert!(yaml::<Mode>("644").unwrap_err().contains("leading 0"));
        assert!(yaml::<Mode>("0999").is_err());
        assert!(yaml::<Size>("12x").unwrap_err().contains("k M G T P E"));
        assert!(yaml::<Time>("1.5").unwrap_err().contains("as text"));
        assert!(yaml::<Blob>("{hex: abc}").unwrap_err().contains("pairs"));
        assert!(yaml::<SizeRange>("{from: 2, to: 1}").is_err());
    }
}
