//! Goal: a relay that gives each event to one machine knows how many this one works on at once.
//! Method: the client as its settings say, and what it asks the relay for.

use crate::{
    events::event_id,
    fake_relay::{FakeRelay, Plan},
    harness::{Recorder, Running, credential_for, settings, settings_as, state, within},
};
use relay_schemas::Scope;

/// The `capacity` of the first dial.
async fn capacity(flags: &[&str], scopes: &[Scope]) -> Option<String> {
    let relay = FakeRelay::start().await;
    let (_directory, state) = state();
    let all = [flags, &["--exit-when-caught-up"]].concat();
    let settings = settings_as(&credential_for("edge_1", scopes), &relay, &state, &all);
    Running::start_as_set(settings).exit().await;
    let dial = relay.seen(|seen| seen.dials[0].clone());
    let found = dial.split('&').find_map(|pair| pair.strip_prefix("capacity="));
    found.map(str::to_owned)
}

#[tokio::test]
async fn the_relay_is_told_how_many_handlers_run_at_once() {
    let all = Scope::DEFAULT;
    let reading = [Scope::ReadEvents];
    for (flags, scopes, expected) in [
        (&["--exec", "true"][..], &all[..], Some("1")),
        (&["--exec", "true", "--concurrency", "4"], &all, Some("4")),
        (&["--forward", "http://127.0.0.1:9/", "--concurrency", "2"], &all, Some("2")),
        (&["--exec", "true", "--concurrency", "4", "--report", "off"], &all, Some("0")),
        // Whoever reads the lines reports with `edgerelay status`, and knows how many at once.
        (&[], &all, None),
        (&["--report", "off"], &all, Some("0")),
        // Nobody here may report.
        (&["--exec", "true"], &reading, Some("0")),
        (&["--exec", "true", "--report", "on"], &reading, Some("0")),
        (&[], &reading, Some("0")),
    ] {
        assert_eq!(capacity(flags, scopes).await.as_deref(), expected, "{flags:?} {scopes:?}");
    }
}

#[tokio::test]
async fn a_relay_that_does_not_know_the_word_is_asked_without_it() {
    let relay = FakeRelay::start().await;
    relay.refuse_parameter("capacity");
    relay.push(&["s"]);
    let (_directory, state) = state();
    let flags = ["--exec", "true", "--exit-when-caught-up"];
    let exit = Running::start_as_set(settings(&relay, &state, &flags)).exit().await;
    assert_eq!(exit.code(), 0);
    let dials = relay.seen(|seen| seen.dials.clone());
    assert_eq!(dials.len(), 2, "{dials:?}");
    assert!(dials[0].contains("capacity=1") && !dials[1].contains("capacity"), "{dials:?}");
}

#[tokio::test]
async fn what_was_given_up_before_a_restart_is_tried_again_and_what_was_handled_is_told_again() {
    let relay = FakeRelay::start().await;
    relay.push(&["bad", "good"]);
    let (_directory, state) = state();
    let command = format!("test $EDGERELAY_EVENT_ID != {}", event_id(1));
    let flags = ["--exec", &command, "--attempts", "1", "--on-failure", "skip"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    within(relay.wait_for(|seen| seen.reports.len() == 4)).await;
    client.stop().await;

    // The relay gives both to this machine once more.
    relay.plan(Plan { from: Some(0), attempt: Some(2), ..Plan::default() });
    let recorder = Recorder::new();
    let client = Running::start(settings(&relay, &state, &["--report", "on"]), recorder.clone());
    within(relay.wait_for(|seen| seen.reports.len() == 7)).await;
    client.stop().await;
    assert_eq!(recorder.events(), [event_id(1)]);
    let last: Vec<_> = relay.seen(|seen| {
        let reports = seen.reports[4..].iter();
        reports.map(|report| (report.event_id, report.status.as_str())).collect()
    });
    let mut sorted = last.clone();
    sorted.sort();
    let expected =
        [(event_id(1), "completed"), (event_id(1), "processing"), (event_id(2), "completed")];
    assert_eq!(sorted, expected);
}
