//! Goal: the real client, killed at any moment, goes on where it left off.
//! Method: `edgerelay listen` as a process, killed after each number of events that it printed,
//! then started again on the same state.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_tests::{ClientProcess, EnrolledEdge, Relay, now_ms};

const EVENTS: u64 = 6;

async fn deliver(relay: &Relay, edge: &EnrolledEdge, count: u64) {
    for index in 0..count {
        let body = sized_body(&edge.organization, &edge.user, index, now_ms(), 900);
        relay.deliver(&body, &format!("resume-{index}")).await;
        // One at a time, so that the n-th posted is the n-th of the stream.
        relay.wait_for_length(&edge.stream(), index + 1).await;
    }
}

/// The positions of the events that a client prints until it has caught up.
async fn read_to_the_end(mut client: ClientProcess) -> Vec<u64> {
    let mut positions = Vec::new();
    while let Some(line) = client.try_next_line().await {
        positions.push(position(&line));
    }
    assert_eq!(client.child.wait().await.unwrap().code(), Some(0));
    positions
}

fn position(line: &str) -> u64 {
    let frame: serde_json::Value = serde_json::from_str(line).unwrap();
    let cursor: relay_schemas::Cursor = frame["cursor"].as_str().unwrap().parse().unwrap();
    cursor.seq.get()
}

async fn check(transport: &str) {
    let relay = Relay::start().await;
    let edge = relay.enrol(&format!("org-resume-{transport}"), "user").await;
    deliver(&relay, &edge, EVENTS).await;
    let directory = tempfile::tempdir().unwrap();
    for killed_after in 0..=EVENTS {
        let state = directory.path().join(format!("{transport}-{killed_after}.db"));
        let arguments = ["--transport", transport, "--local", "off"];
        let mut client = ClientProcess::listen(&relay, &edge, &state, &arguments);
        for expected in 1..=killed_after {
            let line = client.try_next_line().await.unwrap();
            assert_eq!(position(&line), expected);
        }
        client.kill().await;
        let arguments = ["--transport", transport, "--local", "off", "--exit-when-caught-up"];
        let again = ClientProcess::listen(&relay, &edge, &state, &arguments);
        let positions = read_to_the_end(again).await;
        // What was printed just before the kill may come again, never less than the rest.
        let first = positions.first().copied().unwrap_or(EVENTS + 1);
        assert!(first <= killed_after + 1, "killed after {killed_after}, went on at {first}");
        assert_eq!(positions, (first..=EVENTS).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn killed_at_every_frame_over_websocket() {
    check("ws").await;
}

#[tokio::test]
async fn killed_at_every_frame_over_ndjson() {
    check("ndjson").await;
}

#[tokio::test]
async fn a_finished_client_starts_after_what_it_handled() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-resume-finished", "user").await;
    deliver(&relay, &edge, 3).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("edge.db");
    let arguments = ["--local", "off", "--exit-when-caught-up"];
    let first = ClientProcess::listen(&relay, &edge, &state, &arguments);
    assert_eq!(read_to_the_end(first).await, [1, 2, 3]);
    let second = ClientProcess::listen(&relay, &edge, &state, &arguments);
    assert_eq!(read_to_the_end(second).await, [0_u64; 0]);
}

#[tokio::test]
async fn a_revoked_client_ends_with_its_exit_code() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-resume-revoked", "user").await;
    deliver(&relay, &edge, 1).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("edge.db");
    let mut client = ClientProcess::listen(&relay, &edge, &state, &["--local", "off"]);
    assert_eq!(position(&client.try_next_line().await.unwrap()), 1);
    relay.revoke(&edge).await;
    assert_eq!(client.try_next_line().await, None);
    assert_eq!(client.child.wait().await.unwrap().code(), Some(3));
}
