use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{base32, limits::IDENTIFIER_LENGTH_MAX, signature::Sha256Digest};

/// The text cannot be this kind of identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct IdentifierError {
    expected: &'static str,
}

/// Identifiers stand in object names, R2 keys and URLs: letters, digits, `-` and `_` only.
fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

macro_rules! identifier {
    ($(#[$documentation:meta])* $name:ident, $expected:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdentifierError;

            fn from_str(text: &str) -> Result<Self, IdentifierError> {
                if !is_identifier(text) {
                    return Err(IdentifierError { expected: $expected });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(
    /// A Linear workspace (`organizationId`, a UUID). The boundary that no event crosses.
    OrganizationId,
    "an organization is 1 to 64 letters, digits, '-' or '_'"
);
identifier!(
    /// A person in Linear (`User.id`, a UUID).
    UserId,
    "a user is 1 to 64 letters, digits, '-' or '_'"
);
identifier!(
    /// A credential's subject: one machine that may read one stream.
    EdgeId,
    "an edge is 1 to 64 letters, digits, '-' or '_'"
);

/// What happened, once. Derived from what identifies it at the source, so that every delivery of
/// one event yields the same id. Text: `evt_` and 26 characters of `[0-9a-v]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Bytes of the binary form, as stored beside each batch.
    pub const LENGTH: usize = 16;

    /// The first 128 bits of a SHA-256 digest.
    pub fn from_digest(digest: Sha256Digest) -> Self {
        let mut bytes = [0; Self::LENGTH];
        bytes.copy_from_slice(&digest.as_bytes()[..Self::LENGTH]);
        Self(bytes)
    }

    /// The binary form.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(30);
        text.push_str("evt_");
        base32::encode_into(u128::from_be_bytes(self.0), 26, &mut text);
        f.write_str(&text)
    }
}

impl FromStr for EventId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        text.strip_prefix("evt_")
            .filter(|digits| digits.len() == 26)
            .and_then(base32::decode)
            .map(|value| Self(value.to_be_bytes()))
            .ok_or(IdentifierError {
                expected: "an event id is 'evt_' and 26 characters of 0-9 and a-v",
            })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which of an organization's streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// One person's events: `user:{id}`.
    User(UserId),
    /// One team's events: `team:{id}`.
    Team(String),
    /// The whole organization's events: `org`.
    Organization,
    /// Events that found nobody: `unrouted`.
    Unrouted,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::Team(team) => write!(f, "team:{team}"),
            Self::Organization => f.write_str("org"),
            Self::Unrouted => f.write_str("unrouted"),
        }
    }
}

impl FromStr for Channel {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        const EXPECTED: IdentifierError =
            IdentifierError { expected: "a channel is user:ID, team:ID, org or unrouted" };
        match text.split_once(':') {
            Some(("user", user)) => user.parse().map(Self::User).map_err(|_| EXPECTED),
            Some(("team", team)) if is_identifier(team) => Ok(Self::Team(team.to_owned())),
            None if text == "org" => Ok(Self::Organization),
            None if text == "unrouted" => Ok(Self::Unrouted),
            _ => Err(EXPECTED),
        }
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A stream's name, `{organization}/{channel}`; also the name of the object that owns it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The organization that every event of the stream belongs to.
    pub organization: OrganizationId,
    /// Which of its streams.
    pub channel: Channel,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.channel)
    }
}

impl FromStr for StreamKey {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        let (organization, channel) = text
            .split_once('/')
            .ok_or(IdentifierError { expected: "a stream is ORGANIZATION/CHANNEL" })?;
        Ok(Self { organization: organization.parse()?, channel: channel.parse()? })
    }
}

impl Serialize for StreamKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn event_ids_round_trip(bytes in any::<[u8; 16]>()) {
            let id = EventId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn arbitrary_text_never_panics_and_names_one_stream(text in any::<String>()) {
            let _ = text.parse::<EventId>();
            if let Ok(key) = text.parse::<StreamKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn a_stream_name_cannot_smuggle_another_organization() {
        for text in
            ["", "a", "a/", "/org", "a/b/org", "a/user:b/org", "a/user:", "a b/org", "a/team:x:y"]
        {
            assert!(text.parse::<StreamKey>().is_err(), "{text:?}");
        }
        for text in ["o/user:u-1", "o/team:t", "o/org", "o/unrouted"] {
            assert_eq!(text.parse::<StreamKey>().unwrap().to_string(), text);
        }
    }
}
