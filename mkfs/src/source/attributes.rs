//! Extended attributes of the source's files: all that the kernel lists, as raw bytes.

use crate::entries::{Attribute, Value};
use paxfs_format::entry::{MAX_NAME, MAX_VALUE};
use rustix::fd::AsFd;
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;
use std::cell::RefCell;

/// The longest list, and the longest value, that Linux gives.
const BUFFER: usize = MAX_VALUE as usize;

thread_local! {
    static LIST: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    static VALUE: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Of an open file.
pub(super) fn of_file(file: impl AsFd) -> Result<Vec<Attribute>, Errno> {
    read(|list| flistxattr(&file, list), |name, value| fgetxattr(&file, name, value))
}

/// Of whatever is at a path, symlinks not followed.
pub(super) fn of_path(path: &[u8]) -> Result<Vec<Attribute>, Errno> {
    read(|list| llistxattr(path, list), |name, value| lgetxattr(path, name, value))
}

fn read(
    list: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Attribute>, Errno> {
    LIST.with_borrow_mut(|buffer| {
        let length = match list(buffer) {
            Ok(length) => length,
            Err(Errno::NOTSUP | Errno::NOSYS) => 0,
            Err(error) => return Err(error),
        };
        let names = buffer.get(..length).unwrap_or_default().split(|&byte| byte == 0);
        let mut attributes = Vec::new();
        for name in names.filter(|name| !name.is_empty()) {
            if name.len() > MAX_NAME {
                return Err(Errno::NAMETOOLONG);
            }
            let value = VALUE.with_borrow_mut(|buffer| {
                let length = get(name, buffer)?;
                Ok(buffer.get(..length).unwrap_or_default().to_vec())
            });
            match value {
                Ok(value) => attributes.push(Attribute { name: name.to_vec(), value: Value::Bytes(value) }),
                // Removed meanwhile, or listed but without a value of its own (as some security modules do).
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attributes)
    })
}
