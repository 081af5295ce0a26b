//! Base64 with padding, for data that no terminal can show (RFC 4648 section 4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes.
pub fn encode(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for bytes in data.chunks(3) {
        let mut word = [0; 4];
        word[1..=bytes.len()].copy_from_slice(bytes);
        let word = u32::from_be_bytes(word);
        for at in 0..4 {
            let six = (word >> (18 - 6 * at)) & 63;
            let shown = at <= bytes.len();
            text.push(if shown { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

/// Decodes; the padding may be left out.
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let six = ALPHABET.iter().position(|known| *known == letter).ok_or_else(|| {
            format!("the data is not base64: unexpected '{}'", char::from(letter))
        })?;
        word = (word << 6) | six as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            data.push((word >> bits) as u8);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc_hold() {
        for (data, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(data.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), data.as_bytes());
        }
        assert_eq!(decode("a!").unwrap_err(), "the data is not base64: unexpected '!'");
    }
}
