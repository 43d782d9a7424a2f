//! Goal: what is appended reaches every reader once, whether it was reading along or behind.
//! Method: scripts around the boundary between replay and live delivery.

use relay_schemas::{Dialect, Disposition, Start};

use crate::support::{
    NOW, Relay, check, connect, cursor, event, events, remember, sent_and_kept, webhook_lines,
};

#[test]
fn readers_at_the_tail_get_what_is_appended() {
    check(|mut relay| {
        relay.fill(2);
        for (id, dialect) in (1..).zip(Dialect::ALL) {
            relay.connect(id, &connect(dialect, Start::Now));
        }
        let mut expected = Vec::new();
        for (id, dialect) in (1..).zip(Dialect::ALL) {
            expected.extend(sent_and_kept(dialect, id, &webhook_lines(3..=3, 1), (3, 3, 1)));
        }
        assert_eq!(relay.append(&events(3..=3)), expected);

        let mut expected = Vec::new();
        for (id, dialect) in (1..).zip(Dialect::ALL) {
            expected.extend(sent_and_kept(dialect, id, &webhook_lines(4..=6, 2), (6, 6, 4)));
        }
        assert_eq!(relay.append(&events(4..=6)), expected);
    });
}

#[test]
fn duplicates_are_not_sent_again() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
        relay.append(&events(1..=2));
        assert_eq!(relay.append(&events(1..=2)), []);
        assert_eq!(relay.append(&[]), []);
        let mixed = [event(2), event(3), event(3)];
        let expected = sent_and_kept(Dialect::Ndjson, 1, &webhook_lines(3..=3, 3), (3, 3, 3));
        assert_eq!(relay.append(&mixed), expected);
    });
}

#[test]
fn replay_meets_live_delivery_without_a_seam() {
    for dialect in Dialect::ALL {
        check(|mut relay| {
            relay.fill(3);
            relay.connect(1, &connect(dialect, Start::Cursor(cursor(1).to_string())));
            let expected = sent_and_kept(dialect, 1, &webhook_lines(4..=4, 3), (4, 4, 3));
            assert_eq!(relay.append(&events(4..=4)), expected);
        });
    }
}

#[test]
fn a_batch_that_landed_with_an_error_is_sent_by_its_retry() {
    for dialect in Dialect::ALL {
        let mut relay = Relay::new();
        relay.connect(1, &connect(dialect, Start::Now));
        relay.storage.fail_after(0, true);
        assert!(relay.try_append(&events(1..=2)).is_err());
        relay.reload();
        let (reply, commands) = relay.try_append(&events(1..=2)).unwrap();
        assert_eq!(reply.dispositions, [Disposition::Duplicate; 2]);
        assert_eq!(reply.delivered, 2);
        assert_eq!(commands, sent_and_kept(dialect, 1, &webhook_lines(1..=2, 1), (2, 2, 2)));
    }
}

#[test]
fn sends_that_were_never_made_are_made_again() {
    let mut relay = Relay::new();
    relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
    relay.append(&events(1..=1));
    // The platform lost the last write, and with it the sends that waited for it; the attachment
    // is ahead of the log.
    let mut ahead = Relay::new();
    ahead.connect(1, &connect(Dialect::Ndjson, Start::Now));
    ahead.remembered = relay.remembered;
    ahead.reload();
    let expected = sent_and_kept(Dialect::Ndjson, 1, &webhook_lines(1..=1, 2), (1, 1, 2));
    assert_eq!(ahead.append(&events(1..=1)), expected, "n shows the loss, the event is there");
}

#[test]
fn a_closed_connection_gets_nothing() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        let closed = relay.stream.closed(1, false, relay.now).unwrap();
        assert_eq!(closed, (Some(Dialect::WebSocket), Vec::new()));
        relay.remembered.clear();
        assert_eq!(relay.append(&events(1..=1)), []);
        assert_eq!(relay.stream.closed(1, false, relay.now).unwrap(), (None, Vec::new()));
        assert_eq!(relay.grant(1, 5), []);
    });
}

#[test]
fn what_was_delivered_is_counted_once() {
    let mut relay = Relay::new();
    relay.fill(2);
    relay.connect(1, &connect(Dialect::Ndjson, Start::Earliest));
    relay.connect(2, &connect(Dialect::WebSocket, Start::Now));
    let delivered =
        |relay: &mut Relay, number| relay.try_append(&events(number..=number)).unwrap().0.delivered;
    assert_eq!(delivered(&mut relay, 3), 4, "two replayed, two live");
    assert_eq!(delivered(&mut relay, 4), 2);
    assert_eq!(delivered(&mut relay, 4), 0);
}

#[test]
fn state_shows_connections_and_lag() {
    let mut relay = Relay::new();
    relay.fill(2);
    relay.connect(3, &connect(Dialect::Sse, Start::Earliest));
    let state = serde_json::to_value(relay.stream.state().unwrap()).unwrap();
    assert_eq!(state["events"], 2);
    assert_eq!(state["oldest"], cursor(0).to_string());
    assert_eq!(state["tail"], cursor(2).to_string());
    let connection = &state["connections"][0];
    assert_eq!(connection["dialect"], "sse");
    assert_eq!(connection["opened_at"], NOW.get());
    assert_eq!((&connection["lag_events"], &connection["edge"]), (&0.into(), &"edge_1".into()));
}

#[test]
fn nothing_but_keeping_is_done_for_a_reader_without_credit() {
    check(|mut relay| {
        relay.connect(1, &connect(Dialect::Ndjson, Start::Now));
        relay.append(&[crate::support::event_of_size(1, 300_000)]);
        assert_eq!(relay.append(&events(2..=2)), [remember(1)]);
    });
}
