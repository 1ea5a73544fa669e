//! Walking a tree: faults become findings, nodes are marked as used, records go to whoever asked.

use crate::context::{Check, Detour, Env, Group};
use crate::finding::Finding;
use crate::problem::Problem;
use crate::structures::NOWHERE;
use core::fmt;
use core::ops::Range;
use paxfs_format::blocks::Blocks;
use paxfs_format::group::{GroupTree, TreeRoot};
use paxfs_format::header::{BlockKind, Expected, Header};
use paxfs_format::image::Image;
use paxfs_format::node::{Branch, MAX_HEIGHT, Node};
use paxfs_format::record::{Key, Record, Space};
use paxfs_format::tree::{
    Defect, Missing, NodeFault, NodePlace, Place, RecordPlace, Tree, TreeFault, Visitor, Walked,
};
use paxfs_format::volume::Volume;
use std::sync::atomic::Ordering;
use zerocopy::FromBytes;

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
    /// A node could not be read: these records are not known.
    Lost(Missing),
}

/// How a walk went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub walked: Walked,
    /// Nodes could not be read.
    pub lost: bool,
    /// Records that are in doubt.
    pub doubtful: u64,
    /// Anything at all was found.
    pub faulty: bool,
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

    /// What the paths of what is in it begin with.
    fn prefixes(self) -> Vec<String> {
        match self {
            Self::Group(..) | Self::Extents(_) => vec![format!("{self}.")],
            Self::Directory(inode) => vec![format!("{self}."), format!("inode[{inode}].directory.block[")],
            Self::Attributes(inode) => vec![format!("{self}."), format!("inode[{inode}].attributes.block[")],
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
    mut take: impl FnMut(&mut Env<'c>, Item<'_, R>),
) -> Outcome {
    let Some(root) = rooted(env, name, root) else {
        take(env, Item::Lost(Missing::ANY));
        env.check.doubts.blocks.store(true, Ordering::Relaxed);
        let walked = Walked { nodes: 0, records: 0, complete: false };
        return Outcome { walked, lost: true, doubtful: 0, faulty: true };
    };
    let tree = tree::<R>(env.check, name, &root);
    let volume = env.check.volume;
    let mut walker = Walker { env, name, take, lost: false, doubtful: 0, faulty: false, disputed: None };
    let walked = tree.walk(&volume.blocks, &mut walker);
    let Walker { lost, doubtful, faulty, .. } = walker;
    Outcome { walked, lost, doubtful, faulty }
}

/// Compares what a root says with what a walk met, where that is known.
pub(crate) fn check_counts(env: &mut Env<'_>, name: TreeName, root: &TreeRoot, outcome: &Outcome) {
    if outcome.lost {
        return;
    }
    let counts = [
        ("nodes", u64::from(root.nodes.get()), outcome.walked.nodes, outcome.walked.nodes),
        // Of records in doubt it is not known whether they are some.
        ("records", root.records.get(), outcome.walked.records, outcome.walked.records - outcome.doubtful),
    ];
    for (field, found, expected, least) in counts {
        if !(least..=expected).contains(&found) {
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

/// The root with the height that its root node has, if that is one of this tree and says otherwise; `None` when the root
/// leads to another node of its tree.
fn rooted(env: &mut Env<'_>, name: TreeName, root: &TreeRoot) -> Option<TreeRoot> {
    if matches!(name, TreeName::Group(..)) {
        // Corrected when the group's header was read.
        return Some(*root);
    }
    let Some(height) = other_height(env.check.volume, name.kind(), name.owner(), root) else {
        return Some(*root);
    };
    if (height == 1) != (root.nodes.get() == 1) {
        let fault = format!("block {} holds a node of level {}, not the root", root.block.get(), height - 1);
        let finding = Finding::new(format!("{name}.root.block"), Problem::TreeRoot { fault });
        env.findings.push(with_file(finding, name));
        return None;
    }
    let problem = Problem::TreeHeight { found: root.height.get().into(), expected: height.into() };
    let root_path = format!("{name}.root.height");
    for prefix in name.prefixes() {
        env.note(&env.check.detours, Detour { prefix, root: root_path.clone() });
    }
    env.findings.push(with_file(Finding::new(root_path, problem), name));
    Some(TreeRoot { height: height.into(), ..*root })
}

/// The height that a root node has, if the root says another and the node is right: a branch node has children of the
/// next level, a leaf has none.
pub(crate) fn other_height(
    volume: &Volume<Image<'_>>,
    kind: BlockKind,
    owner: u64,
    root: &TreeRoot,
) -> Option<u32> {
    let node = |place: u64| {
        let bytes = volume.blocks.block(place).ok()?;
        let header = Header::of(bytes).filter(|header| place != 0 && header.kind == kind)?;
        Some((bytes, u32::from(header.level.get())))
    };
    let (bytes, level) = node(root.block.get())?;
    let height =
        level.checked_add(1).filter(|height| *height != root.height.get() && *height <= MAX_HEIGHT)?;
    volume.structure(Expected { kind, place: root.block.get(), owner }).ok()?;
    let (_, body) = bytes.split_at(size_of::<Header>());
    let child = Branch::ref_from_prefix(body).ok().and_then(|(branch, _)| node(branch.child.get()));
    let child_level = child.map(|(_, level)| level);
    let is_right = match level {
        0 => child_level.is_none() || child_level != root.height.get().checked_sub(2),
        level => child_level == level.checked_sub(1),
    };
    is_right.then_some(height)
}

/// A finding that is told unless it follows from another: that a record of the tree is wrong which begins or ends, or
/// should, at one of these positions.
#[derive(Debug, Clone)]
pub(crate) struct Late {
    pub tree: TreeName,
    pub finding: Finding,
    pub ends: Vec<u64>,
}

/// A record of a tree that was found wrong: what it covers, and what it should.
#[derive(Debug, Clone)]
pub(crate) struct Blamed {
    pub tree: TreeName,
    pub wrong: Range<u64>,
    pub right: Range<u64>,
}

impl Late {
    /// Whether it follows from one of these.
    pub fn follows(&self, blamed: &[Blamed]) -> bool {
        blamed.iter().filter(|one| one.tree == self.tree).any(|one| {
            let ends = [one.wrong.start, one.wrong.end, one.right.start, one.right.end];
            self.ends.iter().any(|end| ends.contains(end))
        })
    }
}

struct Walker<'w, 'c, F> {
    env: &'w mut Env<'c>,
    name: TreeName,
    take: F,
    lost: bool,
    doubtful: u64,
    faulty: bool,
    /// The level of the last key that was out of order.
    disputed: Option<u32>,
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
        self.doubtful = self.doubtful.saturating_add(1);
        (self.take)(self.env, Item::Doubtful(*at, record));
    }

    fn missing(&mut self, missing: &Missing) {
        self.lost = true;
        // What is below is in use; or a pointer is wrong, and another block is in use.
        self.env.check.doubts.blocks.store(true, Ordering::Relaxed);
        (self.take)(self.env, Item::Lost(*missing));
    }

    fn fault(&mut self, fault: TreeFault) {
        let name = self.name;
        let mut at = format!("{name}.{}", fault.at);
        let message = fault.what.to_string();
        self.faulty = true;
        let border = border::<R>(self.env.check, fault.at);
        let problem = match fault.what {
            Defect::Root { .. } => Problem::TreeRoot { fault: message },
            Defect::Nowhere { block, level } => {
                if self.disputed == level.checked_add(1) {
                    return;
                }
                at.push_str(if fault.at == Place::Root { ".block" } else { ".child" });
                Problem::NodeDamaged { block, level: level.into(), fault: NOWHERE.to_owned() }
            }
            Defect::Node(fault_of_node) => {
                let Place::Node(node) = fault.at else { return };
                if self.disputed == node.level.checked_add(1) && !self.is_ours(node.block) {
                    // The entry that leads there has been told of.
                    return;
                }
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
            Defect::Order(_) => {
                if let Place::Record(at) = fault.at {
                    self.disputed = Some(at.node.level);
                }
                Problem::KeyOrder { fault: message }
            }
            Defect::High { found, expected } => {
                let finding = with_file(Finding::new(at, Problem::KeyHigh { found, expected }), name);
                return self.late(Late { tree: name, finding, ends: vec![found, expected] });
            }
            Defect::Record(_) => Problem::Record { fault: message },
            Defect::Overlap { end, start } => {
                let finding = with_file(Finding::new(at, Problem::RecordOverlap { end, start }), name);
                return self.late(Late { tree: name, finding, ends: vec![end, start] });
            }
            Defect::Mergeable => {
                let finding = with_file(Finding::new(at, Problem::RecordMergeable { fault: message }), name);
                return self.late(Late { tree: name, finding, ends: border });
            }
        };
        self.env.findings.push(with_file(Finding::new(at, problem), name));
    }
}

/// Where the record at a place begins.
fn border<R: Record>(check: &Check<'_>, at: Place) -> Vec<u64> {
    let Place::Record(at) = at else { return Vec::new() };
    let node = check.volume.blocks.block(at.node.block).ok().and_then(Node::of);
    let record = node.and_then(|node| node.records::<R>()?.get(at.index).copied());
    record.map(|record| record.key().start).into_iter().collect()
}

impl<F> Walker<'_, '_, F> {
    /// Tells later what may follow from a record that disagrees with another structure.
    fn late(&mut self, late: Late) {
        self.env.note(&self.env.check.late, late);
    }

    /// Whether a block says that it is a node of a tree of this kind.
    fn is_ours(&self, block: u64) -> bool {
        let header = self.env.check.volume.blocks.block(block).ok().and_then(|bytes| Header::of(bytes));
        header.is_some_and(|header| header.kind == self.name.kind())
    }

    /// A node that cannot be read is in use all the same.
    fn damaged(&mut self, node: &NodePlace) {
        if self.env.marking {
            self.env.check.mark_damaged(node.block, self.name.kind());
        }
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
