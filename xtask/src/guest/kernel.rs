//! The kernel of the guest: the one that Debian has for this release, unpacked and not installed.

use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package that always depends on the newest kernel.
const NEWEST: &str = "linux-image-amd64";

/// A kernel package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    root: PathBuf,
}

impl Kernel {
    /// The newest that apt knows of, from below `place`, where it is put if it is not there; why not, if there is none.
    pub fn find(place: &Path) -> std::result::Result<Self, String> {
        let depends = output(Command::new("apt-cache").args(["depends", NEWEST]))?;
        let package = depends
            .lines()
            .find_map(|line| {
                line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-"))
            })
            .ok_or_else(|| format!("apt knows of no {NEWEST} (apt-get update)"))?;
        let root = place.join(package);
        if !root.is_dir() {
            download(package, place, &root)?;
        }
        Ok(Kernel { root })
    }

    /// The image to boot.
    pub fn image(&self) -> Result<PathBuf> {
        let boot = self.root.join("boot");
        let entries = fs::read_dir(&boot).with_context(|| format!("{}", boot.display()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let image = paths.find(|path| name_of(path).starts_with("vmlinuz-"));
        image.with_context(|| format!("{}: no vmlinuz; remove {}", boot.display(), self.root.display()))
    }

    /// Modules and what they need, in the order in which they can be loaded, by name. One that this kernel has not, be it
    /// that it is built in, is left out.
    pub fn modules(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        // Where `/lib` is a link, packages have it below `usr`.
        for directory in ["lib/modules", "usr/lib/modules"] {
            list(&self.root.join(directory), &mut files);
        }
        ensure!(!files.is_empty(), "{}: no modules; remove it", self.root.display());
        let mut order = Vec::new();
        for name in wanted {
            load(name, &files, &mut order)?;
        }
        Ok(order)
    }
}

/// Has apt fetch a package, and unpacks it.
fn download(package: &str, place: &Path, root: &Path) -> std::result::Result<(), String> {
    println!("downloading {package}");
    let text = |error: std::io::Error| error.to_string();
    let new = tempfile::Builder::new().prefix("download.").tempdir_in(place).map_err(text)?;
    output(Command::new("apt-get").args(["download", package]).current_dir(new.path()))?;
    let packages = fs::read_dir(new.path()).map_err(text)?;
    let deb = packages.flatten().next().ok_or_else(|| format!("apt-get download {package}: no file"))?;
    let unpacked = new.path().join("unpacked");
    output(Command::new("dpkg-deb").arg("-x").arg(deb.path()).arg(&unpacked))?;
    fs::rename(&unpacked, root).map_err(text)
}

/// What a command prints; what it says, if it fails.
fn output(command: &mut Command) -> std::result::Result<String, String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}

/// Collects the modules below a directory, by name.
fn list(directory: &Path, files: &mut BTreeMap<String, PathBuf>) {
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() {
            list(&path, files);
        } else if let Some((name, "ko" | "ko.xz")) = name_of(&path).split_once('.') {
            // In symbols and messages a module's name has no dashes.
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
}

/// Adds a module behind what it needs.
fn load(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(path) = files.get(name).filter(|_| order.iter().all(|(loaded, _)| loaded != name)) else {
        return Ok(());
    };
    let bytes = match path.extension() {
        Some(extension) if extension == "xz" => {
            let unpacked = Command::new("xz").arg("-dc").arg(path).output().context("xz cannot be run")?;
            ensure!(unpacked.status.success(), "xz -dc {}: {}", path.display(), unpacked.status);
            unpacked.stdout
        }
        _ => fs::read(path).with_context(|| format!("{}", path.display()))?,
    };
    let needed = needs(&bytes).ok_or_else(|| anyhow!("{}: does not say what it needs", path.display()))?;
    for name in needed.split(',') {
        load(name, files, order)?;
    }
    order.push((name.to_owned(), bytes));
    Ok(())
}

/// The modules that a module needs, with commas between: a string of its `.modinfo`, which is strings with zeros between.
fn needs(module: &[u8]) -> Option<String> {
    let needs = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="))?;
    Some(String::from_utf8_lossy(needs).replace('-', "_"))
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_behind_what_they_need() {
        let directory = tempfile::tempdir().unwrap();
        let modules = directory.path().join("usr/lib/modules/6/kernel");
        fs::create_dir_all(&modules).unwrap();
        for (name, needs) in [("xfs", "lib-crc,zlib"), ("lib-crc", ""), ("zlib", "lib-crc")] {
            fs::write(modules.join(name).with_extension("ko"), format!("x\0depends={needs}\0name={name}\0"))
                .unwrap();
        }
        let kernel = Kernel { root: directory.path().to_owned() };
        let modules = kernel.modules(&["xfs", "zlib", "built_in"]).unwrap();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["lib_crc", "zlib", "xfs"]);
    }
}
