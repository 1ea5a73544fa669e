//! Paths of recipes: `{i}` and its arithmetic, and bytes that are no text.

/// `text` with every `{i}` replaced by the number of the repetition: `{i}`, `{i/100}`, `{i%100}`, `{i+1}`, each with a
/// width as `{i:06}` (padded with zeros) if wanted. `{{` and `}}` stand for braces.
pub(super) fn expand(text: &str, i: u64) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len() + 8), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            out.extend(from.chars().next());
            rest = after;
            continue;
        }
        let inner = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let Some((inner, after)) = inner else {
            return Err(format!("{text:?} has a brace without its other"));
        };
        let number = placeholder(inner, i).ok_or_else(|| {
            format!("{{{inner}}} is no placeholder: there are {{i}}, {{i/N}}, {{i%N}}, {{i+N}}, with :0WIDTH")
        })?;
        out.push_str(&number);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn placeholder(inner: &str, i: u64) -> Option<String> {
    let (value, width) = match inner.split_once(":0") {
        Some((value, width)) => (value, width.parse::<usize>().ok().filter(|width| *width <= 20)?),
        None => (inner, 0),
    };
    let rest = value.strip_prefix('i')?;
    let value = match rest.chars().next() {
        None => i,
        Some('/') => i.checked_div(rest.get(1..)?.parse().ok()?)?,
        Some('%') => i.checked_rem(rest.get(1..)?.parse().ok()?)?,
        Some('+') => i.checked_add(rest.get(1..)?.parse().ok()?)?,
        Some(_) => return None,
    };
    Some(format!("{value:0width$}"))
}

/// The bytes of text in which `\xNN` is a byte; the inverse of [`paxfs_format::names::printable`].
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let digits = after.strip_prefix('x').and_then(|after| after.split_at_checked(2));
        let byte = digits.and_then(|(digits, after)| Some((u8::from_str_radix(digits, 16).ok()?, after)));
        let Some((byte, after)) = byte else {
            return Err(format!("{text:?}: a backslash begins \\xNN, a byte"));
        };
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        assert_eq!(expand("/d{i/100}/f{i%100:03}-{i}-{i+1}", 1234).unwrap(), "/d12/f034-1234-1235");
        assert_eq!(expand("{{i}}", 1).unwrap(), "{i}");
        for bad in ["{j}", "{i", "i}", "{i/0}", "{i*2}", "{i:99}", "{i:099}"] {
            assert!(expand(bad, 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes() {
        assert_eq!(unescape(r"a\xff\x5cb").unwrap(), b"a\xff\\b");
        assert!(unescape(r"\n").is_err() && unescape(r"\xf").is_err() && unescape(r"\xgg").is_err());
        assert_eq!(unescape(&paxfs_format::names::printable(b"\n\xfe\\x")).unwrap(), b"\n\xfe\\x");
    }
}
