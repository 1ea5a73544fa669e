#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Media errors under file data: who is told, what reads, and what heals.

mod common;

use common::media::{self, Media};
use common::{check_bytes, findings, volume, volume_with};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::media::{MediaError, Part};
use paxfs_runtime::medium::{Cure, Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BLOCK: u64 = 4096;

/// A volume whose medium can be made to fail, and what handlers were told.
struct Bench {
    medium: Arc<Recorder>,
    engine: Engine,
    told: Arc<Mutex<Vec<MediaError>>>,
}

fn open(medium: &Arc<Recorder>) -> Engine {
    let medium: Arc<dyn Medium> = medium.clone();
    Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Options::default() }).unwrap()
}

impl Bench {
    fn new() -> Self {
        Self::on(Arc::new(Recorder::forgetful(volume(8 << 20), Granularity::CacheLine)))
    }

    fn on(medium: Arc<Recorder>) -> Self {
        let engine = open(&medium);
        let told = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&told);
        engine.on_media_error(Box::new(move |error| all.lock().unwrap().push(error.clone())));
        Bench { medium, engine, told }
    }

    /// A file of so many blocks, block i full of i + 1, synced.
    fn file(&self, name: &[u8], blocks: u64) -> File {
        let inode = self.engine.create(self.engine.root(), name, &New::default()).unwrap();
        let file = self.engine.open_file(inode, Open::WRITE).unwrap();
        for block in 0..blocks {
            file.write_at(block * BLOCK, &[block as u8 + 1; BLOCK as usize]).unwrap();
        }
        self.engine.sync().unwrap();
        file
    }

    /// Says that a block of a file is bad; what was told.
    fn report(&self, file: &File, block: u64) -> Vec<MediaError> {
        let at = device_block(file, block) * BLOCK;
        let hit = self.engine.report_media_error(at..at + 1).unwrap();
        assert_eq!(self.told.lock().unwrap().drain(..).collect::<Vec<_>>(), hit);
        hit
    }

    fn bad(&self) -> u64 {
        self.engine.statistics().unwrap().bad
    }

    /// Closes the volume, and opens it anew.
    fn again(self) -> Self {
        self.engine.close().unwrap();
        Self::on(self.medium)
    }

    /// Closes the volume; a check finds nothing.
    fn end(self) {
        assert_eq!(self.bad(), 0);
        self.engine.close().unwrap();
        check_bytes(self.medium.now());
    }
}

/// The codes of what a check finds.
fn codes(medium: &Recorder) -> Vec<&'static str> {
    findings(medium.now()).unwrap().iter().map(|found| found.problem.code()).collect()
}

/// The block of the device that a block of a file is in.
fn device_block(file: &File, block: u64) -> u64 {
    let extents = file.extents().unwrap();
    let extent = extents.iter().find(|extent| {
        (extent.offset.get()..extent.offset.get() + u64::from(extent.length.get())).contains(&block)
    });
    let extent = extent.unwrap();
    extent.start.get() + block - extent.offset.get()
}

fn read(file: &File, block: u64) -> Result<u8, Error> {
    let mut bytes = [0; BLOCK as usize];
    file.read_at(block * BLOCK, &mut bytes)?;
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "block {block}");
    Ok(bytes[0])
}

/// That a file has lost this block.
fn assert_lost<T: std::fmt::Debug>(result: Result<T, Error>, file: &File, block: u64) {
    match result {
        Err(error @ Error::LostData { inode, offset, .. }) => {
            assert_eq!((inode, offset, error.errno()), (file.inode(), block * BLOCK, 5), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_owner_is_told_and_reads_eio_until_it_writes_anew() {
    let bench = Bench::new();
    let (engine, root) = (&bench.engine, bench.engine.root());
    let directory = engine.make_directory(root, b"d", &New::default()).unwrap();
    let one = bench.file(b"one", 4);
    let other = engine.create(directory, b"other", &New::default()).unwrap();
    let other = engine.open_file(other, Open::WRITE).unwrap();
    other.clone_range(2 * BLOCK, &one, 0, 0).unwrap();
    let hit = bench.report(&one, 1);
    let expected = |inode, path: &[u8], offset| MediaError {
        inode,
        path: Some(path.to_vec()),
        part: Part::Contents,
        offset,
        length: BLOCK,
        address: None,
    };
    assert_eq!(hit, [expected(one.inode(), b"/one", BLOCK), expected(other.inode(), b"/d/other", 3 * BLOCK)]);
    assert_eq!(bench.bad(), 1);
    assert_eq!(engine.bad_ranges().unwrap().len(), 1);
    assert_lost(read(&one, 1), &one, 1);
    assert_lost(read(&other, 3), &other, 3);
    assert_eq!((read(&one, 0).unwrap(), read(&one, 2).unwrap(), read(&other, 2).unwrap()), (1, 3, 1));
    assert_lost(one.write_at(BLOCK + 5, b"part"), &one, 1);

    // One owner writes anew; the other has the block still.
    one.write_at(BLOCK, &[9; BLOCK as usize]).unwrap();
    assert_eq!(read(&one, 1).unwrap(), 9);
    assert_lost(read(&other, 3), &other, 3);
    engine.sync().unwrap();
    assert_eq!(bench.bad(), 1);
    drop((one, other));

    let Bench { engine, medium, .. } = bench;
    engine.close().unwrap();
    assert_eq!(codes(&medium), ["PX-BAD-OWNED"]);
    let bench = Bench::on(medium);
    let other = bench.engine.resolve(b"/d/other").unwrap();
    let other = bench.engine.open_file(other, Open::WRITE).unwrap();
    assert_lost(read(&other, 3), &other, 3);
    other.write_at(3 * BLOCK, &[8; BLOCK as usize]).unwrap();
    bench.engine.sync().unwrap();
    bench.engine.sync().unwrap();
    drop(other);
    bench.end();
}

#[test]
fn a_free_block_is_healed_and_not_recorded() {
    let bench = Bench::new();
    bench.file(b"file", 1);
    let free = bench.engine.statistics().unwrap().free;
    // The last blocks of the volume.
    let hit = bench.engine.report_media_error((8 << 20) - 3 * BLOCK..u64::MAX).unwrap();
    assert!(hit.is_empty());
    assert_eq!((bench.engine.statistics().unwrap().free, bench.bad()), (free, 0));
    let available = bench.engine.statistics().unwrap().available;
    bench.medium.spoil(2046..2048, Cure::Never);
    bench.engine.report_media_error(2047 * BLOCK..2048 * BLOCK).unwrap();
    assert_eq!(bench.bad(), 1);
    assert_eq!(bench.engine.statistics().unwrap().available, available - 1);
    bench.engine.close().unwrap();
    assert_eq!(codes(&bench.medium), ["PX-BAD-FREE"]);
}

/// Each way in which a file can let go of a bad block.
#[test]
fn what_lets_go_of_a_bad_block_heals_it() {
    type Heal = fn(&Bench, &File);
    let heals: [(&str, Heal); 7] = [
        ("overwrite", |_, file| file.write_at(BLOCK, &[7; 2 * BLOCK as usize]).unwrap()),
        ("punch", |_, file| file.punch_hole(BLOCK..3 * BLOCK).unwrap()),
        ("truncate", |_, file| file.truncate(BLOCK).unwrap()),
        ("zero", |_, file| file.zero_range(BLOCK..4 * BLOCK, Size::Stays).unwrap()),
        ("clone over it", |bench, file| {
            file.clone_range(0, &bench.file(b"other", 4), 0, 0).unwrap();
        }),
        ("unlink", |bench, _| bench.engine.unlink(bench.engine.root(), b"file").unwrap()),
        ("rename over it", |bench, _| {
            drop(bench.file(b"new", 2));
            let root = bench.engine.root();
            let replace = paxfs_runtime::namespace::Rename::Replace;
            bench.engine.rename(root, b"new", root, b"file", replace).unwrap();
        }),
    ];
    for (name, heal) in heals {
        let bench = Bench::new();
        let file = bench.file(b"file", 4);
        bench.report(&file, 1);
        bench.report(&file, 2);
        assert_eq!(bench.bad(), 2, "{name}");
        heal(&bench, &file);
        let names = file.attributes().unwrap().links;
        for block in 0..u64::from(names) * file.size() / BLOCK {
            read(&file, block).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        drop(file);
        // It is let go; then healed; then no longer recorded.
        bench.engine.sync().unwrap();
        bench.engine.sync().unwrap();
        assert_eq!(bench.bad(), 0, "{name}");
        bench.end();
    }
}

#[test]
fn what_would_keep_a_part_of_a_bad_block_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    bench.report(&file, 1);
    let before = (file.extents().unwrap(), file.attributes().unwrap());
    assert_lost(file.write_at(0, &[9; BLOCK as usize + 1]), &file, 1);
    assert_lost(file.write_at(2 * BLOCK - 1, &[9; 2]), &file, 1);
    assert_lost(file.punch_hole(BLOCK + 1..3 * BLOCK), &file, 1);
    assert_lost(file.zero_range(0..BLOCK + 1, Size::Stays), &file, 1);
    assert_eq!((file.extents().unwrap(), file.attributes().unwrap()), before);
    assert_eq!((read(&file, 0).unwrap(), read(&file, 2).unwrap()), (1, 3));

    // In the last block there is nothing to keep behind the end.
    file.truncate(BLOCK + 100).unwrap();
    assert_lost(file.write_at(BLOCK, &[9; 99]), &file, 1);
    assert_lost(file.append(&[9]), &file, 1);
    // Nor is anything there to be zeroed when the file grows.
    file.truncate(3 * BLOCK).unwrap();
    assert_lost(read(&file, 1), &file, 1);
    file.truncate(BLOCK + 100).unwrap();
    file.write_at(BLOCK, &[9; 100]).unwrap();
    let mut bytes = [0; 200];
    assert_eq!(file.read_at(BLOCK, &mut bytes).unwrap(), 100);
    assert!(bytes[..100].iter().all(|byte| *byte == 9));
    file.truncate(2 * BLOCK).unwrap();
    file.read_at(BLOCK, &mut bytes).unwrap();
    assert!(bytes[100..].iter().all(|byte| *byte == 0));
    drop(file);
    bench.engine.sync().unwrap();
    bench.engine.sync().unwrap();
    bench.end();
}

#[test]
fn sharing_shares_the_error() {
    let bench = Bench::new();
    let (engine, root) = (&bench.engine, bench.engine.root());
    let file = bench.file(b"file", 3);
    let same = bench.file(b"same", 3);
    bench.report(&file, 1);
    // Dedupe reads.
    assert_lost(same.dedupe_range(0, &file, 0, 3 * BLOCK), &file, 1);
    assert_lost(file.dedupe_range(0, &same, 0, 3 * BLOCK), &file, 1);
    let two = same.dedupe_range(2 * BLOCK, &file, 2 * BLOCK, BLOCK).unwrap();
    assert_eq!(two, Dedupe::Same { shared: BLOCK });
    // A block of the file's own needs no copy.
    file.unshare(0..3 * BLOCK).unwrap();
    let copy = engine.create(root, b"copy", &New::default()).unwrap();
    let copy = engine.open_file(copy, Open::WRITE).unwrap();
    copy.clone_range(0, &file, 0, 0).unwrap();
    assert_lost(read(&copy, 1), &copy, 1);
    assert_eq!((read(&copy, 0).unwrap(), read(&copy, 2).unwrap()), (1, 3));
    assert_lost(copy.unshare(0..3 * BLOCK), &copy, 1);
    let snapshot = engine.snapshot(root, root, b"snapshot", Access::ReadOnly).unwrap();
    let kept = engine.open_file(engine.lookup(snapshot, b"file").unwrap(), Open::READ).unwrap();
    assert_lost(read(&kept, 1), &kept, 1);
    // All owners at once, later.
    let hit = bench.report(&file, 1);
    assert_eq!(hit.len(), 4, "{hit:#?}");
    for file in [&file, &copy] {
        file.write_at(BLOCK, &[5; BLOCK as usize]).unwrap();
    }
    engine.sync().unwrap();
    assert_lost(read(&kept, 1), &kept, 1);
    drop((file, same, copy, kept));
    engine.remove_tree(root, b"snapshot").unwrap();
    engine.sync().unwrap();
    engine.sync().unwrap();
    bench.end();
}

#[test]
fn unwritten_blocks_lose_nothing() {
    let bench = Bench::new();
    let file = bench.file(b"file", 1);
    file.allocate(BLOCK..4 * BLOCK, Size::Grows).unwrap();
    assert!(bench.report(&file, 2).is_empty());
    assert_eq!((bench.bad(), read(&file, 2).unwrap()), (1, 0));
    let bad = device_block(&file, 2);
    file.write_at(2 * BLOCK + 10, &[1; 10]).unwrap();
    assert_ne!(device_block(&file, 2), bad);
    let mut bytes = [0; 30];
    file.read_at(2 * BLOCK, &mut bytes).unwrap();
    assert_eq!(bytes[9..21], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    drop(file);
    bench.engine.sync().unwrap();
    bench.engine.sync().unwrap();
    bench.end();
}

#[test]
fn the_hardware_is_heard_by_who_reads() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    bench.medium.spoil(device_block(&file, 1)..device_block(&file, 1) + 1, Cure::Heals);
    let mut bytes = [0; 3 * BLOCK as usize];
    assert_lost(file.read_at(0, &mut bytes), &file, 1);
    assert_eq!(bench.told.lock().unwrap().len(), 1);
    assert_eq!(bench.bad(), 1);
    // Whoever syncs is told once that something was lost.
    assert!(matches!(file.sync(), Err(Error::LostWrites(Some(inode))) if inode == file.inode()));
    file.sync().unwrap();
    assert!(matches!(bench.engine.sync(), Err(Error::LostWrites(None))));
    bench.engine.sync().unwrap();
    file.write_at(0, &bytes).unwrap();
    bench.engine.sync().unwrap();
    assert_eq!((read(&file, 1).unwrap(), bench.bad()), (0, 0));
    drop(file);
    bench.end();
}

#[test]
fn a_store_that_is_lost_fails_the_sync() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    bench.medium.spoil(device_block(&file, 1)..device_block(&file, 1) + 1, Cure::Heals);
    file.write_at(BLOCK, &[7; BLOCK as usize]).unwrap();
    let error = file.sync().unwrap_err();
    assert!(matches!(error, Error::LostWrites(Some(_))), "{error}");
    assert_lost(read(&file, 1), &file, 1);
    file.write_at(BLOCK, &[7; BLOCK as usize]).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&file, 1).unwrap(), 7);
}

#[test]
fn a_copy_of_what_cannot_be_read_is_not_made() {
    let bench = Bench::new();
    let file = bench.file(b"file", 1);
    let copy = bench.file(b"copy", 0);
    copy.clone_range(0, &file, 0, 0).unwrap();
    bench.medium.spoil(device_block(&file, 0)..device_block(&file, 0) + 1, Cure::Heals);
    assert_lost(copy.write_at(10, b"x"), &copy, 0);
    assert_lost(read(&file, 0), &file, 0);
    drop((file, copy));
    // The block that was meant for the copy was given back.
    bench.engine.close().unwrap();
    assert_eq!(codes(&bench.medium), ["PX-BAD-OWNED"]);
}

#[test]
fn what_does_not_heal_is_never_given_out() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    let bad = device_block(&file, 1);
    bench.medium.spoil(bad..bad + 1, Cure::Never);
    assert_lost(read(&file, 1), &file, 1);
    file.write_at(BLOCK, &[7; BLOCK as usize]).unwrap();
    file.sync().unwrap_err();
    file.sync().unwrap();
    drop(file);
    let bench = bench.again();
    assert_eq!(bench.bad(), 1);
    let file = bench.engine.open_file(bench.engine.resolve(b"/file").unwrap(), Open::WRITE).unwrap();
    assert_eq!(read(&file, 1).unwrap(), 7);
    // All that there is.
    let mut at = file.size();
    while file.write_at(at, &[1; 64 << 10]).is_ok() {
        at += 64 << 10;
    }
    while file.append(&[1]).is_ok() {}
    bench.engine.sync().unwrap();
    let runs = file.extents().unwrap();
    let holds = |extent: &paxfs_format::extent::Extent| {
        (extent.start.get()..extent.start.get() + u64::from(extent.length.get())).contains(&bad)
    };
    assert!(!runs.iter().any(holds));
    drop(file);
    bench.engine.close().unwrap();
    assert_eq!(codes(&bench.medium), ["PX-BAD-FREE"]);
}

/// A handler may do anything that holds no lock for it.
#[test]
fn a_handler_may_use_the_engine() {
    let bench = Bench::new();
    let file = Arc::new(bench.file(b"file", 3));
    let again = Arc::clone(&file);
    bench.engine.on_media_error(Box::new(move |error| {
        again.write_at(error.offset, &[6; BLOCK as usize]).unwrap();
        again.sync().unwrap();
    }));
    bench.report(&file, 2);
    assert_eq!(read(&file, 2).unwrap(), 6);
    bench.engine.sync().unwrap();
    assert_eq!(bench.bad(), 0);
}

#[test]
fn lists_of_errors_are_taken() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    let (first, last) = (device_block(&file, 0) * 8, device_block(&file, 2) * 8);
    let hit = bench.engine.report_media_errors(&format!("{first} 1\n{last} 8\n"), "pmem0".as_ref()).unwrap();
    assert_eq!(hit.iter().map(|hit| hit.offset).collect::<Vec<_>>(), [0, 2 * BLOCK]);
    let json = format!(
        r#"[{{"dev":"namespace0.0","blockdev":"pmem0","badblocks":[{{"offset":{},"length":1}}]}}]"#,
        device_block(&file, 1) * 8
    );
    assert_eq!(bench.engine.report_media_errors(&json, "pmem0".as_ref()).unwrap().len(), 1);
    let error = bench.engine.report_media_errors("not a list", "pmem0".as_ref()).unwrap_err();
    assert!(matches!(error, Error::List(_)) && error.errno() == 22, "{error}");
}

/// Blocks that are lost with one that is bad come back, and lose nothing that is known.
#[test]
fn a_medium_of_large_units_loses_only_what_is_bad() {
    let medium = Recorder::forgetful(volume(8 << 20), Granularity::CacheLine).of_units(512);
    let bench = Bench::on(Arc::new(medium));
    let file = bench.file(b"file", 40);
    let bad = device_block(&file, 20);
    bench.medium.spoil(bad..bad + 1, Cure::Never);
    assert_lost(read(&file, 20), &file, 20);
    for block in (0..40).filter(|block| *block != 20) {
        assert_eq!(read(&file, block).unwrap(), block as u8 + 1);
    }
    assert_eq!((bench.bad(), bench.told.lock().unwrap().len()), (1, 1));
    file.sync().unwrap_err();
    bench.engine.sync().unwrap_err();
    bench.file(b"more", 10);
    file.write_at(20 * BLOCK, &[21; BLOCK as usize]).unwrap();
    let _ = bench.engine.sync();
    bench.engine.sync().unwrap();
    drop(file);
    let bench = bench.again();
    let file = bench.engine.open_file(bench.engine.resolve(b"/file").unwrap(), Open::READ).unwrap();
    for block in 0..40 {
        assert_eq!(read(&file, block).unwrap(), block as u8 + 1);
    }
    drop(file);
    bench.engine.close().unwrap();
    assert_eq!(codes(&bench.medium), ["PX-BAD-FREE"]);
}

#[test]
fn without_a_reverse_map_all_files_are_asked() {
    let features = paxfs_mkfs::options::Features { rmap: false, reflink: false, csum: false };
    let image = volume_with(8 << 20, None, features);
    let bench = Bench::on(Arc::new(Recorder::forgetful(image, Granularity::CacheLine)));
    let file = bench.file(b"file", 3);
    bench.file(b"other", 3);
    let hit = bench.report(&file, 1);
    assert_eq!(hit.iter().map(|hit| (hit.inode, hit.offset)).collect::<Vec<_>>(), [(file.inode(), BLOCK)]);
    assert_lost(read(&file, 1), &file, 1);
    file.write_at(BLOCK, &[7; BLOCK as usize]).unwrap();
    assert_eq!(read(&file, 1).unwrap(), 7);
    drop(file);
    bench.engine.sync().unwrap();
    bench.engine.sync().unwrap();
    bench.end();
}

/// A frozen volume is not written to: what fails reads as EIO, and is recorded when it thaws.
#[test]
fn a_frozen_volume_deals_with_errors_later() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    let bad = device_block(&file, 1);
    let frozen = bench.engine.freeze().unwrap();
    let before = bench.medium.now();
    bench.medium.spoil(bad..bad + 1, Cure::Heals);
    assert_lost(read(&file, 1), &file, 1);
    assert_eq!((read(&file, 0).unwrap(), bench.bad()), (1, 0));
    assert!(before == bench.medium.now());
    drop(frozen);
    assert_lost(read(&file, 1), &file, 1);
    assert_eq!((bench.bad(), bench.told.lock().unwrap().len()), (1, 1));
}

/// The file that has a bad range can be told by its view, too; and a whole write brings it back.
#[test]
fn a_view_of_a_bad_block_is_taken_away() {
    let bench = Bench::new();
    let file = bench.file(b"file", 3);
    drop(file);
    let inode = bench.engine.resolve(b"/file").unwrap();
    let set =
        paxfs_runtime::file::Set { flags: Some(paxfs_format::inode::InodeFlags::DAX), ..Default::default() };
    bench.engine.set_attributes(inode, &set).unwrap();
    let file = bench.engine.open_file(inode, Open::WRITE).unwrap();
    let view = file.map(0..3 * BLOCK, Sharing::Shared).unwrap();
    let mut byte = [0];
    view.load(BLOCK, &mut byte).unwrap();
    view.store(BLOCK, &[9]).unwrap();
    bench.report(&file, 1);
    assert_lost(view.load(BLOCK, &mut byte), &file, 1);
    assert_lost(view.store(BLOCK, &[9]), &file, 1);
    view.load(0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    file.write_at(BLOCK, &[5; BLOCK as usize]).unwrap();
    view.load(BLOCK + 1, &mut byte).unwrap();
    assert_eq!(byte, [5]);
    view.store(BLOCK, &[6]).unwrap();
    view.sync(0..view.len()).unwrap();
    assert_eq!(file.read_at(BLOCK, &mut byte).map(|_| byte).unwrap(), [6]);
}

/// Where a file is mapped is told, for each of its views.
#[test]
fn addresses_are_told() {
    let Some(volume) = Media::all().into_iter().find(|media| *media != Media::Shim) else { return };
    let volume = media::Volume::new(volume, 8 << 20);
    let engine = volume.open(Dax::Always);
    let inode = engine.create(engine.root(), b"file", &New::default()).unwrap();
    let file = engine.open_file(inode, Open::WRITE).unwrap();
    file.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
    engine.sync().unwrap();
    let views = [0, BLOCK].map(|start| file.map(start..3 * BLOCK, Sharing::Shared).unwrap());
    let at = device_block(&file, 2) * BLOCK;
    let hit = engine.report_media_error(at..at + 1).unwrap();
    let addresses: Vec<_> = hit.iter().map(|hit| hit.address.unwrap()).collect();
    let first = |view: &View| view.address().unwrap().as_ptr().addr();
    assert_eq!(addresses, [first(&views[0]) + 2 * BLOCK as usize, first(&views[1]) + BLOCK as usize]);
}

/// Threads write, read and remove while blocks are reported at random: nobody waits for ever, and all that is left is either
/// right or said to be lost.
#[test]
fn threads_go_on_while_errors_come() {
    let bench = Bench::new();
    let engine = &bench.engine;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3_u8)
            .map(|thread| {
                scope.spawn(move || {
                    let name = [b'0' + thread];
                    for round in 0..60_u64 {
                        let inode = engine.create(engine.root(), &name, &New::default()).unwrap();
                        let file = engine.open_file(inode, Open::WRITE).unwrap();
                        for block in 0..8 {
                            file.write_at(block * BLOCK, &[thread + 1; BLOCK as usize]).unwrap();
                        }
                        let copy = [b'a' + thread];
                        let inode = engine.create(engine.root(), &copy, &New::default()).unwrap();
                        let copy = engine.open_file(inode, Open::WRITE).unwrap();
                        copy.clone_range(0, &file, 0, 0).unwrap();
                        for block in 0..8 {
                            for file in [&file, &copy] {
                                match read(file, block) {
                                    Ok(byte) => assert_eq!(byte, thread + 1),
                                    Err(error) => assert!(matches!(error, Error::LostData { .. }), "{error}"),
                                }
                            }
                        }
                        let _ = file.write_at((round % 8) * BLOCK + 7, &[thread + 1; 5000]);
                        engine.sync().unwrap();
                        drop((file, copy));
                        engine.unlink(engine.root(), &name).unwrap();
                        engine.unlink(engine.root(), &[b'a' + thread]).unwrap();
                    }
                })
            })
            .collect();
        let done = &done;
        scope.spawn(move || {
            let mut rng = fastrand::Rng::with_seed(7);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let block = rng.u64(40..2048);
                engine.report_media_error(block * BLOCK..(block + 1) * BLOCK).unwrap();
            }
        });
        let ended: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    engine.sync().unwrap();
    engine.sync().unwrap();
    bench.end();
}
