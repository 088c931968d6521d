//! Base64 to bytes (RFC 4648): the usual alphabet or that of URLs, padded or not, white space left out. Nothing else is let through.

/// The bytes that `text` stands for; where it is none, the place of the first character that does not belong.
pub fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut held, mut n_digits, mut n_padding) = (0u32, 0, 0);
    for (at, character) in text.bytes().enumerate() {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' if n_digits % 4 >= 2 && n_digits % 4 + n_padding < 4 => {
                n_padding += 1;
                continue;
            }
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            _ => return Err(at),
        };
        if n_padding > 0 {
            return Err(at);
        }
        held = held << 6 | u32::from(digit);
        n_digits += 1;
        if n_digits % 4 == 0 {
            bytes.extend_from_slice(&held.to_be_bytes()[1..]);
            held = 0;
        }
    }
    match n_digits % 4 {
        0 => {}
        2 => bytes.push((held >> 4) as u8),
        3 => bytes.extend_from_slice(&((held >> 2) as u16).to_be_bytes()),
        _ => return Err(text.len()),
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lengths_and_alphabets() {
        for (text, expected) in [
            ("", Ok(&b""[..])),
            ("Zg==", Ok(b"f")),
            ("Zg", Ok(b"f")),
            ("Zm8=", Ok(b"fo")),
            ("Zm8", Ok(b"fo")),
            ("Zm9v", Ok(b"foo")),
            ("Zm 9v\r\nYg", Ok(b"foob")),
            ("+/+/", Ok(b"\xfb\xff\xbf")),
            ("-_-_", Ok(b"\xfb\xff\xbf")),
            ("Z", Err(1)),
            ("Zg=v", Err(3)),
            ("=", Err(0)),
            ("Z===", Err(1)),
            ("Zm9v=", Err(4)),
            ("Zg===", Err(4)),
            ("Zm!v", Err(2)),
        ] {
            assert_eq!(decode(text), expected.map(Vec::from), "{text:?}");
        }
    }
}
