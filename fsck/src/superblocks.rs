//! Pass 1: the superblock, its copies, and which of them to believe.

use crate::error::Error;
use crate::finding::Finding;
use crate::problem::Problem;
use crate::structures::structure_field;
use paxfs_format::blocks::Blocks;
use paxfs_format::declare::OnDisk;
use paxfs_format::field::diff::{Difference, diff};
use paxfs_format::geometry::Geometry;
use paxfs_format::image::Image;
use paxfs_format::superblock::{DeviceEntry, DeviceRole, State, Superblock};
use paxfs_format::volume::{Found, Refusal, StructureFault, find, find_in_group, read_superblock};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

/// The superblock to begin with.
pub(crate) fn open(image: &Image<'_>, group: Option<u32>) -> Result<Found, Error> {
    match group {
        None => Ok(find(image)?),
        Some(0) => {
            let found = read_superblock(image, 0);
            let (superblock, geometry) =
                found.map_err(|fault| Error::NoCopy { group: 0, fault: Some(fault) })?;
            Ok(Found { superblock, geometry, block: 0, primary_fault: None })
        }
        Some(group) => {
            let found = find_in_group(image, group).ok_or(Error::NoCopy { group, fault: None })?;
            Ok(Found { primary_fault: read_superblock(image, 0).err(), ..found })
        }
    }
}

/// Path of the superblock in a group.
fn path(group: u32) -> String {
    if group == 0 { "sb".to_owned() } else { format!("sb[{group}]") }
}

/// The superblocks that are intact, by what they say.
struct Votes {
    /// By the hash of what they say: who says so first, how many do, what exactly.
    camps: BTreeMap<u64, Camp>,
    faults: Vec<(u32, StructureFault)>,
}

struct Camp {
    first: u32,
    voters: Vec<u32>,
    superblock: Superblock,
    geometry: Geometry,
}

/// What a superblock says, without what differs between copies; `clean` says whether the volume was closed.
fn essence(superblock: &Superblock, clean: bool) -> u64 {
    let mut plain = *superblock;
    plain.header.place = 0.into();
    plain.header.crc = 0.into();
    if !clean {
        // Copies are brought up to date when the volume is closed, before block 0: they may be older or newer.
        let (state, generation) = (State::new(0), 0.into());
        plain.header.generation = generation;
        plain.state = state;
        plain.written = superblock.made;
        plain.checked = superblock.made.seconds;
    }
    xxh3_64(plain.as_bytes())
}

/// Whether two superblocks say the same of the volume, and may differ only in what changes while it is used.
pub(crate) fn says_the_same(one: &Superblock, other: &Superblock) -> bool {
    essence(one, false) == essence(other, false)
}

fn votes(image: &Image<'_>, geometry: &Geometry, clean: bool) -> Votes {
    let mut votes = Votes { camps: BTreeMap::new(), faults: Vec::new() };
    for group in geometry.group_numbers() {
        let block = geometry.superblock(group);
        if block >= image.blocks() {
            break;
        }
        match read_superblock(image, block) {
            Ok((superblock, geometry)) => {
                let camp = votes.camps.entry(essence(&superblock, clean));
                let camp = camp.or_insert(Camp { first: group, voters: Vec::new(), superblock, geometry });
                camp.voters.push(group);
            }
            Err(fault) => votes.faults.push((group, fault)),
        }
    }
    votes
}

/// Compares all copies with the superblock found, and gives the one to believe. `fits` tells how badly a superblock fits
/// the volume: the number of faults that show when it is believed.
pub(crate) fn elect(
    image: &Image<'_>,
    found: Found,
    chosen: bool,
    fits: &dyn Fn(&Superblock, Geometry) -> u64,
    findings: &mut Vec<Finding>,
) -> Found {
    let clean = found.superblock.is_clean();
    let votes = votes(image, &found.geometry, clean);
    let mine = essence(&found.superblock, clean);
    let elected = if chosen || votes.camps.len() < 2 { None } else { best(&votes, fits) };
    let elected = elected.filter(|camp| essence(&camp.superblock, clean) != mine);
    let found = match elected {
        Some(camp) => Found {
            superblock: camp.superblock,
            geometry: camp.geometry,
            block: camp.geometry.superblock(camp.first),
            primary_fault: found.primary_fault,
        },
        None => found,
    };
    report(&votes, &found, findings);
    found
}

/// The camp that fits the volume best; of equals, that of the block in use, else the larger one.
fn best<'v>(votes: &'v Votes, fits: &dyn Fn(&Superblock, Geometry) -> u64) -> Option<&'v Camp> {
    let most = votes.camps.values().map(|camp| camp.voters.len()).max().unwrap_or(0);
    let majority = votes
        .camps
        .values()
        .find(|camp| camp.voters.len() * 2 > votes.camps.values().map(|c| c.voters.len()).sum());
    if let Some(camp) = majority.filter(|_| most > 2) {
        return Some(camp);
    }
    votes.camps.values().min_by_key(|camp| {
        (fits(&camp.superblock, camp.geometry), core::cmp::Reverse(camp.voters.len()), camp.first)
    })
}

fn report(votes: &Votes, found: &Found, findings: &mut Vec<Finding>) {
    let copy = found.geometry.locate(found.block).map_or(0, |place| u64::from(place.group));
    if let Some(fault) = &found.primary_fault {
        let at = format!("sb{}", structure_field(fault));
        findings.push(Finding::new(at, Problem::SuperblockDamaged { fault: fault.to_string(), copy }));
    }
    for (group, fault) in &votes.faults {
        let known = *group == 0 && found.primary_fault.is_some();
        if !known {
            let at = format!("{}{}", path(*group), structure_field(fault));
            let problem = Problem::SuperblockCopyDamaged { group: *group, fault: fault.to_string() };
            findings.push(Finding::new(at, problem));
        }
    }
    let clean = found.superblock.is_clean();
    let mine = essence(&found.superblock, clean);
    for camp in votes.camps.values() {
        if essence(&camp.superblock, clean) == mine {
            continue;
        }
        for difference in differences(&camp.superblock, &found.superblock, clean) {
            for group in &camp.voters {
                let at = format!("{}.{}", path(*group), difference.path);
                let Difference { path: field, left, right } = difference.clone();
                let problem = Problem::SuperblockDiffers { field, found: left, expected: right };
                findings.push(Finding::new(at, problem));
            }
        }
    }
}

/// Fields in which two superblocks differ that should be alike.
fn differences(left: &Superblock, right: &Superblock, clean: bool) -> Vec<Difference> {
    let own = ["header.place", "header.crc"];
    let late = ["header.generation", "state", "written.seconds", "written.nanoseconds", "checked"];
    let mut all = diff(&Superblock::LAYOUT, left.as_bytes(), right.as_bytes());
    all.retain(|one| !own.contains(&one.path.as_str()) && (clean || !late.contains(&one.path.as_str())));
    all
}

/// Fields of a superblock that cannot be as they are: (field, value, reason).
pub(crate) fn field_faults(superblock: &Superblock) -> Vec<(String, String, &'static str)> {
    let mut faults = Vec::new();
    let mut fault = |wrong: bool, field: &str, value: String, reason| {
        if wrong {
            faults.push((field.to_owned(), value, reason));
        }
    };
    if let Some(field) = Superblock::LAYOUT.reserved_not_zero(superblock.as_bytes()) {
        fault(true, &field, "not zero".to_owned(), "reserved bytes are zero");
    }
    let header = &superblock.header;
    fault(header.level.get() != 0, "header.level", header.level.get().to_string(), "a superblock has none");
    fault(header.count.get() != 0, "header.count", header.count.get().to_string(), "a superblock has none");
    fault(header.generation.get() == 0, "header.generation", "0".to_owned(), "transactions count from 1");
    let label = superblock.label.as_bytes_trimmed();
    let padded = superblock.label.as_bytes().iter().skip(label.len()).all(|&byte| byte == 0);
    fault(!padded, "label", "unpadded".to_owned(), "zeros follow its end");
    fault(core::str::from_utf8(label).is_err(), "label", "no UTF-8".to_owned(), "labels are UTF-8");
    let times = [("made", superblock.made), ("written", superblock.written)];
    for (field, time) in times {
        let value = time.nanoseconds.get().to_string();
        fault(!time.is_valid(), &format!("{field}.nanoseconds"), value, "a second has fewer");
    }
    let count = superblock.device_count.get();
    let devices = superblock.devices.len() as u64;
    let fine = (1..=devices).contains(&u64::from(count));
    fault(!fine, "device_count", count.to_string(), "a volume has 1 to 16 devices");
    let device = superblock.device.get();
    fault(fine && device >= count, "device", device.to_string(), "there is no such device in the table");
    if fine {
        let mut sum = 0u64;
        for (i, entry) in (0u32..).zip(&superblock.devices) {
            if i < count {
                sum = sum.saturating_add(entry.blocks.get());
                let role = entry.role;
                let field = format!("devices[{i}].role");
                fault(role != DeviceRole::DATA, &field, role.get().to_string(), "a device in use holds data");
            } else if *entry != DeviceEntry::zeroed() {
                fault(true, &format!("devices[{i}]"), "not zero".to_owned(), "entries not in use are zero");
            }
        }
        let wrong = sum != superblock.blocks.get();
        fault(wrong, "devices[0].blocks", sum.to_string(), "the devices have the volume's blocks");
    }
    faults
}

/// What is wrong with the fields of the superblock that is believed.
pub(crate) fn check_fields(found: &Found, findings: &mut Vec<Finding>) {
    let group = found.geometry.locate(found.block).map_or(0, |place| place.group);
    for (field, value, reason) in field_faults(&found.superblock) {
        let at = format!("{}.{field}", path(group));
        let problem = Problem::SuperblockField { field, found: value, reason: reason.to_owned() };
        findings.push(Finding::new(at, problem));
    }
    let state = found.superblock.state.get();
    let known = State::CLEAN | State::ERRORS;
    if state & !known != 0 {
        findings.push(Finding::new(format!("{}.state", path(group)), Problem::StateUnknown { state }));
    } else if state & State::ERRORS != 0 {
        findings.push(Finding::new(format!("{}.state", path(group)), Problem::ErrorsNoted { state }));
    }
}

/// Whether the volume is one that this release can check.
pub(crate) fn check_features(found: &Found, findings: &mut Vec<Finding>) -> Result<(), Refusal> {
    let understood = found.superblock.understood();
    if let Err(refusal) = &understood {
        let group = found.geometry.locate(found.block).map_or(0, |place| place.group);
        let (field, problem) = match refusal {
            Refusal::Incompatible(bits) => {
                ("incompatible", Problem::UnknownFeatures { class: "incompatible".to_owned(), bits: *bits })
            }
            Refusal::ReadOnly(bits) => {
                let class = "read-only-compatible".to_owned();
                ("read_only_compatible", Problem::UnknownFeatures { class, bits: *bits })
            }
            Refusal::ReflinkWithoutRmap => {
                let features = found.superblock.read_only_compatible.get();
                ("read_only_compatible", Problem::ReflinkWithoutRmap { features })
            }
        };
        findings.push(Finding::new(format!("{}.{field}", path(group)), problem));
    }
    understood
}
