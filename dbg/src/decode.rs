//! Structures as people and programs see them: the fields of what a path names, and what lies in it.
//!
//! All that is shown of a structure has a path, so that it can be set or asked for in turn.

use crate::output::{Output, Table};
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::{Kind, Layout};
use paxfs_format::extent::Extent;
use paxfs_format::field::value::{Fields, Value, rows};
use paxfs_format::geometry::INODES_PER_BLOCK;
use paxfs_format::header::{BlockKind, Header};
use paxfs_format::inode::{FileType, ForkFormat, Inode, Which};
use paxfs_format::path::{Target, resolve};
use paxfs_format::volume::Volume;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use zerocopy::FromBytes;

/// Characters of a value that are shown to people.
const WHOLE: usize = 72;
/// Most records or entries of one structure that are shown: a node has fewer.
const PARTS_MAX: usize = 1024;

/// What lies in a structure.
#[derive(Debug)]
pub struct Part {
    /// Its path.
    pub path: String,
    /// Its path and fields, and for an entry its name and value.
    pub fields: Map<String, Json>,
    /// The same for people.
    pub text: String,
}

/// Shows what a target names: one value, or a structure field by field, what lies in it, and whether its checksum fits.
pub fn show<B: Blocks>(volume: &Volume<B>, target: &Target) -> Output {
    let output = Output::new()
        .data("path", &target.text)
        .data("offset", &target.offset)
        .data("length", &target.length());
    let bytes = match target.read(&volume.blocks) {
        Ok(bytes) => bytes,
        Err(error) => return output.failure(Some(error.to_string())),
    };
    let value = Value::read(&target.kind, &bytes);
    let output = output.data("value", &value);
    let checksum = target.seal.check(&volume.blocks, volume.seed).ok().flatten();
    let output = match checksum {
        Some((stored, computed)) => output.data("checksum", &Checksum { stored, computed }),
        None => output,
    };
    let Kind::Struct(layout) = target.kind else {
        return output.text(value.map(|value| value.to_string()).unwrap_or_default());
    };
    let mut table = Table::new(&["field", "value", "meaning"]);
    for row in rows(layout, &bytes) {
        table.row([row.path, shortened(row.value), row.doc]);
    }
    let output = output.table(table);
    let output = match checksum {
        Some((stored, computed)) if stored != computed => {
            output.text(format!("checksum is {stored:#010x}, the bytes give {computed:#010x}"))
        }
        _ => output,
    };
    let parts = parts(volume, target, &bytes);
    if parts.is_empty() {
        return output;
    }
    let mut inner = Table::new(&["path", "holds"]);
    for part in &parts {
        inner.row([&part.path, &part.text]);
    }
    let data: Vec<_> = parts.into_iter().map(|part| part.fields).collect();
    output.text("\n").table(inner).data("parts", &data)
}

/// A checksum, for programs.
#[derive(Debug, Serialize)]
struct Checksum {
    stored: u32,
    computed: u32,
}

/// A value as people can read it: not kilobytes of digits.
fn shortened(value: String) -> String {
    if value.chars().count() <= WHOLE {
        return value;
    }
    let start: String = value.chars().take(WHOLE).collect();
    format!("{start}…")
}

/// The records of a node or of a journal slot, the entries of a block or inode, name and value of an entry.
pub fn parts<B: Blocks>(volume: &Volume<B>, target: &Target, bytes: &[u8]) -> Vec<Part> {
    let Kind::Struct(layout) = target.kind else { return Vec::new() };
    let indexed = lists(layout.name, bytes).into_iter().flat_map(|(name, count)| {
        let path = move |index| format!("{}.{name}[{index}]", target.text);
        (0..count.min(PARTS_MAX)).map_while(move |index| part(volume, &path(index)))
    });
    indexed.chain(entry_parts(volume, target)).collect()
}

/// Names of the lists in a structure, and how many each may hold.
fn lists(layout: &str, bytes: &[u8]) -> Vec<(&'static str, usize)> {
    let header = Header::of(bytes);
    let count = header.and_then(|header| usize::try_from(header.count.get()).ok()).unwrap_or(PARTS_MAX);
    match layout {
        "Node" | "JournalSlot" => vec![("rec", count)],
        "BodyBlock" if header.is_some_and(|header| header.kind == BlockKind::VALUE) => Vec::new(),
        "BodyBlock" => vec![("entry", PARTS_MAX)],
        "Inode" => Inode::ref_from_bytes(bytes).map(inode_lists).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn inode_lists(inode: &Inode) -> Vec<(&'static str, usize)> {
    let inline = |which: Which| inode.fork(which).format == ForkFormat::INLINE;
    let extents = usize::from(inode.data.inline_bytes.get()) / size_of::<Extent>();
    let data = match inode.file_type() {
        Some(FileType::Regular) => Some(("extents.rec", extents)),
        Some(FileType::Directory) => Some(("directory.entry", PARTS_MAX)),
        _ => None,
    };
    let attributes = inline(Which::Attributes).then_some(("attributes.entry", PARTS_MAX));
    data.filter(|_| inline(Which::Data)).into_iter().chain(attributes).collect()
}

/// A record or entry.
fn part<B: Blocks>(volume: &Volume<B>, path: &str) -> Option<Part> {
    let target = resolve(volume, path).ok()?;
    let bytes = target.read(&volume.blocks).ok()?;
    let Kind::Struct(layout) = target.kind else { return None };
    let fields = Fields::new(layout, &bytes)?;
    let (mut text, mut data) = (fields.to_string(), Map::new());
    data.insert("path".to_owned(), target.text.clone().into());
    if let Ok(Json::Object(fields)) = serde_json::to_value(fields) {
        data.extend(fields);
    }
    for part in entry_parts(volume, &target) {
        text = format!("{text} {}", part.text);
        data.extend(part.fields.into_iter().filter(|(key, _)| key != "path"));
    }
    Some(Part { path: target.text, fields: data, text })
}

/// Name and value of an entry; nothing of anything else.
fn entry_parts<B: Blocks>(volume: &Volume<B>, target: &Target) -> Vec<Part> {
    let Kind::Struct(Layout { name: "DirectoryEntry" | "AttributeEntry", .. }) = target.kind else {
        return Vec::new();
    };
    let one = |name: &str| {
        let part = resolve(volume, &format!("{}.{name}", target.text)).ok()?;
        let bytes = part.read(&volume.blocks).ok()?;
        let value = Value::read(&part.kind, &bytes)?;
        let mut fields = Map::new();
        fields.insert("path".to_owned(), part.text.clone().into());
        fields.insert(name.to_owned(), serde_json::to_value(value).unwrap_or(Json::Null));
        Some(Part { path: part.text, fields, text: value.to_string() })
    };
    ["name", "value"].into_iter().filter_map(one).collect()
}

/// Shows the inodes in a block whose path is given, one to a line.
pub fn inodes<B: Blocks>(volume: &Volume<B>, path: &str) -> Output {
    let mut table = Table::new(&["path", "holds"]);
    let parts: Vec<_> =
        (0..INODES_PER_BLOCK).filter_map(|slot| part(volume, &format!("{path}.inode[{slot}]"))).collect();
    for part in &parts {
        let summary =
            ["mode", "links", "uid", "gid", "flags", "size", "generation"].into_iter().filter_map(|name| {
                part.fields.get(name).map(|value| match value.as_u64().filter(|_| name == "mode") {
                    Some(mode) => format!("{name}: {mode:#o}"),
                    None => format!("{name}: {value}"),
                })
            });
        table.row([&part.path, &summary.collect::<Vec<_>>().join(", ")]);
    }
    let data: Vec<_> = parts.into_iter().map(|part| part.fields).collect();
    Output::new().data("path", path).data("parts", &data).table(table)
}
