//! `set`: stores a value in a field.

use crate::error::CommandError;
use crate::output::{Output, Table};
use crate::session::Session;
use clap::Args;
use paxfs_format::field::value::Value;
use paxfs_format::header::Seed;
use paxfs_format::path::{Change, Csum, Target, edit, resolve};

/// Arguments of `set`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A field, as for show
    pub path: String,

    /// A number (decimal, 0x…; modes in octal), a name, flags joined by |, a uuid, "text", or hexadecimal digits
    #[arg(allow_hyphen_values = true)]
    pub value: String,

    /// What becomes of the checksum over the field: fix (made to fit), keep (left as it is, so that it fits no more), break
    /// (made not to fit)
    #[arg(short, long, value_name = "fix|keep|break", default_value_t)]
    pub csum: Csum,
}

/// Stores it.
pub fn run(session: &mut Session, arguments: &Arguments) -> Result<Output, CommandError> {
    change(session, &arguments.path, &Change::Set(arguments.value.clone()), arguments.csum)
}

/// Changes a field as told, and says what was there and what is.
pub fn change(
    session: &mut Session,
    path: &str,
    change: &Change,
    csum: Csum,
) -> Result<Output, CommandError> {
    let seed = Seed::new(&session.chosen().superblock.uuid);
    let target = resolve(&session.volume(), path)?;
    let edited = edit(session.device_mut()?, seed, &target, change, csum)?;
    session.written()?;
    let (before, after) = (value(&target, &edited.before), value(&target, &edited.after));
    let text = |value: &Option<Value<'_>>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut table = Table::new(&["field", "before", "after"]);
    table.row([target.text.clone(), text(&before), text(&after)]);
    let output = Output::new().data("path", &target.text).data("before", &before).data("after", &after);
    Ok(output.data("csum", csum.name()).table(table))
}

fn value<'b>(target: &Target, bytes: &'b [u8]) -> Option<Value<'b>> {
    Value::read(&target.kind, bytes)
}
