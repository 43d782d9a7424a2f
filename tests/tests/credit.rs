//! Goal: a reader that takes nothing costs the relay no more than its credit, and loses nothing.
//! Method: WebSockets without credit and bodies left unread, on workerd. The answer to a `ping`
//! comes after whatever was sent before, so it shows that nothing more was.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::{Dialect, limits::CREDIT_BYTES};
use relay_tests::{EnrolledEdge, FrameReader, ReadFrame, Relay, now_ms, until};
use serde_json::json;

const USER: &str = "user-credit";
const BODY_BYTES: usize = 40_000;
const EVENTS: u64 = 16;
/// What surrounds a body in a frame.
const FRAME_BYTES_MAX: usize = BODY_BYTES + 2_000;

async fn deliver(relay: &Relay, edge: &EnrolledEdge, indices: std::ops::Range<u64>) {
    for index in indices {
        let body = sized_body(&edge.organization, USER, index, now_ms(), BODY_BYTES);
        relay.deliver(&body, "d").await;
    }
}

/// Reads until the `pong`, and gives the frames before it.
async fn until_pong(reader: &mut FrameReader) -> Vec<ReadFrame> {
    reader.socket().send("ping").await;
    let mut frames = Vec::new();
    loop {
        let frame = reader.next().await.unwrap();
        if frame.line == "pong" {
            return frames;
        }
        frames.push(frame);
    }
}

fn bytes(frames: &[ReadFrame]) -> usize {
    frames.iter().map(|frame| frame.line.len()).sum()
}

async fn dial_without_grants(relay: &Relay, edge: &EnrolledEdge, query: &str) -> FrameReader {
    let (mut reader, open) = FrameReader::open(relay, edge, Dialect::WebSocket, query).await;
    assert_eq!(open["credit"], CREDIT_BYTES);
    reader.socket().grants = false;
    reader
}

/// What one connection is sent live, and another from the log, is bounded in the same way.
#[tokio::test]
async fn without_credit_nothing_more_is_sent() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-credit", USER).await;
    let live = dial_without_grants(&relay, &edge, "").await;
    deliver(&relay, &edge, 0..EVENTS).await;
    relay.wait_for_length(&edge.stream(), EVENTS).await;
    let late = dial_without_grants(&relay, &edge, "cursor=earliest").await;
    for mut reader in [late, live] {
        let mut frames = until_pong(&mut reader).await;
        let credit = usize::try_from(CREDIT_BYTES).unwrap();
        let sent = bytes(&frames);
        assert!((credit..credit + FRAME_BYTES_MAX).contains(&sent), "{sent}");
        // The debt of the last frame has to be paid first, and one byte more buys one frame.
        let debt = i64::try_from(sent).unwrap() - CREDIT_BYTES;
        for (bytes, expected) in [(debt.max(1), 0), (1, 1)] {
            let grant = json!({ "type": "credit", "bytes": bytes }).to_string();
            reader.socket().send(&grant).await;
            let more = frames_after(&mut reader, expected).await;
            frames.extend(more);
        }
        let state = relay.stream_state(&edge.stream()).await;
        let connections = state["connections"].as_array().unwrap().iter();
        let least = connections.map(|one| one["lag_events"].as_u64().unwrap()).min();
        assert_eq!(least, Some(EVENTS - frames.len() as u64), "two grants bought one frame");
        // However much is granted at once, it is cut to what a connection begins with.
        while frames.len() < usize::try_from(EVENTS).unwrap() {
            let grant = json!({ "type": "credit", "bytes": 10_000_000 }).to_string();
            reader.socket().send(&grant).await;
            frames.push(reader.frame("webhook").await);
            let more = until_pong(&mut reader).await;
            assert!(bytes(&more) < credit, "{}", bytes(&more));
            frames.extend(more);
        }
        for (frame, n) in frames.iter().zip(1..) {
            assert_eq!((frame.json()["n"].as_u64(), frame.body().len()), (Some(n), BODY_BYTES));
        }
    }
}

/// Reads so many frames, which must be all that comes: the object has then seen the grant.
async fn frames_after(reader: &mut FrameReader, count: usize) -> Vec<ReadFrame> {
    let mut frames = reader.webhooks(count).await;
    frames.extend(until_pong(reader).await);
    assert_eq!(frames.len(), count);
    frames
}

/// The lag is the log's, not the memory's: the object's own count says how far it has sent.
#[tokio::test]
async fn an_unread_body_stops_the_object_and_is_read_on_later() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-unread", USER).await;
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::Ndjson, "").await;
    // More than the buffers of two sockets on loopback hold.
    let count = 300;
    deliver(&relay, &edge, 0..count).await;
    relay.wait_for_length(&edge.stream(), count).await;
    let lag = until("the reader's lag", async || {
        let state = relay.stream_state(&edge.stream()).await;
        state["connections"][0]["lag_events"].as_u64().filter(|lag| *lag > 0)
    })
    .await;
    assert!(lag < count);
    for (frame, n) in reader.webhooks(usize::try_from(count).unwrap()).await.iter().zip(1..) {
        assert_eq!((frame.json()["n"].as_u64(), frame.body().len()), (Some(n), BODY_BYTES));
    }
}
