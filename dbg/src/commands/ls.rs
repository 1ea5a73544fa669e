//! `ls`: a directory.

use crate::error::CommandError;
use crate::faults::Faults;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use crate::target::Target;
use crate::when;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::inode::{FileType, Inode};
use paxfs_format::names::printable;
use paxfs_format::time::Timestamp;
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Show mode, links, owners (numeric), size, time of change to the nanosecond, targets of symlinks
    #[arg(short)]
    pub long: bool,

    /// Go down into directories
    #[arg(short = 'R')]
    pub recursive: bool,

    /// A path from `/`, or an inode number
    #[arg(default_value = "/")]
    pub path: OsString,
}

/// One name.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    inode: u64,
    #[serde(flatten)]
    attributes: Option<Attributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Attributes {
    generation: u32,
    r#type: Option<&'static str>,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
    size: u64,
    blocks: u64,
    major: u32,
    minor: u32,
    accessed: Time,
    modified: Time,
    changed: Time,
    born: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Debug, Serialize)]
struct Time {
    seconds: i64,
    nanoseconds: u32,
}

/// Lists it.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let volume = session.volume();
    let target = Target::find(&volume, &arguments.path)?;
    let columns: &[&str] = if arguments.long {
        &["#inode", "mode", "#links", "#uid", "#gid", "#size", "modified", "name"]
    } else {
        &["#inode", "type", "name"]
    };
    let mut lister = Lister {
        volume: &volume,
        long: arguments.long,
        faults: Faults::default(),
        rows: Rows::start(format, "entries", columns)?,
    };
    if target.is_directory() {
        lister.tree(&target, arguments.recursive)?;
    } else {
        lister.row(printable(arguments.path.as_bytes()), target.number)?;
    }
    let Lister { faults, rows, .. } = lister;
    rows.end(Output::new().failure(faults.failure()))
}

struct Lister<'v, B> {
    volume: &'v Volume<B>,
    long: bool,
    faults: Faults,
    rows: Rows,
}

impl<'v, B: Blocks> Lister<'v, B> {
    /// A directory, and those below it if `recursive`. Names are then paths from the directory.
    fn tree(&mut self, top: &Target<'v>, recursive: bool) -> Result<(), CommandError> {
        let mut seen = HashSet::from([top.number]);
        let mut stack = vec![(Vec::new(), top.inode)];
        while let Some((prefix, directory)) = stack.pop() {
            let below = stack.len();
            for (name, number) in self.sorted(directory) {
                let name = [prefix.as_slice(), name].concat();
                if !self.row(printable(&name), number)? {
                    return Ok(());
                }
                let inode = self.volume.inode(number).ok().filter(|_| recursive);
                let inode = inode.filter(|inode| inode.file_type() == Some(FileType::Directory));
                if let Some(inode) = inode
                    && seen.insert(number)
                {
                    stack.push(([name.as_slice(), b"/"].concat(), inode));
                }
            }
            stack.get_mut(below..).unwrap_or_default().reverse();
        }
        Ok(())
    }

    /// Names and inode numbers of a directory that can be read, in the order of the names.
    fn sorted(&mut self, directory: &'v Inode) -> Vec<(&'v [u8], u64)> {
        let mut entries = Vec::new();
        for entry in self.volume.directory(directory) {
            match entry {
                Ok(entry) => entries.push((entry.name, entry.head.inode.get())),
                Err(fault) => {
                    self.faults.note(format!("directory inode {}: {fault}", directory.header.place.get()));
                }
            }
        }
        entries.sort_unstable();
        entries
    }

    /// Prints one; false when nobody reads any more.
    fn row(&mut self, name: String, number: u64) -> Result<bool, CommandError> {
        let (attributes, fault) = match self.volume.inode(number) {
            Ok(inode) => self.attributes(inode),
            Err(fault) => (None, Some(format!("inode {number}: {fault}"))),
        };
        if let Some(fault) = &fault {
            self.faults.note(format!("{name}: {fault}"));
        }
        let row = Row { name, inode: number, attributes, fault };
        self.rows.row(&row, || row.cells(self.long))
    }

    fn attributes(&self, inode: &Inode) -> (Option<Attributes>, Option<String>) {
        let file_type = inode.file_type();
        let (target, fault) = match file_type {
            Some(FileType::Symlink) => match self.volume.target(inode) {
                Ok(target) => (Some(printable(&target)), None),
                Err(fault) => (None, Some(format!("target: {fault}"))),
            },
            None => (None, Some(format!("mode {:#o} is no type of file", inode.mode.get()))),
            Some(_) => (None, None),
        };
        let attributes = Attributes {
            generation: inode.generation.get(),
            r#type: file_type.map(type_name),
            mode: inode.mode.get(),
            links: inode.links.get(),
            uid: inode.uid.get(),
            gid: inode.gid.get(),
            size: inode.size.get(),
            blocks: inode.blocks.get(),
            major: inode.major.get(),
            minor: inode.minor.get(),
            accessed: Time::of(&inode.accessed),
            modified: Time::of(&inode.modified),
            changed: Time::of(&inode.changed),
            born: Time::of(&inode.born),
            target,
        };
        (Some(attributes), fault)
    }
}

impl Time {
    fn of(time: &Timestamp) -> Self {
        Time { seconds: time.seconds.get(), nanoseconds: time.nanoseconds.get() }
    }
}

impl Row {
    fn cells(&self, long: bool) -> Vec<String> {
        let Row { name, inode, attributes, .. } = self;
        let Some(attributes) = attributes else {
            let mut cells = vec!["?".to_owned(); if long { 8 } else { 3 }];
            if let (Some(first), Some(last)) = (cells.first_mut(), Some(name)) {
                *first = inode.to_string();
                cells.pop();
                cells.push(last.clone());
            }
            return cells;
        };
        let Attributes { r#type, mode, links, uid, gid, size, major, minor, modified, target, .. } =
            attributes;
        if !long {
            return vec![inode.to_string(), r#type.unwrap_or("?").to_owned(), name.clone()];
        }
        let size = match r#type {
            Some("character" | "block") => format!("{major}, {minor}"),
            _ => size.to_string(),
        };
        let name = match target {
            Some(target) => format!("{name} -> {target}"),
            None => name.clone(),
        };
        let modified = when::utc(&Timestamp::new(modified.seconds, modified.nanoseconds));
        vec![
            inode.to_string(),
            mode_text(*mode),
            links.to_string(),
            uid.to_string(),
            gid.to_string(),
            size,
            modified,
            name,
        ]
    }
}

/// The type of a file in one word, as in directory entries.
fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "fifo",
        FileType::Character => "character",
        FileType::Directory => "directory",
        FileType::Block => "block",
        FileType::Regular => "regular",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
    }
}

/// A mode as `ls -l` shows it.
fn mode_text(mode: u32) -> String {
    let first = match FileType::from_mode(mode) {
        Some(FileType::Fifo) => 'p',
        Some(FileType::Character) => 'c',
        Some(FileType::Directory) => 'd',
        Some(FileType::Block) => 'b',
        Some(FileType::Regular) => '-',
        Some(FileType::Symlink) => 'l',
        Some(FileType::Socket) => 's',
        None => '?',
    };
    let has = |bit: u32| mode & bit != 0;
    let execute = |bit, special, both, alone| match (has(bit), has(special)) {
        (true, true) => both,
        (false, true) => alone,
        (true, false) => 'x',
        (false, false) => '-',
    };
    let flag = |bit, letter| if has(bit) { letter } else { '-' };
    let letters = [
        first,
        flag(0o400, 'r'),
        flag(0o200, 'w'),
        execute(0o100, 0o4000, 's', 'S'),
        flag(0o040, 'r'),
        flag(0o020, 'w'),
        execute(0o010, 0o2000, 's', 'S'),
        flag(0o004, 'r'),
        flag(0o002, 'w'),
        execute(0o001, 0o1000, 't', 'T'),
    ];
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o041_777), "drwxrwxrwt");
        assert_eq!(mode_text(0o106_711), "-rws--s--x");
        assert_eq!(mode_text(0o137_000), "?--S--S--T");
    }
}
