//! Edge credentials: JSON Web Tokens (RFC 7519), HS256 and nothing else.
//!
//! Written here rather than taken from a library because one fixed algorithm is thirty lines over
//! `hmac`, while the libraries bring RSA and elliptic curves into the wasm and read a clock.

mod scope;
mod signing;

use serde::{Deserialize, Serialize};

pub use self::{
    scope::Scope,
    signing::{SigningKey, SigningKeys, Token},
};
use crate::{
    error::{ErrorCode, Problem},
    filter::KindFilter,
    identifier::{Channel, EdgeId, OrganizationId, StreamKey, UserId},
};

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
    /// The channels that it may read besides its own person's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// Of a machine that its person has signed in: the how manieth pair of tokens it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

impl Claims {
    /// Refuses a credential that has none of the scopes.
    pub fn require_any(&self, scopes: &'static [Scope]) -> Result<(), CredentialError> {
        if self.scopes.iter().any(|scope| scopes.contains(scope)) {
            Ok(())
        } else {
            Err(CredentialError::Scope(scopes))
        }
    }

    /// The kinds that its scopes let it read; `None` when there is none.
    pub fn allowed_kinds(&self) -> Option<KindFilter> {
        let kinds: Vec<&str> = self
            .scopes
            .iter()
            .map(|scope| scope.kinds())
            .filter(|kinds| !kinds.is_empty())
            .collect();
        if kinds.contains(&"*") {
            return Some(KindFilter::default());
        }
        let filter = KindFilter::of_scopes(&kinds);
        (!filter.is_open()).then_some(filter)
    }

    /// The stream of a channel that it may read: its own person's, unless another is asked for.
    pub fn stream(&self, channel: Option<&Channel>) -> Result<StreamKey, CredentialError> {
        let own = Channel::User(self.user.clone());
        let channel = channel.unwrap_or(&own);
        if *channel != own && !self.channels.contains(channel) {
            return Err(CredentialError::Channel);
        }
        Ok(StreamKey { organization: self.org.clone(), channel: channel.clone() })
    }
}

/// What a machine gets its next credential for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshClaims {
    /// The edge.
    pub sub: EdgeId,
    /// Its organization.
    pub org: OrganizationId,
    /// The how manieth of this machine, from 1: an earlier one is a copy, or a repetition.
    pub generation: u64,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

/// A person whom Linear has named to a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserClaims {
    /// The person's organization.
    pub org: OrganizationId,
    /// The person.
    pub user: UserId,
    /// The person's name.
    pub name: String,
    /// Whether the person administers the workspace.
    #[serde(default)]
    pub admin: bool,
    /// Issued at, in seconds since the epoch.
    pub iat: u64,
    /// Expires at, in seconds since the epoch.
    pub exp: u64,
}

macro_rules! token {
    ($claims:ident, $text:literal) => {
        impl Token for $claims {
            const TYPE: &'static str = $text;

            fn expires_at_s(&self) -> u64 {
                self.exp
            }
        }
    };
}

token!(Claims, "JWT");
token!(RefreshClaims, "refresh+jwt");
token!(BrowserClaims, "browser+jwt");

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
    #[error("the credential needs the scope {}", texts(.0))]
    Scope(&'static [Scope]),
    /// It may not read this channel.
    #[error("the credential may not read this channel")]
    Channel,
}

fn texts(scopes: &[Scope]) -> String {
    let texts: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    texts.join(" or ")
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        let code = match error {
            CredentialError::Missing => ErrorCode::CredentialMissing,
            CredentialError::Invalid => ErrorCode::CredentialInvalid,
            CredentialError::Expired => ErrorCode::CredentialExpired,
            CredentialError::Revoked => ErrorCode::CredentialRevoked,
            CredentialError::Scope(_) => ErrorCode::ScopeMissing,
            CredentialError::Channel => ErrorCode::ChannelForbidden,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn claims() -> Claims {
        Claims {
            sub: "edge_1".parse().unwrap(),
            org: "org".parse().unwrap(),
            user: "user".parse().unwrap(),
            name: Some("laptop".into()),
            scopes: Scope::DEFAULT.to_vec(),
            channels: Vec::new(),
            generation: None,
            iat: 1_790_000_000,
            exp: 1_790_000_060,
        }
    }

    #[test]
    fn scopes_of_a_newer_relay_allow_nothing() {
        let mut text = serde_json::to_value(claims()).unwrap();
        text["scopes"] = serde_json::json!(["fly:rockets"]);
        let claims: Claims = serde_json::from_value(text).unwrap();
        assert!(claims.require_any(Scope::READING).is_err());
        assert_eq!(claims.allowed_kinds(), None);
    }

    #[test]
    fn scopes_say_which_kinds_may_be_read() {
        let allowed = |scopes: &[Scope]| {
            let claims = Claims { scopes: scopes.to_vec(), ..claims() };
            let filter = claims.allowed_kinds();
            move |kind: &str| filter.as_ref().is_some_and(|filter| filter.passes(kind))
        };
        let some = allowed(&[Scope::ReadIssues, Scope::ReadSessions]);
        assert!(some("Issue.update") && some("AgentSessionEvent.created") && some("IssueSLA.set"));
        assert!(!some("Project.update") && !some("AppUserNotification.issueMention"));
        assert!(allowed(&Scope::DEFAULT)("Anything.new"));
        assert!(!allowed(&[Scope::WriteStatus, Scope::WriteActivity])("Issue.update"));
    }

    #[test]
    fn a_credential_reads_its_own_channel_and_those_it_names() {
        let claims = Claims { channels: vec!["team:t".parse().unwrap()], ..claims() };
        let stream = |channel: &str| {
            let channel: Option<Channel> = channel.parse().ok();
            claims.stream(channel.as_ref()).map(|stream| stream.to_string())
        };
        assert_eq!(stream("").as_deref(), Ok("org/user:user"));
        assert_eq!(stream("user:user").as_deref(), Ok("org/user:user"));
        assert_eq!(stream("team:t").as_deref(), Ok("org/team:t"));
        for other in ["user:other", "team:u", "org", "unrouted"] {
            assert_eq!(stream(other), Err(CredentialError::Channel), "{other}");
        }
    }
}
