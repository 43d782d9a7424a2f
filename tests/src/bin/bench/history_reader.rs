use std::time::Instant;

use relay_schemas::{Cursor, Frame};
use relay_tests::{EnrolledEdge, HttpReader, Relay};
use reqwest::Method;

use crate::peer::CatchUp;

/// Reads so many webhooks and looks at each: positions without a hole, counted from 1.
pub(crate) async fn read_lines(
    relay: &Relay,
    edge: &EnrolledEdge,
    query: &str,
    count: u64,
) -> Vec<String> {
    let mut reader = HttpReader::ndjson(relay, edge, query).await;
    let mut lines: Vec<String> = Vec::new();
    let mut position: Option<Cursor> = None;
    while (lines.len() as u64) < count {
        let line = reader.line().await;
        match Frame::parse(&line).expect("a frame") {
            Frame::Open(open) => position = Some(open.cursor),
            Frame::Heartbeat(_) => {}
            Frame::Webhook(webhook) => {
                let before = position.expect("open comes first");
                assert_eq!(webhook.cursor.seq, before.seq.next(), "a hole");
                assert_eq!(webhook.n, lines.len() as u64 + 1);
                position = Some(webhook.cursor);
                lines.push(line);
            }
            other => panic!("{other:?} amid history"),
        }
    }
    lines
}

/// Reads the same lines again, as fast as they come. The clock runs from the request to the last
/// byte.
pub(crate) async fn read_again(
    relay: &Relay,
    edge: &EnrolledEdge,
    query: &str,
    lines: &[String],
) -> CatchUp {
    let request = relay.as_edge(edge, Method::GET, &format!("/events/stream?{query}&heartbeat=60"));
    let started = Instant::now();
    let mut answer = request.send().await.expect("the relay answers");
    assert_eq!(answer.status(), 200);
    let mut unread = Unread { lines: lines.iter(), carry: Vec::new() };
    let mut bytes = 0;
    while unread.lines.len() > 0 {
        let chunk = answer.chunk().await.expect("readable").expect("history does not end here");
        bytes += chunk.len() as u64;
        unread.take(&chunk);
    }
    let seconds = started.elapsed().as_secs_f64();
    CatchUp { events: lines.len() as u64, bytes, seconds }
}

/// The webhooks that must still come. Comparing bytes is the strictest check and the cheapest.
struct Unread<'a> {
    lines: std::slice::Iter<'a, String>,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
}

impl Unread<'_> {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let (true, Some(rest)) = (self.carry.is_empty(), self.rest_after_next(bytes)) {
                self.lines.next();
                bytes = rest;
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.carry.extend_from_slice(bytes);
                return;
            };
            self.carry.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.take_carried();
        }
    }

    /// What follows, if these bytes begin with the next webhook, whole.
    fn rest_after_next<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let next = self.lines.as_slice().first()?;
        bytes.strip_prefix(next.as_bytes())?.strip_prefix(b"\n")
    }

    fn take_carried(&mut self) {
        let is_webhook = self.carry.starts_with(br#"{"type":"webhook""#);
        let is_known = ["open", "heartbeat"]
            .iter()
            .any(|kind| self.carry.starts_with(format!(r#"{{"type":"{kind}""#).as_bytes()));
        assert!(is_webhook || is_known, "{}", String::from_utf8_lossy(&self.carry));
        if is_webhook {
            let next = self.lines.next().expect("no webhook more than before");
            assert!(self.carry == next.as_bytes(), "a webhook has changed");
        }
        self.carry.clear();
    }
}
