//! Which keys of a node are out of line.
//!
//! A single wrong key must not make all later ones wrong. So the keys to blame are the fewest whose removal leaves the
//! others ascending: those outside of a longest ascending subsequence (patience sorting, Fredman 1975).

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

/// Positions of a longest strictly ascending subsequence, ascending.
pub(super) fn longest_ascending(keys: &[(usize, Key)]) -> Vec<usize> {
    // `ends[n]` ends the ascending run of n + 1 keys whose last key is lowest; `before` leads back along each run.
    let mut ends: Vec<(usize, Key)> = Vec::new();
    let mut before = Vec::with_capacity(keys.len());
    for (position, (_, key)) in keys.iter().enumerate() {
        let length = ends.partition_point(|(_, end)| end < key);
        before
            .push(length.checked_sub(1).and_then(|shorter| ends.get(shorter)).map(|(position, _)| *position));
        match ends.get_mut(length) {
            Some(end) => *end = (position, *key),
            None => ends.push((position, *key)),
        }
    }
    let last = ends.last().map(|(position, _)| *position);
    let mut run: Vec<usize> =
        std::iter::successors(last, |position| before.get(*position).copied().flatten())
            .filter_map(|position| keys.get(position).map(|(index, _)| *index))
            .collect();
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending(starts: &[u64]) -> Vec<usize> {
        let keys: Vec<_> = starts.iter().map(|start| Key::at(*start)).enumerate().collect();
        longest_ascending(&keys)
    }

    #[test]
    fn one_wrong_key_is_the_one_left_out() {
        assert_eq!(ascending(&[]), []);
        assert_eq!(ascending(&[1, 2, 3]), [0, 1, 2]);
        assert_eq!(ascending(&[1, 9, 3, 4]), [0, 2, 3]);
        assert_eq!(ascending(&[5, 6, 1, 7]), [0, 1, 3]);
        assert_eq!(ascending(&[5, 6, 7, 8, 1, 2]), [0, 1, 2, 3]);
        assert_eq!(ascending(&[4, 4, 4]).len(), 1);
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
