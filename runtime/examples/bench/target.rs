//! What work is done on.

use std::error::Error;

/// What went wrong, whoever says it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A file system with one directory.
pub trait Target {
    /// An open file.
    type File;

    /// Makes a file and opens it.
    fn create(&self, name: &str) -> Result<Self::File>;

    /// Removes a file's name.
    fn remove(&self, name: &str) -> Result<()>;

    /// Writes all of `bytes`.
    fn write(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Reads as much as `to` holds.
    fn read(&self, file: &Self::File, offset: u64, to: &mut [u8]) -> Result<()>;

    /// Makes an empty file share all that `from` has.
    fn clone(&self, from: &Self::File, to: &Self::File) -> Result<()>;

    /// Makes a file durable.
    fn sync(&self, file: &Self::File) -> Result<()>;

    /// Makes all durable.
    fn sync_all(&self) -> Result<()>;
}
