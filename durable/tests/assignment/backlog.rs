//! Goal: what waits for a machine that is away keeps nothing back of those that are there, and a
//! backlog that is worked off is not sealed crumb by crumb.

use relay_durable::StreamSettings;
use relay_schemas::{
    Connect, MultiEdgeMode,
    ReportStatus::Completed,
    limits::{ASSIGNMENT_ABSENT_MAX, ASSIGNMENT_OPEN_MAX, SEAL_AGE_SHARE, SEAL_LOOK_MS},
};

use crate::{
    of_edge, settings,
    support::{Relay, event, event_alone, event_of_kind, kinds},
    who,
};

#[test]
fn events_for_absent_machines_keep_nothing_back_of_those_that_are_there() {
    let mut relay = Relay::with_settings(settings(MultiEdgeMode::RoundRobin));
    let comments = Connect { kinds: kinds("Comment"), ..of_edge("edge_2") };
    relay.connect(1, &Connect { kinds: kinds("Issue"), ..of_edge("edge_1") });
    relay.connect(2, &comments);
    relay.closed(2, true);
    let count = ASSIGNMENT_OPEN_MAX as u64 + 100;
    let batch: Vec<_> = (1..=count).map(|n| event_of_kind(n, "Comment.create")).collect();
    relay.append(&batch);
    relay.append(&[event(count + 1)]);
    let mut letters = 0;
    let mut given = Vec::new();
    while !relay.given_up.is_empty() {
        for letter in std::mem::take(&mut relay.given_up) {
            assert_eq!(
                letter.reason,
                "assignment: given to 0 edges; last: too many wait for absent edges"
            );
            relay.stream.gave_up(letter.seq).unwrap();
            letters += 1;
        }
        let is_due = relay.stream.next_alarm().is_some_and(|due| due <= relay.now);
        assert!(
            is_due || letters == count - ASSIGNMENT_ABSENT_MAX as u64,
            "the next follow at once"
        );
        given.extend(who(&relay.alarm()));
    }
    assert_eq!(given, [(1, count + 1, 1)]);
    assert_eq!(letters, count - ASSIGNMENT_ABSENT_MAX as u64);
    assert_eq!(relay.stream.assignment().waiting().len(), ASSIGNMENT_ABSENT_MAX);
    assert_eq!(who(&relay.connect(3, &comments))[0], (3, 1, 1));
}

#[test]
fn what_is_finished_of_a_backlog_is_sealed_in_pieces_worth_it() {
    let events_in_piece = 8;
    let piece_bytes = events_in_piece * event_alone(1).record.len() as u64;
    let settings = StreamSettings {
        seal_bytes: SEAL_AGE_SHARE * piece_bytes,
        ..settings(MultiEdgeMode::RoundRobin)
    };
    let mut relay = Relay::with_settings(settings);
    let count = 5 * events_in_piece;
    relay.append(&(1..=count).map(event_alone).collect::<Vec<_>>());
    relay.connect(1, &of_edge("edge_1"));
    let mut sealed = Vec::new();
    for number in 1..=count {
        relay.grant(1, 200_000);
        relay.report("edge_1", number, Completed);
        sealed.extend(relay.seal());
        relay.now = relay.now + SEAL_LOOK_MS / 2;
        assert_eq!(relay.seal(), [], "it was looked at a moment ago");
        relay.now = relay.now + SEAL_LOOK_MS / 2;
    }
    let sizes: Vec<u64> = sealed.iter().map(relay_schemas::SegmentEntry::count).collect();
    let (last, others) = sizes.split_last().unwrap();
    assert!(others.iter().all(|size| *size >= events_in_piece) && *last <= count, "{sizes:?}");
    // What is left of it is sealed with its age, whoever has what follows.
    relay.append(&[event_alone(count + 1)]);
    relay.append(&[event_alone(count + 2)]);
    relay.report("edge_1", count + 1, Completed);
    relay.now = relay.now + settings.seal_age_ms;
    relay.report("edge_1", count + 2, relay_schemas::ReportStatus::Processing);
    assert_eq!(relay.seal().len(), 1);
}

#[test]
fn one_open_lease_on_a_large_hot_tail_wakes_nobody_until_something_is_finished() {
    let seal_bytes = SEAL_AGE_SHARE * 3 * event_alone(1).record.len() as u64;
    let settings = StreamSettings { seal_bytes, ..settings(MultiEdgeMode::RoundRobin) };
    let mut relay = Relay::with_settings(settings);
    let began_at = relay.now;
    relay.connect(1, &crate::with_capacity("edge_1", 100));
    for number in 1..=20 {
        relay.append(&[event_alone(number)]);
        relay.grant(1, 200_000);
    }
    for number in (1..=20).filter(|number| *number != 2) {
        relay.report("edge_1", number, Completed);
    }
    relay.report("edge_1", 2, relay_schemas::ReportStatus::Processing);
    assert_eq!(relay.seal(), []);
    let due = relay.stream.next_alarm().unwrap();
    assert!(due > relay.now + 2 * SEAL_LOOK_MS, "in {} ms", due.since_ms(relay.now));
    // With its age what is finished goes, and with its end all of it.
    relay.now = began_at + settings.seal_age_ms;
    relay.report("edge_1", 2, relay_schemas::ReportStatus::Processing);
    assert_eq!(relay.seal().iter().map(relay_schemas::SegmentEntry::count).sum::<u64>(), 1);
    relay.report("edge_1", 2, Completed);
    assert!(!relay.seal().is_empty());
}
