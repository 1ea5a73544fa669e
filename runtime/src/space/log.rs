//! What the trees of a group have yet to follow.

/// The last word on each key. Saying something costs a push; what was said twice is thrown out now and then.
#[derive(Debug, Clone)]
pub(super) struct Log<K, V> {
    said: Vec<(K, V)>,
    /// Length at which it is put in order again.
    limit: usize,
}

const LIMIT_MIN: usize = 1024;

impl<K, V> Default for Log<K, V> {
    fn default() -> Self {
        Log { said: Vec::new(), limit: LIMIT_MIN }
    }
}

impl<K: Ord + Copy, V> Log<K, V> {
    /// Keys, at least as many as there are.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Says what is to be at a key.
    pub fn say(&mut self, key: K, value: V) {
        match self.said.last_mut() {
            Some((last, there)) if *last == key => *there = value,
            _ => self.said.push((key, value)),
        }
        if self.said.len() >= self.limit {
            self.order();
            self.limit = (2 * self.said.len()).max(LIMIT_MIN);
        }
    }

    fn order(&mut self) {
        // Of equal keys the last to be said comes first, and stays.
        self.said.reverse();
        self.said.sort_by_key(|(key, _)| *key);
        self.said.dedup_by_key(|(key, _)| *key);
    }

    /// What was said, in that order: of a key the last counts.
    pub fn said(&self) -> impl Iterator<Item = &(K, V)> {
        self.said.iter()
    }

    /// All that was said, each key once, ascending; nothing is said afterwards.
    pub fn take(&mut self) -> Vec<(K, V)> {
        self.order();
        self.limit = LIMIT_MIN;
        core::mem::take(&mut self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_last_word_counts(said in proptest::collection::vec((0..3000_u32, any::<u8>()), 0..6000)) {
            let (mut log, mut map) = (Log::default(), BTreeMap::new());
            for (key, value) in said {
                log.say(key, value);
                map.insert(key, value);
                prop_assert!(log.len() >= map.len());
            }
            prop_assert_eq!(log.take(), map.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(log.len(), 0);
        }
    }
}
