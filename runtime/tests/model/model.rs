//! A file system in memory: what every operation answers, and what is there afterwards.

use crate::op::{BLOCK, attribute, path};
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::namespace::Rename;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, usize>),
    Symlink(Vec<u8>),
}

#[derive(Clone, Default)]
pub struct Model {
    pub nodes: Vec<Node>,
    /// By node and name.
    pub attributes: BTreeMap<(usize, Vec<u8>), Vec<u8>>,
}

/// What the model says an operation answers: an errno, or that it is done.
pub type Answer = Result<(), i32>;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
const EPERM: i32 = 1;
const ENOTEMPTY: i32 = 39;
const E2BIG: i32 = 7;
const ERANGE: i32 = 34;
const ENODATA: i32 = 61;
const EOPNOTSUPP: i32 = 95;

impl Model {
    pub fn new() -> Self {
        Model { nodes: vec![Node::Directory(BTreeMap::new())], ..Model::default() }
    }

    fn directory(&self, name: u8) -> Result<usize, i32> {
        match path(name).0 {
            None => Ok(0),
            Some(above) => {
                let node = self.get(above)?;
                if matches!(self.nodes[node], Node::Directory(_)) { Ok(node) } else { Err(ENOTDIR) }
            }
        }
    }

    fn entries(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[directory] {
            Node::Directory(entries) => entries,
            _ => panic!("not a directory"),
        }
    }

    pub fn get(&self, name: u8) -> Result<usize, i32> {
        let directory = self.directory(name)?;
        match &self.nodes[directory] {
            Node::Directory(entries) => entries.get(&path(name).1).copied().ok_or(ENOENT),
            _ => Err(ENOTDIR),
        }
    }

    pub fn make(&mut self, name: u8, node: Node) -> Answer {
        let directory = self.directory(name)?;
        if self.get(name).is_ok() {
            return Err(EEXIST);
        }
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.entries(directory).insert(path(name).1, new);
        Ok(())
    }

    pub fn link(&mut self, from: u8, to: u8) -> Answer {
        let node = self.get(from)?;
        let directory = self.directory(to)?;
        if self.get(to).is_ok() {
            return Err(EEXIST);
        }
        if matches!(self.nodes[node], Node::Directory(_)) {
            return Err(EPERM);
        }
        self.entries(directory).insert(path(to).1, node);
        Ok(())
    }

    pub fn remove(&mut self, name: u8, wants_directory: bool) -> Answer {
        let node = self.get(name)?;
        match (&self.nodes[node], wants_directory) {
            (Node::Directory(_), false) => return Err(EISDIR),
            (Node::Directory(entries), true) if !entries.is_empty() => return Err(ENOTEMPTY),
            (Node::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(ENOTDIR),
        }
        let directory = self.directory(name)?;
        self.entries(directory).remove(&path(name).1);
        Ok(())
    }

    pub fn rename(&mut self, from: u8, to: u8, how: Rename) -> Answer {
        let (source, target) = (self.directory(from)?, self.directory(to)?);
        let moved = self.get(from)?;
        let there = self.get(to).ok();
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(EEXIST),
            (Rename::Exchange, None) => return Err(ENOENT),
            (_, Some(there)) if there == moved => return Ok(()),
            _ => {}
        }
        if moved == target || (how == Rename::Exchange && there == Some(source)) {
            return Err(EINVAL);
        }
        let is_directory = |node: usize| matches!(self.nodes[node], Node::Directory(_));
        if how == Rename::Exchange {
            self.entries(target).insert(path(to).1, moved);
            self.entries(source).insert(path(from).1, there.unwrap());
            return Ok(());
        }
        if let Some(there) = there {
            match (is_directory(moved), &self.nodes[there]) {
                (true, Node::Directory(entries)) if !entries.is_empty() => return Err(ENOTEMPTY),
                (true, Node::Directory(_)) => {}
                (true, _) => return Err(ENOTDIR),
                (false, Node::Directory(_)) => return Err(EISDIR),
                (false, _) => {}
            }
        }
        self.entries(source).remove(&path(from).1);
        self.entries(target).insert(path(to).1, moved);
        Ok(())
    }

    /// The bytes of a regular file.
    pub fn file(&mut self, name: u8) -> Result<&mut Vec<u8>, i32> {
        let node = self.get(name)?;
        match &mut self.nodes[node] {
            Node::File(bytes) => Ok(bytes),
            Node::Directory(_) => Err(EISDIR),
            Node::Symlink(_) => Err(EINVAL),
        }
    }

    pub fn set_attribute(&mut self, name: u8, which: u8, value: &[u8], how: SetAttribute) -> Answer {
        let node = self.get(name)?;
        match which {
            6 => return Err(EINVAL),
            7 => return Err(EOPNOTSUPP),
            8 => return Err(ERANGE),
            _ if value.len() > 65536 => return Err(E2BIG),
            _ => {}
        }
        let key = (node, attribute(which));
        if matches!(self.nodes[node], Node::Symlink(_)) && key.1.starts_with(b"user.") {
            return Err(EPERM);
        }
        match (how, self.attributes.contains_key(&key)) {
            (SetAttribute::Create, true) => return Err(EEXIST),
            (SetAttribute::Replace, false) => return Err(ENODATA),
            _ => {}
        }
        self.attributes.insert(key, value.to_vec());
        Ok(())
    }

    pub fn remove_attribute(&mut self, name: u8, which: u8) -> Answer {
        let node = self.get(name)?;
        let key = (node, attribute(which));
        if which == 8 {
            return Err(ERANGE);
        }
        if matches!(self.nodes[node], Node::Symlink(_)) && key.1.starts_with(b"user.") {
            return Err(EPERM);
        }
        self.attributes.remove(&key).map(drop).ok_or(ENODATA)
    }

    pub fn write(&mut self, name: u8, at: Option<u64>, bytes: &[u8]) -> Answer {
        let file = self.file(name)?;
        let at = at.map_or(file.len(), |at| at as usize);
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    pub fn zero(&mut self, name: u8, at: u64, length: u64, grows: bool) -> Answer {
        let file = self.file(name)?;
        let end = (at + length) as usize;
        if grows && end > file.len() {
            file.resize(end, 0);
        }
        let end = end.min(file.len());
        if (at as usize) < end {
            file[at as usize..end].fill(0);
        }
        Ok(())
    }

    /// The part of a source that a clone or dedupe takes, with the errors of `FICLONERANGE`.
    pub fn source(
        &mut self,
        to: u8,
        from: u8,
        to_at: u64,
        from_at: u64,
        length: u64,
        dedupe: bool,
    ) -> Result<Vec<u8>, i32> {
        let target_size = self.file(to)?.len() as u64;
        let same = self.get(to)? == self.get(from)?;
        let source = self.file(from)?;
        let size = source.len() as u64;
        let length = if length == 0 && !dedupe { size.saturating_sub(from_at) } else { length };
        if length == 0 {
            return Ok(Vec::new());
        }
        if dedupe && to_at + length > target_size {
            return Err(EINVAL);
        }
        let aligned = |at: u64| at.is_multiple_of(BLOCK);
        let fine = aligned(from_at)
            && aligned(to_at)
            && from_at + length <= size
            && (aligned(length) || from_at + length == size)
            && (aligned(length) || to_at + length >= target_size)
            && !(same && from_at < to_at + length && to_at < from_at + length);
        if fine { Ok(source[from_at as usize..(from_at + length) as usize].to_vec()) } else { Err(EINVAL) }
    }
}
