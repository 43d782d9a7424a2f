//! Fixed-width base32 whose byte order is the order of the numbers.
//!
//! The alphabet is base32hex in lower case (RFC 4648 §7): digits before letters, as in ASCII.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Appends `value` as exactly `width` characters; higher bits than fit are not representable and
/// must be zero.
pub(crate) fn encode_into(value: u128, width: u32, out: &mut String) {
    debug_assert!(width * 5 >= 128 || value >> (width * 5) == 0, "value wider than its field");
    for place in (0..width).rev() {
        let digit = (value >> (place * 5)) & 31;
        out.push(char::from(ALPHABET[digit as usize]));
    }
}

/// Reads a whole string of at most 26 characters; `None` when a character is outside the alphabet
/// or the value does not fit 128 bits.
pub(crate) fn decode(text: &str) -> Option<u128> {
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'v' => byte - b'a' + 10,
            _ => return None,
        };
        if value >> 123 != 0 {
            return None;
        }
        value = (value << 5) | u128::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_round_trip() {
        for value in [0, 1, 31, 32, u128::from(u64::MAX), u128::MAX] {
            let mut text = String::new();
            encode_into(value, 26, &mut text);
            assert_eq!((text.len(), decode(&text)), (26, Some(value)));
        }
        assert_eq!(decode("w"), None);
        assert_eq!(decode("zzzzzzzzzzzzzzzzzzzzzzzzzz"), None);
    }
}
