//! Bad blocks that nobody needs: zeroed, tested, and given out again.

use super::bytes_of;
use crate::core::{Core, lock};
use crate::error::{Error, Result};
use core::sync::atomic::Ordering;

impl Core {
    /// Heals a block, which nobody uses; says whether that went well. Then it is zeros.
    pub fn heal(&self, block: u64) -> bool {
        let healed = self.medium().heal(block);
        let mut dealt = lock(&self.media.dealt);
        // That it failed once more is no news.
        if self.medium().has_failed(bytes_of(block)) {
            dealt.insert(block)
        } else {
            dealt.remove(&block)
        };
        self.media.known.store(dealt.len() as u64, Ordering::Relaxed);
        healed
    }

    /// Stores all of a block, and heals it first if it fails; says whether it is there.
    pub fn store_whole(&self, block: u64, store: impl Fn()) -> bool {
        let medium = self.medium();
        store();
        if medium.has_failed(bytes_of(block)) && self.heal(block) {
            store();
        }
        !medium.has_failed(bytes_of(block))
    }

    /// Heals a metadata block, all of which is about to be stored; says whether it is to be. It is not when it moved
    /// meanwhile and does not heal.
    ///
    /// # Errors
    ///
    /// It is needed there, and does not heal.
    pub fn heal_home(&self, block: u64) -> Result<bool> {
        if !self.heal(block) {
            if self.pages().is_freed(block) {
                return Ok(false);
            }
            return Err(Error::lost("metadata that has its place there (it is in the journal)", block));
        }
        self.set_good(block)?;
        Ok(true)
    }

    /// Whether a block is recorded as bad.
    pub fn is_bad(&self, block: u64) -> Result<bool> {
        let place = self.volume.geometry.locate(block);
        place.map_or(Ok(false), |place| Ok(self.group(place.group)?.bad().run_with(place.block).is_some()))
    }

    /// Records a block as bad.
    pub fn set_bad(&self, block: u64) -> Result<()> {
        let place = self.volume.geometry.locate(block);
        place.map_or(Ok(()), |place| {
            self.group(place.group)?.set_bad(place.block, 1);
            Ok(())
        })
    }

    /// Takes a block that is healed out of the record.
    pub fn set_good(&self, block: u64) -> Result<()> {
        let place = self.volume.geometry.locate(block);
        place.map_or(Ok(()), |place| {
            self.group(place.group)?.set_good(place.block, 1);
            Ok(())
        })
    }

    /// Heals what is bad and idle, as far as it heals: it is no longer recorded, and can be given out. For who holds the lock
    /// of the commit, or is alone.
    pub fn heal_idle(&self) -> Result<()> {
        if !self.media.any() {
            return Ok(());
        }
        for number in self.volume.geometry.group_numbers() {
            let idle = self.group(number)?.idle_bad();
            for (start, length) in idle {
                for block in start..start.saturating_add(length) {
                    let healed = self.heal(self.volume.geometry.volume_block(number, block));
                    let mut group = self.group(number)?;
                    if healed { group.set_good(block, 1) } else { group.give_up(block, 1) }
                }
            }
        }
        self.count_bad();
        Ok(())
    }

    /// Looks whether anything is recorded as bad. For who holds the lock of the commit, or is alone.
    pub fn count_bad(&self) {
        let any = self.each_group().any(|group| !group.bad().is_empty());
        self.media.any.store(any, Ordering::Relaxed);
    }
}
