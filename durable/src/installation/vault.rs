use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use relay_schemas::{OrganizationId, SecretText};
use serde::{Deserialize, Serialize};

/// What randomness comes in as: each call gives sixteen new bytes.
pub type Random<'a> = &'a mut dyn FnMut() -> [u8; 16];

/// The keys that tokens are kept under. Any may have sealed; the first seals. Never printed.
#[derive(Clone)]
pub struct TokenKeys(Vec<TokenKey>);

#[derive(Clone)]
struct TokenKey {
    name: String,
    bytes: [u8; 32],
}

/// A token at rest: AES-256-GCM under the key of that name, with a nonce of its own. What it is
/// and whose is authenticated with it, so that one can't be put in another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealedText {
    key: String,
    nonce: String,
    text: String,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

impl TokenKeys {
    /// Reads `name:base64 of 32 bytes`, several separated by commas; the error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<TokenKey> = Vec::new();
        for entry in text.split(',') {
            let (name, key) = entry
                .trim()
                .split_once(':')
                .ok_or("write it as name:key, several separated by commas")?;
            if name.is_empty() || keys.iter().any(|key| key.name == name) {
                return Err("every key needs a name of its own before the colon".into());
            }
            let bytes = STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
            // Which one is not told: a name could be the first part of a key.
            let bytes = bytes.ok_or("every key is 32 bytes in base64: openssl rand -base64 32")?;
            keys.push(TokenKey { name: name.to_owned(), bytes });
        }
        Ok(Self(keys))
    }

    pub(super) fn seal(&self, secret: &SecretText, whose: &str, random: Random<'_>) -> SealedText {
        let key = &self.0[0];
        let random = random();
        let nonce: [u8; 12] = std::array::from_fn(|index| random[index]);
        let payload = Payload { msg: secret.reveal().as_bytes(), aad: whose.as_bytes() };
        let sealed = Aes256Gcm::new(&key.bytes.into()).encrypt(&nonce.into(), payload);
        SealedText {
            key: key.name.clone(),
            nonce: STANDARD.encode(nonce),
            text: STANDARD.encode(sealed.expect("a token is shorter than 64 GiB")),
        }
    }

    /// `None` when its key is gone, or it is not what was sealed.
    pub(super) fn open(&self, sealed: &SealedText, whose: &str) -> Option<SecretText> {
        let key = self.0.iter().find(|key| key.name == sealed.key)?;
        let nonce: [u8; 12] = STANDARD.decode(&sealed.nonce).ok()?.try_into().ok()?;
        let text = STANDARD.decode(&sealed.text).ok()?;
        let payload = Payload { msg: &text, aad: whose.as_bytes() };
        let opened = Aes256Gcm::new(&key.bytes.into()).decrypt(&nonce.into(), payload).ok()?;
        String::from_utf8(opened).ok().map(SecretText::new)
    }

    /// Whether it lies under a key that is being retired.
    pub(super) fn is_old(&self, sealed: &SealedText) -> bool {
        sealed.key != self.0[0].name
    }
}

fn whose(organization: &OrganizationId, app: &str, which: &str) -> String {
    format!("edgerelay-token-1/{organization}/{app}/{which}")
}

/// Where and under which keys tokens lie.
#[derive(Clone, Copy)]
pub(super) struct Vault<'a> {
    pub(super) keys: &'a TokenKeys,
    pub(super) organization: &'a OrganizationId,
}

impl Vault<'_> {
    pub(super) fn is_old(self, sealed: &SealedText) -> bool {
        self.keys.is_old(sealed)
    }

    pub(super) fn seal(
        self,
        app: &str,
        which: &str,
        secret: &SecretText,
        random: Random<'_>,
    ) -> SealedText {
        self.keys.seal(secret, &whose(self.organization, app, which), random)
    }

    pub(super) fn open(
        self,
        app: &str,
        which: &str,
        sealed: Option<&SealedText>,
    ) -> Option<SecretText> {
        self.keys.open(sealed?, &whose(self.organization, app, which))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const B: &str = "b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn keys(text: &str) -> TokenKeys {
        TokenKeys::parse(text).unwrap()
    }

    fn counter() -> impl FnMut() -> [u8; 16] {
        let mut count = 0_u128;
        move || {
            count += 1;
            count.to_le_bytes()
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_any_key_of_the_list() {
        let secret = SecretText::new("lin_oauth_1");
        let sealed = keys(A).seal(&secret, "w", &mut counter());
        let both = keys(&format!("{B}, {A}"));
        assert_eq!(both.open(&sealed, "w"), Some(secret.clone()));
        assert!(both.is_old(&sealed));
        let again = both.seal(&secret, "w", &mut counter());
        assert!(!both.is_old(&again));
        assert_eq!(keys(B).open(&again, "w"), Some(secret));
        assert_eq!(keys(B).open(&sealed, "w"), None);
    }

    #[test]
    fn nothing_else_is_opened() {
        let sealed = keys(A).seal(&SecretText::new("token"), "w", &mut counter());
        assert_eq!(keys(A).open(&sealed, "v"), None);
        let mut bent = sealed.clone();
        bent.text = STANDARD.encode([0; 21]);
        assert_eq!(keys(A).open(&bent, "w"), None);
        // The same name, another key.
        let other = format!("a:{}", &B[2..]);
        assert_eq!(keys(&other).open(&sealed, "w"), None);
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let mut random = counter();
        let one = keys(A).seal(&SecretText::new("t"), "w", &mut random);
        let two = keys(A).seal(&SecretText::new("t"), "w", &mut random);
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.text, two.text);
    }

    #[test]
    fn weak_settings_are_refused_and_none_is_printed() {
        for text in ["", "a", "a:short", &A[1..], &format!("{A},{A}")] {
            assert!(TokenKeys::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(format!("{:?}", keys(A)), r#"["a"]"#);
    }
}
