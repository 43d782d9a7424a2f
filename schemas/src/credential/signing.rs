use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq;

use super::CredentialError;
use crate::{signature::mac, time::UnixMillis};

const SECRET_LENGTH_MIN: usize = 16;
const TOKEN_LENGTH_MAX: usize = 4096;

/// A signed statement. The type stands in the signed header, so that one is never taken for
/// another.
pub trait Token: Serialize + DeserializeOwned {
    /// The header's `typ`.
    const TYPE: &'static str;

    /// When it expires, in seconds since the epoch.
    fn expires_at_s(&self) -> u64;

    /// When it expires.
    fn expires_at(&self) -> UnixMillis {
        UnixMillis::new(self.expires_at_s().saturating_mul(1000))
    }
}

/// A signing key and the name that tokens find it by.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    secret: Vec<u8>,
}

/// The keys of which any may have signed; the first signs new credentials. Never printed.
#[derive(Clone)]
pub struct SigningKeys(Vec<SigningKey>);

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

impl SigningKeys {
    /// Reads `kid:secret,kid:secret`; the error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<SigningKey> = Vec::new();
        for entry in text.split(',') {
            let (kid, secret) = entry
                .trim()
                .split_once(':')
                .ok_or("write it as kid:secret, several separated by commas")?;
            if kid.is_empty() || keys.iter().any(|key| key.kid == kid) {
                return Err("every key needs a name of its own before the colon".into());
            }
            if secret.len() < SECRET_LENGTH_MIN {
                // Which one is not told: a name could be the first part of a secret.
                return Err(format!("every secret needs {SECRET_LENGTH_MIN} characters"));
            }
            keys.push(SigningKey { kid: kid.into(), secret: secret.as_bytes().to_vec() });
        }
        Ok(Self(keys))
    }

    /// Signs with the current key.
    pub fn issue<T: Token>(&self, claims: &T) -> String {
        let key = &self.0[0];
        let header = Header { alg: "HS256".into(), kid: key.kid.clone(), typ: T::TYPE.into() };
        let mut token = encode_part(&header);
        token.push('.');
        token.push_str(&encode_part(claims));
        let signature = mac(&key.secret, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Reads a credential at `now`. Which check failed is not told beyond "invalid".
    pub fn read<T: Token>(&self, token: &str, now: UnixMillis) -> Result<T, CredentialError> {
        let claims: T = self.read_signed(token).ok_or(CredentialError::Invalid)?;
        if now >= claims.expires_at() {
            return Err(CredentialError::Expired);
        }
        Ok(claims)
    }

    fn read_signed<T: Token>(&self, token: &str) -> Option<T> {
        if token.len() > TOKEN_LENGTH_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = decode_part(header)?;
        if header.alg != "HS256" || header.typ != T::TYPE {
            return None;
        }
        let key = self.0.iter().find(|key| key.kid == header.kid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let expected = mac(&key.secret, signed.as_bytes());
        bool::from(expected.as_slice().ct_eq(&signature)).then(|| decode_part(claims))?
    }
}

fn encode_part(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("plain fields serialise"))
}

fn decode_part<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{BrowserClaims, Claims, RefreshClaims, tests::claims},
        *,
    };

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(text).unwrap()
    }

    #[test]
    fn keys_rotate_without_a_gap() {
        let old = keys("a:0123456789abcdef");
        let both = keys("b:fedcba9876543210, a:0123456789abcdef");
        let new = keys("b:fedcba9876543210");
        assert_eq!(both.read(&old.issue(&claims()), NOW), Ok(claims()));
        assert_eq!(new.read(&both.issue(&claims()), NOW), Ok(claims()));
        assert_eq!(new.read::<Claims>(&old.issue(&claims()), NOW), Err(CredentialError::Invalid));
    }

    #[test]
    fn expiry_is_exact() {
        let keys = keys("a:0123456789abcdef");
        let token = keys.issue(&claims());
        assert!(keys.read::<Claims>(&token, NOW + 59_999).is_ok());
        assert_eq!(keys.read::<Claims>(&token, NOW + 60_000), Err(CredentialError::Expired));
    }

    #[test]
    fn forgeries_are_invalid() {
        let keys = keys("a:0123456789abcdef");
        let token = keys.issue(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let header =
            |alg, kid| encode_part(&serde_json::json!({ "alg": alg, "kid": kid, "typ": "JWT" }));
        let (none, other_kid) = (header("none", "a"), header("HS256", "b"));
        let mut foreign = claims();
        foreign.org = "other".parse().unwrap();
        let foreign = encode_part(&foreign);
        for forged in [
            String::new(),
            "..".into(),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{other_kid}.{}.{}", parts[1], parts[2]),
            format!("{}.{foreign}.{}", parts[0], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}A"),
            token[..token.len() - 2].into(),
        ] {
            assert_eq!(
                keys.read::<Claims>(&forged, NOW),
                Err(CredentialError::Invalid),
                "{forged}"
            );
        }
    }

    #[test]
    fn no_token_is_taken_for_another() {
        let keys = keys("a:0123456789abcdef");
        let (iat, exp) = (claims().iat, claims().exp);
        let (sub, org, user) = (claims().sub, claims().org, claims().user);
        let refresh = RefreshClaims { sub, org: org.clone(), generation: 1, iat, exp };
        let browser = BrowserClaims { org, user, name: "n".into(), admin: true, iat, exp };
        assert_eq!(keys.read(&keys.issue(&refresh), NOW), Ok(refresh.clone()));
        assert_eq!(keys.read(&keys.issue(&browser), NOW), Ok(browser.clone()));
        let invalid = CredentialError::Invalid;
        for token in [keys.issue(&refresh), keys.issue(&browser)] {
            assert_eq!(keys.read::<Claims>(&token, NOW), Err(invalid));
        }
        assert_eq!(keys.read::<RefreshClaims>(&keys.issue(&claims()), NOW), Err(invalid));
        assert_eq!(keys.read::<BrowserClaims>(&keys.issue(&refresh), NOW), Err(invalid));
        // The type is signed, and not the members alone decide.
        let forged = keys.issue(&refresh).replacen(
            keys.issue(&refresh).split('.').next().unwrap(),
            keys.issue(&claims()).split('.').next().unwrap(),
            1,
        );
        assert_eq!(keys.read::<RefreshClaims>(&forged, NOW), Err(invalid));
    }

    #[test]
    fn weak_settings_are_refused() {
        for text in [
            "",
            "secret-without-kid-12345",
            "a:short",
            ":0123456789abcdef",
            "a:0123456789abcdef,a:0123456789abcdef",
        ] {
            assert!(SigningKeys::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tokens_never_panic(token in any::<String>()) {
            prop_assert!(keys("a:0123456789abcdef").read::<Claims>(&token, NOW).is_err());
        }
    }
}
