//! Completions for shells, made from the definitions of the command lines.

use crate::tools::TOOLS;
use anyhow::{Context, Result};
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};

/// Where to write.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory below which the files are put where shells look for them
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Where shells look for completions, below `share`.
const PLACES: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes them.
pub fn run(arguments: &Arguments) -> Result<()> {
    write(&arguments.out)
}

/// Writes the completions of each tool for each shell below a directory such as `/usr/share`.
pub fn write(share: &Path) -> Result<()> {
    for (shell, place) in PLACES {
        let directory = share.join(place);
        fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        for tool in &TOOLS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut (tool.command)(), tool.name, &mut text);
            let path = directory.join(file_name(shell, tool.name));
            fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
        }
    }
    Ok(())
}

fn file_name(shell: Shell, tool: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{tool}"),
        Shell::Fish => format!("{tool}.fish"),
        _ => tool.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_completed_in_every_shell() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        for (shell, place) in PLACES {
            for tool in &TOOLS {
                let path = directory.path().join(place).join(file_name(shell, tool.name));
                assert!(fs::read_to_string(path).unwrap().contains(tool.name), "{shell} {}", tool.name);
            }
        }
    }
}
