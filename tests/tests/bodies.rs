//! Goal: a body arrives byte for byte, whatever its size and however it is asked for.
//! Method: bodies of every awkward kind, and some too large for the queue, read from workerd in
//! every dialect and mode, live and from the log; Linear's signature still fits.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{samples, sized_body};
use relay_schemas::{
    Dialect, Frame, SecretList,
    limits::{BODY_BYTES_MAX, QUEUE_BODY_BYTES_MAX},
    verify,
};
use relay_tests::{
    Answer, EnrolledEdge, FrameReader, ReadFrame, Relay, RelayOptions, SECRET_CURRENT, now_ms,
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

const USER: &str = "user-bodies";

/// The exact body, in the mode asked for, with a signature that fits it.
fn check(frame: &ReadFrame, body: &[u8], mode: &str) {
    let Ok(Frame::Webhook(webhook)) = Frame::parse(&frame.line) else { panic!("{}", frame.line) };
    let read = webhook.body_bytes().unwrap();
    assert!(*read == *body, "{} bytes became {}", body.len(), read.len());
    let mut headers = webhook.headers.iter();
    let signature = headers.find(|(name, _)| name == "Linear-Signature").map(|(_, value)| &**value);
    verify(&SecretList::parse(SECRET_CURRENT).unwrap(), &read, signature).unwrap();
    // Half a surrogate pair would make strict readers refuse the line.
    let is_one_line = body.starts_with(b"{")
        && !body.iter().any(|byte| b"\r\n".contains(byte))
        && serde_json::from_slice::<Value>(body).is_ok();
    let encoding = match mode {
        "data" if is_one_line => None,
        "data" => Some("text"),
        mode => Some(mode),
    };
    assert_eq!(
        (webhook.encoding.as_deref(), webhook.data.is_some()),
        (encoding, encoding.is_none())
    );
}

const MODES: [&str; 3] = ["data", "text", "base64"];

async fn open_all(
    relay: &Relay,
    edge: &EnrolledEdge,
    start: &str,
    modes: &[&'static str],
) -> Vec<(&'static str, FrameReader)> {
    let mut readers = Vec::new();
    for mode in modes.iter().copied() {
        for dialect in Dialect::ALL {
            let query = format!("{start}&body={mode}");
            readers.push((mode, FrameReader::open(relay, edge, dialect, &query).await.0));
        }
    }
    readers
}

async fn check_all(readers: Vec<(&'static str, FrameReader)>, bodies: &[Vec<u8>]) {
    for (mode, mut reader) in readers {
        for body in bodies {
            check(&reader.frame("webhook").await, body, mode);
        }
    }
}

#[tokio::test]
async fn every_mode_of_every_dialect_is_exact() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-modes", USER).await;
    let samples = samples("org-modes", USER, now_ms());
    let bodies: Vec<Vec<u8>> = samples.into_iter().map(|sample| sample.body.into_bytes()).collect();
    let live = open_all(&relay, &edge, "cursor=now", &MODES).await;
    for body in &bodies {
        relay.deliver(std::str::from_utf8(body).unwrap(), "d").await;
    }
    check_all(live, &bodies).await;
    check_all(open_all(&relay, &edge, "cursor=earliest", &MODES).await, &bodies).await;
}

#[tokio::test]
async fn a_body_too_large_for_the_queue_goes_through_the_bucket() {
    let mut relay = Relay::start_with(RelayOptions::unsealed()).await;
    let edge = relay.enrol("org-oversize", USER).await;
    let live = open_all(&relay, &edge, "cursor=now", &MODES[..1]).await;
    let sizes =
        [QUEUE_BODY_BYTES_MAX, QUEUE_BODY_BYTES_MAX + 1, 300_000, 4_000_000, BODY_BYTES_MAX];
    let mut bodies = Vec::new();
    for (index, bytes) in (0..).zip(sizes) {
        let body = sized_body("org-oversize", USER, index, now_ms(), bytes);
        relay.deliver(&body, "d").await;
        bodies.push(body.into_bytes());
    }
    check_all(live, &bodies).await;
    let bucket = relay.ask(json!({ "op": "r2_list", "prefix": "bodies/" })).await;
    let stored = bucket["objects"].as_array().unwrap();
    let mut stored: Vec<u64> =
        stored.iter().map(|one| one["size_bytes"].as_u64().unwrap()).collect();
    stored.sort_unstable();
    assert!(stored.into_iter().eq(sizes[1..].iter().map(|bytes| *bytes as u64)));
    // From the log, by an object that has to load it first.
    relay.evict_stream(&edge.stream()).await;
    check_all(open_all(&relay, &edge, "cursor=earliest", &MODES[2..]).await, &bodies).await;
}

/// One page after the other, until there is no more.
/// A retry is the same event with another body; each message must find the one that it signs.
#[tokio::test]
async fn a_large_retry_that_is_stamped_anew_replaces_no_body() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-large-retry", USER).await;
    let now = now_ms();
    let first = sized_body("org-large-retry", USER, 1, now, 300_000);
    let stamp = |at: u64| format!("\"webhookTimestamp\":{at}");
    let again = first.replace(&stamp(now), &stamp(now - 1_000));
    assert_ne!(first, again);
    relay.deliver(&first, "first").await;
    relay.deliver(&again, "again").await;
    until("both deliveries to be consumed", async || {
        let appended = relay.metric("edgerelay_events_appended_total").await;
        let duplicates = relay.metric("edgerelay_events_duplicate_total").await;
        (appended + duplicates >= 2.0).then_some(())
    })
    .await;
    assert_eq!(relay.stream_length(&edge.stream()).await, 1);
    let kept = relay.ask(json!({ "op": "r2_list", "prefix": "bodies/" })).await;
    assert_eq!(kept["objects"].as_array().unwrap().len(), 2);
    let (mut reader, _) =
        FrameReader::open(&relay, &edge, Dialect::Ndjson, "cursor=earliest").await;
    let frame = reader.frame("webhook").await;
    let body = if frame.line.contains(&stamp(now)) { first } else { again };
    check(&frame, body.as_bytes(), "data");
}

async fn pages(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = relay.as_edge(edge, Method::GET, &format!("/events?{query}{cursor}"));
        let page = Answer::to(request).await.ok();
        pages.push(page["events"].as_array().unwrap().clone());
        if page["has_more"] == false {
            return pages;
        }
        cursor = format!("&cursor={}", page["cursor"].as_str().unwrap());
    }
}

fn numbers(pages: &[Vec<Value>]) -> Vec<Vec<u64>> {
    let number = |event: &Value| event["data"]["data"]["number"].as_u64().unwrap();
    pages.iter().map(|page| page.iter().map(number).collect()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_in_both_directions() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-pages", USER).await;
    assert_eq!(pages(&relay, &edge, "").await, [[] as [Value; 0]]);
    for number in 1..=5 {
        // Two of them together are more than a page may hold.
        let bytes = if number > 3 { 600_000 } else { 0 };
        relay.deliver(&sized_body("org-pages", USER, number, now_ms(), bytes), "d").await;
    }
    until("five events", async || (relay.stream_length(&edge.stream()).await == 5).then_some(()))
        .await;
    let one_by_one = |numbers: [u64; 5]| numbers.map(|number| vec![number]).to_vec();
    for (query, expected) in [
        ("limit=1", one_by_one([1, 2, 3, 4, 5])),
        ("limit=1&order=desc", one_by_one([5, 4, 3, 2, 1])),
        ("limit=2", vec![vec![1, 2], vec![3, 4], vec![5]]),
        ("limit=2&order=desc", vec![vec![5], vec![4, 3], vec![2, 1]]),
        ("", vec![vec![1, 2, 3, 4], vec![5]]),
        ("order=desc", vec![vec![5], vec![4, 3, 2, 1]]),
        ("kind=Issue.update&limit=3", vec![vec![1, 2, 3], vec![4], vec![5]]),
        ("kind=Comment", vec![vec![]]),
    ] {
        assert_eq!(numbers(&pages(&relay, &edge, query).await), expected, "{query}");
    }
    let text = &pages(&relay, &edge, "body=base64&limit=1").await[0][0];
    assert_eq!((&text["encoding"], text["data"].is_null()), (&json!("base64"), true));
}
