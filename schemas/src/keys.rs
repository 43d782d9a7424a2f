//! Names under which things are stored. A name once written stays readable for the retention
//! period; change a layout by adding one.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{identifier::EventId, signature::Sha256Digest, time::UnixMillis};

fn day(at: UnixMillis) -> String {
    at.to_string()[..10].replace('-', "/")
}

/// R2 key of a body too large for the queue: `bodies/{yyyy}/{mm}/{dd}/{event}-{digest}`. A retry
/// of the event can have another body, stamped anew: neither may replace the other, because each
/// message has the signature of its own.
pub fn oversize_body_key(event: EventId, body: &[u8], received_at: UnixMillis) -> String {
    let digest = EventId::from_digest(Sha256Digest::of(&[body])).to_string();
    let digest = digest.trim_start_matches("evt_");
    format!("bodies/{}/{event}-{digest}", day(received_at))
}

/// Under which all dead letters lie in R2.
pub const DEAD_LETTERS_PREFIX: &str = "dead-letters/";

const DAY_LENGTH: usize = "yyyy-mm-dd".len();
const MESSAGE_LENGTH_MAX: usize = 64;

/// A dead letter's name, `{yyyy}-{mm}-{dd}-{message}`: the day on which the queue took the
/// message, and the queue's id for it. One segment of an address, and the key follows from it, so
/// that nobody has to search. The queue may deliver a dead letter twice; the name makes that one
/// object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId(String);

/// The text can't be the name of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter's id is a day and the queue's id of the message: 2026-11-20-0bcf745c")]
pub struct DeadLetterIdError;

impl DeadLetterId {
    /// The name of a message's letter.
    pub fn new(message: &str, first_seen_at: UnixMillis) -> Self {
        let message: String = message
            .chars()
            .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
            .take(MESSAGE_LENGTH_MAX)
            .collect();
        Self(format!("{}-{message}", &first_seen_at.to_string()[..DAY_LENGTH]))
    }

    /// The R2 key: `dead-letters/{yyyy}/{mm}/{dd}/{message}.json`.
    pub fn key(&self) -> String {
        let (day, message) = self.0.split_at(DAY_LENGTH);
        format!("{DEAD_LETTERS_PREFIX}{}/{}.json", day.replace('-', "/"), &message[1..])
    }

    /// The name that leads to a key; `None` where none does.
    pub fn of_key(key: &str) -> Option<Self> {
        let text = key.strip_prefix(DEAD_LETTERS_PREFIX)?.strip_suffix(".json")?;
        let id = Self::from_str(&text.replace('/', "-")).ok()?;
        (id.key() == key).then_some(id)
    }
}

impl FromStr for DeadLetterId {
    type Err = DeadLetterIdError;

    fn from_str(text: &str) -> Result<Self, DeadLetterIdError> {
        let (day, message) = text.split_at_checked(DAY_LENGTH).ok_or(DeadLetterIdError)?;
        let is_day = day.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let message = message.strip_prefix('-').ok_or(DeadLetterIdError)?;
        let is_message = message.len() <= MESSAGE_LENGTH_MAX
            && message.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_day && is_message { Ok(Self(text.to_owned())) } else { Err(DeadLetterIdError) }
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for DeadLetterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_pinned() {
        let at = UnixMillis::parse_rfc3339("2026-11-20T05:06:07Z").unwrap();
        let event = EventId::from_bytes([0; 16]);
        assert_eq!(
            oversize_body_key(event, b"{}", at),
            "bodies/2026/11/20/evt_00000000000000000000000000-242dnq6ldjcu512hld2rrugp4u"
        );
        let stamped_anew = oversize_body_key(event, b"{ }", at);
        assert_ne!(stamped_anew, oversize_body_key(event, b"{}", at));
        let letter = DeadLetterId::new("ab/../c", at);
        assert_eq!(letter.to_string(), "2026-11-20-ab----c");
        assert_eq!(letter.key(), "dead-letters/2026/11/20/ab----c.json");
    }

    #[test]
    fn what_is_no_name_of_a_dead_letter_is_refused() {
        let longest = format!("2026-11-20-{}", "a".repeat(64));
        for good in ["2026-11-20-0bcf", "2026-11-20-a-b", "1970-01-01-", &longest] {
            assert_eq!(good.parse::<DeadLetterId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        let too_long = format!("{longest}a");
        for bad in [
            "",
            "2026-11-20",
            "2026-11-20x0bcf",
            "2026-1120--0bcf",
            "20261-1-20-a",
            "x026-11-20-a",
            "2026-11-20-a/b",
            "2026-11-20-a.json",
            "2026-11-20-a_b",
            "2026-11-2\u{e9}-a",
            "2026-11-20-\u{e9}",
            "2026/11/20/a",
            &too_long,
        ] {
            assert_eq!(bad.parse::<DeadLetterId>(), Err(DeadLetterIdError), "{bad}");
        }
        for bad in [
            "",
            "dead-letters/2026-11-20-a.json",
            "dead-letters/2026/11/20/a",
            "bodies/2026/11/20/a",
            "dead-letters/2026/11/20/a/b.json",
            "dead-letters/2026/11/20.json",
        ] {
            assert_eq!(DeadLetterId::of_key(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_dead_letter_is_found_by_its_name(message in any::<String>(), at in any::<u64>()) {
            let id = DeadLetterId::new(&message, UnixMillis::new(at));
            prop_assert_eq!(id.to_string().parse(), Ok(id.clone()));
            prop_assert_eq!(DeadLetterId::of_key(&id.key()), Some(id));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<DeadLetterId>();
            let _ = DeadLetterId::of_key(&format!("dead-letters/{text}.json"));
        }
    }
}
