//! Goal: an idle connection keeps no object in memory, and an object that leaves memory, at
//! whatever moment, costs no reader an event.
//! Method: readers of every dialect on workerd while the object goes: by itself, evicted, with its
//! sockets, with the whole process. `woken_at` of an object tells when it came into memory.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use relay_durable::samples::sized_body;
use relay_schemas::{ByeCode, Dialect, limits::CREDIT_BYTES};
use relay_tests::{Ended, EnrolledEdge, FrameReader, Relay, now_ms};
use serde_json::{Value, json};

const USER: &str = "user-hibernation";

async fn deliver(relay: &Relay, edge: &EnrolledEdge, index: u64) -> Vec<u8> {
    let body = sized_body(&edge.organization, USER, index, now_ms(), 0);
    relay.deliver(&body, "d").await;
    body.into_bytes()
}

async fn woken_at(relay: &Relay, edge: &EnrolledEdge) -> Value {
    relay.stream_state(&edge.stream()).await["woken_at"].clone()
}

/// Asserts that the next webhook is this one.
async fn check(reader: &mut FrameReader, body: &[u8], n: u64) -> Value {
    let frame = reader.frame("webhook").await;
    assert_eq!(frame.body(), body, "{:?}", reader.dialect);
    assert_eq!(frame.json()["n"], n, "{:?}", reader.dialect);
    frame.json()["cursor"].clone()
}

async fn open_all(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Vec<FrameReader> {
    let mut readers = Vec::new();
    for dialect in Dialect::ALL {
        readers.push(FrameReader::open(relay, edge, dialect, query).await.0);
    }
    readers
}

/// Asking the object would keep it awake. So the test leaves it alone for a little longer than
/// workerd lets an idle object live (10 s), delivers an event, and looks afterwards whether the
/// object that delivered it was a new one; on a slow machine several times.
#[tokio::test]
async fn an_idle_reader_keeps_no_object_in_memory() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-idle", USER).await;
    let mut readers = Vec::new();
    for dialect in [Dialect::Ndjson, Dialect::Sse] {
        readers.push(FrameReader::open(&relay, &edge, dialect, "heartbeat=5").await.0);
    }
    let before = woken_at(&relay, &edge).await;
    for n in 1..=5 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        let body = deliver(&relay, &edge, n).await;
        for reader in &mut readers {
            check(reader, &body, n).await;
        }
        if woken_at(&relay, &edge).await != before {
            return;
        }
    }
    panic!("the object never left memory");
}

#[tokio::test]
async fn an_evicted_object_delivers_on_in_every_dialect() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-evicted", USER).await;
    let mut readers = open_all(&relay, &edge, "").await;
    let mut wakes = vec![woken_at(&relay, &edge).await];
    let mut n = 0;
    for _ in 0..4 {
        assert!(relay.evict_stream(&edge.stream()).await, "asking has woken it");
        // The first event of a burst wakes the object, which is gone again before the second.
        let first = deliver(&relay, &edge, n + 1).await;
        relay.evict_stream(&edge.stream()).await;
        let second = deliver(&relay, &edge, n + 2).await;
        for reader in &mut readers {
            check(reader, &first, n + 1).await;
            check(reader, &second, n + 2).await;
        }
        n += 2;
        wakes.push(woken_at(&relay, &edge).await);
    }
    assert!(wakes.windows(2).all(|pair| pair[0] != pair[1]), "{wakes:?}");
    let state = relay.stream_state(&edge.stream()).await;
    assert_eq!(state["connections"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_half_used_credit_is_remembered() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-remembered", USER).await;
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::WebSocket, "").await;
    reader.socket().grants = false;
    let count = 12;
    let mut bytes = 0;
    let mut read = 0;
    for index in 1..=count {
        let body = sized_body("org-remembered", USER, index, now_ms(), 40_000);
        relay.deliver(&body, "d").await;
        relay.wait_for_length(&edge.stream(), index).await;
        if bytes < CREDIT_BYTES {
            let frame = reader.frame("webhook").await;
            bytes += i64::try_from(frame.line.len()).unwrap();
            read += 1;
        }
        relay.evict_stream(&edge.stream()).await;
    }
    assert!(read < count);
    reader.socket().send("ping").await;
    assert_eq!(reader.next().await.unwrap().line, "pong", "an eviction renews no credit");
    let grant = json!({ "type": "credit", "bytes": 1_000_000 }).to_string();
    reader.socket().send(&grant).await;
    for n in read + 1..=count {
        assert_eq!(reader.frame("webhook").await.json()["n"], n);
    }
}

/// Events that come while nobody is connected are read by whoever comes back.
async fn check_resumed(
    relay: &Relay,
    edge: &EnrolledEdge,
    cursors: [Value; 3],
    bodies: &[Vec<u8>],
) {
    for (dialect, cursor) in Dialect::ALL.into_iter().zip(cursors) {
        let query = format!("cursor={}&on_gap=error", cursor.as_str().unwrap());
        let (mut reader, _) = FrameReader::open(relay, edge, dialect, &query).await;
        for (body, n) in bodies.iter().zip(1..) {
            check(&mut reader, body, n).await;
        }
    }
}

/// Reads the first event in every dialect, and gives each reader's cursor.
async fn cursors(readers: &mut [FrameReader], body: &[u8]) -> [Value; 3] {
    let mut cursors = Vec::new();
    for reader in readers {
        cursors.push(check(reader, body, 1).await);
    }
    cursors.try_into().unwrap()
}

#[tokio::test]
async fn a_reader_that_loses_its_object_is_told_to_come_back() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-lost", USER).await;
    let mut readers = open_all(&relay, &edge, "").await;
    let first = deliver(&relay, &edge, 1).await;
    let cursors = cursors(&mut readers, &first).await;
    relay.cut_stream(&edge.stream()).await;
    for (reader, cursor) in readers.iter_mut().zip(&cursors) {
        if reader.dialect == Dialect::WebSocket {
            let ended = reader.end().await;
            assert!(matches!(ended, Ended::Broken | Ended::Closed(1000..4500)), "{ended:?}");
        } else {
            assert_eq!(reader.bye(ByeCode::Reconnect).await["cursor"], *cursor);
        }
    }
    let bodies = [deliver(&relay, &edge, 2).await, deliver(&relay, &edge, 3).await];
    check_resumed(&relay, &edge, cursors, &bodies).await;
}

#[tokio::test]
async fn a_reader_that_loses_the_whole_relay_resumes_without_loss() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-killed", USER).await;
    let mut readers = open_all(&relay, &edge, "").await;
    let first = deliver(&relay, &edge, 1).await;
    let cursors = cursors(&mut readers, &first).await;
    let second = deliver(&relay, &edge, 2).await;
    // The local queue lives in memory: what is in the log survives, what is in the queue does not.
    relay.wait_for_length(&edge.stream(), 2).await;
    let relay = relay.kill_and_restart().await;
    for reader in &mut readers {
        // The second event may have left before the end.
        let ended = loop {
            match reader.next().await {
                Ok(frame) => assert_eq!(frame.body(), second),
                Err(ended) => break ended,
            }
        };
        assert_eq!(ended, Ended::Broken, "{:?}", reader.dialect);
    }
    let bodies = [second, deliver(&relay, &edge, 3).await];
    check_resumed(&relay, &edge, cursors, &bodies).await;
}
