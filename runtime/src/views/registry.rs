//! Which view an address is in: a table that a signal handler can look at.
//!
//! Two levels of pointers, by the number of the 2 MiB frame: the first of 8192, in static memory; the second of as many
//! each, made when one is needed and never given back. A view that a thread faults in lives as long as its handler runs.
#![allow(unsafe_code)]

use super::area::Area;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

const LEVEL: usize = 1 << 13;
const FRAME_SHIFT: u32 = 21;

type Leaf = [AtomicPtr<Area>; LEVEL];

static TABLE: [AtomicPtr<Leaf>; LEVEL] = [const { AtomicPtr::new(ptr::null_mut()) }; LEVEL];

/// Keeps views in the table while somebody takes hold of one.
static HELD: RwLock<()> = RwLock::new(());

fn leaf_of(frame: usize) -> Option<&'static Leaf> {
    let leaf = TABLE.get(frame / LEVEL)?.load(Ordering::Acquire);
    // SAFETY: what is in the table was made by `make_leaf`, and is never given back.
    unsafe { leaf.as_ref() }
}

fn make_leaf(frame: usize) -> Option<&'static Leaf> {
    let place = TABLE.get(frame / LEVEL)?;
    if place.load(Ordering::Acquire).is_null() {
        let leaf: Box<Leaf> = (0..LEVEL)
            .map(|_| AtomicPtr::new(ptr::null_mut()))
            .collect::<Vec<_>>()
            .into_boxed_slice()
            .try_into()
            .ok()?;
        let leaf = Box::into_raw(leaf);
        let first = place.compare_exchange(ptr::null_mut(), leaf, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() {
            // SAFETY: another thread was faster; this one is known to nobody.
            drop(unsafe { Box::from_raw(leaf) });
        }
    }
    leaf_of(frame)
}

fn frames(area: &Area) -> core::ops::Range<usize> {
    area.base >> FRAME_SHIFT..(area.base + area.length()) >> FRAME_SHIFT
}

/// Makes a view known. It is forgotten before it is dropped.
pub(super) fn insert(area: &Area) {
    for frame in frames(area) {
        if let Some(place) = make_leaf(frame).and_then(|leaf| leaf.get(frame % LEVEL)) {
            place.store(ptr::from_ref(area).cast_mut(), Ordering::Release);
        }
    }
}

/// Forgets a view.
pub(super) fn remove(area: &Area) {
    let _alone = HELD.write().unwrap_or_else(PoisonError::into_inner);
    for frame in frames(area) {
        if let Some(place) = leaf_of(frame).and_then(|leaf| leaf.get(frame % LEVEL)) {
            place.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// The view an address is in, for a thread that does not fault there itself: the one that does may be gone on meanwhile.
pub(super) fn hold(address: usize) -> Option<Arc<Area>> {
    let _in_table = HELD.read().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: a view is dropped after it was removed, and nobody removes any now.
    unsafe { find(address) }.and_then(|area| area.me.upgrade())
}

/// The view an address is in. For signal handlers, too.
///
/// # Safety
///
/// The view is not dropped while the answer is used: this thread faults in it, or holds it.
pub(super) unsafe fn find<'a>(address: usize) -> Option<&'a Area> {
    let frame = address >> FRAME_SHIFT;
    let area = leaf_of(frame)?.get(frame % LEVEL)?.load(Ordering::Acquire);
    // SAFETY: only views that live are in the table, as the caller promises.
    unsafe { area.as_ref() }
}

/// Whether an address is in a view. For signal handlers, too.
pub(super) fn has(address: usize) -> bool {
    let frame = address >> FRAME_SHIFT;
    let place = leaf_of(frame).and_then(|leaf| leaf.get(frame % LEVEL));
    place.is_some_and(|place| !place.load(Ordering::Acquire).is_null())
}

/// Whether some bytes are in a view.
pub(crate) fn is_in_view(bytes: &[u8]) -> bool {
    let ends = bytes.as_ptr_range();
    let frames = ends.start.addr() >> FRAME_SHIFT..=ends.end.addr() >> FRAME_SHIFT;
    frames.into_iter().any(|frame| has(frame << FRAME_SHIFT))
}

/// The same bytes where reading them is no fault that would wait for a lock of ours.
pub(crate) fn apart(bytes: &[u8]) -> Cow<'_, [u8]> {
    if is_in_view(bytes) { Cow::Owned(bytes.to_vec()) } else { Cow::Borrowed(bytes) }
}
