//! Goal: a reader is ended as slow when it is far behind and makes no progress, and not before.
//! Method: each condition just missed and just met, with the other one met.

use relay_schemas::{
    ByeCode, Dialect, Start,
    limits::{SLOW_LAG_EVENTS, SLOW_STALL_MS},
};

use crate::support::{
    NOW, Relay, bye_line, check, connect, event_of_size, events, remember, sent_and_closed,
};

/// A reader at position 1 whose credit is used up, and which waits from now on.
fn stall(relay: &mut Relay, dialect: Dialect) {
    relay.connect(1, &connect(dialect, Start::Now));
    relay.append(&[event_of_size(1, 300_000)]);
    assert_eq!(relay.append(&events(2..=2)), [remember(1)]);
}

#[test]
fn far_behind_and_without_progress_is_slow() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            stall(&mut relay, dialect);
            relay.now = NOW + SLOW_STALL_MS;
            let just_near = SLOW_LAG_EVENTS;
            assert_eq!(relay.append(&events(3..=just_near)), [remember(1)], "999 behind");
            let tail = just_near + 1;
            let expected = sent_and_closed(
                dialect,
                1,
                bye_line("slow", 1_000, 1),
                (1, tail, 1),
                ByeCode::Slow,
            );
            assert_eq!(relay.append(&events(tail..=tail)), expected, "1000 behind");
            assert_eq!(relay.append(&events(tail + 1..=tail + 1)), []);
        });
    }
}

#[test]
fn far_behind_for_a_moment_is_not() {
    check(|mut relay| {
        stall(&mut relay, Dialect::Ndjson);
        relay.now = NOW + SLOW_STALL_MS - 1;
        assert_eq!(relay.append(&events(3..=3_000)), [remember(1)]);
        relay.now = NOW + SLOW_STALL_MS;
        let expected = sent_and_closed(
            Dialect::Ndjson,
            1,
            bye_line("slow", 1_000, 1),
            (1, 3_001, 1),
            ByeCode::Slow,
        );
        assert_eq!(relay.append(&events(3_001..=3_001)), expected);
    });
}

#[test]
fn progress_starts_the_time_again() {
    check(|mut relay| {
        stall(&mut relay, Dialect::WebSocket);
        relay.append(&[event_of_size(3, 300_000)]);
        relay.append(&events(4..=3_000));
        relay.now = NOW + SLOW_STALL_MS - 1;
        let sent = relay.grant(1, 100_000);
        assert_eq!(sent.len(), 3, "two frames, and the credit is used up again");
        relay.now = NOW + SLOW_STALL_MS * 2 - 2;
        assert_eq!(relay.append(&events(3_001..=3_001)), [remember(1)]);
        relay.now = NOW + SLOW_STALL_MS * 2 - 1;
        assert_eq!(relay.append(&events(3_002..=3_002)).len(), 2);
    });
}

#[test]
fn a_grant_that_leaves_no_credit_is_no_progress() {
    check(|mut relay| {
        stall(&mut relay, Dialect::WebSocket);
        relay.now = NOW + SLOW_STALL_MS / 2;
        assert_eq!(relay.grant(1, 1), [remember(1)]);
        relay.now = NOW + SLOW_STALL_MS;
        let sent = relay.append(&events(3..=2_000));
        assert_eq!(sent.last(), Some(&crate::support::close(1, ByeCode::Slow)));
    });
}

#[test]
fn a_reader_that_reads_along_is_never_slow() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        relay.append(&[event_of_size(1, 300_000)]);
        // Nothing waits for it: without credit, but at the tail.
        relay.now = NOW + SLOW_STALL_MS * 10;
        assert_eq!(relay.append(&events(2..=1_500)), [remember(1)]);
    });
}
