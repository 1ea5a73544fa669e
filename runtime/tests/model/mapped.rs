//! What a view of a file shows, and what becomes of what is stored to it.

use crate::model::{Answer, EINVAL, Model, Node};
use crate::op::BLOCK;
use paxfs_runtime::views::Sharing;
use std::collections::BTreeMap;
use std::ops::Range;

const EBADF: i32 = 9;
/// Past the end of the file: as memory a SIGBUS.
const ENXIO: i32 = 6;
const PAGE: usize = BLOCK as usize;

/// A view.
#[derive(Clone)]
pub struct Mapped {
    node: usize,
    /// Bytes of the file.
    range: Range<u64>,
    sharing: Sharing,
    /// Pages of a private view that were stored to: they are the view's own.
    own: BTreeMap<usize, Vec<u8>>,
}

impl Mapped {
    pub fn new(node: usize, range: Range<u64>, sharing: Sharing) -> Self {
        Mapped { node, range, sharing, own: BTreeMap::new() }
    }

    pub fn is_private(&self) -> bool {
        self.sharing == Sharing::Private
    }

    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn file<'m>(&self, model: &'m Model) -> &'m Vec<u8> {
        match &model.nodes[self.node] {
            Node::File(bytes) => bytes,
            _ => panic!("not a file"),
        }
    }

    /// A byte of a page of the file.
    fn byte(&self, model: &Model, at: usize) -> u8 {
        match self.own.get(&(at / PAGE)) {
            Some(page) => page[at % PAGE],
            None => self.file(model).get(at).copied().unwrap_or(0),
        }
    }

    /// Which bytes of the file an access means; they have to be there.
    fn place(&self, model: &Model, at: u64, length: u64) -> Result<Range<usize>, i32> {
        if at + length > self.len() {
            return Err(EINVAL);
        }
        let start = (self.range.start + at) as usize;
        let range = start..start + length as usize;
        let end = self.file(model).len().next_multiple_of(PAGE);
        if range.end <= end { Ok(range) } else { Err(ENXIO) }
    }

    pub fn load(&self, model: &Model, at: u64, length: u64) -> Result<Vec<u8>, i32> {
        Ok(self.place(model, at, length)?.map(|at| self.byte(model, at)).collect())
    }

    /// How much of a store is within the file, or all where nothing of it is: what is behind the end in the last page is lost
    /// sooner or later, and a store that begins before the end and ends behind it is done in part.
    pub fn within(&self, model: &Model, at: u64, length: u64) -> u64 {
        let size = self.file(model).len() as u64;
        let start = self.range.start + at;
        let last = size.next_multiple_of(BLOCK);
        if start < last { length.min(size.saturating_sub(start)) } else { length }
    }

    /// Nothing is left of pages behind the end of the file.
    pub fn follow_size(&mut self, model: &Model) {
        let end = self.file(model).len().div_ceil(PAGE);
        self.own.retain(|page, _| *page < end);
    }

    pub fn store(&mut self, model: &mut Model, at: u64, bytes: &[u8]) -> Answer {
        let range = match self.place(model, at, bytes.len() as u64) {
            Err(EINVAL) => return Err(EINVAL),
            _ if self.sharing == Sharing::ReadOnly => return Err(EBADF),
            place => place?,
        };
        if self.is_private() {
            for page in range.start / PAGE..range.end.div_ceil(PAGE) {
                let copy = (0..PAGE).map(|at| self.byte(model, page * PAGE + at)).collect();
                self.own.insert(page, copy);
            }
            for (at, byte) in range.zip(bytes) {
                self.own.get_mut(&(at / PAGE)).unwrap()[at % PAGE] = *byte;
            }
        } else if let Node::File(file) = &mut model.nodes[self.node] {
            file[range].copy_from_slice(bytes);
        }
        Ok(())
    }
}
