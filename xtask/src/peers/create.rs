//! Making volumes: an empty one of a tebibyte, and one filled from a directory.

use crate::peers::contest::{self, Contender};
use crate::peers::field::Field;
use crate::peers::table::Row;
use anyhow::Result;

/// A sparse file of 1 TiB becomes an empty volume.
pub fn empty(field: &Field<'_>) -> Result<Row> {
    eprintln!("mkfs, empty");
    let bytes = 1 << 40;
    let image = |name: &str| field.path(&format!("empty.{name}"));
    let mut ours = field.ours("mkfs.paxfs");
    ours.arg("-q").arg(image("paxfs")).arg("1T");
    let mut contenders = vec![Contender::new("mkfs.paxfs", ours).making(&image("paxfs"), 0)];
    let mut skipped = Vec::new();
    for name in ["mkfs.btrfs", "mkfs.xfs"] {
        match field.peer(name) {
            Ok(mut command) => {
                command.arg("-q").arg(image(name));
                contenders.push(Contender::new(name, command).making(&image(name), bytes));
            }
            Err(why) => skipped.push(why),
        }
    }
    let measured = contest::hold(contenders, field.rounds_short())?;
    field.clear()?;
    Ok(Row { work: "mkfs, 1 TiB, sparse".to_owned(), measured, skipped })
}

/// A directory becomes a volume. The images stay, to be checked.
pub fn fill(field: &Field<'_>) -> Result<Row> {
    let (tree, bytes) = (field.tree()?, field.tree_image_bytes());
    eprintln!("mkfs from a directory");
    let image = field.path("files.paxfs");
    let mut ours = field.ours("mkfs.paxfs");
    ours.args(["-q", "-d"]).arg(&tree).arg(&image).arg(bytes.to_string());
    let mut contenders = vec![Contender::new("mkfs.paxfs -d", ours).making(&image, 0)];
    let mut skipped = Vec::new();
    match field.peer("mke2fs") {
        Ok(mut command) => {
            let image = field.path("files.ext4");
            let inodes = (field.files + field.files / 10).to_string();
            command.args(["-q", "-F", "-t", "ext4", "-N", &inodes, "-d"]).arg(&tree).arg(&image);
            contenders.push(Contender::new("mke2fs -d", command).making(&image, bytes));
        }
        Err(why) => skipped.push(why),
    }
    match field.peer("mkfs.btrfs") {
        Ok(mut command) => {
            let image = field.path("files.btrfs");
            command.args(["-q", "--rootdir"]).arg(&tree).arg(&image);
            contenders.push(Contender::new("mkfs.btrfs --rootdir", command).making(&image, bytes));
        }
        Err(why) => skipped.push(why),
    }
    let measured = contest::hold(contenders, field.rounds)?;
    Ok(Row { work: format!("mkfs from a directory of {} files", field.files), measured, skipped })
}
