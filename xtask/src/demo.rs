//! The main job, shown from end to end: files become a volume that shares what is equal; it is checked; a copy of it is
//! damaged and checked; and a block of it is asked for its owners.

use crate::cargo::Workspace;
use crate::shell::Shell;
use crate::toolbox::Toolbox;
use crate::tools::TOOLS;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Of what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Make the image of this directory, which has to have some files of equal contents [default: the project's own
    /// sources, twice, and its tools]
    dir: Option<PathBuf>,
    /// Bytes of the image: more than the directory has
    #[arg(long, default_value = "512M")]
    size: String,
}

/// Shows it; fails if anything is not as it should be.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    println!("# Building the tools. They are run below by the names that they are installed under.");
    let toolbox = Toolbox::build(&workspace)?;
    let started = Instant::now();
    let directory = tempfile::Builder::new().prefix("paxfs-demo.").tempdir()?;
    let shell = Shell::new(&toolbox, directory.path());
    match &arguments.dir {
        Some(from) => std::os::unix::fs::symlink(from.canonicalize()?, directory.path().join("files"))?,
        None => two_days(&workspace, &toolbox, &directory.path().join("files"))?,
    }
    make(&shell, &arguments.size)?;
    ask(&shell)?;
    damage(&shell)?;
    println!("\nAll as it should be, in {:.1} s.", started.elapsed().as_secs_f64());
    Ok(())
}

/// The project's sources of two days: a file was changed in between, the rest is equal. And the tools.
fn two_days(workspace: &Workspace, toolbox: &Toolbox, files: &Path) -> Result<()> {
    for day in ["monday", "tuesday"] {
        copy_tree(&workspace.root, &files.join(day), &[&workspace.target, &workspace.root.join(".git")])?;
    }
    let changed = files.join("tuesday/README.md");
    let text = fs::read_to_string(&changed)?;
    fs::write(&changed, format!("{text}\nChanged on Tuesday.\n"))?;
    let tools = files.join("tools");
    fs::create_dir_all(&tools)?;
    for tool in &TOOLS {
        fs::copy(toolbox.path_of(tool.name), tools.join(tool.name))?;
    }
    Ok(())
}

/// Regular files and directories, but for those named.
fn copy_tree(from: &Path, to: &Path, but: &[&Path]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if but.contains(&path.as_path()) || entry.file_name() == "target" {
            continue;
        }
        if kind.is_dir() {
            copy_tree(&path, &to.join(entry.file_name()), but)?;
        } else if kind.is_file() {
            fs::copy(&path, to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn make(shell: &Shell<'_>, size: &str) -> Result<()> {
    shell.say("A volume made from a directory; contents that are equal share their blocks (-s).");
    shell.show("find files/ -type f | wc -l", 0)?;
    shell.show("ls files/", 0)?;
    shell.show(&format!("mkfs.paxfs -s -d files image {size}"), 0)?;
    shell.say(
        "The whole of it checked: every checksum, every record, both directions. It exits with 0: clean.",
    );
    shell.show("fsck.paxfs -n -f image", 0)?;
    Ok(())
}

/// Asks for the owners of a block that has more than one.
fn ask(shell: &Shell<'_>) -> Result<()> {
    shell.say("Blocks with more than one owner, as the refcount tree counts them.");
    shell.show("dbg.paxfs image tree refcount 0 | head -n 5", 0)?;
    let records: Value = serde_json::from_str(&shell.ask("dbg.paxfs -J image tree refcount 0")?)?;
    let block = records.pointer("/records/0/start").and_then(Value::as_u64);
    let block = block
        .context("no two files of the directory have equal contents: there is no shared block to show")?;
    shell.say("Who owns one of them? The reverse map says it, the parent pointers make paths of it.");
    let text = shell.show(&format!("dbg.paxfs image owner {block}"), 0)?;
    let owners = text.lines().filter(|line| line.contains(" data ") && line.contains('/')).count();
    ensure!(owners >= 2, "{owners} owners of a block that is shared");
    shell.say(
        "The same for a list of media errors, as the kernel's `badblocks` files have it: sector and length.",
    );
    let sectors = format!("{} 1\n", block * 8 + 3);
    shell.ask(&format!("printf '{}' > badblocks", sectors.replace('\n', "\\n")))?;
    shell.show("cat badblocks", 0)?;
    shell.show("dbg.paxfs image owner -B badblocks", 0)?;
    Ok(())
}

/// Damages a copy in both directions that the check compares, with all checksums right.
fn damage(shell: &Shell<'_>) -> Result<()> {
    shell.say(
        "A copy is damaged: a reference count, and a record of the reverse map. Checksums are made to fit.",
    );
    shell.show("cp --sparse=always image damaged", 0)?;
    let records: Value = serde_json::from_str(&shell.ask("dbg.paxfs -J image tree rmap 0")?)?;
    let records = records.get("records").and_then(Value::as_array).context("no reverse map")?;
    let of_file = records.iter().rfind(|record| record.get("owner").is_some_and(Value::is_u64));
    let at = of_file.and_then(|record| record.get("at")).and_then(Value::as_str).context("no file in it")?;
    shell.show("dbg.paxfs damaged fuzz 'refcount[0].leaf[0].rec[0].count' add", 0)?;
    shell.show(&format!("dbg.paxfs damaged fuzz '{at}.offset' lastbit"), 0)?;
    shell.say(
        "The check finds all of it, says which files are hit, and exits with 4: errors left uncorrected.",
    );
    let text = shell.show("fsck.paxfs -n -f damaged", 4)?;
    ensure!(text.contains("PX-"), "findings without codes");
    shell.say("What differs, field by field.");
    shell.show("dbg.paxfs image diff damaged", 0)?;
    shell.say("What was planned above is done, in one step, with a file to undo it; then nothing is wrong any more.");
    shell.show("fsck.paxfs -y -z undo damaged", 1)?;
    shell.show("fsck.paxfs -n -f damaged", 0)?;
    shell.say("It is put back, byte for byte.");
    shell.show("fsck.paxfs --undo undo damaged", 1)?;
    shell.show("fsck.paxfs -n -f damaged", 4)?;
    shell.say("The volume itself was only read, and is as it was.");
    shell.show("fsck.paxfs -n -f image", 0)?;
    Ok(())
}
