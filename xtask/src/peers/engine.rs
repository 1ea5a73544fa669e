//! The engine: work on a volume that is open for writing, beside a mounted XFS, tmpfs, and what memory allows.
//!
//! Each run is a process that does one kind of work and says itself how long an operation took, so that opening,
//! mounting and preparing do not count. See `runtime/examples/bench`.

use crate::peers::contest::{Measured, Times};
use crate::peers::field::Field;
use crate::peers::mount::{self, Mount};
use crate::peers::table::Row;
use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What has to be known to read the rows.
pub const ABOUT: &str = "\
The rows of the engine are times of one operation, each with its share of the sync at the end. The engine runs in the
process that calls it: an operation is a function call. For XFS and tmpfs it is a system call, with what that costs (about
0.1 to 0.3 µs) and with the kernel's checks of paths and permissions. Creating is making and opening, and closing; one
directory. XFS (rmap and reflink on) lies on a loop device over a file on tmpfs; its overwrites are `O_DIRECT`, so that
data is on the device when the call returns, as it is with paxfs. tmpfs makes nothing durable. An image on tmpfs is
memory, so paxfs takes it for byte-addressable: durable is what left the caches (CLWB or non-temporal stores, and a fence).
All pages of all images are there before the time starts, but those of files on tmpfs itself. libpmem: `pmem_memcpy` past
the caches, of the same sizes in the same order, on a mapped file on tmpfs.
";

/// Where the work is done.
struct Places {
    bench: PathBuf,
    quick: bool,
    volume: PathBuf,
    without_rmap: PathBuf,
    directory: PathBuf,
    /// A mounted XFS, or why there is none.
    xfs: std::result::Result<Mount, String>,
    /// The program with the limits, or why there is none.
    pmem: std::result::Result<PathBuf, String>,
}

/// Somebody who does a kind of work.
type Runner = std::result::Result<(String, Command), String>;

impl Places {
    fn new(field: &Field<'_>, quick: bool) -> Result<Self> {
        let bytes: u64 = if quick { 512 << 20 } else { 2 << 30 };
        let (volume, without_rmap) = (field.path("engine.paxfs"), field.path("engine-without.paxfs"));
        for (image, features) in [(&volume, "rmap,reflink"), (&without_rmap, "^rmap,^reflink")] {
            mount::run(
                field.ours("mkfs.paxfs").args(["-q", "-O", features]).arg(image).arg(bytes.to_string()),
            )?;
        }
        let directory = field.path("directory");
        fs::create_dir_all(&directory)?;
        Ok(Places {
            bench: field.workspace.build_example("paxfs-runtime", "bench")?,
            quick,
            volume,
            without_rmap,
            directory,
            // It allocates ahead of scattered writes, and frees behind the call.
            xfs: mounted_xfs(field, 3 * bytes),
            pmem: compiled(field),
        })
    }

    fn bench(&self, who: &str, work: &str, kind: &str, path: &Path) -> Runner {
        let mut command = Command::new(&self.bench);
        command.arg(work).arg(kind).arg(path);
        if self.quick {
            command.arg("quick");
        }
        Ok((who.to_owned(), command))
    }

    fn paxfs(&self, work: &str) -> Runner {
        self.bench("paxfs", work, "paxfs", &self.volume)
    }

    fn xfs(&self, work: &str) -> Runner {
        let mount = self.xfs.as_ref().map_err(Clone::clone)?;
        self.bench("XFS", work, "directory", mount.point())
    }

    fn tmpfs(&self, work: &str) -> Runner {
        self.bench("tmpfs", work, "directory", &self.directory)
    }

    fn pmem(&self, who: &str, work: &str, count: u64) -> Runner {
        let mut command = Command::new(self.pmem.as_ref().map_err(Clone::clone)?);
        command.arg(work).arg(self.directory.join("mapped")).arg(count.to_string());
        // libpmem knows tmpfs for no persistent memory, and this changes nothing but how it flushes.
        command.env("PMEM_IS_PMEM_FORCE", "1");
        Ok((who.to_owned(), command))
    }
}

/// All rows.
pub fn rows(field: &Field<'_>, quick: bool) -> Result<Vec<Row>> {
    eprintln!("the engine");
    let at = Places::new(field, quick)?;
    let copy = || at.pmem("libpmem, copy of 4 KiB", "copy", 16_384);
    let mut rows = Vec::new();
    let clone = [at.paxfs("clone"), at.xfs("clone")];
    let extents = if quick { "2,000" } else { "130,000" };
    let figure = format!("engine: clone a file of {extents} extents");
    rows.extend(hold(field, clone, &[("clone", &figure)])?);
    let overwrite = [at.paxfs("overwrite"), at.xfs("overwrite"), copy()];
    rows.extend(hold(
        field,
        overwrite,
        &[("overwrite", "engine: overwrite a shared 4 KiB block, at random")],
    )?);
    let names = [at.paxfs("names"), at.tmpfs("names"), at.xfs("names")];
    let figures = [("create", "engine: create an empty file"), ("unlink", "engine: unlink it")];
    rows.extend(hold(field, names, &figures)?);
    let append = [at.paxfs("append"), at.tmpfs("append"), at.xfs("append"), copy()];
    rows.extend(hold(field, append, &[("append", "engine: append 4 KiB and fsync")])?);
    let sequential = [at.paxfs("sequential"), at.pmem("libpmem, memcpy", "sequential", 256)];
    let figures = [("write", "engine: write 1 MiB of a new file"), ("read", "engine: read 1 MiB")];
    rows.extend(hold(field, sequential, &figures)?);
    let without = at.bench("paxfs without rmap", "small", "paxfs", &at.without_rmap);
    let small = [at.paxfs("small"), without];
    rows.extend(hold(field, small, &[("small", "engine: create, write 4 KiB, unlink")])?);
    if let Ok(mount) = at.xfs {
        mount.unmount()?;
    }
    field.clear()?;
    Ok(rows)
}

/// Has all do their work in turn; one row for each figure, by its name and the table's.
fn hold<const N: usize>(
    field: &Field<'_>,
    runners: [Runner; N],
    figures: &[(&str, &str)],
) -> Result<Vec<Row>> {
    let (mut commands, mut skipped) = (Vec::new(), Vec::new());
    for runner in runners {
        match runner {
            Ok((name, command)) => {
                let times = figures.iter().map(|_| Times::new(&name)).collect::<Vec<_>>();
                commands.push((command, times));
            }
            Err(why) => skipped.push(why),
        }
    }
    for _ in 0..field.rounds_short() {
        for (command, times) in &mut commands {
            let said = run(command)?;
            for (times, (name, _)) in times.iter_mut().zip(figures) {
                // Who does one thing only has one figure.
                let figure = said.iter().find(|(said, _)| said == name).or(said.first());
                let (_, time) = figure.with_context(|| format!("{command:?} says nothing"))?;
                times.walls.push(*time);
            }
        }
    }
    let row = |(index, (_, work)): (usize, &(&str, &str))| Row {
        work: (*work).to_owned(),
        measured: commands
            .iter()
            .filter_map(|(_, times)| times.get(index).cloned())
            .map(|times| Measured { times, memory: None })
            .collect(),
        skipped: skipped.clone(),
    };
    Ok(figures.iter().enumerate().map(row).collect())
}

/// Runs a program that prints figures: names and nanoseconds.
fn run(command: &mut Command) -> Result<Vec<(String, Duration)>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, messages.trim_end());
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |line: &str| {
        let (name, nanoseconds) = line.split_once(' ').context("no figure")?;
        Ok((name.to_owned(), Duration::from_secs_f64(nanoseconds.parse::<f64>()? / 1e9)))
    };
    text.lines().map(figure).collect()
}

/// An XFS on an image whose pages are all there.
fn mounted_xfs(field: &Field<'_>, bytes: u64) -> std::result::Result<Mount, String> {
    if let Some(why) = mount::obstacle() {
        return Err(format!("XFS has to be mounted, and {why}"));
    }
    let mut make = field.peer("mkfs.xfs")?;
    let image = field.path("engine.xfs");
    let mounted = (|| {
        fallocate(fs::File::create(&image)?, FallocateFlags::empty(), 0, bytes)?;
        mount::run(make.args(["-q", "-K", "-m", "rmapbt=1,reflink=1"]).arg(&image))?;
        Mount::new(&image, &field.path("engine.xfs.mounted"))
    })();
    mounted.map_err(|error: anyhow::Error| format!("XFS could not be mounted: {error:#}"))
}

/// The program with the limits, if there are a C compiler and libpmem.
fn compiled(field: &Field<'_>) -> std::result::Result<PathBuf, String> {
    let (source, program) = (field.path("pmem.c"), field.path("pmem"));
    let mut compiler = field.peer("cc")?;
    fs::write(&source, include_str!("pmem.c")).map_err(|error| error.to_string())?;
    compiler.arg("-O2").arg(&source).arg("-o").arg(&program).arg("-lpmem");
    mount::run(&mut compiler).map_err(|_| "libpmem (with its header) is not installed".to_owned())?;
    Ok(program)
}
