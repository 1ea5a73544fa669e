//! Words for people: numbers with the things they count, and numbers as people write them.

/// So many of a thing: `1 block`, `2 blocks`, `2 entries`.
pub fn counted(number: impl TryInto<u64>, thing: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {thing}s"),
    }
}

/// One transaction or more, by their numbers: `transaction 2`, `transactions 2 and 3`.
pub fn transactions(numbers: &[u64]) -> String {
    let (last, rest) = match numbers {
        [] => return "no transaction".to_owned(),
        [one] => return format!("transaction {one}"),
        [rest @ .., last] => (last, rest),
    };
    let rest: Vec<String> = rest.iter().map(u64::to_string).collect();
    format!("transactions {} and {last}", rest.join(", "))
}

/// The number that a text is, decimal or after `0x` hexadecimal; no sign, no spaces.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    // The library takes a sign.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_sign() {
        assert_eq!((number("10"), number("0x1f")), (Some(10), Some(31)));
        for wrong in ["", "+1", "-1", "0x", "0x+1", " 1", "1k", "18446744073709551616"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0u64, "block"), "0 blocks");
        assert_eq!(counted(1usize, "directory"), "1 directory");
        assert_eq!(counted(3u32, "entry"), "3 entries");
        assert_eq!(transactions(&[7]), "transaction 7");
        assert_eq!(transactions(&[7, 8]), "transactions 7 and 8");
    }
}
