use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use relay_schemas::{Claims, Scope, Token, UnixMillis};
use reqwest::header::HeaderValue;

/// An edge credential. Only the relay can tell whether it is good; here its claims are read to
/// know whose state to use. Never printed.
#[derive(Clone)]
pub struct Credential {
    token: String,
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
        Ok(Self { token: token.to_owned(), claims })
    }

    /// Who it speaks for.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether it may tell what becomes of events.
    pub fn may_report(&self) -> bool {
        self.claims.scopes.contains(&Scope::WriteStatus)
    }

    /// The header that goes with every request.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.token)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What may be shown.
    pub fn summary(&self, now: UnixMillis) -> String {
        let Claims { sub, org, user, .. } = &self.claims;
        let expires_at = self.claims.expires_at();
        let days = expires_at.since_ms(now) / 86_400_000;
        let validity = if expires_at <= now {
            format!("expired at {expires_at}")
        } else {
            format!("expires at {expires_at}, in {days} days")
        };
        format!("{sub}, organization {org}, user {user}, {validity}")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.claims.sub)
    }
}
