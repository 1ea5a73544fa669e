//! `huge`: how much of each file a 2 MiB mapping can reach, and why not the rest.

use crate::commands::freesp::per_cent;
use crate::error::CommandError;
use crate::faults::Faults;
use crate::files;
use crate::output::{Output, Table};
use crate::reach::Reach;
use crate::session::Session;
use crate::target;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::inode::FileType;
use paxfs_format::owners::{OwnersFault, inodes};
use paxfs_format::volume::Volume;
use paxfs_format::words::counted;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Arguments of `huge`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reasons: small, the file is below 2 MiB; tail, behind its last whole 2 MiB; hole and unwritten, the 2 MiB \
                  have some; fragmented, they are of several runs; incongruent, one run that does not lie at a multiple of \
                  2 MiB of the volume. What is reached and shared can be mapped to read; the first store copies."
)]
pub struct Arguments {
    /// A file, or a directory and all below it (a path or an inode number); all files without
    pub path: Option<OsString>,

    /// How many files are shown, those with the most bytes not reached first; 0 for all
    #[arg(short = 'n', default_value_t = 40)]
    pub limit: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    inode: u64,
    path: String,
    size: u64,
    #[serde(flatten)]
    reach: Reach,
}

/// What the files of a volume come to.
#[derive(Debug, Default)]
pub struct Reached {
    /// Regular files.
    pub files: u64,
    /// Their sum.
    pub total: Reach,
    /// Those that miss most, by bytes missed and inode; and their sizes.
    worst: BTreeMap<(Reverse<u64>, u64), (u64, Reach)>,
}

impl Reached {
    /// Of the given inodes, those that are regular files; keeps the `limit` worst (all for 0).
    pub fn of<B: Blocks>(
        volume: &Volume<B>,
        numbers: impl Iterator<Item = Result<u64, OwnersFault>>,
        limit: usize,
        faults: &mut Faults,
    ) -> Self {
        let mut reached = Reached::default();
        for number in numbers {
            let number = match number {
                Ok(number) => number,
                Err(fault) => {
                    faults.note(fault);
                    continue;
                }
            };
            let inode = match volume.inode(number) {
                Ok(inode) if inode.file_type() == Some(FileType::Regular) => inode,
                Ok(_) => continue,
                Err(fault) => {
                    faults.note(format!("inode {number}: {fault}"));
                    continue;
                }
            };
            let reach = Reach::of(volume, inode, faults);
            reached.files += 1;
            reached.total += reach;
            let key = (Reverse(reach.missed()), inode.header.place.get());
            reached.worst.insert(key, (inode.size.get(), reach));
            if limit > 0 && reached.worst.len() > limit {
                reached.worst.pop_last();
            }
        }
        reached
    }
}

/// Measures it.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let mut faults = Faults::default();
    let reached = match &arguments.path {
        None => Reached::of(&volume, inodes(&volume), arguments.limit, &mut faults),
        Some(name) => {
            let below = files::below(&volume, target::number(&volume, name)?, &mut faults);
            Reached::of(&volume, below.into_iter().map(Ok), arguments.limit, &mut faults)
        }
    };
    let mut table =
        Table::new(&["#inode", "#size", "#data", "#reached", "#%", "#shared", "not reached", "path"]);
    let mut rows = Vec::new();
    for ((_, inode), (size, reach)) in &reached.worst {
        let path = volume.paths(*inode).first().map(ToString::to_string).unwrap_or_default();
        table.row([
            inode.to_string(),
            size.to_string(),
            reach.data.to_string(),
            reach.huge.to_string(),
            format!("{:.1}", per_cent(reach.huge, reach.data)),
            reach.huge_shared.to_string(),
            reasons(reach),
            path.clone(),
        ]);
        rows.push(Row { inode: *inode, path, size: *size, reach: *reach });
    }
    let Reached { files, total, .. } = &reached;
    let text = format!(
        "{}: a 2 MiB mapping reaches {} of {} bytes ({:.1} %), {} of them shared; not reached: {}",
        counted(*files, "file"),
        total.huge,
        total.data,
        per_cent(total.huge, total.data),
        total.huge_shared,
        reasons(total)
    );
    let output = if rows.is_empty() { Output::new() } else { Output::new().table(table) };
    Ok(output
        .text(text)
        .data("files", &rows)
        .data("count", files)
        .data("total", total)
        .data("faults", faults.kept())
        .failure(faults.failure()))
}

fn reasons(reach: &Reach) -> String {
    let reasons: Vec<_> = reach.reasons().iter().map(|(reason, bytes)| format!("{reason} {bytes}")).collect();
    if reasons.is_empty() { "-".to_owned() } else { reasons.join(", ") }
}
