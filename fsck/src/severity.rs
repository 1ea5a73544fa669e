//! How bad a finding is, by its consequence.

use core::fmt;

/// The consequence of a finding. The order is that of gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; there is nothing to correct. Does not change the exit status.
    Info,
    /// To be put right, but nothing is at risk meanwhile.
    Notice,
    /// What is damaged can be derived from what is intact: nothing is lost yet.
    Damage,
    /// Data, names or attributes are lost, or may be.
    Loss,
    /// The check cannot go on.
    Fatal,
}

impl Severity {
    /// All of them, from the least.
    pub const ALL: [Self; 5] = [Self::Info, Self::Notice, Self::Damage, Self::Loss, Self::Fatal];

    /// Its name, as printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Damage => "damage",
            Self::Loss => "loss",
            Self::Fatal => "fatal",
        }
    }

    /// Whether a volume with such a finding is not as it should be.
    pub fn needs_repair(self) -> bool {
        self > Self::Info
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
