//! paxfs side by side with the tools of other file systems: the same work in one run, on one machine, in turn.
//!
//! * [`measure`]: one program from outside; [`contest`]: several in turn; [`table`]: what came out.
//! * What is done: [`create`] (new volumes, empty and from a directory), [`check`], [`share`] (a volume with many shared
//!   extents), [`owner`]; [`engine`]: work on volumes that are open for writing.
//! * Around it: [`tree`] (the source), [`mount`] (peers that can only be filled mounted), [`field`] (where all of it is,
//!   and who is there).
//!
//! A peer that is not installed, or needs what is not permitted here, is skipped with a word.

mod check;
mod contest;
mod create;
mod engine;
mod field;
mod measure;
mod mount;
mod owner;
mod share;
mod table;
mod tree;

use crate::cargo::Workspace;
use crate::toolbox::Toolbox;
use anyhow::Result;
use field::Field;
use std::path::PathBuf;
use table::Row;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files of the large volume
    #[arg(long, value_name = "COUNT", default_value_t = 500_000)]
    files: u64,
    /// Rounds that count, of work that takes seconds; three times as many of what is shorter
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: usize,
    /// A few small volumes only, to see that it works: 20000 files, one round
    #[arg(long)]
    quick: bool,
    /// Only the rows whose name contains this: create, fill, check, share, owner, engine
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where images are made; it should be a tmpfs with 16 GiB
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
    /// Put the table into README.md
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    readme: bool,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// Measures and prints the table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let toolbox = Toolbox::build(&workspace)?;
    let (files, rounds) = if arguments.quick { (20_000, 1) } else { (arguments.files, arguments.rounds) };
    let field = Field::new(&toolbox, &workspace, &arguments.dir, files, rounds)?;
    let mut rows: Vec<Row> = Vec::new();
    if arguments.wants("create") {
        rows.push(create::empty(&field)?);
    }
    if ["fill", "check", "owner"].iter().any(|name| arguments.wants(name)) {
        rows.push(create::fill(&field)?);
        let xfs = check::fill_xfs(&field);
        field.forget_tree()?;
        rows.push(check::files(&field, &xfs)?);
        rows.push(owner::files(&field, &xfs)?);
        field.clear()?;
    }
    if arguments.wants("share") {
        let xfs = share::make_xfs(&field, arguments.quick);
        share::make_ours(&field)?;
        rows.push(share::check(&field, &xfs)?);
        rows.push(share::rebuild(&field, &xfs)?);
        rows.push(owner::shared(&field, &xfs)?);
    }
    let mut about = String::new();
    if arguments.wants("engine") {
        rows.extend(engine::rows(&field, arguments.quick)?);
        about = format!("\n{}", engine::ABOUT);
    }
    let text = format!("{}\n\n{}{about}", field.describe(), table::render(&rows)?);
    println!("{text}");
    if arguments.readme {
        table::put(&workspace.root.join("README.md"), &text)?;
    }
    Ok(())
}
