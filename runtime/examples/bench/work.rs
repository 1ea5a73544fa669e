//! Kinds of work. Each leaves the file system as it was.

use crate::target::{Result, Target};
use std::time::Instant;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Cloning a file of many extents.
    Clone,
    /// Overwriting shared blocks, each once, in random order.
    Overwrite,
    /// Making and removing empty files.
    Names,
    /// Appending a block and making it durable.
    Append,
    /// Writing and reading a large file from its start to its end.
    Sequential,
    /// Making files of one block, and removing them.
    Small,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Extents of the file that is cloned.
    extents: u64,
    /// Blocks that are overwritten.
    blocks: u64,
    /// Files.
    files: u64,
    /// Blocks that are appended.
    appends: u64,
    /// Mebibytes of the large file.
    mebibytes: u64,
}

impl Size {
    /// What figures are taken of.
    pub const WHOLE: Self =
        Size { extents: 130_000, blocks: 16_384, files: 100_000, appends: 20_000, mebibytes: 256 };
    /// To see that it works.
    pub const QUICK: Self =
        Size { extents: 2_000, blocks: 2_048, files: 5_000, appends: 2_000, mebibytes: 32 };
}

/// Seconds of one operation, by its name.
pub type Figures = Vec<(&'static str, f64)>;

const BLOCK: u64 = 4096;
const MEBIBYTE: u64 = 1 << 20;

impl Work {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "clone" => Work::Clone,
            "overwrite" => Work::Overwrite,
            "names" => Work::Names,
            "append" => Work::Append,
            "sequential" => Work::Sequential,
            "small" => Work::Small,
            _ => return None,
        })
    }

    /// Does it.
    pub fn run<T: Target>(self, target: &T, size: &Size) -> Result<Figures> {
        match self {
            Work::Clone => clone(target, size.extents),
            Work::Overwrite => overwrite(target, size.blocks),
            Work::Names => names(target, size.files),
            Work::Append => append(target, size.appends),
            Work::Sequential => sequential(target, size.mebibytes),
            Work::Small => small(target, size.files / 2),
        }
    }
}

/// Seconds that each of `count` operations took. Not inlined, so that a profiler finds what is timed.
#[inline(never)]
fn each(count: u64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    #[allow(clippy::cast_precision_loss)]
    Ok(started.elapsed().as_secs_f64() / count as f64)
}

/// Bytes at an address that direct I/O takes.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    fn new(length: u64) -> Result<Self> {
        let length = usize::try_from(length)?;
        let bytes = vec![0x5a; length + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        Ok(Buffer { bytes, start, length })
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.length).unwrap_or_default()
    }

    fn get_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}

fn clone<T: Target>(target: &T, extents: u64) -> Result<Figures> {
    let block = Buffer::new(BLOCK)?;
    let source = target.create("source")?;
    // Every other block: no two of its extents can be one.
    (0..extents).try_for_each(|extent| target.write(&source, extent * 2 * BLOCK, block.get()))?;
    target.sync_all()?;
    let copy = target.create("copy")?;
    let time = each(1, || {
        target.clone(&source, &copy)?;
        target.sync(&copy)
    })?;
    remove_all(target, ["source", "copy"])?;
    Ok(vec![("clone", time)])
}

fn overwrite<T: Target>(target: &T, blocks: u64) -> Result<Figures> {
    let (old, new) = (Buffer::new(MEBIBYTE)?, Buffer::new(BLOCK)?);
    let source = target.create("source")?;
    (0..blocks * BLOCK).step_by(1 << 20).try_for_each(|offset| target.write(&source, offset, old.get()))?;
    let copy = target.create("copy")?;
    target.clone(&source, &copy)?;
    target.sync_all()?;
    let mut order: Vec<u64> = (0..blocks).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    let time = each(blocks, || {
        order.iter().try_for_each(|block| target.write(&copy, block * BLOCK, new.get()))?;
        target.sync(&copy)
    })?;
    remove_all(target, ["source", "copy"])?;
    Ok(vec![("overwrite", time)])
}

fn names<T: Target>(target: &T, files: u64) -> Result<Figures> {
    let names: Vec<String> = (0..files).map(|file| format!("file-{file:07}")).collect();
    let create = each(files, || {
        names.iter().try_for_each(|name| target.create(name).map(drop))?;
        target.sync_all()
    })?;
    let remove = each(files, || remove_all(target, names.iter().map(String::as_str)))?;
    Ok(vec![("create", create), ("unlink", remove)])
}

fn append<T: Target>(target: &T, appends: u64) -> Result<Figures> {
    let block = Buffer::new(BLOCK)?;
    let file = target.create("log")?;
    target.sync_all()?;
    let time = each(appends, || {
        (0..appends).try_for_each(|at| {
            target.write(&file, at * BLOCK, block.get())?;
            target.sync(&file)
        })
    })?;
    remove_all(target, ["log"])?;
    Ok(vec![("append", time)])
}

fn sequential<T: Target>(target: &T, mebibytes: u64) -> Result<Figures> {
    let mut buffer = Buffer::new(MEBIBYTE)?;
    let file = target.create("large")?;
    target.sync_all()?;
    let write = each(mebibytes, || {
        (0..mebibytes).try_for_each(|at| target.write(&file, at * MEBIBYTE, buffer.get()))?;
        target.sync(&file)
    })?;
    let read = each(mebibytes, || {
        (0..mebibytes).try_for_each(|at| target.read(&file, at * MEBIBYTE, buffer.get_mut()))
    })?;
    remove_all(target, ["large"])?;
    Ok(vec![("write", write), ("read", read)])
}

fn small<T: Target>(target: &T, files: u64) -> Result<Figures> {
    let block = Buffer::new(BLOCK)?;
    let names: Vec<String> = (0..files).map(|file| format!("file-{file:07}")).collect();
    let time = each(files, || {
        names.iter().try_for_each(|name| target.write(&target.create(name)?, 0, block.get()))?;
        target.sync_all()?;
        remove_all(target, names.iter().map(String::as_str))
    })?;
    Ok(vec![("small", time)])
}

fn remove_all<'n, T: Target>(target: &T, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
    names.into_iter().try_for_each(|name| target.remove(name))?;
    target.sync_all()
}
