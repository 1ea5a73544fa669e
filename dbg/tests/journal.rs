//! `journal`: what is in the slots, and what a replay would do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use paxfs_mkfs::recipe::Recipe;

/// A volume with these transactions in its journal.
fn image(journal: &str) -> (tempfile::TempDir, String) {
    let head = "volume: {size: 8M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000";
    let recipe = format!("{head}, journal: {journal}}}\nfiles:\n  - {{path: /file, size: 40K, seed: 1}}\n");
    let recipe: Recipe = recipe.parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    std::fs::write(&path, device.bytes(0, 8 << 20).unwrap()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn nothing_to_replay() {
    let (_directory, image) = image("[]");
    let journal = common::json(&["-J", &image, "journal"]);
    assert_eq!(journal["verdict"], "nothing to replay");
    assert_eq!(
        (&journal["slots"][0]["state"], &journal["slots"][1]["state"]),
        (&"empty".into(), &"empty".into())
    );
}

#[test]
fn transactions_that_wait() {
    let (_directory, image) = image("[{sequence: 2, blocks: [1]}, {sequence: 3, blocks: [1, 2]}]");
    let journal = common::json(&["-J", &image, "journal"]);
    assert_eq!(journal["live"], serde_json::json!([2, 3]));
    assert_eq!(journal["slots"][0]["transaction"], 2);
    assert_eq!(journal["slots"][1]["live"], true);
    let records = journal["records"].as_array().unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!((&records[0]["at"], &records[0]["kind"]), (&"block[1]".into(), &"group".into()));
    // They were written home, too.
    assert!(records.iter().all(|record| record["changed"] == 0));
    let text = common::printed(&[&image, "journal"]);
    assert!(text.contains("a replay applies transactions 2 and 3"), "{text}");
}

#[test]
fn what_was_not_written_home_is_told() {
    let (_directory, image) = image("[{sequence: 2, blocks: [1], stale: true}]");
    let journal = common::json(&["-J", &image, "journal"]);
    assert!(journal["records"][0]["changed"].as_u64().unwrap() > 0);
    assert_eq!(journal["records"][0]["kind"], "group");
}

#[test]
fn torn_and_broken() {
    let (_directory, torn) = image("[{sequence: 2, blocks: [1], state: torn}]");
    let journal = common::json(&["-J", &torn, "journal"]);
    assert_eq!((&journal["slots"][0]["state"], &journal["live"]), (&"torn".into(), &serde_json::json!([])));
    let (_directory, broken) = image("[{sequence: 2, blocks: [1], state: broken}]");
    let journal = common::json(&["-J", &broken, "journal"]);
    assert_eq!(journal["slots"][0]["state"], "broken");
    assert!(journal["verdict"].as_str().unwrap().starts_with("cannot be replayed: slot 0"), "{journal}");
}
