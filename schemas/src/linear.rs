//! The part of Linear's webhook payloads that is read. Everything else passes through untouched.
//!
//! Shapes after `@linear/sdk` 98 (`LinearWebhookPayload`): every payload has `type`, `action`,
//! `organizationId`, `webhookTimestamp` (ms, signed) and `webhookId`. The last is the id of the
//! webhook's *configuration*, the same in all deliveries: nothing may be recognised by it.

use std::{cell::RefCell, fmt, ops::Range, rc::Rc};

use serde_json::value::RawValue;

use crate::{
    error::{ErrorCode, Problem},
    identifier::{EventId, OrganizationId},
    json_object::{JsonObject, is_too_deep},
    limits::{BODY_DEPTH_MAX, TIMESTAMP_WINDOW_MS},
    signature::Sha256Digest,
    time::UnixMillis,
};

const KIND_LENGTH_MAX: usize = 200;

/// `Type.action`, or `Type` where a payload has no action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookKind {
    /// `type`, such as `AgentSessionEvent`.
    pub name: String,
    /// `action`, such as `created`.
    pub action: Option<String>,
}

impl fmt::Display for WebhookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.action.iter().try_for_each(|action| write!(f, ".{action}"))
    }
}

/// Why a signed body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// No bytes.
    #[error("the body is empty")]
    Empty,
    /// Not JSON in UTF-8.
    #[error("the body is not JSON in UTF-8")]
    NotJson,
    /// JSON, but not an object.
    #[error("the body is not a JSON object")]
    NotObject,
    /// Deeper than [`BODY_DEPTH_MAX`].
    #[error("the body nests deeper than {BODY_DEPTH_MAX} levels")]
    TooDeep,
    /// A key stands twice.
    #[error("a key stands twice in the body")]
    Ambiguous,
    /// `type` or `action` is not a short string.
    #[error("type must be a string, and action too where there is one")]
    Type,
    /// No `organizationId`.
    #[error("organizationId is missing")]
    OrganizationMissing,
    /// `organizationId` is not an identifier.
    #[error("organizationId is not an identifier")]
    Organization,
    /// No `webhookTimestamp`.
    #[error("webhookTimestamp is missing")]
    TimestampMissing,
    /// `webhookTimestamp` is not a number of milliseconds.
    #[error("webhookTimestamp is not a number of milliseconds")]
    Timestamp,
    /// Older than accepted.
    #[error("webhookTimestamp is too old")]
    Stale,
    /// Later than the clocks may differ.
    #[error("webhookTimestamp is in the future")]
    Future,
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        let code = match error {
            EnvelopeError::Empty => ErrorCode::BodyEmpty,
            EnvelopeError::NotJson => ErrorCode::BodyNotJson,
            EnvelopeError::NotObject => ErrorCode::BodyNotObject,
            EnvelopeError::TooDeep => ErrorCode::BodyTooDeep,
            EnvelopeError::Ambiguous => ErrorCode::BodyAmbiguous,
            EnvelopeError::Type => ErrorCode::TypeInvalid,
            EnvelopeError::OrganizationMissing => ErrorCode::OrganizationMissing,
            EnvelopeError::Organization => ErrorCode::OrganizationInvalid,
            EnvelopeError::TimestampMissing => ErrorCode::TimestampMissing,
            EnvelopeError::Timestamp => ErrorCode::TimestampInvalid,
            EnvelopeError::Stale => ErrorCode::TimestampStale,
            EnvelopeError::Future => ErrorCode::TimestampFuture,
        };
        Self::new(code, error.to_string())
    }
}

/// What the relay reads of a webhook. Borrows the body.
#[derive(Debug)]
pub struct Envelope<'a> {
    body: &'a str,
    object: JsonObject<'a>,
    timestamp_text: &'a str,
    children: RefCell<Vec<(String, Option<Rc<JsonObject<'a>>>)>>,
    /// What happened.
    pub kind: WebhookKind,
    /// To whom; the boundary that the event never crosses.
    pub organization: OrganizationId,
    /// When Linear sent it.
    pub timestamp: UnixMillis,
}

impl<'a> Envelope<'a> {
    /// Reads a body whose signature has been checked.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        if body.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        let body = std::str::from_utf8(body).map_err(|_| EnvelopeError::NotJson)?;
        if is_too_deep(body) {
            return Err(EnvelopeError::TooDeep);
        }
        let object = parse_object(body)?;
        let kind = read_kind(&object)?;
        let organization =
            object.get("organizationId").ok_or(EnvelopeError::OrganizationMissing)?;
        let organization =
            serde_json::from_str(organization.get()).map_err(|_| EnvelopeError::Organization)?;
        let timestamp_text =
            object.get("webhookTimestamp").ok_or(EnvelopeError::TimestampMissing)?.get();
        let timestamp = read_timestamp(timestamp_text)?;
        let children = RefCell::default();
        Ok(Self { body, object, timestamp_text, children, kind, organization, timestamp })
    }

    /// Checks the signed timestamp. A retry may be as old as `age_ms_max`; duplicates of it are
    /// found by the stream, which remembers ids for longer than that.
    pub fn check_age(&self, now: UnixMillis, age_ms_max: u64) -> Result<(), EnvelopeError> {
        if self.timestamp.since_ms(now) > TIMESTAMP_WINDOW_MS {
            return Err(EnvelopeError::Future);
        }
        if now.since_ms(self.timestamp) > age_ms_max {
            return Err(EnvelopeError::Stale);
        }
        Ok(())
    }

    /// The whole body.
    pub fn body(&self) -> &'a str {
        self.body
    }

    /// The string at a path of keys; `None` when there is none, or it is something else.
    pub fn text_at(&self, path: &[&str]) -> Option<String> {
        serde_json::from_str(self.value_at(path)?.get()).ok()
    }

    /// The string at a path of keys, or the strings of the list there.
    pub fn texts_at(&self, path: &[&str]) -> Vec<String> {
        let Some(value) = self.value_at(path) else { return Vec::new() };
        serde_json::from_str(value.get())
            .or_else(|_| serde_json::from_str(value.get()).map(|text| vec![text]))
            .unwrap_or_default()
    }

    fn value_at(&self, path: &[&str]) -> Option<&'a RawValue> {
        match path {
            [] => None,
            [key] => self.object.get(key),
            [first, second, rest @ ..] => {
                let value = self.child(first)?.get(second)?;
                rest.iter().try_fold(value, |value, key| JsonObject::parse(value)?.get(key))
            }
        }
    }

    /// What an agent session is told ahead of everything: `stop`, when a person ends its work.
    pub fn signal(&self) -> Option<String> {
        let is_prompt = self.kind.name == "AgentSessionEvent"
            && self.kind.action.as_deref() == Some("prompted");
        let signal = self.text_at(&["agentActivity", "signal"]).filter(|_| is_prompt)?;
        (signal == "stop").then_some(signal)
    }

    /// An object at the first level. Read once: it can have megabytes, and is asked for a lot.
    fn child(&self, key: &str) -> Option<Rc<JsonObject<'a>>> {
        let mut children = self.children.borrow_mut();
        if let Some((_, child)) = children.iter().find(|(name, _)| name == key) {
            return child.clone();
        }
        let child = self.object.get(key).and_then(JsonObject::parse).map(Rc::new);
        children.push((key.to_owned(), child.clone()));
        child
    }

    /// What makes this the same event in every delivery.
    pub fn identity(&self) -> Identity {
        let named = match (self.kind.name.as_str(), self.kind.action.as_deref()) {
            ("AgentSessionEvent", Some("created")) => self.text_at(&["agentSession", "id"]),
            ("AgentSessionEvent", Some("prompted")) => self.text_at(&["agentActivity", "id"]),
            ("AppUserNotification", _) => self.text_at(&["notification", "id"]),
            _ => None,
        };
        named.map_or_else(|| Identity::Body(self.digest_without_sending()), Identity::Named)
    }

    /// The id of the event, the same in every delivery of it.
    pub fn event_id(&self) -> EventId {
        let (tag, identity): (&[u8], Vec<u8>) = match self.identity() {
            Identity::Named(id) => (b"named", id.into_bytes()),
            Identity::Body(digest) => (b"body", digest.as_bytes().to_vec()),
        };
        let kind = self.kind.to_string();
        let organization = self.organization.as_str().as_bytes();
        EventId::from_digest(Sha256Digest::of(&[
            b"edgerelay-event-1\0",
            organization,
            b"\0",
            kind.as_bytes(),
            b"\0",
            tag,
            b"\0",
            &identity,
        ]))
    }

    /// A retry may be stamped anew, and another app of the same organization has a webhook of its
    /// own; everything else in it is the same.
    fn digest_without_sending(&self) -> Sha256Digest {
        let webhook = self.object.get("webhookId").map_or("", RawValue::get);
        let range = |text: &str| {
            let start = text.as_ptr() as usize - self.body.as_ptr() as usize;
            start..start + text.len()
        };
        let left_out = [webhook, self.timestamp_text].into_iter().filter(|text| !text.is_empty());
        let mut left_out: Vec<Range<usize>> = left_out.map(range).collect();
        left_out.sort_by_key(|range| range.start);
        let mut kept = Vec::with_capacity(3);
        let mut after = 0;
        for range in left_out {
            kept.push(&self.body.as_bytes()[after..range.start]);
            after = range.end;
        }
        kept.push(&self.body.as_bytes()[after..]);
        Sha256Digest::of(&kept)
    }
}

/// By what an event is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The id of the session, activity or notification that it announces, each announced once.
    Named(String),
    /// All of its bytes but the timestamp of the sending and the webhook that it was sent by: with
    /// several apps each has one. `Linear-Delivery` is not signed, and `updatedAt` can be shared
    /// by two changes; neither may make an event a duplicate.
    Body(Sha256Digest),
}

fn parse_object(body: &str) -> Result<JsonObject<'_>, EnvelopeError> {
    let object: JsonObject<'_> =
        serde_json::from_str(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => EnvelopeError::NotObject,
            _ => EnvelopeError::NotJson,
        })?;
    if object.is_ambiguous() { Err(EnvelopeError::Ambiguous) } else { Ok(object) }
}

fn read_kind(object: &JsonObject<'_>) -> Result<WebhookKind, EnvelopeError> {
    let name = object.text("type").ok_or(EnvelopeError::Type)?;
    let action = match object.get("action") {
        Some(_) => Some(object.text("action").ok_or(EnvelopeError::Type)?),
        None => None,
    };
    let length = name.len() + action.as_ref().map_or(0, String::len);
    if name.is_empty() || length > KIND_LENGTH_MAX {
        return Err(EnvelopeError::Type);
    }
    Ok(WebhookKind { name, action })
}

fn read_timestamp(text: &str) -> Result<UnixMillis, EnvelopeError> {
    let number: f64 = serde_json::from_str(text).map_err(|_| EnvelopeError::Timestamp)?;
    if !(0.0..=9.0e15).contains(&number) {
        return Err(EnvelopeError::Timestamp);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    Ok(UnixMillis::new(number as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn body(middle: &str) -> String {
        format!(
            r#"{{"type":"Issue","action":"update",{middle}"organizationId":"org","webhookTimestamp":{}}}"#,
            NOW.get()
        )
    }

    fn check(body: &str, expected: EnvelopeError) {
        assert_eq!(Envelope::parse(body.as_bytes()).err(), Some(expected), "{body:.80}");
    }

    #[test]
    fn each_fault_is_told_apart() {
        check("", EnvelopeError::Empty);
        check("x", EnvelopeError::NotJson);
        check("{\"a\":\"\0\"}", EnvelopeError::NotJson);
        check(&body("")[..40], EnvelopeError::NotJson);
        check("[]", EnvelopeError::NotObject);
        check("7", EnvelopeError::NotObject);
        check(&"[".repeat(100_000), EnvelopeError::TooDeep);
        check(
            &body(&format!(r#""x":{}{},"#, "[".repeat(127), "]".repeat(127))),
            EnvelopeError::TooDeep,
        );
        check(&body(r#""type":"Comment","#), EnvelopeError::Ambiguous);
        check(&body(r#""x":1,"x":2,"#), EnvelopeError::Ambiguous);
        check(r#"{"action":"a"}"#, EnvelopeError::Type);
        check(r#"{"type":7}"#, EnvelopeError::Type);
        check(r#"{"type":"T"}"#, EnvelopeError::OrganizationMissing);
        check(r#"{"type":"T","organizationId":null}"#, EnvelopeError::OrganizationMissing);
        check(r#"{"type":"T","organizationId":7}"#, EnvelopeError::Organization);
        check(r#"{"type":"T","organizationId":"a/b"}"#, EnvelopeError::Organization);
        check(r#"{"type":"T","organizationId":"o"}"#, EnvelopeError::TimestampMissing);
        check(
            r#"{"type":"T","organizationId":"o","webhookTimestamp":"1"}"#,
            EnvelopeError::Timestamp,
        );
        check(
            r#"{"type":"T","organizationId":"o","webhookTimestamp":-1}"#,
            EnvelopeError::Timestamp,
        );
        assert_eq!(Envelope::parse(b"{\"a\":\"\xff\"}").err(), Some(EnvelopeError::NotJson));
    }

    #[test]
    fn escapes_that_json_allows_pass() {
        for middle in [r#""x":"\ud800","#, r#""x":"\u0000","#, "\"x\":\"\u{2028}\",", "\n\t"] {
            let body = body(middle);
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(
                (envelope.kind.to_string().as_str(), envelope.body()),
                ("Issue.update", &*body)
            );
        }
    }

    #[test]
    fn a_list_of_texts_is_read_and_one_text_is_a_list() {
        let body = body(r#""data":{"ids":["a","b"],"id":"c","no":[1],"none":null},"#);
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        let texts = |key| envelope.texts_at(&["data", key]);
        assert_eq!((texts("ids"), texts("id")), (vec!["a".into(), "b".into()], vec!["c".into()]));
        for key in ["no", "none", "missing"] {
            assert_eq!(texts(key), [""; 0], "{key}");
        }
    }

    #[test]
    fn age_is_bounded_on_both_sides() {
        let body = body("");
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        for (now, expected) in [
            (NOW + 60_000, Ok(())),
            (NOW + 60_001, Err(EnvelopeError::Stale)),
            (NOW - 60_000, Ok(())),
            (NOW - 60_001, Err(EnvelopeError::Future)),
        ] {
            assert_eq!(envelope.check_age(now, 60_000), expected);
        }
    }

    fn id_of(body: &str) -> EventId {
        Envelope::parse(body.as_bytes()).unwrap().event_id()
    }

    #[test]
    fn a_retry_is_the_same_event_also_when_stamped_anew() {
        let first = body(r#""data":{"id":"i"},"#);
        let stamped_anew = first.replace("1790000000000", "1790000060000");
        assert_eq!(id_of(&first), id_of(&stamped_anew));
        assert_ne!(id_of(&first), id_of(&first.replace("\"i\"", "\"j\"")));
        assert_ne!(id_of(&first), id_of(&first.replace("\"org\"", "\"other\"")));
    }

    #[test]
    fn a_change_that_two_apps_are_told_of_is_one_event() {
        let told = |webhook: &str, sent_at: u64, is_last: bool| {
            let (webhook, stamp) = (format!(r#""webhookId":"{webhook}","#), NOW.get() + sent_at);
            let (before, after) = if is_last { ("", &*webhook) } else { (&*webhook, "") };
            format!(
                r#"{{{before}"type":"Issue","action":"update","webhookTimestamp":{stamp},{after}"organizationId":"org","data":{{"id":"i"}}}}"#
            )
        };
        for is_last in [false, true] {
            let first = told("w-1", 0, is_last);
            assert_eq!(id_of(&first), id_of(&told("w-2", 70, is_last)));
            assert_ne!(id_of(&first), id_of(&first.replace("\"i\"", "\"j\"")));
        }
    }

    #[test]
    fn a_session_is_created_once_whatever_else_the_body_says() {
        let created = |title: &str| {
            format!(
                r#"{{"type":"AgentSessionEvent","action":"created","agentSession":{{"id":"s","t":"{title}"}},"organizationId":"o","webhookTimestamp":1}}"#
            )
        };
        assert_eq!(id_of(&created("a")), id_of(&created("b")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = Envelope::parse(&bytes);
            let body = body(&format!("{text:?}:[],"));
            if let Ok(envelope) = Envelope::parse(body.as_bytes()) {
                let _ = (envelope.event_id(), envelope.text_at(&["data", &text]));
            }
        }
    }
}
