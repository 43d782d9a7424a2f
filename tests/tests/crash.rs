//! Goal: what was appended survives kill -9 of workerd under load, once and in its place.
//! Method: senders post while workerd is killed, several times; what its readers were sent is then
//! compared with the log, and every webhook is sent again, as Linear would.
//!
//! What this can't show: the local queue lives in the memory of workerd. A webhook that was
//! answered 200 and still waits there is lost with the process, unlike on the platform, whose
//! queue has it on disk before `send` returns. That is why every webhook is sent again here; that
//! a 200 alone suffices is the platform's promise.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use relay_durable::samples::sized_body;
use relay_tests::{HttpReader, ReaderLine, Relay, SignedWebhook, now_ms, until};
use serde_json::Value;

const ORGANIZATION: &str = "org-crash";
const USER: &str = "user";
const ROUNDS: u64 = 3;
const SENDERS: u64 = 4;

/// Posts until told to stop; answers the bodies that it tried to post.
async fn send(url: String, sender: u64, round: u64, stop: Arc<AtomicBool>) -> Vec<String> {
    let http = reqwest::Client::new();
    let mut tried = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let index = (round * SENDERS + sender) * 100_000 + tried.len() as u64;
        let body = sized_body(ORGANIZATION, USER, index, now_ms(), 1_500);
        let webhook = SignedWebhook::new(body.clone(), &format!("crash-{index}"));
        let mut request = http.post(format!("{url}/webhook")).body(webhook.body);
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        tried.push(body);
        if request.send().await.is_err() {
            break;
        }
    }
    tried
}

/// The events that a reader is sent until its connection ends.
async fn read_until_broken(mut reader: HttpReader) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while let ReaderLine::Line(line) = reader.next().await {
        let Ok(frame) = serde_json::from_str::<Value>(&line) else { break };
        if frame["type"] == "webhook" {
            events.push(place(&frame));
        }
    }
    events
}

fn place(frame: &Value) -> (String, String) {
    (frame["cursor"].as_str().unwrap().to_owned(), frame["id"].as_str().unwrap().to_owned())
}

async fn whole_log(relay: &Relay, edge: &relay_tests::EnrolledEdge) -> Vec<(String, String)> {
    let mut events = Vec::new();
    let mut cursor = "earliest".to_owned();
    loop {
        let path = format!("/events?limit=1000&cursor={cursor}");
        let answer = relay.as_edge(edge, reqwest::Method::GET, &path).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        events.extend(page["events"].as_array().unwrap().iter().map(place));
        cursor = page["cursor"].as_str().unwrap().to_owned();
        if page["has_more"] == false {
            return events;
        }
    }
}

#[tokio::test]
async fn what_was_appended_survives_kill_9_under_load() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, USER).await;
    let mut tried = Vec::new();
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let mut reader = HttpReader::ndjson(&relay, &edge, "").await;
        reader.frame("open").await;
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| tokio::spawn(send(relay.url.clone(), sender, round, Arc::clone(&stop))))
            .collect();
        let length_before = relay.stream_length(&edge.stream()).await;
        relay.wait_for_length(&edge.stream(), length_before + 50 * (round + 1)).await;
        relay = relay.kill_and_restart().await;
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            tried.extend(sender.await.unwrap());
        }
        seen.extend(read_until_broken(reader).await);
        let log = whole_log(&relay, &edge).await;
        for event in &seen {
            assert!(log.contains(event), "a reader was sent {event:?}, which the log has not");
        }
    }
    for (index, body) in tried.iter().enumerate() {
        relay.deliver(body, &format!("crash-again-{index}")).await;
    }
    relay.wait_for_length(&edge.stream(), tried.len() as u64).await;
    let settled = until("the queue to be empty", async || {
        let done = relay.metric("edgerelay_events_appended_total").await
            + relay.metric("edgerelay_events_duplicate_total").await;
        (done >= tried.len() as f64).then_some(())
    });
    settled.await;
    let log = whole_log(&relay, &edge).await;
    assert_eq!(log.len(), tried.len(), "each once, none twice");
    assert!(log.is_sorted(), "cursors rise along the log");
    for event in &seen {
        assert!(log.contains(event), "{event:?} has lost its place");
    }
}
