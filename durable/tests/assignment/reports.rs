//! Goal: only the edge that has an event is heard, and what it says decides what becomes of it.

use relay_durable::StreamSettings;
use relay_schemas::{
    ErrorCode, MultiEdgeMode,
    ReportStatus::{Completed, Failed, Processing},
};

use crate::{
    TIMEOUT_MS, check_round_robin, given, of_edge, settings,
    support::{NOW, Relay, check, check_with, events},
    who,
};

fn check_refused(relay: &mut Relay, name: &str, number: u64, assigned_to: Option<&str>) {
    for status in [Processing, Completed, Failed] {
        let problem = relay.try_report(name, number, status).unwrap_err();
        assert_eq!(problem.code, ErrorCode::EventReassigned);
        let expected = assigned_to.map(|name| ("assigned_to", name.to_owned()));
        assert_eq!(problem.details, Vec::from_iter(expected));
    }
}

#[test]
fn a_late_result_is_refused_and_changes_nothing() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        check_refused(&mut relay, "edge_2", 1, Some("EDGE_1"));
        relay.now = NOW + TIMEOUT_MS;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2)]);
        let before = relay.stream.assignment().leases().clone();
        check_refused(&mut relay, "edge_1", 1, Some("EDGE_2"));
        assert_eq!(*relay.stream.assignment().leases(), before);
        relay.report("edge_2", 1, Completed);
        assert!(relay.stream.assignment().leases().is_empty());
        check_refused(&mut relay, "edge_1", 1, Some("EDGE_2"));
        // Of the one that has finished it a report may come again.
        relay.report("edge_2", 1, Completed);
    });
}

#[test]
fn a_failed_event_goes_to_another_after_a_pause_and_then_around() {
    let fails = |relay: &mut Relay, name: &str| {
        assert_eq!(who(&relay.report(name, 1, Failed)), []);
        relay.now = relay.now + TIMEOUT_MS;
        who(&relay.alarm())
    };
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        relay.connect(3, &of_edge("edge_3"));
        assert_eq!(fails(&mut relay, "edge_1"), [(2, 1, 2)]);
        check_refused(&mut relay, "edge_1", 1, Some("EDGE_2"));
        assert_eq!(fails(&mut relay, "edge_2"), [(3, 1, 3)]);
        let again = fails(&mut relay, "edge_3");
        assert!(again == [(1, 1, 4)] || again == [(2, 1, 4)], "not the last again: {again:?}");
    });
}

#[test]
fn a_report_of_failure_may_come_again() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        assert!(relay.reply("edge_1", 1, Failed).retried);
        let before = relay.stream.assignment().leases().clone();
        assert!(relay.reply("edge_1", 1, Failed).retried, "its answer was lost");
        assert_eq!(*relay.stream.assignment().leases(), before);
        assert!(relay.try_report("edge_1", 1, Completed).is_err(), "it has it no more");
        assert!(relay.try_report("edge_2", 1, Failed).is_err());
    });
}

#[test]
fn a_failed_event_is_finished_where_failures_are_final() {
    let settings = StreamSettings { retry_failed: false, ..settings(MultiEdgeMode::RoundRobin) };
    check_with(settings, |mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(given(&relay.report("edge_1", 1, Failed)), []);
        assert!(relay.stream.assignment().leases().is_empty());
        check_refused(&mut relay, "edge_2", 1, Some("EDGE_1"));
    });
}

#[test]
fn who_fell_silent_may_finish_while_nobody_else_has_it() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=1));
        relay.closed(1, false);
        relay.now = NOW + TIMEOUT_MS;
        relay.alarm();
        check_refused(&mut relay, "edge_2", 1, None);
        relay.report("edge_1", 1, Completed);
        assert_eq!(given(&relay.connect(2, &of_edge("edge_2"))), []);
    });
}

#[test]
fn nobody_reports_on_what_nobody_was_given() {
    check_round_robin(|mut relay| {
        relay.append(&events(1..=1));
        check_refused(&mut relay, "edge_1", 1, None);
    });
}

#[test]
fn where_every_edge_reads_everything_every_report_is_kept() {
    check(|mut relay| {
        relay.append(&events(1..=1));
        for name in ["edge_1", "edge_2"] {
            for status in [Processing, Completed, Failed] {
                assert_eq!(given(&relay.report(name, 1, status)), []);
            }
        }
    });
}
