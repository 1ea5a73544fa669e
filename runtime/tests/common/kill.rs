//! A process that is killed at some moment: this program again, as its test `writer`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const IMAGE: &str = "PAXFS_KILL_IMAGE";
const SEED: &str = "PAXFS_KILL_WRITER";

/// The image and the seed of the writer that this process is, if it is one.
pub fn task() -> Option<(PathBuf, u64)> {
    let image = std::env::var_os(IMAGE)?;
    Some((image.into(), number_from(SEED).unwrap()))
}

/// Tells the killer something.
pub fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // When nobody listens any more the signal is on its way.
    let _ = out.write_all(format!("@{what}\n").as_bytes());
}

/// Starts a writer and kills it after a while. Returns what it said; the last of that may be cut.
pub fn kill_a_writer(image: &Path, seed: u64, after: Duration) -> Vec<String> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture"])
        .env(IMAGE, image)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    let listener = std::thread::spawn(move || {
        lines.filter_map(|line| line.strip_prefix('@').map(str::to_owned)).collect()
    });
    std::thread::sleep(after);
    assert!(writer.try_wait().unwrap().is_none(), "the writer ended by itself");
    writer.kill().unwrap();
    writer.wait().unwrap();
    listener.join().unwrap()
}

/// A number from the environment.
pub fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
