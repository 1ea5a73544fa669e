//! What was made: for people, and as JSON.

use crate::inode::Meta;
use crate::options::Options;
use crate::size::human;
use paxfs_format::geometry::{BLOCK_BYTES, Geometry};
use paxfs_format::inode::FileType;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// FIFOs, sockets and devices.
    pub others: u64,
    /// Bytes of regular files, holes included.
    pub bytes: u64,
    /// Extents.
    pub extents: u64,
    /// Blocks that extents cover, a shared one once for each.
    pub blocks: u64,
    /// Of those, blocks in whole 2 MiB frames of the device and of the file at once.
    pub huge_blocks: u64,
    /// Blocks that sharing saved.
    pub saved_blocks: u64,
    /// Metadata clusters.
    pub clusters: u64,
    /// Blocks of inode chunks.
    pub chunk_blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Blocks of clusters not in use.
    pub cluster_free: u64,
}

impl Totals {
    /// Counts an inode.
    pub(crate) fn count(&mut self, meta: &Meta) {
        match FileType::from_mode(meta.mode) {
            Some(FileType::Regular) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(meta.size);
            }
            Some(FileType::Directory) => self.directories += 1,
            Some(FileType::Symlink) => self.symlinks += 1,
            _ => self.others += 1,
        }
    }
}

/// What was made, or with `-n` would be.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What the volume is.
    pub options: Options,
    /// The root directory.
    pub root: u64,
    /// What is in it.
    pub totals: Totals,
}

impl Summary {
    pub(crate) fn new(options: &Options, root: u64, mut totals: Totals) -> Self {
        let geometry = &options.geometry;
        let fixed: u64 = geometry.group_numbers().map(|group| geometry.fixed_blocks(group)).sum();
        let metadata = fixed.saturating_add(totals.clusters.saturating_mul(geometry.cluster_blocks));
        let distinct = geometry.blocks.saturating_sub(metadata).saturating_sub(totals.free_blocks);
        totals.saved_blocks = totals.blocks.saturating_sub(distinct);
        Summary { options: options.clone(), root, totals }
    }

    fn label(&self) -> String {
        String::from_utf8_lossy(self.options.label.as_bytes_trimmed()).into_owned()
    }

    fn uuid(&self) -> String {
        uuid::Uuid::from_bytes(self.options.uuid.0).to_string()
    }

    /// Lines for people. Of an empty volume (`filled` false) only the geometry.
    pub fn text(&self, filled: bool) -> String {
        let Geometry { blocks, group_blocks, cluster_blocks, journal_blocks, .. } = self.options.geometry;
        let size = |blocks: u64| human(blocks.saturating_mul(BLOCK_BYTES));
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line("uuid", self.uuid());
        if !self.label().is_empty() {
            line("label", self.label());
        }
        line("size", format!("{} in {blocks} blocks of 4096 bytes", size(blocks)));
        line("groups", format!("{} of {}", self.options.geometry.groups(), size(group_blocks.min(blocks))));
        line("clusters", size(cluster_blocks));
        line("journal", size(journal_blocks));
        line("features", self.options.features.names().join(","));
        if !filled {
            return text;
        }
        let totals = &self.totals;
        let mut kinds =
            vec![format!("{} files", totals.files), format!("{} directories", totals.directories)];
        for (count, name) in [(totals.symlinks, "symlinks"), (totals.others, "special files")] {
            if count > 0 {
                kinds.push(format!("{count} {name}"));
            }
        }
        line("filled", kinds.join(", "));
        line(
            "data",
            format!(
                "{} in {} extents ({} of files)",
                size(totals.blocks),
                totals.extents,
                human(totals.bytes)
            ),
        );
        if totals.saved_blocks > 0 {
            line("shared", format!("{} saved", size(totals.saved_blocks)));
        }
        if let Some(percent) = totals.huge_blocks.saturating_mul(1000).checked_div(totals.blocks) {
            let reach = size(totals.huge_blocks);
            line(
                "2 MiB",
                format!("mappings reach {reach} of the data ({}.{} %)", percent / 10, percent % 10),
            );
        }
        line("free", size(totals.free_blocks));
        text
    }

    /// The same for programs.
    pub fn json(&self, made: bool) -> Value {
        let geometry = &self.options.geometry;
        let bytes = |blocks: u64| blocks.saturating_mul(BLOCK_BYTES);
        let totals = &self.totals;
        json!({
            "schema": 1,
            "made": made,
            "uuid": self.uuid(),
            "label": self.label(),
            "size": bytes(geometry.blocks),
            "block_size": BLOCK_BYTES,
            "blocks": geometry.blocks,
            "groups": geometry.groups(),
            "group_size": bytes(geometry.group_blocks),
            "cluster_size": bytes(geometry.cluster_blocks),
            "journal_size": bytes(geometry.journal_blocks),
            "features": self.options.features.names(),
            "root": self.root,
            "files": totals.files,
            "directories": totals.directories,
            "symlinks": totals.symlinks,
            "others": totals.others,
            "file_bytes": totals.bytes,
            "extents": totals.extents,
            "data_bytes": bytes(totals.blocks),
            "saved_bytes": bytes(totals.saved_blocks),
            "huge_bytes": bytes(totals.huge_blocks),
            "metadata_clusters": totals.clusters,
            "free_bytes": bytes(totals.free_blocks),
            "cluster_free_bytes": bytes(totals.cluster_free),
        })
    }
}
