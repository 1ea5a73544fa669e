//! What a case is done on.

use std::error::Error;
use std::ops::Range;

/// What went wrong, whoever says it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A file system with one directory. Files are named in every call, so that nothing is kept from before a remount.
pub trait Target {
    /// Writes bytes at an offset of a file, which is made if it is not there.
    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Stores bytes at an offset of a file by a mapping of it, and makes them durable. The file is there, and as long.
    fn store(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Removes a file.
    fn remove(&mut self, file: &str) -> Result<()>;

    /// All that a file has.
    fn read(&mut self, file: &str) -> Result<Vec<u8>>;

    /// Makes a file so many bytes long. It is made if it is not there.
    fn truncate(&mut self, file: &str, size: u64) -> Result<()>;

    /// Gives a range of a file blocks that are not written; the file grows to its end, and is made if it is not there.
    fn allocate(&mut self, file: &str, range: Range<u64>) -> Result<()>;

    /// Makes a range of a file a hole.
    fn punch(&mut self, file: &str, range: Range<u64>) -> Result<()>;

    /// Makes a new file that shares all that another has.
    fn clone(&mut self, from: &str, to: &str) -> Result<()>;

    /// Has a file share what it has with another of the same size, if both hold the same; whether they do.
    fn dedupe(&mut self, from: &str, to: &str) -> Result<bool>;

    /// Bytes that are free, once all that was done is on the medium.
    fn free(&mut self) -> Result<u64>;

    /// Closes the file system, and opens it again: what is read from then on comes from the medium.
    fn remount(&mut self) -> Result<()>;
}
