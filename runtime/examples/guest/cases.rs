//! What is done on both, and what a reader is promised to find: always after a remount.

use crate::target::{Result, Target};
use std::fmt::Write;

/// What free blocks hold before the first case, so that it shows when somebody reads what nobody wrote.
const STALE: u8 = 0xa5;

/// Fills a target with [`STALE`], and frees that again.
pub fn make_stale(target: &mut dyn Target) -> Result<()> {
    let (free, piece) = (target.free()?, vec![STALE; 1 << 20]);
    let mut written = 0;
    while target.write("stale", written, &piece).is_ok() {
        written += piece.len() as u64;
    }
    if written < free / 10 * 9 {
        return Err(format!("of {free} bytes that are free only {written} could be written").into());
    }
    target.remove("stale")?;
    target.remount()
}

/// One thing to do.
pub struct Case {
    /// What is done.
    pub name: &'static str,
    /// What must come out of it on paxfs.
    pub promised: &'static str,
    run: fn(&mut dyn Target) -> Result<String>,
}

impl Case {
    /// What comes out of it on a target.
    pub fn on(&self, target: &mut dyn Target) -> String {
        (self.run)(target).unwrap_or_else(|error| format!("error: {error}"))
    }
}

/// All of them, in this order: those that look at what free blocks hold come before those that free others.
pub const CASES: &[Case] = &[
    Case { name: "unwritten blocks", promised: "64 KiB of zeros", run: unwritten },
    Case {
        name: "unwritten blocks, 100 bytes written",
        promised: "30000 B of zeros, 100 B of 0x11, 35436 B of zeros",
        run: written_in_unwritten,
    },
    Case {
        name: "dedupe data with unwritten on equal bytes",
        promised: "differs; 64 KiB of 0xa5",
        run: dedupe_data_with_unwritten,
    },
    Case {
        name: "dedupe unwritten on some bytes with equal data",
        promised: "differs; 64 KiB of zeros",
        run: dedupe_unwritten_with_data,
    },
    Case {
        name: "dedupe zeros with unwritten",
        promised: "same; 64 KiB of zeros",
        run: dedupe_zeros_with_unwritten,
    },
    Case {
        name: "dedupe a hole with unwritten",
        promised: "same; 64 KiB of zeros",
        run: dedupe_hole_with_unwritten,
    },
    Case { name: "dedupe equal data", promised: "same; 64 KiB of 0x11", run: dedupe_equal },
    Case {
        name: "dedupe data that differ in a byte",
        promised: "differs; 65535 B of 0x11, 1 B of 0x22",
        run: dedupe_unequal,
    },
    Case {
        name: "written twice",
        promised: "4000 B of 0x11, 100 B of 0x22, 4092 B of 0x11",
        run: written_twice,
    },
    Case { name: "clone 8 MiB", promised: "8 MiB of 0x11, shared", run: clone_shares },
    Case {
        name: "clone, original overwritten: the clone",
        promised: "64 KiB of 0x11",
        run: original_overwritten,
    },
    Case {
        name: "clone, 100 bytes written to it: the clone",
        promised: "30000 B of 0x11, 100 B of 0x22, 35436 B of 0x11",
        run: clone_overwritten,
    },
    Case {
        name: "clone, 100 bytes written to it: the original",
        promised: "64 KiB of 0x11",
        run: |target| seen(target, "original-2"),
    },
    Case {
        name: "hole, 100 bytes stored by a mapping",
        promised: "30000 B of zeros, 100 B of 0x11, 35436 B of zeros",
        run: stored_in_hole,
    },
    Case {
        name: "clone, 100 bytes stored by a mapping: the clone",
        promised: "30000 B of 0x11, 100 B of 0x22, 35436 B of 0x11",
        run: clone_stored_to,
    },
    Case {
        name: "clone, 100 bytes stored by a mapping: the original",
        promised: "64 KiB of 0x11",
        run: |target| seen(target, "original-3"),
    },
    Case {
        name: "hole punched from 5000 to 60000",
        promised: "5000 B of 0x11, 55000 B of zeros, 5536 B of 0x11",
        run: punched,
    },
    Case { name: "cut to 5000, extended to 8192", promised: "5000 B of 0x11, 3192 B of zeros", run: cut },
];

const LENGTH: u64 = 64 << 10;
const BYTES: usize = 64 << 10;

fn unwritten(target: &mut dyn Target) -> Result<String> {
    target.allocate("unwritten", 0..LENGTH)?;
    seen(target, "unwritten")
}

fn written_in_unwritten(target: &mut dyn Target) -> Result<String> {
    target.allocate("in-unwritten", 0..LENGTH)?;
    target.write("in-unwritten", 30000, &[0x11; 100])?;
    seen(target, "in-unwritten")
}

fn dedupe_data_with_unwritten(target: &mut dyn Target) -> Result<String> {
    target.allocate("dedupe-1-from", 0..LENGTH)?;
    target.write("dedupe-1-to", 0, &[STALE; BYTES])?;
    deduped(target, "dedupe-1")
}

fn dedupe_unwritten_with_data(target: &mut dyn Target) -> Result<String> {
    target.write("dedupe-2-from", 0, &[STALE; BYTES])?;
    target.allocate("dedupe-2-to", 0..LENGTH)?;
    deduped(target, "dedupe-2")
}

fn dedupe_zeros_with_unwritten(target: &mut dyn Target) -> Result<String> {
    target.allocate("dedupe-3-from", 0..LENGTH)?;
    target.write("dedupe-3-to", 0, &[0; BYTES])?;
    deduped(target, "dedupe-3")
}

fn dedupe_hole_with_unwritten(target: &mut dyn Target) -> Result<String> {
    target.allocate("dedupe-4-from", 0..LENGTH)?;
    target.truncate("dedupe-4-to", LENGTH)?;
    deduped(target, "dedupe-4")
}

fn dedupe_equal(target: &mut dyn Target) -> Result<String> {
    target.write("dedupe-5-from", 0, &[0x11; BYTES])?;
    target.write("dedupe-5-to", 0, &[0x11; BYTES])?;
    deduped(target, "dedupe-5")
}

fn dedupe_unequal(target: &mut dyn Target) -> Result<String> {
    target.write("dedupe-6-from", 0, &[0x11; BYTES])?;
    target.write("dedupe-6-to", 0, &[0x11; BYTES])?;
    target.write("dedupe-6-to", LENGTH - 1, &[0x22])?;
    deduped(target, "dedupe-6")
}

fn written_twice(target: &mut dyn Target) -> Result<String> {
    target.write("twice", 0, &[0x11; 8192])?;
    target.write("twice", 4000, &[0x22; 100])?;
    seen(target, "twice")
}

fn clone_shares(target: &mut dyn Target) -> Result<String> {
    let bytes = vec![0x11; 8 << 20];
    target.write("large", 0, &bytes)?;
    let before = target.free()?;
    target.clone("large", "large-clone")?;
    let taken = before.saturating_sub(target.free()?);
    let how =
        if taken < bytes.len() as u64 / 8 { "shared".to_owned() } else { format!("and {taken} B taken") };
    Ok(format!("{}, {how}", seen(target, "large-clone")?))
}

fn original_overwritten(target: &mut dyn Target) -> Result<String> {
    target.write("original-1", 0, &[0x11; BYTES])?;
    target.clone("original-1", "clone-1")?;
    target.write("original-1", 0, &[0x22; BYTES])?;
    seen(target, "clone-1")
}

fn clone_overwritten(target: &mut dyn Target) -> Result<String> {
    target.write("original-2", 0, &[0x11; BYTES])?;
    target.clone("original-2", "clone-2")?;
    target.write("clone-2", 30000, &[0x22; 100])?;
    seen(target, "clone-2")
}

fn stored_in_hole(target: &mut dyn Target) -> Result<String> {
    target.truncate("stored-in-hole", LENGTH)?;
    target.store("stored-in-hole", 30000, &[0x11; 100])?;
    seen(target, "stored-in-hole")
}

fn clone_stored_to(target: &mut dyn Target) -> Result<String> {
    target.write("original-3", 0, &[0x11; BYTES])?;
    target.clone("original-3", "clone-3")?;
    target.store("clone-3", 30000, &[0x22; 100])?;
    seen(target, "clone-3")
}

fn punched(target: &mut dyn Target) -> Result<String> {
    target.write("punched", 0, &[0x11; BYTES])?;
    target.punch("punched", 5000..60000)?;
    seen(target, "punched")
}

fn cut(target: &mut dyn Target) -> Result<String> {
    target.write("cut", 0, &[0x11; 8192])?;
    target.truncate("cut", 5000)?;
    target.truncate("cut", 8192)?;
    seen(target, "cut")
}

/// Dedupes `NAME-to` with `NAME-from`: the answer, and what `NAME-to` reads as then.
fn deduped(target: &mut dyn Target, name: &str) -> Result<String> {
    let to = format!("{name}-to");
    let same = target.dedupe(&format!("{name}-from"), &to)?;
    Ok(format!("{}; {}", if same { "same" } else { "differs" }, seen(target, &to)?))
}

/// What a file reads as after a remount.
fn seen(target: &mut dyn Target, file: &str) -> Result<String> {
    target.remount()?;
    Ok(runs(&target.read(file)?))
}

/// Bytes as runs of equal ones.
pub fn runs(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|one, next| one == next) {
        let comma = if text.is_empty() { "" } else { ", " };
        let (length, unit) = match run.len() {
            length if length.is_multiple_of(1 << 20) => (length >> 20, "MiB"),
            length if length.is_multiple_of(1 << 10) => (length >> 10, "KiB"),
            length => (length, "B"),
        };
        let _ = match run.first() {
            Some(0) => write!(text, "{comma}{length} {unit} of zeros"),
            Some(byte) => write!(text, "{comma}{length} {unit} of {byte:#04x}"),
            None => Ok(()),
        };
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}
