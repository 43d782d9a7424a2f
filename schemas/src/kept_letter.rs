//! Dead letters as they lie in R2: the letter as JSON, and in the object's custom metadata what a
//! list shows of it, so that listing reads no letter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    keys::DeadLetterId,
    limits::LISTED_REASON_LENGTH_MAX,
    message::{DeadLetter, QueueMessage, StoredBody},
    time::UnixMillis,
};

const VERSION: u32 = 1;

/// A dead letter in R2.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLetter {
    version: u32,
    message: String,
    reason: String,
    attempts: u32,
    first_seen_at: UnixMillis,
    kept_at: UnixMillis,
    /// When it was sent to the queue again; not set, or not any more, when it waits to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back_at: Option<UnixMillis>,
    body: String,
}

/// The object is no dead letter that this version reads.
#[derive(Debug, thiserror::Error)]
pub enum KeptLetterError {
    /// Not the expected JSON. What is wrong is not said, because it may quote the letter.
    #[error("not a dead letter, near column {0}")]
    Form(usize),
    /// Written by a later version.
    #[error("dead letter version {0} is unknown")]
    Version(u32),
}

impl KeptLetter {
    /// A letter that comes from the queue, with the message as it was.
    pub fn new(letter: DeadLetter, kept_at: UnixMillis, original: &str) -> Self {
        Self {
            version: VERSION,
            message: letter.message,
            reason: letter.reason,
            attempts: letter.attempts,
            first_seen_at: letter.first_seen_at,
            kept_at,
            put_back_at: None,
            body: original.to_owned(),
        }
    }

    /// Its name.
    pub fn id(&self) -> DeadLetterId {
        DeadLetterId::new(&self.message, self.first_seen_at)
    }

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields serialise")
    }

    /// Reads an object's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeptLetterError> {
        let letter: Self =
            serde_json::from_slice(bytes).map_err(|error| KeptLetterError::Form(error.column()))?;
        if letter.version == VERSION {
            Ok(letter)
        } else {
            Err(KeptLetterError::Version(letter.version))
        }
    }

    /// The object's custom metadata. R2's interfaces differ in what they make of characters
    /// outside of ASCII there, so that these are replaced.
    pub fn metadata(&self) -> BTreeMap<&'static str, String> {
        let is_plain = |character: &char| character.is_ascii() && !character.is_ascii_control();
        let reason = self.reason.chars().take(LISTED_REASON_LENGTH_MAX);
        let reason = reason.map(|character| if is_plain(&character) { character } else { '?' });
        let mut metadata = BTreeMap::from([
            ("reason", reason.collect()),
            ("attempts", self.attempts.to_string()),
            ("first_seen_at", self.first_seen_at.get().to_string()),
            ("kept_at", self.kept_at.get().to_string()),
        ]);
        if let Some(at) = self.put_back_at {
            metadata.insert("put_back_at", at.get().to_string());
        }
        metadata
    }

    /// The text that puts the message back into its queue. Which letter it was goes in front of
    /// it: the queue gives the message another id, under which it would become a second letter
    /// each time that it fails. The rest is what is true if the platform moves it by itself.
    pub fn put_back_text(&self) -> String {
        DeadLetter::moved_by_platform(self.message.clone(), self.first_seen_at).encode(&self.body)
    }

    /// Where the webhook's body is, when it was too large for the queue.
    pub fn stored_body(&self) -> Option<StoredBody> {
        QueueMessage::decode(&self.body).ok()?.0.stored_body
    }
}

/// What a list shows of a dead letter. A letter that was kept without metadata shows its name and
/// its size only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LetterSummary {
    id: DeadLetterId,
    reason: Option<String>,
    attempts: Option<u32>,
    first_seen_at: Option<UnixMillis>,
    kept_at: Option<UnixMillis>,
    put_back_at: Option<UnixMillis>,
    bytes: u64,
}

impl LetterSummary {
    /// Reads an object's custom metadata.
    pub fn new<'a>(
        id: DeadLetterId,
        bytes: u64,
        metadata: impl Fn(&str) -> Option<&'a str>,
    ) -> Self {
        let instant = |name: &str| metadata(name)?.parse().ok().map(UnixMillis::new);
        Self {
            id,
            reason: metadata("reason").map(str::to_owned),
            attempts: metadata("attempts").and_then(|text| text.parse().ok()),
            first_seen_at: instant("first_seen_at"),
            kept_at: instant("kept_at"),
            put_back_at: instant("put_back_at"),
            bytes,
        }
    }

    /// Whether its reason begins with this word. One whose reason is not known may.
    pub fn may_have_reason(&self, word: &str) -> bool {
        self.reason.as_deref().is_none_or(|reason| reason.split(':').next() == Some(word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identifier::EventId;

    fn kept(reason: &str, body: &str) -> KeptLetter {
        let letter = DeadLetter::new("m-1".into(), reason.into(), 3, UnixMillis::new(5));
        KeptLetter::new(letter, UnixMillis::new(9), body)
    }

    fn summary(letter: &KeptLetter) -> LetterSummary {
        let metadata = letter.metadata();
        LetterSummary::new(letter.id(), 7, |name| metadata.get(name).map(String::as_str))
    }

    #[test]
    fn the_format_is_pinned() {
        let mut letter = kept("undecodable: no header line", "a\n\"b\"");
        let text = String::from_utf8(letter.encode()).unwrap();
        assert_eq!(
            text,
            "{\"version\":1,\"message\":\"m-1\",\"reason\":\"undecodable: no header line\",\
             \"attempts\":3,\"first_seen_at\":5,\"kept_at\":9,\"body\":\"a\\n\\\"b\\\"\"}"
        );
        letter.put_back_at = Some(UnixMillis::new(11));
        let marked = text.replace("\"body\"", "\"put_back_at\":11,\"body\"");
        assert_eq!(String::from_utf8(letter.encode()).unwrap(), marked);
        assert_eq!(letter.id().to_string(), "1970-01-01-m-1");
        let metadata: Vec<_> = letter.metadata().into_iter().collect();
        let expected = [
            ("attempts", "3"),
            ("first_seen_at", "5"),
            ("kept_at", "9"),
            ("put_back_at", "11"),
            ("reason", "undecodable: no header line"),
        ];
        assert_eq!(metadata, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn another_form_or_version_is_refused_without_a_quote() {
        let text = String::from_utf8(kept("why", "secret").encode()).unwrap();
        let check = |text: String, expected: &str| {
            let Err(error) = KeptLetter::decode(text.as_bytes()) else { panic!("{text}") };
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        };
        check(text.replace("\"version\":1", "\"version\":2"), "dead letter version 2");
        check(text.replace("\"attempts\":3", "\"attempts\":\"secret\""), "not a dead letter");
        check(text[1..].to_owned(), "not a dead letter");
    }

    #[test]
    fn a_list_shows_what_the_letter_says() {
        let mut letter = kept("undecodable: \u{1f4a1}\n", "x");
        letter.put_back_at = Some(UnixMillis::new(11));
        let shown = serde_json::to_value(summary(&letter)).unwrap();
        let expected = serde_json::json!({
            "id": "1970-01-01-m-1", "reason": "undecodable: ??", "attempts": 3,
            "first_seen_at": 5, "kept_at": 9, "put_back_at": 11, "bytes": 7,
        });
        assert_eq!(shown, expected);
        assert!(summary(&letter).may_have_reason("undecodable"));
        for word in ["", "undecodabl", "undecodable:", "body_missing"] {
            assert!(!summary(&letter).may_have_reason(word), "{word}");
        }
        let long = kept(&"x".repeat(500), "").metadata();
        assert_eq!(long["reason"].len(), LISTED_REASON_LENGTH_MAX);
    }

    #[test]
    fn a_letter_without_metadata_is_listed_under_any_reason() {
        let bare = LetterSummary::new(kept("why", "").id(), 7, |_| None);
        assert!(bare.may_have_reason("why") && bare.may_have_reason("other"));
        assert_eq!(serde_json::to_value(&bare).unwrap()["reason"], serde_json::Value::Null);
    }

    #[test]
    fn the_stored_body_is_known() {
        let mut message =
            QueueMessage::new(EventId::from_bytes([3; 16]), UnixMillis::new(5), "r".into());
        assert_eq!(kept("why", &message.encode("{}")).stored_body(), None);
        message.stored_body = Some(StoredBody { key: "bodies/x".into(), bytes: 9 });
        assert_eq!(kept("why", &message.encode("")).stored_body(), message.stored_body);
        assert_eq!(kept("why", "garbage").stored_body(), None);
    }

    proptest! {
        #[test]
        fn the_letter_survives_and_comes_back_under_its_name(body in any::<String>()) {
            let letter = kept("why", &body);
            prop_assert!(KeptLetter::decode(&letter.encode()).unwrap() == letter);
            let text = letter.put_back_text();
            let failed = DeadLetter::new("m-2".into(), "new".into(), 1, UnixMillis::new(99_999_999));
            let text = failed.encode(&text);
            let (again, original) = DeadLetter::decode(&text).unwrap();
            prop_assert_eq!((again.reason.as_str(), again.attempts), ("new", 1));
            let again = KeptLetter::new(again, UnixMillis::new(10), original);
            prop_assert_eq!(again.id(), letter.id());
            prop_assert_eq!(again.body, body);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = KeptLetter::decode(&bytes);
        }
    }
}
