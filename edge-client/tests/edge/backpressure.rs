//! Goal: a handler that does not keep up costs a bounded amount of memory, and loses nothing.

use edgerelay::limits::{BYTES_HELD_MAX, EVENTS_HELD_MAX};

use crate::{
    events::event_id,
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings, state, within},
};

const CREDIT: i64 = 64 * 1024;

#[tokio::test]
async fn without_credit_the_relay_stops_and_with_it_everything_comes() {
    let relay = FakeRelay::start().await;
    relay.set_credit(CREDIT);
    relay.push(&["s"; 1_000]);
    let (_directory, state) = state();
    let recorder = Recorder::holding();
    let client = Running::start(settings(&relay, &state, &[]), recorder.clone());
    recorder.wait_for(1).await;
    // Three pings later the relay has long sent what it may.
    within(relay.wait_for(|seen| seen.pings >= 3)).await;
    let sent = relay.seen(|seen| {
        assert_eq!(seen.bytes_granted, 0);
        seen.events_sent
    });
    assert!((1..300).contains(&sent), "{sent} events were sent for {CREDIT} bytes of credit");
    recorder.release();
    recorder.wait_for(1_000).await;
    let expected: Vec<_> = (1..=1_000).map(event_id).collect();
    assert_eq!(recorder.events(), expected);
    assert!(relay.seen(|seen| seen.bytes_granted) >= CREDIT / 2);
    client.stop().await;
}

#[tokio::test]
async fn an_ndjson_stream_is_not_read_beyond_the_bound() {
    let relay = FakeRelay::start().await;
    // 64 MiB: far more than the client and the sockets between can hold.
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(64 * 1024));
    let count = 1_024;
    relay.push_bodies(&vec![body; count]);
    let (_directory, state) = state();
    let recorder = Recorder::holding();
    let flags = ["--transport", "ndjson", "--local", "127.0.0.1:0"];
    let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
    recorder.wait_for(1).await;
    // When two looks see the same, the relay is stuck in a write.
    let mut sent = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let now = relay.seen(|seen| seen.events_sent);
        if now > 0 && now == sent {
            break;
        }
        sent = now;
    }
    assert!(sent < count / 2, "{sent} of {count} events were taken; {BYTES_HELD_MAX} bytes may be");
    recorder.release();
    recorder.wait_for(count).await;
    let expected: Vec<_> = (1..=count as u64).map(event_id).collect();
    assert_eq!(recorder.events(), expected);
    assert_eq!(relay.seen(|seen| seen.dials.len()), 1, "silence while not reading is no silence");
    client.stop().await;
    const { assert!(EVENTS_HELD_MAX < 10_000) };
}
