use relay_durable::Page;
use relay_schemas::{Cursor, Frame, SegmentEntry, SegmentName, Seq, record_kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{answer::Answer, edge::EnrolledEdge, relay::Relay};

/// An event as a reader was sent it, without what differs from connection to connection: the same
/// on every way, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEvent {
    /// Its position.
    pub cursor: Cursor,
    /// Everything else, as it lies in the log.
    pub record: String,
}

impl SentEvent {
    /// Reads a webhook frame.
    pub fn of_line(line: &str) -> Self {
        let Ok(Frame::Webhook(webhook)) = Frame::parse(line) else { panic!("no webhook: {line}") };
        let head =
            format!(r#"{{"type":"webhook","cursor":"{}","n":{},"#, webhook.cursor, webhook.n);
        let rest = line.strip_prefix(&head).unwrap_or_else(|| panic!("not {head}…: {line}"));
        Self { cursor: webhook.cursor, record: format!("{{{rest}") }
    }

    /// Its position as a number.
    pub fn seq(&self) -> u64 {
        self.cursor.seq.get()
    }

    /// Its kind.
    pub fn kind(&self) -> String {
        record_kind(&self.record).unwrap().into_owned()
    }

    /// The bytes that were signed.
    pub fn body(&self) -> String {
        let line =
            format!(r#"{{"type":"webhook","cursor":"{}","n":1,{}"#, self.cursor, &self.record[1..]);
        let Ok(Frame::Webhook(webhook)) = Frame::parse(&line) else { panic!("{line}") };
        String::from_utf8(webhook.body_bytes().unwrap().into_owned()).unwrap()
    }
}

/// Every event from a start on, page by page; `query` names start, order and length.
pub async fn page_through(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Vec<SentEvent> {
    let mut events = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/events?{query}{cursor}");
        let answer = Answer::to(relay.as_edge(edge, Method::GET, &path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let page: Page = serde_json::from_slice(&answer.body).unwrap();
        events.extend(page.events.iter().map(|event| SentEvent::of_line(event.get())));
        if !page.has_more {
            return events;
        }
        cursor = format!("&cursor={}", page.cursor);
    }
}

/// The whole plan of a stream's bulk history, and the position after it.
pub async fn bulk_plan(relay: &Relay, edge: &EnrolledEdge) -> (Vec<Value>, Cursor) {
    let mut segments = Vec::new();
    let mut from = "earliest".to_owned();
    loop {
        let path = format!("/events/segments?from={from}");
        let mut plan = Answer::to(relay.as_edge(edge, Method::GET, &path)).await.ok();
        assert_eq!(plan["gap"], Value::Null, "{plan}");
        segments.append(plan["segments"].as_array_mut().unwrap());
        from = plan["rest"].as_str().unwrap().to_owned();
        if plan["has_more"] == false {
            return (segments, from.parse().unwrap());
        }
    }
}

/// What a plan says of a segment, as a reader of segments wants it.
pub fn planned_entry(segment: &Value) -> SegmentEntry {
    let field = |name: &str| segment[name].clone();
    serde_json::from_value(json!({
        "first": field("first"),
        "last": field("last"),
        "received_at_min": 0,
        "received_at_max": 0,
        "bytes": field("bytes"),
        "raw_bytes": field("uncompressed_bytes"),
        "sha256": field("sha256"),
    }))
    .unwrap()
}

/// Which segments of a stream there are, as each of the three that know says it.
#[derive(Debug)]
pub struct StoredHistory {
    /// The object: what `GET /events/segments` plans, in order.
    pub planned: Vec<Value>,
    /// The position after the last of them.
    pub rest: Cursor,
    /// KV, in order.
    pub index: Vec<SegmentEntry>,
    /// R2: the keys, in order.
    pub keys: Vec<String>,
}

impl StoredHistory {
    /// Asks each of them.
    pub async fn of(relay: &mut Relay, edge: &EnrolledEdge) -> Self {
        let (planned, rest) = bulk_plan(relay, edge).await;
        let prefix = format!("seg/{}/", edge.stream());
        let listed = relay.ask(json!({ "op": "kv_list", "prefix": prefix })).await;
        let entry = |key: &Value| serde_json::from_value(key["metadata"].clone()).unwrap();
        let index = listed["keys"].as_array().unwrap().iter().map(entry).collect();
        let prefix = format!("segments/{}/", edge.stream());
        let listed = relay.ask(json!({ "op": "r2_list", "prefix": prefix })).await;
        let key = |object: &Value| object["key"].as_str().unwrap().to_owned();
        let mut keys: Vec<String> = listed["objects"].as_array().unwrap().iter().map(key).collect();
        keys.sort_by_key(|key| SegmentName::parse(key).expect("only segments").first);
        Self { planned, rest, index, keys }
    }

    /// First and last position of each segment, once all three agree and no segment overlaps
    /// another or leaves a hole.
    pub fn agreed(&self) -> Vec<(u64, u64)> {
        let planned = self
            .planned
            .iter()
            .map(|segment| (segment["first"].as_u64().unwrap(), segment["last"].as_u64().unwrap()));
        let planned: Vec<(u64, u64)> = planned.collect();
        let pair = |first: Seq, last: Seq| (first.get(), last.get());
        let indexed: Vec<_> =
            self.index.iter().map(|entry| pair(entry.first, entry.last)).collect();
        let stored = self.keys.iter().filter_map(|key| SegmentName::parse(key));
        let stored: Vec<_> = stored.map(|name| pair(name.first, name.last)).collect();
        assert_eq!(planned, indexed, "the object and KV");
        assert_eq!(planned, stored, "the object and R2");
        for (segment, entry) in self.planned.iter().zip(&self.index) {
            assert_eq!(segment["sha256"], entry.sha256.to_string());
            assert_eq!(segment["bytes"], entry.bytes);
        }
        let mut next = 1;
        for (first, last) in &planned {
            assert_eq!(*first, next, "{planned:?}");
            next = last + 1;
        }
        assert_eq!(self.rest.seq.get() + 1, next);
        planned
    }
}
