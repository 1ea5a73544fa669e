//! How badly a superblock fits the volume: what decides between two that disagree.

use crate::check::new_check;
use crate::context::{Env, locked};
use crate::groups;
use paxfs_format::device::Device;
use paxfs_format::geometry::Geometry;
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::superblock::Superblock;
use paxfs_format::volume::Volume;

/// How badly a superblock fits the volume: faults of its own, of the first group headers, and of the first group's space.
pub(crate) fn misfit(device: &Device, superblock: &Superblock, geometry: Geometry) -> u64 {
    let mut faults = crate::superblocks::field_faults(superblock).len() as u64;
    if superblock.understood().is_err() {
        return u64::MAX;
    }
    let volume = Volume::new(Image::new(device), *superblock, geometry);
    let count = |ok: bool| u64::from(!ok);
    faults =
        geometry.group_numbers().take(4).fold(faults, |sum, group| sum + count(volume.group(group).is_ok()));
    let root = volume.inode(superblock.root.get());
    faults += count(root.is_ok_and(|root| root.mode.get() >> 12 == 4));
    let mut findings = Vec::new();
    let (groups, _) = groups::open(&volume, u64::MAX, &mut findings);
    let check = new_check(&volume, groups);
    groups::check_unexpected(&check, &mut findings);
    let mut env = Env::new(&check, true);
    if let Some(group) = check.groups.first() {
        groups::index(&mut env, group);
        crate::space::check(&mut env, group, GroupTree::Rmap);
        let proof = *locked(&group.space);
        faults += count(proof.roles_found == proof.roles_expected || !check.rmap());
    }
    faults + (findings.len() + env.findings.len()) as u64
}
