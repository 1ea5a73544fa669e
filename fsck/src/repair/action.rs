//! What a repair does, one structure at a time.

use crate::finding::{AffectedFile, SCHEMA};
use serde_json::{Map, Value};

/// One thing that a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The structure: a field path.
    pub at: String,
    /// What is done to it.
    pub what: String,
    /// The file that it is done to, if it is one.
    pub file: Option<AffectedFile>,
    /// What is lost by it, or was lost already and cannot be had back.
    pub lost: Vec<String>,
}

impl Action {
    /// One that loses nothing.
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Action { at: at.into(), what: what.into(), file: None, lost: Vec::new() }
    }

    /// Whether something is lost.
    pub fn loses(&self) -> bool {
        !self.lost.is_empty()
    }

    /// As a line of text.
    pub fn line(&self) -> String {
        let file = self.file.as_ref().map(|file| format!(" ({})", file.path)).unwrap_or_default();
        let lost = if self.loses() { format!("; lost: {}", self.lost.join(", ")) } else { String::new() };
        format!("repair: {}{file}: {}{lost}", self.at, self.what)
    }

    /// As a JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("schema".into(), SCHEMA.into());
        object.insert("action".into(), self.what.clone().into());
        object.insert("at".into(), self.at.clone().into());
        if let Some(file) = &self.file {
            object.insert("file".into(), serde_json::to_value(file).unwrap_or_default());
        }
        object.insert("lost".into(), self.lost.clone().into());
        Value::Object(object)
    }
}
