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

/// Our volume, as a recipe; [`PIECES`] and [`OWNERS`] are its numbers.
const RECIPE: &str = "mkfs/recipes/shared-extents.yaml";
/// Pieces of the file.
const PIECES: u64 = 136_000;
/// Files that have all of them.
const OWNERS: u64 = 8;
/// Pieces that do to see that it works: XFS takes seconds for each clone.
const PIECES_QUICK: u64 = 2_000;

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
        let file = File::create_new(point.join("0"))?;
        let block = [0x5a; 4096];
        for piece in 0..pieces {
            file.write_all_at(&block, piece * 8192)?;
        }
        file.sync_all()?;
        for clone in 1..OWNERS {
            ioctl_ficlone(File::create_new(point.join(clone.to_string()))?, &file)?;
        }
        Ok(())
    })
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
    Ok(Row { work: "check, shared extents".to_owned(), measured, skipped })
}
