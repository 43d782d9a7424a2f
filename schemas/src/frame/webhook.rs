use std::{borrow::Cow, fmt::Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{cursor::Cursor, identifier::EventId};

/// An event, with its place on this connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Webhook<'a> {
    /// What happened, once; the key for idempotence.
    pub id: EventId,
    /// The position after this event.
    pub cursor: Cursor,
    /// 1 for the first webhook of this connection, then 2, 3 …
    #[serde(default)]
    pub n: u64,
    /// When the relay received it, RFC 3339.
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// `linear`.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// `Type.action`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The organization that it belongs to.
    #[serde(borrow)]
    pub organization: Cow<'a, str>,
    /// The channel that it was routed to.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// How many machines were given it so far, this one included, where each event is given to one
    /// machine at a time.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// Whether the app itself did what the event tells of.
    #[serde(default)]
    pub own: bool,
    /// Linear's id of the app that it was sent to.
    #[serde(borrow, default)]
    pub app: Option<Cow<'a, str>>,
    /// The agent session that it is about.
    #[serde(borrow, default)]
    pub session: Option<Cow<'a, str>>,
    /// The issue that it is about.
    #[serde(borrow, default)]
    pub issue: Option<Cow<'a, str>>,
    /// The rule that gave it its stream.
    #[serde(borrow, default)]
    pub routed_by: Option<Cow<'a, str>>,
    /// The source's delivery id, which is not signed.
    #[serde(borrow, default)]
    pub delivery: Option<Cow<'a, str>>,
    /// The source's own headers, in its spelling.
    #[serde(borrow, default)]
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The body byte for byte, when it is one line of JSON.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// The body as text or base64, when it is not, or when asked for.
    #[serde(borrow, default)]
    pub body: Option<Cow<'a, str>>,
    /// How `body` is written: `text` or `base64`.
    #[serde(borrow, default)]
    pub encoding: Option<Cow<'a, str>>,
}

fn first_attempt() -> u32 {
    1
}

impl Webhook<'_> {
    /// The exact bytes that the source sent; `None` when the frame holds none or a broken base64.
    pub fn body_bytes(&self) -> Option<Cow<'_, [u8]>> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        if let Some(data) = self.data {
            return Some(Cow::Borrowed(data.get().as_bytes()));
        }
        let body = self.body.as_deref()?;
        match self.encoding.as_deref() {
            Some("base64") => STANDARD.decode(body).ok().map(Cow::Owned),
            _ => Some(Cow::Borrowed(body.as_bytes())),
        }
    }
}

/// Appends the frame of a stored record. A record is a JSON object in one line, so the frame is
/// the record with three more fields in front; nothing is parsed or escaped again.
pub fn write_webhook_frame(cursor: Cursor, n: u64, record: &str, out: &mut String) {
    write_attempt_frame(cursor, n, 1, record, out);
}

/// The same for an event that several machines may have been given one after the other.
pub fn write_attempt_frame(cursor: Cursor, n: u64, attempt: u32, record: &str, out: &mut String) {
    debug_assert!(record.starts_with("{\"id\""), "a record starts with its id");
    out.reserve(record.len() + 80);
    out.push_str(r#"{"type":"webhook","cursor":""#);
    cursor.write_to(out);
    let _ = write!(out, r#"","n":{n},"#);
    if attempt > 1 {
        let _ = write!(out, r#""attempt":{attempt},"#);
    }
    out.push_str(&record[1..]);
}
