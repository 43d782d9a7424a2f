//! Goal: what belongs together stays together, and an edge that comes or goes moves only its share.

use std::collections::BTreeMap;

use relay_durable::{Candidate, Choice, choose, score};
use relay_schemas::{EdgeId, MultiEdgeMode, ReportStatus::Processing};

use crate::{
    TIMEOUT_MS, check_round_robin, check_sticky, given, of_edge,
    support::{NOW, edge, event_about},
    who,
};

const CREATED: &str = "AgentSessionEvent.created";
const PROMPTED: &str = "AgentSessionEvent.prompted";

fn candidates(names: &[&str]) -> Vec<Candidate> {
    let candidate =
        |name: &&str| Candidate { edge: edge(name), open: 0, has_room: true, is_healthy: true };
    names.iter().map(candidate).collect()
}

fn chosen(mode: MultiEdgeMode, key: &str, pool: &[Candidate]) -> EdgeId {
    match choose(mode, key, &[], None, pool) {
        Choice::Edge(edge) => edge,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scores_are_pinned() {
    // Objects of two versions must choose the same edge.
    assert_eq!(score("issue:1", &edge("edge_1")), 5_272_321_883_042_995_733);
}

#[test]
fn an_edge_that_goes_moves_only_its_own_keys() {
    let all = candidates(&["edge_1", "edge_2", "edge_3", "edge_4"]);
    let fewer = candidates(&["edge_1", "edge_2", "edge_4"]);
    let mut shares: BTreeMap<EdgeId, usize> = BTreeMap::new();
    for number in 0..4_000 {
        let key = format!("issue:{number}");
        let before = chosen(MultiEdgeMode::Sticky, &key, &all);
        let after = chosen(MultiEdgeMode::Sticky, &key, &fewer);
        assert!(before == after || before == edge("edge_3"), "{key}");
        *shares.entry(before).or_default() += 1;
    }
    assert!(shares.values().all(|share| (900..1_100).contains(share)), "{shares:?}");
}

#[test]
fn who_has_tried_or_is_not_healthy_is_the_last_resort() {
    let check = |tried: &[&str], unhealthy: &[&str], full: &[&str], expected: Option<&str>| {
        let mut pool = candidates(&["edge_1", "edge_2", "edge_3"]);
        for one in &mut pool {
            one.is_healthy = !unhealthy.contains(&one.edge.as_str());
            one.has_room = !full.contains(&one.edge.as_str());
        }
        let tried: Vec<EdgeId> = tried.iter().map(|name| edge(name)).collect();
        let choice = choose(MultiEdgeMode::RoundRobin, "", &tried, None, &pool);
        let expected = expected.map_or(Choice::Later, |name| Choice::Edge(edge(name)));
        assert_eq!(choice, expected, "{tried:?} {unhealthy:?} {full:?}");
    };
    check(&[], &[], &[], Some("edge_1"));
    check(&["edge_1"], &[], &[], Some("edge_2"));
    check(&["edge_1", "edge_2", "edge_3"], &[], &[], Some("edge_1"));
    check(&["edge_2", "edge_3", "edge_1"], &[], &[], Some("edge_2"));
    check(&[], &["edge_1"], &[], Some("edge_2"));
    check(&[], &["edge_1", "edge_2", "edge_3"], &[], Some("edge_1"));
    check(&["edge_1", "edge_2"], &["edge_3"], &[], Some("edge_3"));
    check(&[], &[], &["edge_1"], Some("edge_2"));
    check(&[], &["edge_1", "edge_2"], &["edge_3"], None);
}

#[test]
fn turns_go_on_after_the_last_edge() {
    let pool = candidates(&["edge_1", "edge_2", "edge_3"]);
    for (last, expected) in [("edge_1", "edge_2"), ("edge_2", "edge_3"), ("edge_3", "edge_1")] {
        let choice = choose(MultiEdgeMode::RoundRobin, "", &[], Some(&edge(last)), &pool);
        assert_eq!(choice, Choice::Edge(edge(expected)));
    }
}

#[test]
fn a_session_stays_with_its_holder() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        assert_eq!(who(&relay.append(&[event_about(1, CREATED, "s", "")])), [(1, 1, 1)]);
        relay.connect(2, &of_edge("edge_2"));
        let batch: Vec<_> = (2..=6).map(|n| event_about(n, PROMPTED, "s", "")).collect();
        let sent = given(&relay.append(&batch));
        assert!(sent.iter().all(|one| one.connection == 1), "{sent:?}");
        assert_eq!(sent.len(), 5);
        // While its machine is away for a moment, the session waits for it.
        relay.closed(1, false);
        assert_eq!(given(&relay.append(&[event_about(7, PROMPTED, "s", "")])), []);
        assert_eq!(who(&relay.append(&[event_about(8, CREATED, "t", "")])), [(2, 8, 1)]);
        relay.now = NOW + TIMEOUT_MS - 1;
        let back = who(&relay.connect(3, &of_edge("edge_1")));
        assert_eq!(back.last(), Some(&(3, 7, 1)), "{back:?}");
        // When it stays away, another gets it.
        relay.closed(3, false);
        relay.append(&[event_about(9, PROMPTED, "s", "")]);
        relay.now = relay.now + TIMEOUT_MS;
        let moved = who(&relay.alarm());
        assert!(moved.contains(&(2, 9, 1)), "{moved:?}");
    });
}

#[test]
fn an_issue_stays_with_its_holder() {
    check_sticky(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        let about = |number, issue: &str| event_about(number, "Issue.update", "", issue);
        let batch: Vec<_> = (1..=8).map(|n| about(n, &format!("i-{n}"))).collect();
        relay.append(&batch);
        relay.connect(2, &of_edge("edge_2"));
        let again: Vec<_> = (9..=16).map(|n| about(n, &format!("i-{}", n - 8))).collect();
        let sent = given(&relay.append(&again));
        assert!(sent.iter().all(|one| one.connection == 1), "{sent:?}");
        let others: Vec<_> = (17..=48).map(|n| about(n, &format!("i-{n}"))).collect();
        (1..=16).for_each(|n| drop(relay.report("edge_1", n, Processing)));
        let sent = given(&relay.append(&others));
        assert!(sent.iter().any(|one| one.connection == 2), "{sent:?}");
    });
}
