//! Lists of media errors: lines of sysfs `badblocks`, or the JSON of `ndctl list -M`. Both count 512-byte sectors from
//! the start of the device.
//!
//! ```
//! use paxfs_format::badblocks;
//! let list = badblocks::parse("8 1\n80 16\n", "/dev/pmem0".as_ref())?;
//! assert_eq!(list.blocks, [1..2, 10..12]);
//! # Ok::<(), badblocks::ListError>(())
//! ```

use crate::geometry::BLOCK_BYTES;
use crate::words::number;
use core::ops::Range;
use serde_json::Value;
use std::path::Path;

/// Bytes of the unit of both lists.
const SECTOR: u64 = 512;

/// The media errors of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The blocks of 4096 bytes that they touch, ascending, as runs that do not touch each other.
    pub blocks: Vec<Range<u64>>,
    /// Whether the list counts from the start of a region: it is taken as if the device began there.
    pub of_region: bool,
}

/// Why a list cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line that is no pair of numbers.
    #[error("line {0}: two numbers expected, the first sector and how many (of 512 bytes)")]
    Line(usize),
    /// Neither lines nor JSON.
    #[error("{0}")]
    Json(String),
    /// Nobody can tell which of them is meant.
    #[error(
        "it has several devices, and not exactly one of this name; give that of one (ndctl list -M -n NAMESPACE)"
    )]
    Devices,
}

/// What a list says of a device, which it may name by the last part of its path.
///
/// # Errors
///
/// [`ListError`]: the list is none, or is about several devices.
pub fn parse(text: &str, device: &Path) -> Result<List, ListError> {
    if !text.trim_start().starts_with(['{', '[']) {
        let lines = text.lines().zip(1..);
        let sectors = lines.filter_map(|(line, number)| parse_line(line, number).transpose());
        return Ok(List { blocks: blocks(sectors.collect::<Result<_, _>>()?), of_region: false });
    }
    let json: Value = serde_json::from_str(text).map_err(|error| ListError::Json(error.to_string()))?;
    let mut found = Vec::new();
    collect(&json, &mut found);
    of_device(found, device)
}

/// Runs of sectors as (first, count).
type Sectors = Vec<(u64, u64)>;

fn parse_line(line: &str, place: usize) -> Result<Option<(u64, u64)>, ListError> {
    let line = line.split('#').next().unwrap_or_default();
    let words: Vec<_> = line.split_whitespace().map(number).collect();
    match words.as_slice() {
        [] => Ok(None),
        [Some(first), Some(count)] => Ok(Some((*first, *count))),
        _ => Err(ListError::Line(place)),
    }
}

/// The bad blocks of one object of the list.
struct Found<'j> {
    /// Its names: of the namespace or region, and of the devices on it.
    names: Vec<&'j str>,
    sectors: Sectors,
}

/// All objects with bad blocks, however deep.
fn collect<'j>(json: &'j Value, to: &mut Vec<Found<'j>>) {
    match json {
        Value::Array(list) => list.iter().for_each(|item| collect(item, to)),
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_array().filter(|_| key == "badblocks") {
                    Some(list) => {
                        let mut names = Vec::new();
                        names_in(json, &mut names);
                        to.push(Found { names, sectors: list.iter().filter_map(sectors).collect() });
                    }
                    None => collect(value, to),
                }
            }
        }
        _ => {}
    }
}

/// The names of devices in an object and below it.
fn names_in<'j>(json: &'j Value, to: &mut Vec<&'j str>) {
    match json {
        Value::Array(list) => list.iter().for_each(|item| names_in(item, to)),
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(name) if matches!(key.as_str(), "dev" | "blockdev" | "chardev") => to.push(name),
                    _ => names_in(value, to),
                }
            }
        }
        _ => {}
    }
}

fn sectors(item: &Value) -> Option<(u64, u64)> {
    let number = |key| match item.get(key)? {
        Value::String(text) => number(text),
        value => value.as_u64(),
    };
    Some((number("offset")?, number("length")?))
}

/// What of a list is about the device: what has its name, or all if there is only one.
fn of_device(mut found: Vec<Found<'_>>, device: &Path) -> Result<List, ListError> {
    // A region counts from its own start, and says again what its namespaces say.
    let is_region = |found: &Found<'_>| found.names.first().is_some_and(|name| name.starts_with("region"));
    let of_region = !found.is_empty() && found.iter().all(is_region);
    if !of_region {
        found.retain(|found| !is_region(found));
    }
    let name = device.file_name().and_then(|name| name.to_str());
    if found.len() > 1 {
        found.retain(|found| name.is_some_and(|name| found.names.contains(&name)));
        if found.len() != 1 {
            return Err(ListError::Devices);
        }
    }
    let sectors = found.into_iter().flat_map(|found| found.sectors).collect();
    Ok(List { blocks: blocks(sectors), of_region })
}

/// The blocks that runs of sectors touch.
fn blocks(mut sectors: Sectors) -> Vec<Range<u64>> {
    sectors.sort_unstable();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let per_block = BLOCK_BYTES / SECTOR;
    for (first, count) in sectors {
        let (start, end) = (first / per_block, first.saturating_add(count).div_ceil(per_block));
        match ranges.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => ranges.push(start..end),
        }
    }
    ranges.retain(|range| !range.is_empty());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, device: &str) -> Option<Vec<(u64, u64)>> {
        let list = parse(text, Path::new(device)).ok()?;
        Some(list.blocks.into_iter().map(|range| (range.start, range.end)).collect())
    }

    #[test]
    fn lines_of_sysfs() {
        assert_eq!(of("8 1\n0x10 9\n\n# no more\n", "x"), Some(vec![(1, 4)]));
        assert_eq!(of("7 2\n80 0\n", "x"), Some(vec![(0, 2)]));
        assert_eq!(of("", "x"), Some(vec![]));
        assert_eq!(parse("8 1\n1\n", Path::new("x")), Err(ListError::Line(2)));
        assert_eq!(of("1 2 3\n", "x"), None);
    }

    #[test]
    fn json_of_ndctl() {
        let one = r#"[{"dev":"namespace0.0","blockdev":"pmem0","badblock_count":2,
            "badblocks":[{"offset":8,"length":1,"dimms":["nmem0"]},{"offset":"0x20","length":"0x8"}]}]"#;
        assert_eq!(of(one, "image"), Some(vec![(1, 2), (4, 5)]));
        let nested = format!(
            r#"{{"regions":[{{"dev":"region0","badblocks":[{{"offset":99,"length":1}}],
            "namespaces":{one}}}]}}"#
        );
        assert_eq!(of(&nested, "/dev/pmem0"), Some(vec![(1, 2), (4, 5)]));
        let two = format!(
            r#"[{one},{{"dev":"namespace1.0","blockdev":"pmem1","badblocks":[{{"offset":0,"length":1}}]}}]"#
        );
        assert_eq!(of(&two, "/dev/pmem1"), Some(vec![(0, 1)]));
        assert_eq!(parse(&two, Path::new("image")), Err(ListError::Devices));
        assert_eq!(of("[]", "x"), Some(vec![]));
        assert!(matches!(parse("[", Path::new("x")), Err(ListError::Json(_))));
    }

    #[test]
    fn a_list_of_a_region_alone_says_so() {
        let region = r#"[{"dev":"region0","badblocks":[{"offset":8,"length":1}]}]"#;
        let list = parse(region, Path::new("/dev/pmem0")).unwrap();
        assert_eq!(list, List { blocks: vec![Range { start: 1, end: 2 }], of_region: true });
    }
}
