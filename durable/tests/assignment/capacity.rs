//! Goal: a machine has no more events than it works on at once, and what waits behind its work is
//! not taken for silence.

use relay_durable::LeaseState;
use relay_schemas::{
    Connect, Dialect, Frame,
    ReportStatus::{Completed, Failed, Processing},
    limits::{ASSIGNMENT_WINDOW, LEASE_MS_MAX},
};

use crate::{
    TIMEOUT_MS, check_round_robin, check_sticky, given, lines, of_edge,
    support::{NOW, event_about, events},
    who, with_capacity,
};

#[test]
fn a_machine_has_as_many_events_as_it_works_on_at_once() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 2));
        assert_eq!(who(&relay.append(&events(1..=5))), [(1, 1, 1), (1, 2, 1)]);
        assert_eq!(who(&relay.report("edge_1", 1, Processing)), [], "it has the event yet");
        assert_eq!(who(&relay.report("edge_1", 1, Completed)), [(1, 3, 1)]);
        // What waits goes to whoever has room.
        assert_eq!(who(&relay.connect(2, &with_capacity("edge_2", 1))), [(2, 4, 1)]);
        assert_eq!(who(&relay.report("edge_2", 4, Completed)), [(2, 5, 1)]);
    });
}

#[test]
fn a_session_waits_for_its_machine_to_have_room() {
    check_sticky(|mut relay| {
        let prompt = |number| event_about(number, "AgentSessionEvent.prompted", "s-1", "i-1");
        relay.connect(1, &with_capacity("edge_1", 1));
        assert_eq!(who(&relay.append(&[prompt(1), prompt(2)])), [(1, 1, 1)]);
        assert_eq!(who(&relay.connect(2, &with_capacity("edge_2", 9))), [], "it is not another's");
        assert_eq!(who(&relay.report("edge_1", 1, Completed)), [(1, 2, 1)]);
    });
}

#[test]
fn who_says_nothing_of_its_capacity_has_the_window() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        let window = ASSIGNMENT_WINDOW as u64;
        assert_eq!(given(&relay.append(&events(1..=2 * window))).len() as u64, window);
        // A greater one than the window is taken at its word.
        let many = given(&relay.connect(2, &with_capacity("edge_2", 200)));
        assert_eq!(many.len() as u64, window);
    });
}

#[test]
fn who_only_watches_is_given_nothing_and_waited_for_by_nothing() {
    let blind = Connect { may_report: false, capacity: Some(4), ..of_edge("edge_1") };
    for watcher in [with_capacity("edge_1", 0), blind] {
        check_round_robin(|mut relay| {
            let opened = lines(&relay.connect(1, &watcher));
            let Ok(Frame::Open(open)) = Frame::parse(&opened[0].1) else { panic!("{opened:?}") };
            assert_eq!((open.mode.as_deref(), open.capacity), (Some("roundrobin"), Some(0)));
            assert_eq!(given(&relay.append(&events(1..=1))), []);
            assert_eq!(who(&relay.connect(2, &of_edge("edge_2"))), [(2, 1, 1)]);
            assert_eq!(who(&relay.append(&events(2..=2))), [(2, 2, 1)]);
            relay.closed(1, false);
            relay.closed(2, true);
            let other = Connect { kinds: crate::support::kinds("Comment"), ..of_edge("edge_3") };
            assert_eq!(who(&relay.connect(3, &other)), []);
            let state = relay.stream.state().unwrap();
            let edges = serde_json::to_value(state).unwrap()["edges"].clone();
            assert!(edges.as_array().unwrap().iter().all(|one| one["edge"] != "edge_1"), "{edges}");
        });
    }
}

#[test]
fn who_only_watches_holds_no_event_back() {
    check_sticky(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 0));
        relay.connect(2, &of_edge("edge_2"));
        let sent = who(&relay.append(&events(1..=12)));
        assert_eq!(sent.len(), 12, "one by the hash of each: {sent:?}");
    });
}

#[test]
fn a_watching_connection_takes_nothing_of_its_machines_work() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 1));
        relay.append(&events(1..=1));
        relay.report("edge_1", 1, Processing);
        assert_eq!(given(&relay.connect(2, &with_capacity("edge_1", 0))), [], "nothing again");
        // With the connection that works, the machine is gone.
        relay.connect(3, &of_edge("edge_2"));
        assert_eq!(who(&relay.closed(1, true)), [(3, 1, 2)]);
    });
}

#[test]
fn the_newest_of_a_machines_connections_with_room_is_sent_an_event() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 2));
        relay.now = NOW + 1;
        relay.connect(2, &with_capacity("edge_1", 1));
        assert_eq!(who(&relay.append(&events(1..=3))), [(1, 2, 1), (2, 1, 1)]);
    });
}

#[test]
fn what_waits_behind_a_run_is_not_taken_for_silence() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 3));
        relay.append(&events(1..=3));
        relay.now = NOW + 1_000;
        relay.report("edge_1", 1, Processing);
        relay.connect(2, &of_edge("edge_2"));
        relay.now = NOW + 50 * TIMEOUT_MS;
        assert_eq!(given(&relay.alarm()), [], "it is busy");
        relay.report("edge_1", 1, Completed);
        let freed_at = relay.now;
        assert_eq!(relay.stream.next_alarm(), Some(freed_at + TIMEOUT_MS));
        relay.now = freed_at + (TIMEOUT_MS - 1);
        assert_eq!(given(&relay.alarm()), [], "it has just finished one");
        relay.report("edge_1", 2, Processing);
        relay.now = freed_at + 20 * TIMEOUT_MS;
        relay.report("edge_1", 2, Failed);
        let leases = relay.stream.assignment().leases().clone();
        let third = leases.values().find(|one| one.seq.get() == 3).unwrap();
        assert!(matches!(&third.state, LeaseState::Held { .. }) && third.attempt == 1);
        // Now it is silent.
        relay.now = relay.now + TIMEOUT_MS;
        assert!(who(&relay.alarm()).contains(&(2, 3, 2)));
    });
}

#[test]
fn while_a_machine_has_something_its_pings_are_looked_at() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.connect(2, &Connect { dialect: Dialect::Ndjson, ..of_edge("edge_2") });
        assert_eq!(relay.stream.next_alarm(), Some(of_edge("edge_1").expires_at), "none is idle");
        relay.append(&events(1..=2));
        relay.report("edge_1", 1, Processing);
        relay.report("edge_2", 2, Processing);
        let due = NOW + TIMEOUT_MS;
        assert_eq!(relay.stream.next_alarm(), Some(due));
        relay.now = due;
        relay.reload();
        assert_eq!(relay.end_silent(&[(1, due)]), []);
        assert_eq!(relay.stream.next_alarm(), Some(due + TIMEOUT_MS));
        relay.now = due + TIMEOUT_MS;
        assert_ne!(relay.end_silent(&[(1, due)]), [], "it has vanished");
        assert_eq!(relay.stream.next_alarm(), Some(relay.now + TIMEOUT_MS), "it may come back");
        relay.now = relay.now + TIMEOUT_MS;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2)]);
        relay.report("edge_2", 1, Processing);
        assert!(
            relay.stream.next_alarm() > Some(NOW + 10 * TIMEOUT_MS),
            "a bridge's are the Worker's"
        );
    });
}

#[test]
fn a_busy_machine_that_is_gone_for_long_has_lost_what_waited_too() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 2));
        relay.append(&events(1..=2));
        relay.report("edge_1", 1, Processing);
        relay.now = NOW + 5 * TIMEOUT_MS;
        relay.closed(1, false);
        let gone_at = relay.now;
        relay.connect(2, &of_edge("edge_2"));
        relay.now = gone_at + (TIMEOUT_MS - 1);
        assert_eq!(given(&relay.alarm()), []);
        relay.now = gone_at + TIMEOUT_MS;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2), (2, 2, 2)]);
    });
}

#[test]
fn who_works_on_something_for_too_long_is_busy_no_more() {
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 2));
        relay.append(&events(1..=2));
        relay.report("edge_1", 1, Processing);
        relay.connect(2, &of_edge("edge_2"));
        relay.now = NOW + LEASE_MS_MAX;
        assert_eq!(who(&relay.alarm()), [(2, 1, 2), (2, 2, 2)]);
    });
}
