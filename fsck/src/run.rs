//! The tool: from arguments to an exit status.

use crate::check::Options;
use crate::cli::{Cli, arguments};
use crate::error::Error;
use crate::exit::Exit;
use crate::finding::Finding;
use crate::progress::Display;
use crate::questions::Questions;
use crate::repair::{Choose, Plan, plan};
use crate::replay::{Pending, Replayed, mark_clean, now, pending, replay};
use crate::report::Report;
use crate::summary::Summary;
use crate::undo::{Undone, put_back, undo};
use crate::write::{Repair, write};
use clap::Parser;
use paxfs_format::chunk::CHUNK_INODES;
use paxfs_format::device::{Access, Device};
use paxfs_format::image::Image;
use paxfs_format::volume::{Volume, find};
use paxfs_format::words::counted;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the tool calls itself.
const NAME: &str = "fsck.paxfs";

/// Findings that a refused repair shows.
const LEFT_SHOWN: usize = 5;

fn complain(message: impl core::fmt::Display) {
    // Nobody is left to complain to when this fails.
    let _ = writeln!(io::stderr(), "{NAME}: {message}");
}

/// Does what the arguments ask.
pub fn run(raw: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments(raw)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::USAGE } else { Exit::CLEAN };
        }
    };
    if let Some(code) = &cli.explain {
        return explain(&cli, code);
    }
    let Some(path) = &cli.device else { return Exit::USAGE };
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&cancel)) {
            complain(format_args!("cannot catch signal {signal}: {error}"));
        }
    }
    let tool = Tool {
        device_name: path.display().to_string(),
        at_terminal: io::stdout().is_terminal(),
        display: Display::new(cli.progress, cli.json, &path.display().to_string()),
        cancel: &cancel,
        cli: &cli,
    };
    let asks = !cli.no && !cli.json && io::stdin().is_terminal() && io::stdout().is_terminal();
    let outcome = match &cli.put_back {
        Some(file) => tool.put_back(path, file),
        None if cli.preen || cli.automatic => tool.preen(path),
        None if cli.yes => tool.repair(path, &mut |_| true),
        None if asks => tool.repair(path, &mut Questions::new().asker()),
        None => tool.look(path),
    };
    tool.display.finish();
    match outcome {
        Ok(exit) => exit,
        Err(Error::Cancelled) => {
            complain(Error::Cancelled);
            Exit::CANCELLED
        }
        Err(error @ (Error::Device(_) | Error::Medium(_) | Error::Undo { .. })) => {
            complain(error);
            Exit::OPERATIONAL
        }
        Err(error) => {
            complain(format_args!("{}: {error}", path.display()));
            Exit::OPERATIONAL
        }
    }
}

fn explain(cli: &Cli, asked: &str) -> Exit {
    let mut report = Report::new(io::stdout().lock(), cli.json, false);
    let mut known = false;
    for code in Finding::CODES {
        if asked == "all" || code.code.eq_ignore_ascii_case(asked) {
            known = true;
            if report.explain(code).is_err() {
                return Exit::OPERATIONAL;
            }
        }
    }
    if known {
        return Exit::CLEAN;
    }
    complain(format_args!("there is no code {asked}; --explain all lists them"));
    Exit::USAGE
}

struct Tool<'t> {
    device_name: String,
    at_terminal: bool,
    display: Display,
    cancel: &'t AtomicBool,
    cli: &'t Cli,
}

impl Tool<'_> {
    /// Puts back what a repair changed.
    fn put_back(&self, path: &Path, file: &Path) -> Result<Exit, Error> {
        let mut device = Device::open(path, Access::Exclusive)?;
        let Undone { blocks } = undo(&mut device, file, self.cli.force)?;
        let exit = if blocks > 0 { Exit::CORRECTED } else { Exit::CLEAN };
        let words = match (self.cli.json, blocks) {
            (true, _) => serde_json::json!({
                "schema": 1, "undo": self.device_name, "blocks": blocks, "exit": exit.code(),
            })
            .to_string(),
            (false, 0) => {
                format!("{}: is as it was before the repair; nothing to put back", self.device_name)
            }
            (false, _) => {
                format!("{}: put back {}, as before the repair", self.device_name, counted(blocks, "block"))
            }
        };
        self.print(|| println_lossy(&words));
        Ok(exit)
    }

    /// Checks and changes nothing.
    fn look(&self, path: &Path) -> Result<Exit, Error> {
        let device = Device::open(path, Access::ReadOnly)?;
        if let Ok(Some(user)) = Device::in_use(path) {
            complain(format_args!(
                "{}: in use: {user}; what is changed meanwhile may look like damage",
                path.display()
            ));
        }
        let plan = self.plan(&device, &mut |_| true)?;
        self.tell(&plan);
        let exit = plan.summary.exit();
        self.summarize(&plan.summary, exit);
        Ok(exit)
    }

    /// Plans a repair, and carries it out if it leaves nothing that could be put right.
    fn repair(&self, path: &Path, choose: Choose<'_>) -> Result<Exit, Error> {
        let mut device = Device::open(path, Access::Exclusive)?;
        if let Some(file) = &self.cli.undo
            && let Some(Undone { blocks }) = put_back(&mut device, file)?
        {
            complain(format_args!(
                "{}: a repair did not come to its end; put back {}, and begun again",
                self.device_name,
                counted(blocks, "block")
            ));
        }
        let plan = self.plan(&device, choose)?;
        self.tell(&plan);
        let mut exit = plan.summary.exit();
        if !plan.summary.refused {
            exit = self.carry_out(&mut device, &plan)?;
        }
        self.summarize(&plan.summary, exit);
        Ok(exit)
    }

    /// Writes a plan to the device; gives the exit status that it amounts to.
    fn carry_out(&self, device: &mut Device, plan: &Plan) -> Result<Exit, Error> {
        let left = if plan.left.is_empty() { Exit::CLEAN } else { Exit::UNCORRECTED };
        let nothing = plan.is_empty() && plan.changed.is_empty();
        if nothing && plan.found.superblock.is_clean() {
            // It says when it was checked.
            mark_clean(device)?;
            return Ok(left);
        }
        if !plan.succeeds() && !plan.helps() {
            let count = plan.left.iter().filter(|finding| finding.severity().needs_repair()).count();
            complain(format_args!(
                "{}: the repair would leave {} that it should not; nothing was written",
                self.device_name,
                counted(count as u64, "finding")
            ));
            for finding in plan.left.iter().take(LEFT_SHOWN) {
                complain(format_args!("left: {}", crate::report::line(finding)));
            }
            return Ok(Exit::UNCORRECTED);
        }
        let repair = Repair {
            superblock: &plan.found.superblock,
            geometry: &plan.found.geometry,
            blocks: &plan.changed,
            free: &plan.spare,
            now: now(),
        };
        let written = write(device, &repair, self.cli.undo.as_deref())?;
        if !self.cli.json && (!plan.is_empty() || written.blocks > 0) {
            let words = format!(
                "{}: {} done, {} written",
                self.device_name,
                counted(plan.actions.len() as u64, "action"),
                counted(written.blocks, "block")
            );
            self.print(|| println_lossy(&words));
        }
        let corrected = if nothing { Exit::CLEAN } else { Exit::CORRECTED };
        Ok(corrected | left)
    }

    /// Checks, and plans what to do about what is found.
    fn plan(&self, device: &Device, choose: Choose<'_>) -> Result<Plan, Error> {
        let tell = |pass: u32, done: u64, of: u64| self.display.tell(pass, done, of);
        let options = Options {
            threads: None,
            superblock_group: self.cli.superblock,
            cancel: Some(self.cancel),
            progress: Some(&tell),
        };
        let mut report = self.report();
        let plan = plan(
            device,
            &options,
            &mut |finding| {
                // When nobody reads, the status is still worth something.
                self.display.suspend(|| {
                    let _ = report.finding(finding).and_then(|()| match self.at_terminal {
                        true => report.flush(),
                        false => Ok(()),
                    });
                });
            },
            &mut |findings| {
                self.display.finish();
                choose(findings)
            },
        );
        let _ = report.flush();
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        plan
    }

    /// Prints what a plan does.
    fn tell(&self, plan: &Plan) {
        self.display.finish();
        let mut report = self.report();
        for action in &plan.actions {
            let _ = report.action(action);
        }
        let _ = report.flush();
    }

    /// Answers at once for a clean volume; else replays the journal, checks, and marks it clean if it is.
    fn preen(&self, path: &Path) -> Result<Exit, Error> {
        let mut device = Device::open(path, Access::Exclusive)?;
        if self.cli.superblock.is_none()
            && !self.cli.force
            && let Some(line) = at_once(&device)
        {
            if self.cli.json {
                self.print(|| {
                    let object = serde_json::json!({
                        "schema": 1, "summary": self.device_name, "clean": true, "exit": 0, "checked": false,
                    });
                    println_lossy(&object.to_string());
                });
            } else {
                self.print(|| println_lossy(&format!("{}: {line}", self.device_name)));
            }
            return Ok(Exit::CLEAN);
        }
        let mut exit = Exit::CLEAN;
        if self.cli.superblock.is_none() {
            let found = find(&device)?;
            // What this release does not understand it does not write to.
            if found.superblock.understood().is_ok()
                && let Pending::Transactions = pending(&device, &found.superblock, &found.geometry)
            {
                let Replayed { transactions, blocks } = replay(&mut device)?;
                exit |= Exit::CORRECTED;
                if !self.cli.json {
                    let words = format!(
                        "{}: replayed {}, {}",
                        self.device_name,
                        counted(transactions, "transaction"),
                        counted(blocks, "block")
                    );
                    self.print(|| println_lossy(&words));
                }
            }
        }
        let plan = self.plan(&device, &mut |_| true)?;
        if plan.summary.refused {
            exit |= Exit::OPERATIONAL;
        } else if plan.keeps_all() && (plan.succeeds() || plan.left.is_empty()) {
            self.tell(&plan);
            exit |= self.carry_out(&mut device, &plan)?;
        } else {
            self.tell(&plan);
            exit |= Exit::UNCORRECTED;
            complain(format_args!(
                "{}: a repair would lose something, so -p leaves it; run {NAME} -n to see what, and {NAME} -y to repair",
                self.device_name
            ));
        }
        self.summarize(&plan.summary, exit);
        Ok(exit)
    }

    fn report(&self) -> Report<io::BufWriter<io::Stdout>> {
        let color =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Report::new(io::BufWriter::new(io::stdout()), self.cli.json, color)
    }

    fn print(&self, print: impl FnOnce()) {
        self.display.suspend(print);
    }

    fn summarize(&self, summary: &Summary, exit: Exit) {
        self.display.finish();
        let mut report = self.report();
        let (counts, costs) = (self.cli.verbose > 0, self.cli.timing > 0);
        let _ = report.summary(&self.device_name, summary, exit, counts, costs).and_then(|()| report.flush());
    }
}

fn println_lossy(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// What there is to say of a volume that was closed clean, from its headers alone; `None` when it has to be checked.
fn at_once(device: &Device) -> Option<String> {
    let found = find(device).ok()?;
    let fine =
        found.primary_fault.is_none() && found.superblock.is_clean() && found.superblock.understood().is_ok();
    if !fine || !matches!(pending(device, &found.superblock, &found.geometry), Pending::Nothing) {
        return None;
    }
    let volume = Volume::new(Image::new(device), found.superblock, found.geometry);
    let (mut used, mut slots, mut free) = (0u64, 0u64, 0u64);
    for group in found.geometry.group_numbers() {
        let header = volume.group(group).ok()?;
        used = used.saturating_add(header.inodes_used.get());
        slots = slots.saturating_add(header.inodes.records.get().saturating_mul(CHUNK_INODES.into()));
        free = free.saturating_add(header.free_blocks.get());
    }
    let blocks = found.geometry.blocks;
    Some(format!("clean, {used}/{slots} inodes, {}/{blocks} blocks", blocks.saturating_sub(free)))
}
