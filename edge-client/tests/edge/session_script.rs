//! Goal: the session decides right, whatever happens in whatever order. Method: feed inputs, assert
//! the exact commands, move the time, assert again. No sockets, no clock.

use edgerelay::{
    Batch, Command, DialFrom, Dispatch, Exit, Fault, Handled, Input, LinkState, Notice, OnFailure,
    Outcome, Refusal, RefusalKind, Restored, RunSummary, SessionSettings, Start,
    limits::DIAL_TIMEOUT_MS,
};
use relay_schemas::{ByeCode, Gap, GapReason, ReportStatus};
use serde_json::json;

use crate::{
    events::{cursor, event_id},
    script::{
        Script, at, bye_line, heartbeat_line, open_line, passing, persisted, run, settings,
        webhook_line,
    },
};

#[test]
fn an_event_goes_from_the_line_to_the_handler_to_the_store() {
    let mut script = Script::new(SessionSettings { reports: true, ..settings() }, at(1));
    assert_eq!(script.feed(Input::Start), [Command::Dial(DialFrom::Cursor(cursor(1)))]);
    let connected = Notice::Connected { cursor: cursor(1), lag_events: 99 };
    assert_eq!(script.reopen(cursor(1), false), [Command::Tell(connected)]);
    let commands = script.webhook(2);
    let (ticket, event, attempt) = run(&commands);
    assert_eq!((event.id(), event.cursor(), attempt), (event_id(2), cursor(2), 1));
    assert_eq!(event.line(), webhook_line(2, 1));
    assert_eq!(commands[1..], [persisted(1, &[], &[(2, ReportStatus::Processing)])]);
    // A batch is under way: the next waits for it.
    assert_eq!(script.finish(ticket, Outcome::Succeeded), []);
    assert_eq!(
        script.feed(Input::Persisted),
        [persisted(2, &[2], &[(2, ReportStatus::Completed)])]
    );
    assert_eq!(script.feed(Input::Persisted), []);
}

#[test]
fn a_first_start_stores_where_it_is() {
    let mut script =
        Script::new(SessionSettings { start: Start::Tail(3), ..settings() }, Restored::default());
    assert_eq!(script.feed(Input::Start), [Command::Dial(DialFrom::Start(Start::Tail(3)))]);
    script.feed(Input::Connected { is_duplex: false });
    let commands = script.line(&open_line(cursor(97), None));
    assert_eq!(commands[1..], [persisted(97, &[], &[])]);
    script.feed(Input::Persisted);
    script.feed(Input::Disconnected(passing()));
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(97)))]);
}

#[test]
fn silence_ends_a_connection_after_two_and_a_half_heartbeats() {
    let mut script = Script::open(settings(), at(0), false);
    assert_eq!(script.pass(24_000), []);
    script.line(&heartbeat_line(0, 0));
    assert_eq!(script.pass(24_999), []);
    let commands = script.pass(1);
    assert_eq!(commands[0], Command::Hangup);
    assert!(matches!(commands[1], Command::Tell(Notice::Disconnected { .. })), "{commands:?}");
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
}

#[test]
fn a_websocket_is_pinged_and_a_pong_keeps_it() {
    let mut script = Script::open(settings(), at(0), true);
    for _ in 0..5 {
        assert_eq!(script.wake(), [Command::Ping]);
        assert_eq!(script.feed(Input::Alive), []);
    }
    assert_eq!(script.wake(), [Command::Ping]);
    assert_eq!(script.wake(), [Command::Ping]);
    assert_eq!(script.wake()[0], Command::Hangup);
}

#[test]
fn dials_and_first_frames_have_their_time() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    assert_eq!(script.pass(DIAL_TIMEOUT_MS - 1), []);
    assert_eq!(script.pass(1)[0], Command::Hangup);
    script.wake();
    script.feed(Input::Connected { is_duplex: false });
    assert_eq!(script.pass(DIAL_TIMEOUT_MS - 1), []);
    assert_eq!(script.pass(1)[0], Command::Hangup);
}

#[test]
fn what_the_relay_asks_to_wait_is_waited() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    let fault = Fault::Passing { message: "busy".into(), retry_after_ms: Some(90_000) };
    script.feed(Input::Disconnected(fault));
    assert_eq!(script.pass(89_999), []);
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
}

/// The earlier system's client stopped after ten failed tries, until somebody started it again.
#[test]
fn a_client_never_gives_up_after_ten_tries() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    for _ in 0..1_000 {
        script.feed(Input::Disconnected(passing()));
        let wait_ms = script.session.poll_timeout().unwrap().since_ms(script.now);
        assert!(wait_ms <= 60_000);
        assert_eq!(script.wake().len(), 1);
    }
    assert_eq!(script.session.status(script.now).dial_failures, 1_000);
    script.reopen(cursor(0), false);
    assert_eq!(script.session.status(script.now).dial_failures, 1_000, "open alone is no progress");
    script.line(&heartbeat_line(0, 0));
    assert_eq!(script.session.status(script.now).dial_failures, 0);
}

#[test]
fn a_planned_bye_is_followed_at_once_but_not_for_ever() {
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.line(&bye_line(ByeCode::Reconnect, 1_200));
    let bye = Notice::Bye { code: "reconnect", retry_in_ms: 1_200 };
    assert_eq!(commands, [Command::Hangup, Command::Tell(bye)]);
    assert_eq!(script.pass(1_199), []);
    assert_eq!(script.pass(1), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
    // A relay that says nothing else must not be hammered.
    let mut waited_ms = 0;
    for _ in 0..20 {
        script.reopen(cursor(0), false);
        script.line(&bye_line(ByeCode::Reconnect, 0));
        let wait_ms = script.session.status(script.now).dial_in_ms.unwrap_or(0);
        waited_ms += wait_ms;
        script.pass(wait_ms);
    }
    assert!(waited_ms > 100_000, "{waited_ms}");
}

#[test]
fn terminal_ends_are_not_dialed_again() {
    for (line, kind) in [
        (bye_line(ByeCode::Revoked, 0), RefusalKind::Credential),
        (bye_line(ByeCode::Expired, 0), RefusalKind::Credential),
        (bye_line(ByeCode::Protocol, 0), RefusalKind::Request),
    ] {
        let mut script = Script::open(settings(), at(0), false);
        let commands = script.line(&line);
        assert_eq!(commands[0], Command::Hangup);
        let Some(Command::Exit(Exit::Refused(refusal))) = commands.last() else {
            panic!("{commands:?}")
        };
        assert_eq!(refusal.kind, kind);
        assert_eq!(script.session.poll_timeout(), None);
    }
}

#[test]
fn an_expired_credential_is_followed_by_another_where_there_is_one() {
    let renewed = || SessionSettings { is_renewed: true, ..settings() };
    let expired = || {
        Fault::Terminal(Refusal {
            kind: RefusalKind::Credential,
            code: "credential_expired".into(),
            message: "expired".into(),
        })
    };
    for input in [Input::Line(bye_line(ByeCode::Expired, 0).into()), Input::Disconnected(expired())]
    {
        let mut script = Script::open(renewed(), at(4), false);
        script.line(&heartbeat_line(4, 0));
        let commands = script.feed(input);
        assert_eq!(commands.last(), Some(&Command::Dial(DialFrom::Cursor(cursor(4)))));
        // A relay whose clock is wrong must not be hammered.
        let mut waited_ms = 0;
        for _ in 0..20 {
            script.feed(Input::Disconnected(expired()));
            let wait_ms = script.session.status(script.now).dial_in_ms.unwrap_or(0);
            waited_ms += wait_ms;
            script.pass(wait_ms);
        }
        assert!(waited_ms > 100_000, "{waited_ms}");
    }
    let mut script = Script::open(renewed(), at(4), false);
    let commands = script.line(&bye_line(ByeCode::Revoked, 0));
    assert!(matches!(commands.last(), Some(Command::Exit(Exit::Refused(_)))), "{commands:?}");
}

#[test]
fn sleep_and_requests_redial_at_once() {
    for input in [Input::Slept { duration_ms: 60_000 }, Input::ReconnectRequested] {
        let mut script = Script::open(settings(), at(4), false);
        let commands = script.feed(input);
        assert!(commands.contains(&Command::Hangup), "{commands:?}");
        assert_eq!(commands.last(), Some(&Command::Dial(DialFrom::Cursor(cursor(4)))));
    }
}

#[test]
fn a_lost_event_ends_the_connection() {
    for second in [webhook_line(3, 3), heartbeat_line(3, 2), "{\"type\":\"webhook\",".into()] {
        let mut script = Script::open(settings(), at(0), false);
        script.webhook(1);
        let commands = script.line(&second);
        assert_eq!(commands[0], Command::Hangup, "{second}");
        assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(1)))]);
    }
}

#[test]
fn unknown_frames_and_unknown_fields_change_nothing() {
    let mut script = Script::open(settings(), at(0), false);
    assert_eq!(script.line(r#"{"type":"later","cursor":7}"#), []);
    assert_eq!(script.session.status(script.now).link, LinkState::Open);
}

#[test]
fn a_dial_in_the_same_process_goes_on_after_what_is_held() {
    let mut script = Script::open(settings(), at(0), false);
    let (first, ..) = run(&script.webhook(1));
    script.webhook(2);
    script.feed(Input::Disconnected(passing()));
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(2)))]);
    assert_eq!(script.handled(), Some(cursor(0)));
    // Held events are handled meanwhile.
    let (second, event, _) = run(&script.finish(first, Outcome::Succeeded));
    assert_eq!(event.id(), event_id(2));
    script.finish(second, Outcome::Succeeded);
    assert_eq!(script.handled(), Some(cursor(2)));
}

#[test]
fn an_event_that_was_handled_is_not_handled_again() {
    let restored = Restored { cursor: Some(cursor(1)), handled: vec![Handled::well(event_id(2))] };
    let mut script = Script::open(settings(), restored, false);
    assert_eq!(script.webhook(2), [persisted(2, &[], &[])]);
    assert_eq!(script.handled(), Some(cursor(2)));
    assert_eq!(script.session.status(script.now).counters.duplicates, 1);
}

#[test]
fn a_held_event_that_comes_again_still_holds_the_cursor() {
    let mut script = Script::open(settings(), at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Disconnected(passing()));
    script.wake();
    script.reopen(cursor(0), false);
    script.webhook(1);
    assert_eq!(script.handled(), Some(cursor(0)));
    script.finish(ticket, Outcome::Succeeded);
    assert_eq!(script.handled(), Some(cursor(1)));
}

#[test]
fn a_failed_handler_is_tried_again_and_then_stops_the_client() {
    let mut script = Script::open(SessionSettings { reports: true, ..settings() }, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    assert!(
        matches!(&commands[..], [Command::Tell(Notice::HandlerFailed { attempt: 1, .. })]),
        "{commands:?}"
    );
    let (again, event, attempt) = run(&script.wake());
    assert_eq!((again, event.id(), attempt), (ticket, event_id(1), 2));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let failed = relay_schemas::Report {
        error: Some("no".into()),
        ..relay_schemas::Report::new(event_id(1), ReportStatus::Failed)
    };
    let dispatches = vec![Dispatch::Status(failed)];
    let batch = Batch { cursor: Some(cursor(0)), handled: vec![], dispatches };
    assert_eq!(commands, [Command::Hangup, Command::Persist(batch)]);
    let exit = Exit::HandlerFailed { event: event_id(1), message: "no".into() };
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(exit)]);
}

#[test]
fn a_failed_handler_can_be_passed_over() {
    let skip = SessionSettings {
        on_failure: OnFailure::Skip,
        attempts_max: Some(1),
        reports: true,
        ..settings()
    };
    let mut script = Script::open(skip, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let notice = Notice::Skipped { event: event_id(1), message: "no".into() };
    assert_eq!(commands[0], Command::Tell(notice));
    let Command::Persist(batch) = &commands[1] else { panic!("{commands:?}") };
    assert_eq!(
        (batch.cursor, batch.handled.as_slice()),
        (Some(cursor(1)), &[Handled::given_up(event_id(1), 1)][..])
    );
}

#[test]
fn what_a_handler_tells_is_stored_in_order_before_its_report() {
    let activity = |body: &str| {
        edgerelay::read_activity(format!(r#"{{"type":"thought","body":"{body}"}}"#).as_bytes())
            .unwrap()
    };
    for activities in [true, false] {
        let settings = SessionSettings { reports: true, activities, ..settings() };
        let mut script = Script::open(settings, at(0), false);
        let (ticket, ..) = run(&script.webhook(1));
        for body in ["one", "two"] {
            script.feed(Input::Progress { ticket, activity: activity(body) });
        }
        let summary = RunSummary {
            message: Some("done".into()),
            exit_code: Some(0),
            duration_ms: Some(12),
            is_told: false,
        };
        script.feed(Input::Finished { ticket, outcome: Outcome::Succeeded, summary });
        // Too late: its run is over.
        script.feed(Input::Progress { ticket, activity: activity("three") });
        let commands = script.feed(Input::Persisted);
        let Command::Persist(batch) = &commands[0] else { panic!("{commands:?}") };
        let told = serde_json::to_value(&batch.dispatches).unwrap();
        let id = event_id(1).to_string();
        let thought = |body| json!({"eventId": id, "activity": {"type": "thought", "body": body, "ephemeral": false}});
        let report = json!({"eventId": id, "status": "completed", "message": "done", "exitCode": 0, "durationMs": 12});
        let expected = match activities {
            true => json!([thought("one"), thought("two"), report]),
            false => json!([report]),
        };
        assert_eq!(told, expected);
    }
}

#[test]
fn a_gap_is_told_and_passed_or_ends_the_client() {
    let gap = Gap {
        requested: cursor(0).to_string(),
        resumed_from: cursor(5),
        oldest: cursor(5),
        reason: GapReason::Trimmed,
    };
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.line(&gap.to_line());
    assert_eq!(commands, [Command::Tell(Notice::Gap(gap.clone())), persisted(5, &[], &[])]);
    let mut script =
        Script::open(SessionSettings { fail_on_gap: true, ..settings() }, at(0), false);
    let commands = script.line(&gap.to_line());
    assert_eq!(
        commands,
        [Command::Tell(Notice::Gap(gap)), Command::Hangup, Command::Exit(Exit::Gap)]
    );
    assert_eq!(script.handled(), Some(cursor(0)));
}

#[test]
fn writes_keep_their_distance() {
    let slow = SessionSettings { persist_interval_ms: 20, ..settings() };
    let mut script = Script::open(slow, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(1, &[1], &[])]);
    script.feed(Input::Persisted);
    for seq in [2, 3] {
        let (ticket, ..) = run(&script.webhook(seq));
        assert_eq!(script.finish(ticket, Outcome::Succeeded), []);
    }
    assert_eq!(script.pass(19), []);
    assert_eq!(script.pass(1), [persisted(3, &[2, 3], &[])]);
}

#[test]
fn the_end_waits_for_handlers_and_for_the_store() {
    let mut script = Script::open(settings(), at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.webhook(2);
    assert_eq!(script.feed(Input::Shutdown), [Command::Hangup]);
    assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(1, &[1], &[])]);
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(Exit::Stopped)]);
}

#[test]
fn the_end_does_not_wait_beyond_the_grace() {
    let mut script = Script::open(settings(), at(0), false);
    script.webhook(1);
    script.feed(Input::Shutdown);
    assert_eq!(script.pass(4_999), []);
    let abandoned = Notice::Abandoned { running: 1 };
    let expected =
        [Command::AbandonHandlers, Command::Tell(abandoned), Command::Exit(Exit::Stopped)];
    assert_eq!(script.pass(1), expected);

    let mut script = Script::open(settings(), at(0), false);
    script.webhook(1);
    script.feed(Input::Shutdown);
    assert_eq!(script.feed(Input::Shutdown), expected);
}

/// The store has yet to answer, so that the client is still there when the handler's end comes.
#[test]
fn a_handler_that_is_ended_with_the_client_has_not_failed() {
    for on_failure in [OnFailure::Skip, OnFailure::Stop] {
        let settings =
            SessionSettings { reports: true, attempts_max: Some(1), on_failure, ..settings() };
        let mut script = Script::open(settings, at(0), false);
        let (ticket, ..) = run(&script.webhook(1));
        script.feed(Input::Shutdown);
        assert!(script.feed(Input::Shutdown).contains(&Command::AbandonHandlers));
        assert_eq!(script.finish(ticket, Outcome::Failed("ended".into())), []);
        let last = script.feed(Input::Persisted);
        assert_eq!(last, [Command::Exit(Exit::Stopped)], "no report, and nothing passed over");
        assert_eq!(script.session.status(script.now).counters.attempts_failed, 0);
        assert_eq!(script.handled(), Some(cursor(0)));
    }
}

#[test]
fn refused_reports_and_a_lost_state_end_the_client() {
    let mut script = Script::open(settings(), at(0), false);
    let refusal = Refusal {
        kind: RefusalKind::Credential,
        code: "credential_revoked".into(),
        message: "revoked".into(),
    };
    let commands = script.feed(Input::Refused(refusal.clone()));
    assert_eq!(commands, [Command::Hangup, Command::Exit(Exit::Refused(refusal))]);
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.feed(Input::StateFailed("disk full".into()));
    assert_eq!(commands, [Command::Exit(Exit::StateFailed("disk full".into()))]);
}

#[test]
fn catching_up_means_the_end_at_the_start() {
    let caught_up = SessionSettings { exit_when_caught_up: true, ..settings() };
    let mut script = Script::open(caught_up.clone(), at(98), false);
    for seq in [99, 100] {
        let (ticket, ..) = run(&script.webhook(seq));
        assert!(
            !script.finish(ticket, Outcome::Succeeded).contains(&Command::Exit(Exit::CaughtUp))
        );
        let commands = script.feed(Input::Persisted);
        assert_eq!(commands.contains(&Command::Exit(Exit::CaughtUp)), seq == 100);
    }
    // Under a filter it is the heartbeat that says so.
    let mut script = Script::open(caught_up, at(98), false);
    script.line(&heartbeat_line(100, 0));
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(Exit::CaughtUp)]);
}
