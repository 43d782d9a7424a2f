//! Goal: whatever cuts a connection, wherever, every event reaches the handler once and in order.
//! Method: a relay that cuts at each frame boundary and within each frame, over both transports.

use futures::future::join_all;
use relay_schemas::{ByeCode, ErrorCode};

use crate::{
    events::{cursor, event_id},
    fake_relay::{FakeRelay, Plan},
    harness::{Recorder, Running, settings, state, within},
};

const EVENTS: u64 = 6;
const TRANSPORTS: [&str; 2] = ["ws", "ndjson"];

async fn check(transport: &str, plans: &[Plan]) {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; EVENTS as usize]);
    for plan in plans {
        relay.plan(plan.clone());
    }
    let (_directory, state) = state();
    let recorder = Recorder::new();
    let flags = ["--transport", transport, "--exit-when-caught-up"];
    let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
    assert_eq!(client.exit().await.code(), 0, "{transport} {plans:?}");
    let expected: Vec<_> = (1..=EVENTS).map(event_id).collect();
    assert_eq!(recorder.events(), expected, "{transport} {plans:?}");
    assert_eq!(relay.seen(|seen| seen.dials.len()), plans.len() + 1, "{transport} {plans:?}");
}

#[tokio::test]
async fn a_cut_at_every_frame_boundary_and_within_every_frame() {
    let cuts = (0..=EVENTS as usize).flat_map(|frames_max| {
        [false, true]
            .map(|mid_line| [Plan { frames_max: Some(frames_max), mid_line, ..Plan::default() }])
    });
    let cuts: Vec<_> = cuts.collect();
    let checks =
        TRANSPORTS.iter().flat_map(|transport| cuts.iter().map(|plan| check(transport, plan)));
    join_all(checks).await;
}

#[tokio::test]
async fn a_cut_after_every_single_event() {
    let plan = Plan { frames_max: Some(2), ..Plan::default() };
    for transport in TRANSPORTS {
        check(transport, &vec![plan.clone(); EVENTS as usize - 1]).await;
    }
}

#[tokio::test]
async fn planned_ends_and_close_codes_that_may_be_retried() {
    for transport in TRANSPORTS {
        for code in [ByeCode::Reconnect, ByeCode::Slow, ByeCode::Error] {
            let plan = Plan { frames_max: Some(3), bye: Some((code, 1)), ..Plan::default() };
            check(transport, &[plan]).await;
        }
    }
    check("ws", &[Plan { frames_max: Some(3), close: Some(4_008), ..Plan::default() }]).await;
    check("ws", &[Plan { frames_max: Some(3), close: Some(1_001), ..Plan::default() }]).await;
}

#[tokio::test]
async fn answers_that_pass() {
    for transport in TRANSPORTS {
        for code in [ErrorCode::Unavailable, ErrorCode::Internal, ErrorCode::ConnectionsTooMany] {
            check(transport, &[Plan { refuse: Some((code, None)), ..Plan::default() }]).await;
        }
        check(transport, &[Plan { portal: true, ..Plan::default() }]).await;
    }
}

#[tokio::test]
async fn lost_and_garbled_lines_are_read_again() {
    for transport in TRANSPORTS {
        check(transport, &[Plan { lose: Some(3), ..Plan::default() }]).await;
        check(transport, &[Plan { garble: Some(3), ..Plan::default() }]).await;
    }
}

/// The earlier system's client took the end of an answer for the end of its work.
#[tokio::test]
async fn a_clean_end_of_the_stream_is_reconnected() {
    for frames_max in 1..=EVENTS as usize {
        let plan = Plan { frames_max: Some(frames_max), ..Plan::default() };
        check("ndjson", std::slice::from_ref(&plan)).await;
        check("ws", &[Plan { close: Some(1_000), ..plan }]).await;
    }
}

/// The earlier system's client waited for ever on a connection that was dead.
#[tokio::test]
async fn a_half_open_connection_is_noticed() {
    for transport in TRANSPORTS {
        let plan = Plan { frames_max: Some(3), silent: true, ..Plan::default() };
        check(transport, &[plan]).await;
    }
}

/// The earlier system started several runs for one event, because its source sent it again.
#[tokio::test]
async fn a_redelivery_starts_no_second_run() {
    for transport in TRANSPORTS {
        let relay = FakeRelay::start().await;
        relay.push(&["s"; 2]);
        // The whole stream comes twice, as after a gap to its beginning.
        relay.plan(Plan { frames_max: Some(2), ..Plan::default() });
        relay.plan(Plan { from: Some(0), ..Plan::default() });
        let (_directory, state) = state();
        let recorder = Recorder::new();
        let flags = ["--transport", transport];
        let client = Running::start(settings(&relay, &state, &flags), recorder.clone());
        within(relay.wait_for(|seen| seen.events_sent >= 3)).await;
        relay.push(&["s"]);
        recorder.wait_for(3).await;
        client.stop().await;
        assert_eq!(recorder.events(), [1, 2, 3].map(event_id));
    }
}

#[tokio::test]
async fn a_new_process_goes_on_after_the_last_handled_event() {
    for transport in TRANSPORTS {
        let relay = FakeRelay::start().await;
        relay.push(&["s"; 3]);
        let (_directory, state) = state();
        let flags = ["--transport", transport];
        let first = Recorder::new();
        let client = Running::start(settings(&relay, &state, &flags), first.clone());
        first.wait_for(3).await;
        client.stop().await;
        relay.push(&["s"; 2]);
        let second = Recorder::new();
        let client = Running::start(settings(&relay, &state, &flags), second.clone());
        second.wait_for(2).await;
        client.stop().await;
        assert_eq!(second.events(), [event_id(4), event_id(5)]);
        let last = relay.seen(|seen| seen.dials.last().cloned()).unwrap();
        assert!(last.starts_with(&format!("cursor={}", cursor(3))), "{last}");
    }
}

#[tokio::test]
async fn events_handled_out_of_order_do_not_come_again_after_a_kill() {
    let relay = FakeRelay::start().await;
    relay.push(&["slow", "a", "b", "c"]);
    let (directory, state) = state();
    let log = directory.path().join("log");
    // The first event's command waits for ever; the others finish.
    let command = format!(
        "cat > /dev/null; echo $EDGERELAY_EVENT_ID >> {}; test $EDGERELAY_EVENT_ID != {} || exec sleep 1000",
        log.display(),
        event_id(1)
    );
    let flags = ["--exec", &command, "--concurrency", "2"];
    let client = Running::start_as_set(settings(&relay, &state, &flags));
    within(relay.wait_for(|seen| seen.reports.len() == 7)).await;
    client.kill().await;

    let recorder = Recorder::new();
    // The killed client's thread may need a moment to let go of the file: opening waits for it.
    let client =
        Running::start(settings(&relay, &state, &["--exit-when-caught-up"]), recorder.clone());
    assert_eq!(client.exit().await.code(), 0);
    assert_eq!(recorder.events(), [event_id(1)]);
}

#[tokio::test]
async fn a_reset_and_first_starts_read_from_where_they_are_told() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 5]);
    let (_directory, state) = state();
    for (flags, expected) in [
        (vec!["--tail", "2"], vec![4, 5]),
        (vec!["--since", "earliest"], vec![]),
        (vec!["--since", "earliest", "--reset"], vec![1, 2, 3, 4, 5]),
        (vec!["--since", "now", "--reset"], vec![]),
    ] {
        let recorder = Recorder::new();
        let mut all = vec!["--exit-when-caught-up"];
        all.extend(&flags);
        let client = Running::start(settings(&relay, &state, &all), recorder.clone());
        assert_eq!(client.exit().await.code(), 0);
        let expected: Vec<_> = expected.into_iter().map(event_id).collect();
        assert_eq!(recorder.events(), expected, "{flags:?}");
    }
}
