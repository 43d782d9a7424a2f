use std::time::{Duration, Instant};

use relay_schemas::limits::{SEAL_AGE_SHARE, SEAL_BYTES_DEFAULT};
use relay_tests::{EnrolledEdge, Relay, now_ms};
use serde_json::{Value, json};

use crate::traffic::Traffic;

/// What the platform takes in one batch, less something for what it adds.
const BATCH_EVENTS_MAX: usize = 100;
const BATCH_BYTES_MAX: usize = 240_000;

/// No progress for this long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Puts so many events into a stream: through the queue, the consumer and the stream's object, but
/// past the webhook's front door, which can't take them as fast.
pub(crate) async fn fill(relay: &mut Relay, edge: &EnrolledEdge, events: u64) {
    let mut traffic = Traffic::of(&edge.organization, &edge.user);
    let mut batch: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for _ in 0..events {
        let message = traffic.next_message(now_ms());
        if batch.len() == BATCH_EVENTS_MAX || bytes + message.len() > BATCH_BYTES_MAX {
            send(relay, std::mem::take(&mut batch)).await;
            bytes = 0;
        }
        bytes += message.len();
        batch.push(json!({ "body": message, "contentType": "text" }));
    }
    send(relay, batch).await;
    wait_for(relay, edge, "events", |state| state["events"] == events).await;
}

async fn send(relay: &mut Relay, messages: Vec<Value>) {
    let request = json!({ "op": "queue_send_batch", "queue": "EVENTS", "messages": messages });
    relay.ask(request).await;
}

/// Waits until all lies in segments but what is too little for one.
pub(crate) async fn wait_until_sealed(relay: &Relay, edge: &EnrolledEdge) -> Value {
    let rest_max = SEAL_BYTES_DEFAULT / SEAL_AGE_SHARE;
    let is_sealed = |state: &Value| state["hot_bytes"].as_u64() < Some(rest_max);
    wait_for(relay, edge, "segments", is_sealed).await
}

/// Waits for as long as what is asked about goes on changing.
pub(crate) async fn wait_for(
    relay: &Relay,
    edge: &EnrolledEdge,
    what: &str,
    is_reached: impl Fn(&Value) -> bool,
) -> Value {
    let (mut last, mut changed_at) = (Value::Null, Instant::now());
    loop {
        let state = relay.stream_state(&edge.stream()).await;
        if is_reached(&state) {
            return state;
        }
        if state[what] != last {
            (last, changed_at) = (state[what].clone(), Instant::now());
        }
        assert!(changed_at.elapsed() < PATIENCE, "waited in vain for {what}: {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
