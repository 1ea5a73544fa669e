//! Where the data of a recipe's files goes, and what it is.

use super::content::{Pattern, within};
use super::names::{expand, unescape};
use super::tree::{Node, Tree};
use super::value::Size;
use super::{ExtentSpec, Flag, Item, Recipe, Reflink, Span, Sums};
use crate::builder::{Builder, extent, merged};
use crate::error::Error;
use paxfs_format::extent::Extent;
use paxfs_format::geometry::{BLOCK_BYTES, MAX_FILE_BLOCKS};
use paxfs_format::inode::FileType;
use paxfs_format::record::Record;
use paxfs_format::rmap::ExtentFlags;

/// Why the data of a file cannot be.
pub(super) enum Why {
    /// The recipe asks for what cannot be.
    Recipe(String),
    /// The volume cannot take it.
    Volume(Error),
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        Why::Volume(error)
    }
}

impl From<String> for Why {
    fn from(why: String) -> Self {
        Why::Recipe(why)
    }
}

fn no<T>(why: &str) -> Result<T, Why> {
    Err(Why::Recipe(why.to_owned()))
}

/// Data of one file, laid out.
pub(super) struct Laid {
    pub size: u64,
    /// All extents, ascending, in maximal form.
    pub extents: Vec<Extent>,
    /// Those of them, as they were allocated, that are to be written.
    pub own: Vec<Extent>,
    pub pattern: Pattern,
    pub sums: Sums,
}

/// Blocks of a range of a file: (first, one past the last).
type Blocks = (u64, u64);

impl Item {
    fn pattern(&self, i: u64) -> Result<Option<Pattern>, Why> {
        match (&self.content, self.seed, self.fill) {
            (None, None, None) => Ok(None),
            (Some(text), None, None) => Ok(Some(Pattern::Literal(expand(text, i)?.into_bytes()))),
            (None, Some(seed), None) => {
                Ok(Some(Pattern::Random(if self.same { seed } else { seed.wrapping_add(i) })))
            }
            (None, None, Some(byte)) => Ok(Some(Pattern::Fill(byte))),
            _ => no("its data is told twice: give one of `content`, `seed`, `fill`"),
        }
    }

    /// Bytes of the file as it says; without a word, all that its parts need.
    fn size(&self, i: u64, pattern: Option<&Pattern>, parts: u64) -> u64 {
        match (self.size, pattern) {
            (Some(range), _) if self.same => within(range.from, range.to, self.seed.unwrap_or(0), 0),
            (Some(range), _) => within(range.from, range.to, self.seed.unwrap_or(0), i),
            (None, Some(Pattern::Literal(text))) => parts.max(u64::try_from(text.len()).unwrap_or(0)),
            (None, _) => parts,
        }
    }
}

fn blocks_of(span: &Span) -> Result<Blocks, Why> {
    let (Size(offset), Size(length)) = (span.offset, span.length);
    let end = offset.saturating_add(length);
    if !offset.is_multiple_of(BLOCK_BYTES) || !end.is_multiple_of(BLOCK_BYTES) {
        return no("`offset` and `length` are multiples of 4096");
    }
    Ok((offset / BLOCK_BYTES, end / BLOCK_BYTES))
}

/// What is left of `whole` without parts.
fn without(whole: Blocks, parts: &[Blocks]) -> Vec<Blocks> {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    let (mut at, end) = whole;
    let mut left = Vec::new();
    for (start, stop) in parts {
        if start > at {
            left.push((at, start.min(end)));
        }
        at = at.max(stop);
    }
    left.push((at, end));
    left.into_iter().filter(|(start, end)| start < end).collect()
}

/// Lays out the data of a node.
pub(super) fn lay(
    builder: &mut Builder<'_>,
    others: &Others<'_>,
    item: &Item,
    node: &Node,
) -> Result<Laid, Why> {
    let i = node.i;
    let pattern = item.pattern(i)?;
    let mut laid =
        Laid { size: 0, extents: Vec::new(), own: Vec::new(), pattern: Pattern::Fill(0), sums: sums(item)? };
    if node.kind != FileType::Regular {
        return Ok(laid);
    }
    let mut shared = 0;
    if !item.extents.is_empty() {
        let simple = item.reflink.0.is_empty() && item.holes.is_empty() && item.unwritten.is_empty();
        if !simple || item.fragments.is_some() || item.at.is_some() {
            return no(
                "`extents` tell all: no `reflink`, `holes`, `unwritten`, `fragments`, `at` beside them",
            );
        }
        for spec in &item.extents {
            explicit(builder, others, item, spec, i, &mut laid)?;
        }
    } else {
        let mut taken = Vec::new();
        for reflink in &item.reflink.0 {
            let shared = reflinked(others, item, reflink, i, &mut laid)?;
            taken.push(shared);
        }
        shared = laid.size;
        spread(builder, item, pattern.as_ref(), &mut laid, taken, i)?;
    }
    let end = laid.extents.iter().map(Record::end).max().unwrap_or(0);
    let parts = if item.extents.is_empty() { laid.size } else { end.saturating_mul(BLOCK_BYTES) };
    laid.size = item.size(i, pattern.as_ref(), parts);
    if laid.size > MAX_FILE_BLOCKS.saturating_mul(BLOCK_BYTES) - 1 {
        return no("its size does not fit a signed 64-bit number");
    }
    let written = laid.extents.iter().filter(|one| !one.flags.is_unwritten()).map(Record::end).max();
    if laid.size < shared || written.is_some_and(|end| end > laid.size.div_ceil(BLOCK_BYTES)) {
        return no("what is written or shared reaches behind its `size`");
    }
    laid.extents.sort_unstable_by_key(|one| one.offset.get());
    if laid.extents.windows(2).any(|pair| matches!(pair, [a, b] if a.end() > b.offset.get())) {
        return no("its parts overlap");
    }
    laid.extents = merged(&builder.geometry(), core::mem::take(&mut laid.extents));
    laid.pattern = pattern.unwrap_or(Pattern::Fill(0));
    Ok(laid)
}

fn sums(item: &Item) -> Result<Sums, Why> {
    let without = item.flags.contains(&Flag::Nocsum);
    let sums = item.sums.unwrap_or(if without { Sums::None } else { Sums::Sealed });
    if without == (sums == Sums::None) {
        Ok(sums)
    } else {
        no("`sums: none` goes with the flag `nocsum`, and only with it")
    }
}

/// Adds what an extent of the recipe says.
fn explicit(
    builder: &mut Builder<'_>,
    others: &Others<'_>,
    item: &Item,
    spec: &ExtentSpec,
    i: u64,
    laid: &mut Laid,
) -> Result<(), Why> {
    let flags = ExtentFlags::new(if spec.unwritten { ExtentFlags::UNWRITTEN } else { 0 });
    if spec.blocks == 0 {
        return no("an extent has at least one block");
    }
    if spec.offset.max(spec.from.unwrap_or(0)).saturating_add(spec.blocks.into()) > MAX_FILE_BLOCKS {
        return no("an extent ends behind the largest file there can be");
    }
    if let Some(other) = &spec.like {
        let node = others.file(item, other, i)?;
        let from = spec.from.unwrap_or(spec.offset);
        let found = clip(&node.extents, (from, from.saturating_add(spec.blocks.into())), spec.offset);
        if spec.unwritten || found.iter().any(|one| one.flags.is_unwritten()) {
            return no("what is shared cannot be unwritten, here or there");
        }
        laid.extents.extend(found);
        return Ok(());
    }
    let new = match spec.at {
        Some(at) if builder.space.take(at, spec.blocks) => vec![extent(spec.offset, at, spec.blocks)],
        Some(at) => return Err(format!("blocks from {at} on are not free, or not in one group").into()),
        None => builder.allocate(spec.offset, spec.blocks.into())?,
    };
    for one in new {
        let one = Extent { flags, ..one };
        laid.extents.push(one);
        if !spec.unwritten {
            laid.own.push(one);
        }
    }
    Ok(())
}

/// The files that others can share with.
pub(super) struct Others<'t> {
    pub recipe: &'t Recipe,
    pub tree: &'t Tree,
    pub reflink: bool,
}

impl Others<'_> {
    /// A file that was made before, for `item` to share with.
    fn file(&self, item: &Item, path: &str, i: u64) -> Result<&Node, Why> {
        if !self.reflink {
            return Err(Error::NeedsReflink { what: item.path.clone() }.into());
        }
        let at = self.tree.find(&unescape(&expand(path, i)?)?);
        let node = at.and_then(|at| self.tree.get(at)).filter(|node| node.kind == FileType::Regular);
        let node = node.ok_or_else(|| format!("{path:?} is no regular file"))?;
        if !node.laid {
            return Err(format!("{path:?} comes later in the recipe").into());
        }
        let other = node.item.and_then(|other| self.recipe.files.get(usize::try_from(other).ok()?));
        // What a mapping may change without notice, and what has no checksums, is not shared with what is otherwise.
        let differs =
            |flag| item.flags.contains(&flag) != other.is_some_and(|other| other.flags.contains(&flag));
        if differs(Flag::Dax) || differs(Flag::Nocsum) {
            return no("files that share are alike in the flags `dax` and `nocsum`");
        }
        Ok(node)
    }
}

/// The parts of extents that lie in blocks of their file, moved so that these begin at block `to`.
fn clip(extents: &[Extent], (from, end): Blocks, to: u64) -> Vec<Extent> {
    let first = extents.partition_point(|one| one.end() <= from);
    let inside = extents.iter().skip(first).take_while(|one| one.offset.get() < end);
    let cut = |one: &Extent| {
        let (start, stop) = (one.offset.get().max(from), one.end().min(end));
        let blocks = u32::try_from(stop - start).unwrap_or(u32::MAX);
        let place = one.start.get() + (start - one.offset.get());
        Extent { flags: one.flags, ..extent(start - from + to, place, blocks) }
    };
    inside.map(cut).collect()
}

/// Adds what a reflink shares; returns the blocks that it takes.
fn reflinked(
    others: &Others<'_>,
    item: &Item,
    reflink: &Reflink,
    i: u64,
    laid: &mut Laid,
) -> Result<Blocks, Why> {
    let node = others.file(item, &reflink.of, i)?;
    let (Size(offset), Size(to)) = (reflink.offset, reflink.to);
    let length = reflink.length.map_or(node.size.saturating_sub(offset), |length| length.0);
    let end = offset.saturating_add(length);
    let whole = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES);
    if !whole(offset) || !whole(to) || !(whole(end) || end == node.size) {
        return no("a reflink's parts are multiples of 4096, but at the end of the other file");
    }
    if end > node.size {
        return no("a reflink ends behind the end of the other file");
    }
    let (from, to) = ((offset / BLOCK_BYTES, end.div_ceil(BLOCK_BYTES)), to / BLOCK_BYTES);
    let shared = clip(&node.extents, from, to);
    // As FICLONERANGE does: what is unwritten there is a hole here.
    laid.extents.extend(shared.into_iter().filter(|one| !one.flags.is_unwritten()));
    laid.size = laid.size.max(to.saturating_mul(BLOCK_BYTES).saturating_add(length));
    Ok((to, to + (from.1 - from.0)))
}

/// Adds the file's own data: everything that is no hole and not shared, if it has any; and what is unwritten.
fn spread(
    builder: &mut Builder<'_>,
    item: &Item,
    pattern: Option<&Pattern>,
    laid: &mut Laid,
    mut taken: Vec<Blocks>,
    i: u64,
) -> Result<(), Why> {
    let spans = |list: &[Span]| list.iter().map(blocks_of).collect::<Result<Vec<Blocks>, Why>>();
    let (holes, unwritten) = (spans(&item.holes)?, spans(&item.unwritten)?);
    let marks = holes.iter().chain(&unwritten).map(|part| part.1.saturating_mul(BLOCK_BYTES));
    laid.size = marks.fold(laid.size, u64::max);
    taken.extend(holes);
    let size = item.size(i, pattern, laid.size);
    let whole = (0, size.div_ceil(BLOCK_BYTES));
    for part in &unwritten {
        for (start, end) in without(*part, &taken) {
            let unwritten = ExtentFlags::new(ExtentFlags::UNWRITTEN);
            let new = builder.allocate(start, end - start)?;
            laid.extents.extend(new.into_iter().map(|one| Extent { flags: unwritten, ..one }));
        }
    }
    if pattern.is_none() {
        return Ok(());
    }
    taken.extend(unwritten);
    let data = without(whole, &taken);
    let blocks: u64 = data.iter().map(|(start, end)| end - start).sum();
    let new = match (item.at, item.fragments) {
        (None, None) => {
            let mut new = Vec::new();
            for &(start, end) in &data {
                new.extend(builder.allocate(start, end - start)?);
            }
            new
        }
        (Some(at), None) => {
            let count = u32::try_from(blocks).ok().filter(|&count| builder.space.take(at, count));
            let count =
                count.ok_or_else(|| format!("blocks from {at} on are not free, or not in one group"))?;
            place(&data, &[extent(0, at, count)])
        }
        (None, Some(fragments)) => scatter(builder, &data, blocks, fragments)?,
        (Some(_), Some(_)) => return no("`at` is one run: no `fragments` beside it"),
    };
    laid.extents.extend(&new);
    laid.own.extend(new);
    Ok(())
}

/// Lays ranges of a file, one after the other, into runs of the volume, one after the other.
fn place(ranges: &[Blocks], runs: &[Extent]) -> Vec<Extent> {
    let mut list = Vec::new();
    let mut runs = runs.iter().map(|run| (run.start.get(), u64::from(run.length.get())));
    let mut run = (0, 0);
    for &(start, end) in ranges {
        let mut at = start;
        while at < end {
            if run.1 == 0 {
                let Some(next) = runs.next() else { return list };
                run = next;
            }
            let blocks = run.1.min(end - at);
            list.push(extent(at, run.0, u32::try_from(blocks).unwrap_or(u32::MAX)));
            at += blocks;
            run = (run.0 + blocks, run.1 - blocks);
        }
    }
    list
}

/// Data in so many extents: pieces of equal length, the odd ones before the even ones on the volume, so that no two that
/// follow each other in the file do so on the volume.
fn scatter(
    builder: &mut Builder<'_>,
    data: &[Blocks],
    blocks: u64,
    fragments: u64,
) -> Result<Vec<Extent>, Why> {
    if fragments == 0 || fragments > blocks {
        return Err(format!("{fragments} `fragments` of {blocks} blocks cannot be").into());
    }
    // In blocks of data, holes left out: piece `n` begins at `n × blocks ÷ fragments`.
    let begin = |n: u64| {
        u64::try_from(u128::from(n) * u128::from(blocks) / u128::from(fragments)).unwrap_or(u64::MAX)
    };
    let runs = builder.allocate(0, blocks)?;
    let order = (1..fragments).step_by(2).chain((0..fragments).step_by(2));
    let pieces: Vec<Blocks> = order.map(|n| (begin(n), begin(n + 1))).collect();
    let mut dense = place(&pieces, &runs);
    dense.sort_unstable_by_key(|one| one.offset.get());
    // Back to offsets of the file, cut where holes are.
    let mut list = Vec::with_capacity(dense.len());
    let mut before = 0;
    for &(start, end) in data {
        list.extend(clip(&dense, (before, before + (end - start)), start));
        before += end - start;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        assert_eq!(without((0, 10), &[]), [(0, 10)]);
        assert_eq!(without((0, 10), &[(8, 20), (2, 3), (3, 4)]), [(0, 2), (4, 8)]);
        assert_eq!(without((0, 10), &[(0, 10)]), []);
    }

    #[test]
    fn ranges_go_into_runs() {
        let placed = place(&[(0, 3), (10, 14)], &[extent(0, 100, 5), extent(0, 300, 9)]);
        let placed: Vec<_> =
            placed.iter().map(|one| (one.offset.get(), one.start.get(), one.length.get())).collect();
        assert_eq!(placed, [(0, 100, 3), (10, 103, 2), (12, 300, 2)]);
    }
}
