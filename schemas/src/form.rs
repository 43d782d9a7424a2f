//! `application/x-www-form-urlencoded`, in queries and bodies.

use std::fmt::Write as _;

/// Decodes pairs. What can't be decoded stays as it is; bytes that aren't UTF-8 are replaced.
pub fn read_form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Encodes pairs.
pub fn write_form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escaped = text.get(place + 1..place + 3).filter(|_| bytes[place] == b'%');
        match escaped.and_then(|digits| hexadecimal(digits.as_bytes())) {
            Some(byte) => {
                decoded.push(byte);
                place += 3;
            }
            None => {
                decoded.push(if bytes[place] == b'+' { b' ' } else { bytes[place] });
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(digits[0])? * 16 + digit(digits[1])?)
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let read = |text: &str| read_form(text);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("a=b+c&d=%26%3D%25"), [pair("a", "b c"), pair("d", "&=%")]);
        assert_eq!(read("a&=b&&c="), [pair("a", ""), pair("", "b"), pair("c", "")]);
        assert_eq!(read("a=%zz%4"), [pair("a", "%zz%4")]);
        assert_eq!(read("a=%+1"), [pair("a", "% 1")]);
        assert_eq!(read("a=%C3%BC&b=%FF"), [pair("a", "ü"), pair("b", "\u{fffd}")]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pairs in prop::collection::vec((any::<String>(), any::<String>()), 1..5)) {
            let written: Vec<(&str, &str)> =
                pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(read_form(&write_form(&written)), pairs);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = read_form(&text);
        }
    }
}
