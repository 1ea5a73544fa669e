//! What files of recipes hold. Every byte follows from its place in the file, so that parts can be made in any order.

/// A pattern of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Bytes that no compressor likes: word `w` (eight bytes, little-endian) is the `w`-th output of SplitMix64 whose
    /// state begins at the finalized seed.
    Random(u64),
    /// One byte.
    Fill(u8),
    /// These, then zeros.
    Literal(Vec<u8>),
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number of `from..=to` that follows from a seed and the number of a repetition.
pub(super) fn within(from: u64, to: u64, seed: u64, i: u64) -> u64 {
    let random = mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(i.wrapping_mul(GOLDEN)));
    match (to - from).checked_add(1) {
        Some(span) => from + random % span,
        None => random,
    }
}

impl Pattern {
    /// Whether it is zeros throughout.
    pub(super) fn is_zero(&self) -> bool {
        *self == Pattern::Fill(0)
    }

    /// The bytes of the file from byte `offset` on (a multiple of 8); zeros behind its `size`.
    pub(super) fn write(&self, offset: u64, size: u64, out: &mut [u8]) {
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (bytes, tail) = out.split_at_mut(length);
        tail.fill(0);
        match self {
            Pattern::Fill(byte) => bytes.fill(*byte),
            Pattern::Random(seed) => {
                let mut state =
                    mix(seed.wrapping_add(GOLDEN)).wrapping_add((offset / 8).wrapping_mul(GOLDEN));
                for word in bytes.chunks_mut(8) {
                    state = state.wrapping_add(GOLDEN);
                    let random = mix(state).to_le_bytes();
                    match word.first_chunk_mut::<8>() {
                        Some(word) => *word = random,
                        None => word.iter_mut().zip(random).for_each(|(to, from)| *to = from),
                    }
                }
            }
            Pattern::Literal(literal) => {
                let from =
                    usize::try_from(offset).ok().and_then(|offset| literal.get(offset..)).unwrap_or_default();
                bytes.fill(0);
                bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// So many bytes, from the start.
    pub(super) fn bytes(&self, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.write(0, size, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole() {
        for pattern in
            [Pattern::Random(7), Pattern::Fill(3), Pattern::Literal(b"some words that are long".to_vec())]
        {
            let whole = pattern.bytes(20_000);
            for (offset, length) in [(0, 20_000), (8, 5), (4096, 4096), (16_384, 4096)] {
                let mut part = vec![9; length];
                pattern.write(offset as u64, 20_000, &mut part);
                let end = whole.len().min(offset + length);
                assert_eq!(part[..end - offset], whole[offset..end]);
                assert!(part[end - offset..].iter().all(|byte| *byte == 0));
            }
        }
    }

    /// Fixtures hold such bytes: they may not change.
    #[test]
    fn the_generator_is_pinned() {
        // The first outputs of SplitMix64 for 1234567, as published with it.
        assert_eq!(mix(1_234_567u64.wrapping_add(GOLDEN)), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567u64.wrapping_add(GOLDEN.wrapping_mul(2))), 3_203_168_211_198_807_973);
        let state = mix(7u64.wrapping_add(GOLDEN));
        assert_eq!(Pattern::Random(7).bytes(8), mix(state.wrapping_add(GOLDEN)).to_le_bytes());
    }
}
