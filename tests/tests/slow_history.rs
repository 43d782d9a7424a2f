//! Goal: whoever reads history slowly costs a bounded buffer in the Worker and nothing in the
//! object, which sleeps meanwhile.
//! Method: a history of more segments than the object names at once; readers that stop behind
//! their first frame; the memory of workerd before and after; the object is dropped from memory,
//! and must still be out of it when one of them has read on.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::limits::{SEAL_BYTES_DEFAULT, SEGMENTS_OFFERED_MAX};
use relay_tests::{HttpReader, Relay, now_ms, until};

const ORGANIZATION: &str = "org-slow-history";
const USER: &str = "slow";
const BODY_BYTES: usize = 100_000;
const EVENTS: u64 = 500;
const READERS: usize = 6;
/// History has 50 MB. Six readers that don't read it would cost 300 MB if they were served all the
/// same; each may cost a few, and workerd's own heap breathes by some tens.
const GROWTH_BYTES_MAX: u64 = 100_000_000;

#[tokio::test]
async fn a_reader_of_history_costs_a_buffer_and_no_object() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, USER).await;
    for index in 0..EVENTS {
        let body = sized_body(ORGANIZATION, USER, index, now_ms(), BODY_BYTES);
        relay.deliver(&body, &format!("d-{index}")).await;
    }
    relay.wait_for_length(&edge.stream(), EVENTS).await;
    // The object's own alarm would wake it as long as there is something to seal.
    until("more segments than one answer names, and no more to come", async || {
        let state = relay.stream_state(&edge.stream()).await;
        let are_enough = state["segments"].as_u64()? > SEGMENTS_OFFERED_MAX as u64;
        (are_enough && state["hot_bytes"].as_u64()? < SEAL_BYTES_DEFAULT).then_some(())
    })
    .await;
    // What one reading of it costs by itself is paid before.
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest&heartbeat=60").await;
    reader.frame("open").await;
    reader.webhooks(EVENTS as usize).await;
    drop(reader);

    let before = relay.memory_bytes().await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest&heartbeat=60").await;
        reader.frame("open").await;
        readers.push(reader);
    }
    until("no connection to the object", async || {
        let state = relay.stream_state(&edge.stream()).await;
        state["connections"].as_array()?.is_empty().then_some(())
    })
    .await;
    relay.evict_stream(&edge.stream()).await;
    let mut reader = readers.pop().unwrap();
    let half = EVENTS as usize / 2;
    reader.webhooks(half).await;
    assert!(!relay.evict_stream(&edge.stream()).await, "the object was woken");

    let after = relay.memory_bytes().await;
    println!("workerd: {} MB before, {} MB after", before / 1_000_000, after / 1_000_000);
    assert!(after.saturating_sub(before) < GROWTH_BYTES_MAX, "grew from {before} to {after} bytes");
    // Both go on where they stopped.
    let mut untouched = readers.pop().unwrap();
    for (reader, read) in [(&mut reader, half), (&mut untouched, 0)] {
        let webhooks = reader.webhooks(EVENTS as usize - read).await;
        assert_eq!(webhooks.last().unwrap()["n"], EVENTS);
    }
}
