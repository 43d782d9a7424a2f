//! Goal: a stop reaches whoever is given what came before it, whenever that is, and is forgotten only
//! by who has heard it.

use relay_schemas::{
    Connect,
    ReportStatus::{Completed, Failed, Processing},
    limits::STOP_REPEATED_MS,
};

use crate::{
    TIMEOUT_MS, check_round_robin, lines, of_edge,
    support::{NOW, event_about, event_of_kind, stop_of},
    who, with_capacity,
};

const CREATED: &str = "AgentSessionEvent.created";

const NOBODY: [u64; 0] = [];

/// The types of the lines that are sent.
fn types(commands: &[relay_durable::Command]) -> Vec<(u64, &'static str)> {
    let kind = |line: &str| match line {
        line if line.starts_with(r#"{"type":"signal""#) => Some("signal"),
        line if line.starts_with(r#"{"type":"webhook""#) => Some("webhook"),
        _ => None,
    };
    lines(commands).into_iter().filter_map(|(id, line)| Some((id, kind(&line)?))).collect()
}

fn told(commands: &[relay_durable::Command]) -> Vec<u64> {
    let signals = types(commands).into_iter().filter(|(_, kind)| *kind == "signal");
    signals.map(|(id, _)| id).collect()
}

#[test]
fn a_stop_goes_ahead_of_work_that_has_waited_for_room() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 1));
        relay.append(&[event_of_kind(1, "Issue.update")]);
        relay.append(&[event_about(2, CREATED, "s", "")]);
        assert_eq!(told(&relay.append(&[stop_of(3, "s")])), NOBODY, "nobody works on it");
        let next = relay.report("edge_1", 1, Completed);
        assert_eq!(types(&next), [(1, "signal"), (1, "webhook")]);
        assert_eq!(who(&next), [(1, 2, 1)]);
        // What the person says later is wanted.
        let next = relay.report("edge_1", 2, Completed);
        assert_eq!((types(&next), who(&next)), (vec![(1, "webhook")], vec![(1, 3, 1)]));
        relay.append(&[event_about(4, CREATED, "s", "")]);
        assert_eq!(types(&relay.report("edge_1", 3, Completed)), [(1, "webhook")]);
    });
}

#[test]
fn a_stop_goes_ahead_of_work_that_came_with_it() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        let batch = [event_about(1, CREATED, "s", ""), event_about(2, CREATED, "s", "")];
        let commands = relay.append(&[&batch[..], &[stop_of(3, "s")]].concat());
        let expected = [(1, "signal"), (1, "webhook"), (1, "webhook"), (1, "webhook")];
        assert_eq!(types(&commands), expected);
    });
}

#[test]
fn a_stop_follows_work_that_failed_to_the_next_machine() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.connect(2, &of_edge("edge_2"));
        relay.report("edge_1", 1, Failed);
        assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [1]);
        relay.report("edge_1", 2, Completed);
        relay.now = NOW + TIMEOUT_MS;
        let given = relay.alarm();
        assert_eq!(who(&given), [(2, 1, 2)]);
        assert_eq!(types(&given), [(2, "signal"), (2, "webhook")]);
        relay.report("edge_2", 1, Completed);
        assert_eq!(told(&relay.connect(3, &of_edge("edge_2"))), NOBODY, "it has heard");
    });
}

#[test]
fn a_report_from_before_the_stop_was_told_says_nothing_of_it() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", ""), event_about(2, CREATED, "s", "")]);
        relay.report("edge_1", 2, Processing);
        relay.closed(1, false);
        relay.append(&[stop_of(3, "s")]);
        relay.report("edge_1", 1, Completed);
        assert_eq!(told(&relay.connect(2, &of_edge("edge_1"))), [2]);
    });
}

#[test]
fn an_end_says_nothing_of_what_else_runs_from_before_the_stop() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", ""), event_about(2, CREATED, "s", "")]);
        relay.append(&[stop_of(3, "s"), event_about(4, CREATED, "s", "")]);
        relay.report("edge_1", 1, Completed);
        assert_eq!(told(&relay.connect(2, &of_edge("edge_1"))), [2]);
        relay.report("edge_1", 2, Completed);
        assert_eq!(told(&relay.connect(3, &of_edge("edge_1"))), NOBODY, "what came later may run");
    });
}

#[test]
fn a_stop_that_was_sent_where_nobody_works_is_told_again() {
    let watching = |name: &str| Connect { capacity: Some(0), ..of_edge(name) };
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &watching("edge_1"));
        relay.append(&[event_about(1, CREATED, "s", "")]);
        relay.closed(1, false);
        assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [2]);
        assert_eq!(told(&relay.connect(3, &watching("edge_1"))), [3]);
        relay.now = NOW + STOP_REPEATED_MS;
        assert_eq!(told(&relay.connect(4, &of_edge("edge_1"))), [4]);
    });
}

#[test]
fn a_stop_that_was_sent_into_a_dead_connection_is_told_again() {
    let told_after_death = |last_ping_at| {
        check_round_robin(move |mut relay| {
            relay.connect(1, &of_edge("edge_1"));
            relay.append(&[event_about(1, CREATED, "s", "")]);
            relay.report("edge_1", 1, Processing);
            relay.now = NOW + 1_000;
            assert_eq!(told(&relay.append(&[stop_of(2, "s")])), [1]);
            relay.now = NOW + 60_000;
            relay.end_silent(&[(1, last_ping_at)]);
            relay.now = NOW + 1_000 + STOP_REPEATED_MS;
            let is_told_again = last_ping_at == NOW;
            let expected = if is_told_again { vec![2] } else { vec![] };
            assert_eq!(told(&relay.connect(2, &of_edge("edge_1"))), expected);
        });
    };
    told_after_death(NOW);
    // It was alive when it was told.
    told_after_death(NOW + 2_000);
}
