#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Mapped files, on each kind of medium there is here: memory (a file on tmpfs), a file behind the page cache, and a medium
//! that cannot be mapped, where each load and store is a call.

mod common;

use common::media::{Media, Volume, each, each_by_page, each_of};
use common::{create, read};
use paxfs_runtime::engine::{Dax, Engine};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::sync::Barrier;

const BLOCK: u64 = 4096;
const HUGE: u64 = 2 << 20;

fn open(engine: &Engine, path: &[&str]) -> File {
    let found = path.iter().fold(engine.root(), |at, name| engine.lookup(at, name.as_bytes()).unwrap());
    engine.open_file(found, Open::WRITE).unwrap()
}

fn load(view: &View, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    view.load(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn loads_and_stores_are_the_file() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[7; 10_000]).unwrap();
        let view = file.map(0..16_384, Sharing::Shared).unwrap();
        assert_eq!(load(&view, 0, 10_000), [7; 10_000]);
        assert_eq!(load(&view, 10_000, 2288), [0; 2288], "what is behind the end is zeros");
        view.store(5000, b"stored").unwrap();
        assert_eq!(read(&file, 4998, 10), b"\x07\x07stored\x07\x07");
        // And the other way round.
        file.write_at(5001, b"WROTE").unwrap();
        assert_eq!(load(&view, 4999, 8), b"\x07sWROTE\x07");
        view.sync(0..16_384).unwrap();
        view.store(0, b"again").unwrap();
        assert_eq!(read(&file, 0, 6), b"again\x07");
        assert_eq!(file.size(), 10_000);
    });
}

/// With nothing to commit there is nothing to wait for.
#[test]
fn the_first_thing_that_is_done_to_a_volume_may_be_a_store() {
    for media in Media::all() {
        let volume = Volume::new(media, 32 << 20);
        let engine = volume.open(Dax::Always);
        create(&engine, "a").write_at(0, &[7; 10_000]).unwrap();
        engine.close().unwrap();
        let engine = volume.open(Dax::Always);
        let view = open(&engine, &["a"]).map(0..16_384, Sharing::Shared).unwrap();
        view.store(5000, b"stored").unwrap();
        drop(view);
        engine.close().unwrap();
        let engine = volume.open(Dax::Always);
        assert_eq!(read(&open(&engine, &["a"]), 4999, 8), b"\x07stored\x07");
        engine.close().unwrap();
        volume.check();
    }
}

#[test]
fn holes_are_zeros_until_they_are_stored_to() {
    each_by_page(|engine| {
        let file = create(engine, "a");
        file.truncate(8 * BLOCK).unwrap();
        file.allocate(2 * BLOCK..4 * BLOCK, Size::Stays).unwrap();
        let view = file.map(0..8 * BLOCK, Sharing::Shared).unwrap();
        assert_eq!(load(&view, 0, 32_768), [0; 32_768]);
        assert_eq!(file.attributes().unwrap().blocks, 2);
        view.store(BLOCK + 100, b"hole").unwrap();
        view.store(3 * BLOCK, b"unwritten").unwrap();
        assert_eq!(file.attributes().unwrap().blocks, 3);
        let mut expected = vec![0; 32_768];
        expected[4196..4200].copy_from_slice(b"hole");
        expected[3 * 4096..3 * 4096 + 9].copy_from_slice(b"unwritten");
        assert_eq!(load(&view, 0, 32_768), expected);
        assert_eq!(read(&file, 0, 32_768), expected);
    });
}

#[test]
fn more_threads_fault_than_answer() {
    const THREADS: u64 = 16;
    const ROUNDS: u64 = 8;
    each(|engine| {
        let file = create(engine, "a");
        file.truncate(THREADS * ROUNDS * BLOCK).unwrap();
        let view = file.map(0..file.size(), Sharing::Shared).unwrap();
        let together = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (view, together) = (&view, &together);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        together.wait();
                        view.store((round * THREADS + thread) * BLOCK, &[1]).unwrap();
                    }
                });
            }
        });
        assert!((0..THREADS * ROUNDS).all(|page| load(&view, page * BLOCK, 2) == [1, 0]));
    });
}

#[test]
fn the_end_of_the_file_is_the_end() {
    // As memory it is a signal: see `tests/signals.rs`.
    let volume = Volume::new(Media::Shim, 32 << 20);
    let engine = volume.open(Dax::Always);
    let file = create(&engine, "a");
    file.write_at(0, &[1; 5000]).unwrap();
    let view = file.map(0..HUGE, Sharing::Shared).unwrap();
    assert!(matches!(view.load(2 * BLOCK, &mut [0]), Err(Error::PastEnd)));
    assert!(matches!(view.store(HUGE - 1, &[0]), Err(Error::PastEnd)));
    // What is stored behind the end in the last block is lost when the file grows.
    view.store(6000, b"lost").unwrap();
    file.truncate(3 * BLOCK).unwrap();
    assert_eq!(load(&view, 4990, 7298), [[1; 10].as_slice(), &[0; 7288]].concat());
    view.store(2 * BLOCK, b"grown").unwrap();
    // What was there before a truncation does not come back.
    file.truncate(10).unwrap();
    assert!(matches!(view.load(BLOCK, &mut [0]), Err(Error::PastEnd)));
    assert_eq!(load(&view, 0, 4096), [[1; 10].as_slice(), &[0; 4086]].concat());
    file.truncate(3 * BLOCK).unwrap();
    assert_eq!(load(&view, 0, 3 * 4096), [[1; 10].as_slice(), &[0; 3 * 4096 - 10]].concat());
    drop(view);
    drop(file);
    engine.close().unwrap();
    volume.check();
}

#[test]
fn a_clone_and_its_source_part_at_the_first_store() {
    each_by_page(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[1; 4 * 4096]).unwrap();
        let view = file.map(0..4 * BLOCK, Sharing::Shared).unwrap();
        view.store(0, &[2; 4096]).unwrap();
        let copy = create(engine, "b");
        copy.clone_range(0, &file, 0, 0).unwrap();
        let other = copy.map(0..4 * BLOCK, Sharing::ReadOnly).unwrap();
        assert_eq!(load(&other, 0, 4097), [[2; 4096].as_slice(), &[1]].concat());
        // The writer's blocks stay, the other's move: they are mapped, but not for stores.
        let before = file.extents().unwrap();
        view.store(BLOCK, &[3; 100]).unwrap();
        view.store(0, &[3; 100]).unwrap();
        assert_eq!(file.extents().unwrap(), before);
        assert_eq!(load(&other, 0, 4 * 4096), [[2; 4096].as_slice(), &[1; 3 * 4096]].concat());
        assert_eq!(read(&copy, 0, 4 * 4096), load(&other, 0, 4 * 4096));
        assert_eq!(load(&view, 0, 101), [[3; 100].as_slice(), &[2]].concat());
        drop(other);
        // With both mapped for stores the writer moves.
        let other = copy.map(0..4 * BLOCK, Sharing::Shared).unwrap();
        view.store(3 * BLOCK, b"mine").unwrap();
        assert_ne!(file.extents().unwrap(), before);
        other.store(2 * BLOCK, b"other").unwrap();
        assert_eq!(load(&view, 2 * BLOCK, 4100), [[1; 4096].as_slice(), b"mine"].concat());
        assert_eq!(load(&other, 2 * BLOCK, 4096), [b"other".as_slice(), &[1; 4091]].concat());
    });
}

#[test]
fn a_snapshot_is_what_was_stored_before_it() {
    each(|engine| {
        let (root, new) = (engine.root(), New::default());
        let tree = engine.make_directory(root, b"tree", &new).unwrap();
        let file = engine.open_file(engine.create(tree, b"a", &new).unwrap(), Open::WRITE).unwrap();
        file.truncate(3 * BLOCK).unwrap();
        let view = file.map(0..3 * BLOCK, Sharing::Shared).unwrap();
        let mut snapshots = Vec::new();
        for round in 1..=3_u8 {
            view.store(0, &[round; 5000]).unwrap();
            let name = format!("snapshot {round}");
            engine.snapshot(tree, root, name.as_bytes(), Access::ReadOnly).unwrap();
            snapshots.push(name);
        }
        view.store(0, &[9; 12_288]).unwrap();
        for (name, round) in snapshots.iter().zip(1..) {
            let inode = engine.lookup(engine.lookup(root, name.as_bytes()).unwrap(), b"a").unwrap();
            let file = engine.open_file(inode, Open::READ).unwrap();
            assert_eq!(read(&file, 0, 12_288), [[round; 5000].as_slice(), &[0; 7288]].concat());
            let view = file.map(0..3 * BLOCK, Sharing::ReadOnly).unwrap();
            assert_eq!(load(&view, 4990, 20), [[round; 10], [0; 10]].concat());
            assert!(matches!(file.map(0..BLOCK, Sharing::Shared), Err(Error::BadFile)));
        }
        for name in snapshots {
            engine.remove_tree(root, name.as_bytes()).unwrap();
        }
        assert_eq!(load(&view, 0, 12_288), [9; 12_288]);
    });
}

#[test]
fn a_punch_or_a_truncation_takes_pages_away() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[5; 6 * 4096]).unwrap();
        let view = file.map(0..6 * BLOCK, Sharing::Shared).unwrap();
        view.store(0, &[6; 6 * 4096]).unwrap();
        file.punch_hole(BLOCK..3 * BLOCK + 10).unwrap();
        let mut expected = vec![6; 6 * 4096];
        expected[4096..3 * 4096 + 10].fill(0);
        assert_eq!(load(&view, 0, 6 * 4096), expected);
        view.store(BLOCK, b"x").unwrap();
        expected[4096] = b'x';
        file.zero_range(4 * BLOCK..5 * BLOCK, Size::Stays).unwrap();
        expected[4 * 4096..5 * 4096].fill(0);
        assert_eq!(load(&view, 0, 6 * 4096), expected);
        file.truncate(5 * BLOCK + 7).unwrap();
        assert_eq!(load(&view, 5 * BLOCK, 4096), [[6; 7].as_slice(), &[0; 4089]].concat());
        // Another file gets the blocks; nothing that is stored now reaches it.
        engine.sync().unwrap();
        let other = create(engine, "b");
        other.write_at(0, &[1; 40 * 4096]).unwrap();
        view.store(0, &[2; 5 * 4096]).unwrap();
        assert_eq!(read(&other, 0, 40 * 4096), [1; 40 * 4096]);
    });
}

#[test]
fn an_unlinked_file_lives_in_its_view() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[5; 4096]).unwrap();
        let view = file.map(0..BLOCK, Sharing::Shared).unwrap();
        drop(file);
        engine
            .rename(engine.root(), b"a", engine.root(), b"b", paxfs_runtime::namespace::Rename::Replace)
            .unwrap();
        engine.unlink(engine.root(), b"b").unwrap();
        engine.sync().unwrap();
        view.store(10, b"alive").unwrap();
        assert_eq!(load(&view, 9, 7), b"\x05alive\x05");
        drop(view);
        assert_eq!(engine.statistics().unwrap().inodes, 1);
    });
}

#[test]
fn devdax_has_no_private_views() {
    let volume = Volume::new(Media::Coarse, 32 << 20);
    let engine = volume.open(Dax::Always);
    assert!(matches!(create(&engine, "a").map(0..BLOCK, Sharing::Private), Err(Error::NotSupported(_))));
}

#[test]
fn a_private_view_keeps_its_stores() {
    each_by_page(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[5; 3 * 4096]).unwrap();
        file.truncate(4 * BLOCK).unwrap();
        let view = file.map(0..4 * BLOCK, Sharing::Private).unwrap();
        view.store(10, b"mine").unwrap();
        view.store(3 * BLOCK, b"hole").unwrap();
        assert_eq!(read(&file, 0, 20), [5; 20]);
        file.write_at(0, &[6; 3 * 4096]).unwrap();
        let frozen = engine.freeze().unwrap();
        view.store(14, b"!").unwrap();
        drop(frozen);
        assert_eq!(load(&view, 8, 8), b"\x05\x05mine!\x05");
        assert_eq!(load(&view, BLOCK, 2), [6, 6], "what was not stored to follows the file");
        file.punch_hole(0..4 * BLOCK).unwrap();
        assert_eq!(load(&view, 8, 8), b"\x05\x05mine!\x05");
        assert_eq!(load(&view, 3 * BLOCK, 5), b"hole\0");
        assert_eq!(load(&view, BLOCK, 2), [0, 0]);
    });
}

#[test]
fn a_private_view_ends_where_the_file_does() {
    each_by_page(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[5; 3 * 4096]).unwrap();
        let view = file.map(0..3 * BLOCK, Sharing::Private).unwrap();
        view.store(4000, &[6; 5000]).unwrap();
        file.truncate(BLOCK + 1).unwrap();
        assert_eq!(load(&view, 4000, 4192), [6; 4192], "the last page is the view's own");
        if view.address().is_none() {
            // As memory it is a signal.
            assert!(matches!(view.load(2 * BLOCK, &mut [0]), Err(Error::PastEnd)));
            assert!(matches!(view.store(2 * BLOCK, &[0]), Err(Error::PastEnd)));
        }
        file.truncate(3 * BLOCK).unwrap();
        assert_eq!(load(&view, BLOCK, 8192), [[6; 4096], [0; 4096]].concat());
    });
}

#[test]
fn a_dedupe_compares_what_was_stored() {
    each(|engine| {
        let (one, other) = (create(engine, "a"), create(engine, "b"));
        one.write_at(0, &[1; 8192]).unwrap();
        other.write_at(0, &[1; 8192]).unwrap();
        let view = other.map(0..8192, Sharing::Shared).unwrap();
        view.store(8191, &[2]).unwrap();
        assert_eq!(one.dedupe_range(0, &other, 0, 8192).unwrap(), Dedupe::Differs);
        view.store(8191, &[1]).unwrap();
        assert_eq!(one.dedupe_range(0, &other, 0, 8192).unwrap(), Dedupe::Same { shared: 8192 });
        view.store(0, &[3]).unwrap();
        assert_eq!(read(&one, 0, 8192), [1; 8192]);
    });
}

#[test]
fn times_follow_the_first_store() {
    each_by_page(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[1; 8192]).unwrap();
        let view = file.map(0..8192, Sharing::Shared).unwrap();
        let before = file.attributes().unwrap();
        load(&view, 0, 8192);
        assert_eq!(file.attributes().unwrap(), before);
        std::thread::sleep(std::time::Duration::from_millis(2));
        view.store(0, &[2]).unwrap();
        let after = file.attributes().unwrap();
        assert!(after.modified != before.modified && after.changed != before.changed, "{before:?} {after:?}");
        // And are durable with a sync.
        std::thread::sleep(std::time::Duration::from_millis(2));
        file.sync().unwrap();
        view.store(0, &[3]).unwrap();
        engine.sync().unwrap();
        assert_ne!(file.attributes().unwrap().modified, after.modified);
    });
}

/// Stores that fault while the volume is frozen wait; loads do not.
#[test]
fn a_frozen_volume_stands_still() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[1; 8 * 4096]).unwrap();
        let view = file.map(0..8 * BLOCK, Sharing::Shared).unwrap();
        view.store(0, &[2; 4096]).unwrap();
        let stored = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let outer = engine.freeze().unwrap();
            let inner = engine.freeze().unwrap();
            for block in [0, 3] {
                let (view, stored) = (&view, &stored);
                scope.spawn(move || {
                    view.store(block * BLOCK, &[3; 10]).unwrap();
                    stored.store(true, std::sync::atomic::Ordering::SeqCst);
                });
            }
            scope.spawn(|| engine.create(engine.root(), b"waits", &New::default()).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(outer);
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(engine.is_frozen() && !stored.load(std::sync::atomic::Ordering::SeqCst));
            assert!(engine.lookup(engine.root(), b"waits").is_err());
            assert_eq!(load(&view, 0, 4097), [[2; 4096].as_slice(), &[1]].concat());
            assert_eq!(load(&view, 5 * BLOCK, 5), [1; 5]);
            drop(inner);
        });
        assert!(!engine.is_frozen());
        assert_eq!(load(&view, 0, 11), [[3; 10].as_slice(), &[2]].concat());
        engine.lookup(engine.root(), b"waits").unwrap();
    });
}

/// A page here and a page there, each a mapping of its own for the kernel: more than the budget.
#[test]
fn a_budget_of_mappings_is_kept() {
    for media in Media::all() {
        let volume = Volume::new(media, 48 << 20);
        let options = paxfs_runtime::engine::Options {
            interval: std::time::Duration::ZERO,
            dax: Dax::Always,
            mappings: Some(60),
            ..Default::default()
        };
        let engine = volume.open_with(options);
        let file = create(&engine, "a");
        let pages = 400_u64;
        for page in (0..pages).step_by(2) {
            file.write_at(page * BLOCK, &page.to_le_bytes()).unwrap();
        }
        file.truncate(pages * BLOCK).unwrap();
        let view = file.map(0..pages * BLOCK, Sharing::Shared).unwrap();
        for round in 1..3 {
            for page in 0..pages {
                let page = page * 211 % pages;
                view.store(page * BLOCK, &(page * round).to_le_bytes()).unwrap();
            }
            // What one fault needs may come on top.
            assert!(engine.mappings() < 500, "{media:?}: {}", engine.mappings());
            for page in 0..pages {
                assert_eq!(load(&view, page * BLOCK, 8), (page * round).to_le_bytes());
            }
        }
        drop(view);
        drop(file);
        engine.close().unwrap();
        volume.check();
    }
}

/// A frame that is mapped whole shows one aligned run, and nothing that was in its blocks before.
#[test]
fn a_frame_that_is_mapped_whole_is_gathered() {
    if !Media::all().contains(&Media::Coarse) {
        return;
    }
    each_of(vec![Media::Coarse], |engine| {
        let old = create(engine, "old");
        old.write_at(0, &vec![0xdd; 8 << 20]).unwrap();
        let file = create(engine, "a");
        for page in [0, 3, 600, 601, 1200] {
            file.write_at(page * BLOCK, &[page as u8 | 1; 4096]).unwrap();
        }
        let copy = create(engine, "b");
        copy.clone_range(0, &file, 0, 0).unwrap();
        drop(old);
        engine.unlink(engine.root(), b"old").unwrap();
        engine.sync().unwrap();
        let view = file.map(BLOCK..3 * HUGE, Sharing::Shared).unwrap();
        let mut expected = read(&file, BLOCK, 1200 * 4096);
        assert_eq!(load(&view, 0, 1200 * 4096), expected);
        view.store(2 * BLOCK + 5, b"stored").unwrap();
        expected[8197..8203].copy_from_slice(b"stored");
        assert_eq!(read(&file, BLOCK, 1200 * 4096), expected);
        assert_eq!(read(&copy, 3 * BLOCK, 4096), [3; 4096]);
        // Behind the end nothing of old is seen, and what is stored there is lost.
        assert_eq!(load(&view, 1200 * BLOCK, 300 * 4096), vec![0; 300 * 4096]);
        view.store(1300 * BLOCK, b"lost").unwrap();
        file.truncate(1400 * BLOCK).unwrap();
        assert_eq!(read(&file, 1201 * BLOCK, 199 * 4096), vec![0; 199 * 4096]);
        assert_eq!(load(&view, 1200 * BLOCK, 199 * 4096), vec![0; 199 * 4096]);
    });
}

/// Where a frame is mapped whole, what lies behind the end was mapped before it was the file's.
#[test]
fn what_is_stored_after_a_file_grew_is_the_files() {
    type Growth<'g> = (&'g str, &'g dyn Fn(&File));
    each(|engine| {
        let long = create(engine, "long");
        long.write_at(0, &[1; 3 * HUGE as usize]).unwrap();
        let ways: [Growth<'_>; 5] = [
            ("allocate", &|file| file.allocate(BLOCK..100 * BLOCK, Size::Grows).unwrap()),
            ("zero", &|file| file.zero_range(300 * BLOCK..HUGE, Size::Grows).unwrap()),
            ("write", &|file| file.write_at(HUGE + BLOCK, b"far").unwrap()),
            ("clone", &|file| file.clone_range(HUGE, &long, 0, HUGE).unwrap()),
            ("truncate", &|file| file.truncate(2 * HUGE).unwrap()),
        ];
        for (name, grow) in ways {
            let file = create(engine, name);
            file.write_at(0, &[1; 4096]).unwrap();
            let view = file.map(0..2 * HUGE, Sharing::Shared).unwrap();
            view.store(0, b"before").unwrap();
            grow(&file);
            view.store(10 * BLOCK, b"after").unwrap();
            assert_eq!(read(&file, 10 * BLOCK, 6), b"after\0", "{name}");
            view.sync(0..HUGE).unwrap();
            assert_eq!(load(&view, 10 * BLOCK, 6), b"after\0", "{name}");
        }
    });
}

#[test]
fn what_a_view_is_not_for() {
    let volume = Volume::new(Media::Shim, 32 << 20);
    let engine = volume.open(Dax::Inode);
    let file = create(&engine, "a");
    file.write_at(0, &[1; 8192]).unwrap();
    assert!(matches!(file.map(0..8192, Sharing::Shared), Err(Error::NotSupported(_))), "it is not DAX");
    assert!(matches!(file.map(1..8192, Sharing::Shared), Err(Error::Invalid(_))));
    assert!(matches!(file.map(BLOCK..BLOCK, Sharing::Shared), Err(Error::Invalid(_))));
    assert!(matches!(file.map(0..1 << 63, Sharing::Shared), Err(Error::TooLarge)));
    drop(file);
    engine.close().unwrap();
    let engine = volume.open(Dax::Never);
    assert!(matches!(open(&engine, &["a"]).map(0..8192, Sharing::ReadOnly), Err(Error::NotSupported(_))));
    engine.close().unwrap();
    let engine = volume.open(Dax::Always);
    let inode = engine.lookup(engine.root(), b"a").unwrap();
    let file = engine.open_file(inode, Open::READ).unwrap();
    assert!(matches!(file.map(0..8192, Sharing::Shared), Err(Error::BadFile)));
    let view = file.map(0..8192, Sharing::ReadOnly).unwrap();
    assert!(matches!(view.store(0, &[1]), Err(Error::BadFile)));
    assert!(matches!(view.load(8192, &mut [0]), Err(Error::Invalid(_))));
    drop((view, file));
    engine.close().unwrap();
    volume.check();
}

#[test]
fn what_was_there_when_the_volume_was_opened_can_be_stored_to() {
    for media in Media::all() {
        let volume = Volume::new(media, 32 << 20);
        let engine = volume.open(Dax::Always);
        create(&engine, "a").write_at(0, &[1; 8192]).unwrap();
        engine.close().unwrap();
        // Nothing has to be committed, and nothing ever may be.
        let engine = volume.open(Dax::Always);
        let file = open(&engine, &["a"]);
        let view = file.map(0..8192, Sharing::Shared).unwrap();
        view.store(4095, b"xy").unwrap();
        assert_eq!(read(&file, 4094, 4), b"\x01xy\x01");
        drop((view, file));
        engine.close().unwrap();
        volume.check();
    }
}
