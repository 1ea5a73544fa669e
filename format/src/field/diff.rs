//! Where two instances of one structure differ, field by field.

use crate::declare::{Kind, Layout};
use crate::field::path::FieldRef;

/// Bytes of a field up to which it is shown as a whole.
const WHOLE: usize = 32;

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path in the structure.
    pub path: String,
    /// What it holds on the left.
    pub left: String,
    /// What it holds on the right.
    pub right: String,
}

/// The fields that differ between two instances, in the order of their offsets; of long bytes, each run that differs.
/// None when one of the two is shorter than the structure.
///
/// ```
/// use paxfs_format::{declare::OnDisk, field::diff::diff, free::Free};
/// use zerocopy::IntoBytes;
/// let (left, right) = (Free::zeroed(), Free { start: 3.into(), ..Free::zeroed() });
/// let found = diff(&Free::LAYOUT, left.as_bytes(), right.as_bytes());
/// assert_eq!((found[0].path.as_str(), found[0].right.as_str()), ("start", "3"));
/// ```
pub fn diff(layout: &'static Layout, left: &[u8], right: &[u8]) -> Vec<Difference> {
    let mut to = Vec::new();
    push_differences(&FieldRef::whole(layout), left, right, &mut to);
    to
}

fn push_differences(field: &FieldRef, left: &[u8], right: &[u8], to: &mut Vec<Difference>) {
    let (Some(a), Some(b)) = (field.bytes(left), field.bytes(right)) else { return };
    if a == b {
        return;
    }
    let children = field.children();
    let parts = match field.kind {
        _ if !children.is_empty() => {
            return children.iter().for_each(|child| push_differences(child, left, right, to));
        }
        Kind::Bytes(size) | Kind::Reserved(size) if size > WHOLE => differing(field, a, b),
        _ => vec![field.clone()],
    };
    for part in parts {
        if let (Some(left), Some(right)) = (part.value(left), part.value(right)) {
            to.push(Difference { path: part.name, left: left.to_string(), right: right.to_string() });
        }
    }
}

/// The runs of a field's bytes that differ; equal bytes between two runs, fewer than 8, join them.
fn differing(field: &FieldRef, left: &[u8], right: &[u8]) -> Vec<FieldRef> {
    const JOIN: usize = 8;
    let mut runs: Vec<core::ops::Range<usize>> = Vec::new();
    for (i, _) in left.iter().zip(right).enumerate().filter(|(_, (a, b))| a != b) {
        match runs.last_mut() {
            Some(run) if i - run.end < JOIN => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs.into_iter().filter_map(|run| field.range(run)).collect()
}
