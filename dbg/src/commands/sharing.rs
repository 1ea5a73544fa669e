//! `sharing`: who shares blocks with whom, and what is whose alone.

use crate::error::CommandError;
use crate::faults::Faults;
use crate::output::{Output, Table};
use crate::session::Session;
use crate::sharing::{Set, Sharing, Usage};
use crate::{files, holders, target};
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::ffi::OsString;

/// Arguments of `sharing`.
#[derive(Debug, Args)]
#[command(
    after_help = "Bytes are those of blocks on the volume, each counted once for a file. Exclusive bytes are free when \
                        the file (or all of the directory) is gone."
)]
pub struct Arguments {
    /// A file, or a directory and all below it (a path or an inode number); all files without
    pub path: Option<OsString>,

    /// How many files, and how many sets of files, are shown, the largest first; 0 for all
    #[arg(short = 'n', default_value_t = 40)]
    pub limit: usize,
}

#[derive(Debug, Serialize)]
struct FileRow {
    inode: u64,
    path: String,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct SetRow {
    #[serde(flatten)]
    set: Set,
    paths: Vec<String>,
}

/// Sums it up.
pub fn run(session: &Session, arguments: &Arguments) -> Result<Output, CommandError> {
    let volume = session.volume();
    let mut faults = Faults::default();
    let members = match &arguments.path {
        None => None,
        Some(name) => {
            let number = target::number(&volume, name)?;
            Some(files::below(&volume, number, &mut faults))
        }
    };
    let held = holders::held(&volume);
    let sharing = Sharing::of(held, volume.geometry.blocks, members.as_ref(), &mut faults);
    let limit = if arguments.limit == 0 { usize::MAX } else { arguments.limit };

    // Without a path, files that share nothing are no news.
    let shown = |usage: &Usage| usage.shared > 0 || members.is_some();
    let mut files: Vec<_> = sharing.files.iter().filter(|(_, usage)| shown(usage)).collect();
    files.sort_by_key(|(inode, usage)| (std::cmp::Reverse((usage.shared, usage.bytes)), **inode));
    let (all_files, all_sets) = (files.len(), sharing.sets.len());
    let files: Vec<_> = files
        .into_iter()
        .take(limit)
        .map(|(inode, usage)| FileRow { inode: *inode, path: path(&volume, *inode), usage: *usage })
        .collect();
    let sets: Vec<_> = sharing
        .sets
        .iter()
        .take(limit)
        .map(|set| SetRow {
            paths: set.inodes.iter().map(|inode| path(&volume, *inode)).collect(),
            set: set.clone(),
        })
        .collect();

    let total = &sharing.total;
    let text = format!(
        "{} bytes on the volume, {} of them shared; without sharing they would take {}: {} saved; {} exclusive",
        total.bytes, total.shared, total.referenced, total.saved, total.exclusive
    );
    let mut output = Output::new();
    if !files.is_empty() {
        output = output.table(file_table(&files)).text(more(all_files, files.len(), "files"));
    }
    if !sets.is_empty() {
        output = output.table(set_table(&sets)).text(more(all_sets, sets.len(), "sets"));
    }
    Ok(output
        .text(text)
        .data("files", &files)
        .data("files_all", &all_files)
        .data("sets", &sets)
        .data("sets_all", &all_sets)
        .data("other_sets", &sharing.other_sets)
        .data("total", total)
        .data("faults", faults.kept())
        .failure(faults.failure()))
}

fn path<B: Blocks>(volume: &Volume<B>, inode: u64) -> String {
    volume.paths(inode).first().map(ToString::to_string).unwrap_or_default()
}

fn file_table(files: &[FileRow]) -> Table {
    let mut table = Table::new(&["#inode", "#bytes", "#exclusive", "#shared", "path"]);
    for FileRow { inode, path, usage } in files {
        let Usage { bytes, exclusive, shared } = usage;
        table.row([
            inode.to_string(),
            bytes.to_string(),
            exclusive.to_string(),
            shared.to_string(),
            path.clone(),
        ]);
    }
    table
}

fn set_table(sets: &[SetRow]) -> Table {
    let mut table = Table::new(&["#shared bytes", "#files", "who"]);
    for SetRow { set, paths } in sets {
        let more = set.files.saturating_sub(paths.len());
        let who = if more > 0 { format!("{} and {more} more", paths.join(" ")) } else { paths.join(" ") };
        table.row([set.bytes.to_string(), set.files.to_string(), who]);
    }
    table
}

fn more(all: usize, shown: usize, what: &str) -> String {
    match all.saturating_sub(shown) {
        0 => "\n".to_owned(),
        more => format!("and {more} more {what} (-n 0 shows all)\n\n"),
    }
}
