//! Transactions left in the journal of a new volume, for tests of those who replay it.

use crate::builder::{Builder, offset_of};
use crate::error::Error;
use crate::recipe::{Transaction, TransactionState};
use paxfs_format::geometry::BLOCK_SIZE;
use paxfs_format::journal::{JournalSlot, SLOTS, Write, encode};
use zerocopy::IntoBytes;

impl Builder<'_> {
    /// Puts transactions into the journal that write what blocks hold now.
    pub(crate) fn put_journal(&mut self) -> Result<(), Error> {
        for transaction in core::mem::take(&mut self.journal) {
            self.put_transaction(&transaction)?;
        }
        Ok(())
    }

    fn put_transaction(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let wrong = |why: &str| Error::Recipe {
            at: format!("volume.journal (transaction {})", transaction.sequence),
            why: why.to_owned(),
        };
        let geometry = self.geometry();
        let journal = geometry.journal();
        let slot_blocks = geometry.journal_blocks / SLOTS;
        let slot = journal.start + transaction.sequence % SLOTS * slot_blocks;
        if transaction.blocks.iter().any(|block| *block >= geometry.blocks || journal.contains(block)) {
            return Err(wrong("a block is outside of the volume, or in the journal"));
        }
        let mut writes = Vec::new();
        for &block in &transaction.blocks {
            let data = self.device.bytes(offset_of(block), BLOCK_SIZE)?;
            writes.push(Write { block, lines: u64::MAX, data });
        }
        let (mut head, mut body) = encode(self.seed, slot, transaction.sequence, &writes)
            .ok_or_else(|| wrong("its records cannot be stored"))?;
        if transaction.state != TransactionState::Torn {
            head.commit = transaction.sequence.into();
        }
        if transaction.state == TransactionState::Broken
            && let Some(last) = body.last_mut()
        {
            *last ^= 1;
        }
        let room = usize::try_from(offset_of(slot_blocks)).unwrap_or(usize::MAX);
        if size_of::<JournalSlot>() + body.len() > room {
            return Err(wrong("it does not fit its slot"));
        }
        let bytes = self.bytes_mut(offset_of(slot), size_of::<JournalSlot>() + body.len())?;
        bytes.iter_mut().zip(head.as_bytes().iter().chain(&body)).for_each(|(to, from)| *to = *from);
        if transaction.stale {
            for &block in &transaction.blocks {
                self.block_mut(block)?.fill(0);
            }
        }
        Ok(())
    }
}
