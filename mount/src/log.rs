//! Who is told what: standard error, and the system's log once nobody looks at that.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

/// What the program calls itself.
pub const NAME: &str = "mount.paxfs";

/// The system's log, when messages go there; nothing in it when there is no log.
static SYSTEM: OnceLock<Option<UnixDatagram>> = OnceLock::new();

/// Lets messages go to the system's log from now on.
pub fn to_system() {
    let socket = UnixDatagram::unbound().and_then(|socket| {
        socket.connect("/dev/log")?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    // That it was done before is all right.
    let _ = SYSTEM.set(socket.ok());
}

/// Says that something went wrong.
pub fn complain(message: impl Display) {
    // Nobody is left to be told when this fails.
    match SYSTEM.get() {
        Some(Some(socket)) => {
            /// A daemon's error, in the numbers of syslog(3).
            const PRIORITY: u32 = 3 << 3 | 3;
            let line = format!("<{PRIORITY}>{NAME}[{}]: {message}", std::process::id());
            let _ = socket.send(line.as_bytes());
        }
        Some(None) => {}
        None => {
            let _ = writeln!(std::io::stderr(), "{NAME}: {message}");
        }
    }
}
