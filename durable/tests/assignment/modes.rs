//! Goal: an event keeps the rule under which it was appended: what was everybody's is read by each
//! from its cursor, and what was to be one machine's is one's, whatever the mode is by now.

use relay_durable::StreamSettings;
use relay_schemas::{
    Connect, Dialect, Frame, MultiEdgeMode, OnGap,
    ReportStatus::{Completed, Processing},
    Start,
    limits::EDGE_REMEMBERED_MS,
};

use crate::{
    TIMEOUT_MS, check_round_robin, given, of_edge, settings,
    support::{Relay, cursor, event_alone, events, row_of},
    who,
};

const ROUND_ROBIN: MultiEdgeMode = MultiEdgeMode::RoundRobin;
const BROADCAST: MultiEdgeMode = MultiEdgeMode::Broadcast;

fn sealing_at_once(mode: MultiEdgeMode) -> StreamSettings {
    StreamSettings { seal_bytes: 1, ..settings(mode) }
}

fn after(name: &str, position: u64) -> Connect {
    Connect { start: Start::Cursor(cursor(position).to_string()), ..of_edge(name) }
}

/// The numbers of the webhooks that a bridged reader is sent, and the position it has reached.
fn read(relay: &mut Relay, connect: &Connect) -> (Vec<u64>, u64) {
    let reading = relay.read(&Connect { dialect: Dialect::Ndjson, ..connect.clone() });
    let mut numbers = Vec::new();
    let mut position = 0;
    for line in &reading.lines {
        if let Ok(Frame::Webhook(webhook)) = Frame::parse(line) {
            numbers.push(u128::from_be_bytes(*webhook.id.as_bytes()) as u64);
            position = webhook.cursor.seq.get();
        }
    }
    assert!(reading.lines[0].contains(r#""type":"open""#), "{:?}", reading.lines);
    (numbers, position)
}

#[test]
fn what_is_older_than_the_mode_is_read_by_each_from_its_cursor() {
    let mut relay = Relay::with_settings(settings(BROADCAST));
    relay.append(&events(1..=4));
    relay.reload_with(settings(ROUND_ROBIN));
    assert_eq!(who(&relay.append(&events(5..=5))), []);
    let sent = given(&relay.connect(1, &after("edge_1", 1)));
    let numbers: Vec<u64> = sent.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert!(sent.is_sorted_by_key(|one| one.cursor), "{sent:?}");
    let second = who(&relay.connect(2, &after("edge_2", 3)));
    assert_eq!(second, [(2, 4, 1)], "what one has is not another's");
    assert_eq!(who(&relay.append(&events(6..=6))), [(2, 6, 1)]);
    // What it has already comes again behind it.
    let back = who(&relay.connect(3, &after("edge_1", 2)));
    assert_eq!(back, [(3, 3, 1), (3, 4, 1), (3, 5, 1)]);
    // What everybody reads has no lease, and everybody reports on it.
    relay.report("edge_1", 4, Completed);
    relay.report("edge_2", 4, Completed);
}

#[test]
fn it_is_read_as_far_as_credit_goes_and_nothing_is_given_before() {
    let mut relay = Relay::with_settings(settings(BROADCAST));
    relay.append(&(1..=6).map(event_alone).collect::<Vec<_>>());
    relay.reload_with(settings(ROUND_ROBIN));
    let first = given(&relay.connect(1, &after("edge_1", 0)));
    assert!(first.len() < 6, "{}", first.len());
    let next = first.len() as u64 + 1;
    assert_eq!(who(&relay.append(&events(7..=7))), [], "it has not come so far");
    relay.reload();
    let mut rest = given(&relay.grant(1, 200_000));
    rest.extend(given(&relay.grant(1, 200_000)));
    let numbers: Vec<u64> = rest.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (next..=7).collect::<Vec<_>>());
}

#[test]
fn it_is_read_in_history_too_and_no_further() {
    let mut relay = Relay::with_settings(sealing_at_once(BROADCAST));
    relay.seal_each(&[events(1..=2)]);
    relay.append(&row_of(3..=4));
    relay.reload_with(sealing_at_once(ROUND_ROBIN));
    // The row goes on into the time of the mode, and so does the segment that is made of it.
    relay.append(&events(5..=6));
    relay.connect(7, &after("edge_7", 4));
    (5..=6).for_each(|number| drop(relay.report("edge_7", number, Completed)));
    relay.seal();
    assert_eq!(relay.stream.log().sealed().get(), 6);
    assert_eq!(read(&mut relay, &after("edge_1", 1)).0, [2, 3, 4]);
    // A direct reader, which the Worker asks for, comes back to the object there.
    let mut may_read_on = |position| {
        let start = Start::Cursor(cursor(position).to_string());
        let (stream, edge) = (crate::support::stream_key(), crate::support::edge("edge_1"));
        relay.stream.history(&stream, &edge, &start, OnGap::Resume).unwrap().has_more()
    };
    assert_eq!([0, 3, 4, 5].map(&mut may_read_on), [true, true, false, false]);
    relay.now = relay.now + 1;
    relay.closed(7, true);
    relay.append(&events(7..=7));
    assert_eq!(read(&mut relay, &after("edge_1", 0)), (vec![1, 2, 3, 4, 7], 7));
}

#[test]
fn what_one_machine_had_stays_its_own_when_the_mode_ends() {
    let mut relay = Relay::with_settings(settings(ROUND_ROBIN));
    relay.connect(1, &of_edge("edge_1"));
    relay.connect(2, &of_edge("edge_2"));
    relay.append(&events(1..=2));
    relay.report("edge_1", 1, Processing);
    relay.reload_with(settings(BROADCAST));
    let both = who(&relay.append(&events(3..=3)));
    assert_eq!(both, [(1, 3, 1), (2, 3, 1)]);
    assert!(relay.try_report("edge_2", 1, Completed).is_err(), "it is not its own");
    // Silence, absence and ends mean what they meant.
    relay.now = relay.now + TIMEOUT_MS;
    assert_eq!(who(&relay.alarm()), [(1, 2, 2)]);
    relay.closed(1, false);
    relay.now = relay.now + TIMEOUT_MS;
    assert_eq!(who(&relay.alarm()), [(2, 1, 2), (2, 2, 3)]);
    relay.report("edge_2", 1, Completed);
    relay.report("edge_2", 2, Completed);
    assert_eq!(relay.stream.assignment().leases().len(), 0);
    assert!(relay.try_report("edge_1", 1, Completed).is_err());
    // Who comes back reads on behind them.
    assert_eq!(who(&relay.connect(3, &after("edge_1", 1))), [(3, 3, 1)]);
}

#[test]
fn what_nobody_was_given_yet_is_given_after_the_mode_has_ended() {
    let mut relay = Relay::with_settings(settings(ROUND_ROBIN));
    relay.append(&events(1..=3));
    relay.reload_with(settings(BROADCAST));
    relay.append(&events(4..=4));
    let first = who(&relay.connect(1, &after("edge_1", 0)));
    assert_eq!(first, [(1, 4, 1), (1, 1, 1), (1, 2, 1), (1, 3, 1)]);
    let second = who(&relay.connect(2, &after("edge_2", 0)));
    assert_eq!(second, [(2, 4, 1)]);
    // And with the mode again, the next begin where it begins.
    (1..=3).for_each(|number| drop(relay.report("edge_1", number, Completed)));
    relay.reload_with(settings(ROUND_ROBIN));
    assert_eq!(who(&relay.append(&events(5..=6))), [(1, 6, 1), (2, 5, 1)]);
    assert_eq!(who(&relay.connect(3, &after("edge_3", 3))), [(3, 4, 1)]);
}

#[test]
fn a_stream_that_nobody_reads_is_sealed_and_read_by_whoever_comes() {
    let mut relay = Relay::with_settings(sealing_at_once(ROUND_ROBIN));
    relay.append(&row_of(1..=2));
    assert_eq!(relay.seal(), [], "somebody may come");
    relay.now = relay.now + (EDGE_REMEMBERED_MS - 1);
    relay.append(&row_of(3..=4));
    assert_eq!(relay.seal(), []);
    relay.now = relay.now + 1;
    assert_eq!(relay.stream.next_alarm(), Some(relay.now));
    relay.reload();
    assert_eq!(relay.seal().len(), 1);
    assert_eq!(relay.stream.log().sealed().get(), 4);
    relay.append(&events(5..=5));
    for reload in [false, true] {
        if reload {
            relay.reload();
        }
        assert_eq!(read(&mut relay, &after("edge_1", 1)), (vec![2, 3, 4, 5], 5));
    }
    // What came later is one machine's.
    assert_eq!(read(&mut relay, &after("edge_2", 0)), (vec![1, 2, 3, 4], 4));
}

#[test]
fn whom_events_wait_for_is_forgotten_and_they_no_longer_hold_up_the_seal() {
    let mut relay = Relay::with_settings(sealing_at_once(ROUND_ROBIN));
    relay.connect(1, &of_edge("edge_1"));
    relay.append(&row_of(1..=1));
    relay.closed(1, true);
    relay.append(&row_of(2..=2));
    let other = Connect { kinds: crate::support::kinds("Comment"), ..of_edge("edge_2") };
    relay.connect(2, &other);
    assert_eq!(relay.stream.assignment().leases().len(), 2);
    assert_eq!(relay.seal(), []);
    assert_eq!(relay.stream.next_alarm(), Some(relay.now + EDGE_REMEMBERED_MS));
    relay.now = relay.now + EDGE_REMEMBERED_MS;
    relay.alarm();
    // One was given to it, the other to nobody.
    let letters = std::mem::take(&mut relay.given_up);
    assert_eq!(letters.iter().map(|one| one.seq.get()).collect::<Vec<_>>(), [1]);
    relay.stream.gave_up(letters[0].seq).unwrap();
    assert_eq!(relay.seal().len(), 1);
}

#[test]
fn unrouted_events_are_nobodys_to_be_given() {
    let settings = settings(ROUND_ROBIN);
    let of = |name: &str| settings.of(Some(&name.parse().unwrap())).multi_edge;
    assert_eq!(of("org-1/unrouted"), BROADCAST);
    assert_eq!(of("org-1/user:u-1"), ROUND_ROBIN);
    assert_eq!(settings.of(None).multi_edge, ROUND_ROBIN);
}

#[test]
fn a_reader_that_starts_anywhere_in_an_assigned_stream_is_given_what_is_new() {
    check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&events(1..=2));
        for (connection, position) in [(2, 0), (3, 1), (4, 2)] {
            assert_eq!(who(&relay.connect(connection, &after("edge_2", position))), []);
        }
    });
}

#[test]
fn an_event_waits_for_its_reader_that_still_reads_what_is_everybodys() {
    let mut relay = Relay::with_settings(settings(BROADCAST));
    relay.append(&(1..=6).map(event_alone).collect::<Vec<_>>());
    relay.reload_with(settings(ROUND_ROBIN));
    relay.connect(1, &after("edge_1", 0));
    let comments = crate::support::kinds("Comment");
    relay.connect(2, &Connect { kinds: comments, ..after("edge_2", 6) });
    assert_eq!(who(&relay.append(&events(7..=7))), [], "its only reader is behind");
    assert_eq!(relay.stream.assignment().waiting().len(), 1);
    relay.reload();
    let mut rest = given(&relay.grant(1, 200_000));
    rest.extend(given(&relay.grant(1, 200_000)));
    assert_eq!(rest.last().map(|one| one.number), Some(7));
}
