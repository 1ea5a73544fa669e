//! What a guest has before it has anything: a cpio archive in the form that the kernel unpacks ("newc").
//!
//! Each entry is a head of 13 numbers in hex, a name, the bytes; name and bytes are filled up to a multiple of 4.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// An archive that grows.
#[derive(Debug, Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    /// Names that are in it.
    names: BTreeSet<String>,
}

const DIRECTORY: usize = 0o040_755;
const PROGRAM: usize = 0o100_755;

impl Initramfs {
    /// Adds a file, and the directories above it. Names have no slash in front. What is there stays.
    pub fn file(&mut self, name: &str, bytes: &[u8]) {
        for (at, _) in name.match_indices('/') {
            let directory = name.split_at(at).0;
            if self.names.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY, &[]);
            }
        }
        if self.names.insert(name.to_owned()) {
            self.entry(name, PROGRAM, bytes);
        }
    }

    /// Adds a program of this machine under a name, and the libraries that it is linked with under theirs.
    pub fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("{}", path.display()));
        self.file(name, &read(path)?);
        // It fails for a program that is linked with none.
        let listed = Command::new("ldd").arg(path).output().context("ldd cannot be run")?;
        for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            if let Some(library) = word.strip_prefix('/') {
                self.file(library, &read(Path::new(word))?);
            }
        }
        Ok(())
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.archive
    }

    fn entry(&mut self, name: &str, mode: usize, bytes: &[u8]) {
        let links = 1;
        let head = [self.names.len(), mode, 0, 0, links, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.archive.extend_from_slice(b"070701");
        for number in head {
            self.archive.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.archive.extend_from_slice(name.as_bytes());
        self.archive.push(0);
        self.fill_up();
        self.archive.extend_from_slice(bytes);
        self.fill_up();
    }

    fn fill_up(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_its_directories_and_once() {
        let mut initramfs = Initramfs::default();
        initramfs.file("a/b/c", b"12345");
        initramfs.file("a/b/c", b"again");
        let archive = initramfs.finish();
        let text = String::from_utf8(archive).unwrap();
        let names = ["a\0", "a/b\0", "a/b/c\0", "TRAILER!!!\0"].map(|name| text.find(name));
        assert!(names.is_sorted() && names.iter().all(Option::is_some), "{names:?}");
        assert_eq!(text.matches("070701").count(), names.len());
        assert!(text.contains("12345\x00\x00\x00070701") && !text.contains("again"));
        assert!(text.starts_with("07070100000001000041ed"));
    }
}
