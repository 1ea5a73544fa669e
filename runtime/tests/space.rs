#![allow(clippy::unwrap_used)]
//! What a group gives out, and when it may give it out again.

mod common;

use common::Disk;
use paxfs_format::header::Seed;
use paxfs_runtime::medium::Medium;
use paxfs_runtime::pages::Pages;
use paxfs_runtime::space::{Context, Group};
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
