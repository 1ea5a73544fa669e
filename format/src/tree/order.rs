//! Which keys of a node are out of line.
//!
//! A single wrong key must not make all later ones wrong. So the fewest are blamed whose removal leaves the others
//! ascending: those outside of a longest ascending subsequence (found by patience sorting, Fredman 1975). Of two in the
//! wrong order mostly either could be the wrong one: then both are in doubt.

use crate::record::Key;

/// A set of positions in one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks([u64; Marks::WORDS]);

impl Marks {
    const WORDS: usize = 8;

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    pub(super) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }
}

// The smallest records there are must fit the set.
const _: () = assert!(crate::node::NODE_BODY / 8 <= Marks::WORDS * 64);

/// For each key, whether it is beyond doubt: in *every* longest strictly ascending subsequence of them.
pub(super) fn beyond_doubt(keys: &[Key]) -> Vec<bool> {
    let up = runs(keys.iter(), |end, key| end < key);
    let mut down = runs(keys.iter().rev(), |end, key| end > key);
    down.reverse();
    let longest = up.iter().copied().max().unwrap_or(0);
    // A key has the same place in all the longest ones that it is in. Alone at its place, it is in all there are.
    let place = |(&up, &down): (&usize, &usize)| (up + down - 1 == longest).then_some(up);
    let places: Vec<Option<usize>> = up.iter().zip(&down).map(place).collect();
    let mut rivals = vec![0; longest + 1];
    for place in places.iter().flatten() {
        rivals.get_mut(*place).into_iter().for_each(|count| *count += 1);
    }
    places.iter().map(|place| place.is_some_and(|place| rivals.get(place) == Some(&1))).collect()
}

/// For each key, the length of the longest run, in the order of `before`, that ends with it.
fn runs<'k>(keys: impl Iterator<Item = &'k Key>, before: impl Fn(&Key, &Key) -> bool) -> Vec<usize> {
    // The best last key of a run of each length.
    let mut ends: Vec<Key> = Vec::new();
    let longest_with = |key: &Key| {
        let shorter = ends.partition_point(|end| before(end, key));
        match ends.get_mut(shorter) {
            Some(end) => *end = *key,
            None => ends.push(*key),
        }
        shorter + 1
    };
    keys.map(longest_with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubted(starts: &[u64]) -> Vec<usize> {
        let keys: Vec<Key> = starts.iter().copied().map(Key::at).collect();
        let sure = beyond_doubt(&keys);
        (0..keys.len()).filter(|index| !sure.get(*index).copied().unwrap_or_default()).collect()
    }

    #[test]
    fn one_wrong_key_is_the_one_in_doubt() {
        assert_eq!(doubted(&[]), [0_usize; 0]);
        assert_eq!(doubted(&[1, 2, 3]), [0_usize; 0]);
        assert_eq!(doubted(&[1, 9, 3, 4]), [1]);
        assert_eq!(doubted(&[5, 6, 7, 1, 8]), [3]);
        assert_eq!(doubted(&[5, 6, 7, 8, 1, 2]), [4, 5]);
    }

    #[test]
    fn of_two_in_the_wrong_order_both_are_in_doubt() {
        assert_eq!(doubted(&[1, 3, 2, 4]), [1, 2]);
        assert_eq!(doubted(&[1, 2, 2, 4]), [1, 2]);
        assert_eq!(doubted(&[2, 1]), [0, 1]);
    }

    #[test]
    fn marks_hold_every_position_of_a_node() {
        let mut marks = Marks::default();
        for index in [0, 63, 64, 506] {
            assert!(!marks.contains(index));
            marks.insert(index);
            assert!(marks.contains(index));
        }
        assert!(!marks.contains(1) && !marks.contains(100_000));
    }
}
