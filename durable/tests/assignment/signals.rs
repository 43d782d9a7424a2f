//! Goal: a stop is told at once to the machine that works on the session, whatever it has yet to
//! read, and the relay knows who is there.

use relay_schemas::{
    Attendance, Connect, Dialect, KindFilter,
    ReportStatus::{Failed, Processing},
    Resume, Start,
    limits::{HOLDER_REMEMBERED_MS, STOP_REPEATED_MS},
};

use relay_durable::{Holder, Stop};

use crate::{
    check_round_robin, given, lines, of_edge,
    support::{
        NOW, Relay, bridge, check, connect, cursor, edge, event_about, event_alone, event_of_kind,
        id, kinds, send, stop_of,
    },
    who,
};

const CREATED: &str = "AgentSessionEvent.created";
const PROMPTED: &str = "AgentSessionEvent.prompted";

fn signal_line(number: u64, session: &str, position: u64) -> String {
    let (id, cursor) = (id(number), cursor(position));
    format!(
        r#"{{"type":"signal","signal":"stop","session":"{session}","id":"{id}","cursor":"{cursor}","timestamp":"{NOW}"}}"#
    )
}

fn told(commands: &[relay_durable::Command]) -> Vec<u64> {
    let is_signal = |line: &str| line.starts_with(r#"{"type":"signal""#);
    let signals = lines(commands).into_iter().filter(|(_, line)| is_signal(line));
    signals.map(|(connection, _)| connection).collect()
}

/// A reader that can be sent one frame more.
fn poor(dialect: Dialect, name: &str) -> Connect {
    let resume = Some(Resume { n: 0, credit_bytes: 0 });
    Connect { resume, edge: edge(name), ..connect(dialect, Start::Now) }
}

#[test]
fn a_stop_passes_ahead_of_a_reader_without_credit_and_every_filter() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            let blind = Connect { kinds: kinds("Nobody.*"), ..poor(dialect, "edge_1") };
            relay.connect(1, &blind);
            relay.append(&[event_alone(1)]);
            let commands = relay.append(&[event_of_kind(2, "Issue.update"), stop_of(3, "s")]);
            let line = signal_line(3, "s", 0);
            let expected = match dialect {
                Dialect::WebSocket => line,
                Dialect::Ndjson | Dialect::Sse => bridge(0, 3, 0, &[line]),
            };
            assert_eq!(commands[0], send(1, expected));
            assert_eq!(lines(&commands).len(), 1);
            // It follows in its place, once.
            let again = relay.append(&[stop_of(3, "s")]);
            assert_eq!(told(&again), Vec::<u64>::new());
        });
    }
}

#[test]
fn a_stop_is_told_to_who_works_on_the_session_else_to_all() {
    check(|mut relay| {
        for (id, name) in [(1, "edge_1"), (2, "edge_2"), (3, "edge_2"), (4, "edge_3")] {
            relay.connect(id, &of_edge(name));
        }
        relay.append(&[event_about(1, CREATED, "s", "")]);
        assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [1, 2, 3, 4]);
        relay.report("edge_1", 1, Processing);
        assert_eq!(told(&relay.append(&[stop_of(3, "s")])), [1]);
        relay.report("edge_2", 1, Processing);
        assert_eq!(told(&relay.append(&[stop_of(4, "s")])), [2, 3], "the last that said so");
        assert_eq!(told(&relay.append(&[stop_of(5, "t")])), [1, 2, 3, 4], "another session");
        relay.now = NOW + HOLDER_REMEMBERED_MS;
        assert_eq!(told(&relay.append(&[stop_of(6, "s")])), [1, 2, 3, 4], "forgotten in a day");
    });
}

#[test]
fn where_events_are_given_only_the_holder_is_told_and_first() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.connect(2, &of_edge("edge_2"));
        let commands = relay.append(&[event_about(2, "Issue.update", "", ""), stop_of(3, "s")]);
        assert_eq!(commands[0], send(1, signal_line(3, "s", 1)));
        assert_eq!(told(&commands), [1]);
        assert_eq!(who(&commands), [(1, 3, 1), (2, 2, 1)]);
        assert_eq!(told(&relay.append(&[stop_of(4, "nobody's")])), Vec::<u64>::new());
    });
}

#[test]
fn a_holder_that_was_away_is_told_when_it_is_back() {
    for dialect in Dialect::ALL {
        check_round_robin(|mut relay| {
            let reader = Connect { dialect, ..of_edge("edge_1") };
            relay.connect(1, &reader);
            relay.append(&[event_about(1, CREATED, "s", "")]);
            relay.closed(1, false);
            assert_eq!(told(&relay.append(&[stop_of(2, "s")])), Vec::<u64>::new());
            let back = lines(&relay.connect(2, &reader));
            assert_eq!(back[1], (2, signal_line(2, "s", 2)), "behind open, ahead of events");
            // The connection may have been dead already: it is told again, until it is heard of.
            relay.closed(2, false);
            assert_eq!(told(&relay.connect(3, &reader)), [3]);
            relay.report("edge_1", 1, Failed);
            relay.closed(3, false);
            assert_eq!(told(&relay.connect(4, &reader)), Vec::<u64>::new(), "it has heard");
        });
    }
}

#[test]
fn a_stop_that_was_sent_may_not_have_been_heard() {
    check(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.report("edge_1", 1, Processing);
        assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [1]);
        relay.now = NOW + 1_000;
        assert_eq!(told(&relay.connect(2, &of_edge("edge_1"))), [2]);
        // A report on the stop itself says so as well.
        relay.report("edge_1", 2, Processing);
        assert_eq!(told(&relay.connect(3, &of_edge("edge_1"))), Vec::<u64>::new());
        assert_eq!(told(&relay.append(&[stop_of(3, "s")])), [1, 2, 3]);
        relay.now = relay.now + STOP_REPEATED_MS;
        assert_eq!(told(&relay.connect(4, &of_edge("edge_1"))), Vec::<u64>::new(), "long ago");
    });
}

#[test]
fn a_stop_is_not_lost_when_the_session_goes_on_elsewhere() {
    check(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.report("edge_1", 1, Processing);
        relay.closed(1, false);
        relay.append(&[stop_of(2, "s")]);
        relay.connect(2, &of_edge("edge_2"));
        relay.append(&[event_about(3, PROMPTED, "s", "")]);
        relay.report("edge_2", 3, Processing);
        assert_eq!(told(&relay.connect(3, &of_edge("edge_1"))), [3]);
    });
}

#[test]
fn a_stop_that_an_earlier_version_has_noted_is_told() {
    let mut relay = Relay::new();
    relay.append(&[event_of_kind(1, "Issue.update"), event_of_kind(2, PROMPTED)]);
    relay.connect(1, &of_edge("edge_1"));
    let (edge, key, at) = (edge("edge_1"), "session:s".to_owned(), NOW);
    let stop = Stop { id: id(2), session: "s".into(), seq: None, received_at: NOW, told_at: None };
    let holder = Holder { key, edge, at, stop: Some(stop) };
    relay_durable::LogStorage::save_holder(&mut relay.storage, &holder).unwrap();
    relay.reload();
    assert_eq!(told(&relay.connect(2, &of_edge("edge_1"))), [2]);
    relay.reload();
    relay.report("edge_1", 2, Processing);
    relay.reload();
    assert_eq!(told(&relay.connect(3, &of_edge("edge_1"))), Vec::<u64>::new());
}

#[test]
fn a_holder_that_was_away_is_told_also_when_others_were_there() {
    check(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &of_edge("edge_2"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.report("edge_1", 1, Processing);
        relay.closed(1, false);
        assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [2]);
        assert_eq!(told(&relay.connect(3, &of_edge("edge_1"))), [3]);
    });
}

#[test]
fn who_may_not_read_sessions_hears_of_no_stop() {
    let issues_only = |name: &str| Connect { allowed: kinds("Issue"), ..of_edge(name) };
    check(|mut relay| {
        relay.connect(1, &issues_only("edge_1"));
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(told(&relay.append(&[stop_of(1, "s")])), [2]);
        // Nor who worked on the session, when it comes back with less.
        relay.append(&[event_about(2, CREATED, "s", "")]);
        relay.report("edge_2", 2, Processing);
        relay.closed(2, false);
        relay.append(&[stop_of(3, "s")]);
        assert_eq!(told(&relay.connect(3, &issues_only("edge_2"))), Vec::<u64>::new());
        assert_eq!(told(&relay.connect(4, &of_edge("edge_2"))), [4], "it still waits");
    });
}

#[test]
fn an_edge_that_was_given_a_stop_does_not_hold_the_session() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        assert_eq!(who(&relay.append(&[stop_of(1, "s")])), [(1, 1, 1)]);
        relay.connect(2, &of_edge("edge_2"));
        let next = relay.append(&[event_about(2, PROMPTED, "s", "")]);
        assert_eq!(who(&next), [(2, 2, 1)], "in turn");
    });
}

fn attended(relay: &mut Relay, events: &[relay_schemas::NewEvent]) -> Vec<Attendance> {
    let (reply, _) = relay.try_append(events).unwrap();
    reply.attended
}

fn attendance(index: usize, edges: &[&str], is_held: bool) -> Attendance {
    Attendance { index, edges: edges.iter().map(|name| (*name).to_owned()).collect(), is_held }
}

#[test]
fn the_relay_knows_who_reads_an_agent_sessions_events() {
    check(|mut relay| {
        let batch = [event_of_kind(1, "Issue.update"), event_about(2, CREATED, "s", "")];
        assert_eq!(attended(&mut relay, &batch), [attendance(1, &[], false)]);
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &Connect { edge_name: None, ..of_edge("edge_2") });
        relay.connect(3, &Connect { kinds: kinds("Issue"), ..of_edge("edge_3") });
        let allowed: KindFilter = kinds("Issue.*");
        relay.connect(4, &Connect { allowed, ..of_edge("edge_4") });
        let expected = attendance(0, &["EDGE_1", "edge_2"], false);
        assert_eq!(attended(&mut relay, &batch[1..]), std::slice::from_ref(&expected));
        relay.report("edge_1", 2, Processing);
        let next = [event_about(3, PROMPTED, "s", "")];
        assert_eq!(attended(&mut relay, &next), [Attendance { is_held: true, ..expected }]);
        relay.closed(1, false);
        assert_eq!(attended(&mut relay, &next), [attendance(0, &["edge_2"], false)]);
    });
}

#[test]
fn the_relay_knows_who_was_given_an_agent_sessions_events() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &of_edge("edge_2"));
        let batch = [event_about(1, CREATED, "s", ""), event_about(2, CREATED, "t", "")];
        let expected = [attendance(0, &["EDGE_1"], false), attendance(1, &["EDGE_2"], false)];
        assert_eq!(attended(&mut relay, &batch), expected);
        let expected = [attendance(0, &["EDGE_1"], true), attendance(1, &["EDGE_2"], true)];
        assert_eq!(attended(&mut relay, &batch), expected, "a repetition tells the same");
        relay.closed(1, false);
        let next = [event_about(3, PROMPTED, "s", "")];
        assert_eq!(attended(&mut relay, &next), [attendance(0, &[], false)], "it waits");
    });
}

#[test]
fn a_report_tells_the_kind() {
    check(|mut relay| {
        relay.append(&[event_about(1, CREATED, "s", "")]);
        let reply = relay.reply("edge_1", 1, Processing);
        assert_eq!(reply.kind.as_deref(), Some(CREATED));
        assert_eq!(given(&[]), []);
    });
}
