//! Goal: a reader in history receives exactly what its segments hold after its start, in order,
//! once, and goes over to the object without a seam; what is lost it is told; KV is never
//! believed; how much is written at a time is bounded.
//!
//! Method: a stream over a bucket and an index in memory, which are spoiled; the exact frames and
//! the exact steps.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod index;
mod lost;
mod pieces;

use relay_schemas::{BodyMode, Connect, Dialect, NewEvent, Start};

use crate::support::{
    NOW, Relay, check_with, connect, cursor, event_of, event_of_kind, event_received, events,
    kinds, lines_after, lost_line, open_line, webhook_line,
};

/// The numbers of the events in each segment, and then the hot tail.
pub(crate) fn tiers() -> Relay {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=3), events(4..=4), events(5..=8)]);
    relay.append(&events(9..=10));
    relay
}

pub(crate) fn reader(after: u64) -> Connect {
    connect(Dialect::Ndjson, Start::Cursor(cursor(after).to_string()))
}

/// What a reader of [`tiers`] is sent.
pub(crate) fn expected(after: u64) -> Vec<String> {
    let mut lines = vec![open_line(Dialect::Ndjson, after, 0, 10)];
    lines.extend(lines_after(&events(1..=10), after));
    lines
}

/// What a reader is sent of whom these segments are lost: first and last position of each.
pub(crate) fn expected_without(after: u64, lost: &[(u64, u64)]) -> Vec<String> {
    let mut lines = vec![open_line(Dialect::Ndjson, after, 0, 10)];
    let (mut n, mut seq) = (0, after);
    while seq < 10 {
        seq += 1;
        match lost.iter().find(|(first, last)| (*first..=*last).contains(&seq)) {
            Some((_, last)) => {
                lines.push(lost_line(seq - 1, *last, 0));
                seq = *last;
            }
            None => {
                n += 1;
                lines.push(webhook_line(seq, n, &support::event(seq)));
            }
        }
    }
    lines
}

#[test]
fn a_reader_gets_everything_after_any_position() {
    for after in 0..=10 {
        let mut relay = tiers();
        let reading = relay.read(&reader(after));
        assert_eq!(reading.lines, expected(after), "{after}");
        let steps: &[&str] = match after {
            0..3 => &["fetch 1", "fetch 4", "fetch 5", "ask"],
            3 => &["fetch 4", "fetch 5", "ask"],
            4..8 => &["fetch 5", "ask"],
            _ => &[],
        };
        assert_eq!(reading.steps, steps, "{after}");
        assert_eq!(reading.segments_lost, 0);
    }
}

#[test]
fn an_evicted_object_changes_nothing() {
    let settings = relay_durable::StreamSettings { seal_bytes: 1, ..Default::default() };
    check_with(settings, |mut relay| {
        relay.seal_each(&[events(1..=3), events(4..=4), events(5..=8)]);
        relay.append(&events(9..=10));
        assert_eq!(relay.read(&reader(2)).lines, expected(2));
    });
}

#[test]
fn what_was_sealed_meanwhile_is_read_too() {
    let mut relay = tiers();
    let offer = relay.history(1, &reader(0));
    relay.seal();
    relay.append(&events(11..=11));
    let mut replay = relay_durable::Replay::new(reader(0), offer);
    let asked = drain(&relay, &mut replay);
    assert_eq!(asked.1, Start::Cursor(cursor(8).to_string()));
    let more = relay.history(1, &replay.ask(5));
    replay.offered(more);
    let (text, start) = drain(&relay, &mut replay);
    let lines: Vec<&str> = text.lines().collect();
    let expected = [9, 10].map(|seq| webhook_line(seq, seq, &support::event(seq)));
    assert_eq!((lines, start), (expected.iter().map(String::as_str).collect(), reader(10).start));
    let ask = replay.ask(5);
    assert_eq!(ask.resume, Some(relay_schemas::Resume { n: 10, credit_bytes: 5 }));
}

/// Reads until the object is to be asked, and answers from where.
fn drain(relay: &Relay, replay: &mut relay_durable::Replay) -> (String, Start) {
    let mut out = String::new();
    loop {
        match replay.next_step() {
            relay_durable::ReplayStep::Write => {
                replay.write(usize::MAX, &mut out);
            }
            relay_durable::ReplayStep::Fetch(object) => {
                let bytes = relay.bucket[&object.key].clone();
                replay.fetched(&object.entry, relay_durable::Fetched::Bytes(bytes));
            }
            relay_durable::ReplayStep::List { .. } => replay.listed(Vec::new()),
            relay_durable::ReplayStep::Ask => return (out, replay.ask(0).start),
        }
    }
}

/// Odd numbers are issues; segments 1 to 3 and 4 to 6, then 7 to 8 in the hot tail.
fn kinds_in_turn() -> (Relay, Vec<NewEvent>) {
    let kind = |number| if number % 2 == 1 { "Issue.update" } else { "Comment.create" };
    let source: Vec<NewEvent> = (1..=8).map(|number| event_of_kind(number, kind(number))).collect();
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[source[..3].to_vec(), source[3..6].to_vec()]);
    relay.append(&source[6..]);
    (relay, source)
}

#[test]
fn a_filter_holds_in_history_and_n_has_no_holes() {
    let (mut relay, source) = kinds_in_turn();
    for (filter, remainder) in [("Issue.*", 1), ("Comment", 0)] {
        for after in 0..=8 {
            let reading = relay.read(&Connect { kinds: kinds(filter), ..reader(after) });
            let mut expected = vec![open_line(Dialect::Ndjson, after, 0, 8)];
            let passing = (after + 1..=8).filter(|seq| seq % 2 == remainder);
            expected.extend(
                (1..).zip(passing).map(|(n, seq)| webhook_line(seq, n, &source[seq as usize - 1])),
            );
            assert_eq!(reading.lines, expected, "{filter} {after}");
        }
    }
}

#[test]
fn bodies_are_written_as_asked_for() {
    let pretty = "{\n  \"a\": 1\n}";
    for (body, mode, tail) in [
        (r#"{"a": 1}"#, BodyMode::Data, r#","data":{"a": 1}}"#),
        (r#"{"a": 1}"#, BodyMode::Text, r#","body":"{\"a\": 1}","encoding":"text"}"#),
        (r#"{"a": 1}"#, BodyMode::Base64, r#","body":"eyJhIjogMX0=","encoding":"base64"}"#),
        (pretty, BodyMode::Data, r#","body":"{\n  \"a\": 1\n}","encoding":"text"}"#),
    ] {
        let mut relay = Relay::sealing_at_once();
        relay.seal_each(&[vec![event_of(1, "Issue.update", NOW, body)]]);
        let reading = relay.read(&Connect { body: mode, ..reader(0) });
        assert!(reading.lines[1].ends_with(tail), "{}", reading.lines[1]);
    }
}

#[test]
fn an_instant_in_a_segment_starts_at_the_first_event_received_since() {
    let received: [u64; 8] = [10, 30, 20, 25, 5, 12, 40, 7];
    let source: Vec<NewEvent> =
        (1..).zip(received).map(|(number, at)| event_received(number, NOW + at)).collect();
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[source[..3].to_vec(), source[3..6].to_vec()]);
    relay.append(&source[6..]);
    for at in 0..45 {
        let first = received.iter().position(|received| *received >= at).unwrap_or(8) as u64;
        let reading = relay.read(&connect(Dialect::Ndjson, Start::Time(NOW + at)));
        assert_eq!(reading.lines[1..], lines_after(&source, first), "{at}");
    }
}
