//! Walking a tree: faults become findings, nodes are marked as used, records go to whoever asked.

use crate::context::{Check, Env, Group};
use crate::finding::Finding;
use crate::problem::Problem;
use core::fmt;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::header::{BlockKind, Header, MAGIC};
use paxfs_format::node::{MAX_HEIGHT, Node};
use paxfs_format::record::{Key, Record, Space};
use paxfs_format::tree::{Defect, NodeFault, NodePlace, Place, RecordPlace, Tree, TreeFault, Visitor, Walked};
use std::sync::atomic::Ordering;

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeName {
    /// A group's.
    Group(GroupTree, u32),
    /// The extents of an inode.
    Extents(u64),
    /// The index of a directory.
    Directory(u64),
    /// The index of an inode's attributes.
    Attributes(u64),
}

/// What a walk hands over.
pub(crate) enum Item<'r, R> {
    /// A record that is what it should be.
    Sound(RecordPlace, &'r R),
    /// A record that is wrong or misplaced; that has been reported.
    Doubtful(RecordPlace, &'r R),
    /// A node could not be read: records are missing here.
    Lost,
}

/// How a walk went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub walked: Walked,
    /// Nodes could not be read.
    pub lost: bool,
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(tree, group) => write!(f, "{}[{group}]", tree.name()),
            Self::Extents(inode) => write!(f, "inode[{inode}].extents"),
            Self::Directory(inode) => write!(f, "inode[{inode}].directory.index"),
            Self::Attributes(inode) => write!(f, "inode[{inode}].attributes.index"),
        }
    }
}

impl TreeName {
    /// The inode it belongs to.
    pub fn inode(self) -> Option<u64> {
        match self {
            Self::Group(..) => None,
            Self::Extents(inode) | Self::Directory(inode) | Self::Attributes(inode) => Some(inode),
        }
    }

    fn owner(self) -> u64 {
        match self {
            Self::Group(_, group) => group.into(),
            Self::Extents(inode) | Self::Directory(inode) | Self::Attributes(inode) => inode,
        }
    }

    fn kind(self) -> BlockKind {
        match self {
            Self::Group(tree, _) => tree.kind(),
            Self::Extents(_) => BlockKind::EXTENTS,
            Self::Directory(_) => BlockKind::DIRECTORY_INDEX,
            Self::Attributes(_) => BlockKind::ATTRIBUTE_INDEX,
        }
    }

    /// The space that its records live in.
    fn space(self, check: &Check<'_>) -> Space {
        let geometry = &check.volume.geometry;
        match self {
            Self::Group(_, group) => geometry.group_space(group),
            _ => geometry.volume_space(),
        }
    }
}

/// The tree of that name and root.
pub(crate) fn tree<R: Record>(check: &Check<'_>, name: TreeName, root: &TreeRoot) -> Tree<R> {
    Tree::new(name.kind(), name.owner(), root, name.space(check), check.volume.seed)
}

/// Checks a tree, and hands its records to `take`.
pub(crate) fn walk<'c, R: Record>(
    env: &mut Env<'c>,
    name: TreeName,
    root: &TreeRoot,
    take: impl FnMut(&mut Env<'c>, Item<'_, R>),
) -> Outcome {
    let root = rooted::<R>(env, name, root);
    let tree = tree::<R>(env.check, name, &root);
    let volume = env.check.volume;
    let mut walker = Walker { env, name, take, lost: false };
    let walked = tree.walk(&volume.blocks, &mut walker);
    let lost = walker.lost;
    Outcome { walked, lost }
}

/// Compares what a root says with what a walk met, where that is known.
pub(crate) fn check_counts(env: &mut Env<'_>, name: TreeName, root: &TreeRoot, outcome: &Outcome) {
    if outcome.lost {
        return;
    }
    let counts = [
        ("nodes", u64::from(root.nodes.get()), outcome.walked.nodes),
        ("records", root.records.get(), outcome.walked.records),
    ];
    for (field, found, expected) in counts {
        if found != expected {
            let problem = Problem::TreeCount { field: field.to_owned(), found, expected };
            let finding = Finding::new(format!("{name}.root.{field}"), problem);
            env.findings.push(with_file(finding, name));
        }
    }
}

fn with_file(finding: Finding, name: TreeName) -> Finding {
    match name.inode() {
        Some(inode) => finding.of_file(inode),
        None => finding,
    }
}

/// The root with the height that its root node has, if that is one of this tree and says otherwise.
fn rooted<R: Record>(env: &mut Env<'_>, name: TreeName, root: &TreeRoot) -> TreeRoot {
    let height = root.height.get();
    let volume = env.check.volume;
    let block = root.block.get();
    let Ok(bytes) = volume.blocks.block(block) else { return *root };
    let Some(header) = Header::of(bytes).filter(|header| block != 0 && header.magic == MAGIC) else {
        return *root;
    };
    let level = u32::from(header.level.get());
    let Some(found) = level.checked_add(1).filter(|found| *found != height && *found <= MAX_HEIGHT) else {
        return *root;
    };
    let fixed = TreeRoot { height: found.into(), ..*root };
    if tree::<R>(env.check, name, &fixed).node(&volume.blocks, block, level).is_err() {
        return *root;
    }
    let problem = Problem::TreeHeight { found: height.into(), expected: found.into() };
    env.findings.push(with_file(Finding::new(format!("{name}.root.height"), problem), name));
    fixed
}

struct Walker<'w, 'c, F> {
    env: &'w mut Env<'c>,
    name: TreeName,
    take: F,
    lost: bool,
}

impl<'c, R: Record, F: FnMut(&mut Env<'c>, Item<'_, R>)> Visitor<R> for Walker<'_, 'c, F> {
    fn node(&mut self, at: &NodePlace, node: &Node) {
        let name = self.name;
        self.env.generation(node.header.generation.get(), || format!("{name}.{at}"), name.inode());
        self.env.mark(at.block, || format!("{name}.{at}"), name.inode());
    }

    #[inline]
    fn record(&mut self, at: &RecordPlace, record: &R) {
        (self.take)(self.env, Item::Sound(*at, record));
    }

    fn doubtful(&mut self, at: &RecordPlace, record: &R) {
        (self.take)(self.env, Item::Doubtful(*at, record));
    }

    fn fault(&mut self, fault: TreeFault) {
        let name = self.name;
        let mut at = format!("{name}.{}", fault.at);
        let message = fault.what.to_string();
        if matches!(fault.what, Defect::Root { .. } | Defect::Node(_) | Defect::Twice) {
            self.lost = true;
            (self.take)(self.env, Item::Lost);
        }
        let problem = match fault.what {
            Defect::Root { .. } => {
                self.env.check.doubts.blocks.store(true, Ordering::Relaxed);
                Problem::TreeRoot { fault: message }
            }
            Defect::Node(fault_of_node) => {
                let Place::Node(node) = fault.at else { return };
                if let Some(suffix) = header_field(&fault_of_node) {
                    at.push_str(suffix);
                }
                self.damaged(&node);
                Problem::NodeDamaged { block: node.block, level: node.level.into(), fault: message }
            }
            Defect::Twice => {
                let Place::Node(node) = fault.at else { return };
                Problem::NodeTwice { block: node.block, level: node.level.into() }
            }
            Defect::FirstKey { .. } => Problem::KeyFirst { fault: message },
            Defect::Order(_) => Problem::KeyOrder { fault: message },
            Defect::High { found, expected } => Problem::KeyHigh { found, expected },
            Defect::Record(_) => Problem::Record { fault: message },
            Defect::Overlap { end, start } => Problem::RecordOverlap { end, start },
            Defect::Mergeable => Problem::RecordMergeable { fault: message },
        };
        self.env.findings.push(with_file(Finding::new(at, problem), name));
    }
}

impl<F> Walker<'_, '_, F> {
    /// A node that cannot be read is in use all the same; what is below it is not known.
    fn damaged(&mut self, node: &NodePlace) {
        if self.env.marking {
            self.env.check.mark(node.block);
        }
        // Or the pointer to it is wrong, and another block is in use.
        self.env.check.doubts.blocks.store(true, Ordering::Relaxed);
    }
}

/// The path of the first record of a group's tree that `is` the one; of the tree when none is.
pub(crate) fn record_path<R: Record>(
    check: &Check<'_>,
    group: &Group,
    which: GroupTree,
    is: impl Fn(&R) -> bool,
) -> String {
    let name = TreeName::Group(which, group.number);
    let Some(header) = group.header else { return format!("{name}.root") };
    let tree = tree::<R>(check, name, header.root(which));
    // Leaves count as a walk counts them: those that cannot be read are leaves, too.
    let (mut leaf, mut leaves) = (None, 0u64);
    for at in tree.range(&check.volume.blocks, Key::MIN) {
        match at {
            Ok(at) => {
                if leaf != Some(at.leaf) {
                    leaf = Some(at.leaf);
                    leaves = leaves.saturating_add(1);
                }
                if is(&at.record) {
                    return format!("{name}.leaf[{}].rec[{}]", leaves.saturating_sub(1), at.index);
                }
            }
            Err(error) => leaves = leaves.saturating_add(u64::from(error.level == 0)),
        }
    }
    format!("{name}.root")
}

/// The field of a node's header that a fault is about, as the end of a path.
pub(crate) fn header_field(fault: &NodeFault) -> Option<&'static str> {
    match fault {
        NodeFault::Header(fault) => Some(crate::structures::header_field(fault)),
        NodeFault::Level { .. } => Some(".header.level"),
        NodeFault::Count { .. } | NodeFault::Empty | NodeFault::Tail => Some(".header.count"),
        NodeFault::Medium(_) | NodeFault::MediumFailed => None,
    }
}

/// Finds out which positions are missing between the records that a walk hands over.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    end: u64,
    open: bool,
}

impl Gap {
    /// Records are missing from here on.
    pub fn lost(&mut self) {
        self.open = true;
    }

    /// A record; gives the positions before it that are missing.
    pub fn seen(&mut self, start: u64, end: u64) -> Option<Range<u64>> {
        let missing = core::mem::take(&mut self.open).then_some(self.end.min(start)..start);
        self.end = self.end.max(end);
        missing
    }

    /// No more records.
    pub fn finish(&mut self) -> Option<Range<u64>> {
        core::mem::take(&mut self.open).then_some(self.end..u64::MAX)
    }
}
