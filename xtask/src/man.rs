//! The man pages, made from the definitions of the command lines.

use crate::page;
use crate::tools::TOOLS;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where to write.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory for the pages
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Writes them.
pub fn run(arguments: &Arguments) -> Result<()> {
    write(&arguments.out)
}

/// Writes each tool's page into a directory.
pub fn write(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    for tool in &TOOLS {
        let path = directory.join(format!("{}.8", tool.name));
        fs::write(&path, page::render(tool)?).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}
