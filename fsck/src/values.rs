//! Values in blocks of their own: long attributes, long symlink targets.

use crate::context::Env;
use crate::finding::Finding;
use crate::inodes::Subject;
use crate::problem::Problem;
use crate::structures::structure_field;
use paxfs_format::entry::{BODY_SIZE, MAX_VALUE, value_blocks};
use paxfs_format::fork::ForkFault;
use paxfs_format::header::BlockKind;
use paxfs_format::units::BlockNo;
use zerocopy::FromBytes;

/// What a fault of a body is about: a suffix of its path, and words.
pub(crate) fn body_fault(fault: &ForkFault) -> (String, String) {
    match fault {
        ForkFault::Block { fault, .. } => (structure_field(fault), fault.to_string()),
        ForkFault::Body { .. } => (".header.count".to_owned(), "its bytes in use do not fit".to_owned()),
        other => (String::new(), other.to_string()),
    }
}

/// Checks the blocks of a value, and gives its bytes. `at` names the path of the block of an ordinal. `Err(None)`: what
/// is wrong has been told; else it is for the caller to tell.
pub(crate) fn value(
    env: &mut Env<'_>,
    subject: &Subject<'_>,
    pointers: &[u8],
    length: u64,
    at: impl Fn(usize) -> String,
) -> Result<Vec<u8>, Option<String>> {
    if length > MAX_VALUE.into() {
        return Err(Some(format!("{length} bytes are too long")));
    }
    let Ok(pointers) = <[BlockNo]>::ref_from_bytes(pointers) else {
        return Err(Some("its block numbers are cut short".to_owned()));
    };
    let needed = value_blocks(length);
    if pointers.len() != needed {
        return Err(Some(format!("{length} bytes fill {needed} blocks, it has {}", pointers.len())));
    }
    let (mut value, mut broken) = (Vec::new(), false);
    for (index, pointer) in pointers.iter().enumerate() {
        let block = pointer.get();
        let ordinal = u16::try_from(index).unwrap_or(u16::MAX);
        let bytes = match env.check.volume.body_block(subject.inode, BlockKind::VALUE, block, ordinal) {
            Ok(bytes) => bytes,
            Err(fault) => {
                let (field, fault) = body_fault(&fault);
                let problem = Problem::ValueDamaged { inode: subject.number, block, fault };
                env.findings
                    .push(Finding::new(format!("{}{field}", at(index)), problem).of_file(subject.number));
                if env.marking {
                    env.check.mark_damaged(block, BlockKind::VALUE);
                }
                env.check.doubts.blocks.store(true, std::sync::atomic::Ordering::Relaxed);
                broken = true;
                continue;
            }
        };
        env.mark(block, || at(index), Some(subject.number));
        env.block_generation(block, || at(index), Some(subject.number));
        let rest = usize::try_from(length).unwrap_or(0).saturating_sub(index.saturating_mul(BODY_SIZE));
        let expected = rest.min(BODY_SIZE);
        if bytes.len() != expected {
            let fault = format!("it holds {} bytes, {expected} of the value belong there", bytes.len());
            let problem = Problem::ValueDamaged { inode: subject.number, block, fault };
            let at = format!("{}.header.count", at(index));
            env.findings.push(Finding::new(at, problem).of_file(subject.number));
            broken = true;
        }
        value.extend_from_slice(bytes);
    }
    if broken { Err(None) } else { Ok(value) }
}
