//! Goal: however often Linear delivers an event, it has one place in one stream.
//! Method: the same body again, under another delivery id, stamped anew, and all at once.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{agent_session_created, sized_body};
use relay_tests::{Relay, now_ms, until};

const USER: &str = "user";

async fn check(organization: &str, deliveries: &[(String, &str)], events: u64) {
    let relay = Relay::start().await;
    let edge = relay.enrol(organization, USER).await;
    for (body, delivery) in deliveries {
        relay.deliver(body, delivery).await;
    }
    let duplicates = deliveries.len() as f64 - events as f64;
    until("every delivery to be consumed", async || {
        let found = relay.metric("edgerelay_events_duplicate_total").await;
        let appended = relay.metric("edgerelay_events_appended_total").await;
        (found + appended >= deliveries.len() as f64).then_some(())
    })
    .await;
    assert_eq!(relay.metric("edgerelay_events_duplicate_total").await, duplicates);
    assert_eq!(relay.stream_length(&edge.stream()).await, events);
}

#[tokio::test]
async fn the_same_delivery_again() {
    let organization = "org-duplicates-same";
    let body = sized_body(organization, USER, 1, now_ms(), 1_000);
    let other = sized_body(organization, USER, 2, now_ms(), 1_000);
    check(organization, &[(body.clone(), "a"), (body.clone(), "a"), (body, "a"), (other, "b")], 2)
        .await;
}

#[tokio::test]
async fn the_same_body_under_another_delivery_id() {
    let organization = "org-duplicates-other-id";
    let body = sized_body(organization, USER, 1, now_ms(), 1_000);
    check(organization, &[(body.clone(), "a"), (body.clone(), "b"), (body, "c")], 1).await;
}

#[tokio::test]
async fn the_same_event_stamped_anew() {
    let organization = "org-duplicates-stamped";
    let now = now_ms();
    let body = |sent_at| {
        let body = sized_body(organization, USER, 1, now, 1_000);
        let (old, new) =
            (format!("\"webhookTimestamp\":{now}"), format!("\"webhookTimestamp\":{sent_at}"));
        assert!(body.contains(&old));
        body.replace(&old, &new)
    };
    check(organization, &[(body(now), "a"), (body(now - 1_000), "a"), (body(now - 2_000), "b")], 1)
        .await;
}

#[tokio::test]
async fn a_session_is_created_once_however_its_announcement_is_worded() {
    let organization = "org-duplicates-session";
    let created = |at| agent_session_created(organization, USER, "session-1", at);
    let now = now_ms();
    check(organization, &[(created(now), "a"), (created(now - 5_000), "b")], 1).await;
}

#[tokio::test]
async fn different_events_with_one_delivery_id_are_all_kept() {
    let organization = "org-duplicates-distinct";
    let body = |index| sized_body(organization, USER, index, now_ms(), 1_000);
    check(organization, &[(body(1), "a"), (body(2), "a"), (body(3), "a")], 3).await;
}
