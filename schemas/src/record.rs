use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    identifier::{Channel, EventId, OrganizationId},
    time::UnixMillis,
};

/// How a reader wants the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// `data` byte for byte where the body is one line of JSON, else `body`.
    #[default]
    Data,
    /// Always `body` with `"encoding":"text"`.
    Text,
    /// Always `body` with `"encoding":"base64"`.
    Base64,
}

/// What an event is about, as far as the relay and its readers ask for it without the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject<'a> {
    /// Linear's id of the app that it was sent to (`oauthClientId`); only agent events have one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Cow<'a, str>>,
    /// The agent session.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Cow<'a, str>>,
    /// The issue.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<Cow<'a, str>>,
    /// The rule that gave it its stream.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub routed_by: Option<Cow<'a, str>>,
}

impl<'a> Subject<'a> {
    /// Reads a stored record, up to its body.
    pub fn read(record: &'a str) -> Option<Self> {
        // A key can't stand unescaped within the strings before it.
        let end = record.find(r#","headers":["#)?;
        serde_json::from_str(&format!("{}}}", &record[..end])).ok().map(Subject::into_owned_by)
    }

    fn into_owned_by(subject: Subject<'_>) -> Self {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Self {
            app: own(subject.app),
            session: own(subject.session),
            issue: own(subject.issue),
            routed_by: own(subject.routed_by),
        }
    }
}

/// What a record is made of.
#[derive(Clone, Debug)]
pub struct RecordParts<'a> {
    /// The event.
    pub id: EventId,
    /// When the relay received it.
    pub received_at: UnixMillis,
    /// `Type.action`.
    pub kind: &'a str,
    /// The event's own organization.
    pub organization: &'a OrganizationId,
    /// Where it was routed to.
    pub channel: &'a Channel,
    /// The source's delivery id.
    pub delivery: Option<&'a str>,
    /// The source's headers.
    pub headers: &'a [(String, String)],
    /// What it is about.
    pub subject: Subject<'a>,
    /// Whether the app itself did what the event tells of.
    pub own: bool,
    /// The exact body. JSON in UTF-8, checked when it was received.
    pub body: &'a str,
}

#[derive(Serialize)]
struct RecordHead<'a> {
    id: EventId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    own: bool,
    timestamp: String,
    source: &'static str,
    kind: &'a str,
    organization: &'a str,
    channel: String,
    #[serde(flatten)]
    subject: &'a Subject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<&'a str>,
    headers: &'a [(String, String)],
}

/// An event as it is stored and, with three fields in front, as it is sent: one line of JSON
/// whose last field is `data`, or `body` and `encoding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(String);

impl Record {
    /// Writes the record of an event.
    pub fn new(parts: &RecordParts<'_>) -> Self {
        let head = RecordHead {
            id: parts.id,
            own: parts.own,
            timestamp: parts.received_at.to_string(),
            source: "linear",
            kind: parts.kind,
            organization: parts.organization.as_str(),
            channel: parts.channel.to_string(),
            subject: &parts.subject,
            delivery: parts.delivery,
            headers: parts.headers,
        };
        let mut line = serde_json::to_string(&head).expect("plain fields serialise");
        line.pop();
        push_body(&mut line, parts.body, BodyMode::Data);
        Self(line)
    }

    /// The line, without a line break.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line, without a line break.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The `kind` of a record, read without looking at the body. The fields before it hold no text
/// from outside, so the first such key is the right one.
pub fn record_kind(record: &str) -> Option<Cow<'_, str>> {
    let (_, rest) = record.split_once(r#","kind":"#)?;
    serde_json::Deserializer::from_str(rest)
        .into_iter::<BorrowedText<'_>>()
        .next()?
        .ok()
        .map(|text| text.0)
}

/// The id of a record's event. It is the first field.
pub fn record_id(record: &str) -> Option<EventId> {
    record.strip_prefix(r#"{"id":""#)?.split('"').next()?.parse().ok()
}

/// When a record's event was received. The timestamp stands at a fixed place.
pub fn record_received_at(record: &str) -> Option<UnixMillis> {
    let (_, rest) = record.split_once(r#","timestamp":""#)?;
    UnixMillis::parse_rfc3339(rest.split('"').next()?)
}

/// Whether the app itself did what a record's event tells of. The mark stands behind the id, which
/// always has the same length, so that nothing is parsed for each event and reader.
pub fn record_is_own(record: &str) -> bool {
    const AFTER_ID: usize = r#"{"id":"evt_00000000000000000000000000""#.len();
    record.get(AFTER_ID..).is_some_and(|rest| rest.starts_with(r#","own":true,"#))
}

#[derive(Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a body may stand in a line as it is. Line breaks can't; blanks around a value would be
/// lost by readers that hand on the bare value; and half of a surrogate pair, which JSON's grammar
/// allows, makes strict readers refuse the whole line.
fn fits_one_line(body: &str) -> bool {
    let may_hold_surrogates = || body.contains("\\ud") || body.contains("\\uD");
    body.starts_with('{')
        && body.ends_with('}')
        && !body.contains(['\n', '\r'])
        && (!may_hold_surrogates() || serde_json::from_str::<serde_json::Value>(body).is_ok())
}

fn push_body(line: &mut String, body: &str, mode: BodyMode) {
    match mode {
        BodyMode::Data if fits_one_line(body) => {
            line.push_str(r#","data":"#);
            line.push_str(body);
            line.push('}');
        }
        BodyMode::Data | BodyMode::Text => {
            line.push_str(r#","body":"#);
            line.push_str(&serde_json::to_string(body).expect("a string serialises"));
            line.push_str(r#","encoding":"text"}"#);
        }
        BodyMode::Base64 => {
            line.push_str(r#","body":""#);
            STANDARD.encode_string(body, line);
            line.push_str(r#"","encoding":"base64"}"#);
        }
    }
}

#[derive(Deserialize)]
struct StoredBody<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
}

/// The record with its body written in another way. A record that can't be read is given back as
/// it is.
pub fn rewrite_body(record: &str, mode: BodyMode) -> Cow<'_, str> {
    if mode == BodyMode::Data {
        return Cow::Borrowed(record);
    }
    let Ok(stored) = serde_json::from_str::<StoredBody<'_>>(record) else {
        return Cow::Borrowed(record);
    };
    let (body, marker_length) = match (stored.data, stored.body) {
        (Some(data), _) => (Cow::Borrowed(data.get()), r#","data":}"#.len() + data.get().len()),
        (None, Some(body)) => {
            let escaped = serde_json::to_string(&body).map_or(0, |text| text.len());
            (body, r#","body":,"encoding":"text"}"#.len() + escaped)
        }
        (None, None) => return Cow::Borrowed(record),
    };
    let Some(head) = record.len().checked_sub(marker_length).and_then(|end| record.get(..end))
    else {
        return Cow::Borrowed(record);
    };
    let mut line = head.to_owned();
    push_body(&mut line, &body, mode);
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cursor, Epoch, Frame, Seq, write_webhook_frame};

    fn record(body: &str) -> Record {
        Record::new(&RecordParts {
            id: EventId::from_bytes([7; 16]),
            received_at: UnixMillis::new(1_790_000_000_000),
            kind: "Issue.update",
            organization: &"org-1".parse().unwrap(),
            channel: &"user:u".parse().unwrap(),
            delivery: Some("d-1"),
            headers: &[("Linear-Signature".into(), "ab".into())],
            subject: Subject::default(),
            own: false,
            body,
        })
    }

    #[test]
    fn what_an_event_is_about_is_read_without_its_body() {
        let subject = Subject {
            app: Some("app\",\"headers\":[".into()),
            session: Some("s-1".into()),
            issue: Some("i-1".into()),
            routed_by: Some("session_owner".into()),
        };
        for (subject, own) in [(subject, true), (Subject::default(), false)] {
            let record = Record::new(&RecordParts {
                id: EventId::from_bytes([7; 16]),
                received_at: UnixMillis::new(1_790_000_000_000),
                kind: "Issue.update",
                organization: &"org-1".parse().unwrap(),
                channel: &"user:u".parse().unwrap(),
                delivery: None,
                headers: &[],
                subject: subject.clone(),
                own,
                body: r#"{"session":"another","own":true,"headers":[]}"#,
            });
            assert_eq!(Subject::read(record.as_str()), Some(subject));
            assert_eq!(record_is_own(record.as_str()), own);
            assert_eq!(record_kind(record.as_str()).as_deref(), Some("Issue.update"));
            assert!(record_received_at(record.as_str()).is_some());
        }
    }

    fn check(body: &str, mode: BodyMode) {
        let record = record(body);
        assert_eq!(record_kind(record.as_str()).as_deref(), Some("Issue.update"));
        assert_eq!(record_id(record.as_str()), Some(EventId::from_bytes([7; 16])));
        assert_eq!(record_received_at(record.as_str()), Some(UnixMillis::new(1_790_000_000_000)));
        let line = rewrite_body(record.as_str(), mode);
        let cursor = Cursor { epoch: Epoch::new(UnixMillis::new(1), 1), seq: Seq::new(5) };
        let mut frame = String::new();
        write_webhook_frame(cursor, 3, &line, &mut frame);
        assert!(!frame.contains(['\n', '\r']), "{frame}");
        let Ok(Frame::Webhook(webhook)) = Frame::parse(&frame) else { panic!("{frame}") };
        assert_eq!(webhook.body_bytes().unwrap(), body.as_bytes());
        assert_eq!((webhook.cursor, webhook.n, &*webhook.kind), (cursor, 3, "Issue.update"));
        assert_eq!(webhook.data.is_some(), mode == BodyMode::Data && fits_one_line(body));
        assert_eq!(webhook.headers, [("Linear-Signature".into(), "ab".into())]);
    }

    #[test]
    fn the_body_survives_byte_for_byte_in_every_mode() {
        for body in [
            r#"{"a":1}"#,
            "{\t\"a\" : 1.0 ,\"b\":\"\\u0000\\ud800 \u{2028}\"}",
            "{\n  \"a\": 1\n}",
            " {} ",
            "{\"a\":\"\u{7f}é😀\"}\r\n",
        ] {
            for mode in [BodyMode::Data, BodyMode::Text, BodyMode::Base64] {
                check(body, mode);
            }
        }
    }

    proptest! {
        #[test]
        fn any_json_text_survives(text in any::<String>(), indent in any::<bool>()) {
            let value = serde_json::json!({ "text": text, "nested": [{}, null, 1.5] });
            let body = if indent { format!("{value:#}") } else { value.to_string() };
            for mode in [BodyMode::Data, BodyMode::Text, BodyMode::Base64] {
                check(&body, mode);
            }
        }

        #[test]
        fn arbitrary_records_never_panic(text in any::<String>()) {
            let _ = (record_id(&text), record_kind(&text), record_received_at(&text));
            let _ = (Subject::read(&text), record_is_own(&text));
            let _ = rewrite_body(&text, BodyMode::Text);
            let _ = rewrite_body(&text, BodyMode::Base64);
        }
    }
}
