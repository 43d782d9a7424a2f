//! Goal: a filtered reader gets its kinds, counted without holes, and its position moves past the
//! others; bodies are written as asked for.
//! Method: kinds in turn, replayed and live.

use relay_schemas::{BodyMode, Connect, Dialect, Frame, NewEvent, Start};

use crate::support::{
    NOW, bridge, check, connect, event_of, event_of_kind, heartbeat_line, kinds, open_line,
    remember, send, sent_and_kept, webhook_line,
};

/// Odd numbers are issues, even ones comments.
fn event(number: u64) -> NewEvent {
    event_of_kind(number, if number % 2 == 1 { "Issue.update" } else { "Comment.create" })
}

fn batch(numbers: std::ops::RangeInclusive<u64>) -> Vec<NewEvent> {
    numbers.map(event).collect()
}

fn issues(dialect: Dialect, start: Start) -> Connect {
    Connect { kinds: kinds("Issue.*"), ..connect(dialect, start) }
}

fn lines(pairs: &[(u64, u64)]) -> Vec<String> {
    pairs.iter().map(|(seq, n)| webhook_line(*seq, *n, &event(*seq))).collect()
}

#[test]
fn n_has_no_holes_replayed_or_live() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.append(&batch(1..=4));
            let mut expected = vec![open_line(dialect, 0, 0, 4)];
            expected.extend(lines(&[(1, 1), (3, 2)]));
            let commands = relay.connect(1, &issues(dialect, Start::Earliest));
            assert_eq!(commands, sent_and_kept(dialect, 1, &expected, (4, 4, 2)));
            let expected = sent_and_kept(dialect, 1, &lines(&[(5, 3), (7, 4)]), (8, 8, 4));
            assert_eq!(relay.append(&batch(5..=8)), expected);
        });
    }
}

#[test]
fn the_position_moves_past_what_is_held_back() {
    check(|mut relay| {
        relay.connect(1, &issues(Dialect::Ndjson, Start::Now));
        relay.connect(2, &issues(Dialect::WebSocket, Start::Now));
        let expected = [
            send(1, bridge(1, 1, 0, &[])),
            remember(1),
            send(2, heartbeat_line(1, 0, 1, NOW)),
            remember(2),
        ];
        assert_eq!(relay.append(&[event(2)]), expected);
        let mut expected = sent_and_kept(Dialect::Ndjson, 1, &lines_at(2, 1, 3), (3, 3, 1));
        expected.extend(sent_and_kept(Dialect::WebSocket, 2, &lines_at(2, 1, 3), (3, 3, 1)));
        assert_eq!(relay.append(&[event(3), event(4)]), expected);
    });
}

fn lines_at(seq: u64, n: u64, number: u64) -> Vec<String> {
    vec![webhook_line(seq, n, &event(number))]
}

#[test]
fn a_replay_without_a_match_reaches_the_tail() {
    check(|mut relay| {
        relay.append(&[event(2), event(4)]);
        let commands = relay.connect(1, &issues(Dialect::WebSocket, Start::Earliest));
        let open = open_line(Dialect::WebSocket, 0, 0, 2);
        assert_eq!(commands, [send(1, open), remember(1)]);
        let expected = sent_and_kept(Dialect::WebSocket, 1, &lines_at(3, 1, 5), (3, 3, 1));
        assert_eq!(relay.append(&[event(5)]), expected);
    });
}

#[test]
fn events_held_back_use_no_credit() {
    check(|mut relay| {
        relay.connect(1, &issues(Dialect::Ndjson, Start::Now));
        let large = "x".repeat(300_000);
        let large = event_of(2, "Comment.create", NOW, &format!(r#"{{"a":"{large}"}}"#));
        assert_eq!(relay.append(&[large]), [send(1, bridge(1, 1, 0, &[])), remember(1)]);
        let expected = sent_and_kept(Dialect::Ndjson, 1, &lines_at(2, 1, 3), (2, 2, 1));
        assert_eq!(relay.append(&[event(3)]), expected);
    });
}

#[test]
fn a_granted_reader_hears_where_it_stands() {
    check(|mut relay| {
        relay.connect(1, &issues(Dialect::WebSocket, Start::Now));
        let fill = "x".repeat(300_000);
        let large = event_of(1, "Issue.update", NOW, &format!(r#"{{"a":"{fill}"}}"#));
        relay.append(&[large]);
        assert_eq!(relay.append(&[event(2)]), [remember(1)], "no credit, so not passed over");
        let expected = [send(1, heartbeat_line(2, 1, 2, NOW)), remember(1)];
        assert_eq!(relay.grant(1, 300_000), expected);
    });
}

#[test]
fn bodies_are_written_as_asked_for() {
    let pretty = "{\n  \"a\": 1\n}";
    for (body, mode, tail) in [
        (r#"{"a": 1}"#, BodyMode::Data, r#","data":{"a": 1}}"#),
        (r#"{"a": 1}"#, BodyMode::Text, r#","body":"{\"a\": 1}","encoding":"text"}"#),
        (r#"{"a": 1}"#, BodyMode::Base64, r#","body":"eyJhIjogMX0=","encoding":"base64"}"#),
        (pretty, BodyMode::Data, r#","body":"{\n  \"a\": 1\n}","encoding":"text"}"#),
        (pretty, BodyMode::Base64, r#","body":"ewogICJhIjogMQp9","encoding":"base64"}"#),
    ] {
        check(|mut relay| {
            let replayed = event_of(1, "Issue.update", NOW, body);
            let live = event_of(2, "Issue.update", NOW, body);
            relay.append(&[replayed]);
            let reader = Connect { body: mode, ..connect(Dialect::WebSocket, Start::Earliest) };
            let mut commands = relay.connect(1, &reader);
            commands.remove(0);
            commands.extend(relay.append(&[live]));
            let texts: Vec<String> = commands
                .into_iter()
                .filter_map(|command| match command {
                    relay_durable::Command::Send { text, .. } => Some(text),
                    _ => None,
                })
                .collect();
            assert_eq!(texts.len(), 2);
            for text in texts {
                assert!(text.ends_with(tail), "{text}");
                let Ok(Frame::Webhook(webhook)) = Frame::parse(&text) else { panic!("{text}") };
                assert_eq!(webhook.body_bytes().unwrap(), body.as_bytes());
            }
        });
    }
}
