//! Sizes as people write them.

use crate::error::Error;

/// Units by their letter: how many bits to shift.
const UNITS: [(char, u32); 6] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50), ('e', 60)];

/// Bytes of `text`: a decimal number, alone or with one of the letters `k M G T P E` (any case; powers of 1024).
///
/// # Errors
///
/// [`Error::Size`].
///
/// ```
/// assert_eq!(paxfs_mkfs::size::parse("64M").unwrap(), 64 << 20);
/// assert_eq!(paxfs_mkfs::size::parse("4194304").unwrap(), 4 << 20);
/// ```
pub fn parse(text: &str) -> Result<u64, Error> {
    let bad = || Error::Size(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find(|(letter, _)| lower.ends_with(*letter));
    let (digits, shift) = unit
        .map_or((lower.as_str(), 0), |(letter, bits)| (lower.strip_suffix(*letter).unwrap_or(&lower), *bits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// Bytes as people read them: exact when it is a round number of a unit, else with one decimal.
pub fn human(bytes: u64) -> String {
    let unit = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = if bytes == 0 { 0 } else { (bytes.ilog2() / 10) as usize };
    let (name, scale) = (unit.get(step).copied().unwrap_or("EiB"), 1u64 << (10 * step));
    if bytes.is_multiple_of(scale) {
        format!("{} {name}", bytes / scale)
    } else {
        // Tenths, rounded to nearest; 128 bits because 8 EiB × 10 is more than 64.
        let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse("1k").unwrap(), 1024);
        assert_eq!(parse("8E").unwrap(), 8 << 60);
        assert_eq!(parse("3g").unwrap(), 3 << 30);
        for bad in ["", "M", "1.5M", "-1", "16E", "1MB", "x", "99999999999999999999"] {
            assert!(matches!(parse(bad), Err(Error::Size(text)) if text == bad), "{bad}");
        }
    }

    #[test]
    fn for_people() {
        assert_eq!(human(0), "0 bytes");
        assert_eq!(human(4096), "4 KiB");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(8 << 60), "8 EiB");
        assert_eq!(human(u64::MAX), "16.0 EiB");
    }
}
