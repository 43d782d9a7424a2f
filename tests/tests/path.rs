//! Goal: an event posted by Linear reaches a reader of every dialect, byte for byte.
//! Method: the built Worker on real workerd, plain readers, real signatures.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{Sample, samples};
use relay_schemas::{Frame, SecretList, verify};
use relay_tests::{HttpReader, Relay, SECRET_CURRENT, SocketReader, now_ms};

const ORGANIZATION: &str = "org-path";
const USER: &str = "user-path";

async fn deliver_all(relay: &Relay) -> Vec<Sample> {
    let samples = samples(ORGANIZATION, USER, now_ms());
    for (index, sample) in samples.iter().enumerate() {
        relay.deliver(&sample.body, &format!("delivery-{index}")).await;
    }
    samples
}

fn is_signal(line: &str) -> bool {
    matches!(Frame::parse(line), Ok(Frame::Signal(_)))
}

fn assert_frame(line: &str, samples: &[Sample], n: u64) {
    let Ok(Frame::Webhook(webhook)) = Frame::parse(line) else { panic!("{line}") };
    let body = webhook.body_bytes().unwrap();
    assert!(samples.iter().any(|sample| sample.body.as_bytes() == &*body), "{line}");
    assert_eq!((webhook.n, webhook.cursor.seq.get()), (n, n));
    let signature = webhook
        .headers
        .iter()
        .find(|(name, _)| name == "Linear-Signature")
        .map(|(_, value)| &**value);
    verify(&SecretList::parse(SECRET_CURRENT).unwrap(), &body, signature).unwrap();
}

#[tokio::test]
async fn every_sample_reaches_every_dialect_byte_for_byte() {
    let relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, USER).await;
    let mut ndjson = HttpReader::ndjson(&relay, &edge, "").await;
    ndjson.frame("open").await;
    let mut socket = SocketReader::open(&relay, &edge, "").await;
    socket.frame("open").await;
    let samples = deliver_all(&relay).await;
    let count = samples.len() as u64;
    for n in 1..=count {
        // Signals pass ahead of webhooks.
        let (mut line, mut message) = (ndjson.line().await, socket.next().await.unwrap());
        while is_signal(&line) {
            line = ndjson.line().await;
        }
        while is_signal(&message) {
            message = socket.next().await.unwrap();
        }
        assert_frame(&line, &samples, n);
        assert_frame(&message, &samples, n);
    }
    let mut late = HttpReader::open(&relay, &edge, "cursor=earliest", "text/event-stream").await;
    let mut n = 0;
    while n < count {
        let line = late.line().await;
        if let Some(data) = line.strip_prefix("data: {\"type\":\"webhook\"") {
            n += 1;
            assert_frame(&format!("{{\"type\":\"webhook\"{data}"), &samples, n);
        }
    }
}
