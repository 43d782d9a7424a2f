//! Goal: what is on its way to a reader is bounded by its credit and one frame, and nothing is
//! lost or repeated where the credit ends.
//! Method: events of 100 kB against the first 256 KiB, then grants of exact sizes.

use relay_durable::Command;
use relay_schemas::{
    Connect, Dialect, NewEvent, Start,
    limits::{CREDIT_BYTES, CREDIT_BYTES_MAX},
};

use crate::support::{
    NOW, RETENTION_MS, Relay, check, connect, cursor, event, event_of_size, events, gap_line,
    open_line, remember, sent_and_kept, webhook_line,
};

fn large(number: u64) -> NewEvent {
    event_of_size(number, 100_000)
}

fn large_events(numbers: std::ops::RangeInclusive<u64>) -> Vec<NewEvent> {
    numbers.map(large).collect()
}

fn large_lines(positions: std::ops::RangeInclusive<u64>) -> Vec<String> {
    positions.map(|seq| webhook_line(seq, seq, &large(seq))).collect()
}

/// Bytes of webhook frames that are sent in one go, here as credit counts them.
fn sent_bytes(lines: &[String]) -> i64 {
    lines.iter().map(|line| i64::try_from(line.len()).unwrap()).sum()
}

#[test]
fn replay_stops_without_credit_and_goes_on_with_it() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.append(&large_events(1..=5));
            // 100, then 200, then 300 kB: the frame that crosses the bound is the last.
            let mut lines = vec![open_line(dialect, 0, 0, 5)];
            lines.extend(large_lines(1..=3));
            let commands = relay.connect(1, &connect(dialect, Start::Earliest));
            assert_eq!(commands, sent_and_kept(dialect, 1, &lines, (3, 5, 3)));

            let below_zero = sent_bytes(&large_lines(1..=3)) - CREDIT_BYTES;
            assert_eq!(relay.grant(1, below_zero), [remember(1)], "zero is no credit");
            let expected = sent_and_kept(dialect, 1, &large_lines(4..=4), (4, 5, 4));
            assert_eq!(relay.grant(1, 1), expected, "one byte is");

            assert_eq!(relay.append(&large_events(6..=6)), [remember(1)]);
            let expected = sent_and_kept(dialect, 1, &large_lines(5..=6), (6, 6, 6));
            assert_eq!(relay.grant(1, 350_000), expected);
            let expected = sent_and_kept(dialect, 1, &large_lines(7..=7), (7, 7, 7));
            assert_eq!(relay.append(&large_events(7..=7)), expected, "live again");
        });
    }
}

#[test]
fn a_credit_used_up_to_the_byte_is_none() {
    for start in [Start::Now, Start::Earliest] {
        check(|mut relay| {
            let overhead = webhook_line(1, 1, &event(1)).len() - event(1).record.len();
            let half = CREDIT_BYTES as usize / 2 - overhead;
            let batch = [event_of_size(1, half), event_of_size(2, half), event(3)];
            let live = start == Start::Now;
            let connect = connect(Dialect::WebSocket, start.clone());
            let commands = if live {
                relay.connect(1, &connect);
                relay.append(&batch)
            } else {
                relay.append(&batch);
                relay.connect(1, &connect).split_off(1)
            };
            let lines: Vec<String> =
                (1..).zip(&batch[..2]).map(|(seq, event)| webhook_line(seq, seq, event)).collect();
            assert_eq!(commands, sent_and_kept(Dialect::WebSocket, 1, &lines, (2, 3, 2)));
            let last = [webhook_line(3, 3, &event(3))];
            let expected = sent_and_kept(Dialect::WebSocket, 1, &last, (3, 3, 3));
            assert_eq!(relay.grant(1, 1), expected);
        });
    }
}

#[test]
fn a_live_batch_stops_in_the_middle() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.connect(1, &connect(dialect, Start::Now));
            let expected = sent_and_kept(dialect, 1, &large_lines(1..=3), (3, 5, 3));
            assert_eq!(relay.append(&large_events(1..=5)), expected);
            let expected = sent_and_kept(dialect, 1, &large_lines(4..=5), (5, 5, 5));
            assert_eq!(relay.grant(1, 300_000), expected);
        });
    }
}

#[test]
fn readers_do_not_share_credit() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        relay.append(&large_events(1..=3));
        relay.connect(2, &connect(Dialect::WebSocket, Start::Now));
        let mut expected = vec![remember(1)];
        let line = webhook_line(4, 1, &event(4));
        expected.extend(sent_and_kept(Dialect::WebSocket, 2, &[line], (4, 4, 1)));
        assert_eq!(relay.append(&events(4..=4)), expected);
    });
}

#[test]
fn credit_that_was_not_used_up_changes_nothing_by_a_grant() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
        assert_eq!(relay.grant(1, 1_000), [remember(1)]);
    });
}

#[test]
fn credit_has_a_greatest_value() {
    check(|mut relay| {
        let huge = |number| event_of_size(number, 5_000_000);
        relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        assert_eq!(relay.grant(1, i64::MAX), [remember(1)]);
        let sent = relay.append(&(1..=4).map(huge).collect::<Vec<_>>());
        let sends = sent.iter().filter(|command| matches!(command, Command::Send { .. })).count();
        assert_eq!(sends as i64, CREDIT_BYTES_MAX / 5_000_000 + 1);
    });
}

#[test]
fn a_reader_that_retention_has_overtaken_is_told() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            let connect =
                Connect { expires_at: NOW + RETENTION_MS * 2, ..connect(dialect, Start::Now) };
            relay.connect(1, &connect);
            relay.append(&large_events(1..=5));
            relay.now = NOW + RETENTION_MS - 1;
            relay.append(&events(6..=6));
            relay.now = NOW + RETENTION_MS;
            assert_eq!(relay.alarm(), []);

            let lines =
                [gap_line(&cursor(3).to_string(), 5, "trimmed"), webhook_line(6, 4, &event(6))];
            assert_eq!(
                relay.grant(1, 100_000),
                sent_and_kept(dialect, 1, &lines, (6, 6, 4)),
                "{dialect:?}"
            );
            let lines = [webhook_line(7, 5, &event(7))];
            let expected = sent_and_kept(dialect, 1, &lines, (7, 7, 5));
            assert_eq!(relay.append(&events(7..=7)), expected);
        });
    }
}

#[test]
fn a_reader_with_credit_to_spare_takes_a_frame_of_any_size() {
    let mut relay = Relay::new();
    relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
    let large = event_of_size(1, 5 * 1024 * 1024);
    let line = webhook_line(1, 1, &large);
    let expected = sent_and_kept(Dialect::WebSocket, 1, &[line], (1, 1, 1));
    assert_eq!(relay.append(&[large]), expected);
    assert_eq!(relay.grant(1, 4 * 1024 * 1024), [remember(1)]);
    assert_eq!(relay.append(&events(2..=2)), [remember(1)], "still below zero");
}
