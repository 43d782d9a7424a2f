//! Edge credentials: JSON Web Tokens (RFC 7519), HS256 and nothing else.
//!
//! Written here rather than taken from a library because one fixed algorithm is thirty lines over
//! `hmac`, while the libraries bring RSA and elliptic curves into the wasm and read a clock.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq;

use crate::{
    error::{ErrorCode, Problem},
    filter::KindFilter,
    identifier::{Channel, EdgeId, OrganizationId, StreamKey, UserId},
    signature::mac,
    time::UnixMillis,
};

const SECRET_LENGTH_MIN: usize = 16;
const TOKEN_LENGTH_MAX: usize = 4096;

macro_rules! scopes {
    ($($(#[$documentation:meta])* $scope:ident = $text:literal, $kinds:literal;)*) => {
        /// What a credential allows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[$documentation])* #[serde(rename = $text)] $scope,)*
            /// A scope of a newer relay; it allows nothing here.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &[Self] = &[$(Self::$scope),*];

            /// The scope's text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$scope => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The kinds of events that it lets be read, as in a `kind` parameter: `*` for all,
            /// empty for none.
            pub fn kinds(self) -> &'static str {
                match self {
                    $(Self::$scope => $kinds,)*
                    Self::Unknown => "",
                }
            }
        }
    };
}

scopes! {
    /// Read all events.
    ReadEvents = "read:events", "*";
    /// Read the events of agent sessions.
    ReadSessions = "read:sessions", "AgentSessionEvent,AgentSession,AgentActivity";
    /// Read what happens to issues.
    ReadIssues = "read:issues", "Issue,Comment,Reaction,Attachment,IssueLabel,IssueSLA";
    /// Read the app's notifications.
    ReadNotifications = "read:notifications", "AppUserNotification";
    /// Read what happens to projects and the like.
    ReadProjects = "read:projects",
        "Project,ProjectUpdate,ProjectLabel,Initiative,InitiativeUpdate,InitiativeLabel,\
         Document,Cycle,Customer,CustomerNeed,Release,ReleaseNote";
    /// Report what became of events.
    WriteStatus = "write:status", "";
    /// Write in agent sessions: thoughts, actions, plans, links.
    WriteActivity = "write:activity", "";
}

impl Scope {
    /// What a new credential gets unless less is asked for.
    pub const DEFAULT: [Self; 3] = [Self::ReadEvents, Self::WriteStatus, Self::WriteActivity];

    /// The scopes of which one is needed to read anything.
    pub const READING: &[Self] = &[
        Self::ReadEvents,
        Self::ReadSessions,
        Self::ReadIssues,
        Self::ReadNotifications,
        Self::ReadProjects,
    ];
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
            channels: Vec::new(),
            generation: None,
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
