//! `tree`: the records of a tree, or its nodes.

use crate::PROGRAM;
use crate::error::CommandError;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use crate::target::number;
use clap::{Args, ValueEnum};
use paxfs_format::bad::Bad;
use paxfs_format::blocks::Blocks;
use paxfs_format::chunk::Chunk;
use paxfs_format::cluster::Cluster;
use paxfs_format::extent::Extent;
use paxfs_format::field::value::Fields;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::header::BlockKind;
use paxfs_format::index::Index;
use paxfs_format::inode::Which;
use paxfs_format::node::{Branch, Node};
use paxfs_format::path::group_header;
use paxfs_format::record::Record;
use paxfs_format::refcount::Refcount;
use paxfs_format::rmap::Rmap;
use paxfs_format::tree::{NodePlace, RecordPlace, Tree, TreeFault, Visitor};
use paxfs_format::volume::Volume;
use serde_json::{Map, Value};
use std::ffi::OsString;

/// Arguments of `tree`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which tree
    pub tree: Name,

    /// Of a group's trees the group, all groups without it; of the others the inode, by path or number
    #[arg(value_name = "GROUP|INODE")]
    pub of: Option<OsString>,

    /// Show the nodes instead of the records
    #[arg(short, long)]
    pub nodes: bool,
}

/// The trees there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Free space of a group
    Free,
    /// Reference counts of a group
    Refcount,
    /// Reverse map of a group
    Rmap,
    /// Inode index of a group
    Inodes,
    /// Metadata clusters of a group
    Clusters,
    /// Bad ranges of a group
    Bad,
    /// Extents of a regular file
    Extents,
    /// Index of a directory
    Directory,
    /// Index of the attributes of an inode
    Attributes,
}

const NODES: &[&str] = &["at", "#block", "#level", "#records", "#first"];

/// Shows them.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let volume = session.volume();
    let (key, columns) =
        if arguments.nodes { ("nodes", NODES) } else { ("records", columns(arguments.tree)) };
    let printer = Printer {
        tree: String::new(),
        nodes: arguments.nodes,
        rows: Rows::start(format, key, columns)?,
        failure: None,
        gone: false,
        faults: 0,
    };
    match arguments.tree {
        Name::Free => groups::<Free, _>(&volume, GroupTree::Free, arguments, printer),
        Name::Refcount => groups::<Refcount, _>(&volume, GroupTree::Refcount, arguments, printer),
        Name::Rmap => groups::<Rmap, _>(&volume, GroupTree::Rmap, arguments, printer),
        Name::Inodes => groups::<Chunk, _>(&volume, GroupTree::Inodes, arguments, printer),
        Name::Clusters => groups::<Cluster, _>(&volume, GroupTree::Clusters, arguments, printer),
        Name::Bad => groups::<Bad, _>(&volume, GroupTree::Bad, arguments, printer),
        Name::Extents => fork::<Extent, _>(&volume, BlockKind::EXTENTS, arguments, printer),
        Name::Directory => fork::<Index, _>(&volume, BlockKind::DIRECTORY_INDEX, arguments, printer),
        Name::Attributes => fork::<Index, _>(&volume, BlockKind::ATTRIBUTE_INDEX, arguments, printer),
    }
}

/// Columns of a tree's records: the fields of the record.
fn columns(tree: Name) -> &'static [&'static str] {
    match tree {
        Name::Free | Name::Bad => &["at", "#start", "#length"],
        Name::Refcount => &["at", "#start", "#length", "#count"],
        Name::Rmap => &["at", "#start", "#length", "#owner", "#offset", "flags"],
        Name::Inodes => &["at", "#start", "reserved", "#used", "#orphans"],
        Name::Clusters => &["at", "#start", "#used", "bitmap"],
        Name::Extents => &["at", "#offset", "#start", "#length", "flags"],
        Name::Directory | Name::Attributes => &["at", "#cookie", "#block"],
    }
}

/// Shows a tree of one group or of all.
fn groups<R: Record, B: Blocks>(
    volume: &Volume<B>,
    tree: GroupTree,
    arguments: &Arguments,
    mut printer: Printer,
) -> Result<Output, CommandError> {
    let all = volume.geometry.group_numbers();
    let asked = match &arguments.of {
        None => all,
        Some(text) => {
            let group = text.to_str().and_then(|text| text.parse().ok()).filter(|group| all.contains(group));
            let group = group.ok_or_else(|| {
                let count = volume.geometry.groups();
                CommandError::Usage(format!("{}: a group expected, and there are {count}", text.display()))
            })?;
            group..group.saturating_add(1)
        }
    };
    for group in asked {
        printer.tree = format!("{}[{group}]", tree.name());
        match group_header(volume, group) {
            Ok((header, _)) => {
                volume.group_tree::<R>(group, header, tree).walk(&volume.blocks, &mut printer);
            }
            Err(fault) => printer.say(&fault),
        }
        if printer.gone {
            break;
        }
    }
    printer.end()
}

/// Shows a tree of an inode.
fn fork<R: Record, B: Blocks>(
    volume: &Volume<B>,
    kind: BlockKind,
    arguments: &Arguments,
    mut printer: Printer,
) -> Result<Output, CommandError> {
    let (which, part) = match kind {
        BlockKind::EXTENTS => (Which::Data, "extents"),
        BlockKind::DIRECTORY_INDEX => (Which::Data, "directory.index"),
        _ => (Which::Attributes, "attributes.index"),
    };
    let usage = || CommandError::Usage("of which inode? give its path or number".to_owned());
    let number = number(volume, arguments.of.as_ref().ok_or_else(usage)?)?;
    let what = || format!("inode {number}");
    let inode = match volume.inode(number) {
        Ok(inode) => inode,
        Err(fault) => {
            printer.say(&format_args!("inode[{number}]: {fault}"));
            volume
                .inode_unverified(number)
                .map_err(|fault| CommandError::Structure { what: what(), fault })?
        }
    };
    printer.tree = format!("inode[{number}].{part}");
    if let (BlockKind::EXTENTS, Ok(Some(extents))) = (kind, volume.inline_extents(inode)) {
        if !arguments.nodes {
            for (index, extent) in extents.iter().enumerate() {
                printer.show(&format!("rec[{index}]"), Fields::of(extent));
            }
        }
        return printer.end();
    }
    let root = &inode.fork(which).tree;
    let tree = Tree::<R>::new(kind, number, root, volume.geometry.volume_space(), volume.seed);
    tree.walk(&volume.blocks, &mut printer);
    printer.end()
}

/// Prints what a walk meets.
struct Printer {
    /// Path of the tree.
    tree: String,
    nodes: bool,
    rows: Rows,
    /// Why no more can be printed.
    failure: Option<CommandError>,
    gone: bool,
    faults: u64,
}

impl Printer {
    fn say(&mut self, fault: &dyn std::fmt::Display) {
        self.faults += 1;
        eprintln!("{PROGRAM}: {fault}");
    }

    fn row(&mut self, data: &Map<String, Value>, cells: impl FnOnce() -> Vec<String>) {
        if self.gone {
            return;
        }
        match self.rows.row(data, cells) {
            Ok(more) => self.gone = !more,
            Err(error) => {
                self.gone = true;
                self.failure = Some(error);
            }
        }
    }

    fn show(&mut self, place: &str, fields: Fields<'_>) {
        let at = format!("{}.{place}", self.tree);
        let mut data = Map::new();
        data.insert("at".to_owned(), at.clone().into());
        if let Ok(Value::Object(fields)) = serde_json::to_value(fields) {
            data.extend(fields);
        }
        self.row(&data, || {
            [at].into_iter().chain(fields.values().map(|(_, value)| value.to_string())).collect()
        });
    }

    fn end(self) -> Result<Output, CommandError> {
        let failure = (self.faults > 0).then(|| format!("{} things are wrong there", self.faults));
        let output = self.rows.end(Output::new().failure(failure))?;
        self.failure.map_or(Ok(output), Err)
    }
}

impl<R: Record> Visitor<R> for Printer {
    fn node(&mut self, at: &NodePlace, node: &Node) {
        if !self.nodes {
            return;
        }
        let first = match node.branches() {
            Some(entries) => entries.first().map(Branch::key),
            None => node.records::<R>().and_then(|records| records.first()).map(R::key),
        };
        let first = first.map_or(0, |key| key.start);
        let place = format!("{}.{at}", self.tree);
        let count = u64::from(node.header.count.get());
        let numbers = [("block", at.block), ("level", at.level.into()), ("records", count), ("first", first)];
        let mut data = Map::new();
        data.insert("at".to_owned(), place.clone().into());
        data.extend(numbers.iter().map(|(key, number)| ((*key).to_owned(), Value::from(*number))));
        self.row(&data, || [place].into_iter().chain(numbers.iter().map(|(_, n)| n.to_string())).collect());
    }

    fn record(&mut self, at: &RecordPlace, record: &R) {
        if !self.nodes {
            self.show(&at.to_string(), Fields::of(record));
        }
    }

    fn doubtful(&mut self, at: &RecordPlace, record: &R) {
        Visitor::<R>::record(self, at, record);
    }

    fn fault(&mut self, fault: TreeFault) {
        let message = format!("{}.{fault}", self.tree);
        self.say(&message);
    }
}
