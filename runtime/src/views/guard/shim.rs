//! Views without memory behind them: every load and store is a call that looks at what the processor's tables would say.
//! For a medium that is no file, and for tests that have to see each store.

use super::{Access, Guard};
use crate::locks::{Ordered, Rank, take};
use crate::medium::Medium;
use core::ops::Range;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
const FRAME: usize = 2 << 20;

/// What a page leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Zero,
    /// A byte of the medium; whether it can be stored to.
    Medium(u64, bool),
    /// A copy of its own; whether it can be stored to.
    Private(u64, bool),
}

#[derive(Debug, Default)]
struct Tables {
    pages: BTreeMap<usize, Page>,
    /// What was stored to private pages.
    copies: BTreeMap<usize, Box<[u8; PAGE]>>,
    reserved: usize,
}

/// The processor's tables as a map.
pub(crate) struct Shim {
    medium: Arc<dyn Medium>,
    tables: Mutex<Tables>,
}

impl core::fmt::Debug for Shim {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shim").finish_non_exhaustive()
    }
}

impl Shim {
    /// Views of a medium.
    pub fn new(medium: Arc<dyn Medium>) -> Self {
        Shim { medium, tables: Mutex::default() }
    }

    fn tables(&self) -> Ordered<MutexGuard<'_, Tables>> {
        take(Rank::Guard, || self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, at: usize, length: usize, page: impl Fn(u64) -> Option<Page>) {
        let mut tables = self.tables();
        for address in (at..at + length).step_by(PAGE) {
            tables.copies.remove(&address);
            match page((address - at) as u64) {
                Some(page) => tables.pages.insert(address, page),
                None => tables.pages.remove(&address),
            };
        }
    }
}

impl Guard for Shim {
    fn reserve(&self, length: usize) -> io::Result<usize> {
        let mut tables = self.tables();
        // Never given out again, as addresses that somebody may still hold.
        tables.reserved += FRAME;
        let at = tables.reserved;
        tables.reserved += length.next_multiple_of(FRAME);
        Ok(at)
    }

    fn release(&self, at: usize, length: usize) {
        self.set(at, length, |_| None);
    }

    fn map(&self, at: usize, length: usize, medium: u64, access: Access) -> io::Result<()> {
        self.set(at, length, |offset| match access {
            Access::Shared => Some(Page::Medium(medium + offset, false)),
            Access::Private => Some(Page::Private(medium + offset, false)),
        });
        Ok(())
    }

    fn zero(&self, at: usize, length: usize) -> io::Result<()> {
        self.set(at, length, |_| Some(Page::Zero));
        Ok(())
    }

    fn clear(&self, at: usize, length: usize) -> io::Result<()> {
        self.set(at, length, |_| None);
        Ok(())
    }

    fn protect(&self, at: usize, length: usize, writable: bool) -> io::Result<()> {
        let mut tables = self.tables();
        for page in tables.pages.range_mut(at..at + length).map(|(_, page)| page) {
            if let Page::Medium(_, stores) | Page::Private(_, stores) = page {
                *stores = writable;
            }
        }
        Ok(())
    }

    fn make_private(&self, at: usize) -> io::Result<()> {
        let mut tables = self.tables();
        let mut copy = Box::new([0; PAGE]);
        if let Some(Page::Medium(medium, _) | Page::Private(medium, _)) = tables.pages.get(&at) {
            self.medium.load(*medium, &mut *copy);
        }
        tables.copies.insert(at, copy);
        tables.pages.insert(at, Page::Private(0, true));
        Ok(())
    }

    fn is_huge(&self) -> bool {
        false
    }

    fn makes_pieces(&self) -> bool {
        false
    }

    fn load(&self, at: usize, to: &mut [u8]) -> Option<()> {
        let tables = self.tables();
        each_page(at, to.len(), |page, inside, range| {
            let part = to.get_mut(range)?;
            match (tables.pages.get(&page)?, tables.copies.get(&page)) {
                (Page::Zero, _) => part.fill(0),
                (_, Some(copy)) => part.copy_from_slice(copy.get(inside..inside + part.len())?),
                (Page::Medium(medium, _) | Page::Private(medium, _), None) => {
                    self.medium.load(medium + inside as u64, part);
                }
            }
            Some(())
        })
    }

    fn store(&self, at: usize, bytes: &[u8]) -> Option<()> {
        let mut tables = self.tables();
        each_page(at, bytes.len(), |page, inside, range| {
            let part = bytes.get(range)?;
            match *tables.pages.get(&page)? {
                Page::Medium(medium, true) => self.medium.store(medium + inside as u64, part),
                Page::Private(_, true) => {
                    let copy = tables.copies.get_mut(&page)?;
                    copy.get_mut(inside..inside + part.len())?.copy_from_slice(part);
                }
                _ => return None,
            }
            Some(())
        })
    }

    fn is_memory(&self) -> bool {
        false
    }
}

/// Does something for each page of a range: its address, the first byte in it, and which part of the range falls on it.
/// Ends with the first that cannot be done.
fn each_page(
    at: usize,
    length: usize,
    mut each: impl FnMut(usize, usize, Range<usize>) -> Option<()>,
) -> Option<()> {
    let mut done = 0;
    while done < length {
        let inside = (at + done) % PAGE;
        let step = (PAGE - inside).min(length - done);
        each(at + done - inside, inside, done..done + step)?;
        done += step;
    }
    Some(())
}
