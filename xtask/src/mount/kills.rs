//! The process that serves a volume is killed while programs write to it: the check finishes it, and what was synced is
//! there.

use super::{Outcome, Place};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Writes, syncs, and only then says what is there from now on.
const LOAD: &str = r#"
    n=0
    while :; do
        n=$((n + 1))
        mkdir -p "$ROUND/$((n % 10))"
        head -c $((n * 977 % 50000)) /dev/urandom > "$ROUND/$((n % 10))/$n"
        cp "$ROUND/$((n % 10))/$n" "$ROUND/copy"
        sync "$ROUND/$((n % 10))/$n" "$ROUND"
        sum=$(sha1sum "$ROUND/$((n % 10))/$n")
        echo "$sum" >> "$W/said"
        ln -sfn "$n" "$ROUND/link"; mv "$ROUND/copy" "$ROUND/moved"
    done
"#;

/// Holds what is there against what was said.
const COMPARE: &str = r#"
    sha1sum --quiet -c "$W/said" || { ls -liR; exit 1; }
    wc -l < "$W/said"
"#;

/// Kills it, again and again.
pub fn run(place: &Place) -> Result<Outcome> {
    let mut volume = place.volume("kills", "512M")?;
    let mut corrected = 0;
    volume.script(r#": > "$W/said""#)?;
    for round in 0..place.amounts.kills {
        let mut load = volume.shell(LOAD);
        load.env("ROUND", format!("round-{round}")).stdout(Stdio::null()).stderr(Stdio::null());
        // Not above: the shell itself must not die of it.
        let mut load = load.spawn().context("sh")?;
        sleep(Duration::from_millis(300 + round * 137 % 700));
        kill_process(server(&volume.image().to_string_lossy())?, Signal::KILL)?;
        volume.wait()?;
        // Its mount is dead; it goes as soon as the load lets go.
        load.kill()?;
        load.wait()?;
        let mut unmounted = false;
        for _ in 0..100 {
            unmounted = Command::new("umount").arg(volume.point()).stderr(Stdio::null()).status()?.success();
            if unmounted {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        ensure!(unmounted, "round {round}: the dead mount cannot be unmounted");
        let output = volume.fsck(&["-p"])?;
        let code = output.status.code();
        ensure!(
            matches!(code, Some(0 | 1)),
            "round {round}: fsck.paxfs -p: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        corrected += u64::from(code == Some(1));
        volume.check()?;
        volume.mount()?;
        // What a failure left is worth more than the space it takes.
        volume.script(COMPARE).inspect_err(|_| {
            let kept = place.workspace.target.join("killed.image");
            if std::fs::copy(volume.image(), &kept).is_ok() {
                println!("the volume is kept as {}", kept.display());
            }
        })?;
    }
    let synced = volume.script(COMPARE)?;
    volume.end()?;
    Ok(Outcome::Done(format!(
        "{} times kill -9; fsck.paxfs -p exits with 0 or 1 ({corrected} times 1); all {synced} synced files are whole",
        place.amounts.kills
    )))
}

/// The process that serves an image.
pub fn server(image: &str) -> Result<Pid> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_ours = words.next().is_some_and(|word| word.ends_with(b"mount-paxfs"));
        if let Some(pid) = pid.filter(|_| is_ours && words.any(|word| word == image.as_bytes())) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process serves {image}")
}
