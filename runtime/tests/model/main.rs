#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! Random operations against a plain in-memory file system: same answers, same contents, by reading and
//! through views, and a clean check at the end.
//!
//! `PAXFS_MODEL_OPS=10000000 cargo test --release -p paxfs-runtime --test model long -- --nocapture` goes on until so
//! many operations agreed.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod mapped;
mod model;
mod op;

use bench::Bench;
use common::long_runs;
use op::{Op, op};
use proptest::prelude::*;

fn agree(ops: &[Op]) {
    let mut bench = Bench::new();
    ops.iter().for_each(|op| bench.run(op));
    bench.end();
}

/// A directory that is to get another name within itself is locked once.
#[test]
fn a_link_from_a_directory_to_itself_agrees_with_the_model() {
    agree(&[Op::MakeDirectory(0), Op::Create(6), Op::Link(0, 6)]);
}

/// So many operations as `PAXFS_MODEL_OPS` says, in runs of 500.
#[test]
fn long_runs_agree_with_the_model() {
    long_runs("PAXFS_MODEL_OPS", 10_000, 500, op(), agree);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_model(ops in proptest::collection::vec(op(), 1..120)) {
        agree(&ops);
    }
}
