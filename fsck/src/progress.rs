//! Progress: lines for systemd-fsck, or a bar on a terminal.

use crate::context::PASSES;
use crate::report::PASS_NAMES;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Shows how far the check is.
pub(crate) enum Display {
    /// Nowhere.
    Nothing,
    /// Lines `pass done total device`, and the last that was written.
    Lines(Mutex<(File, (u32, u64))>, String),
    /// A bar.
    Bar(ProgressBar),
}

impl Display {
    /// To the file descriptor that was asked for, else to the terminal if there is one.
    pub fn new(descriptor: Option<i32>, quiet: bool, device: &str) -> Self {
        match descriptor {
            // Opening it anew takes no unsafe code, and works for pipes, files and terminals.
            Some(number) if number > 0 => {
                match OpenOptions::new().append(true).open(format!("/proc/self/fd/{number}")) {
                    Ok(file) => Self::Lines(Mutex::new((file, (0, 0))), device.to_owned()),
                    Err(_) => Self::Nothing,
                }
            }
            Some(number) if number < 0 => Self::Nothing,
            _ if quiet || !std::io::stderr().is_terminal() => Self::Nothing,
            _ => {
                let bar = ProgressBar::new(1000);
                let style = ProgressStyle::with_template("{msg:<12} {wide_bar} {percent:>3} %");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                Self::Bar(bar)
            }
        }
    }

    /// Pass `pass` (from 1) has done so much.
    pub fn tell(&self, pass: u32, done: u64, of: u64) {
        match self {
            Self::Nothing => {}
            Self::Lines(state, device) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let now = (pass, done.saturating_mul(1000).checked_div(of).unwrap_or(1000));
                // systemd-fsck does not expect to go backwards.
                if now > state.1 {
                    state.1 = now;
                    // Whoever wanted it may be gone; that is no reason to stop.
                    let _ = writeln!(state.0, "{pass} {done} {of} {device}");
                }
            }
            Self::Bar(bar) => {
                let passes = PASSES as u64;
                let before = u64::from(pass).saturating_sub(1).saturating_mul(1000);
                let part = done.saturating_mul(1000).checked_div(of).unwrap_or(1000);
                bar.set_position((before.saturating_add(part)) / passes);
                let name = usize::try_from(pass).ok().and_then(|pass| PASS_NAMES.get(pass.saturating_sub(1)));
                bar.set_message(name.copied().unwrap_or_default());
            }
        }
    }

    /// Takes a bar away, to print something.
    pub fn suspend(&self, print: impl FnOnce()) {
        match self {
            Self::Bar(bar) => bar.suspend(print),
            _ => print(),
        }
    }

    /// There is nothing more to show.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
