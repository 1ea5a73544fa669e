//! A finding: what is wrong ([`Problem`]), where (a field path that `dbg.paxfs` accepts), and which files it hits.

use crate::problem::Problem;
use crate::severity::Severity;
use serde::Serialize;
use serde_json::{Map, Value};

/// Version of the JSON objects.
pub const SCHEMA: u64 = 1;

/// One code of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The stable name, `PX-…`.
    pub code: &'static str,
    /// The consequence.
    pub severity: Severity,
    /// What it means and what is done about it.
    pub explain: &'static str,
    /// Names of the fields of its JSON objects.
    pub fields: &'static [&'static str],
}

/// What is wrong, where, and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub problem: Problem,
    /// Where: a field path.
    pub at: String,
    /// The files that are hit.
    pub files: Files,
}

/// The files that a finding hits: the first few by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The first few.
    pub first: Vec<AffectedFile>,
    /// How many more there are.
    pub more: u64,
}

/// A file that a finding hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedFile {
    /// Its inode.
    pub inode: u64,
    /// Where in the file, in bytes, when the finding is about a part of its contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Its path; starts with `<inode N>` when it does not lead to the root. Empty until the finding is delivered.
    pub path: String,
}

impl Finding {
    /// All codes: the specification of the check.
    pub const CODES: &'static [Code] = crate::problem::CODES;

    /// A finding that hits no file in particular.
    pub fn new(at: impl Into<String>, problem: Problem) -> Self {
        Finding { problem, at: at.into(), files: Files::default() }
    }

    /// The same, hitting a file.
    #[must_use]
    pub fn of_file(mut self, inode: u64) -> Self {
        self.files.first.push(AffectedFile { inode, offset: None, path: String::new() });
        self
    }

    /// The same, hitting a file at an offset in bytes.
    #[must_use]
    pub fn of_file_at(mut self, inode: u64, offset: u64) -> Self {
        self.files.first.push(AffectedFile { inode, offset: Some(offset), path: String::new() });
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.problem.code()
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.problem.severity()
    }

    /// As a JSON object: `schema`, `code`, `severity`, `at`, `message`, the fields of its kind, and `files` when it hits
    /// any.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("schema".into(), SCHEMA.into());
        object.insert("code".into(), self.code().into());
        object.insert("severity".into(), self.severity().name().into());
        object.insert("at".into(), self.at.clone().into());
        object.insert("message".into(), self.problem.to_string().into());
        for (name, value) in self.problem.fields() {
            object.insert(name.into(), value);
        }
        if !self.files.first.is_empty() {
            object.insert("files".into(), serde_json::to_value(&self.files.first).unwrap_or_default());
            object.insert("more_files".into(), self.files.more.into());
        }
        Value::Object(object)
    }
}

/// Declares the problems: doc comment (the explanation), name, code, severity, named fields, message, and words in it.
macro_rules! problems {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $code:literal $severity:ident { $($field:ident: $type:ty),* } $message:literal
            $(, $word:ident = $value:expr)*;
    )+) => {
        /// Everything that a check can find. The documentation of each is its explanation; the fields are what its
        /// message and its JSON object name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the message says what each field is")]
        pub enum Problem {
            $($(#[doc = $doc])+ $name { $($field: $type),* },)+
        }

        /// All codes, in the order of the check.
        pub(crate) const CODES: &[$crate::finding::Code] = &[$($crate::finding::Code {
            code: $code,
            severity: $crate::severity::Severity::$severity,
            explain: concat!($($doc, "\n"),+),
            fields: &[$(stringify!($field)),*],
        }),+];

        impl Problem {
            /// The stable code.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$name { .. } => $code,)+ }
            }

            /// How bad it is.
            pub const fn severity(&self) -> $crate::severity::Severity {
                match self { $(Self::$name { .. } => $crate::severity::Severity::$severity,)+ }
            }

            /// Names and values of its fields.
            pub fn fields(&self) -> Vec<(&'static str, serde_json::Value)> {
                match self {
                    $(Self::$name { $($field),* } => vec![
                        $((stringify!($field), serde_json::to_value($field).unwrap_or_default())),*
                    ],)+
                }
            }
        }

        impl core::fmt::Display for Problem {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self { $(Self::$name { $($field),* } => {
                    $(let _ = $field;)*
                    write!(f, $message $(, $word = $value)*)
                })+ }
            }
        }
    };
}
pub(crate) use problems;
