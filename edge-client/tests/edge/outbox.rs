//! Goal: every report reaches the relay at least once, those of one event in order, also across
//! restarts; and a report that the relay will never take holds up no other.

use edgerelay::Exit;
use relay_schemas::{ErrorCode, ReportStatus};

use crate::{
    events::event_id,
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings, state, within},
};

#[tokio::test]
async fn reports_wait_for_the_relay_across_restarts() {
    let relay = FakeRelay::start().await;
    relay.push(&["a", "b"]);
    for _ in 0..100 {
        relay.plan_report(ErrorCode::Unavailable, Some(3_600));
    }
    let (_directory, state) = state();
    let flags = ["--report", "on", "--exit-when-caught-up"];
    let client = Running::start(settings(&relay, &state, &flags), Recorder::new());
    assert_eq!(client.exit().await, Exit::CaughtUp);
    assert!(relay.seen(|seen| seen.reports.is_empty()));

    relay.clear_report_plans();
    let client = Running::start(settings(&relay, &state, &[]), Recorder::new());
    within(relay.wait_for(|seen| seen.reports.len() == 4)).await;
    client.stop().await;
    for seq in [1, 2] {
        let statuses: Vec<ReportStatus> = relay.seen(|seen| {
            let of_event = seen.reports.iter().filter(|report| report.event_id == event_id(seq));
            of_event.map(|report| report.status).collect()
        });
        assert_eq!(statuses, [ReportStatus::Processing, ReportStatus::Completed]);
    }

    let client =
        Running::start(settings(&relay, &state, &["--exit-when-caught-up"]), Recorder::new());
    client.exit().await;
    assert_eq!(relay.seen(|seen| seen.reports.len()), 4, "what was taken is not sent again");
}

#[tokio::test]
async fn a_passing_fault_is_waited_out() {
    let relay = FakeRelay::start().await;
    relay.push(&["a"]);
    relay.plan_report(ErrorCode::Internal, None);
    relay.plan_report(ErrorCode::ConnectionsTooMany, Some(1));
    let (_directory, state) = state();
    let client = Running::start(settings(&relay, &state, &["--report", "on"]), Recorder::new());
    within(relay.wait_for(|seen| seen.reports.len() == 2)).await;
    client.stop().await;
}

#[tokio::test]
async fn a_report_that_is_never_taken_is_dropped() {
    let relay = FakeRelay::start().await;
    relay.push(&["a", "b"]);
    for code in [ErrorCode::EventUnknown, ErrorCode::ScopeMissing, ErrorCode::StatusUnknown] {
        relay.plan_report(code, None);
    }
    let (_directory, state) = state();
    let client = Running::start(settings(&relay, &state, &["--report", "on"]), Recorder::new());
    within(relay.wait_for(|seen| seen.reports.len() == 1)).await;
    client.stop().await;
    let flags = ["--exit-when-caught-up"];
    Running::start(settings(&relay, &state, &flags), Recorder::new()).exit().await;
    assert_eq!(relay.seen(|seen| seen.reports.len()), 1, "the others never come");
}

#[tokio::test]
async fn a_revoked_credential_ends_the_client_and_keeps_the_report() {
    let relay = FakeRelay::start().await;
    relay.push(&["a"]);
    relay.plan_report(ErrorCode::CredentialRevoked, None);
    let (_directory, state) = state();
    let client = Running::start(settings(&relay, &state, &["--report", "on"]), Recorder::new());
    assert_eq!(client.exit().await.code(), 3);
    let client = Running::start(settings(&relay, &state, &[]), Recorder::new());
    within(relay.wait_for(|seen| seen.reports.len() == 2)).await;
    client.stop().await;
}
