//! The options of `-o`: those of paxfs, those of all file systems, and those that are somebody else's.

use core::time::Duration;
use fuser::MountOption;
use paxfs_runtime::engine::{self, Dax};
use std::num::NonZeroUsize;

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Nobody knows it.
    #[error("there is no option {0}; see mount.paxfs -h, or give -s to ignore it")]
    Unknown(String),
    /// It has a value that it cannot have.
    #[error("{option} takes {takes}")]
    Value {
        /// The option as it was given.
        option: String,
        /// What would be right.
        takes: &'static str,
    },
    /// Nothing does that.
    #[error("{0}: {1}")]
    Refused(String, &'static str),
}

/// What the options say.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nothing is written.
    pub read_only: bool,
    /// Other users are let in.
    pub allow_other: bool,
    /// Requests that are worked on at a time.
    pub threads: usize,
    /// For the engine.
    pub engine: engine::Options,
    /// For the kernel.
    pub flags: Vec<MountOption>,
}

impl Default for Options {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Options {
            read_only: false,
            allow_other: false,
            threads: processors.saturating_mul(2).clamp(4, 16),
            engine: engine::Options::default(),
            flags: vec![MountOption::Dev, MountOption::Suid],
        }
    }
}

/// Most requests that are worked on at a time.
const THREADS_MAX: usize = 256;

/// Options that say nothing to a file system, or only what is so anyway. Those that begin with `x-` are others' as well.
const IGNORED: [&str; 27] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nofail",
    "_netdev",
    "async",
    "noatime",
    "nodiratime",
    "relatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "silent",
    "loud",
    "default_permissions",
    "nosymfollow",
    "uhelper",
];

impl Options {
    /// Reads lists of options; a later one counts. Those that nobody knows are errors, unless `sloppy`.
    ///
    /// # Errors
    ///
    /// An [`OptionError`] for the first that is wrong.
    pub fn parse(lists: &[String], sloppy: bool) -> Result<Self, OptionError> {
        let mut options = Options::default();
        for option in lists.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
            match options.set(option) {
                Err(OptionError::Unknown(_)) if sloppy => {}
                answer => answer?,
            }
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<(), OptionError> {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let wrong = |takes| OptionError::Value { option: option.to_owned(), takes };
        match (name, value) {
            ("ro", None) => self.read_only = true,
            ("rw", None) => self.read_only = false,
            ("allow_other", None) => self.allow_other = true,
            ("dax", value) => self.engine.dax = dax(value).ok_or_else(|| wrong("inode, always or never"))?,
            ("commit", value) => {
                let seconds = value.and_then(|value| value.parse().ok());
                self.engine.interval = Duration::from_secs(seconds.ok_or_else(|| wrong("seconds"))?);
            }
            ("threads", value) => {
                let threads = value.and_then(|value| value.parse().ok());
                let threads = threads.filter(|threads| (1..=THREADS_MAX).contains(threads));
                self.threads = threads.ok_or_else(|| wrong("a number from 1 to 256"))?;
            }
            ("dev", None) => self.flag(MountOption::Dev, &MountOption::NoDev),
            ("nodev", None) => self.flag(MountOption::NoDev, &MountOption::Dev),
            ("suid", None) => self.flag(MountOption::Suid, &MountOption::NoSuid),
            ("nosuid", None) => self.flag(MountOption::NoSuid, &MountOption::Suid),
            ("exec", None) => self.flag(MountOption::Exec, &MountOption::NoExec),
            ("noexec", None) => self.flag(MountOption::NoExec, &MountOption::Exec),
            ("sync", None) => self.flag(MountOption::Sync, &MountOption::Async),
            ("remount", None) => {
                let what = "a mount cannot be changed; unmount it, and mount it anew";
                return Err(OptionError::Refused(option.to_owned(), what));
            }
            ("dirsync", None) => {
                let what =
                    "FUSE does not wait for changes of names; fsync the directory, or use sync for contents";
                return Err(OptionError::Refused(option.to_owned(), what));
            }
            ("strictatime" | "atime" | "diratime", None) => {
                let what = "times of access are not recorded";
                return Err(OptionError::Refused(option.to_owned(), what));
            }
            _ if IGNORED.contains(&name) || name.starts_with("x-") || name.starts_with("X-") => {}
            ("comment" | "helper", Some(_)) => {}
            _ => return Err(OptionError::Unknown(option.to_owned())),
        }
        Ok(())
    }

    fn flag(&mut self, flag: MountOption, other: &MountOption) {
        self.flags.retain(|set| set != other && *set != flag);
        self.flags.push(flag);
    }
}

fn dax(value: Option<&str>) -> Option<Dax> {
    match value {
        None | Some("always") => Some(Dax::Always),
        Some("inode") => Some(Dax::Inode),
        Some("never") => Some(Dax::Never),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Options, OptionError> {
        Options::parse(&[list.to_owned()], false)
    }

    #[test]
    fn a_later_option_counts() {
        assert!(parse("rw,ro").unwrap().read_only);
        assert!(!parse("ro,rw").unwrap().read_only);
        assert_eq!(parse("dax,dax=never").unwrap().engine.dax, Dax::Never);
        let flags = parse("nosuid,noexec,suid,exec").unwrap().flags;
        assert_eq!(flags, [MountOption::Dev, MountOption::Suid, MountOption::Exec]);
        assert_eq!(parse("commit=30").unwrap().engine.interval, Duration::from_secs(30));
    }

    #[test]
    fn options_of_others_are_ignored() {
        let options = parse("defaults,,user,nofail,x-systemd.automount,comment=a,relatime").unwrap();
        assert_eq!(options.flags, Options::default().flags);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |list| parse(list).unwrap_err().to_string();
        assert_eq!(
            error("data=journal"),
            "there is no option data=journal; see mount.paxfs -h, or give -s to ignore it"
        );
        assert!(Options::parse(&["data=journal".to_owned()], true).is_ok());
        assert_eq!(error("dax=maybe"), "dax=maybe takes inode, always or never");
        assert_eq!(error("threads=0"), "threads=0 takes a number from 1 to 256");
        assert!(error("remount,ro").starts_with("remount: a mount cannot be changed"));
        assert!(error("dirsync").starts_with("dirsync: FUSE does not wait"));
        assert!(error("strictatime").contains("not recorded"));
        assert_eq!(error("ro=1"), "there is no option ro=1; see mount.paxfs -h, or give -s to ignore it");
    }
}
