//! Proofs of the engine that take longer than its tests do by themselves: the same tests, at length.

use crate::cargo::{Workspace, cargo};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// How often a writer is killed.
#[derive(Debug, clap::Args)]
pub struct KillArguments {
    /// Kills
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// What operations and moments follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Kills a process that writes to an image, again and again, and checks what it leaves: `runtime/tests/kill.rs`.
pub fn kill(arguments: &KillArguments) -> Result<()> {
    let mut test = cargo();
    test.current_dir(Workspace::find()?.root)
        .args(["test", "--package", "paxfs-runtime", "--test", "kill", "--", "--nocapture"])
        .env("PAXFS_KILLS", arguments.count.to_string())
        .env("PAXFS_KILL_SEED", arguments.seed.to_string());
    let status = test.status().context("cargo cannot be run")?;
    ensure!(status.success(), "a kill left what it must not; see above");
    Ok(())
}

/// How much the threads do.
#[derive(Debug, clap::Args)]
pub struct TsanArguments {
    /// Operations of each thread
    #[arg(long, default_value_t = 1000)]
    operations: u64,
}

/// The one target that the sanitizer is asked for: with a target named, what runs while building is not sanitized.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the engine's test of threads under ThreadSanitizer, if there is a nightly toolchain.
///
/// Where that has its sources the standard library is sanitized, too. Without them its own synchronization is not seen, and
/// the locks say to the sanitizer what they order: see `runtime/src/locks.rs`.
pub fn tsan(arguments: &TsanArguments) -> Result<()> {
    let nightly = |program: &str| {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", program]);
        command
    };
    let sysroot = nightly("rustc").args(["--print", "sysroot"]).output();
    let Some(sysroot) = sysroot.ok().filter(|output| output.status.success()) else {
        println!("skipped: ThreadSanitizer needs a nightly toolchain (rustup toolchain install nightly)");
        return Ok(());
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim_end());
    let has_sources = sysroot.join("lib/rustlib/src/rust/library").is_dir();
    let workspace = Workspace::find()?;
    let mut test = nightly("cargo");
    test.current_dir(&workspace.root).args(["test", "--package", "paxfs-runtime", "--test", "threads"]);
    test.args(["--target", TARGET]).arg("--target-dir").arg(workspace.target.join("tsan"));
    if has_sources {
        test.arg("-Zbuild-std");
    } else {
        println!("the standard library is not sanitized: the nightly toolchain has no rust-src");
        let suppressions = workspace.root.join("runtime/tests/tsan.supp");
        test.env("TSAN_OPTIONS", format!("suppressions={}", suppressions.display()));
    }
    test.args(["--", "threads_find_what_they_left"])
        .env("RUSTFLAGS", "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer")
        .env("PAXFS_THREAD_OPS", arguments.operations.to_string());
    let status = test.status().context("rustup cannot be run")?;
    ensure!(status.success(), "a race, or a failed test; see above");
    Ok(())
}
