//! Goal: an edge that is silent is given nothing while others are there, and operators see how each
//! edge does.

use relay_schemas::{
    ReportStatus::{Completed, Failed, Processing},
    limits::LEASE_MS_MAX,
};
use serde_json::{Value, json};

use crate::{
    TIMEOUT_MS, check_round_robin, of_edge,
    support::{NOW, Relay, check, edge, event_about, events},
    who, with_capacity,
};

fn state(relay: &Relay, place: usize) -> Value {
    serde_json::to_value(relay.stream.state().unwrap()).unwrap()["edges"][place].clone()
}

#[test]
fn three_silences_in_a_row_are_unhealthy_until_the_next_report() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=3));
        relay.now = NOW + TIMEOUT_MS;
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(relay.stream.assignment().leased_to(&crate::support::edge("edge_2")).len(), 3);
        (1..=3).for_each(|number| drop(relay.report("edge_2", number, Completed)));
        assert_eq!(state(&relay, 0)["timeouts_in_a_row"], 3);
        assert_eq!(state(&relay, 0)["is_healthy"], false);
        // Though the other has more.
        assert_eq!(who(&relay.append(&events(4..=5))), [(2, 4, 1), (2, 5, 1)]);
        relay.closed(2, true);
        assert_eq!(state(&relay, 0)["open_leases"], 2, "nobody else is there");
        relay.report("edge_1", 4, Processing);
        assert_eq!(state(&relay, 0)["is_healthy"], true);
    });
}

#[test]
fn an_operator_sees_how_each_edge_does() {
    check(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=4));
        for (number, after_ms, status) in
            [(1, 10, Completed), (2, 20, Failed), (3, 30, Failed), (4, 400, Processing)]
        {
            relay.now = NOW + after_ms;
            relay.report("edge_1", number, status);
        }
        let mut expected = json!({
            "edge": "edge_1", "name": "EDGE_1", "connections": 1, "disconnected_at": null,
            "last_report_at": NOW + 400, "response_ms_last": 400, "response_ms_median": 30,
            "timeouts_in_a_row": 0, "failures_in_a_row": 2, "open_leases": 0, "is_healthy": true,
        });
        assert_eq!(state(&relay, 0), expected);
        relay.now = NOW + 500;
        relay.closed(1, false);
        expected["connections"] = json!(0);
        expected["disconnected_at"] = json!(NOW + 500);
        relay.reload();
        assert_eq!(state(&relay, 0), expected);
    });
}

#[test]
fn a_session_does_not_wait_for_a_silent_holder() {
    let of_session = |number| event_about(number, "AgentSessionEvent.prompted", "s", "");
    check_round_robin(|mut relay| {
        relay.connect(1, &with_capacity("edge_1", 4));
        relay.append(&(1..=4).map(of_session).collect::<Vec<_>>());
        relay.report("edge_1", 4, Processing);
        relay.now = NOW + LEASE_MS_MAX;
        relay.alarm();
        assert_eq!(state(&relay, 0)["is_healthy"], false);
        assert_eq!(relay.stream.assignment().leased_to(&edge("edge_1")).len(), 4, "nobody else");
        relay.connect(2, &of_edge("edge_2"));
        assert_eq!(who(&relay.append(&[of_session(5)])), [(2, 5, 1)]);
    });
}
