//! What becomes of an intact volume: damages as bytes say, one after the other.
//!
//! A damage of a *field* takes any structure of the volume by its path, any field of that, one of the verbs, and what to
//! do with the checksum over it. The others know no structure: bytes somewhere, blocks written to the wrong place, blocks
//! lost, a device cut short.

use crate::draw::Draw;
use crate::samples::Sample;
use paxfs_format::device::Device;
use paxfs_format::field::edit::Verb;
use paxfs_format::field::path::FieldRef;
use paxfs_format::geometry::{BLOCK_BYTES, BLOCK_SIZE};
use paxfs_format::header::Seed;
use paxfs_format::path::{Change, Csum, Target, edit};

/// Most damages of one input: it is what they do, not how many, that counts.
const DAMAGES_MAX: usize = 16;
/// Most bytes that one damage stores.
const BYTES_MAX: u64 = 64;

/// The kinds of damage, by the number that chooses one.
pub const FIELD: u8 = 0;
/// Bytes somewhere in what is in use.
pub const BYTES: u8 = 1;

/// A sample with damages as bytes say, and what they were, for a person.
pub fn damaged(sample: &Sample, draw: &mut Draw<'_>) -> (Device, Vec<String>) {
    let mut done = Vec::new();
    let mut length = sample.length();
    // One in sixteen is cut short.
    if draw.byte() & 15 == 15 {
        length = draw.below(length);
        done.push(format!("cut to {length} bytes"));
    }
    let mut device = sample.device(length);
    while !draw.is_empty() && done.len() < DAMAGES_MAX {
        let what = match draw.byte() & 7 {
            FIELD | 2 | 3 | 4 => field(sample, &mut device, draw),
            BYTES | 5 => some_bytes(sample, &mut device, draw),
            6 => misdirected(sample, &mut device, draw),
            _ => lost(sample, &mut device, draw),
        };
        done.push(what.unwrap_or_else(|| "nothing".to_owned()));
    }
    (device, done)
}

/// One field of one structure.
fn field(sample: &Sample, device: &mut Device, draw: &mut Draw<'_>) -> Option<String> {
    let kind = draw.pick(&sample.structures)?;
    let target = leaf(draw.pick(kind)?.clone(), draw)?;
    let verb = match draw.pick(&Verb::ALL).copied()? {
        Verb::Random(_) => Verb::Random(draw.number()),
        verb => verb,
    };
    let csum = draw.pick(&[Csum::Fix, Csum::Fix, Csum::Keep, Csum::Break]).copied()?;
    edit(device, sample.seed, &target, &Change::Do(verb), csum).ok()?;
    Some(format!("{} {verb}, checksum {csum}", target.text))
}

/// A field of a structure that is no structure itself, nor an array of them.
fn leaf(structure: Target, draw: &mut Draw<'_>) -> Option<Target> {
    let mut target = structure;
    loop {
        let whole = FieldRef { offset: 0, kind: target.kind, name: String::new(), doc: target.doc };
        let children = whole.children();
        let Some(child) = draw.pick(&children) else { return Some(target) };
        let dot = if target.text.is_empty() || child.name.starts_with('[') { "" } else { "." };
        target = Target {
            offset: target.offset.checked_add(u64::try_from(child.offset).ok()?)?,
            kind: child.kind,
            doc: child.doc,
            seal: target.seal,
            text: format!("{}{dot}{}", target.text, child.name),
        };
    }
}

/// A few bytes of a block that is in use; one in four with the block's checksum made to fit.
fn some_bytes(sample: &Sample, device: &mut Device, draw: &mut Draw<'_>) -> Option<String> {
    let block = *draw.pick(&sample.used)?;
    let within = draw.below(BLOCK_BYTES);
    let count = usize::try_from(1 + draw.below(BYTES_MAX)).ok()?;
    let fix = draw.byte() & 3 == 0;
    let new = draw.bytes(count);
    let offset = block.checked_mul(BLOCK_BYTES)?.checked_add(within)?;
    let length = new.len().min(usize::try_from(BLOCK_BYTES - within).ok()?);
    device.bytes_mut(offset, length).ok()?.copy_from_slice(new.get(..length)?);
    if fix {
        reseal(sample.seed, device.bytes_mut(block * BLOCK_BYTES, BLOCK_SIZE).ok()?, within);
    }
    let checksum = if fix { ", checksum fixed" } else { "" };
    Some(format!("{length} bytes at byte {within} of block {block}{checksum}"))
}

/// Makes a checksum fit: of the inode at a byte of the block if the block begins with one, else of the block.
fn reseal(seed: Seed, block: &mut [u8], within: u64) {
    const INODE: [u8; 2] = [15, 0];
    let slot = usize::try_from(within / 512 * 512).unwrap_or(0);
    let of_inodes = block.get(8..10) == Some(&INODE);
    let structure = if of_inodes { block.get_mut(slot..slot + 512) } else { Some(block) };
    if let Some(structure) = structure {
        seed.seal(structure);
    }
}

/// A block of the volume over another one.
fn misdirected(sample: &Sample, device: &mut Device, draw: &mut Draw<'_>) -> Option<String> {
    let (from, to) = (*draw.pick(&sample.used)?, *draw.pick(&sample.used)?);
    let bytes = *device.block(from).ok()?;
    device.bytes_mut(to.checked_mul(BLOCK_BYTES)?, BLOCK_SIZE).ok()?.copy_from_slice(&bytes);
    Some(format!("block {from} written over block {to}"))
}

/// Blocks from one in use on, all of one byte.
fn lost(sample: &Sample, device: &mut Device, draw: &mut Draw<'_>) -> Option<String> {
    let (block, count) = (*draw.pick(&sample.used)?, 1 + draw.below(8));
    let byte = *draw.pick(&[0, 0, 0xff, 0x55])?;
    let count = count.min(device.len() / BLOCK_BYTES - block.min(device.len() / BLOCK_BYTES));
    let length = usize::try_from(count.checked_mul(BLOCK_BYTES)?).ok()?;
    device.bytes_mut(block.checked_mul(BLOCK_BYTES)?, length).ok()?.fill(byte);
    Some(format!("{count} blocks from {block} on filled with {byte:#04x}"))
}
