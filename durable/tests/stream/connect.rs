//! Goal: a connection starts where it asked to, or is told where instead.
//! Method: every start in every dialect, with the exact texts.

use relay_durable::{Command, Connected};
use relay_schemas::{
    Connect, Cursor, Dialect, Epoch, ErrorCode, OnGap, Seq, Start,
    limits::{CONNECTIONS_PER_EDGE_MAX, CONNECTIONS_PER_STREAM_MAX},
};

use crate::support::{
    NOW, RETENTION_MS, Relay, SALT, bridge, check, connect, cursor, edge, event, event_alone,
    gap_line, id, open_line, refused, remember, send, sent_and_kept, webhook_lines,
};

/// Three events, one at a time, of which the first is trimmed.
fn with_two_kept(relay: &mut Relay) {
    relay.append(&[event_alone(1)]);
    relay.now = NOW + 1;
    relay.append(&[event(2)]);
    relay.append(&[event(3)]);
    relay.now = NOW + RETENTION_MS;
    assert_eq!(relay.alarm(), []);
}

fn reader(dialect: Dialect, start: Start) -> Connect {
    Connect { expires_at: NOW + RETENTION_MS * 2, ..connect(dialect, start) }
}

fn check_start(start: Start, after: u64, gap: Option<(&str, &str)>) {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            with_two_kept(&mut relay);
            let connected = relay.try_connect(1, &reader(dialect, start.clone())).unwrap();
            let mut lines = vec![open_line(dialect, after, 1, 3)];
            lines.extend(gap.map(|(requested, reason)| gap_line(requested, after, reason)));
            lines.extend(webhook_lines(after + 1..=3, 1));
            let expected = sent_and_kept(dialect, 1, &lines, (3, 3, 3 - after));
            let resumed_from = gap.map(|_| cursor(after));
            assert_eq!(
                connected,
                Connected::Live { resumed_from, commands: expected },
                "{start:?}"
            );
        });
    }
}

#[test]
fn every_start_replays_what_comes_after_it() {
    check_start(Start::Earliest, 1, None);
    check_start(Start::Now, 3, None);
    check_start(Start::Tail(1), 2, None);
    check_start(Start::Tail(9), 1, None);
    check_start(Start::Time(NOW), 1, None);
    check_start(Start::Time(NOW + 1), 3, None);
    check_start(Start::Event(id(2)), 2, None);
    check_start(Start::Cursor(cursor(1).to_string()), 1, None);
    check_start(Start::Cursor(cursor(3).to_string()), 3, None);
}

/// Every fault, with what `on_gap=error` answers it.
fn faults() -> [(Start, String, &'static str, ErrorCode); 5] {
    let of = |cursor: Cursor| (Start::Cursor(cursor.to_string()), cursor.to_string());
    let other_epoch = Cursor { epoch: Epoch::new(NOW, SALT - 1), seq: Seq::new(2) };
    let [trimmed, future, other] = [of(cursor(0)), of(cursor(4)), of(other_epoch)];
    [
        (trimmed.0, trimmed.1, "trimmed", ErrorCode::CursorTrimmed),
        (future.0, future.1, "future", ErrorCode::CursorFuture),
        (other.0, other.1, "epoch_changed", ErrorCode::CursorEpochChanged),
        (Start::Cursor("x".into()), "x".into(), "invalid", ErrorCode::CursorInvalid),
        (Start::Event(id(1)), id(1).to_string(), "invalid", ErrorCode::CursorInvalid),
    ]
}

#[test]
fn a_fault_is_told_and_reading_goes_on_at_the_oldest() {
    for (start, requested, reason, _) in faults() {
        check_start(start, 1, Some((&requested, reason)));
    }
}

#[test]
fn a_fault_is_refused_when_asked_for() {
    for (start, _, _, code) in faults() {
        check(|mut relay| {
            with_two_kept(&mut relay);
            let mut connect = reader(Dialect::Ndjson, start.clone());
            connect.on_gap = OnGap::Error;
            let problem = refused(relay.try_connect(1, &connect));
            assert_eq!(problem.code, code);
            let details = [("oldest", cursor(1).to_string()), ("tail", cursor(3).to_string())];
            assert_eq!(problem.details, details);
            assert!(relay.stream.connections().is_empty());
            connect.start = Start::Cursor(cursor(1).to_string());
            assert_eq!(relay.connect(1, &connect).len(), 2, "a good cursor is followed");
        });
    }
}

#[test]
fn frames_are_written_as_promised() {
    let (epoch, first, one) =
        ("d0oh86o00007", "d0oh86o0000700000000000", "d0oh86o0000700000000001");
    let mut relay = Relay::new();
    relay.append(&[event(1)]);
    let commands = relay.connect(5, &connect(Dialect::WebSocket, Start::Earliest));
    let open = format!(
        r#"{{"type":"open","cursor":"{first}","epoch":"{epoch}","oldest":"{first}","tail":"{one}","heartbeat_s":15,"credit":262144}}"#
    );
    let webhook = format!(
        r#"{{"type":"webhook","cursor":"{one}","n":1,"id":"evt_00000000000000000000000001","timestamp":"2026-09-21T14:13:20.000Z","source":"linear","kind":"Issue.update","organization":"org-1","channel":"user:u-1","headers":[],"data":{{"number":1}}}}"#
    );
    assert_eq!(commands, [send(5, open), send(5, webhook), remember(5)]);
}

#[test]
fn an_unused_stream_keeps_the_epoch_that_it_told() {
    let mut relay = Relay::new();
    let commands = relay.connect(1, &connect(Dialect::Ndjson, Start::Earliest));
    let opened = bridge(0, 0, 0, &[open_line(Dialect::Ndjson, 0, 0, 0)]);
    assert_eq!(commands, [send(1, opened), remember(1)]);
    relay.now = NOW + 5;
    relay.reload();
    let told = Start::Cursor(cursor(0).to_string());
    let connected = relay.try_connect(2, &connect(Dialect::Ndjson, told)).unwrap();
    assert!(matches!(connected, Connected::Live { resumed_from: None, .. }), "{connected:?}");
}

#[test]
fn connections_are_limited() {
    let mut relay = Relay::new();
    let of_edge = |number: usize| Connect {
        edge: edge(&format!("edge_{number}")),
        ..connect(Dialect::Ndjson, Start::Now)
    };
    for id in 0..CONNECTIONS_PER_STREAM_MAX {
        relay.try_connect(id as u64, &of_edge(id / CONNECTIONS_PER_EDGE_MAX)).unwrap();
    }
    let connect = of_edge(9_999);
    let problem = refused(relay.try_connect(9_999, &connect));
    assert_eq!(problem.code, ErrorCode::ConnectionsTooMany);
    let closed = relay.stream.closed(7, false, NOW).unwrap();
    assert_eq!(closed, (Some(Dialect::Ndjson), Vec::new()));
    assert!(matches!(relay.connect(9_999, &connect)[..], [Command::Send { .. }, _]));
}

#[test]
fn connections_of_one_edge_are_limited() {
    check(|mut relay| {
        let other = Connect { edge: edge("edge_2"), ..connect(Dialect::Ndjson, Start::Now) };
        let connect = connect(Dialect::Ndjson, Start::Now);
        for id in 0..CONNECTIONS_PER_EDGE_MAX as u64 {
            relay.try_connect(id, &connect).unwrap();
        }
        let problem = refused(relay.try_connect(99, &connect));
        assert_eq!(problem.code, ErrorCode::ConnectionsTooMany);
        assert!(problem.message.contains("edge"), "{problem}");
        relay.try_connect(99, &other).unwrap();
        relay.stream.closed(3, false, NOW).unwrap();
        relay.remembered.remove(&3);
        relay.try_connect(100, &connect).unwrap();
    });
}
