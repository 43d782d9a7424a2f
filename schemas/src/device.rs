//! The device flow (RFC 8628): how a machine without a browser gets a credential.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    credential::Scope,
    error::{ErrorCode, Problem},
    identifier::{Channel, EdgeId, OrganizationId, UserId},
    limits::{CHANNELS_PER_EDGE_MAX, EDGE_NAME_LENGTH_MAX},
    oauth::{SecretDigest, Words, secret_text},
};

/// The `grant_type` of RFC 8628.
pub const DEVICE_GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Consonants without `A`, `E`, `I`, `O`, `U` and `Y`, so that a code is never a word.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: usize = 8;

/// What a person types: eight letters, shown as `XXXX-XXXX`. About 34 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserCode([u8; LETTERS]);

impl UserCode {
    /// A code from a random number.
    pub fn from_random(mut number: u64) -> Self {
        Self(std::array::from_fn(|_| {
            let letter = ALPHABET[usize::try_from(number % 20).expect("below 20")];
            number /= 20;
            letter
        }))
    }

    fn letters(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters of the alphabet")
    }
}

/// Not a code; which letter is wrong is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code has eight letters, such as BCDF-GHJK")]
pub struct UserCodeError;

impl FromStr for UserCode {
    type Err = UserCodeError;

    /// As people type it: small letters, blanks and dashes anywhere.
    fn from_str(text: &str) -> Result<Self, UserCodeError> {
        let letters: Vec<u8> = text
            .bytes()
            .take(4 * LETTERS)
            .filter(|byte| !matches!(byte, b'-' | b' '))
            .map(|byte| byte.to_ascii_uppercase())
            .collect();
        let letters: [u8; LETTERS] = letters.try_into().map_err(|_| UserCodeError)?;
        if letters.iter().all(|letter| ALPHABET.contains(letter)) {
            Ok(Self(letters))
        } else {
            Err(UserCodeError)
        }
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.letters().split_at(LETTERS / 2);
        write!(f, "{first}-{last}")
    }
}

impl Serialize for UserCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the machine polls with: the user code, which finds the object, and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Which request.
    pub user_code: UserCode,
    /// Known to the machine only.
    pub secret: String,
}

impl DeviceCode {
    /// A code with a secret of random bytes.
    pub fn new(user_code: UserCode, secret: [u8; 32]) -> Self {
        Self { user_code, secret: secret_text(secret) }
    }

    /// What is stored of the secret.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.secret)
    }

    /// Its text, for the machine only.
    pub fn text(&self) -> String {
        format!("{}.{}", self.user_code.letters(), self.secret)
    }

    /// Reads its text.
    pub fn parse(text: &str) -> Option<Self> {
        let (user_code, secret) = text.split_once('.')?;
        Some(Self { user_code: user_code.parse().ok()?, secret: secret.to_owned() })
    }
}

/// What a machine asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Its name, for people.
    pub name: String,
    /// What it wants to be allowed.
    pub scopes: Vec<Scope>,
    /// The channels that it wants to read besides its person's.
    #[serde(default)]
    pub channels: Vec<Channel>,
}

/// The body of `POST /device/code`, as JSON or as a form.
#[derive(Debug, Default, Deserialize)]
pub struct DeviceFields {
    #[serde(default)]
    client_name: String,
    #[serde(default, alias = "scope")]
    scopes: Option<Words>,
    #[serde(default)]
    channels: Option<Words>,
}

impl DeviceRequest {
    /// Checks what a machine asks for.
    pub fn read(fields: DeviceFields) -> Result<Self, Problem> {
        let invalid = |name: &str, message: String| {
            Problem::new(ErrorCode::ParameterInvalid, message).with("parameter", name)
        };
        let name = fields.client_name.trim().to_owned();
        if name.is_empty() || name.len() > EDGE_NAME_LENGTH_MAX || name.chars().any(is_unprintable)
        {
            let message = format!("client_name has 1 to {EDGE_NAME_LENGTH_MAX} printable bytes");
            return Err(invalid("client_name", message));
        }
        let words = |words: Option<Words>| words.map(Vec::<String>::from);
        let scopes = match words(fields.scopes).filter(|scopes| !scopes.is_empty()) {
            None => Scope::DEFAULT.to_vec(),
            Some(texts) => {
                let known: Option<Vec<Scope>> = texts.iter().map(|text| scope(text)).collect();
                known.ok_or_else(|| {
                    let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                    invalid("scopes", format!("scopes are one or more of {}", all.join(", ")))
                })?
            }
        };
        let texts = words(fields.channels).unwrap_or_default();
        let channels: Option<Vec<Channel>> = texts.iter().map(|text| channel(text)).collect();
        let channels = channels
            .filter(|channels| channels.len() <= CHANNELS_PER_EDGE_MAX)
            .ok_or_else(|| {
                let message = format!("channels are up to {CHANNELS_PER_EDGE_MAX} of team:ID, org");
                invalid("channels", message)
            })?;
        Ok(Self { name, scopes: distinct(scopes), channels: distinct(channels) })
    }
}

/// Control characters, and those that turn the direction of what follows: a name is shown to
/// whoever approves it.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn scope(text: &str) -> Option<Scope> {
    Scope::ALL.iter().copied().find(|scope| scope.as_str() == text)
}

fn channel(text: &str) -> Option<Channel> {
    let channel: Channel = text.parse().ok()?;
    matches!(channel, Channel::Team(_) | Channel::Organization).then_some(channel)
}

fn distinct<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}

/// The answer to `POST /device/code`.
#[derive(Serialize, Deserialize)]
pub struct DeviceCodeReply {
    /// What the machine polls with.
    pub device_code: String,
    /// What the person types.
    pub user_code: UserCode,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: String,
    /// How long all this is valid, in seconds.
    pub expires_in: u64,
    /// How often the machine may ask, in seconds.
    pub interval: u64,
}

/// The answer to `POST /device/token`. Not printable: it holds secrets.
#[derive(Serialize, Deserialize)]
pub struct TokenReply {
    /// What requests carry.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// How long the access token is valid, in seconds.
    pub expires_in: u64,
    /// What gets the next pair, once.
    pub refresh_token: String,
    /// What both allow, between blanks.
    pub scope: String,
    /// Who the machine is.
    pub edge: TokenEdge,
}

/// Who a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEdge {
    /// Its id.
    pub id: EdgeId,
    /// Its name.
    pub name: Option<String>,
    /// Its organization.
    pub organization: OrganizationId,
    /// Its person.
    pub user: UserId,
    /// The channels that it may read besides the person's.
    pub channels: Vec<Channel>,
}

/// Why `POST /device/token` gives no tokens, as RFC 6749 §5.2 and RFC 8628 §3.5 spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The person has not decided yet.
    AuthorizationPending,
    /// The same, and the machine asks too often: five seconds more between two requests.
    SlowDown,
    /// The person has refused.
    AccessDenied,
    /// Nobody has decided in time.
    ExpiredToken,
    /// The code or the token is not one, or was used; the problem says more where there is more.
    InvalidGrant(Option<Problem>),
    /// A parameter is missing.
    InvalidRequest,
    /// Another `grant_type` than the two.
    UnsupportedGrantType,
}

impl TokenError {
    /// The `error`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
        }
    }

    /// Reads an `error` that says all there is.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::AuthorizationPending, Self::SlowDown, Self::AccessDenied, Self::ExpiredToken]
            .into_iter()
            .chain([Self::InvalidGrant(None), Self::InvalidRequest, Self::UnsupportedGrantType])
            .find(|error| error.as_str() == text)
    }

    /// The body, which is answered with 400.
    pub fn to_json(&self) -> String {
        let mut body = serde_json::json!({ "error": self.as_str() });
        if let Self::InvalidGrant(Some(problem)) = self {
            body["code"] = problem.code.as_str().into();
            body["error_description"] = problem.message.as_str().into();
        }
        body.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(json: serde_json::Value) -> Result<DeviceRequest, String> {
        let fields: DeviceFields = serde_json::from_value(json).map_err(|e| e.to_string())?;
        DeviceRequest::read(fields).map_err(|problem| problem.details[0].1.clone())
    }

    #[test]
    fn a_machine_asks_in_json_or_in_a_form() {
        let asked = DeviceRequest {
            name: "laptop".into(),
            scopes: vec![Scope::ReadIssues, Scope::WriteStatus],
            channels: vec![Channel::Team("t".into()), Channel::Organization],
        };
        let list = serde_json::json!({
            "client_name": "laptop",
            "scopes": ["write:status", "read:issues", "read:issues"],
            "channels": ["team:t", "org"],
        });
        assert_eq!(request(list), Ok(asked.clone()));
        let form = serde_json::json!({
            "client_name": " laptop ", "scope": "read:issues write:status", "channels": "org,team:t",
        });
        assert_eq!(request(form), Ok(asked));
        let plain = request(serde_json::json!({ "client_name": "x" })).unwrap();
        assert_eq!((plain.scopes, plain.channels), (Scope::DEFAULT.to_vec(), vec![]));
    }

    #[test]
    fn what_a_machine_asks_for_is_bounded() {
        let check = |json: serde_json::Value, parameter: &str| {
            assert_eq!(request(json), Err(parameter.to_owned()));
        };
        let with = |name: &str, value: serde_json::Value| {
            let mut json = serde_json::json!({ "client_name": "laptop" });
            json[name] = value;
            json
        };
        for name in ["", "  ", "a\nb", "a\u{202e}b", &"x".repeat(EDGE_NAME_LENGTH_MAX + 1)] {
            check(with("client_name", name.into()), "client_name");
        }
        check(with("scopes", "read:everything".into()), "scopes");
        check(with("scopes", "unknown".into()), "scopes");
        for channel in ["user:u", "unrouted", "team:", "all"] {
            check(with("channels", channel.into()), "channels");
        }
        let many: Vec<String> = (0..=CHANNELS_PER_EDGE_MAX).map(|n| format!("team:{n}")).collect();
        check(with("channels", many.into()), "channels");
    }

    #[test]
    fn people_type_codes_in_many_ways() {
        for text in ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "b-c-d-f-g-h-j-k"] {
            assert_eq!(
                text.parse::<UserCode>().map(|code| code.to_string()),
                Ok("BCDF-GHJK".into())
            );
        }
        for text in ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF/GHJK", "ÄCDF-GHJK"] {
            assert!(text.parse::<UserCode>().is_err(), "{text}");
        }
    }

    #[test]
    fn errors_are_spelled_as_the_rfcs_do() {
        assert_eq!(TokenError::SlowDown.to_json(), r#"{"error":"slow_down"}"#);
        assert_eq!(TokenError::parse("slow_down"), Some(TokenError::SlowDown));
        assert_eq!(TokenError::parse("anything"), None);
        let reused = Problem::new(ErrorCode::RefreshReused, "used before");
        let body = TokenError::InvalidGrant(Some(reused)).to_json();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["error"], &body["code"]),
            (&"invalid_grant".into(), &"refresh_reused".into())
        );
    }

    proptest! {
        #[test]
        fn codes_round_trip(number in any::<u64>(), secret in any::<[u8; 32]>()) {
            let code = UserCode::from_random(number);
            prop_assert_eq!(code.to_string().parse(), Ok(code));
            let device = DeviceCode::new(code, secret);
            prop_assert!(DeviceCode::parse(&device.text()) == Some(device));
        }

        #[test]
        fn arbitrary_codes_never_panic(text in any::<String>()) {
            let _ = text.parse::<UserCode>();
            let _ = DeviceCode::parse(&text);
        }
    }
}
