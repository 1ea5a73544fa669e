//! Proofs of the engine that take longer than its tests do by themselves: the same tests, at length.

use crate::cargo::{Workspace, cargo};
use anyhow::{Context, Result, ensure};

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
