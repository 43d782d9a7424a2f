use std::time::Duration;

use relay_durable::{Log, test_storage::MemoryStorage};
use relay_schemas::{EventId, NewEvent, UnixMillis};
use relay_tests::Relay;

use crate::throughput::target;

const SINGLES: u64 = 200;

/// Row writes, which dominate what an event costs on the platform.
pub(crate) async fn run() {
    println!("\n## Row writes of a stream");
    let relay = Relay::start().await;
    let singles = target(&relay, &relay.url, "rows", "singles");
    for index in 1..=SINGLES {
        singles.post(index).await;
        relay.wait_for_length("rows/user:singles", index).await;
    }
    let (events, rows) = written(&relay, "rows/user:singles").await;
    println!("one at a time   {:.3} rows an event to store, as workerd counts", rows / events);
    let flood = target(&relay, &relay.url, "rows", "flood");
    let count = flood.flood(32, Duration::from_secs(3)).await;
    relay.wait_for_length("rows/user:flood", count).await;
    let (events, rows) = written(&relay, "rows/user:flood").await;
    println!("in a flood      {:.3} rows an event to store, {events:.0} events", rows / events);
    let (single, batch) = (lifetime_rows(1), lifetime_rows(100));
    println!("whole life      {single} rows for a single event, {batch} for 100 in one batch");
}

async fn written(relay: &Relay, stream: &str) -> (f64, f64) {
    let state = relay.stream_state(stream).await;
    let number = |name: &str| state[name].as_f64().expect("a number");
    (number("events"), number("rows_written"))
}

/// Rows written to store a batch and to delete it after retention, in a log that goes on.
fn lifetime_rows(events: u64) -> u64 {
    let storage = MemoryStorage::default();
    let now = UnixMillis::new(1_790_000_000_000);
    let mut log = Log::load(storage.clone(), now, 1).expect("memory");
    let event = |number: u64, at: UnixMillis| NewEvent {
        signal: None,
        id: EventId::from_bytes(u128::from(number).to_be_bytes()),
        kind: "Issue.update".into(),
        received_at: at,
        record: format!("{{\"id\":{number},\"fill\":\"{}\"}}", "x".repeat(1_000)),
    };
    log.append(&[event(0, now)], now).expect("memory");
    let later = now + 1_000;
    let before = storage.rows_written();
    let batch: Vec<NewEvent> = (1..=events).map(|number| event(number, later)).collect();
    log.append(&batch, later).expect("memory");
    let stored = storage.rows_written() - before;
    log.append(&[event(1_000, later + 1_000)], later + 1_000).expect("memory");
    log.trim_until(now).expect("memory");
    let before = storage.rows_written();
    log.trim_until(later).expect("memory");
    assert!(log.oldest_appended_at().is_some(), "the log goes on");
    stored + storage.rows_written() - before
}
