//! Goal: what no edge finishes goes to the dead letters, whole, and comes back when it is put back.

use relay_durable::{Command, LeaseState, StreamSettings};
use relay_schemas::{
    MultiEdgeMode, QueueMessage,
    ReportStatus::{Completed, Failed},
    limits::{ASSIGNMENT_ATTEMPTS_MAX, GIVE_UP_RETRY_MS},
};

use crate::{
    check_round_robin, given, of_edge, settings,
    support::{Relay, check_with, event, event_about},
    who,
};

/// Lets the event 1 fail as often as it may.
fn fail_out(relay: &mut Relay) -> Vec<Command> {
    relay.connect(1, &of_edge("edge_1"));
    for attempt in 1..ASSIGNMENT_ATTEMPTS_MAX {
        assert_eq!(who(&relay.report("edge_1", 1, Failed)), [(1, 1, attempt + 1)]);
    }
    relay.report("edge_1", 1, Failed)
}

fn is_given_up(relay: &Relay) -> bool {
    let mut leases = relay.stream.assignment().leases().values();
    leases.any(|lease| lease.state == LeaseState::GivenUp)
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
