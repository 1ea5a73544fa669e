//! Paths of the nodes of a tree, and of the records in them.

use super::{Rest, Structure, Target, TargetError};
use crate::blocks::Blocks;
use crate::declare::{Layout, OnDisk};
use crate::field::path::Index;
use crate::node::{Branch, MAX_HEIGHT, NODE_BODY, Node};
use crate::record::Record;
use crate::tree::Tree;
use crate::volume::Volume;

/// What can follow a tree.
const PARTS: &[&str] = &["leaf", "node", "root"];

/// `.root…`, `.leaf[O]…` or `.node[L][O]…` of a tree; its root when nothing follows.
pub(super) fn tree<R: Record, B: Blocks>(
    volume: &Volume<B>,
    tree: &Tree<R>,
    root: Structure,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let (level, ordinal) = match rest.name() {
        "" => return rest.field(volume, root, PARTS),
        "leaf" => (0, rest.take_number("a leaf's number from the left, as in leaf[0],")?),
        "node" => take_level_and_ordinal(&mut rest)?,
        "root" => {
            rest.take_plain()?;
            if !matches!(rest.name(), "header" | "body" | "rec") {
                return rest.field(volume, root, &["header", "body", "rec"]);
            }
            (tree.height.saturating_sub(1), 0)
        }
        _ => return Err(rest.unknown(PARTS)),
    };
    let Some(block) = tree.locate(&volume.blocks, level, ordinal) else {
        let why = "the tree does not reach that far, or a branch node above is broken";
        return Err(TargetError::Missing { text: rest.text, why });
    };
    node(
        volume,
        block,
        if level == 0 { const { &<R as OnDisk>::LAYOUT } } else { const { &<Branch as OnDisk>::LAYOUT } },
        rest,
    )
}

fn take_level_and_ordinal(rest: &mut Rest<'_>) -> Result<(u32, u64), TargetError> {
    let indices = rest.take().map(|segment| segment.indices.as_slice());
    match indices {
        Some([Index::Number(level), Index::Number(ordinal)])
            if (1..u64::from(MAX_HEIGHT)).contains(level) =>
        {
            Ok((u32::try_from(*level).unwrap_or(MAX_HEIGHT), *ordinal))
        }
        _ => Err(TargetError::Index {
            text: rest.text.clone(),
            expected: "a level from 1 and a node's number from the left, as in node[1][0],",
        }),
    }
}

/// A field of the node in a block, whose records are of `records`.
pub(super) fn node<B: Blocks>(
    volume: &Volume<B>,
    block: u64,
    records: &'static Layout,
    mut rest: Rest<'_>,
) -> Result<Target, TargetError> {
    let node = Structure::block(block, &Node::LAYOUT)?;
    if rest.name() != "rec" {
        return rest.field(volume, node, &["rec"]);
    }
    let limit = NODE_BODY.checked_div(records.size).unwrap_or(0);
    let index = rest.take_below(u64::try_from(limit).unwrap_or(0), "a record's number, as in rec[0],")?;
    let offset = core::mem::offset_of!(Node, body) + usize::try_from(index).unwrap_or(0) * records.size;
    rest.field(volume, node.part(offset, records), &[])
}
