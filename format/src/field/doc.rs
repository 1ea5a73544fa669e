//! The tables of `docs/FORMAT.md`, made from the declarations, and the list of all declared structures.

use crate::declare::{Kind, Layout, OnDisk, Style};
use core::fmt::Write;

/// All declared structures.
pub const LAYOUTS: &[&Layout] = &[
    &crate::header::Header::LAYOUT,
    &crate::time::Timestamp::LAYOUT,
    &crate::superblock::DeviceEntry::LAYOUT,
    &crate::superblock::Superblock::LAYOUT,
    &crate::group::TreeRoot::LAYOUT,
    &crate::group::GroupHeader::LAYOUT,
    &crate::node::Node::LAYOUT,
    &crate::node::Branch::LAYOUT,
    &crate::free::Free::LAYOUT,
    &crate::refcount::Refcount::LAYOUT,
    &crate::rmap::Rmap::LAYOUT,
    &crate::chunk::Chunk::LAYOUT,
    &crate::cluster::Cluster::LAYOUT,
    &crate::bad::Bad::LAYOUT,
    &crate::inode::Inode::LAYOUT,
    &crate::inode::Fork::LAYOUT,
    &crate::extent::Extent::LAYOUT,
    &crate::entry::DirectoryEntry::LAYOUT,
    &crate::entry::AttributeEntry::LAYOUT,
    &crate::entry::BodyBlock::LAYOUT,
    &crate::index::Index::LAYOUT,
    &crate::sums::Sum::LAYOUT,
    &crate::journal::JournalSlot::LAYOUT,
    &crate::journal::JournalRecord::LAYOUT,
];

/// The declared structure of that name.
pub fn layout(name: &str) -> Option<&'static Layout> {
    LAYOUTS.iter().copied().find(|layout| layout.name == name)
}

/// A doc comment as one line.
pub fn meaning(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The table of a structure in markdown, and below it its named values and flags.
pub fn table(layout: &Layout) -> String {
    let mut text = format!("**{}**, {} bytes. {}\n\n", layout.name, layout.size, cell(layout.doc));
    text.push_str("| offset | size | field | type | meaning |\n|--:|--:|---|---|---|\n");
    let mut lists = String::new();
    for field in layout.fields {
        let (offset, size, kind) = (field.offset, field.kind.size(), type_name(&field.kind));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {offset} | {size} | `{}` | {kind} | {} |", field.name, cell(field.doc));
        lists.extend(list(field.name, &field.kind));
    }
    if !lists.is_empty() {
        text.push('\n');
        text.push_str(&lists);
    }
    text
}

fn cell(doc: &str) -> String {
    meaning(doc).replace('|', "\\|")
}

/// How a document calls a kind.
pub fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Integer { size, style } => {
            let (sign, unit) = match style {
                Style::Signed(unit) => ('i', *unit),
                Style::Decimal(unit) => ('u', *unit),
                Style::Hex => ('u', ""),
                Style::Octal => ('u', "octal"),
                Style::Names(_) => ('u', "named"),
                Style::Flags(_) => ('u', "flags"),
            };
            let space = if unit.is_empty() { "" } else { ", " };
            format!("{sign}{}{space}{unit}", 8 * size)
        }
        Kind::Bytes(_) => "bytes".to_owned(),
        Kind::Text(_) => "text".to_owned(),
        Kind::Uuid => "uuid".to_owned(),
        Kind::Reserved(_) => "zeros".to_owned(),
        Kind::Struct(layout) => layout.name.to_owned(),
        Kind::Array(element, count) => format!("{} × {count}", type_name(element)),
    }
}

/// The list item with a field's named values or flags.
fn list(field: &str, kind: &Kind) -> Option<String> {
    let Kind::Integer { style: Style::Names(names) | Style::Flags(names), .. } = kind else { return None };
    let what = if matches!(kind, Kind::Integer { style: Style::Flags(_), .. }) { "flags" } else { "values" };
    let number = |value: u64| if value > 0xffff { format!("{value:#x}") } else { value.to_string() };
    let names: Vec<_> = names.iter().map(|(value, name)| format!("{} {name}", number(*value))).collect();
    let names = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
    Some(format!("* `{field}` {what}: {names}.\n"))
}
