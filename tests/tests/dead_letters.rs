//! Goal: a message that can't be delivered harms no neighbour and doesn't disappear: it is kept,
//! whole, with its reason, and counted once.
//! Method: messages of every sort put straight into the queue, in one batch with good ones.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use relay_durable::samples::sized_body;
use relay_schemas::{Envelope, QueueMessage, StoredBody, UnixMillis};
use relay_tests::{FrameReader, Relay, RelayOptions, now_ms, until};
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-dead-letters";
const USER: &str = "user-dead-letters";
const NOT_UTF8: &[u8] = b"\xff\x00bytes";

struct BadMessage {
    message: Value,
    /// What is kept of it.
    body: String,
    reason: &'static str,
}

fn text(body: impl Into<String>, reason: &'static str) -> BadMessage {
    let body = body.into();
    BadMessage { message: json!({ "contentType": "text", "body": body }), body, reason }
}

fn message(index: u64) -> (QueueMessage, String) {
    let body = sized_body(ORGANIZATION, USER, index, now_ms(), 0);
    let id = Envelope::parse(body.as_bytes()).unwrap().event_id();
    (QueueMessage::new(id, UnixMillis::new(now_ms()), "request".into()), body)
}

fn bad_messages() -> Vec<BadMessage> {
    let (header, body) = message(100);
    let whole = header.encode(&body);
    let mut pointer = header.clone();
    pointer.stored_body = Some(StoredBody { key: "bodies/2026/01/01/gone".into(), bytes: 7 });
    let object = json!({ "a": [1, "two"] });
    let bytes = |bytes: &[u8]| json!({ "contentType": "bytes", "body": STANDARD.encode(bytes) });
    vec![
        text("garbage", "undecodable: no header line"),
        text("", "undecodable: no header line"),
        text("{\n}", "undecodable: header line"),
        text("garbage\n{}", "undecodable: header line"),
        text(whole.replace("\"version\":1", "\"version\":2"), "undecodable: message version 2"),
        text(whole.replace("\"id\":\"evt_", "\"id\":\"evt-"), "undecodable: header line"),
        text(header.encode("not JSON"), "undecodable: the body is not JSON"),
        text(header.encode("{\"type\":\"Issue\"}"), "undecodable: organizationId is missing"),
        text(pointer.encode(""), "body_missing"),
        BadMessage {
            message: json!({ "contentType": "json", "body": object }),
            body: object.to_string(),
            reason: "undecodable: no header line",
        },
        BadMessage {
            message: bytes(NOT_UTF8),
            body: format!("base64:{}", STANDARD.encode(NOT_UTF8)),
            reason: "undecodable: no header line",
        },
        BadMessage {
            message: bytes("bytes, but text \u{1f4a1}".as_bytes()),
            body: "bytes, but text \u{1f4a1}".into(),
            reason: "undecodable: no header line",
        },
    ]
}

/// The kept dead letters by their keys.
async fn kept(relay: &mut Relay) -> BTreeMap<String, Value> {
    let list = relay.ask(json!({ "op": "r2_list", "prefix": "dead-letters/" })).await;
    let mut letters = BTreeMap::new();
    for object in list["objects"].as_array().unwrap() {
        let answer = relay.ask(json!({ "op": "r2_get", "key": object["key"] })).await;
        let body = STANDARD.decode(answer["body"].as_str().unwrap()).unwrap();
        let key = object["key"].as_str().unwrap().to_owned();
        letters.insert(key, serde_json::from_slice(&body).unwrap());
    }
    letters
}

fn check(letters: &BTreeMap<String, Value>, body: &str, reason: &str) {
    let found: Vec<&Value> = letters.values().filter(|letter| letter["body"] == body).collect();
    let [letter] = found[..] else { panic!("{} letters of {body:?}: {letters:#?}", found.len()) };
    let said = letter["reason"].as_str().unwrap();
    assert!(said.starts_with(reason), "{said:?} should start with {reason:?}");
    assert_eq!(letter["version"], 1);
    assert!(letter["first_seen_at"].as_u64() <= letter["kept_at"].as_u64());
}

async fn count(relay: &Relay) -> f64 {
    relay.metric("edgerelay_dead_letters_total").await
}

#[tokio::test]
async fn bad_messages_are_kept_and_their_neighbours_arrive() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, USER).await;
    let bad = bad_messages();
    let mut messages = Vec::new();
    let mut bodies = Vec::new();
    for (index, bad) in (0..).zip(&bad) {
        let (header, body) = message(index);
        messages.push(json!({ "contentType": "text", "body": header.encode(&body) }));
        messages.push(bad.message.clone());
        bodies.push(body.into_bytes());
    }
    let batch = json!({ "op": "queue_send_batch", "queue": "EVENTS", "messages": messages });
    relay.ask(batch).await;
    let dialect = relay_schemas::Dialect::Ndjson;
    let (mut reader, _) = FrameReader::open(&relay, &edge, dialect, "cursor=earliest").await;
    for body in &bodies {
        assert_eq!(reader.frame("webhook").await.body(), *body);
    }
    let expected = bad.len() as f64;
    until("the dead letters", async || (count(&relay).await >= expected).then_some(())).await;
    let letters = kept(&mut relay).await;
    assert_eq!(letters.len(), bad.len());
    for (key, letter) in &letters {
        assert!(key.ends_with(&format!("/{}.json", letter["message"].as_str().unwrap())));
        assert_eq!(letter["attempts"], 1, "what can never succeed is tried once");
    }
    for BadMessage { body, reason, .. } in &bad {
        check(&letters, body, reason);
    }
    assert!((count(&relay).await - expected).abs() < 0.5);
    assert_eq!(relay.stream_length(&edge.stream()).await, bodies.len() as u64);
    assert!(relay.log().matches("\"dead_letter_kept\"").count() == bad.len());
}

/// The platform moves a message by itself after the last retry, without a word of why.
#[tokio::test]
async fn what_the_platform_moved_is_kept_too() {
    let mut relay = Relay::start().await;
    let (header, body) = message(200);
    let moved = header.encode(&body);
    let request = json!({ "op": "queue_send", "queue": "DEAD_LETTERS", "contentType": "text" });
    for body in [&*moved, "", "no header"] {
        let mut request = request.clone();
        request["body"] = body.into();
        relay.ask(request).await;
    }
    until("the dead letters", async || (count(&relay).await >= 3.0).then_some(())).await;
    let letters = kept(&mut relay).await;
    assert_eq!(letters.len(), 3);
    for body in [&*moved, "", "no header"] {
        check(&letters, body, "retries_exhausted");
    }
    let attempts = relay_schemas::limits::DELIVERY_ATTEMPTS_MAX;
    assert!(letters.values().all(|letter| letter["attempts"] == attempts));
}

/// A body that can't be read now may be there later: its message goes back to the queue, alone.
#[tokio::test]
async fn a_passing_failure_is_tried_again_and_holds_nobody_up() {
    let options = RelayOptions { unbound: vec!["BUCKET"], ..RelayOptions::default() };
    let mut relay = Relay::start_with(options).await;
    let edge = relay.enrol("org-passing", USER).await;
    let (mut pointer, _) = message(300);
    pointer.stored_body = Some(StoredBody { key: "bodies/2026/01/01/later".into(), bytes: 7 });
    let body = sized_body("org-passing", USER, 301, now_ms(), 0);
    let id = Envelope::parse(body.as_bytes()).unwrap().event_id();
    let good = QueueMessage::new(id, UnixMillis::new(now_ms()), "request".into());
    let messages = [pointer.encode(""), good.encode(&body)]
        .map(|text| json!({ "contentType": "text", "body": text }));
    relay.ask(json!({ "op": "queue_send_batch", "queue": "EVENTS", "messages": messages })).await;
    relay.wait_for_length(&edge.stream(), 1).await;
    until("a second attempt", async || {
        (relay.metric("edgerelay_queue_retries_total").await >= 2.0).then_some(())
    })
    .await;
    // It was not given up: nothing tried to keep it, which could not have worked either.
    assert!(!relay.log().contains("dead_letter"), "{}", relay.log());
    assert_eq!(relay.stream_length(&edge.stream()).await, 1);
}
