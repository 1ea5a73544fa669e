//! Operations, and how they are drawn.

use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::Sharing;
use proptest::prelude::*;

pub const NAMES: u8 = 7;
pub const BLOCK: u64 = 4096;
/// Most bytes that a file gets.
pub const LARGEST: u64 = 40 * BLOCK;
/// Views at one time.
pub const VIEWS: u8 = 3;

#[derive(Debug, Clone)]
pub enum Op {
    Create(u8),
    MakeDirectory(u8),
    Symlink(u8, u16),
    Link(u8, u8),
    Unlink(u8),
    RemoveDirectory(u8),
    Rename(u8, u8, u8),
    Write(u8, u64, u64, u8),
    Append(u8, u64, u8),
    Truncate(u8, u64),
    Punch(u8, u64, u64),
    Zero(u8, u64, u64, bool),
    Allocate(u8, u64, u64, bool),
    Clone {
        to: u8,
        from: u8,
        to_at: u64,
        from_at: u64,
        length: u64,
    },
    Dedupe {
        to: u8,
        from: u8,
        to_at: u64,
        from_at: u64,
        length: u64,
    },
    Unshare(u8, u64, u64),
    SetAttribute(u8, u8, u32, u8, SetAttribute),
    RemoveAttribute(u8, u8),
    Map {
        view: u8,
        name: u8,
        block: u64,
        length: u64,
        sharing: Sharing,
    },
    Unmap(u8),
    Store {
        view: u8,
        at: u64,
        length: u64,
        fill: u8,
    },
    Load {
        view: u8,
        at: u64,
        length: u64,
    },
    ViewSync {
        view: u8,
        at: u64,
        length: u64,
    },
    Freeze,
    /// Makes a snapshot of all; or looks at the one that is there, and removes it.
    Snapshot(Access),
    Sync,
    Reopen,
}

/// An offset: mostly at block borders, where things happen.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..LARGEST / BLOCK).prop_map(|block| block * BLOCK),
        1 => (0..LARGEST / BLOCK, 0..3u64).prop_map(|(block, near)| (block * BLOCK + near).saturating_sub(1)),
        1 => 0..LARGEST,
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (1..12u64).prop_map(|blocks| blocks * BLOCK),
        1 => 1..3 * BLOCK,
        1 => 1..64u64,
    ]
}

/// How long a value is: around what an entry and a block hold, and the most.
fn value_length() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..300u32,
        2 => 1000..1030u32,
        2 => (1..4u32, 0..3u32).prop_map(|(blocks, near)| blocks * 4056 + near - 1),
        1 => 65530..65540u32,
        1 => 0..65536u32,
    ]
}

fn how() -> impl Strategy<Value = SetAttribute> {
    prop_oneof![4 => Just(SetAttribute::Any), 1 => Just(SetAttribute::Create), 1 => Just(SetAttribute::Replace)]
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop_oneof![6 => Just(Sharing::Shared), 3 => Just(Sharing::Private), 1 => Just(Sharing::ReadOnly)]
}

/// An offset in a view, which is rarely long.
fn near() -> impl Strategy<Value = u64> {
    place().prop_map(|at| at % (12 * BLOCK))
}

pub fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES;
    prop_oneof![
        4 => name().prop_map(Op::Create),
        2 => name().prop_map(Op::MakeDirectory),
        1 => (name(), 1..5000u16).prop_map(|(name, length)| Op::Symlink(name, length)),
        2 => (name(), name()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => name().prop_map(Op::Unlink),
        1 => name().prop_map(Op::RemoveDirectory),
        3 => (name(), name(), 0..3u8).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
        8 => (name(), place(), length(), any::<u8>()).prop_map(|(f, at, length, fill)| Op::Write(f, at, length, fill)),
        3 => (name(), length(), any::<u8>()).prop_map(|(f, length, fill)| Op::Append(f, length, fill)),
        3 => (name(), place()).prop_map(|(f, size)| Op::Truncate(f, size)),
        3 => (name(), place(), length()).prop_map(|(f, at, length)| Op::Punch(f, at, length)),
        2 => (name(), place(), length(), any::<bool>()).prop_map(|(f, at, length, g)| Op::Zero(f, at, length, g)),
        2 => (name(), place(), length(), any::<bool>()).prop_map(|(f, at, length, g)| Op::Allocate(f, at, length, g)),
        5 => (name(), name(), place(), place(), length()).prop_map(|(to, from, to_at, from_at, length)| Op::Clone {
            to, from, to_at, from_at, length: if length == 3 { 0 } else { length },
        }),
        4 => (name(), name(), place(), place(), length()).prop_map(|(to, from, to_at, from_at, length)| Op::Dedupe {
            to, from, to_at, from_at, length,
        }),
        1 => (name(), place(), length()).prop_map(|(f, at, length)| Op::Unshare(f, at, length)),
        6 => (name(), 0..ATTRIBUTES, value_length(), any::<u8>(), how())
            .prop_map(|(f, which, length, fill, how)| Op::SetAttribute(f, which, length, fill, how)),
        3 => (name(), 0..ATTRIBUTES).prop_map(|(f, which)| Op::RemoveAttribute(f, which)),
        3 => (0..VIEWS, name(), 0..LARGEST / BLOCK, length(), sharing()).prop_map(
            |(view, name, block, length, sharing)| Op::Map { view, name, block, length, sharing }
        ),
        1 => (0..VIEWS).prop_map(Op::Unmap),
        10 => (0..VIEWS, near(), length(), any::<u8>())
            .prop_map(|(view, at, length, fill)| Op::Store { view, at, length, fill }),
        6 => (0..VIEWS, near(), length()).prop_map(|(view, at, length)| Op::Load { view, at, length }),
        2 => (0..VIEWS, near(), length()).prop_map(|(view, at, length)| Op::ViewSync { view, at, length }),
        1 => Just(Op::Freeze),
        1 => prop_oneof![Just(Access::ReadOnly), Just(Access::Writable)].prop_map(Op::Snapshot),
        1 => Just(Op::Sync),
        1 => Just(Op::Reopen),
    ]
}

/// What a name stands for: names 0 to 4 in the root, the others in the directory that name 0 may be.
pub fn path(name: u8) -> (Option<u8>, Vec<u8>) {
    if name < 5 {
        (None, format!("name {name}").into_bytes())
    } else {
        (Some(0), format!("inner {name}").into_bytes())
    }
}

/// Names of attributes: so many, the last few of them wrong.
pub const ATTRIBUTES: u8 = 9;

pub fn attribute(which: u8) -> Vec<u8> {
    match which {
        0 => b"user.a".to_vec(),
        1 => b"system.posix_acl_access".to_vec(),
        2 => b"trusted.overlay.opaque".to_vec(),
        3 => [b"security.".as_slice(), &[b'n'; 246]].concat(),
        4..6 => format!("user.number {which}").into_bytes(),
        6 => b"user.".to_vec(),
        7 => b"nowhere.a".to_vec(),
        _ => [b"user.".as_slice(), &[b'n'; 251]].concat(),
    }
}
