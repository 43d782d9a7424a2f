//! The queue's messages. A message is one line of JSON about an event, a line break, and the body
//! as it came: nothing is escaped, so that the body survives byte for byte and no byte is paid
//! twice (the queue bills by 64 KB).

use serde::{Deserialize, Serialize};

use crate::{
    identifier::{Channel, EventId},
    limits::DELIVERY_ATTEMPTS_MAX,
    time::UnixMillis,
};

const VERSION: u32 = 1;

/// A body that was too large for the queue and lies in R2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBody {
    /// The R2 key.
    pub key: String,
    /// Its length in bytes.
    pub bytes: usize,
}

/// A received event on its way to its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMessage {
    version: u32,
    /// The event.
    pub id: EventId,
    /// When the webhook was received.
    pub received_at: UnixMillis,
    /// Finds the log lines of the webhook's request.
    pub request_id: String,
    /// The source's delivery id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// The source's headers that are handed on.
    pub headers: Vec<(String, String)>,
    /// Where the body is, when it isn't in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_body: Option<StoredBody>,
    /// Set when an operator sends the event on its way again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Reroute>,
    /// Set when one of the event's streams had it and gave it up: it goes back there alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Returned>,
}

/// The stream that gave an event up, and what was decided for it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Which channel of the event's organization.
    pub channel: Channel,
    /// The rule that gave it this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed_by: Option<String>,
    /// Whether the app itself caused it.
    #[serde(default)]
    pub own: bool,
}

/// How an event of the `unrouted` stream is to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reroute {
    /// Where to; decided anew when it names no channel.
    pub to: Option<Channel>,
}

/// The text is not a message of this queue.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// No line break: no header line.
    #[error("no header line")]
    NoHeader,
    /// The header line is not the expected JSON.
    #[error("header line: {0}")]
    Header(#[from] serde_json::Error),
    /// Written by a version that this one can't read.
    #[error("message version {0} is unknown")]
    Version(u32),
}

impl QueueMessage {
    /// A message about an event; `stored_body` starts empty.
    pub fn new(id: EventId, received_at: UnixMillis, request_id: String) -> Self {
        Self {
            version: VERSION,
            id,
            received_at,
            request_id,
            delivery: None,
            headers: Vec::new(),
            stored_body: None,
            reroute: None,
            returned: None,
        }
    }

    /// The message's text. The body is empty when it is stored elsewhere.
    pub fn encode(&self, body: &str) -> String {
        encode(self, if self.stored_body.is_some() { "" } else { body })
    }

    /// Reads a message's text, also of one that was put back; the second value is the body that
    /// came with it.
    pub fn decode(text: &str) -> Result<(Self, &str), MessageError> {
        Self::decode_bare(text).or_else(|error| match DeadLetter::decode(text) {
            Some((_, original)) => Self::decode_bare(original),
            None => Err(error),
        })
    }

    fn decode_bare(text: &str) -> Result<(Self, &str), MessageError> {
        let (header, body) = text.split_once('\n').ok_or(MessageError::NoHeader)?;
        let message: Self = serde_json::from_str(header)?;
        if message.version != VERSION {
            return Err(MessageError::Version(message.version));
        }
        Ok((message, body))
    }
}

/// A message that did not reach its stream: why, and the text as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    dead_letter: u32,
    /// The id that the queue gave the message at first.
    pub message: String,
    /// A stable word, then what is known: `undecodable: no header line`.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When the queue took it.
    pub first_seen_at: UnixMillis,
}

impl DeadLetter {
    /// A dead letter.
    pub fn new(message: String, reason: String, attempts: u32, first_seen_at: UnixMillis) -> Self {
        Self { dead_letter: VERSION, message, reason, attempts, first_seen_at }
    }

    /// A message that the platform moved by itself: it tells neither reason nor attempts.
    pub fn moved_by_platform(message: String, first_seen_at: UnixMillis) -> Self {
        Self::new(message, "retries_exhausted".to_owned(), DELIVERY_ATTEMPTS_MAX, first_seen_at)
    }

    /// The text for the dead letters' queue, and of a message that is put back.
    pub fn encode(&self, original: &str) -> String {
        encode(self, original)
    }

    /// Reads what the consumer wrote; `None` for a message that the platform moved by itself.
    ///
    /// A message that was put back and failed again stands in two letters: the outer one says why,
    /// the inner one which message this was at first. So it lies under its old name again, however
    /// often it comes back.
    pub fn decode(text: &str) -> Option<(Self, &str)> {
        let (mut letter, mut original) = Self::decode_outer(text)?;
        while let Some((inner, inner_original)) = Self::decode_outer(original) {
            letter.message = inner.message;
            letter.first_seen_at = inner.first_seen_at;
            original = inner_original;
        }
        Some((letter, original))
    }

    fn decode_outer(text: &str) -> Option<(Self, &str)> {
        let (header, original) = text.split_once('\n')?;
        serde_json::from_str(header).ok().map(|letter| (letter, original))
    }
}

fn encode(header: &impl Serialize, body: &str) -> String {
    let mut text = serde_json::to_string(header).expect("plain fields serialise");
    text.reserve(body.len() + 1);
    text.push('\n');
    text.push_str(body);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> QueueMessage {
        QueueMessage::new(EventId::from_bytes([3; 16]), UnixMillis::new(5), "r-1".into())
    }

    proptest! {
        #[test]
        fn the_body_survives(body in any::<String>()) {
            let text = message().encode(&body);
            let (read, read_body) = QueueMessage::decode(&text).unwrap();
            prop_assert_eq!((read, read_body), (message(), body.as_str()));
            let letter = DeadLetter::new("m".into(), "undecodable".into(), 1, UnixMillis::new(9));
            let text = letter.encode(&body);
            prop_assert_eq!(DeadLetter::decode(&text), Some((letter, body.as_str())));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = QueueMessage::decode(&text);
            let _ = DeadLetter::decode(&text);
        }
    }

    #[test]
    fn the_format_is_pinned() {
        assert_eq!(
            message().encode("{}"),
            "{\"version\":1,\"id\":\"evt_030c1g60o30c1g60o30c1g60o3\",\"received_at\":5,\
             \"request_id\":\"r-1\",\"headers\":[]}\n{}"
        );
        let newer = message().encode("{}").replace("\"version\":1", "\"version\":2");
        assert!(matches!(QueueMessage::decode(&newer), Err(MessageError::Version(2))));
    }

    #[test]
    fn what_was_put_back_is_read_like_the_message_and_keeps_its_name() {
        let bare = message().encode("{}");
        let again = DeadLetter::moved_by_platform("first".into(), UnixMillis::new(7)).encode(&bare);
        assert_eq!(QueueMessage::decode(&again).unwrap(), (message(), "{}"));
        let garbage = DeadLetter::moved_by_platform("first".into(), UnixMillis::new(7)).encode("x");
        assert!(matches!(QueueMessage::decode(&garbage), Err(MessageError::NoHeader)));
        let failed = DeadLetter::new("second".into(), "why".into(), 3, UnixMillis::new(9));
        for (text, original) in [(&again, bare.as_str()), (&garbage, "x")] {
            let expected = DeadLetter::new("first".into(), "why".into(), 3, UnixMillis::new(7));
            let twice = failed.encode(&failed.encode(text));
            assert_eq!(
                DeadLetter::decode(&failed.encode(text)),
                Some((expected.clone(), original))
            );
            assert_eq!(DeadLetter::decode(&twice), Some((expected, original)));
        }
    }

    #[test]
    fn a_message_may_say_where_its_event_is_to_go() {
        let mut message = message();
        for (to, written) in [(Some("user:u"), "\"user:u\""), (None, "null")] {
            message.reroute = Some(Reroute { to: to.map(|to| to.parse().unwrap()) });
            let text = message.encode("{}");
            assert!(text.contains(&format!("\"reroute\":{{\"to\":{written}}}")), "{text}");
            assert_eq!(QueueMessage::decode(&text).unwrap(), (message.clone(), "{}"));
        }
    }

    #[test]
    fn a_stored_body_does_not_travel() {
        let mut message = message();
        message.stored_body = Some(StoredBody { key: "bodies/x".into(), bytes: 9 });
        let text = message.encode("123456789");
        assert_eq!(QueueMessage::decode(&text).unwrap(), (message, ""));
    }
}
