//! Goal: a reader whose position lies in a segment is sent to history and nothing is lost on the
//! way; sealing is asked for when it is due, and what can't be taken is refused.
//! Method: exact offers and commands; the clock just before and at each instant.

use relay_durable::{Command, StreamSettings};
use relay_schemas::{
    ByeCode, Connect, Cursor, Dialect, ErrorCode, Gap, GapReason, HistoryOffer, NewEvent, OnGap,
    Resume, SegmentEntry, Seq, Start, UnixMillis,
    limits::{CREDIT_BYTES, CREDIT_BYTES_MAX, SEAL_RETRY_MS, SEGMENTS_OFFERED_MAX},
};

use crate::support::{
    DAY_MS, HOUR_MS, NOW, RETENTION_MS, Relay, SALT, bye_line, check_with, connect, cursor, edge,
    event, event_alone, event_of_size, event_received, events, gap_line, id, lines_after,
    open_line, refused, remember, row_of, sent_and_closed, sent_and_kept, stream_key, webhook_line,
    webhook_lines,
};

const AT_ONCE: StreamSettings = StreamSettings {
    retention_ms: RETENTION_MS,
    seal_bytes: 1,
    seal_age_ms: DAY_MS,
    hot_bytes_max: u64::MAX,
    multi_edge: relay_schemas::MultiEdgeMode::Broadcast,
    edge_timeout_ms: 60_000,
    retry_failed: true,
};

/// Segments 1 to 2 and 3 to 5, then 6 to 7 in the hot tail.
fn tiers(relay: &mut Relay) -> Vec<SegmentEntry> {
    let segments = relay.seal_each(&[events(1..=2), events(3..=5)]);
    relay.append(&events(6..=7));
    segments
}

fn offer(after: u64, segments: &[SegmentEntry]) -> HistoryOffer {
    HistoryOffer {
        after: cursor(after),
        oldest: cursor(0),
        sealed: cursor(5),
        tail: cursor(7),
        received_since: None,
        gap: None,
        segments: segments.to_vec(),
        until: None,
        mode: None,
    }
}

#[test]
fn a_reader_in_history_is_told_what_to_read() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            let segments = tiers(&mut relay);
            for (after, first_segment) in [(0, 0), (1, 0), (2, 1), (4, 1)] {
                let start = Start::Cursor(cursor(after).to_string());
                let found = relay.history(1, &connect(dialect, start));
                assert_eq!(found, offer(after, &segments[first_segment..]), "{after}");
            }
            let found = relay.history(1, &connect(dialect, Start::Earliest));
            assert_eq!(found, offer(0, &segments));
            assert!(relay.stream.connections().is_empty(), "nothing was registered");
            for after in [5, 6, 7] {
                let start = Start::Cursor(cursor(after).to_string());
                let mut lines = vec![open_line(dialect, after, 0, 7)];
                lines.extend(webhook_lines(after + 1..=7, 1));
                let expected = sent_and_kept(dialect, after, &lines, (7, 7, 7 - after));
                assert_eq!(relay.connect(after, &connect(dialect, start)), expected);
            }
        });
    }
}

#[test]
fn an_offer_says_what_is_wrong_with_the_start() {
    let mut relay = Relay::sealing_at_once();
    let segments = tiers(&mut relay);
    let other = Cursor { epoch: relay_schemas::Epoch::new(NOW, SALT - 1), seq: Seq::new(2) };
    for (start, requested, reason, code) in [
        (Start::Cursor("x".into()), "x".into(), GapReason::Invalid, ErrorCode::CursorInvalid),
        (
            Start::Cursor(cursor(8).to_string()),
            cursor(8).to_string(),
            GapReason::Future,
            ErrorCode::CursorFuture,
        ),
        (
            Start::Cursor(other.to_string()),
            other.to_string(),
            GapReason::EpochChanged,
            ErrorCode::CursorEpochChanged,
        ),
        (Start::Event(id(9)), id(9).to_string(), GapReason::Invalid, ErrorCode::CursorInvalid),
    ] {
        let (resumed_from, oldest) = (cursor(0), cursor(0));
        let gap = Some(Gap { requested, resumed_from, oldest, reason });
        let mut connect = connect(Dialect::Ndjson, start);
        let expected = HistoryOffer { gap, ..offer(0, &segments) };
        assert_eq!(relay.history(1, &connect), expected);
        let edge = edge("edge_1");
        let asked =
            relay.stream.history(&stream_key(), &edge, &connect.start, OnGap::Resume).unwrap();
        assert_eq!(asked, expected, "the same is told to who only asks");
        connect.on_gap = OnGap::Error;
        assert_eq!(refused(relay.try_connect(1, &connect)).code, code);
    }
}

#[test]
fn an_instant_is_found_by_whoever_reads_the_segment() {
    let mut relay = Relay::sealing_at_once();
    let received = |numbers: std::ops::RangeInclusive<u64>| -> Vec<NewEvent> {
        numbers.map(|number| event_received(number, NOW + number)).collect()
    };
    let segments = relay.seal_each(&[received(1..=2), received(3..=5)]);
    relay.append(&received(6..=7));
    let found = relay.history(1, &connect(Dialect::Ndjson, Start::Time(NOW + 4)));
    let received_since = Some(NOW + 4);
    assert_eq!(found, HistoryOffer { received_since, ..offer(2, &segments[1..]) });
    assert_eq!(relay.connect(1, &connect(Dialect::Ndjson, Start::Time(NOW + 6))).len(), 2);
}

#[test]
fn an_offer_names_so_many_segments() {
    let mut relay = Relay::sealing_at_once();
    let count = SEGMENTS_OFFERED_MAX as u64 + 1;
    let segments =
        relay.seal_each(&(1..=count).map(|number| vec![event(number)]).collect::<Vec<_>>());
    let found = relay.history(1, &connect(Dialect::Ndjson, Start::Earliest));
    assert_eq!(found.segments, segments[..SEGMENTS_OFFERED_MAX]);
    assert_eq!(found.sealed, cursor(count));
}

#[test]
fn a_reader_that_comes_from_history_goes_on_with_its_count_and_credit() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            tiers(&mut relay);
            let resumed = |credit_bytes| Connect {
                resume: Some(Resume { n: 40, credit_bytes }),
                ..connect(dialect, Start::Cursor(cursor(5).to_string()))
            };
            let lines = webhook_lines(6..=7, 41);
            let expected = sent_and_kept(dialect, 1, &lines, (7, 7, 42));
            assert_eq!(relay.connect(1, &resumed(CREDIT_BYTES)), expected, "no second open");

            let expected = sent_and_kept(dialect, 2, &lines[..1], (6, 7, 41));
            assert_eq!(relay.connect(2, &resumed(1)), expected, "one frame of credit");
            let below_zero = lines[0].len() as i64 - 1;
            assert_eq!(relay.grant(2, below_zero), [remember(2)]);
            let expected = sent_and_kept(dialect, 2, &lines[1..], (7, 7, 42));
            assert_eq!(relay.grant(2, 1), expected);

            assert_eq!(relay.connect(3, &resumed(0)), [remember(3)]);
            assert_eq!(relay.connect(4, &resumed(-5)), [remember(4)]);
            assert_eq!(relay.grant(4, 5), [remember(4)], "what was overdrawn is not forgotten");
            assert_eq!(relay.grant(4, 1), sent_and_kept(dialect, 4, &lines[..1], (6, 7, 41)));
        });
    }
}

#[test]
fn a_resumed_credit_has_the_greatest_value_too() {
    let mut relay = Relay::sealing_at_once();
    let huge = CREDIT_BYTES_MAX as usize;
    relay.append(&[event_of_size(1, huge), event_of_size(2, 300)]);
    let resumed = Connect {
        resume: Some(Resume { n: 0, credit_bytes: i64::MAX }),
        ..connect(Dialect::WebSocket, Start::Earliest)
    };
    assert_eq!(relay.connect(1, &resumed).len(), 2, "one frame, and it is kept");
}

#[test]
fn a_resumed_reader_is_told_a_gap_without_an_open() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&events(1..=1));
    let resumed = Connect {
        resume: Some(Resume { n: 3, credit_bytes: CREDIT_BYTES }),
        ..connect(Dialect::Ndjson, Start::Cursor("x".into()))
    };
    let lines = [gap_line("x", 0, "invalid"), webhook_line(1, 4, &event(1))];
    assert_eq!(relay.connect(1, &resumed), sent_and_kept(Dialect::Ndjson, 1, &lines, (1, 1, 4)));
}

/// A reader at 3 of 7 whose credit is used up, and whose next event is sealed.
fn stalled_in_history(relay: &mut Relay, dialect: Dialect) -> i64 {
    let large = |number| event_of_size(number, 100_000);
    let batch: Vec<NewEvent> = (1..=5).map(large).collect();
    relay.connect(1, &connect(dialect, Start::Now));
    relay.append(&batch);
    // Longer than a direct reader is waited for.
    relay.now = relay.now + 10_000;
    assert_eq!(relay.seal().len(), 1);
    assert_eq!(relay.append(&events(6..=7)), [remember(1)], "without credit nothing is decided");
    let sent = (1..=3).map(|seq| webhook_line(seq, seq, &large(seq)).len() as i64).sum::<i64>();
    sent - CREDIT_BYTES
}

/// The command that sends a reader at 3 of `tail` to history.
fn to_history(dialect: Dialect, tail: u64) -> Vec<Command> {
    if dialect.is_bridged() {
        return vec![Command::ReadHistory { connection: 1 }];
    }
    let bye = bye_line("reconnect", 0, 3);
    sent_and_closed(dialect, 1, bye, (3, tail, 3), ByeCode::Reconnect)
}

#[test]
fn a_reader_whose_next_event_was_sealed_is_sent_to_history_when_credit_comes() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            let below_zero = stalled_in_history(&mut relay, dialect);
            assert_eq!(relay.grant(1, below_zero), [remember(1)], "zero is no credit");
            assert_eq!(relay.grant(1, 1), to_history(dialect, 7));
            assert_eq!(relay.append(&events(8..=8)), [], "it is gone");
            let start = Start::Cursor(cursor(3).to_string());
            assert_eq!(relay.history(1, &connect(dialect, start)).after, cursor(3));
        });
    }
}

#[test]
fn an_append_sends_a_reader_with_credit_to_history() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            // Credit comes while the next event lies in the hot tail of a log that was reset
            // before it could be sent: the attachment is behind, and has credit.
            relay.append(&events(1..=3));
            relay.connect(1, &connect(dialect, Start::Now));
            let kept = relay.remembered.clone();
            relay.append(&events(4..=5));
            relay.remembered = kept;
            relay.seal();
            relay.reload();
            let expected = if dialect.is_bridged() {
                vec![Command::ReadHistory { connection: 1 }]
            } else {
                let bye = bye_line("reconnect", 0, 3);
                sent_and_closed(dialect, 1, bye, (3, 6, 0), ByeCode::Reconnect)
            };
            assert_eq!(relay.append(&events(6..=6)), expected);
            assert!(relay.stream.connections().is_empty());
        });
    }
}

#[test]
fn a_reader_at_the_end_of_what_was_sealed_is_followed_on() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            relay.connect(1, &connect(dialect, Start::Now));
            relay.append(&events(1..=2));
            relay.seal();
            let expected = sent_and_kept(dialect, 1, &webhook_lines(3..=3, 3), (3, 3, 3));
            assert_eq!(relay.append(&events(3..=3)), expected);
            relay.seal();
            assert_eq!(relay.grant(1, 1), [remember(1)]);
        });
    }
}

#[test]
fn retention_that_took_the_segments_is_told_to_who_is_followed() {
    for dialect in Dialect::ALL {
        check_with(AT_ONCE, |mut relay| {
            let far =
                Connect { expires_at: NOW + RETENTION_MS * 2, ..connect(dialect, Start::Now) };
            relay.connect(1, &far);
            let large: Vec<NewEvent> =
                (1..=5).map(|number| event_of_size(number, 100_000)).collect();
            relay.append(&large);
            relay.seal();
            relay.now = NOW + 1;
            relay.append(&events(6..=6));
            relay.now = NOW + RETENTION_MS;
            assert_eq!(relay.alarm().len(), 1);
            let lines =
                [gap_line(&cursor(3).to_string(), 5, "trimmed"), webhook_line(6, 4, &event(6))];
            let expected = sent_and_kept(dialect, 1, &lines, (6, 6, 4));
            assert_eq!(relay.grant(1, 300_000), expected);
        });
    }
}

#[test]
fn sealing_is_due_by_size_at_once_and_by_age_later() {
    let settings = StreamSettings { seal_bytes: 1_000, seal_age_ms: HOUR_MS, ..AT_ONCE };
    check_with(settings, |mut relay| {
        assert_eq!(relay.stream.next_alarm(), None);
        relay.append(&[event_of_size(1, 400)]);
        relay.now = NOW + 7;
        relay.append(&[event_of_size(2, 400)]);
        assert_eq!(relay.stream.next_alarm(), Some(NOW + HOUR_MS), "counted from the oldest");
        relay.now = NOW + HOUR_MS - 1;
        assert!(relay.stream.seal_next(relay.now).unwrap().is_none());
        relay.now = NOW + HOUR_MS;
        let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
        assert_eq!(relay.stream.next_alarm(), Some(NOW), "what was begun is due at once");
        assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(true));
        assert!(relay.stream.next_alarm() > Some(NOW + RETENTION_MS));

        relay.append(&[event_of_size(3, 999)]);
        assert_eq!(relay.stream.next_alarm(), Some(relay.now + HOUR_MS));
        relay.append(&[event_of_size(4, 200)]);
        assert_eq!(relay.stream.next_alarm(), Some(relay.now), "too large");
        assert_eq!(relay.seal().len(), 1);
        relay.append(&[event_of_size(5, 1_000)]);
        assert_eq!(relay.stream.next_alarm(), Some(relay.now), "just large enough");
    });
}

#[test]
fn a_small_hot_tail_is_not_sealed_however_old_it_is() {
    let settings = StreamSettings { seal_bytes: 4_000, seal_age_ms: HOUR_MS, ..AT_ONCE };
    check_with(settings, |mut relay| {
        relay.append(&[event_of_size(1, 500)]);
        relay.now = NOW + DAY_MS;
        let retention = relay.stream.next_alarm().unwrap();
        assert!(retention > NOW + HOUR_MS, "only retention wants it");
        assert!(relay.stream.seal_next(relay.now).unwrap().is_none());
        relay.append(&[event_of_size(2, 498)]);
        assert!(relay.stream.seal_next(relay.now).unwrap().is_none(), "999 bytes");
        relay.append(&[event_of_size(3, 400)]);
        assert_eq!(relay.stream.next_alarm(), Some(NOW + HOUR_MS));
        assert_eq!(relay.seal().len(), 1);
    });
}

#[test]
fn what_was_begun_is_due_at_once_after_a_reload() {
    let mut relay = Relay::new();
    relay.append(&[event_of_size(1, 300_000)]);
    relay.now = NOW + DAY_MS;
    assert!(relay.stream.seal_next(relay.now).unwrap().is_some());
    relay.now = NOW + 1;
    relay.reload();
    assert_eq!(relay.stream.next_alarm(), Some(NOW));
    assert!(relay.stream.seal_next(relay.now).unwrap().is_some());
}

#[test]
fn after_a_failure_sealing_waits_twice_as_long_up_to_a_limit() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&events(1..=1));
    let mut wait_ms = SEAL_RETRY_MS.0;
    for failures in 1..=40 {
        assert!(relay.stream.seal_next(relay.now).unwrap().is_some());
        relay.stream.seal_failed(relay.now);
        let due = relay.now + wait_ms;
        assert_eq!(relay.stream.next_alarm(), Some(due), "{failures}");
        let state = serde_json::to_value(relay.stream.state().unwrap()).unwrap();
        assert_eq!(state["sealing"]["failures"], failures);
        assert_eq!(state["sealing"]["retry_at"], due.get());
        relay.append(&events(1 + failures..=1 + failures));
        assert!(relay.stream.seal_next(due - 1).unwrap().is_none(), "not even for more events");
        relay.now = due;
        wait_ms = (wait_ms * 2).min(SEAL_RETRY_MS.1);
    }
    assert_eq!(wait_ms, SEAL_RETRY_MS.1);
    assert_eq!(relay.seal().len(), 2, "the planned run, and the rest at once");
    relay.append(&events(50..=50));
    assert!(relay.stream.seal_next(relay.now).unwrap().is_some(), "success forgets failures");
    relay.stream.seal_failed(relay.now);
    assert_eq!(relay.stream.next_alarm(), Some(relay.now + SEAL_RETRY_MS.0));
    relay.reload();
    assert_eq!(relay.stream.next_alarm(), relay.stream.log().hot_since(), "tried again at once");
}

#[test]
fn a_full_stream_refuses_appends_and_serves_on() {
    let settings = StreamSettings { hot_bytes_max: 1_000, ..AT_ONCE };
    check_with(settings, |mut relay| {
        relay.append(&[event_of_size(1, 600)]);
        relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
        let problem = refused(relay.try_append(&[event_of_size(2, 401)]));
        assert_eq!((problem.code, problem.code.is_retryable()), (ErrorCode::StreamFull, true));
        assert_eq!(relay.stream.log().tail(), Seq::new(1), "nothing has changed");
        let problem = refused(relay.try_append(&[event_of_size(2, 201), event_of_size(3, 200)]));
        assert_eq!(problem.code, ErrorCode::StreamFull, "a batch is refused whole");
        let mut lines = vec![open_line(Dialect::Ndjson, 0, 0, 1)];
        lines.push(webhook_line(1, 1, &event_of_size(1, 600)));
        let expected = sent_and_kept(Dialect::Ndjson, 2, &lines, (1, 1, 1));
        assert_eq!(relay.connect(2, &connect(Dialect::Ndjson, Start::Earliest)), expected);
        assert_eq!(relay.append(&[event_of_size(2, 400)]).len(), 4, "it fits exactly");
        assert_eq!(relay.seal().len(), 1);
        assert_eq!(relay.append(&[event_of_size(3, 1_000)]).len(), 4);
    });
}

#[test]
fn objects_of_segments_that_retention_took_are_discarded() {
    check_with(AT_ONCE, |mut relay| {
        let mut keys = Vec::new();
        for (place, numbers) in (0..).zip([1..=2, 3..=5, 6..=6]) {
            relay.now = NOW + place * 10;
            let sealed = relay.seal_each(&[events(numbers)]);
            keys.push(relay.key(&sealed[0]));
        }
        relay.append(&[event_alone(7)]);
        for (age_ms, expected) in [(9, &keys[..1]), (9, &[]), (20, &keys[1..])] {
            relay.now = NOW + RETENTION_MS + age_ms;
            let expected = match expected {
                [] => vec![],
                keys => vec![Command::Discard { keys: keys.to_vec() }],
            };
            if age_ms == 20 {
                // The row is of the same instant as the last segment.
                assert_eq!(relay.alarm(), expected);
                assert_eq!(relay.stream.log().trimmed(), Seq::new(7));
            } else {
                assert_eq!(relay.alarm(), expected);
                assert_eq!(relay.stream.log().trimmed(), Seq::new(2));
            }
        }
        assert_eq!(relay.stream.next_alarm(), None);
    });
}

#[test]
fn segments_of_one_day_share_a_sweep() {
    let mut relay = Relay::sealing_at_once();
    let day = UnixMillis::new(NOW.get() / DAY_MS * DAY_MS);
    relay.now = day + 1;
    relay.seal_each(&[events(1..=1)]);
    assert_eq!(relay.stream.next_alarm(), Some(day + RETENTION_MS + DAY_MS));
    relay.now = day + (DAY_MS - 1);
    relay.seal_each(&[row_of(2..=2)]);
    relay.now = relay.stream.next_alarm().unwrap();
    assert_eq!(relay.alarm().len(), 1);
    assert_eq!((relay.stream.log().trimmed(), relay.stream.next_alarm()), (Seq::new(2), None));
}

#[test]
fn state_shows_both_tiers() {
    let mut relay = Relay::sealing_at_once();
    let segments = tiers(&mut relay);
    let state = serde_json::to_value(relay.stream.state().unwrap()).unwrap();
    assert_eq!(state["oldest"], cursor(0).to_string());
    assert_eq!(state["sealed"], cursor(5).to_string());
    assert_eq!(state["tail"], cursor(7).to_string());
    assert_eq!((&state["events"], &state["segments"]), (&7.into(), &2.into()));
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    assert_eq!(state["segment_bytes"], bytes);
    assert_eq!(state["hot_bytes"], relay.stream.log().hot_bytes());
    assert_eq!(state["alarm_at"], NOW.get());
}

#[test]
fn what_a_reader_gets_through_history_is_what_it_would_have_got_before() {
    let mut hot = Relay::new();
    hot.append(&events(1..=7));
    let mut sealed = Relay::sealing_at_once();
    tiers(&mut sealed);
    for after in 0..=7 {
        let connect = connect(Dialect::Ndjson, Start::Cursor(cursor(after).to_string()));
        let lines = sealed.read(&connect).lines;
        assert_eq!(lines, hot.read(&connect).lines);
        assert_eq!(lines[1..], lines_after(&events(1..=7), after));
    }
}

#[test]
fn a_direct_reader_without_credit_for_a_moment_keeps_its_rows() {
    let mut relay = Relay::with_settings(AT_ONCE);
    relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
    let large: Vec<NewEvent> = (1..=5).map(|number| event_of_size(number, 200_000)).collect();
    for event in &large {
        relay.append(std::slice::from_ref(event));
    }
    // Two were sent. They are sealed, and what the reader waits for is not.
    let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
    assert_eq!(job.segment.entry.last.get(), 2);
    assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(true));
    assert!(relay.stream.seal_next(relay.now).unwrap().is_none());
    assert_eq!(relay.stream.next_alarm(), Some(relay.now + 1_000), "it is looked at again");
    let sent = sent_and_kept(Dialect::WebSocket, 1, &[webhook_line(3, 3, &large[2])], (3, 5, 3));
    assert_eq!(relay.grant(1, 200_000), sent);

    // One that stays away for long is not waited for.
    relay.now = relay.now + 10_000;
    relay.seal();
    assert_eq!(relay.stream.log().sealed(), relay.stream.log().tail());
}
