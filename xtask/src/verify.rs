//! Whether `owner` says the truth: the bytes of a block are those of the file at the path and offset that it names; and
//! it agrees, block for block, with what `space` says of the whole volume.

use crate::cargo::Workspace;
use crate::toolbox::Toolbox;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

/// Of what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The volume
    image: PathBuf,
    /// The directory that it was made of
    source: PathBuf,
    /// Blocks of data to look at, chosen at random
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// What the choice follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Look at every block of the volume, too: whether `owner` and `space` agree
    #[arg(long)]
    every: bool,
}

/// Compares.
pub fn run(arguments: &Arguments) -> Result<()> {
    let toolbox = Toolbox::build(&Workspace::find()?)?;
    data(&toolbox, &arguments.image, &arguments.source, arguments.count, arguments.seed)?;
    if arguments.every {
        every(&toolbox, &arguments.image, 1)?;
    }
    Ok(())
}

/// One owner of a run, or the role of its blocks, as `-J` prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Run {
    /// First block, on the volume.
    pub start: u64,
    /// Blocks.
    pub length: u64,
    role: String,
    inode: Option<u64>,
    /// Where it begins in the file, in bytes.
    pub offset: Option<u64>,
    shared: Option<u64>,
    unwritten: Option<bool>,
    #[serde(default)]
    /// All paths of the file.
    pub paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Owners {
    owners: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Space {
    space: Vec<Run>,
}

const BLOCK_BYTES: u64 = 4096;

/// Random blocks of data against the files of the source.
pub fn data(toolbox: &Toolbox, image: &Path, source: &Path, count: u64, seed: u64) -> Result<()> {
    let mut runs = space(toolbox, image)?;
    // A shared run is listed once for each owner.
    runs.dedup_by_key(|run| run.start);
    runs.retain(|run| run.role == "data");
    let total: u64 = runs.iter().map(|run| run.length).sum();
    ensure!(total > 0, "{}: no data", image.display());
    let mut random = fastrand::Rng::with_seed(seed);
    let blocks: Vec<u64> = (0..count).filter_map(|_| nth(&runs, random.u64(..total))).collect();
    let device = File::open(image)?;
    let mut compared: u64 = 0;
    for (block, owners) in blocks.iter().zip(owners(toolbox, image, &blocks)?) {
        ensure!(!owners.is_empty(), "block {block} is data, but has no owner");
        for owner in owners {
            ensure!(owner.role == "data", "block {block}: space says data, owner says {}", owner.role);
            compared += compare(&device, *block, &owner, source)?;
        }
    }
    println!(
        "{} blocks of data: {compared} paths and offsets named by owner have the same bytes",
        blocks.len()
    );
    Ok(())
}

/// The block that is number `n` of those of all runs.
fn nth(runs: &[Run], mut n: u64) -> Option<u64> {
    for run in runs {
        match n.checked_sub(run.length) {
            Some(rest) => n = rest,
            None => return run.start.checked_add(n),
        }
    }
    None
}

/// One block against each path that an owner of it has; how many.
fn compare(device: &File, block: u64, owner: &Run, source: &Path) -> Result<u64> {
    let mut expected = vec![0; usize::try_from(BLOCK_BYTES)?];
    if owner.unwritten != Some(true) {
        device.read_exact_at(&mut expected, block * BLOCK_BYTES)?;
    }
    let offset = owner.offset.with_context(|| format!("block {block}: no offset"))?;
    ensure!(!owner.paths.is_empty(), "block {block}: inode {:?} has no path", owner.inode);
    for path in &owner.paths {
        let path = unescaped(path)?;
        let path = source.join(path.strip_prefix("/").unwrap_or(&path));
        let file = File::open(&path).with_context(|| format!("block {block}: {}", path.display()))?;
        let mut found = vec![0; expected.len()];
        let length = read_at_most(&file, &mut found, offset)?;
        ensure!(length > 0, "block {block}: {} ends before byte {offset}", path.display());
        ensure!(found == expected, "block {block}: other bytes than {} has at byte {offset}", path.display());
    }
    Ok(owner.paths.len().try_into()?)
}

/// Reads until the buffer is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + u64::try_from(done)?)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// A path as dbg prints it, with `\xNN` for what is no text.
fn unescaped(text: &str) -> Result<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        let (digits, after) = after.split_at_checked(2).with_context(|| format!("{text:?}"))?;
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(digits, 16).with_context(|| format!("{text:?}"))?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// `owner` of each block against `space`, or of one in `step` blocks.
pub fn every(toolbox: &Toolbox, image: &Path, step: usize) -> Result<()> {
    let runs = space(toolbox, image)?;
    let blocks = runs.iter().filter_map(|run| run.start.checked_add(run.length)).max().unwrap_or(0);
    let numbers: Vec<u64> = (0..blocks).step_by(step).collect();
    let mut first = 0;
    for (block, mut owners) in numbers.iter().copied().zip(owners(toolbox, image, &numbers)?) {
        while runs.get(first).is_some_and(|run| run.start + run.length <= block) {
            first += 1;
        }
        let here = runs.iter().skip(first).take_while(|run| run.start <= block);
        let here = here.filter(|run| block < run.start + run.length);
        let mut expected: Vec<Run> = here.map(|run| one_block(run, block)).collect();
        owners = owners.iter().map(|run| one_block(run, block)).collect();
        expected.sort();
        owners.sort();
        ensure!(expected == owners, "block {block}: space says {expected:?}, owner says {owners:?}");
        match owners.as_slice() {
            [] => bail!("block {block}: no role"),
            [_] => (),
            several => ensure!(several.iter().all(|run| run.role == "data"), "block {block}: {several:?}"),
        }
    }
    println!("{} blocks: owner and space agree on every one, each has one role or owners", numbers.len());
    Ok(())
}

/// What a run says of one of its blocks. Metadata names its structures in runs of its own, so only its role counts.
fn one_block(run: &Run, block: u64) -> Run {
    let data = run.role == "data";
    let ahead = block.saturating_sub(run.start) * BLOCK_BYTES;
    Run {
        start: block,
        length: 1,
        role: run.role.clone(),
        inode: run.inode.filter(|_| data),
        offset: run.offset.filter(|_| data).map(|offset| offset + ahead),
        shared: run.shared.filter(|_| data),
        unwritten: run.unwritten.filter(|_| data),
        paths: Vec::new(),
    }
}

/// What `space` says, by block.
fn space(toolbox: &Toolbox, image: &Path) -> Result<Vec<Run>> {
    let output =
        toolbox.command("dbg.paxfs").arg("-J").arg(image).arg("space").stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "dbg.paxfs space: {}", output.status);
    let mut space: Space = serde_json::from_slice(&output.stdout).context("dbg.paxfs space -J")?;
    space.space.sort();
    Ok(space.space)
}

/// What `owner` says of each of these blocks, or ranges: one process, a line of its prompt for each.
pub fn owners(toolbox: &Toolbox, image: &Path, blocks: &[impl Display]) -> Result<Vec<Vec<Run>>> {
    let mut command = toolbox.command("dbg.paxfs");
    command.arg("-J").arg(image).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().context("no standard input")?;
    let lines: String = blocks.iter().map(|block| format!("owner {block}\n")).collect();
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "dbg.paxfs owner: {}", output.status);
    writer.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
    let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Owners>();
    let answers: Vec<Vec<Run>> = answers
        .map(|answer| answer.map(|answer| answer.owners))
        .collect::<Result<_, _>>()
        .context("owner -J")?;
    ensure!(answers.len() == blocks.len(), "{} answers for {} blocks", answers.len(), blocks.len());
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are_printed() {
        assert_eq!(unescaped("/a b/c").unwrap(), PathBuf::from("/a b/c"));
        assert_eq!(unescaped("/\\x5c\\xff").unwrap(), PathBuf::from(OsString::from_vec(b"/\\\xff".to_vec())));
        assert!(unescaped("/\\x5").is_err());
    }

    #[test]
    fn the_nth_block_is_found() {
        let run = |start, length| Run {
            start,
            length,
            role: String::new(),
            inode: None,
            offset: None,
            shared: None,
            unwritten: None,
            paths: Vec::new(),
        };
        let runs = [run(10, 2), run(20, 1)];
        let found: Vec<_> = (0..4).map(|n| nth(&runs, n)).collect();
        assert_eq!(found, [Some(10), Some(11), Some(20), None]);
    }
}
