//! stub
#[derive(Debug, thiserror::Error)]
#[error("stub")]
/// stub
pub struct TargetError;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
/// stub
pub struct EditError;
