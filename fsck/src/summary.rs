//! What a check comes to.

use crate::context::PASSES;
use crate::exit::Exit;
use crate::finding::{Finding, SCHEMA};
use crate::severity::Severity;
use crate::usage::Usage;
use paxfs_format::volume::Found;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a check comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Groups of the volume.
    pub groups: u64,
    /// Blocks of the volume.
    pub blocks: u64,
    /// Whether it was marked clean.
    pub marked_clean: bool,
    /// Whether its features forbid checking it.
    pub refused: bool,
    /// Inodes in use.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Directory entries, attributes and parent pointers.
    pub entries: u64,
    /// Extents.
    pub extents: u64,
    /// Findings by code.
    pub codes: BTreeMap<&'static str, u64>,
    /// Findings by severity.
    pub severities: BTreeMap<Severity, u64>,
    /// What could not be compared because something else is damaged.
    pub unchecked: Vec<String>,
    /// What each pass cost.
    pub passes: [Usage; PASSES],
}

impl Summary {
    pub(crate) fn new(found: &Found) -> Self {
        Summary {
            groups: found.geometry.groups(),
            blocks: found.geometry.blocks,
            marked_clean: found.superblock.is_clean(),
            refused: false,
            inodes: 0,
            directories: 0,
            entries: 0,
            extents: 0,
            codes: BTreeMap::new(),
            severities: BTreeMap::new(),
            unchecked: Vec::new(),
            passes: [Usage::default(); PASSES],
        }
    }

    pub(crate) fn count(&mut self, finding: &Finding) {
        *self.codes.entry(finding.code()).or_default() += 1;
        *self.severities.entry(finding.severity()).or_default() += 1;
    }

    /// Findings that a repair would put right.
    pub fn to_repair(&self) -> u64 {
        self.severities.iter().filter(|(severity, _)| severity.needs_repair()).map(|(_, count)| count).sum()
    }

    /// Whether nothing is to be put right.
    pub fn is_clean(&self) -> bool {
        !self.refused && self.to_repair() == 0
    }

    /// The exit status that this amounts to.
    pub fn exit(&self) -> Exit {
        if self.refused {
            Exit::OPERATIONAL
        } else if self.is_clean() {
            Exit::CLEAN
        } else {
            Exit::UNCORRECTED
        }
    }

    /// As the last JSON object of a report.
    pub fn to_json(&self, device: &str, exit: Exit) -> Value {
        let severities: BTreeMap<&str, u64> =
            self.severities.iter().map(|(severity, count)| (severity.name(), *count)).collect();
        json!({
            "schema": SCHEMA,
            "summary": device,
            "clean": self.is_clean(),
            "exit": exit.code(),
            "findings": self.codes.values().sum::<u64>(),
            "severities": severities,
            "codes": self.codes,
            "unchecked": self.unchecked,
            "groups": self.groups,
            "blocks": self.blocks,
            "inodes": self.inodes,
            "directories": self.directories,
            "entries": self.entries,
            "extents": self.extents,
        })
    }
}
