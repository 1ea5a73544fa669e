//! A volume with more than a million records of shared extents: a file in many pieces, and clones of it.

use crate::peers::check::xfs_repair;
use crate::peers::contest::{self, Contender};
use crate::peers::field::{Field, Peer};
use crate::peers::mount;
use crate::peers::table::Row;
use anyhow::Result;
use rustix::fs::ioctl_ficlone;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// Our volume, as a recipe. The numbers below are its own.
const RECIPE: &str = "mkfs/recipes/shared-extents.yaml";
/// Pieces of the large file.
const PIECES: u64 = 130_000;
/// Pieces that do to see that it works: XFS takes seconds for each clone.
const PIECES_QUICK: u64 = 2_000;
/// Clones of it.
const CLONES: u64 = 7;
/// Clones of a thousand of its pieces.
const PARTS: u64 = 20;
/// Files of their own.
const OWN: u64 = 30_000;

/// The volume of ours.
pub fn make_ours(field: &Field<'_>) -> Result<()> {
    let recipe = field.workspace.root.join(RECIPE);
    mount::run(
        field.ours("mkfs.paxfs").args(["-q", "-p"]).arg(recipe).arg(field.path("shared.paxfs")).arg("4G"),
    )
}

/// An XFS with the same: every other block of a file written, then the file cloned.
pub fn make_xfs(field: &Field<'_>, quick: bool) -> Peer {
    let pieces = if quick { PIECES_QUICK } else { PIECES };
    field.xfs("shared.xfs", 4 << 30, |point| {
        let big = File::create_new(point.join("big"))?;
        let block = [0x5a; 4096];
        for piece in 0..pieces {
            big.write_all_at(&block, piece * 8192)?;
        }
        big.sync_all()?;
        for clone in 0..CLONES {
            ioctl_ficlone(File::create_new(point.join(format!("clone-{clone}")))?, &big)?;
        }
        for part in 0..PARTS {
            clone_part(
                &point.join("big"),
                &point.join(format!("part-{part}")),
                pieces / 2 * 8192,
                1024 * 8192,
            )?;
        }
        for own in 0..OWN {
            std::fs::write(point.join(format!("own-{own}")), [0x5a; 8192])?;
        }
        Ok(())
    })
}

/// A new file that shares a part of another one.
fn clone_part(from: &Path, to: &Path, offset: u64, length: u64) -> Result<()> {
    let command = format!("reflink {} {offset} 0 {length}", from.display());
    mount::run(Command::new("xfs_io").args(["-f", "-c", &command]).arg(to))
}

/// Checks of both.
pub fn check(field: &Field<'_>, xfs: &Peer) -> Result<Row> {
    eprintln!("check, shared extents");
    let mut ours = field.ours("fsck.paxfs");
    ours.arg("-nf").arg(field.path("shared.paxfs"));
    let mut contenders = vec![Contender::new("fsck.paxfs -nf", ours)];
    let mut skipped = Vec::new();
    match xfs_repair(field, xfs) {
        Ok(contender) => contenders.push(contender),
        Err(why) => skipped.push(why),
    }
    let measured = contest::hold(contenders, field.rounds_short())?;
    Ok(Row { work: "check, 1.09 million records on shared extents".to_owned(), measured, skipped })
}

/// Nodes that lead to all that the trees of the first group hold.
const NODES: [&str; 5] = [
    "rmap[0].node[2][0]",
    "refcount[0].leaf[0]",
    "free[0].leaf[0]",
    "inodes[0].node[1][0]",
    "clusters[0].leaf[0]",
];

/// Repairs of both: ours after the loss of the trees of the group that has all records; xfs_repair makes its trees anew
/// always.
pub fn rebuild(field: &Field<'_>, xfs: &Peer) -> Result<Row> {
    eprintln!("rebuild all trees, shared extents");
    let (damaged, repaired) = (field.path("damaged.paxfs"), field.path("repaired.paxfs"));
    mount::run(Command::new("cp").arg("--sparse=always").arg(field.path("shared.paxfs")).arg(&damaged))?;
    for node in NODES {
        let mut dbg = field.ours("dbg.paxfs");
        mount::run(dbg.arg(&damaged).args(["fuzz", &format!("{node}.header"), "zeroes", "-c", "keep"]))?;
    }
    let mut ours = field.ours("fsck.paxfs");
    ours.arg("-y").arg(&repaired);
    let ours = Contender { accepted: &[1], ..Contender::new("fsck.paxfs -y", ours) };
    let mut contenders = vec![ours.changing(&repaired, &damaged)];
    let mut skipped = Vec::new();
    match (xfs.clone(), field.peer("xfs_repair")) {
        (Ok(image), Ok(mut command)) => {
            let copy = field.path("repaired.xfs");
            command.arg("-f").arg(&copy);
            contenders.push(Contender::new("xfs_repair", command).changing(&copy, &image));
        }
        (Err(why), _) | (_, Err(why)) => skipped.push(why),
    }
    let measured = contest::hold(contenders, field.rounds_short())?;
    let work = "repair: all trees anew, 1.09 million records on shared extents".to_owned();
    Ok(Row { work, measured, skipped })
}
