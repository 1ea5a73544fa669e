//! How a structure of the disk is declared: once.
//!
//! [`on_disk!`](crate::on_disk) turns one declaration into the zerocopy struct, a compile-time check of its size (and,
//! through `IntoBytes`, that it has no padding) and a [`Layout`]: name, meaning, offset and kind of each field. All that
//! shows, finds, sets, damages or compares fields goes through the layout and knows no structure by name.
//!
//! Must not depend on any declared structure.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What one declared structure looks like, field by field.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The structure's name.
    pub name: &'static str,
    /// Its meaning, as in the declaration's doc comment.
    pub doc: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields, in the order of their offsets, without gaps.
    pub fields: &'static [Field],
}

/// One field of a [`Layout`].
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name, as paths spell it.
    pub name: &'static str,
    /// Its meaning, as in the declaration's doc comment.
    pub doc: &'static str,
    /// Its offset in bytes from the structure's start.
    pub offset: usize,
    /// What its bytes mean.
    pub kind: Kind,
}

/// What the bytes of a field mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A little-endian integer of `size` bytes.
    Integer {
        /// Its size in bytes: 1, 2, 4 or 8.
        size: usize,
        /// How it is printed and what it counts.
        style: Style,
    },
    /// Bytes without further meaning, printed in hexadecimal.
    Bytes(usize),
    /// Text in UTF-8 (if it is; any bytes can be held), padded with zero bytes.
    Text(usize),
    /// A UUID in the order of RFC 9562.
    Uuid,
    /// Bytes that must be zero.
    Reserved(usize),
    /// Another declared structure.
    Struct(&'static Layout),
    /// So many elements of one kind.
    Array(&'static Kind, usize),
}

/// How an integer is printed, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A plain number, with the unit it counts ("" for none).
    Decimal(&'static str),
    /// A signed number, with its unit.
    Signed(&'static str),
    /// Hexadecimal.
    Hex,
    /// Octal, as modes are written.
    Octal,
    /// One of these values; others are printed as numbers.
    Names(&'static [(u64, &'static str)]),
    /// A set of these bits; others are printed as a number.
    Flags(&'static [(u64, &'static str)]),
}

impl Kind {
    /// Size of the field in bytes.
    pub const fn size(&self) -> usize {
        match self {
            Kind::Integer { size, .. } | Kind::Bytes(size) | Kind::Text(size) | Kind::Reserved(size) => *size,
            Kind::Uuid => 16,
            Kind::Struct(layout) => layout.size,
            Kind::Array(element, count) => element.size() * *count,
        }
    }
}

impl Layout {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Name of the first field (dotted where nested) whose bytes are reserved and not zero in `bytes`.
    pub fn reserved_not_zero(&self, bytes: &[u8]) -> Option<String> {
        self.fields.iter().find_map(|field| {
            let part = bytes.get(field.offset..)?.get(..field.kind.size())?;
            match field.kind {
                Kind::Reserved(_) => part.iter().any(|&byte| byte != 0).then(|| field.name.to_owned()),
                Kind::Struct(layout) => {
                    layout.reserved_not_zero(part).map(|inner| format!("{}.{inner}", field.name))
                }
                Kind::Array(Kind::Struct(layout), _) => part
                    .chunks_exact(layout.size)
                    .enumerate()
                    .find_map(|(i, element)| Some((i, layout.reserved_not_zero(element)?)))
                    .map(|(i, inner)| format!("{}[{i}].{inner}", field.name)),
                _ => None,
            }
        })
    }
}

/// A type that can be a field: it says what its bytes mean.
pub trait FieldType {
    /// What the bytes mean.
    const KIND: Kind;
}

impl FieldType for u8 {
    const KIND: Kind = Kind::Integer { size: 1, style: Style::Decimal("") };
}

impl<T: FieldType, const N: usize> FieldType for [T; N] {
    const KIND: Kind = Kind::Array(&T::KIND, N);
}

/// A declared structure. Implemented by [`on_disk!`](crate::on_disk) alone.
pub trait OnDisk:
    FromBytes
    + IntoBytes
    + KnownLayout
    + Immutable
    + Unaligned
    + Copy
    + PartialEq
    + core::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Its fields.
    const LAYOUT: Layout;

    /// A structure of zero bytes.
    fn zeroed() -> Self {
        Self::new_zeroed()
    }
}

/// Declares a structure of the disk: `/// doc pub struct Name = SIZE { /// doc pub field: Type, … }`.
///
/// The size is checked at compile time; a type with padding does not compile.
#[macro_export]
macro_rules! on_disk {
    ($(#[doc = $doc:literal])+ pub struct $name:ident = $size:literal {
        $($(#[doc = $field_doc:literal])+ pub $field:ident: $kind:ty,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
            zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $kind,)+
        }

        impl $crate::declare::OnDisk for $name {
            const LAYOUT: $crate::declare::Layout = $crate::declare::Layout {
                name: stringify!($name),
                doc: concat!($($doc, "\n"),+),
                size: $size,
                fields: &[$($crate::declare::Field {
                    name: stringify!($field),
                    doc: concat!($($field_doc, "\n"),+),
                    offset: core::mem::offset_of!($name, $field),
                    kind: <$kind as $crate::declare::FieldType>::KIND,
                },)+],
            };
        }

        impl $crate::declare::FieldType for $name {
            const KIND: $crate::declare::Kind =
                $crate::declare::Kind::Struct(&<$name as $crate::declare::OnDisk>::LAYOUT);
        }

        const _: () = assert!(size_of::<$name>() == $size, concat!("size of ", stringify!($name)));
    };
}

/// Declares a newtype of a little-endian integer: `/// doc Name(u32|u64|…) style`.
macro_rules! integer {
    ($($(#[doc = $doc:literal])+ $name:ident($inner:ident, $plain:ident) $style:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes,
            zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(transparent)]
        pub struct $name(zerocopy::little_endian::$inner);

        impl $name {
            /// How it is printed.
            pub const STYLE: $crate::declare::Style = $style;

            /// The value as stored.
            pub const fn new(value: $plain) -> Self {
                Self(zerocopy::little_endian::$inner::new(value))
            }

            /// The value, unchecked: any bit pattern can be held.
            pub const fn get(self) -> $plain {
                self.0.get()
            }
        }

        impl From<$plain> for $name {
            fn from(value: $plain) -> Self {
                Self::new(value)
            }
        }

        impl $crate::declare::FieldType for $name {
            const KIND: $crate::declare::Kind =
                $crate::declare::Kind::Integer { size: size_of::<$plain>(), style: Self::STYLE };
        }
    )+};
}
pub(crate) use integer;
