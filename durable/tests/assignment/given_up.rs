//! Goal: what no edge finishes goes to the dead letters, whole, and comes back when it is put back.

use relay_durable::{AssignedHead, Command, Lease, LeaseState, LogStorage, StreamSettings};
use relay_schemas::{
    MultiEdgeMode, QueueMessage,
    ReportStatus::{Completed, Failed, Processing},
    limits::{ASSIGNMENT_ATTEMPTS_MAX, FAILED_PAUSES, GIVE_UP_RETRY_MS},
};

use crate::{
    TIMEOUT_MS, check_round_robin, given, of_edge, settings,
    support::{Relay, check_with, event, event_about, id},
    who,
};

/// Lets the event 1 fail as often as it may.
fn fail_out(relay: &mut Relay) -> Vec<Command> {
    relay.connect(1, &of_edge("edge_1"));
    for (attempt, pause) in (1..ASSIGNMENT_ATTEMPTS_MAX).zip(FAILED_PAUSES) {
        assert_eq!(who(&relay.report("edge_1", 1, Failed)), [], "not at once");
        let due = relay.now + TIMEOUT_MS * pause / 12;
        assert_eq!(relay.stream.next_alarm(), Some(due));
        relay.now = due;
        assert_eq!(who(&relay.alarm()), [(1, 1, attempt + 1)]);
    }
    relay.report("edge_1", 1, Failed)
}

#[test]
fn a_report_says_whether_the_event_goes_on() {
    check_round_robin(|mut relay| {
        relay.append(&[event(1), event(2)]);
        relay.connect(1, &of_edge("edge_1"));
        assert!(!relay.reply("edge_1", 1, Processing).retried);
        assert!(relay.reply("edge_1", 1, Failed).retried);
        assert!(!relay.reply("edge_1", 2, Completed).retried);
        for _ in 2..ASSIGNMENT_ATTEMPTS_MAX {
            relay.now = relay.now + TIMEOUT_MS;
            relay.alarm();
            assert!(relay.reply("edge_1", 1, Failed).retried);
        }
        relay.now = relay.now + TIMEOUT_MS;
        relay.alarm();
        assert!(!relay.reply("edge_1", 1, Failed).retried, "that was the last time");
        assert_eq!(relay.given_up[0].silent, None, "it has said so itself");
    });
    let kept = StreamSettings { retry_failed: false, ..settings(MultiEdgeMode::RoundRobin) };
    check_with(kept, |mut relay| {
        relay.append(&[event(1)]);
        relay.connect(1, &of_edge("edge_1"));
        assert!(!relay.reply("edge_1", 1, Failed).retried);
    });
}

#[test]
fn who_was_silent_to_the_end_is_named() {
    check_round_robin(|mut relay| {
        relay.append(&[event_about(1, "AgentSessionEvent.created", "s", "")]);
        relay.connect(1, &of_edge("edge_1"));
        while relay.given_up.is_empty() {
            relay.now = relay.now + TIMEOUT_MS;
            relay.alarm();
        }
        let letter = &relay.given_up[0];
        let name = letter.silent.as_ref().map(|one| (one.id.as_str(), one.name.as_str()));
        assert_eq!(name, Some(("edge_1", "EDGE_1")));
        assert_eq!(letter.kind, "AgentSessionEvent.created");
    });
}

fn is_given_up(relay: &Relay) -> bool {
    assert!(relay.stream.assignment().leases().len() < 2);
    relay.storage.given_up(id(1)).unwrap().is_some()
}

#[test]
fn an_event_is_given_up_whole_and_told_until_it_is_there() {
    check_round_robin(|mut relay| {
        let event = event_about(1, "Issue.update", "", "i");
        relay.append(std::slice::from_ref(&event));
        assert_eq!(given(&fail_out(&mut relay)), []);
        let [letter] = &relay.given_up[..] else { panic!("{:?}", relay.given_up) };
        assert_eq!((letter.seq.get(), letter.attempts), (1, ASSIGNMENT_ATTEMPTS_MAX));
        assert_eq!(letter.reason, "assignment: given to 5 edges; last: failed");
        let text = letter.message.encode(&letter.body);
        let (message, body) = QueueMessage::decode(&text).unwrap();
        assert_eq!((message.id, body), (event.id, r#"{"number":1}"#));
        assert_eq!(message.received_at, event.received_at);
        assert_eq!(message.delivery.as_deref(), Some("d-1"));
        let returned = message.returned.expect("the stream that it goes back to");
        assert_eq!((returned.channel.to_string().as_str(), returned.own), ("user:u-1", false));
        assert_eq!(message.headers, [("Linear-Signature".to_owned(), "ab".to_owned())]);
        // The shell could not send it, or was reset.
        assert!(!is_given_up(&relay));
        relay.now = relay.now + GIVE_UP_RETRY_MS;
        assert!(relay.stream.next_alarm().unwrap() <= relay.now);
        relay.alarm();
        assert!(relay.given_up.len() >= 2);
        assert_eq!(relay.given_up.first(), relay.given_up.last());
        relay.stream.gave_up(letter_seq()).unwrap();
        let told = relay.given_up.len();
        relay.now = relay.now + 10 * GIVE_UP_RETRY_MS;
        relay.alarm();
        assert!(is_given_up(&relay));
        assert_eq!(relay.given_up.len(), told);
    });
}

#[test]
fn a_record_that_makes_no_letter_holds_up_nothing() {
    check_round_robin(|mut relay| {
        let mut event = event_about(1, "Issue.update", "", "i");
        event.record = event.record.replace(r#","data":"#, r#","nothing":"#);
        relay.append(std::slice::from_ref(&event));
        fail_out(&mut relay);
        assert_eq!(relay.given_up, []);
        assert!(relay.stream.assignment().leases().is_empty());
    });
}

fn letter_seq() -> relay_schemas::Seq {
    relay_schemas::Seq::new(1)
}

#[test]
fn what_is_put_back_begins_anew_in_its_place() {
    check_round_robin(|mut relay| {
        let event = event_about(1, "Issue.update", "", "i");
        relay.append(std::slice::from_ref(&event));
        fail_out(&mut relay);
        relay.stream.gave_up(letter_seq()).unwrap();
        assert!(relay.try_report("edge_1", 1, Completed).is_err());
        let again = relay.append(std::slice::from_ref(&event));
        assert_eq!(who(&again), [(1, 1, 1)]);
        assert_eq!(relay.stream.log().tail().get(), 1);
        relay.report("edge_1", 1, Completed);
        assert_eq!(given(&relay.append(&[event])), [], "finished: a duplicate is one");
    });
}

#[test]
fn what_is_sealed_by_then_stands_again_at_the_end() {
    let settings = StreamSettings { seal_bytes: 1, ..settings(MultiEdgeMode::RoundRobin) };
    check_with(settings, |mut relay| {
        relay.append(&[event(1)]);
        fail_out(&mut relay);
        assert_eq!(relay.seal(), [], "its record is needed for the letter");
        relay.stream.gave_up(letter_seq()).unwrap();
        assert_eq!(relay.seal().len(), 1);
        let again = given(&relay.append(&[event(1)]));
        assert_eq!((again[0].number, again[0].attempt, again[0].cursor), (1, 1, 2));
        assert_eq!(relay.stream.log().tail().get(), 2);
        relay.report("edge_1", 1, Completed);
        assert_eq!(given(&relay.append(&[event(1)])), []);
        assert_eq!(relay.stream.log().tail().get(), 2);
    });
}

#[test]
fn what_an_earlier_version_has_given_up_is_put_back_as_well() {
    let mut relay = Relay::with_settings(settings(MultiEdgeMode::RoundRobin));
    relay.append(&[event_about(1, "Issue.update", "", "i")]);
    relay.connect(1, &of_edge("edge_1"));
    let lease = relay.stream.assignment().leases().values().next().unwrap().clone();
    let lease = Lease { state: LeaseState::GivenUp, ..lease };
    relay.storage.save_lease(&lease).unwrap();
    let head = AssignedHead { until: lease.seq, ..AssignedHead::default() };
    relay.storage.save_assigned(&head).unwrap();
    relay.reload();
    assert!(relay.stream.assignment().leases().is_empty());
    relay.append(&[event(2)]);
    assert!(relay.storage.load_leases().unwrap().iter().all(|one| one.seq != lease.seq));
    assert!(relay.try_report("edge_1", 1, Completed).is_err());
    relay.reload();
    let again = relay.append(&[event_about(1, "Issue.update", "", "i")]);
    assert_eq!(who(&again), [(1, 1, 1)]);
}

#[test]
fn retention_forgets_what_was_given_up() {
    check_round_robin(|mut relay| {
        relay.append(&[event(1)]);
        fail_out(&mut relay);
        relay.stream.gave_up(letter_seq()).unwrap();
        relay.now = relay.now + crate::support::RETENTION_MS;
        relay.alarm();
        assert_eq!(relay.storage.count_given_up().unwrap(), 0);
        assert_eq!(relay.stream.assignment().given_up_count(), 0);
    });
}
