//! Inputs without feedback: the n-th of a seed, always the same.

use crate::samples::{Sample, samples};
use crate::{damage, engine, field_path, image_check, journal_replay, recipe};
use fastrand::Rng;
use std::sync::OnceLock;

/// A target, and where its inputs come from.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, that of the function.
    pub name: &'static str,
    /// What it is.
    pub run: fn(&[u8]),
    /// An input.
    make: fn(&mut Rng) -> Vec<u8>,
    /// Inputs that show it the way.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target { name: "image_check", run: image_check, make: image, seeds: no_seeds },
    Target { name: "journal_replay", run: journal_replay, make: journal, seeds: journals },
    Target { name: "field_path", run: field_path, make: path, seeds: paths },
    Target { name: "recipe", run: recipe, make: yaml, seeds: recipes },
    Target { name: "engine", run: engine, make: opened, seeds: no_seeds },
];

/// Single damages of small volumes; [`crate::image_check`] takes them.
pub const DAMAGE: Target = Target { name: "damage", run: image_check, make: single_damage, seeds: no_seeds };

impl Target {
    /// The target of that name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().chain([DAMAGE]).find(|target| target.name == name)
    }

    /// Input number `number` of a seed.
    pub fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        // Numbers next to each other have to give inputs that have nothing in common: the generator's first output is
        // thrown away and mixed in.
        let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = rng.u64(..);
        (self.make)(&mut Rng::with_seed(mixed))
    }
}

fn no_seeds() -> Vec<Vec<u8>> {
    Vec::new()
}

fn random(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.u8(..)).collect()
}

/// Any number of damages, or any bytes at all.
fn image(rng: &mut Rng) -> Vec<u8> {
    let length = if rng.u8(..) == 0 { rng.usize(..20_000) } else { rng.usize(..400) };
    random(rng, length)
}

/// Few damages, so that the volume can be opened, or as for [`image`].
fn opened(rng: &mut Rng) -> Vec<u8> {
    if rng.u8(..4) == 0 { image(rng) } else { single_damage(rng) }
}

/// One damage of a sample, half of them of a single field, half of bytes.
fn single_damage(rng: &mut Rng) -> Vec<u8> {
    let kind = if rng.bool() { damage::FIELD } else { damage::BYTES };
    // Which sample, not cut short, the damage, and what it draws.
    let mut bytes = vec![rng.u8(..15), 0, kind];
    let length = rng.usize(14..20);
    bytes.extend(random(rng, length));
    bytes
}

fn journal(rng: &mut Rng) -> Vec<u8> {
    mutated(rng, &journals())
}

fn path(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = if rng.u8(..4) > 0 { structure(rng).unwrap_or_default() } else { mutated(rng, &paths()) };
    if rng.bool() {
        bytes = mutated(rng, &[bytes]);
    }
    bytes
}

/// The path of a structure of a sample.
fn structure(rng: &mut Rng) -> Option<Vec<u8>> {
    let sample: &Sample = rng.choice(samples())?;
    let kind = rng.choice(&sample.structures)?;
    let target = rng.choice(kind)?;
    Some(target.text.clone().into_bytes())
}

fn yaml(rng: &mut Rng) -> Vec<u8> {
    mutated(rng, &recipes())
}

/// Journals of committed transactions.
fn journals() -> Vec<Vec<u8>> {
    static JOURNALS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    JOURNALS.get_or_init(crate::samples::journals).clone()
}

/// Paths, values, verbs.
fn paths() -> Vec<Vec<u8>> {
    [
        "sb.uuid\n00112233-4455-6677-8899-aabbccddeeff\nfirstbit\nkeep",
        "rmap[0].leaf[0].rec[1].owner\n0x1234\nadd\nfix",
        "inode[/a/b].attributes.entry[0].name\n\"x\\x00y\"\nrandom:7\nbreak",
        "inode[/a/b\\].c].extents.rec[0].flags\nunwritten|0x8\nsub\nfix",
        "journal.slot[1].rec[0].data[0..64]\n00\nones\nfix",
        "refcount[1].root.header.magic\n\"PAXF\"\nzeroes\nbreak",
        "block[18].inode[3].mode\n0o100644\nmiddlebit\nkeep",
        "free[0].node[1][0].rec[0].high\n-1\nlastbit\nfix",
        "sb.devices[0].role\nmirror\nadd\nfix",
        "sum[500].state\nsealed\nsub\nkeep",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Recipes of all that they can say.
fn recipes() -> Vec<Vec<u8>> {
    crate::samples::RECIPES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}

/// Values that are worth trying in numbers of 1, 4 and 8 bytes.
const EDGES: [u64; 10] = [0, 1, 7, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 51, u64::MAX];

/// A seed with a few changes.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.usize(..8) {
        change(rng, &mut bytes, seeds);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..8) {
        0 => bytes.truncate(at),
        1 => {
            let count = rng.usize(1..9);
            let new = random(rng, count);
            bytes.splice(at..at, new);
        }
        2 => {
            let end = rng.usize(at..=bytes.len());
            bytes.drain(at..end.min(at + 64));
        }
        3 => {
            let edge = rng.choice(EDGES).unwrap_or(0).to_le_bytes();
            let size = rng.choice([1, 2, 4, 8]).unwrap_or(1);
            bytes.iter_mut().skip(at).zip(edge).take(size).for_each(|(to, from)| *to = from);
        }
        4 => {
            // A part of another seed in place of one of the same length.
            let other = rng.choice(seeds).map(Vec::as_slice).unwrap_or_default();
            let from = rng.usize(..=other.len());
            let part = other.iter().skip(from).take(rng.usize(..64));
            bytes.iter_mut().skip(at).zip(part).for_each(|(to, from)| *to = *from);
        }
        5 => {
            // A part of itself again.
            let part: Vec<u8> = bytes.iter().skip(at).take(rng.usize(..64)).copied().collect();
            let at = rng.usize(..=bytes.len());
            bytes.splice(at..at, part);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but `image_check`, which has the tools print what they find.
    #[test]
    fn targets_take_their_seeds_and_some_inputs() {
        for target in TARGETS.into_iter().filter(|target| target.name != "image_check") {
            (target.seeds)().iter().for_each(|seed| (target.run)(seed));
            (0..30).for_each(|number| (target.run)(&target.input(1, number)));
        }
    }

    #[test]
    fn inputs_follow_from_seed_and_number() {
        for target in TARGETS.into_iter().chain([DAMAGE]) {
            assert_eq!(target.input(1, 7), target.input(1, 7));
            let different =
                (0..20).filter(|&number| target.input(1, number) != target.input(2, number)).count();
            assert!(different > 10, "{}", target.name);
        }
    }
}
