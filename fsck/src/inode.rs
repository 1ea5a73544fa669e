//! Pass 3: one inode by itself: its fields, how its forks are stored, its payload, the target of a symlink.

use crate::context::Env;
use crate::inodes::Subject;
use crate::problem::Problem;
use crate::values::{Place, value};
use paxfs_format::declare::OnDisk;
use paxfs_format::entry::value_blocks;
use paxfs_format::group::TreeRoot;
use paxfs_format::inode::{FileType, Fork, ForkFormat, Inode, InodeFlags, MAX_SYMLINK, PAYLOAD_SIZE, Which};
use paxfs_format::units::BlockNo;
use std::sync::atomic::Ordering;
use zerocopy::IntoBytes;

/// Fields that can be judged alone.
pub(crate) fn fields(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType) {
    let Subject { number, inode } = *subject;
    if inode.generation.get() == 0 {
        subject.find(env, ".generation", Problem::InodeGeneration { inode: number });
    }
    env.generation(inode.header.generation.get(), || format!("inode[{number}]"), Some(number));
    let flags = inode.flags.get();
    let dax = flags & InodeFlags::DAX != 0 && !matches!(kind, FileType::Regular | FileType::Directory);
    if flags & !InodeFlags::KNOWN != 0 || dax {
        let problem =
            Problem::InodeFlags { inode: number, flags: flags.into(), type_name: type_name(kind).to_owned() };
        subject.find(env, ".flags", problem);
    }
    let times = [
        ("accessed", inode.accessed),
        ("modified", inode.modified),
        ("changed", inode.changed),
        ("born", inode.born),
    ];
    for (name, time) in times {
        if !time.is_valid() {
            let problem = Problem::InodeTime { inode: number, nanoseconds: time.nanoseconds.get().into() };
            subject.find(env, &format!(".{name}.nanoseconds"), problem);
        }
    }
    let (major, minor) = (u64::from(inode.major.get()), u64::from(inode.minor.get()));
    let device = matches!(kind, FileType::Character | FileType::Block);
    if !device && (major, minor) != (0, 0) {
        let field = if major != 0 { ".major" } else { ".minor" };
        subject.find(env, field, Problem::InodeDevice { inode: number, major, minor });
    }
    if kind == FileType::Regular && inode.size.get() > i64::MAX.unsigned_abs() {
        let expected = i64::MAX.unsigned_abs();
        subject.find(env, ".size", Problem::InodeSize { inode: number, size: inode.size.get(), expected });
    }
    if inode.header.level.get() != 0 || inode.header.count.get() != 0 {
        let field = if inode.header.level.get() != 0 { "header.level" } else { "header.count" };
        reserved(env, subject, field);
    }
    // The three fields, and not the layout: this is asked of every inode.
    let zero = Inode::zeroed();
    let differs = inode.reserved != zero.reserved
        || inode.data.reserved != zero.data.reserved
        || inode.attributes.reserved != zero.data.reserved;
    if differs && let Some(field) = Inode::LAYOUT.reserved_not_zero(inode.as_bytes()) {
        reserved(env, subject, &field);
    }
}

fn reserved(env: &mut Env<'_>, subject: &Subject<'_>, field: &str) {
    let problem = Problem::InodeReserved { inode: subject.number, field: field.to_owned() };
    subject.find(env, &format!(".{field}"), problem);
}

fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Character => "character device",
        FileType::Directory => "directory",
        FileType::Block => "block device",
        FileType::Regular => "regular file",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
    }
}

/// How both forks are stored, and the payload. Tells whether the forks can be read.
pub(crate) fn payload(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType) -> bool {
    let Subject { number, inode } = *subject;
    let data = fork(env, subject, Which::Data, kind);
    let attributes = fork(env, subject, Which::Attributes, kind);
    if !data || !attributes {
        return false;
    }
    let used = usize::from(inode.data.inline_bytes.get()) + usize::from(inode.attributes.inline_bytes.get());
    if used > PAYLOAD_SIZE {
        let fault = format!("{used} bytes are in use, it has {PAYLOAD_SIZE}");
        let field = match usize::from(inode.data.inline_bytes.get()) > PAYLOAD_SIZE {
            true => ".data.inline_bytes",
            false => ".attributes.inline_bytes",
        };
        subject.find(env, field, Problem::InodePayload { inode: number, fault });
        return false;
    }
    // No early exit: this is vector code, and nearly all tails are zeros.
    let tail = inode.payload.0.get(used..).unwrap_or_default();
    let tail = tail.iter().fold(0, |all, byte| all | byte) != 0;
    if !borders(env, subject, kind, tail) {
        return false;
    }
    if tail {
        let fault = format!("bytes behind the {used} in use are not zero");
        let end = PAYLOAD_SIZE;
        subject.find(
            env,
            &format!(".payload[{used}..{end}]"),
            Problem::InodePayload { inode: number, fault },
        );
    }
    true
}

/// Whether the border between the forks in the payload, and the end of the second, can be where they are said to be.
/// `tail`: bytes behind that end are not zero.
fn borders(env: &mut Env<'_>, subject: &Subject<'_>, kind: FileType, tail: bool) -> bool {
    let Subject { number, inode } = *subject;
    let data = u64::from(inode.data.inline_bytes.get());
    let length = usize::from(inode.attributes.inline_bytes.get());
    let hash = env.check.volume.hash;
    let sound = |from: u64| {
        let bytes =
            usize::try_from(from).ok().and_then(|from| inode.payload.0.get(from..from.checked_add(length)?));
        bytes.is_some_and(|bytes| crate::body::is_sound::<crate::body::Attributes>(number, &hash, bytes))
    };
    let mut find = |field: &str, fault: &str| {
        let problem = Problem::InodePayload { inode: number, fault: fault.to_owned() };
        subject.find(env, field, problem);
    };
    let is_values = inode.data.format == ForkFormat::VALUES;
    if is_values || inode.data.format == ForkFormat::INLINE {
        let unit = match kind {
            FileType::Regular => size_of::<paxfs_format::extent::Extent>() as u64,
            FileType::Directory => 8,
            _ if is_values => size_of::<BlockNo>() as u64,
            _ => 1,
        };
        let expected = match kind {
            FileType::Regular => inode.data.count.get().saturating_mul(unit),
            _ if is_values => (value_blocks(inode.size.get()) as u64).saturating_mul(unit),
            _ => inode.size.get(),
        };
        let ends = |from: u64| {
            let end = usize::try_from(from).ok().and_then(|from| from.checked_add(length));
            let behind = end.and_then(|end| inode.payload.0.get(end..));
            sound(from) && behind.is_some_and(|behind| behind.iter().all(|&byte| byte == 0))
        };
        if !data.is_multiple_of(unit) || (data != expected && !ends(data) && ends(expected)) {
            find(".data.inline_bytes", "the bytes of the data fork do not end where its contents do");
            return false;
        }
    }
    if inode.attributes.format == ForkFormat::INLINE && (!length.is_multiple_of(8) || (tail && !sound(data)))
    {
        find(".attributes.inline_bytes", "the bytes of the attribute fork do not end where its entries do");
        return false;
    }
    true
}

/// Whether a fork is stored in a way that it can be, and has nothing that belongs to another way.
fn fork(env: &mut Env<'_>, subject: &Subject<'_>, which: Which, kind: FileType) -> bool {
    let Subject { number, inode } = *subject;
    let fork: &Fork = inode.fork(which);
    let format = fork.format;
    let name = which.name();
    let rooted = format == ForkFormat::TREE || format == ForkFormat::BLOCK;
    let fine = format == ForkFormat::EMPTY
        || match (which, kind) {
            (Which::Attributes, _) | (Which::Data, FileType::Directory) => {
                rooted || format == ForkFormat::INLINE
            }
            (Which::Data, FileType::Regular) => format == ForkFormat::TREE || format == ForkFormat::INLINE,
            (Which::Data, FileType::Symlink) => format == ForkFormat::VALUES || format == ForkFormat::INLINE,
            (Which::Data, _) => false,
        };
    let mut find = |field: &str, fault: &str| {
        let problem =
            Problem::ForkFormat { inode: number, format: format.get().into(), fault: fault.to_owned() };
        subject.find(env, &format!(".{name}.{field}"), problem);
    };
    if !fine {
        find("format", "it cannot be stored so");
        return false;
    }
    let holds_bytes = format == ForkFormat::INLINE || format == ForkFormat::VALUES;
    if holds_bytes == (fork.inline_bytes.get() == 0) {
        find(
            "inline_bytes",
            if holds_bytes { "it has no bytes in the payload" } else { "it has bytes in the payload" },
        );
        return false;
    }
    if !rooted && fork.tree != TreeRoot::zeroed() {
        find("tree", "it has the root of a tree");
        return false;
    } else if format == ForkFormat::BLOCK {
        let expected = TreeRoot { block: fork.tree.block, records: 1.into(), ..TreeRoot::zeroed() };
        if fork.tree != expected {
            find("tree", "the root of its one block has height and nodes 0 and one record");
            return false;
        }
    }
    true
}

/// The target of a symlink.
pub(crate) fn symlink(env: &mut Env<'_>, subject: &Subject<'_>) {
    let Subject { number, inode } = *subject;
    let size = inode.size.get();
    let inline = inode.inline(Which::Data).unwrap_or_default();
    let bad = |fault: String| Problem::Symlink { inode: number, fault };
    let target = match inode.data.format {
        ForkFormat::INLINE => {
            if size != inline.len() as u64 {
                let expected = inline.len() as u64;
                subject.find(env, ".size", Problem::InodeSize { inode: number, size, expected });
            }
            inline.to_vec()
        }
        ForkFormat::VALUES if size <= MAX_SYMLINK => {
            match value(env, subject, inline, size, &Place::Target) {
                Ok(target) => target,
                Err(None) => return,
                Err(Some(fault)) => {
                    env.check.doubts.blocks.store(true, Ordering::Relaxed);
                    return subject.find(env, ".payload", bad(fault));
                }
            }
        }
        ForkFormat::VALUES => {
            env.check.doubts.blocks.store(true, Ordering::Relaxed);
            let problem = Problem::InodeSize { inode: number, size, expected: MAX_SYMLINK };
            return subject.find(env, ".size", problem);
        }
        _ => return subject.find(env, ".data.format", bad("is empty".to_owned())),
    };
    if target.contains(&0) {
        subject.find(env, ".payload", bad("holds a zero byte".to_owned()));
    }
}
