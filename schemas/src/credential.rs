//! Edge credentials: JSON Web Tokens (RFC 7519), HS256 and nothing else.
//!
//! Written here rather than taken from a library because one fixed algorithm is thirty lines over
//! `hmac`, while the libraries bring RSA and elliptic curves into the wasm and read a clock.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    error::{ErrorCode, Problem},
    identifier::{EdgeId, OrganizationId, UserId},
    signature::mac,
    time::UnixMillis,
};

const SECRET_LENGTH_MIN: usize = 16;
const TOKEN_LENGTH_MAX: usize = 4096;

/// What a credential allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Read the stream.
    #[serde(rename = "read:events")]
    ReadEvents,
    /// Report what became of events.
    #[serde(rename = "write:status")]
    WriteStatus,
    /// A scope of a newer relay; it allows nothing here.
    #[serde(other, rename = "unknown")]
    Unknown,
}

impl Scope {
    /// What a new credential gets unless less is asked for.
    pub const DEFAULT: [Self; 2] = [Self::ReadEvents, Self::WriteStatus];

    /// The scope's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadEvents => "read:events",
            Self::WriteStatus => "write:status",
            Self::Unknown => "unknown",
        }
    }
}

/// Who a credential speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The edge.
    pub sub: EdgeId,
    /// Its organization.
    pub org: OrganizationId,
    /// Its person.
    pub user: UserId,
    /// The edge's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

impl Claims {
    /// Refuses a credential that lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<(), CredentialError> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(CredentialError::Scope(scope)) }
    }

    /// When it expires.
    pub fn expires_at(&self) -> UnixMillis {
        UnixMillis::new(self.exp.saturating_mul(1000))
    }
}

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// None was sent.
    #[error("send the credential as 'Authorization: Bearer …'")]
    Missing,
    /// Not a credential that this relay made.
    #[error("this is not a credential of this relay")]
    Invalid,
    /// Its time has passed.
    #[error("the credential has expired")]
    Expired,
    /// It was revoked.
    #[error("the credential was revoked")]
    Revoked,
    /// It may not do this.
    #[error("the credential lacks the scope {}", .0.as_str())]
    Scope(Scope),
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        let code = match error {
            CredentialError::Missing => ErrorCode::CredentialMissing,
            CredentialError::Invalid => ErrorCode::CredentialInvalid,
            CredentialError::Expired => ErrorCode::CredentialExpired,
            CredentialError::Revoked => ErrorCode::CredentialRevoked,
            CredentialError::Scope(_) => ErrorCode::ScopeMissing,
        };
        Self::new(code, error.to_string())
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
    #[serde(default)]
    typ: Option<String>,
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
    pub fn issue(&self, claims: &Claims) -> String {
        let key = &self.0[0];
        let header = Header { alg: "HS256".into(), kid: key.kid.clone(), typ: Some("JWT".into()) };
        let mut token = encode_part(&header);
        token.push('.');
        token.push_str(&encode_part(claims));
        let signature = mac(&key.secret, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Reads a credential at `now`. Which check failed is not told beyond "invalid".
    pub fn read(&self, token: &str, now: UnixMillis) -> Result<Claims, CredentialError> {
        let claims = self.read_signed(token).ok_or(CredentialError::Invalid)?;
        if now >= claims.expires_at() {
            return Err(CredentialError::Expired);
        }
        Ok(claims)
    }

    fn read_signed(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_LENGTH_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = decode_part(header)?;
        if header.alg != "HS256" {
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

    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(text).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            sub: "edge_1".parse().unwrap(),
            org: "org".parse().unwrap(),
            user: "user".parse().unwrap(),
            name: Some("laptop".into()),
            scopes: Scope::DEFAULT.to_vec(),
            iat: 1_790_000_000,
            exp: 1_790_000_060,
        }
    }

    #[test]
    fn keys_rotate_without_a_gap() {
        let old = keys("a:0123456789abcdef");
        let both = keys("b:fedcba9876543210, a:0123456789abcdef");
        let new = keys("b:fedcba9876543210");
        assert_eq!(both.read(&old.issue(&claims()), NOW), Ok(claims()));
        assert_eq!(new.read(&both.issue(&claims()), NOW), Ok(claims()));
        assert_eq!(new.read(&old.issue(&claims()), NOW), Err(CredentialError::Invalid));
    }

    #[test]
    fn expiry_is_exact() {
        let keys = keys("a:0123456789abcdef");
        let token = keys.issue(&claims());
        assert!(keys.read(&token, NOW + 59_999).is_ok());
        assert_eq!(keys.read(&token, NOW + 60_000), Err(CredentialError::Expired));
    }

    #[test]
    fn forgeries_are_invalid() {
        let keys = keys("a:0123456789abcdef");
        let token = keys.issue(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let none = encode_part(&serde_json::json!({ "alg": "none", "kid": "a" }));
        let other_kid = encode_part(&serde_json::json!({ "alg": "HS256", "kid": "b" }));
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
            assert_eq!(keys.read(&forged, NOW), Err(CredentialError::Invalid), "{forged}");
        }
    }

    #[test]
    fn scopes_of_a_newer_relay_allow_nothing() {
        let mut text = serde_json::to_value(claims()).unwrap();
        text["scopes"] = serde_json::json!(["fly:rockets"]);
        let claims: Claims = serde_json::from_value(text).unwrap();
        assert!(claims.require(Scope::ReadEvents).is_err());
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
            prop_assert!(keys("a:0123456789abcdef").read(&token, NOW).is_err());
        }
    }
}
