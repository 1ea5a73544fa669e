//! Who owns a block.

use crate::peers::contest::{self, Contender};
use crate::peers::field::{Field, Peer};
use crate::peers::mount::Mount;
use crate::peers::table::Row;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Of a block of one of many files.
pub fn files(field: &Field<'_>, xfs: &Peer) -> Result<Row> {
    let work = format!("owner of a block, {} files", field.files);
    let file = format!("directory-{:05}/file-{:07}.dat", field.files / 2 / 500, field.files / 2);
    contest(field, work, "files.paxfs", &file, xfs)
}

/// Of a block that many files share.
pub fn shared(field: &Field<'_>, xfs: &Peer) -> Result<Row> {
    contest(field, "owners of a shared block".to_owned(), "shared.paxfs", "big", xfs)
}

fn contest(field: &Field<'_>, work: String, image: &str, file: &str, xfs: &Peer) -> Result<Row> {
    eprintln!("{work}");
    let image = field.path(image);
    let block = first_block(field, &image, file)?;
    let mut ours = field.ours("dbg.paxfs");
    ours.arg(&image).arg("owner").arg(block.to_string());
    let mut contenders = vec![Contender::new("dbg.paxfs owner", ours)];
    let mut skipped = Vec::new();
    match xfs_db(field, xfs, file) {
        Ok(contender) => contenders.push(contender),
        Err(why) => skipped.push(why),
    }
    let measured = contest::hold(contenders, field.rounds_short())?;
    Ok(Row { work, measured, skipped })
}

/// The first block of a file of ours. It may have very many extents, so that only the first is read.
fn first_block(field: &Field<'_>, image: &Path, file: &str) -> Result<u64> {
    let mut command = field.ours("dbg.paxfs");
    command.arg("-J").arg(image).args(["extents", &format!("/{file}")]).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let first = lines.map_while(Result::ok).find(|line| line.starts_with("{\"offset\""));
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    let line = first.with_context(|| format!("{file} has no extents"))?;
    let extent: serde_json::Value = serde_json::from_str(line.trim_end_matches(','))?;
    extent.get("start").and_then(serde_json::Value::as_u64).with_context(|| format!("no start in {extent}"))
}

/// `xfs_db` reads the whole volume and then answers for one block.
fn xfs_db(field: &Field<'_>, image: &Peer, file: &str) -> std::result::Result<Contender, String> {
    let image = image.as_ref().map_err(Clone::clone)?;
    let sector = xfs_sector(field, image, file).map_err(|error| format!("xfs_db: {error:#}"))?;
    let mut command = field.peer("xfs_db")?;
    command
        .args(["-r", "-f", "-c", "blockget", "-c", &format!("daddr {sector}"), "-c", "blockuse"])
        .arg(image);
    Ok(Contender::new("xfs_db blockget, blockuse", command))
}

/// The first sector of a file's first block, as the kernel says.
fn xfs_sector(field: &Field<'_>, image: &Path, file: &str) -> Result<u64> {
    let mounted = Mount::new(image, &field.path("asked"))?;
    let output = Command::new("filefrag").args(["-e", "-b512"]).arg(mounted.point().join(file)).output()?;
    mounted.unmount()?;
    // Lines of extents: `number: first..last: first physical..last physical: …`
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let extent =
        text.lines().find(|line| line.trim_start().starts_with("0:")).context("filefrag shows no extent")?;
    let physical = extent.split(':').nth(2).and_then(|range| range.split("..").next()).context("filefrag")?;
    Ok(physical.trim().parse()?)
}
