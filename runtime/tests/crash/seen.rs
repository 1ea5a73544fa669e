//! What can be seen of a volume, and whether that is what may be there after a crash.

use paxfs_runtime::engine::Engine;
use paxfs_runtime::file::Open;
use std::collections::BTreeMap;

/// What can be seen of a file.
pub struct SeenFile {
    pub inode: u64,
    /// Bytes of a file, target of a symlink.
    pub contents: Option<Vec<u8>>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What can be seen of a volume, by path.
pub type Seen = BTreeMap<Vec<u8>, SeenFile>;

/// For each byte of some files, by inode, since which state it has to be there: stored through a view and made durable
/// without anything else. No byte: not at all.
pub type Floors = BTreeMap<u64, Vec<usize>>;

pub fn see(engine: &Engine) -> Seen {
    let mut seen = Seen::new();
    let mut todo = vec![(engine.root(), Vec::new())];
    while let Some((inode, path)) = todo.pop() {
        for name in engine.read_directory(inode, 0, 1000).unwrap() {
            let path = [path.as_slice(), b"/", name.name.as_slice()].concat();
            let contents = match name.kind {
                paxfs_format::inode::FileType::Regular => {
                    let file = engine.open_file(name.inode, Open::READ).unwrap();
                    let mut bytes = vec![0; file.size() as usize];
                    file.read_at(0, &mut bytes).unwrap();
                    Some(bytes)
                }
                paxfs_format::inode::FileType::Symlink => Some(engine.read_link(name.inode).unwrap()),
                _ => {
                    todo.push((name.inode, path.clone()));
                    None
                }
            };
            let names = engine.list_attributes(name.inode).unwrap().into_iter();
            let value = |name: &[u8], inode| engine.get_attribute(inode, name).unwrap();
            let attributes = names.map(|attribute| (attribute.clone(), value(&attribute, name.inode)));
            let attributes = attributes.collect();
            seen.insert(path, SeenFile { inode: name.inode, contents, attributes });
        }
    }
    seen
}

/// Contents of an inode.
pub fn contents(seen: &Seen, inode: u64) -> Option<&[u8]> {
    seen.values().find(|file| file.inode == inode)?.contents.as_deref()
}

/// Whether what a recovered volume shows is a state between `first` and `last`: all of one, but for bytes of files, which
/// may be of any between, because a write in place is no transaction.
pub fn is_between(seen: &Seen, states: &[Seen], first: usize, last: usize, floors: &Floors) -> bool {
    let bytes_fit = |inode: u64, bytes: &[u8]| {
        let candidates: Vec<_> =
            (first..=last).map(|index| (index, contents(&states[index], inode))).collect();
        let floors = floors.get(&inode).map_or(&[][..], Vec::as_slice);
        bytes.iter().enumerate().all(|(at, byte)| {
            let floor = floors.get(at).copied().unwrap_or(0);
            let mut candidates = candidates.iter().filter(|(index, _)| *index >= floor);
            candidates.any(|(_, contents)| contents.is_some_and(|contents| contents.get(at) == Some(byte)))
        })
    };
    (first..=last).any(|index| {
        let state = &states[index];
        state.keys().eq(seen.keys())
            && state.values().zip(seen.values()).all(|(file, there)| {
                file.inode == there.inode
                    && file.attributes == there.attributes
                    && match (&file.contents, &there.contents) {
                        (Some(contents), Some(bytes)) => {
                            contents.len() == bytes.len() && bytes_fit(file.inode, bytes)
                        }
                        (contents, bytes) => contents.is_none() == bytes.is_none(),
                    }
            })
    })
}
