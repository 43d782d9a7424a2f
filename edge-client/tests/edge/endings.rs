//! Goal: what ends a client, with which exit code, and what must not.

use edgerelay::{Exit, ListenError};
use relay_schemas::{ByeCode, ErrorCode};

use crate::{
    events::{cursor, event_id},
    fake_relay::{FakeRelay, Plan},
    harness::{Recorder, Running, settings, state, within},
};

async fn exit_code(transport: &str, plan: Plan, flags: &[&str]) -> (u8, usize) {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 3]);
    relay.plan(plan);
    let (_directory, state) = state();
    let mut all = vec!["--transport", transport];
    all.extend(flags);
    let recorder = Recorder::new();
    let client = Running::start(settings(&relay, &state, &all), recorder.clone());
    let exit = client.exit().await;
    assert_eq!(relay.seen(|seen| seen.dials.len()), 1, "a terminal error must not be dialed again");
    (exit.code(), recorder.events().len())
}

#[tokio::test]
async fn refusals_end_the_client() {
    for transport in ["ws", "ndjson"] {
        for (code, expected) in [
            (ErrorCode::CredentialRevoked, 3),
            (ErrorCode::CredentialExpired, 3),
            (ErrorCode::CredentialInvalid, 3),
            (ErrorCode::ScopeMissing, 3),
            (ErrorCode::IdentityMismatch, 3),
            (ErrorCode::ParameterInvalid, 2),
        ] {
            let plan = Plan { refuse: Some((code, None)), ..Plan::default() };
            assert_eq!(
                exit_code(transport, plan, &[]).await,
                (expected, 0),
                "{transport} {code:?}"
            );
        }
    }
}

#[tokio::test]
async fn goodbyes_for_ever_end_the_client_after_what_came_before() {
    for transport in ["ws", "ndjson"] {
        for (code, expected) in
            [(ByeCode::Revoked, 3), (ByeCode::Expired, 3), (ByeCode::Protocol, 2)]
        {
            let plan = Plan { frames_max: Some(3), bye: Some((code, 0)), ..Plan::default() };
            assert_eq!(
                exit_code(transport, plan, &[]).await,
                (expected, 2),
                "{transport} {code:?}"
            );
        }
    }
    for (code, expected) in [(4_503, 3), (4_501, 3), (4_999, 2)] {
        let plan = Plan { frames_max: Some(3), close: Some(code), ..Plan::default() };
        assert_eq!(exit_code("ws", plan, &[]).await, (expected, 2), "{code}");
    }
}

#[tokio::test]
async fn a_gap_ends_the_client_only_when_asked() {
    for transport in ["ws", "ndjson"] {
        let plan = Plan { gap: true, ..Plan::default() };
        let flags = ["--exit-when-caught-up"];
        assert_eq!(exit_code(transport, plan.clone(), &flags).await, (0, 3));
        assert_eq!(exit_code(transport, plan, &["--fail-on-gap"]).await, (5, 0));
    }
}

#[tokio::test]
async fn the_cursor_stays_before_a_gap_that_ends_the_client() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 2]);
    let (_directory, state) = state();
    let recorder = Recorder::new();
    let flags = ["--exit-when-caught-up"];
    Running::start(settings(&relay, &state, &flags), recorder.clone()).exit().await;
    relay.push(&["s"; 4]);
    relay.trim(4);
    let fail = settings(&relay, &state, &["--fail-on-gap"]);
    for _ in 0..2 {
        assert_eq!(Running::start(fail.clone(), recorder.clone()).exit().await, Exit::Gap);
        let last = relay.seen(|seen| seen.dials.last().cloned()).unwrap();
        assert!(last.starts_with(&format!("cursor={}", cursor(2))), "{last}");
    }
    Running::start(settings(&relay, &state, &flags), recorder.clone()).exit().await;
    assert_eq!(recorder.events(), [1, 2, 5, 6].map(event_id));
}

#[tokio::test]
async fn two_clients_never_share_a_state() {
    let relay = FakeRelay::start().await;
    let (_directory, state) = state();
    let first = Running::start(settings(&relay, &state, &[]), Recorder::new());
    within(relay.wait_for(|seen| !seen.dials.is_empty())).await;
    let second = Running::start(settings(&relay, &state, &[]), Recorder::new());
    let error = second.result().await.unwrap_err();
    assert!(matches!(error, ListenError::State { .. }), "{error}");
    assert_eq!(error.code(), 6);
    assert_eq!(first.stop().await, Exit::Stopped);
    let third = Running::start(settings(&relay, &state, &[]), Recorder::new());
    within(relay.wait_for(|seen| seen.dials.len() == 2)).await;
    assert_eq!(third.stop().await, Exit::Stopped);
}

#[tokio::test]
async fn the_end_waits_for_handlers_and_a_second_request_does_not() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"]);
    let (_directory, state) = state();
    let flags = ["--grace", "1h"];

    let recorder = Recorder::holding();
    let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
    recorder.wait_for(1).await;
    client.ask_to_end();
    client.ask_to_end();
    assert_eq!(client.exit().await, Exit::Stopped);

    let recorder = Recorder::holding();
    let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
    recorder.wait_for(1).await;
    client.ask_to_end();
    recorder.release();
    assert_eq!(client.exit().await, Exit::Stopped);

    let recorder = Recorder::new();
    let flags = ["--exit-when-caught-up"];
    Running::start(settings(&relay, &state, &flags), recorder.clone()).exit().await;
    assert_eq!(recorder.events(), [], "what finished within the grace is handled");
}

#[tokio::test]
async fn every_request_brings_the_credential_and_asks_for_what_was_set() {
    let relay = FakeRelay::start().await;
    let (_directory, state) = state();
    let flags = ["--kind", "Issue.*", "--kind", "Comment", "--heartbeat", "7"];
    let client = Running::start(settings(&relay, &state, &flags), Recorder::new());
    within(relay.wait_for(|seen| !seen.dials.is_empty())).await;
    client.stop().await;
    relay.seen(|seen| {
        assert!(seen.credentials[0].starts_with("Bearer ey"));
        assert_eq!(seen.dials[0], "cursor=earliest&heartbeat=7&kind=Issue.*&kind=Comment");
    });
}
