//! Bytes as text and back: hexadecimal, and names in which a few characters are escaped.

/// Lower-case hexadecimal, two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The bytes that pairs of hexadecimal digits give.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| if let [high, low] = pair { Some(high << 4 | low) } else { None }).collect()
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// Appends `bytes` as text in which `end`, `\`, control characters and what is not UTF-8 are escaped.
pub(super) fn escape(to: &mut String, bytes: &[u8], end: char) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == end || c == '\\' {
                to.extend(['\\', c]);
            } else if c.is_control() {
                escape_bytes(to, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                to.push(c);
            }
        }
        escape_bytes(to, chunk.invalid());
    }
}

fn escape_bytes(to: &mut String, bytes: &[u8]) {
    for byte in bytes {
        to.push_str("\\x");
        to.push_str(&hex(&[*byte]));
    }
}

/// The bytes that escaped text gives up to an `end` that is not escaped, and what follows that. `None` without an end
/// or with an escape that is none.
pub(super) fn unescape(text: &str, end: char) -> Option<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            c if c == end => return Some((bytes, chars.as_str())),
            '\\' => match chars.next()? {
                'x' => {
                    let (pair, rest) = chars.as_str().split_at_checked(2)?;
                    bytes.append(&mut unhex(pair)?);
                    chars = rest.chars();
                }
                c if c == end || c == '\\' => push(&mut bytes, c),
                _ => return None,
            },
            c => push(&mut bytes, c),
        }
    }
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
