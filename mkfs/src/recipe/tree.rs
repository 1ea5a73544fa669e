//! The files of a recipe as a tree in memory: about 120 bytes and the name for each.

use super::names::{expand, unescape};
use super::{Item, Kind};
use paxfs_format::entry::MAX_NAME;
use paxfs_format::extent::Extent;
use paxfs_format::inode::FileType;
use std::collections::BTreeMap;

/// A place in [`Tree::nodes`].
pub(super) type NodeNo = u32;
/// Names in a directory.
type Children = BTreeMap<Box<[u8]>, NodeNo>;

/// A file, whatever its type.
#[derive(Debug)]
pub(super) struct Node {
    /// Which item of the recipe says what it is; `None` for directories that only a path named.
    pub item: Option<u32>,
    /// Which repetition of the item.
    pub i: u64,
    pub kind: FileType,
    /// Its inode, when it has one.
    pub number: u64,
    /// Its names.
    pub links: u32,
    /// Where its data is.
    pub extents: Vec<Extent>,
    /// Bytes of a regular file.
    pub size: u64,
    /// Whether extents and size are known.
    pub laid: bool,
    /// Names in it.
    pub children: Option<Box<Children>>,
}

/// All files of a recipe.
#[derive(Debug)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// Files without a name, by the path that the recipe gives them.
    pub orphans: BTreeMap<Vec<u8>, NodeNo>,
    /// Those that items made, in their order.
    pub made: Vec<NodeNo>,
}

/// The root's place.
pub(super) const ROOT: NodeNo = 0;

impl Kind {
    fn file_type(self) -> FileType {
        match self {
            Kind::File => FileType::Regular,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::Block => FileType::Block,
            Kind::Character => FileType::Character,
        }
    }
}

/// The type of an item's files.
fn file_type(item: &Item) -> Result<FileType, String> {
    let told = item.kind.map(Kind::file_type);
    let implied = if item.target.is_some() {
        FileType::Symlink
    } else if item.path.ends_with('/') {
        FileType::Directory
    } else {
        FileType::Regular
    };
    let kind = told.unwrap_or(implied);
    let device = matches!(kind, FileType::Block | FileType::Character);
    if (kind == FileType::Symlink) != item.target.is_some() {
        return Err("a symlink, and only it, has a `target`".to_owned());
    }
    if device != item.device.is_some() {
        return Err("a device, and only it, has a `device` (its numbers) and its `type`".to_owned());
    }
    if kind != FileType::Directory && item.path.ends_with('/') {
        return Err("a path that ends with / is a directory's".to_owned());
    }
    if kind != FileType::Regular && item.has_data() {
        return Err("only regular files have data".to_owned());
    }
    let mapped = matches!(kind, FileType::Regular | FileType::Directory);
    if item.flags.contains(&super::Flag::Dax) && !mapped {
        return Err("only regular files and directories have the flag `dax`".to_owned());
    }
    if item.orphan && kind == FileType::Directory {
        return Err("a directory cannot be an orphan here".to_owned());
    }
    Ok(kind)
}

impl Item {
    /// Whether it says anything of data.
    fn has_data(&self) -> bool {
        self.size.is_some()
            || self.seed.is_some()
            || self.fill.is_some()
            || self.content.is_some()
            || self.fragments.is_some()
            || self.at.is_some()
            || self.sums.is_some()
            || !self.holes.is_empty()
            || !self.unwritten.is_empty()
            || !self.extents.is_empty()
            || !self.reflink.0.is_empty()
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

fn node(kind: FileType, item: Option<u32>, i: u64) -> Node {
    let children = (kind == FileType::Directory).then(Box::default);
    Node { item, i, kind, number: 0, links: 1, extents: Vec::new(), size: 0, laid: false, children }
}

impl Tree {
    /// The root alone.
    pub(super) fn new() -> Self {
        Tree { nodes: vec![node(FileType::Directory, None, 0)], orphans: BTreeMap::new(), made: Vec::new() }
    }

    /// One of its nodes.
    pub(super) fn get(&self, at: NodeNo) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    /// One of its nodes, to change.
    pub(super) fn get_mut(&mut self, at: NodeNo) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    /// The node at a path.
    pub(super) fn find(&self, path: &[u8]) -> Option<NodeNo> {
        if let Some(&orphan) = self.orphans.get(path) {
            return Some(orphan);
        }
        names(path).try_fold(ROOT, |at, name| self.get(at)?.children.as_ref()?.get(name).copied())
    }

    /// Adds a repetition of an item.
    pub(super) fn add(&mut self, number: u32, item: &Item, i: u64) -> Result<(), String> {
        let path = unescape(&expand(&item.path, i)?)?;
        if path.first() != Some(&b'/') {
            return Err(format!("path {:?} does not begin with /", item.path));
        }
        if let Some(other) = &item.link {
            return self.add_link(&path, item, &unescape(&expand(other, i)?)?);
        }
        let kind = file_type(item)?;
        if item.orphan {
            let new = self.push(node(kind, Some(number), i))?;
            if let Some(node) = self.get_mut(new) {
                node.links = 0;
            }
            self.orphans.insert(path, new);
            self.made.push(new);
            return Ok(());
        }
        // A directory may be there because of the paths of others.
        let there = self.find(&path).filter(|&at| self.get(at).is_some_and(|node| node.item.is_none()));
        let new = match there {
            Some(at) if kind == FileType::Directory => {
                if let Some(node) = self.get_mut(at) {
                    (node.item, node.i) = (Some(number), i);
                }
                at
            }
            _ => {
                let new = self.push(node(kind, Some(number), i))?;
                self.name(&path, new)?;
                new
            }
        };
        self.made.push(new);
        Ok(())
    }

    fn add_link(&mut self, path: &[u8], item: &Item, other: &[u8]) -> Result<(), String> {
        if item.kind.is_some() || item.has_data() || item.orphan {
            return Err("another name (`link`) has nothing but its path".to_owned());
        }
        let other =
            self.find(other).ok_or_else(|| "`link` is no path of a file before this one".to_owned())?;
        match self.get_mut(other) {
            Some(node) if node.kind != FileType::Directory => node.links += 1,
            _ => return Err("`link` is a directory: it has one name".to_owned()),
        }
        self.name(path, other)
    }

    fn push(&mut self, node: Node) -> Result<NodeNo, String> {
        let at = u32::try_from(self.nodes.len()).map_err(|_| "more files than fit 32 bits".to_owned())?;
        self.nodes.push(node);
        Ok(at)
    }

    /// Gives a node a name; directories on the way are made.
    fn name(&mut self, path: &[u8], named: NodeNo) -> Result<(), String> {
        let mut at = ROOT;
        let mut rest = names(path).peekable();
        while let Some(name) = rest.next() {
            if name.len() > MAX_NAME {
                return Err(format!("a name has {} bytes, more than {MAX_NAME}", name.len()));
            }
            if matches!(name, b"." | b"..") || name.contains(&0) {
                return Err("a name is `.` or `..` or holds a zero byte".to_owned());
            }
            let last = rest.peek().is_none();
            let known =
                self.get(at).and_then(|node| node.children.as_ref()).map(|names| names.get(name).copied());
            at = match known {
                None => return Err("its path leads through what is no directory".to_owned()),
                Some(Some(_)) if last => return Err("its path is taken".to_owned()),
                Some(Some(next)) => next,
                Some(None) => {
                    let next = if last { named } else { self.push(node(FileType::Directory, None, 0))? };
                    if let Some(children) = self.get_mut(at).and_then(|node| node.children.as_mut()) {
                        children.insert(name.into(), next);
                    }
                    next
                }
            };
        }
        if at == ROOT { Err("its path is taken".to_owned()) } else { Ok(()) }
    }

    /// The directories, from the root, each before those below it, names in order; each with the one that holds it.
    pub(super) fn directories(&self) -> Vec<(NodeNo, NodeNo)> {
        let mut list = vec![(ROOT, ROOT)];
        let mut next = 0;
        while let Some(&(at, _)) = list.get(next) {
            next += 1;
            let children = self.get(at).and_then(|node| node.children.as_deref());
            let below = children.into_iter().flat_map(BTreeMap::values);
            let below = below.filter(|&&child| self.get(child).is_some_and(|node| node.children.is_some()));
            list.extend(below.map(|&child| (child, at)));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str) -> Item {
        Item { path: path.to_owned(), ..Item::default() }
    }

    #[test]
    fn paths_make_their_directories() {
        let mut tree = Tree::new();
        tree.add(0, &item("/a/b/c{i}"), 7).unwrap();
        tree.add(1, &item("/a/"), 0).unwrap();
        assert_eq!(tree.get(tree.find(b"/a").unwrap()).unwrap().item, Some(1));
        assert_eq!(tree.get(tree.find(b"/a/b/c7").unwrap()).unwrap().i, 7);
        assert_eq!(tree.directories().len(), 3);
        tree.add(2, &Item { link: Some("/a/b/c7".to_owned()), ..item("/d") }, 0).unwrap();
        assert_eq!(tree.find(b"/d"), tree.find(b"/a/b/c7"));
        for (bad, why) in [
            (item("/a/"), "taken"),
            (item("/d"), "taken"),
            (item("/d/e"), "no directory"),
            (item("x"), "begin with /"),
            (item("/./x"), "`.`"),
            (Item { link: Some("/a".to_owned()), ..item("/l") }, "directory"),
            (Item { link: Some("/no".to_owned()), ..item("/l") }, "no path"),
            (Item { kind: Some(Kind::Fifo), seed: Some(1), ..item("/f") }, "data"),
            (Item { kind: Some(Kind::Block), ..item("/f") }, "device"),
        ] {
            let error = tree.add(3, &bad, 0).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
