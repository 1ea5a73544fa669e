//! What is in one of two big sets and not in the other, in little memory: only asked when a proof has failed.
//!
//! The sets are enumerated again. A first time each element is counted into one of [`BUCKETS`] buckets by its hash, with
//! a sum for each side. Buckets with equal sums hold the same elements, and are left out from then on. A second time the
//! elements of the other buckets are kept, sorted by hash, and those on both sides fall away. When that would be too
//! many at once, it is done for some of the buckets after the other. So memory follows the differences, not the sets.

use crate::context::locked;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const BUCKETS: usize = 4096;
/// Elements kept at once.
const ROOM: u64 = 1 << 18;
/// Differences listed at most.
const MOST: usize = 1 << 20;

/// Which of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// What is on one side only.
#[derive(Debug)]
pub(crate) struct Differences<T> {
    pub left: Vec<T>,
    pub right: Vec<T>,
    /// There are more.
    pub cut: bool,
}

/// Told of every element of both sets, by any thread.
pub(crate) type Take<'t, T> = &'t (dyn Fn(Side, u128, T) + Sync);

#[derive(Debug, Default)]
struct Bucket {
    left: AtomicU64,
    right: AtomicU64,
    count: AtomicU64,
}

/// The bucket of an element.
fn bucket_of(hash: u128) -> usize {
    usize::try_from(hash % BUCKETS as u128).unwrap_or(0)
}

/// What a sum adds of an element: bits that do not choose the bucket.
fn addend(hash: u128) -> u64 {
    u64::try_from(hash >> 64).unwrap_or(0)
}

/// The differences of the two sets that `scan` enumerates, the same ones each time it is called.
pub(crate) fn differences<T: Copy + Send>(scan: impl Fn(Take<'_, T>)) -> Differences<T> {
    let buckets: Vec<Bucket> = (0..BUCKETS).map(|_| Bucket::default()).collect();
    scan(&|side, hash, _| {
        let Some(bucket) = buckets.get(bucket_of(hash)) else { return };
        let sum = if side == Side::Left { &bucket.left } else { &bucket.right };
        sum.fetch_add(addend(hash), Ordering::Relaxed);
        bucket.count.fetch_add(1, Ordering::Relaxed);
    });
    let differing = buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| bucket.left.load(Ordering::Relaxed) != bucket.right.load(Ordering::Relaxed));
    let mut rounds: Vec<Vec<bool>> = Vec::new();
    let mut room = 0;
    for (number, bucket) in differing {
        let count = bucket.count.load(Ordering::Relaxed);
        if room < count || rounds.is_empty() {
            rounds.push(vec![false; BUCKETS]);
            room = ROOM;
        }
        room = room.saturating_sub(count);
        if let Some(chosen) = rounds.last_mut().and_then(|round| round.get_mut(number)) {
            *chosen = true;
        }
    }
    let mut found = Differences { left: Vec::new(), right: Vec::new(), cut: false };
    for round in rounds {
        if found.left.len().max(found.right.len()) >= MOST {
            found.cut = true;
            break;
        }
        one_round(&scan, &round, &mut found);
    }
    found
}

fn one_round<T: Copy + Send>(scan: &impl Fn(Take<'_, T>), round: &[bool], found: &mut Differences<T>) {
    let kept: Mutex<[Vec<(u128, T)>; 2]> = Mutex::new([Vec::new(), Vec::new()]);
    scan(&|side, hash, element| {
        if round.get(bucket_of(hash)).copied().unwrap_or(false) {
            let [left, right] = &mut *locked(&kept);
            (if side == Side::Left { left } else { right }).push((hash, element));
        }
    });
    let [mut left, mut right] = core::mem::take(&mut *locked(&kept));
    left.sort_unstable_by_key(|(hash, _)| *hash);
    right.sort_unstable_by_key(|(hash, _)| *hash);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some((one, _)), Some((other, _))) if one == other => {
                left.next();
                right.next();
            }
            (Some((one, _)), Some((other, _))) if one > other => {
                found.right.extend(right.next().map(|(_, element)| element));
            }
            (Some(_), _) => found.left.extend(left.next().map(|(_, element)| element)),
            (None, Some(_)) => found.right.extend(right.next().map(|(_, element)| element)),
            (None, None) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiset::Key;

    fn of(left: &[u64], right: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let key = Key::random();
        let mut found = differences(|take: Take<'_, u64>| {
            left.iter().for_each(|element| take(Side::Left, key.hash(element), *element));
            right.iter().for_each(|element| take(Side::Right, key.hash(element), *element));
        });
        found.left.sort_unstable();
        found.right.sort_unstable();
        (found.left, found.right)
    }

    #[test]
    fn only_differences_are_left() {
        let all: Vec<u64> = (0..100_000).collect();
        let mut most = all.clone();
        most.swap(0, 99_999);
        most.retain(|element| *element != 77_777);
        most.push(123_456);
        assert_eq!(of(&all, &most), (vec![77_777], vec![123_456]));
        assert_eq!(of(&[1, 1, 2], &[1, 2]), (vec![1], vec![]));
        assert_eq!(of(&[], &[]), (vec![], vec![]));
    }

    #[test]
    fn what_does_not_fit_at_once_comes_in_rounds() {
        let all: Vec<u64> = (0..400_000).collect();
        assert_eq!(of(&all, &[]).0.len(), 400_000);
    }
}
