//! redb's storage on a file of paxfs: it reads and writes memory, the file's own blocks.

use core::ops::Range;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Size};
use paxfs_runtime::views::{Sharing, View};
use redb::StorageBackend;
use std::io::{self, ErrorKind};

/// Addresses of each view, and so the longest database: 1 GiB. What is not used of them costs nothing.
const ADDRESSES: u64 = 1 << 30;

/// A database's file, mapped.
#[derive(Debug)]
pub struct Backend {
    file: File,
    view: View,
}

impl Backend {
    /// On a file that is open to read and write, and DAX.
    pub fn new(file: File) -> Result<Self, Error> {
        let view = file.map(0..ADDRESSES, Sharing::Shared)?;
        Ok(Backend { file, view })
    }

    /// What is past the end would be a SIGBUS.
    fn check(&self, range: Range<u64>) -> io::Result<()> {
        if range.end <= self.file.size() { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.size())
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.check(offset..offset + length as u64)?;
        let mut bytes = vec![0; length];
        self.view.load(offset, &mut bytes).map_err(io::Error::other)?;
        Ok(bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset..offset + bytes.len() as u64)?;
        self.view.store(offset, bytes).map_err(io::Error::other)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let size = self.file.size();
        if length > ADDRESSES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let changed = if length > size {
            // All blocks now: a store that finds no space could say so by a SIGBUS only.
            self.file.allocate(size..length, Size::Grows)
        } else {
            self.file.truncate(length)
        };
        // Stores are on the medium at once. One that tells of the new length must not be there before the length is.
        changed.and_then(|()| self.file.sync()).map_err(io::Error::other)
    }

    fn sync_data(&self, _eventual: bool) -> io::Result<()> {
        self.view.sync(0..ADDRESSES).map_err(io::Error::other)
    }
}
