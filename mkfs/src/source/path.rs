//! Where a directory of the source is, without holding a descriptor for it: a chain of names up to the root.
//!
//! Paths may be longer than the kernel takes at once, so they are opened in parts.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::sync::Arc;

/// Longest path given to the kernel at once.
const PART_MAX: usize = 3072;

/// A directory by its name, and that of the directory above it; the root has no name.
#[derive(Debug, Default)]
pub(super) struct Path {
    above: Option<Arc<Path>>,
    name: Vec<u8>,
}

impl Drop for Path {
    /// Not by recursion: a chain may be long.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut path) = above.and_then(Arc::into_inner) {
            above = path.above.take();
        }
    }
}

impl Path {
    /// A directory below.
    pub(super) fn below(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Path { above: Some(Arc::clone(self)), name: name.to_vec() })
    }

    /// Its last name; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The names from the root down.
    fn names(&self) -> Vec<&[u8]> {
        let chain = core::iter::successors(Some(self), |path| path.above.as_deref());
        let mut names: Vec<&[u8]> =
            chain.map(|path| path.name.as_slice()).filter(|name| !name.is_empty()).collect();
        names.reverse();
        names
    }

    /// The whole path, of something in it if `name` is not empty, from `base`.
    pub(super) fn join(&self, base: &[u8], name: &[u8]) -> Vec<u8> {
        let mut path = base.to_vec();
        for name in self.names().into_iter().chain([name]).filter(|name| !name.is_empty()) {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// Opens the directory, seen from the root's descriptor.
    pub(super) fn open(&self, root: &OwnedFd) -> Result<OwnedFd, Errno> {
        let mut at = open_directory(root, b".")?;
        let mut part = Vec::new();
        for name in self.names() {
            if part.len() + name.len() > PART_MAX {
                at = open_directory(&at, &part)?;
                part.clear();
            }
            if !part.is_empty() {
                part.push(b'/');
            }
            part.extend_from_slice(name);
        }
        if part.is_empty() { Ok(at) } else { open_directory(&at, &part) }
    }
}

fn open_directory(at: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    open(at, path, OFlags::DIRECTORY)
}

/// Opens for reading, not through a symlink, without a trace in the access time where that is allowed.
pub(super) fn open(
    at: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    // NONBLOCK: what became a FIFO meanwhile must not hang us.
    let flags =
        flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match openat(&at, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&at, path, flags, Mode::empty()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_longer_than_the_kernel_takes() {
        let root = tempfile::tempdir().unwrap();
        let flags = OFlags::DIRECTORY;
        let root = open(rustix::fs::CWD, root.path(), flags).unwrap();
        let name = "d".repeat(255);
        let (mut at, mut path) = (open(&root, ".", flags).unwrap(), Arc::new(Path::default()));
        for _ in 0..40 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = open(&at, &*name, flags).unwrap();
            path = path.below(name.as_bytes());
        }
        let found = rustix::fs::fstat(path.open(&root).unwrap()).unwrap();
        assert_eq!(found.st_ino, rustix::fs::fstat(at).unwrap().st_ino);
        assert_eq!(path.join(b"/", b"x").len(), 40 * 256 + 2);
    }
}
