//! Checking a volume of many files.

use crate::peers::contest::{self, Contender};
use crate::peers::field::{Field, Peer};
use crate::peers::mount;
use crate::peers::table::Row;
use anyhow::Result;
use std::process::Command;

/// An XFS with the tree on it: mkfs.xfs cannot fill one from a directory.
pub fn fill_xfs(field: &Field<'_>) -> Peer {
    let tree = field.tree().map_err(|error| format!("{error:#}"))?;
    field.xfs("files.xfs", field.tree_image_bytes(), |point| {
        mount::run(Command::new("cp").arg("-a").arg(tree.join(".")).arg(point))
    })
}

/// Checks of the volumes that [`super::create::fill`] and [`fill_xfs`] made.
pub fn files(field: &Field<'_>, xfs: &Peer) -> Result<Row> {
    eprintln!("check, many files");
    let mut ours = field.ours("fsck.paxfs");
    ours.arg("-nf").arg(field.path("files.paxfs"));
    let mut contenders = vec![Contender::new("fsck.paxfs -nf", ours)];
    let mut skipped = Vec::new();
    let peers = [("e2fsck", &["-fn"][..], "files.ext4"), ("btrfs", &["check"][..], "files.btrfs")];
    for (name, arguments, image) in peers {
        let image = field.path(image);
        match field.peer(name) {
            Ok(mut command) if image.exists() => {
                command.args(arguments).arg(image);
                contenders.push(Contender::new(&format!("{name} {}", arguments.join(" ")), command));
            }
            Ok(_) => skipped.push(format!("{name}: there is no image")),
            Err(why) => skipped.push(why),
        }
    }
    match xfs_repair(field, xfs) {
        Ok(contender) => contenders.push(contender),
        Err(why) => skipped.push(why),
    }
    let measured = contest::hold(contenders, field.rounds_short())?;
    Ok(Row { work: format!("check, {} files", field.files), measured, skipped })
}

/// `xfs_repair -n` of an image.
pub fn xfs_repair(field: &Field<'_>, image: &Peer) -> std::result::Result<Contender, String> {
    let image = image.as_ref().map_err(Clone::clone)?;
    let mut command = field.peer("xfs_repair")?;
    command.args(["-n", "-f"]).arg(image);
    Ok(Contender::new("xfs_repair -n", command))
}
