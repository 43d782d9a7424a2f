//! Who this machine is to a relay: a credential that somebody wrote down, or one that a sign-in
//! left, and where sign-ins are kept.

mod file;
mod keyring;
mod secret;
mod store;
mod stored;

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use relay_schemas::{Claims, Scope, Token, UnixMillis};
use reqwest::header::HeaderValue;

use crate::limits::REFRESH_BEFORE_MS;

pub use self::{
    file::FileError,
    keyring::KeyringError,
    store::{CredentialStore, CredentialStoreError},
    stored::{Place, StoreChoice},
};
pub(crate) use self::{secret::Secret, store::Lock, stored::SignIn};

/// An edge credential. Only the relay can tell whether it is good; here its claims are read to
/// know whose state to use. Never printed.
#[derive(Clone)]
pub struct Credential {
    token: Secret,
    claims: Claims,
}

impl Credential {
    /// Reads a credential's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(
                "an edge credential has three parts with two dots between them: was all of \
                        it copied?"
                    .into(),
            );
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .ok()
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .ok_or("this is not an edge credential: its claims can't be read")?;
        Ok(Self { token: token.to_owned().into(), claims })
    }

    /// Who it speaks for.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether it may tell what becomes of events.
    pub fn may_report(&self) -> bool {
        self.claims.scopes.contains(&Scope::WriteStatus)
    }

    /// Whether it may write in agent sessions.
    pub fn may_write_activities(&self) -> bool {
        self.claims.scopes.contains(&Scope::WriteActivity)
    }

    /// Whether it may still be used for some time to come.
    pub(crate) fn is_fresh(&self, now: UnixMillis) -> bool {
        self.claims.expires_at().since_ms(now) >= REFRESH_BEFORE_MS
    }

    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        self.claims.expires_at() <= now
    }

    /// Whether this is the same token.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.token == other.token
    }

    /// The header that goes with every request.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.token.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What may be shown.
    pub fn summary(&self, now: UnixMillis) -> String {
        let Claims { sub, org, user, .. } = &self.claims;
        let expires_at = self.claims.expires_at();
        let left = expires_at.since_ms(now);
        let validity = if expires_at <= now {
            format!("expired at {expires_at}")
        } else {
            match left / 86_400_000 {
                0 => format!("expires at {expires_at}, in {} minutes", left / 60_000),
                days => format!("expires at {expires_at}, in {days} days"),
            }
        };
        format!("{sub}, organization {org}, user {user}, {validity}")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.claims.sub)
    }
}
