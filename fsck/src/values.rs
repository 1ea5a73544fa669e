//! Values in blocks of their own: long attributes, long symlink targets.

use crate::context::Env;
use crate::finding::Finding;
use crate::inodes::Subject;
use crate::problem::Problem;
use crate::structures::{NOWHERE, structure_field};
use paxfs_format::entry::{BODY_SIZE, MAX_VALUE, value_blocks};
use paxfs_format::fork::ForkFault;
use paxfs_format::header::BlockKind;
use paxfs_format::names::printable;
use paxfs_format::units::BlockNo;
use paxfs_format::volume::StructureFault;
use paxfs_format::words::counted;
use std::sync::atomic::Ordering;
use zerocopy::FromBytes;

/// Where a fault of a body is, and words. The body is at `at`, what leads to it at `pointer`.
pub(crate) fn body_fault(
    fault: &ForkFault,
    at: impl FnOnce() -> String,
    pointer: impl FnOnce() -> String,
) -> (String, String) {
    match fault {
        ForkFault::Block { fault: StructureFault::Medium(_), .. } => (pointer(), NOWHERE.to_owned()),
        ForkFault::Block { fault, .. } => (at() + &structure_field(fault), fault.to_string()),
        ForkFault::Body { .. } => (at() + ".header.count", "its bytes in use do not fit".to_owned()),
        other => (at(), other.to_string()),
    }
}

/// Whose value it is.
pub(crate) enum Place<'p> {
    /// A symlink's target.
    Target,
    /// An attribute's: the path of its entry, and its name.
    Attribute(&'p str, &'p [u8]),
}

impl Place<'_> {
    /// The path of the value's block of an ordinal.
    fn block(&self, inode: u64, ordinal: usize) -> String {
        match self {
            Self::Target => format!("inode[{inode}].value[{ordinal}]"),
            Self::Attribute(entry, _) => format!("{entry}.block[{ordinal}]"),
        }
    }

    /// The path of the pointer to it.
    fn pointer(&self, inode: u64, ordinal: usize) -> String {
        match self {
            Self::Target => {
                let start = ordinal.saturating_mul(size_of::<BlockNo>());
                format!("inode[{inode}].payload[{start}..{}]", start.saturating_add(size_of::<BlockNo>()))
            }
            Self::Attribute(entry, _) => format!("{entry}.value[{ordinal}]"),
        }
    }

    /// That the value is not as long as it is said to be.
    fn length(&self, inode: u64, found: u64, expected: u64) -> Finding {
        match self {
            Self::Target => {
                let problem = Problem::InodeSize { inode, size: found, expected };
                Finding::new(format!("inode[{inode}].size"), problem)
            }
            Self::Attribute(entry, name) => {
                let problem = Problem::AttributeValue { inode, name: printable(name), found, expected };
                Finding::new(format!("{entry}.value_length"), problem)
            }
        }
    }
}

/// Checks the blocks of a value that has `length` bytes, and gives these. `Err(None)`: what is wrong has been told; else
/// it is for the caller to tell.
pub(crate) fn value(
    env: &mut Env<'_>,
    subject: &Subject<'_>,
    pointers: &[u8],
    length: u64,
    place: &Place<'_>,
) -> Result<Vec<u8>, Option<String>> {
    if length > MAX_VALUE.into() {
        return Err(Some(format!("{length} bytes are too long")));
    }
    let Ok(pointers) = <[BlockNo]>::ref_from_bytes(pointers) else {
        return Err(Some("its block numbers are cut short".to_owned()));
    };
    let needed = value_blocks(length);
    if pointers.len() != needed {
        return Err(Some(format!(
            "{} fill {}, it has {}",
            counted(length, "byte"),
            counted(needed, "block"),
            pointers.len()
        )));
    }
    let number = subject.number;
    let (mut value, mut broken) = (Vec::new(), false);
    for (index, pointer) in pointers.iter().enumerate() {
        let (block, at) = (pointer.get(), || place.block(number, index));
        let ordinal = u16::try_from(index).unwrap_or(u16::MAX);
        let bytes = match env.check.volume.body_block(subject.inode, BlockKind::VALUE, block, ordinal) {
            Ok(bytes) => bytes,
            Err(fault) => {
                let (at, fault) = body_fault(&fault, at, || place.pointer(number, index));
                let problem = Problem::ValueDamaged { inode: number, block, fault };
                env.findings.push(Finding::new(at, problem).of_file(number));
                if env.marking {
                    env.check.mark_damaged(block, BlockKind::VALUE);
                }
                env.check.doubts.blocks.store(true, Ordering::Relaxed);
                broken = true;
                continue;
            }
        };
        env.mark(block, at, Some(number));
        env.block_generation(block, at, Some(number));
        let rest = usize::try_from(length).unwrap_or(0).saturating_sub(index.saturating_mul(BODY_SIZE));
        let expected = rest.min(BODY_SIZE);
        if bytes.len() != expected {
            // Where zeros begin, a value ends: a last block that does not end with one speaks for itself.
            let is_last = index.saturating_add(1) == pointers.len();
            let is_exact = is_last && bytes.last().is_some_and(|&byte| byte != 0);
            env.findings.push(
                match is_exact {
                    true => {
                        let before = index.saturating_mul(BODY_SIZE);
                        place.length(number, length, before.saturating_add(bytes.len()) as u64)
                    }
                    false => {
                        let fault = format!(
                            "it holds {}, {expected} of the value belong there",
                            counted(bytes.len(), "byte")
                        );
                        let problem = Problem::ValueDamaged { inode: number, block, fault };
                        Finding::new(format!("{}.header.count", at()), problem)
                    }
                }
                .of_file(number),
            );
            broken = true;
        }
        value.extend_from_slice(bytes);
    }
    if broken { Err(None) } else { Ok(value) }
}
