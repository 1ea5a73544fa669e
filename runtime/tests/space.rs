#![allow(clippy::unwrap_used, clippy::panic)]
//! What a group gives out, and when it may give it out again.

mod common;

use common::Disk;
use paxfs_format::header::Seed;
use paxfs_runtime::medium::Medium;
use paxfs_runtime::pages::Pages;
use paxfs_runtime::space::{Context, Fit, Group, Request};
use std::sync::Arc;

/// Group 1 of a new volume.
fn group(disk: &Disk) -> (Group, Pages, Context) {
    let medium: Arc<dyn Medium> = disk.medium.clone();
    let found = paxfs_format::volume::find(&Pages::new(Arc::clone(&medium), None)).unwrap();
    let seed = Seed::new(&found.superblock.uuid);
    let pages = Pages::new(medium, Some((seed, found.geometry)));
    let volume = paxfs_format::volume::Volume::new(pages, found.superblock, found.geometry);
    let header = *volume.group(1).unwrap();
    let context = Context { geometry: found.geometry, seed, generation: 1, rmap: true };
    (Group::load(1, header, &volume.blocks, &context).unwrap(), volume.blocks, context)
}

#[test]
fn an_inode_freed_while_a_commit_runs_is_not_given_out_when_that_one_is_durable() {
    let disk = Disk::new(4 << 20);
    let (mut group, pages, context) = group(&disk);
    let [first, second] = [(); 2].map(|()| group.allocate_inode(&pages, &context).unwrap());
    group.free_inode(first, &context);
    group.seal();
    // The next transaction runs.
    group.free_inode(second, &context);
    group.durable();
    assert_eq!(group.allocate_inode(&pages, &context).unwrap(), first);
    assert_ne!(group.allocate_inode(&pages, &context).unwrap(), second);
    group.seal();
    group.durable();
    assert_eq!(group.allocate_inode(&pages, &context).unwrap(), second);
}

/// What commits make of a group's space.
fn commit(group: &mut Group, pages: &Pages, context: &Context) {
    group.settle(pages, context).unwrap();
    group.seal();
    group.durable();
}

#[test]
fn a_bad_block_is_given_out_again_when_it_is_healed() {
    let disk = Disk::new(4 << 20);
    let (mut group, pages, context) = group(&disk);
    // Its tree takes what clusters have ready, and new ones take data's place.
    group.set_bad(400, 1);
    commit(&mut group, &pages, &context);
    group.set_good(400, 1);
    let anything = Request { want: 8, ahead: 0, goal: None, fit: Fit::Packed, urgent: true };
    let (start, 8) = group.allocate(&anything).unwrap() else { panic!("the group is not empty") };
    let free = group.usable_blocks();
    // One in use, one free.
    group.set_bad(start + 2, 1);
    group.set_bad(start + 100, 1);
    assert_eq!(group.usable_blocks(), free - 1);
    assert_eq!(group.idle_bad(), [(start + 100, 1)]);
    commit(&mut group, &pages, &context);
    assert_eq!(group.header.bad.records.get(), 2);

    // What is freed is idle when that is durable, and not before.
    group.release(start, 8).unwrap();
    assert_eq!(group.idle_bad(), [(start + 100, 1)]);
    commit(&mut group, &pages, &context);
    assert_eq!(group.idle_bad(), [(start + 2, 1), (start + 100, 1)]);
    assert_eq!(group.usable_blocks(), free - 1 + 7);

    // One heals, the other does not.
    group.set_good(start + 2, 1);
    group.give_up(start + 100, 1);
    assert_eq!(group.idle_bad(), []);
    assert_eq!(group.usable_blocks(), free + 7);
    commit(&mut group, &pages, &context);
    let loaded = Group::load(1, group.header, &pages, &context).unwrap();
    assert_eq!(loaded.bad().iter().collect::<Vec<_>>(), [(start + 100, 1)]);
    assert_eq!(loaded.idle_bad(), [(start + 100, 1)]);
    assert_eq!(loaded.usable_blocks(), group.usable_blocks());
}

#[test]
fn a_bad_block_of_a_cluster_is_not_given_out() {
    let disk = Disk::new(4 << 20);
    let (mut group, pages, context) = group(&disk);
    let block = group.allocate_metadata(1, &context).unwrap();
    group.set_bad(block, 1);
    assert_eq!(group.idle_bad(), []);
    group.free_metadata(block).unwrap();
    commit(&mut group, &pages, &context);
    assert_eq!(group.idle_bad(), [(block, 1)]);
    let loaded = Group::load(1, group.header, &pages, &context).unwrap();
    assert_eq!(loaded.idle_bad(), [(block, 1)]);
    for mut group in [group, loaded] {
        let rest: Vec<u32> = core::iter::from_fn(|| group.allocate_metadata(1, &context).ok()).collect();
        assert!(rest.len() > 16 && !rest.contains(&block));
        group.set_good(block, 1);
        assert_eq!(group.allocate_metadata(1, &context), Ok(block));
    }
}

#[test]
fn bad_runs_are_joined_and_cut() {
    let disk = Disk::new(4 << 20);
    let (mut group, pages, context) = group(&disk);
    let runs = |group: &Group| group.bad().iter().collect::<Vec<_>>();
    let stored = |group: &Group| {
        let loaded = Group::load(1, group.header, &pages, &context).unwrap();
        loaded.bad().iter().collect::<Vec<_>>()
    };
    for (start, length, expected) in [
        (200, 2, vec![(200, 2)]),
        (204, 2, vec![(200, 2), (204, 2)]),
        (201, 4, vec![(200, 6)]),
        (190, 10, vec![(190, 16)]),
    ] {
        group.set_bad(start, length);
        assert_eq!(runs(&group), expected);
        commit(&mut group, &pages, &context);
        assert_eq!(stored(&group), expected);
    }
    for (start, length, expected) in
        [(195, 2, vec![(190, 5), (197, 9)]), (189, 2, vec![(191, 4), (197, 9)]), (0, 400, vec![])]
    {
        group.set_good(start, length);
        assert_eq!(runs(&group), expected);
        commit(&mut group, &pages, &context);
        assert_eq!(stored(&group), expected);
    }
}
