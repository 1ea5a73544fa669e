//! Replay: bodies elsewhere, and what is left of a damaged journal.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects by failing"
)]

use paxfs_format::device::Device;
use paxfs_format::geometry::{BLOCK_SIZE, Geometry};
use paxfs_format::header::Seed;
use paxfs_format::journal::{Body, JournalSlot, ReplayFault, Slot, SlotFault};
use paxfs_format::journal_bytes::JournalBytes;
use paxfs_format::superblock::Superblock;
use paxfs_format::units::Uuid;
use zerocopy::{FromZeros, IntoBytes};

const UUID: Uuid = Uuid([7; 16]);

/// A device with nothing but a journal.
struct Image {
    bytes: Vec<u8>,
    geometry: Geometry,
    superblock: Superblock,
}

impl Image {
    fn new(generation: u64) -> Self {
        let mut superblock = Superblock::new_zeroed();
        superblock.uuid = UUID;
        superblock.header.generation = generation.into();
        let geometry = Geometry::choose(4 << 20, None, false).unwrap();
        Image { bytes: vec![0; 4 << 20], geometry, superblock }
    }

    /// Commits a transaction that writes all of some blocks; its body is in its slot, or elsewhere.
    fn commit(&mut self, sequence: u64, blocks: &[u64], elsewhere: Option<u64>) {
        let mut body = Body::default();
        for block in blocks {
            body.push_lines(*block, u64::MAX, &[u8::try_from(sequence).unwrap_or(255); BLOCK_SIZE]);
        }
        let place = self.geometry.journal_slot(sequence % 2);
        let seed = Seed::new(&UUID);
        let mut head = match elsewhere {
            None => body.head(seed, place, sequence),
            Some(block) => body.head_elsewhere(seed, place, sequence, block),
        };
        head.commit = sequence.into();
        let at = usize::try_from(place).unwrap() * BLOCK_SIZE;
        self.bytes[at..at + size_of::<JournalSlot>()].copy_from_slice(head.as_bytes());
        let behind = at + size_of::<JournalSlot>();
        let at = elsewhere.map_or(behind, |block| usize::try_from(block).unwrap() * BLOCK_SIZE);
        let room = self.bytes.len().saturating_sub(at).min(body.bytes().len());
        self.bytes[at..at + room].copy_from_slice(&body.bytes()[..room]);
    }

    /// Damages the body of a transaction that is in its slot.
    fn break_slot(&mut self, sequence: u64) {
        let at = usize::try_from(self.geometry.journal_slot(sequence % 2)).unwrap() * BLOCK_SIZE;
        self.bytes[at + 300] ^= 1;
    }

    /// What slots hold, what is live, and why not.
    fn replay(&self) -> (Vec<String>, Vec<u64>, Option<ReplayFault>) {
        let device = Device::memory(self.bytes.clone());
        let bytes = JournalBytes::read(&device, &self.superblock, &self.geometry).unwrap();
        let replay = bytes.replay();
        let slots = replay.slots.iter().map(|slot| match slot {
            Slot::Empty => "empty".to_owned(),
            Slot::Torn { .. } => "torn".to_owned(),
            Slot::Committed(transaction) => format!("committed {}", transaction.sequence),
            Slot::Done { sequence } => format!("done {sequence}"),
            Slot::Broken { sequence, .. } => format!("broken {sequence}"),
        });
        let live = replay.live.iter().map(|transaction| transaction.sequence).collect();
        (slots.collect(), live, replay.fault.clone())
    }

    fn fault(&self) -> SlotFault {
        match self.replay() {
            (_, live, Some(ReplayFault::Broken { fault, .. })) if live.is_empty() => fault,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_body_elsewhere_counts_until_it_is_home() {
    let mut image = Image::new(4);
    // More than a slot has room for.
    let blocks: Vec<u64> = (900..960).collect();
    image.commit(5, &blocks, Some(600));
    assert_eq!(image.replay(), (vec!["empty".into(), "committed 5".into()], vec![5], None));
    image.superblock.header.generation = 5.into();
    assert_eq!(image.replay(), (vec!["empty".into(), "done 5".into()], vec![], None));
    // Its blocks are anybody's.
    image.bytes[600 * BLOCK_SIZE..700 * BLOCK_SIZE].fill(0x77);
    assert_eq!(image.replay().2, None);
    image.superblock.header.generation = 4.into();
    assert!(matches!(image.fault(), SlotFault::Crc { .. }));
}

#[test]
fn a_body_lies_where_blocks_can_be_free() {
    let journal = Image::new(4).geometry.journal();
    // Block 0 of a group, its header, the journal, the end of a group or the volume, past the end.
    for body in [512, 513, journal.start, journal.end - 1, 511, 1023, 1024, u64::MAX] {
        let mut image = Image::new(4);
        image.commit(5, &[900], Some(body.min(1022)));
        let slot = usize::try_from(image.geometry.journal_slot(1)).unwrap() * BLOCK_SIZE;
        let head = &mut image.bytes[slot..slot + 64];
        head[56..64].copy_from_slice(&body.to_le_bytes());
        Seed::new(&UUID).seal(head);
        assert!(matches!(image.fault(), SlotFault::Place { .. }), "{body}");
    }
    for body in [journal.end, 515, 509, 1021] {
        let mut image = Image::new(4);
        image.commit(5, &[900], Some(body));
        assert_eq!(image.replay().1, [5], "{body}");
    }
}

#[test]
fn a_body_is_written_by_no_transaction() {
    let mut image = Image::new(4);
    image.commit(5, &[700, 601], Some(600));
    assert_eq!(image.fault(), SlotFault::Target { record: 1, block: 601 });
    // By another: the older one is left.
    for (first, second) in [((&[601], None), (&[900], Some(600))), ((&[900], Some(600)), (&[601], None))] {
        let mut image = Image::new(4);
        image.commit(5, first.0, first.1);
        image.commit(6, second.0, second.1);
        let (_, live, fault) = image.replay();
        assert_eq!(live, [5]);
        assert!(matches!(fault, Some(ReplayFault::Broken { sequence: 6, fault: SlotFault::Crossed, .. })));
    }
}

#[test]
fn a_body_past_the_end_of_the_device_is_a_fault() {
    let mut image = Image::new(4);
    image.commit(5, &[900], Some(700));
    image.bytes.truncate(600 * BLOCK_SIZE);
    assert_eq!(image.fault(), SlotFault::Unreadable { body: 700, bytes: 4112 });
}

#[test]
fn of_a_damaged_journal_the_last_two_are_left() {
    // The last is broken: the one before it is applied.
    let mut image = Image::new(3);
    image.commit(4, &[900], None);
    image.commit(5, &[901], None);
    assert_eq!(image.replay().1, [4, 5]);
    image.break_slot(5);
    let (_, live, fault) = image.replay();
    assert_eq!(live, [4]);
    assert!(matches!(fault, Some(ReplayFault::Broken { slot: 1, sequence: 5, .. })));
    // The one before the last is broken, and home: no fault.
    let mut image = Image::new(3);
    image.commit(4, &[900], None);
    image.commit(5, &[901], None);
    image.break_slot(4);
    assert_eq!((image.replay().1, image.replay().2), (vec![5], None));
    // What is two behind is home, and so is what came after it.
    let mut image = Image::new(1);
    image.commit(2, &[900], None);
    image.commit(5, &[901], None);
    assert_eq!((image.replay().1, image.replay().2), (vec![5], Some(ReplayFault::Gap(2, 5))));
    image.break_slot(5);
    assert_eq!(image.replay().1, Vec::<u64>::new());
    // A broken one far behind.
    let mut image = Image::new(1);
    image.commit(2, &[900], None);
    image.commit(5, &[901], None);
    image.break_slot(2);
    let (_, live, fault) = image.replay();
    assert_eq!(live, [5]);
    assert!(matches!(fault, Some(ReplayFault::Broken { sequence: 2, .. })));
}
