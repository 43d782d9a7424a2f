use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of the concatenated parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (place, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Secrets of which any may have signed: the first is current, the others are being retired or
/// introduced. Never printed.
#[derive(Clone)]
pub struct SecretList(Vec<Vec<u8>>);

/// The setting holds no usable secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretListError {
    /// Nothing, or nothing between two commas.
    #[error("an empty secret: write one or more secrets separated by commas")]
    Empty,
}

impl SecretList {
    /// Reads a comma-separated list; blanks around a secret are not part of it.
    pub fn parse(text: &str) -> Result<Self, SecretListError> {
        let secrets: Vec<Vec<u8>> =
            text.split(',').map(|secret| secret.trim().as_bytes().to_vec()).collect();
        if secrets.iter().any(Vec::is_empty) {
            return Err(SecretListError::Empty);
        }
        Ok(Self(secrets))
    }

    /// The secret that new signatures are made with.
    pub fn current(&self) -> &[u8] {
        &self.0[0]
    }
}

impl fmt::Debug for SecretList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretList({} secrets)", self.0.len())
    }
}

/// Why a signature is refused. Which byte differs is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature came with the body.
    #[error("the Linear-Signature header is missing")]
    Missing,
    /// Not 64 lower-case hexadecimal digits, the one form that Linear sends.
    #[error("the Linear-Signature header is not 64 lower-case hexadecimal digits")]
    Malformed,
    /// No accepted secret made this signature of these bytes.
    #[error("the signature does not match the body")]
    Mismatch,
}

/// Checks an HMAC-SHA256 over the raw bytes against every secret, in time that does not depend on
/// where a difference lies or which secret fits.
pub fn verify(
    secrets: &SecretList,
    body: &[u8],
    signature: Option<&str>,
) -> Result<(), SignatureError> {
    let given = decode_hex(signature.ok_or(SignatureError::Missing)?)?;
    let matches = secrets
        .0
        .iter()
        .fold(subtle::Choice::from(0), |matches, secret| matches | mac(secret, body).ct_eq(&given));
    if bool::from(matches) { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// Linear's signature of a body: lower-case hexadecimal HMAC-SHA256, bare.
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    use fmt::Write;
    mac(secret, body).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// HMAC-SHA256 of `message`.
pub(crate) fn mac(secret: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn decode_hex(text: &str) -> Result<[u8; 32], SignatureError> {
    let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| SignatureError::Malformed)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Ok(bytes)
}

fn hex_digit(digit: u8) -> Result<u8, SignatureError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(SignatureError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_answer_of_rfc_4231_case_2() {
        let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(b"Jefe", b"what do ya want for nothing?"), signature);
    }

    #[test]
    fn every_listed_secret_is_accepted_and_no_other() {
        let secrets = SecretList::parse("current, previous").unwrap();
        for (secret, expected) in
            [("current", Ok(())), ("previous", Ok(())), ("retired", Err(SignatureError::Mismatch))]
        {
            let signature = sign(secret.as_bytes(), b"body");
            assert_eq!(verify(&secrets, b"body", Some(&signature)), expected, "{secret}");
        }
    }

    #[test]
    fn other_spellings_are_malformed() {
        let secrets = SecretList::parse("s").unwrap();
        let good = sign(b"s", b"body");
        for bad in [String::new(), good.to_uppercase(), good[..63].into(), format!("sha256={good}")]
        {
            assert_eq!(verify(&secrets, b"body", Some(&bad)), Err(SignatureError::Malformed));
        }
        assert_eq!(verify(&secrets, b"body", None), Err(SignatureError::Missing));
        assert_eq!(verify(&secrets, b"bodz", Some(&good)), Err(SignatureError::Mismatch));
    }

    #[test]
    fn an_empty_secret_is_no_secret() {
        for text in ["", " ", "a,", ",a", "a,,b"] {
            assert!(SecretList::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_signatures_never_panic(text in any::<String>(), body in any::<Vec<u8>>()) {
            prop_assert!(verify(&SecretList::parse("s").unwrap(), &body, Some(&text)).is_err());
        }
    }
}
