//! Goal: an event is with one edge, until that one has finished it, is silent, or is gone.

use relay_durable::StreamSettings;
use relay_schemas::{
    Connect, Dialect, MultiEdgeMode,
    ReportStatus::Processing,
    Start,
    limits::{ASSIGNMENT_WINDOW, LEASE_MS_MAX},
};

use crate::{
    Given, TIMEOUT_MS, check_round_robin, given, lines, of_edge, settings,
    support::{
        NOW, Relay, bridge, connect, edge, event, event_alone, events, open_line, remember, send,
        webhook_line,
    },
    who,
};

/// The first line of a reader that is given events in turn.
fn assigned_open_line(dialect: Dialect, tail: u64) -> String {
    open_line(dialect, tail, 0, tail).replace('}', r#","mode":"roundrobin"}"#)
}

#[test]
fn each_event_goes_to_one_edge_in_turn() {
    check_round_robin(|mut relay| {
        let opened = relay.connect(1, &of_edge("edge_1"));
        let open = assigned_open_line(Dialect::WebSocket, 0);
        assert_eq!(opened, [send(1, open), remember(1)]);
        relay.connect(2, &of_edge("edge_2"));
        let commands = relay.append(&events(1..=3));
        let expected = [
            send(1, webhook_line(1, 1, &event(1))),
            send(1, webhook_line(3, 2, &event(3))),
            remember(1),
            send(2, webhook_line(2, 1, &event(2))),
            remember(2),
        ];
        assert_eq!(commands, expected);
        assert_eq!(who(&relay.append(&events(4..=4))), [(2, 4, 1)], "the one with fewer");
        assert_eq!(who(&relay.append(&events(4..=4))), [], "a duplicate is nobody's");
    });
}

#[test]
fn a_bridged_reader_opens_at_the_tail_and_gets_what_waits() {
    check_round_robin(|mut relay| {
        relay.append(&events(1..=2));
        let reader = Connect { edge: edge("edge_1"), ..connect(Dialect::Ndjson, Start::Now) };
        let opened = relay.connect(1, &reader);
        let lines = [
            assigned_open_line(Dialect::Ndjson, 2),
            webhook_line(1, 1, &event(1)).replace(
                &crate::support::cursor(1).to_string(),
                &crate::support::cursor(2).to_string(),
            ),
            webhook_line(2, 2, &event(2)),
        ];
        assert_eq!(opened, [send(1, bridge(2, 2, 2, &lines)), remember(1)]);
    });
}

#[test]
fn a_backlog_is_shared_within_the_windows() {
    check_round_robin(|mut relay| {
        let window = ASSIGNMENT_WINDOW as u64;
        relay.append(&events(1..=3 * window));
        assert_eq!(given(&relay.connect(1, &of_edge("edge_1"))).len() as u64, window);
        let second = given(&relay.connect(2, &of_edge("edge_2")));
        assert_eq!(second.first().map(|one| one.number), Some(window + 1));
        assert_eq!(second.len() as u64, window);
        // Whoever says that it works on one is given another.
        assert_eq!(who(&relay.report("edge_1", 1, Processing)), [(1, 2 * window + 1, 1)]);
        assert_eq!(relay.stream.assignment().until().get(), 2 * window + 1);
    });
}

#[test]
fn silence_gives_an_event_to_another_and_the_cursor_never_goes_back() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(who(&relay.append(&events(2..=2))), [(2, 2, 1)]);
        relay.report("edge_2", 2, Processing);
        assert_eq!(relay.stream.next_alarm(), Some(NOW + TIMEOUT_MS));
        relay.now = NOW + TIMEOUT_MS - 1;
        assert_eq!(given(&relay.alarm()), []);
        relay.now = NOW + TIMEOUT_MS;
        let expected = Given { connection: 2, number: 1, attempt: 2, cursor: 2, n: 2 };
        assert_eq!(given(&relay.alarm()), [expected]);
    });
}

#[test]
fn who_works_on_an_event_keeps_it_while_connected() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        relay.now = NOW + TIMEOUT_MS - 1;
        relay.report("edge_1", 1, Processing);
        let reported_at = relay.now;
        relay.now = NOW + 3 * TIMEOUT_MS;
        assert_eq!(given(&relay.alarm()), []);
        relay.now = reported_at + LEASE_MS_MAX - 1;
        relay.report("edge_1", 1, Processing);
        let renewed_at = relay.now;
        relay.now = renewed_at + LEASE_MS_MAX - 1;
        assert_eq!(given(&relay.alarm()), []);
        relay.now = renewed_at + LEASE_MS_MAX;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2)]);
    });
}

#[test]
fn an_edge_that_is_back_in_time_keeps_what_it_has() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &of_edge("edge_2"));
        relay.append(&events(1..=2));
        relay.report("edge_1", 1, Processing);
        relay.report("edge_2", 2, Processing);
        relay.now = NOW + 1_000;
        assert_eq!(given(&relay.closed(1, false)), []);
        relay.now = NOW + TIMEOUT_MS;
        assert_eq!(given(&relay.alarm()), []);
        let back = given(&relay.connect(3, &of_edge("edge_1")));
        assert_eq!(back, [Given { connection: 3, number: 1, attempt: 1, cursor: 2, n: 1 }]);
        relay.now = NOW + 5 * TIMEOUT_MS;
        assert_eq!(given(&relay.alarm()), []);
        // And one that isn't back in time has lost it.
        relay.closed(3, false);
        let gone_at = relay.now;
        assert_eq!(relay.stream.next_alarm(), Some(gone_at + TIMEOUT_MS));
        relay.now = gone_at + TIMEOUT_MS;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2)]);
    });
}

#[test]
fn an_edge_that_ends_frees_what_it_has_at_once() {
    let ends: [fn(&mut Relay) -> Vec<relay_durable::Command>; 3] = [
        |relay| relay.closed(1, true),
        |relay| {
            relay.message(1, r#"{"type":"bye"}"#);
            relay.closed(1, false)
        },
        |relay| relay.revoke(&edge("edge_1")),
    ];
    for end in ends {
        check_round_robin(|mut relay| {
            relay.connect(1, &of_edge("edge_1"));
            relay.append(&events(1..=1));
            relay.report("edge_1", 1, Processing);
            relay.connect(2, &of_edge("edge_2"));
            assert_eq!(who(&end(&mut relay)), [(2, 1, 2)]);
        });
    }
}

#[test]
fn a_bridge_that_closes_does_not_say_that_its_reader_ends() {
    check_round_robin(|mut relay| {
        relay.connect(1, &Connect { dialect: Dialect::Sse, ..of_edge("edge_1") });
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(given(&relay.closed(1, true)), []);
    });
}

#[test]
fn an_object_that_lost_its_sockets_waits_for_its_edges() {
    let mut relay = Relay::with_settings(settings(MultiEdgeMode::RoundRobin));
    relay.connect(1, &of_edge("edge_1"));
    relay.append(&events(1..=1));
    relay.report("edge_1", 1, Processing);
    relay.now = NOW + 10 * TIMEOUT_MS;
    relay.remembered.clear();
    relay.reload();
    assert_eq!(given(&relay.connect(2, &of_edge("edge_2"))), []);
    assert_eq!(relay.stream.next_alarm(), Some(relay.now + TIMEOUT_MS));
    relay.now = relay.now + (TIMEOUT_MS - 1);
    relay.reload();
    assert_eq!(given(&relay.alarm()), [], "still waited for");
    relay.now = relay.now + 1;
    assert_eq!(who(&relay.alarm()), [(2, 1, 2)]);
}

#[test]
fn without_credit_nothing_is_given() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        let batch: Vec<_> = (1..=6).map(event_alone).collect();
        let sent = given(&relay.append(&batch));
        assert!(sent.len() < 6, "credit ends before the events do: {}", sent.len());
        let next = sent.len() as u64 + 1;
        // Another has credit.
        let second = given(&relay.connect(2, &of_edge("edge_2")));
        assert_eq!(second.first().map(|one| one.number), Some(next));
        relay.closed(2, true);
        let granted = given(&relay.grant(1, 200_000));
        assert!(granted.iter().any(|one| one.number == next && one.attempt == 2), "{granted:?}");
    });
}

#[test]
fn what_was_given_and_not_sent_for_want_of_credit_is_sent_with_it() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&(1..=3).map(event_alone).collect::<Vec<_>>());
        relay.closed(1, false);
        let resume = relay_schemas::Resume { n: 7, credit_bytes: 1 };
        let poor = Connect { resume: Some(resume), ..of_edge("edge_1") };
        assert_eq!(who(&relay.connect(2, &poor)), [(2, 1, 1)]);
        assert_eq!(given(&relay.append(&events(4..=4))), [], "nothing passes what is owed");
        assert_eq!(who(&relay.grant(2, 200_000))[..2], [(2, 2, 1), (2, 3, 1)]);
    });
}

#[test]
fn what_somebody_has_or_nobody_was_given_is_not_sealed() {
    let settings = StreamSettings { seal_bytes: 1, ..settings(MultiEdgeMode::RoundRobin) };
    crate::support::check_with(settings, |mut relay| {
        relay.append(&[event_alone(1)]);
        relay.append(&[event_alone(2)]);
        assert_eq!(relay.seal(), [], "nobody was given them");
        assert_eq!(relay.stream.next_alarm().map(|at| at > relay.now), Some(true));
        relay.connect(1, &of_edge("edge_1"));
        assert_eq!(relay.seal(), []);
        relay.report("edge_1", 2, relay_schemas::ReportStatus::Completed);
        assert_eq!(relay.seal(), [], "the first is held yet");
        relay.report("edge_1", 1, relay_schemas::ReportStatus::Completed);
        assert_eq!(relay.seal().len(), 1);
        assert_eq!(relay.stream.log().sealed().get(), 2);
    });
}

#[test]
fn a_stream_that_was_read_by_all_so_far_begins_at_its_tail() {
    let mut relay = Relay::new();
    relay.append(&events(1..=3));
    let storage = relay.storage.clone();
    let stream = |mode, salt| {
        let settings = settings(mode);
        relay_durable::Stream::load(storage.clone(), Default::default(), settings, NOW, salt)
    };
    let assigned = stream(MultiEdgeMode::Sticky, 1).unwrap();
    assert_eq!(assigned.assignment().until().get(), 3);
    let mut relay = Relay::with_settings(settings(MultiEdgeMode::Sticky));
    relay.append(&events(1..=3));
    relay.reload();
    assert_eq!(relay.stream.assignment().until().get(), 0, "a new one begins at its beginning");
    assert_eq!(lines(&relay.connect(1, &of_edge("edge_1"))).len(), 4);
}
