//! How media errors come in, and in which order they are dealt with.
//!
//! 1. All alone (the commit's lock and the gate): what failed is found out and recorded, metadata is brought to safety, the
//!    owners of data are found, and their mappings taken away.
//! 2. A commit: from here on a crash changes nothing.
//! 3. Another: what metadata left is healed.
//! 4. With no lock held: handlers are told.

use super::MediaError;
use crate::core::{Core, Joined, lock};
use crate::error::{Error, Result};
use crate::homes::Logged;
use crate::locks::{Rank, take};
use crate::trees::TreeName;
use core::ops::Range;
use core::sync::atomic::Ordering;
use paxfs_format::group::GroupTree;
use std::collections::BTreeSet;

/// How often what failed while errors were dealt with is dealt with, too, before the medium is given up.
const TRIES: u32 = 8;

/// Runs of blocks in one group: its number, the first block in it, and how many.
pub(super) type Run = (u32, u32, u32);

/// One time that all alone deals with errors.
pub(super) struct Round<'c> {
    pub core: &'c Core,
    pub joined: &'c Joined<'c>,
    /// Whether stores may have been lost.
    pub is_fault: bool,
    /// Bytes that metadata which stays in its place may yet take of the journal.
    pub room: u64,
    /// Blocks that have to wait for the next round.
    pub left: BTreeSet<u64>,
    /// Blocks of metadata in use that cannot be read.
    pub lost: BTreeSet<u64>,
}

impl Core {
    /// Whether the medium failed since that was last dealt with.
    pub fn has_failures(&self) -> bool {
        self.medium().failures() != self.media.known.load(Ordering::Relaxed)
    }

    /// Deals with what failed since that was last done. The caller holds no lock. A frozen volume has to wait: what failed
    /// reads as EIO meanwhile.
    ///
    /// # Errors
    ///
    /// When the volume had to be shut down.
    pub fn notice(&self) -> Result<()> {
        let is_news = self.has_failures() || self.media.is_untold.load(Ordering::Relaxed);
        if !is_news || self.is_frozen() { Ok(()) } else { self.report(&[]).map(drop) }
    }

    /// Deals with blocks that are said to be bad, and with what failed. Returns who is hit. The caller holds no lock.
    ///
    /// # Errors
    ///
    /// When the volume had to be shut down.
    pub fn report(&self, said: &[Range<u64>]) -> Result<Vec<MediaError>> {
        self.check_alive()?;
        let errors = {
            let _dealing = self.media.dealing();
            self.deal(said).inspect_err(|_| self.shut_down())?;
            self.media.is_untold.store(false, Ordering::Relaxed);
            core::mem::take(&mut *lock(&self.media.untold))
        };
        Ok(self.tell(errors))
    }

    /// Takes up what is recorded when a volume is opened: what nobody needs is healed, and metadata that a crash left in bad
    /// blocks brought to safety. Nobody else has the volume yet.
    pub fn load_bad(&self) -> Result<()> {
        self.count_bad();
        self.heal_idle()?;
        let mut metadata = Vec::new();
        for group in self.each_group() {
            if group.has_lost_bad {
                self.media.tear(TreeName::Group(group.number, GroupTree::Bad));
            }
            let used = group.bad().iter().flat_map(|(start, length)| group.used_metadata(start, length));
            let blocks = used.map(|block| self.volume.geometry.volume_block(group.number, block));
            metadata.extend(blocks.map(|block| block..block + 1));
        }
        if metadata.is_empty() { self.notice() } else { self.report(&metadata).map(drop) }
    }

    fn deal(&self, said: &[Range<u64>]) -> Result<()> {
        let mut said = said.to_vec();
        let mut tries = 0;
        while tries < TRIES {
            let left = self.deal_once(&said)?;
            self.commit_quietly()?;
            self.commit_quietly()?;
            if left.is_empty() && !self.has_failures() {
                return Ok(());
            }
            tries += u32::from(left.is_empty());
            said = left.into_iter().map(|block| block..block + 1).collect();
        }
        let first = self.medium().failed().first().copied();
        Err(Error::lost("the volume (the medium fails faster than that is dealt with)", first.unwrap_or(0)))
    }

    /// Deals with what can be dealt with in one transaction; returns what is left.
    fn deal_once(&self, said: &[Range<u64>]) -> Result<BTreeSet<u64>> {
        loop {
            let mut logged = take(Rank::Committing, || lock(&self.committing));
            self.check_alive()?;
            let joined = self.join_alone_quietly();
            if !self.is_frozen() {
                return self.round(&joined, said, &mut logged);
            }
            drop((joined, logged));
            self.wait_until_thawed();
        }
    }

    /// Deals with what failed, and with what is said to be bad, as far as one transaction can; returns what is left. The
    /// caller is all alone.
    pub fn round(
        &self,
        joined: &Joined<'_>,
        said: &[Range<u64>],
        logged: &mut Logged,
    ) -> Result<BTreeSet<u64>> {
        let mut tries = 0;
        loop {
            match self.round_once(joined, said, logged) {
                // More failed on the way: all of it from the start.
                Err(error) if error.is_loss() && self.has_failures() && tries < TRIES => tries += 1,
                dealt => return dealt,
            }
        }
    }

    fn round_once(
        &self,
        joined: &Joined<'_>,
        said: &[Range<u64>],
        logged: &mut Logged,
    ) -> Result<BTreeSet<u64>> {
        let touched: BTreeSet<u64> = self.medium().failed().into_iter().collect();
        let failed: BTreeSet<u64> = self.medium().narrow().into_iter().collect();
        let dealt = self.set_dealt(failed.clone());
        let new = self.runs(failed.difference(&dealt).map(|block| *block..block + 1));
        // These are good, but for what was stored to them meanwhile.
        let back = self.runs(touched.difference(&failed).map(|block| *block..block + 1));
        let mut round = Round {
            core: self,
            joined,
            is_fault: !new.is_empty() || !back.is_empty(),
            room: self.slot_bytes() / 4,
            left: BTreeSet::new(),
            lost: BTreeSet::new(),
        };
        let bad: Vec<Run> = new.into_iter().chain(self.runs(said.iter().cloned())).collect();
        let told = lock(&self.media.untold).len();
        if let Err(error) = round.deal(&bad, &back, logged) {
            lock(&self.media.untold).truncate(told);
            self.set_dealt(dealt);
            return Err(error);
        }
        lock(&self.media.dealt).retain(|block| !round.left.contains(block));
        self.count_dealt();
        Ok(round.left)
    }

    /// Says which blocks that failed were dealt with; returns which were before.
    fn set_dealt(&self, blocks: BTreeSet<u64>) -> BTreeSet<u64> {
        let before = core::mem::replace(&mut *lock(&self.media.dealt), blocks);
        self.count_dealt();
        before
    }

    fn count_dealt(&self) {
        let dealt = lock(&self.media.dealt);
        self.media.known.store(dealt.len() as u64, Ordering::Relaxed);
    }

    /// Ranges of blocks, cut where groups end and the volume does.
    pub(super) fn runs(&self, ranges: impl Iterator<Item = Range<u64>>) -> Vec<Run> {
        let geometry = &self.volume.geometry;
        let mut runs: Vec<Run> = Vec::new();
        for range in ranges {
            let mut at = range.start;
            while let Some(place) = geometry.locate(at).filter(|_| at < range.end) {
                let group_end = geometry.group_start(place.group) + geometry.group_len(place.group);
                let length = u32::try_from(group_end.min(range.end) - at).unwrap_or(u32::MAX);
                match runs.last_mut() {
                    Some((group, start, before))
                        if *group == place.group && *start + *before == place.block =>
                    {
                        *before += length;
                    }
                    _ => runs.push((place.group, place.block, length)),
                }
                at += u64::from(length);
            }
        }
        runs
    }

    /// Finds the paths of what was hit, and tells handlers. No lock is held.
    fn tell(&self, mut errors: Vec<MediaError>) -> Vec<MediaError> {
        for error in &mut errors {
            error.path = self.path_of(error.inode);
        }
        let handlers = self.media.handlers.read().map(|handlers| handlers.clone()).unwrap_or_default();
        for error in &errors {
            handlers.iter().for_each(|handler| handler(error));
        }
        errors
    }
}

impl Round<'_> {
    /// Whether nothing failed since this round began. Else others may be lost with it that are good, and are brought back
    /// when it begins anew.
    pub fn check_steady(&self) -> Result<()> {
        let failed = || self.core.medium().failed().last().copied().unwrap_or(0);
        if self.core.has_failures() { Err(Error::lost("what the medium had", failed())) } else { Ok(()) }
    }

    /// Deals with bad runs, and with runs that are good but may have lost stores.
    fn deal(&mut self, bad: &[Run], back: &[Run], logged: &mut Logged) -> Result<()> {
        let core = self.core;
        let mut recorded = Vec::with_capacity(bad.len());
        for (group, start, length) in bad.iter().chain(back) {
            let fixed = u32::try_from(core.volume.geometry.fixed_blocks(*group)).unwrap_or(u32::MAX);
            recorded.extend(self.fixed(*group, *start..(*start + *length).min(fixed), logged)?);
        }
        for (group, start, length) in bad {
            let fixed = u32::try_from(core.volume.geometry.fixed_blocks(*group)).unwrap_or(u32::MAX);
            let first = (*start).max(fixed);
            if let Some(length) = (*start + *length).checked_sub(first).filter(|length| *length > 0) {
                recorded.push((*group, first, length));
            }
        }
        for (group, start, length) in &recorded {
            core.group(*group)?.set_bad(*start, *length);
        }
        core.count_bad();
        core.heal_idle()?;
        let used = |runs: &[Run]| -> Result<Vec<u64>> {
            let mut used = Vec::new();
            for (group, start, length) in runs {
                let blocks = core.group(*group)?.used_metadata(*start, *length);
                used.extend(blocks.into_iter().map(|block| core.volume.geometry.volume_block(*group, block)));
            }
            Ok(used)
        };
        let back_blocks: BTreeSet<u64> = used(back)?.into_iter().collect();
        for block in &back_blocks {
            // SAFETY: the gate is held alone, so nobody has a borrow of a page.
            #[allow(unsafe_code)]
            unsafe {
                core.pages().reload_blank(*block);
            }
        }
        core.restore_homes(logged, &back_blocks);
        for block in used(&recorded)? {
            self.save(block)?;
        }
        self.check_steady()?;
        self.rebuild()?;
        self.tell_owners(&recorded, true)?;
        self.tell_owners(back, false)
    }
}
