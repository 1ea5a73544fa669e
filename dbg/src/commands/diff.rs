//! `diff`: where the metadata of two volumes differ, by field.
//!
//! Compared are the blocks that hold metadata in either volume: those at fixed places, and those in metadata clusters. A
//! block that is the same kind of structure in both is compared field by field, record by record; any other by its bytes.

use crate::PROGRAM;
use crate::cli::View;
use crate::error::CommandError;
use crate::output::{Format, Output, Rows};
use crate::session::Session;
use clap::Args;
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::{Kind, Layout, OnDisk};
use paxfs_format::field::diff::diff;
use paxfs_format::geometry::{Geometry, INODES_PER_BLOCK};
use paxfs_format::group::GroupTree;
use paxfs_format::header::Header;
use paxfs_format::inode::{INODE_SIZE, Inode};
use paxfs_format::node::NODE_BODY;
use paxfs_format::path::{RAW, Target, group_header, resolve};
use paxfs_format::record::Key;
use paxfs_format::sums::{SUMS_PER_BLOCK, Sum};
use paxfs_format::superblock::Superblock;
use paxfs_format::volume::Volume;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The device to compare with
    pub other: PathBuf,
}

const COLUMNS: &[&str] = &["field", "here", "there"];

/// A field that differs.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    here: String,
    there: String,
}

/// Compares them.
pub fn run(session: &Session, arguments: &Arguments, format: Format) -> Result<Output, CommandError> {
    let other = Session::open(&arguments.other, &View::default())?;
    let (here, there) = (session.volume(), other.volume());
    let mut differ = Differ { rows: Rows::start(format, "differences", COLUMNS)?, gone: false };
    if here.geometry == there.geometry {
        for block in metadata_blocks(&here, &there) {
            if differ.gone {
                break;
            }
            differ.block(&here, &there, block)?;
        }
    } else {
        eprintln!("{PROGRAM}: the volumes have different geometries: only the superblocks are compared");
        differ.structure("sb", &Superblock::LAYOUT, first(&here)?, first(&there)?)?;
    }
    differ.rows.end(Output::new())
}

fn first<B: Blocks>(volume: &Volume<B>) -> Result<&[u8], CommandError> {
    Ok(volume.blocks.block(0)?)
}

/// The blocks that may hold metadata in either of two volumes of one geometry.
fn metadata_blocks<A: Blocks, B: Blocks>(here: &Volume<A>, there: &Volume<B>) -> impl Iterator<Item = u64> {
    let geometry = here.geometry;
    let fixed = geometry.group_numbers().map(move |group| {
        let start = geometry.group_start(group);
        start..start.saturating_add(geometry.fixed_blocks(group)).min(geometry.blocks)
    });
    let mut starts = BTreeSet::new();
    clusters(here, &mut starts);
    clusters(there, &mut starts);
    let in_clusters = starts
        .into_iter()
        .map(move |start| start..start.saturating_add(geometry.cluster_blocks).min(geometry.blocks));
    fixed.flatten().chain(in_clusters.flatten())
}

/// The first blocks of a volume's clusters, as far as they can be read.
fn clusters<B: Blocks>(volume: &Volume<B>, to: &mut BTreeSet<u64>) {
    for group in volume.geometry.group_numbers() {
        let Ok((header, _)) = group_header(volume, group) else { continue };
        let tree = volume.group_tree::<paxfs_format::cluster::Cluster>(group, header, GroupTree::Clusters);
        let records = tree.range(&volume.blocks, Key::MIN).filter_map(Result::ok);
        to.extend(records.map(|at| volume.geometry.volume_block(group, at.record.start.get())));
    }
}

/// Prints what differs.
struct Differ {
    rows: Rows,
    gone: bool,
}

impl Differ {
    fn row(&mut self, path: String, here: String, there: String) -> Result<(), CommandError> {
        let row = Row { path, here, there };
        self.gone |= !self.rows.row(&row, || vec![row.path.clone(), row.here.clone(), row.there.clone()])?;
        Ok(())
    }

    /// The fields of a structure that differ.
    fn structure(
        &mut self,
        path: &str,
        layout: &'static Layout,
        here: &[u8],
        there: &[u8],
    ) -> Result<(), CommandError> {
        for found in diff(layout, here, there) {
            self.row(format!("{path}.{}", found.path), found.left, found.right)?;
        }
        Ok(())
    }

    fn block<A: Blocks, B: Blocks>(
        &mut self,
        here: &Volume<A>,
        there: &Volume<B>,
        block: u64,
    ) -> Result<(), CommandError> {
        let (a, b) = match (here.blocks.block(block), there.blocks.block(block)) {
            (Ok(a), Ok(b)) if a == b => return Ok(()),
            (Ok(a), Ok(b)) => (a, b),
            (Err(_), Err(_)) => return Ok(()),
            (a, b) => {
                let said = |end: Result<_, _>| end.err().map_or(String::new(), |_| "past the end".to_owned());
                return self.row(format!("block[{block}]"), said(a), said(b));
            }
        };
        let path = format!("block[{block}]");
        if let Some(first) = first_sum(&here.geometry, block) {
            let size = size_of::<Sum>();
            for ((a, b), index) in a.chunks_exact(size).zip(b.chunks_exact(size)).zip(0u64..) {
                let of = first.saturating_add(index);
                self.structure(&format!("sum[{of}]"), &Sum::LAYOUT, a, b)?;
            }
            return Ok(());
        }
        match (resolve(here, &path), resolve(there, &path)) {
            (Ok(one), Ok(other)) => self.alike(here, there, (&one, a), (&other, b)),
            // Blocks of inodes have no fields of their own.
            (Err(_), Err(_)) => self.inodes(block, a, b),
            _ => self.structure(&path, &RAW, a, b),
        }
    }

    /// What differs in the blocks that two targets of one path are.
    fn alike<A: Blocks, B: Blocks>(
        &mut self,
        here: &Volume<A>,
        there: &Volume<B>,
        (one, a): (&Target, &[u8]),
        (other, b): (&Target, &[u8]),
    ) -> Result<(), CommandError> {
        let path = &one.text;
        let kinds = |bytes| Header::of(bytes).map(|header| (header.kind, header.level.get()));
        let (Kind::Struct(layout), true) = (one.kind, one.kind == other.kind) else {
            return self.structure(path, &RAW, a, b);
        };
        let listed = match layout.name {
            "Node" if kinds(a) == kinds(b) => "rec",
            "Node" => return self.structure(path, &RAW, a, b),
            _ => return self.structure(path, layout, a, b),
        };
        let headers = (a.get(..size_of::<Header>()), b.get(..size_of::<Header>()));
        if let (Some(a), Some(b)) = headers {
            self.structure(&format!("{path}.header"), &Header::LAYOUT, a, b)?;
        }
        for index in 0..NODE_BODY {
            let path = format!("{path}.{listed}[{index}]");
            let (Ok(one), Ok(other)) = (resolve(here, &path), resolve(there, &path)) else { break };
            let Kind::Struct(layout) = one.kind else { break };
            if let (Ok(a), Ok(b)) = (one.read(&here.blocks), other.read(&there.blocks)) {
                self.structure(&path, layout, &a, &b)?;
            }
        }
        Ok(())
    }

    fn inodes(&mut self, block: u64, here: &[u8], there: &[u8]) -> Result<(), CommandError> {
        let slots =
            here.chunks_exact(INODE_SIZE).zip(there.chunks_exact(INODE_SIZE)).zip(0..INODES_PER_BLOCK);
        for ((a, b), slot) in slots {
            self.structure(&format!("inode[{}]", Geometry::inode_number(block, slot)), &Inode::LAYOUT, a, b)?;
        }
        Ok(())
    }
}

/// The block whose checksum is the first in `block`, if that is one of a table of checksums.
fn first_sum(geometry: &Geometry, block: u64) -> Option<u64> {
    let place = geometry.locate(block)?;
    let table = geometry.table(place.group);
    let before = table.contains(&block).then(|| block.saturating_sub(table.start))?;
    Some(geometry.group_start(place.group).saturating_add(before.saturating_mul(SUMS_PER_BLOCK)))
}
