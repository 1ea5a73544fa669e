//! The bytes of a volume's journal, and of bodies that lie elsewhere: all that a replay needs of a device.

use crate::blocks::Blocks;
use crate::device::MediumError;
use crate::geometry::Geometry;
use crate::header::Seed;
use crate::image::Image;
use crate::journal::{Replay, bodies_elsewhere, replay};
use crate::superblock::Superblock;
use core::ops::Range;
use std::borrow::Cow;

/// What a replay reads. Borrowed from the device; copied only where it is not one piece there.
#[derive(Debug)]
pub struct JournalBytes<'b> {
    journal: Cow<'b, [u8]>,
    elsewhere: [Option<Cow<'b, [u8]>>; 2],
    geometry: Geometry,
    seed: Seed,
    generation: u64,
}

impl<'b> JournalBytes<'b> {
    /// Those of the volume that `superblock` describes.
    ///
    /// # Errors
    ///
    /// When the device ends before the end of the journal. A body past the end of the device is a fault of its
    /// transaction.
    pub fn read<B: Blocks>(
        blocks: &'b B,
        superblock: &Superblock,
        geometry: &Geometry,
    ) -> Result<Self, MediumError> {
        Self::of(|run| blocks.run(run), superblock, geometry)
    }

    /// Those of an image, which can be changed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`JournalBytes::read`].
    pub fn of_image(
        image: &Image<'b>,
        superblock: &Superblock,
        geometry: &Geometry,
    ) -> Result<Self, MediumError> {
        Self::of(|run| image.run_below(run), superblock, geometry)
    }

    fn of(
        get: impl Fn(Range<u64>) -> Result<Cow<'b, [u8]>, MediumError>,
        superblock: &Superblock,
        geometry: &Geometry,
    ) -> Result<Self, MediumError> {
        let (seed, generation) = (Seed::new(&superblock.uuid), superblock.header.generation.get());
        let journal = get(geometry.journal())?;
        let elsewhere = bodies_elsewhere(&journal, geometry, seed, generation)
            .map(|run| run.and_then(|run| get(run).ok()));
        Ok(JournalBytes { journal, elsewhere, geometry: *geometry, seed, generation })
    }

    /// What the journal says.
    #[must_use]
    pub fn replay(&self) -> Replay<'_> {
        let [first, second] = &self.elsewhere;
        let elsewhere = [first.as_deref(), second.as_deref()];
        replay(&self.journal, elsewhere, &self.geometry, self.seed, self.generation)
    }
}
