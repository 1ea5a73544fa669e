//! Transactions whose outcome is known: what is in the database after any number of them, and nothing else may be.

use fastrand::Rng;
use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::error::Error;

/// The last transactions by number, each with a value of its own.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Which transaction was the last in each slot.
const SLOTS: TableDefinition<'_, u64, u64> = TableDefinition::new("slots");

/// How many entries are kept.
const KEPT: u64 = 200;
const SLOT_COUNT: u64 = 64;
/// How far it is to the next transaction's slot: odd, so that all have their turn.
const STRIDE: u64 = 27;

/// What transaction `number` writes: mostly less than a page, now and then several.
fn value(number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    let length = if rng.u8(..16) == 0 { rng.usize(5_000..20_000) } else { rng.usize(50..1_500) };
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Commits transaction `number`, counted from 0. It is durable when this returns.
pub fn commit(database: &Database, number: u64) -> Result<(), Box<dyn Error>> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate);
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        entries.insert(number, value(number).as_slice())?;
        if let Some(old) = number.checked_sub(KEPT) {
            entries.remove(old)?;
        }
        transaction.open_table(SLOTS)?.insert(number * STRIDE % SLOT_COUNT, number)?;
    }
    transaction.commit()?;
    Ok(())
}

/// How many transactions were committed.
///
/// # Errors
///
/// When what is there is not exactly what so many leave.
pub fn committed(database: &Database) -> Result<u64, Box<dyn Error>> {
    let transaction = database.begin_read()?;
    let entries = match transaction.open_table(ENTRIES) {
        Ok(entries) => entries,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let count = entries.last()?.map_or(0, |(number, _)| number.value() + 1);
    let expected = count.saturating_sub(KEPT)..count;
    if entries.len()? != expected.end - expected.start {
        return Err(format!("{} entries of {expected:?}", entries.len()?).into());
    }
    for number in expected {
        if entries.get(number)?.is_none_or(|there| there.value() != value(number)) {
            return Err(format!("the entry of transaction {number} of {count}").into());
        }
    }
    let slots = transaction.open_table(SLOTS)?;
    for number in count.saturating_sub(SLOT_COUNT)..count {
        if slots.get(number * STRIDE % SLOT_COUNT)?.is_none_or(|last| last.value() != number) {
            return Err(format!("the slot of transaction {number} of {count}").into());
        }
    }
    Ok(count)
}
