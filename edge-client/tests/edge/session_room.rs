//! Goal: a session holds a bounded amount, whatever the relay sends and handlers do; and a stop still
//! reaches one that is full, where that costs nothing. Method: as in `session_script`.

use edgerelay::{
    Command, Input, Ordering, Outcome, SessionSettings,
    limits::{BYTES_HELD_MAX, EVENTS_HELD_MAX, WINDOW_EVENTS_MAX},
};

use crate::{
    events::cursor,
    script::{Script, at, open_line_of, passing, run, settings, webhook_line, webhook_line_with},
};

#[test]
fn credit_follows_what_is_handled() {
    let mut script = Script::open(settings(), at(0), true);
    let mut granted = 0;
    let mut handled = 0;
    for seq in 1..=20 {
        let line = webhook_line(seq, seq);
        let (ticket, ..) = run(&script.line(&line));
        handled += line.len() as i64;
        let mut commands = script.finish(ticket, Outcome::Succeeded);
        commands.extend(script.feed(Input::Persisted));
        for command in commands {
            if let Command::Grant { bytes } = command {
                assert!(bytes >= 500, "half of the window of 1,000 at once");
                granted += bytes;
            }
        }
        assert!(granted <= handled && handled - granted < 500 + line.len() as i64);
    }
}

#[test]
fn reading_stops_at_each_bound_and_silence_then_means_nothing() {
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    for body in [r#"{"small":true}"#, &large] {
        let mut script = Script::open(settings(), at(0), false);
        let (mut seq, mut first) = (0, None);
        while script.session.has_room() {
            seq += 1;
            let commands = script.line(&webhook_line_with(seq, seq, body));
            first = first.or_else(|| Some(run(&commands).0));
        }
        let status = script.session.status(script.now);
        assert!(status.events_held <= EVENTS_HELD_MAX);
        assert!(status.bytes_held < BYTES_HELD_MAX + 101_000);
        assert_eq!(script.pass(10 * 60_000), [], "a reader that does not read hears nothing");
        script.finish(first.expect("an event runs"), Outcome::Succeeded);
        assert!(script.session.has_room());
        assert_eq!(script.pass(24_999), []);
        assert_eq!(script.pass(1)[0], Command::Hangup);
    }
}

/// A stop comes behind events, on the same connection.
#[test]
fn where_credit_bounds_what_comes_a_full_client_reads_on_and_grants_nothing() {
    let handed_over =
        SessionSettings { ordering: Ordering::HandedOver, concurrency: 100, ..settings() };
    let mut script = Script::open(handed_over, at(0), true);
    let (first, ..) = run(&script.webhook(1));
    let mut seq = 1;
    while script.session.has_room() {
        seq += 1;
        let (ticket, ..) = run(&script.webhook(seq));
        script.finish(ticket, Outcome::Succeeded);
    }
    assert!(script.session.may_read());
    for _ in 0..10 {
        seq += 1;
        let (ticket, ..) = run(&script.webhook(seq));
        assert_eq!(script.finish(ticket, Outcome::Succeeded), []);
    }
    script.feed(Input::Disconnected(passing()));
    assert!(!script.session.may_read(), "and dials no other");
    let _ = script.feed(Input::Tick);
    let commands = script.pass(60_000);
    assert!(!commands.iter().any(|command| matches!(command, Command::Dial(_))), "{commands:?}");
    let commands = script.finish(first, Outcome::Succeeded);
    assert!(commands.iter().any(|command| matches!(command, Command::Dial(_))), "{commands:?}");
}

#[test]
fn what_was_not_granted_for_want_of_room_is_granted_later() {
    let handed_over =
        SessionSettings { ordering: Ordering::HandedOver, concurrency: 100, ..settings() };
    let mut script = Script::open(handed_over, at(0), true);
    let (first, ..) = run(&script.webhook(1));
    for seq in 2..=WINDOW_EVENTS_MAX as u64 + 10 {
        let (ticket, ..) = run(&script.webhook(seq));
        script.finish(ticket, Outcome::Succeeded);
    }
    let commands = script.finish(first, Outcome::Succeeded);
    let granted = commands.iter().find_map(|command| match command {
        Command::Grant { bytes } => Some(*bytes),
        _ => None,
    });
    let line = webhook_line(1, 1).len() as i64;
    assert!(granted >= Some(10 * line), "{commands:?}");
}

#[test]
fn one_event_that_does_not_finish_holds_the_window() {
    let handed_over =
        SessionSettings { ordering: Ordering::HandedOver, concurrency: 100, ..settings() };
    let mut script = Script::open(handed_over, at(0), false);
    script.webhook(1);
    let mut seq = 1;
    while script.session.has_room() {
        seq += 1;
        let (ticket, ..) = run(&script.webhook(seq));
        script.finish(ticket, Outcome::Succeeded);
    }
    assert_eq!(seq, WINDOW_EVENTS_MAX as u64);
    assert_eq!(script.handled(), Some(cursor(0)));
}

/// A machine that is away for long loses what it works on, where that is its alone.
#[test]
fn a_full_client_dials_again_where_events_are_given_to_one_machine() {
    for (mode, is_dialed) in [("sticky", true), ("roundrobin", true), ("broadcast", false)] {
        let mut script = Script::new(settings(), at(0));
        script.feed(Input::Start);
        script.feed(Input::Connected { is_duplex: false });
        script.line(&open_line_of(mode, cursor(0)));
        let mut seq = 0;
        while script.session.has_room() {
            seq += 1;
            script.line(&webhook_line(seq, seq));
        }
        script.feed(Input::Disconnected(passing()));
        let commands = script.pass(60_000);
        let dials = |command: &Command| matches!(command, Command::Dial(_));
        assert_eq!(commands.iter().any(dials), is_dialed, "{mode}: {commands:?}");
        if is_dialed {
            // It is there for the relay; events stay unread until there is room.
            script.feed(Input::Connected { is_duplex: false });
            assert!(script.session.may_read(), "the first frame");
            script.line(&open_line_of(mode, cursor(0)));
            assert!(!script.session.may_read());
        }
    }
}
