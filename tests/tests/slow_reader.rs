//! Goal: a reader that doesn't read costs a bounded buffer and loses nothing.
//! Method: readers of each kind that stop reading while far more is posted than any buffer may
//! hold; the memory of workerd is compared before and after; then they read on.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_tests::{HttpReader, Relay, RelayOptions, SocketReader, now_ms};

const ORGANIZATION: &str = "org-slow";
const BODY_BYTES: usize = 100_000;
const EVENTS: u64 = 1_200;
const WARM_UP: u64 = EVENTS;
/// Two readers that don't read 120 MB each would cost 240 MB if anything were queued for them.
/// workerd's own heap breathes by some tens of MB, also after a warm-up of the same size.
const GROWTH_BYTES_MAX: u64 = 100_000_000;

async fn post(relay: &Relay, user: &str, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let body = sized_body(ORGANIZATION, user, index, now_ms(), BODY_BYTES);
        relay.deliver(&body, &format!("slow-{user}-{index}")).await;
    }
}

#[tokio::test]
async fn readers_that_stop_reading_cost_a_bounded_buffer_and_lose_nothing() {
    let mut relay = Relay::start_with(RelayOptions::unsealed()).await;
    let other = relay.enrol(ORGANIZATION, "warm").await;
    post(&relay, &other.user, 0..WARM_UP).await;
    relay.wait_for_length(&other.stream(), WARM_UP).await;

    let edge = relay.enrol(ORGANIZATION, "slow").await;
    let mut http = HttpReader::ndjson(&relay, &edge, "heartbeat=60").await;
    let mut socket = SocketReader::open(&relay, &edge, "heartbeat=60").await;
    http.frame("open").await;
    socket.frame("open").await;

    let before = relay.memory_bytes().await;
    post(&relay, &edge.user, 0..EVENTS).await;
    relay.wait_for_length(&edge.stream(), EVENTS).await;
    let after = relay.memory_bytes().await;
    println!("workerd: {} MB before, {} MB after", before / 1_000_000, after / 1_000_000);
    assert!(after.saturating_sub(before) < GROWTH_BYTES_MAX, "grew from {before} to {after} bytes");

    let state = relay.stream_state(&edge.stream()).await;
    let lags: Vec<u64> = state["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| connection["lag_events"].as_u64().unwrap())
        .collect();
    assert_eq!(lags.len(), 2, "a stalled reader stays connected");
    assert!(lags.iter().all(|lag| *lag > 0), "the object has stopped sending: {lags:?}");

    for n in 1..=EVENTS {
        assert_eq!(http.frame("webhook").await["n"], n);
        assert_eq!(socket.frame("webhook").await["n"], n);
    }
}
