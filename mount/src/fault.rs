//! What is answered when a request fails: an errno.

use crate::log::complain;
use fuser::Errno;
use paxfs_runtime::error::Error;

/// An errno for the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Fault(pub Errno);

/// The answer to a request.
pub type Answer<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let errno = error.errno();
        // Whoever asked sees a number; what is lost or damaged has to be said in words, too.
        if matches!(errno, libc::EIO | libc::EUCLEAN) {
            complain(&error);
        }
        Fault(Errno::from_i32(errno))
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault(errno)
    }
}
