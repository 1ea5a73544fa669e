//! From a signal handler to a worker: a table of faults, and threads that answer them.
//!
//! The handler takes a free place, writes down its fault, and sleeps on the place's word until that says that the fault was
//! answered. All of it is atomics and futexes.

use super::area::Area;
use super::fault::{Fault, Outcome};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rustix::thread::futex;
use std::sync::Once;

/// Faults that wait at the same time; more threads than that wait for a place.
const PLACES: usize = 256;
/// Threads that answer.
const WORKERS: usize = 4;

/// How often a thread looks before it sleeps: some ten microseconds. Longer would keep the processor from whom it waits for.
const SPINS: u32 = 2000;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const WAITING: u32 = 2;
const WORKED_ON: u32 = 3;
const FROZEN: u32 = 4;
const DONE: u32 = 5;
const FAILED: u32 = 6;

struct Place {
    state: AtomicU32,
    area: AtomicPtr<Area>,
    block: AtomicU64,
    fault: AtomicU32,
}

static TABLE: [Place; PLACES] = [const {
    Place {
        state: AtomicU32::new(FREE),
        area: AtomicPtr::new(ptr::null_mut()),
        block: AtomicU64::new(0),
        fault: AtomicU32::new(0),
    }
}; PLACES];

/// Raised with each fault: what workers without one sleep on.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// Workers that look for the next fault.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

fn sleep(word: &AtomicU32, value: u32) {
    // That it woke for another reason is for the caller to see.
    let _ = futex::wait(word, futex::Flags::PRIVATE, value, None);
}

fn wake(word: &AtomicU32, count: u32) {
    let _ = futex::wake(word, futex::Flags::PRIVATE, count);
}

/// Has a worker answer a fault of this thread, and waits for it. For signal handlers. The view lives until this returns.
pub(super) fn ask(area: &Area, block: u64, fault: Fault) -> Outcome {
    let place = loop {
        let free = TABLE.iter().find(|place| {
            place.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        match free {
            Some(place) => break place,
            None => std::thread::yield_now(),
        }
    };
    place.area.store(ptr::from_ref(area).cast_mut(), Ordering::Relaxed);
    place.block.store(block, Ordering::Relaxed);
    place.fault.store(fault as u32, Ordering::Relaxed);
    place.state.store(WAITING, Ordering::Release);
    CALLS.fetch_add(1, Ordering::SeqCst);
    // Who has to be woken takes longer than it is worth to look.
    let mut spins = 0;
    if LOOKING.load(Ordering::SeqCst) == 0 {
        wake(&CALLS, 1);
        spins = SPINS;
    }
    let outcome = loop {
        match place.state.load(Ordering::Acquire) {
            DONE => break Outcome::Done,
            FAILED => break Outcome::Failed,
            _ if spins < SPINS => {
                spins += 1;
                core::hint::spin_loop();
            }
            state => sleep(&place.state, state),
        }
    };
    place.state.store(FREE, Ordering::Release);
    outcome
}

/// Lets faults that waited for a thaw be answered.
pub(super) fn thaw() {
    for place in &TABLE {
        if place.state.compare_exchange(FROZEN, WAITING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            CALLS.fetch_add(1, Ordering::Release);
        }
    }
    wake(&CALLS, u32::MAX >> 1);
}

/// Starts the threads that answer, the first time it is called.
pub(super) fn start_workers() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        for number in 0..WORKERS {
            let name = format!("paxfs fault {number}");
            // With fewer threads faults wait for each other; with none the first view fails to be made.
            let _ = std::thread::Builder::new().name(name).spawn(work);
        }
    });
}

fn work() {
    let mut spins = 0;
    loop {
        let calls = CALLS.load(Ordering::Acquire);
        if TABLE.iter().any(answer) {
            // More may have asked before `CALLS` was read than there are threads that answer.
            spins = 0;
            continue;
        }
        // Faults come in bursts, and to wake a thread costs more than most of them.
        LOOKING.fetch_add(1, Ordering::SeqCst);
        while CALLS.load(Ordering::SeqCst) == calls && spins < SPINS {
            spins += 1;
            core::hint::spin_loop();
        }
        LOOKING.fetch_sub(1, Ordering::SeqCst);
        if spins == SPINS {
            sleep(&CALLS, calls);
            spins = 0;
        }
    }
}

/// Answers the fault of a place, if one waits there.
#[allow(unsafe_code)]
fn answer(place: &Place) -> bool {
    if place.state.compare_exchange(WAITING, WORKED_ON, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return false;
    }
    // Who asked at the same time may have seen this thread look.
    let waits = |place: &Place| place.state.load(Ordering::Relaxed) == WAITING;
    if LOOKING.load(Ordering::SeqCst) == 0 && TABLE.iter().any(waits) {
        wake(&CALLS, 1);
    }
    // SAFETY: the thread that faults in the view waits for the answer, and holds the view.
    let area = unsafe { place.area.load(Ordering::Relaxed).as_ref() }.and_then(|area| area.me.upgrade());
    let outcome = area.as_ref().map_or(Outcome::Failed, |area| {
        area.answer(place.block.load(Ordering::Relaxed), Fault::of(place.fault.load(Ordering::Relaxed)))
    });
    let state = match outcome {
        Outcome::Done => DONE,
        Outcome::Failed => FAILED,
        Outcome::Frozen => FROZEN,
    };
    place.state.store(state, Ordering::Release);
    wake(&place.state, 1);
    if state == FROZEN && area.is_some_and(|area| area.is_thawed()) {
        // It was thawed between the look and the note.
        thaw();
    }
    true
}
