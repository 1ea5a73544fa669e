//! Numbers drawn from bytes: each takes some from the front, and zeros when there are none left.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    rest: &'a [u8],
}

impl<'a> Draw<'a> {
    /// All of an input.
    pub fn new(data: &'a [u8]) -> Self {
        Draw { rest: data }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// The next bytes, as many as there are up to `count`.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number of 32 bits.
    pub fn number(&mut self) -> u64 {
        self.bytes(4).iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// A number below `limit`, 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let number = if limit <= 256 { self.byte().into() } else { self.number() };
        number.checked_rem(limit).unwrap_or(0)
    }

    /// One of several; `None` when there are none.
    pub fn pick<'s, T>(&mut self, of: &'s [T]) -> Option<&'s T> {
        let count = u64::try_from(of.len()).unwrap_or(u64::MAX);
        of.get(usize::try_from(self.below(count)).unwrap_or(0))
    }
}
